"""Start-up and trumpet curves: how far the flow over a window of time is from what is programmed.

The method is borrowed from IEC 60601-2-24 (sample interval S, observation windows P, all windows
of the analysis period); no claim of compliance. Delivered volume is counted at multiples of S. The
start-up curve is the flow in each interval S. The trumpet curve shows, for every window length P,
the largest and smallest flow error over all windows in the analysis period.

A pump that moves whole units (steps, or what a sensor of the rotor resolves) cannot have an error
of 0: an ideal one, a unit every ``unit / rate``, has between ``ceil(x) - 1`` and ``floor(x) + 1``
of them in a window of ``x = rate * P / unit`` units, over all places of the window, those whose
ends fall on units among them. That is its quantisation bound; DEL-3 passes inside it plus 1 % of
the programmed flow. A scale adds its readability on both sides.

All sums are exact: errors are fractions of the programmed flow.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cisterna.bench import DAY_US, HOUR_US, MINUTE_US

SAMPLE_US = MINUTE_US // 2
FAST_WINDOWS_MIN = (2, 5, 11, 19, 31)
SLOW_WINDOWS_MIN = (15, 60, 150, 330, 570, 930)
SLOW_BELOW_NL_DAY = 1_000_000  # slower rates have the long windows
MARGIN = Fraction(1, 100)  # DEL-3: of the programmed flow, on either side of the bound


@dataclass(frozen=True)
class Plan:
    """When is measured, in us: ``start_up_us`` is before the analysis period of ``analysis_us``,
    both multiples of the sample interval; no window is longer than the period."""

    windows_us: tuple[int, ...]
    start_up_us: int
    analysis_us: int
    sample_us: int = SAMPLE_US

    def __post_init__(self) -> None:
        for span in (*self.windows_us, self.start_up_us, self.analysis_us):
            if span % self.sample_us or span < 0:
                raise ValueError(f"{span} us is no multiple of the interval {self.sample_us} us")
        if max(self.windows_us) > self.analysis_us:
            raise ValueError(f"a window is longer than the {self.analysis_us} us analysed")

    @property
    def total_us(self) -> int:
        """From the start of delivery to the end."""
        return self.start_up_us + self.analysis_us


def plan(rate_nl_day: int, analysis_us: int | None = None, start_up_us: int | None = None) -> Plan:
    """The plan for a rate. By default the second hour is analysed, as the standard has it for
    fast pumps; at slow rates 23 hours after the first."""
    slow = rate_nl_day < SLOW_BELOW_NL_DAY
    windows = SLOW_WINDOWS_MIN if slow else FAST_WINDOWS_MIN
    return Plan(
        tuple(minutes * MINUTE_US for minutes in windows),
        HOUR_US if start_up_us is None else start_up_us,
        (23 * HOUR_US if slow else HOUR_US) if analysis_us is None else analysis_us,
    )


@dataclass(frozen=True)
class Counted:
    """What an instrument counted. ``unit_pl``: the smallest volume that it sees the pump move.
    ``volumes_pl``: at 0, S, 2 S ... from the start of delivery. ``instants_us``: of every unit,
    from the start of delivery, where the instrument tells them. ``readability_pl``: the
    difference of two volumes may be off by that."""

    unit_pl: int
    volumes_pl: tuple[int, ...]
    instants_us: tuple[Fraction, ...] = ()
    readability_pl: int = 0


@dataclass(frozen=True)
class Window:
    """All windows of one length. Errors are fractions of the programmed flow: ``low``, ``high`` of
    the windows at multiples of S; ``low_any``, ``high_any`` of windows at any place, None where
    the instants are not known. ``bound_low``, ``bound_high``: of the ideal pump."""

    length_us: int
    number: int
    low: Fraction
    high: Fraction
    low_any: Fraction | None
    high_any: Fraction | None
    bound_low: Fraction
    bound_high: Fraction

    @property
    def worst(self) -> tuple[Fraction, Fraction]:
        """The smallest and largest error known."""
        if self.low_any is None or self.high_any is None:
            return self.low, self.high
        return min(self.low, self.low_any), max(self.high, self.high_any)

    @property
    def outside(self) -> Fraction:
        """By how much the worst window is outside the bound, in parts of the programmed flow; 0 or
        less: it is inside."""
        low, high = self.worst
        return max(self.bound_low - low, high - self.bound_high)

    @property
    def holds(self) -> bool:
        """DEL-3: inside the bound plus 1 %."""
        return self.outside <= MARGIN


@dataclass(frozen=True)
class Trumpet:
    """``start_up_nl_day``: flow in each interval S from the start of delivery. ``windows``: by
    length; the last is the whole analysis period, so its error is that of the mean flow.
    ``volumes_pl``: as they were counted."""

    rate_nl_day: int
    plan: Plan
    volumes_pl: tuple[int, ...]
    windows: tuple[Window, ...]

    @property
    def start_up_nl_day(self) -> list[Fraction]:
        flow = Fraction(DAY_US, 1000 * self.plan.sample_us)
        return [(later - earlier) * flow for earlier, later in itertools.pairwise(self.volumes_pl)]

    def as_data(self) -> dict[str, Any]:
        """For JSON; ``from_data`` takes it back. Fractions are text, exact."""
        plan = self.plan
        return {
            "rate_nl_day": self.rate_nl_day,
            "sample_us": plan.sample_us,
            "start_up_us": plan.start_up_us,
            "analysis_us": plan.analysis_us,
            "volumes_pl": list(self.volumes_pl),
            "windows": [
                {
                    name: str(value) if isinstance(value, Fraction) else value
                    for name, value in vars(window).items()
                }
                for window in self.windows
            ],
        }

    @property
    def holds(self) -> bool:
        return all(window.holds for window in self.windows)

    @property
    def outside(self) -> Fraction:
        """The worst of all windows against the bound."""
        return max(window.outside for window in self.windows)


def from_data(data: dict[str, Any]) -> Trumpet:
    """The trumpet that ``as_data`` described."""
    windows: list[Window] = []
    for each in data["windows"]:
        values: dict[str, Any] = {
            name: Fraction(value) if isinstance(value, str) else value
            for name, value in each.items()
        }
        windows.append(Window(**values))
    lengths = tuple(window.length_us for window in windows)
    spans = Plan(lengths, data["start_up_us"], data["analysis_us"], data["sample_us"])
    return Trumpet(data["rate_nl_day"], spans, tuple(data["volumes_pl"]), tuple(windows))


def units_in(rate_nl_day: int, span_us: int, unit_pl: int) -> Fraction:
    """Units of volume that the programme has in ``span_us``."""
    return Fraction(rate_nl_day * 1000 * span_us, DAY_US * unit_pl)


def ideal_bound(
    rate_nl_day: int, window_us: int, unit_pl: int, readability_pl: int = 0
) -> tuple[Fraction, Fraction]:
    """Smallest and largest error of an ideal pump over windows of ``window_us``."""
    exact = units_in(rate_nl_day, window_us, unit_pl)
    blur = Fraction(readability_pl, unit_pl)
    fewest = max(math.ceil(exact) - 1, 0) - blur
    most = math.floor(exact) + 1 + blur
    return fewest / exact - 1, most / exact - 1


def _any_place(instants: Sequence[Fraction], begin: int, end: int, length: int) -> tuple[int, int]:
    """Fewest units in an open window and most in a closed one of ``length``, wherever it lies
    between ``begin`` and ``end``."""
    inside = [at for at in instants if begin <= at <= end]
    most = 0
    first = 0
    for index, at in enumerate(inside):
        while inside[first] < at - length:
            first += 1
        most = max(most, index - first + 1)
    # A window with the fewest can be moved to the left until a unit stands at its open start.
    fewest = min(
        bisect.bisect_left(inside, start + length) - bisect.bisect_right(inside, start)
        for start in (Fraction(begin), *inside)
        if start + length <= end
    )
    return fewest, most


def judge(counted: Counted, rate_nl_day: int, measured: Plan) -> Trumpet:
    """Curves of what was counted over ``measured``. Raises ValueError when the counts do not last
    to the plan's end or ``rate_nl_day`` is not above 0."""
    if rate_nl_day <= 0:
        raise ValueError(f"a trumpet curve at {rate_nl_day} nL/day: the rate must be above 0")
    step = measured.sample_us
    last = measured.total_us // step
    volumes = counted.volumes_pl
    if len(volumes) <= last:
        raise ValueError(f"{len(volumes)} samples; the plan has {last + 1}")
    first = measured.start_up_us // step
    windows: list[Window] = []
    for length in dict.fromkeys((*measured.windows_us, measured.analysis_us)):
        exact = units_in(rate_nl_day, length, counted.unit_pl)
        over = length // step
        found = [volumes[at + over] - volumes[at] for at in range(first, last - over + 1)]
        low, high = (
            Fraction(each, counted.unit_pl) / exact - 1 for each in (min(found), max(found))
        )
        low_any = high_any = None
        if counted.instants_us:
            places = _any_place(
                counted.instants_us, measured.start_up_us, measured.total_us, length
            )
            low_any, high_any = (each / exact - 1 for each in places)
        bound = ideal_bound(rate_nl_day, length, counted.unit_pl, counted.readability_pl)
        windows.append(Window(length, len(found), low, high, low_any, high_any, *bound))
    return Trumpet(rate_nl_day, measured, volumes[: last + 1], tuple(windows))


def percent(part: Fraction | None) -> str:
    """A part as percent with 3 decimals, signed; "" for None."""
    return "" if part is None else f"{float(part * 100):+.3f}"


def trumpet_csv(trumpet: Trumpet) -> str:
    """A line a window length, errors in percent."""
    rows = [
        "window_min,windows,low_percent,high_percent,low_any_place_percent,"
        "high_any_place_percent,bound_low_percent,bound_high_percent,holds"
    ]
    for each in trumpet.windows:
        shown = (each.low, each.high, each.low_any, each.high_any)
        cells = [percent(part) for part in (*shown, each.bound_low, each.bound_high)]
        minutes = f"{each.length_us / MINUTE_US:g}"
        rows.append(",".join((minutes, str(each.number), *cells, str(int(each.holds)))))
    return "\n".join(rows) + "\n"


def start_up_csv(trumpet: Trumpet) -> str:
    """A line an interval S: its end, and the flow in it."""
    rows = ["end_min,flow_ml_day"]
    rows += [
        f"{(index + 1) * trumpet.plan.sample_us / MINUTE_US:g},{float(flow / 1_000_000):.6g}"
        for index, flow in enumerate(trumpet.start_up_nl_day)
    ]
    return "\n".join(rows) + "\n"
