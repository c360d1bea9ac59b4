"""What a run looked like at chosen instants, what follows from it, and how a report words it.

Times are whole microseconds of one clock, 0 to 2**62; volumes whole picolitres, within 2**62
either way. All arithmetic is exact.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

from cisterna.amounts import exact_decimal, format_rate, format_volume_pl

MOST_POINTS = 4_000  # samples drawn at most; further ones are thinned
_POINTS_A_BIN = 8  # first, last, and both extremes of three differences
_SMALLEST_IN_ML_PL = 10_000_000  # smaller volumes are written in uL
# The pump's limits at a refill, as its ledger has them.
_RATIO_LOW_PPM, _RATIO_HIGH_PPM = 855_000, 1_145_000
_SMALL_RESERVOIR_PL = 20_000_000_000
_UNEXPLAINED_SMALL_PL, _UNEXPLAINED_LARGE_PL = 1_000_000_000, 2_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class DeliverySample:
    """One instant of a run.

    ``time_us``: since the run began. ``programmed_pl``: what the programme asked for by then.
    ``delivered_pl``: what the plant's instrument counted, the truth. ``account_pl``: what the pump
    says it delivered. All three since the run began. ``residual_pl``: what is in the reservoir,
    truth. ``expected_residual_pl``: the same by the pump's account. ``missed_pl``: volume of the
    pulses that the motor did not follow since the run began, by the plant: it was jammed.
    """

    time_us: int
    programmed_pl: int
    delivered_pl: int
    account_pl: int
    residual_pl: int
    expected_residual_pl: int
    missed_pl: int = 0

    @property
    def error_pl(self) -> int:
        """True minus programmed volume."""
        return self.delivered_pl - self.programmed_pl

    @property
    def unexplained_pl(self) -> int:
        """The same but for what a jam held back: the error of the pulses."""
        return self.error_pl + self.missed_pl

    @property
    def account_error_pl(self) -> int:
        """What the pump says minus what was truly delivered."""
        return self.account_pl - self.delivered_pl


@dataclass(frozen=True)
class Marker:
    """Something that happened, such as a bolus or a refill; ``label`` in few words."""

    time_us: int
    label: str


@dataclass(frozen=True)
class Forecast:
    """``residual_pl`` in the reservoir at ``now_us``, and from then on only ``rate_nl_day``.
    ``is_mean``: it is the mean of a programme whose rate changes. ``low_at_us``: when that
    programme reaches the low mark, where that is known better than by the mean; at or after
    ``now_us``."""

    now_us: int
    residual_pl: int
    low_mark_pl: int
    rate_nl_day: int
    is_mean: bool = False
    low_at_us: int | None = None

    @property
    def how(self) -> str:
        """At which rate, in words."""
        return "at the programme’s mean rate" if self.is_mean else "at the present rate"

    @property
    def low_us(self) -> int | None:
        """Instant at which the low mark is reached; None if it never is."""
        if self.low_at_us is not None:
            return self.low_at_us
        return forecast_low_us(self.residual_pl, self.low_mark_pl, self.rate_nl_day, self.now_us)

    @property
    def has_line(self) -> bool:
        """True if the low mark is still ahead and will be reached: there is a line to draw."""
        return self.low_us is not None and self.low_us > self.now_us


def forecast_low_us(
    residual_pl: int, low_mark_pl: int, rate_nl_day: int, now_us: int
) -> int | None:
    """Instant, on the clock of ``now_us``, at which the residual volume reaches the low mark.

    Exact: the first whole microsecond at which ``rate_nl_day`` (>= 0) has taken ``residual_pl``
    down to ``low_mark_pl`` or below. ``now_us`` if it is there already, None if it is not and the
    rate is 0. ``residual_pl`` is best fill - programmed: a residual counted in steps may be up to
    one step behind the programme, and this instant then up to one step late. Raises ValueError
    for a rate below 0.
    """
    if rate_nl_day < 0:
        raise ValueError(f"rate of {rate_nl_day} nL/day is below 0")
    left_pl = residual_pl - low_mark_pl
    if left_pl <= 0:
        return now_us
    if rate_nl_day == 0:
        return None
    # A pL is 1/1000 nL and a day 86,400,000,000 us: left / rate days, rounded up to whole us.
    return now_us - (-left_pl * 86_400_000 // rate_nl_day)


def thin(samples: Sequence[DeliverySample], most: int = MOST_POINTS) -> list[DeliverySample]:
    """At most ``most`` (>= 8) of ``samples``, in their order; all of them if they are no more.

    Of each run of neighbours the first, the last and the extremes of the delivery error, of the
    account's error and of the true residual volume stay, so no excursion is hidden.
    """
    if most < _POINTS_A_BIN:
        raise ValueError(f"cannot thin to {most} samples; {_POINTS_A_BIN} are the fewest")
    count = len(samples)
    if count <= most:
        return list(samples)
    bins = most // _POINTS_A_BIN
    measures: tuple[Callable[[int], int], ...] = (
        lambda index: samples[index].error_pl,
        lambda index: samples[index].account_error_pl,
        lambda index: samples[index].residual_pl,
    )
    kept: list[int] = []
    for number in range(bins):
        inside = range(count * number // bins, count * (number + 1) // bins)
        keep = {inside[0], inside[-1]}
        for measure in measures:
            keep.add(min(inside, key=measure))
            keep.add(max(inside, key=measure))
        kept.extend(sorted(keep))
    return [samples[index] for index in kept]


# -- words -------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """``text`` on one line: control characters and lone surrogates shown as U+FFFD, blanks single,
    and no characters that turn the direction of what follows."""
    kinds = {"Cc": "\N{REPLACEMENT CHARACTER}", "Cs": "\N{REPLACEMENT CHARACTER}", "Cf": ""}
    shown = " ".join(text.split())
    return "".join(kinds.get(unicodedata.category(c), c) for c in shown)


def minus(text: str) -> str:
    """``text`` of a number with a typographic minus sign."""
    return text.replace("-", "\N{MINUS SIGN}")


def volume_text(volume_pl: int, unit: str | None = None) -> str:
    """A volume, every digit of it, with its unit: mL from 0.01 mL on, below that µL."""
    if unit is None and 0 < abs(volume_pl) < _SMALLEST_IN_ML_PL:
        unit = "uL"
    return minus(format_volume_pl(volume_pl, unit=unit)).replace("uL", "µL")


def steps_text(volume_pl: int, step_pl: int, digits: int = 4) -> str:
    """A signed difference in steps, rounded to ``digits`` decimals, but never to zero or one step
    unless it is just that."""
    if volume_pl == 0:
        return "0 steps"
    size = abs(volume_pl)
    scale: int = 10**digits
    scaled = max(1, (2 * size * scale + step_pl) // (2 * step_pl))
    if size < step_pl:
        scaled = min(scaled, scale - 1)
    elif size > step_pl:
        scaled = max(scaled, scale + 1)
    text = f"{scaled // scale:,}"
    part = f"{scaled % scale:0{digits}d}".rstrip("0") if digits else ""
    text += "." + part if part else ""
    sign = "\N{MINUS SIGN}" if volume_pl < 0 else "+"
    return f"{sign}{text} {'step' if scaled <= scale else 'steps'}"


def ratio_text(ratio_ppm: int) -> str:
    """A ratio to 4 decimals; to all 6 where rounding would take it over one of the limits."""
    near_ppm = round(Fraction(ratio_ppm, 100)) * 100
    if _ratio_within(near_ppm) == _ratio_within(ratio_ppm):
        return minus(f"{Decimal(near_ppm) / 1_000_000:.4f}")
    return minus(f"{Decimal(ratio_ppm) / 1_000_000:.6f}")


def _ratio_within(ratio_ppm: int) -> bool:
    return _RATIO_LOW_PPM <= ratio_ppm <= _RATIO_HIGH_PPM


def limits_text(capacity_pl: int) -> str:
    """The discrepancy limits of a pump with a reservoir of ``capacity_pl``, in words."""
    small = capacity_pl <= _SMALL_RESERVOIR_PL
    low, high = (exact_decimal(Fraction(p, 10**6)) for p in (_RATIO_LOW_PPM, _RATIO_HIGH_PPM))
    volume = volume_text(_UNEXPLAINED_SMALL_PL if small else _UNEXPLAINED_LARGE_PL)
    return f"ratio {low} to {high}, volume {volume}"


def day_text(time_us: int) -> str:
    """A time since the start, rounded down: "day 12.3"; "day 0" and the time in the first day."""
    days, tenth = divmod(time_us // 8_640_000_000, 10)
    if days or not time_us:
        return f"day {days:,}.{tenth}" if days else "day 0"
    seconds = time_us // 1_000_000
    return f"day 0, {seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def wall_time(start_wall_s: int | None, time_us: int) -> datetime | None:
    """Wall time (UTC) at ``time_us`` of a run that began at ``start_wall_s`` (seconds since 1970).

    None if the clock was not set (None or 0) or the year is past 9999.
    """
    if not start_wall_s:
        return None
    try:
        return _EPOCH + timedelta(seconds=start_wall_s + time_us // 1_000_000)
    except OverflowError:
        return None


# -- findings ----------------------------------------------------------------------------------


def worst_error(samples: Sequence[DeliverySample]) -> DeliverySample | None:
    """The first sample with the largest error either way; None without samples."""
    return max(samples, key=lambda sample: abs(sample.error_pl), default=None)


def delivery_findings(samples: Sequence[DeliverySample], step_pl: int) -> list[str]:
    """What the delivery picture shows, in sentences."""
    worst = worst_error(samples)
    if worst is None:
        return ["No samples were taken."]
    count = f"{len(samples):,} samples" if len(samples) > 1 else "1 sample"
    within = max(abs(sample.unexplained_pl) for sample in samples) < step_pl
    verdict = "within one step" if within else "NOT within one step"
    missed_pl = max(sample.missed_pl for sample in samples)
    but = f", but for {missed_pl / step_pl:,.0f} steps that a jam held back" if missed_pl else ""
    error = f"{steps_text(worst.error_pl, step_pl)} ({volume_text(worst.error_pl)})"
    return [
        f"True delivery is {verdict} of the programme in {count}{but}.",
        f"Largest error {error} at {day_text(worst.time_us)}; one step is {volume_text(step_pl)}.",
    ]


def forecast_text(forecast: Forecast | None, start_wall_s: int | None) -> str:
    """The forecast in words."""
    if forecast is None:
        return "No forecast was made."
    low_us = forecast.low_us
    if low_us is None:
        return "No low-volume date: the rate is 0."
    mark = volume_text(forecast.low_mark_pl)
    if forecast.residual_pl <= forecast.low_mark_pl:
        return f"The reservoir is at or below its low mark of {mark} now."
    date = wall_time(start_wall_s, low_us)
    when = day_text(low_us) + (f", {date:%Y-%m-%d}" if date else "")
    rate = format_rate(forecast.rate_nl_day)
    since = day_text(forecast.now_us)
    mean = "a mean of " if forecast.is_mean else ""
    return f"At {mean}{rate} from {since} on, the low mark of {mark} is reached on {when}."


def residual_finding(samples: Sequence[DeliverySample]) -> str:
    """How far the expected residual was from the true one, in a sentence."""
    if not samples:
        return "No samples were taken."
    worst = max(samples, key=lambda sample: abs(sample.expected_residual_pl - sample.residual_pl))
    gap_pl = worst.expected_residual_pl - worst.residual_pl
    if gap_pl == 0:
        return "Expected and true residual volume agree to the picolitre in every sample."
    return (
        "Largest difference between expected and true residual volume: "
        f"{volume_text(gap_pl)} at {day_text(worst.time_us)}."
    )
