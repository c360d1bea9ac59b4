"""Exact amounts as text for people, with their unit.

Amounts are whole numbers of the unit in the argument's name, or Fractions of it; no floats. A
formatter picks the unit and writes every digit: what it returns means exactly the amount, has no
trailing zeros, and, unless negative or finer than the parser's resolution, reads back through
``cisterna.units`` as the same number. ``digits=N`` asks for rounding to N decimals (half to
even); without it an amount that has no finite decimal raises ValueError. ``unit`` fixes the unit,
as a column of a table needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from fractions import Fraction

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_VOLUME_NL = (("mL", 1_000_000), ("uL", 1_000), ("nL", 1))
_RATE_NL_DAY = (("mL/day", 1_000_000),)
_MASS_NG = (("mg", 1_000_000), ("ug", 1_000), ("ng", 1))
_DOSE_RATE_NG_DAY = (("mg/day", 1_000_000), ("ug/day", 1_000), ("ng/day", 1))
_CONCENTRATION_NG_ML = (("mg/mL", 1_000_000), ("ug/mL", 1_000), ("ng/mL", 1))
_LENGTH_UM = (("cm", 10_000), ("mm", 1_000), ("um", 1))
_LINE_NL_CM = (("mL/cm", 1_000_000), ("uL/cm", 1_000))
_DURATION_US = (
    ("days", 86_400_000_000),
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
)

# From this much on a volume is written in mL, the unit of reservoirs and rates: 0.01 mL.
_SMALLEST_IN_ML_NL = 10_000

# Decimals an exact duration may have in its unit before a smaller unit is taken.
_DURATION_DIGITS = {"days": 0, "h": 2, "min": 2}


def exact_decimal(value: int | Fraction, digits: int | None = None) -> str:
    """``value`` in decimal, every digit of it, no trailing zeros, no exponent.

    ``digits`` rounds to that many decimals, half to even. When it is None, a value with no finite
    decimal raises ValueError.
    """
    value = Fraction(value)
    places = _places(value) if digits is None else digits
    if places is None:
        raise ValueError(f"{value} has no finite decimal; say to how many digits to round it")
    scaled = round(value * 10**places)
    whole, part = divmod(abs(scaled), 10**places)
    text = str(whole)
    if part:
        text += "." + str(part).rjust(places, "0").rstrip("0")
    return "-" + text if scaled < 0 else text


def format_volume_nl(
    volume_nl: int | Fraction, digits: int | None = None, unit: str | None = None
) -> str:
    """A volume: mL from 0.01 mL on, below that uL and nL."""
    if unit is None and abs(volume_nl) >= _SMALLEST_IN_ML_NL:
        unit = "mL"
    return _format(volume_nl, _VOLUME_NL, digits, unit)


def format_volume_pl(
    volume_pl: int | Fraction, digits: int | None = None, unit: str | None = None
) -> str:
    """A volume in pL, as ``format_volume_nl`` writes it."""
    return format_volume_nl(Fraction(volume_pl) / 1_000, digits, unit)


def format_rate(rate_nl_day: int | Fraction, digits: int | None = None) -> str:
    """A rate, in mL/day."""
    return _format(rate_nl_day, _RATE_NL_DAY, digits)


def format_mass(
    mass_ng: int | Fraction, digits: int | None = None, unit: str | None = None
) -> str:
    """A mass: mg from 1 mg on, below that ug and ng."""
    return _format(mass_ng, _MASS_NG, digits, unit)


def format_dose_rate(
    dose_rate_ng_day: int | Fraction, digits: int | None = None, unit: str | None = None
) -> str:
    """Mass of drug a day: mg/day from 1 mg/day on, below that ug/day and ng/day."""
    return _format(dose_rate_ng_day, _DOSE_RATE_NG_DAY, digits, unit)


def format_concentration(
    concentration_ng_ml: int | Fraction, digits: int | None = None, unit: str | None = None
) -> str:
    """A concentration: mg/mL from 1 mg/mL on, below that ug/mL and ng/mL."""
    return _format(concentration_ng_ml, _CONCENTRATION_NG_ML, digits, unit)


def format_length(length_um: int | Fraction, digits: int | None = None) -> str:
    """A length: cm from 1 cm on, below that mm and um."""
    return _format(length_um, _LENGTH_UM, digits)


def format_volume_per_length(nl_per_cm: int | Fraction, digits: int | None = None) -> str:
    """What a centimetre of a catheter holds, in mL/cm."""
    return _format(nl_per_cm, _LINE_NL_CM, digits, "mL/cm")


def format_duration(
    duration_us: int | Fraction, digits: int | None = None, unit: str | None = None
) -> str:
    """A duration.

    Exact: whole days, else h or min with at most two decimals, else s, else ms. With ``digits``:
    the largest unit that is not below one.
    """
    if unit is None and not duration_us:
        unit = "s"
    elif unit is None and digits is None:
        unit = _exact_duration_unit(Fraction(duration_us))
    text = _format(duration_us, _DURATION_US, digits, unit)
    return "1 day" if text == "1 days" else text


def _format_seconds(duration_s: int | Fraction) -> str:
    return format_duration(duration_s * 1_000_000)


# Lengths of time that the message table has in seconds; other fields in seconds are wall times.
_IN_SECONDS = ("bolus", "patient", "interval", "lockout")

# Suffix of a field's name in the message table: how to write its value. Longest suffix first.
_FIELD_SUFFIXES: tuple[tuple[str, Callable[[int], str]], ...] = (
    ("_nl_day", format_rate),
    ("_ng_day", format_dose_rate),
    ("_ng_ml", format_concentration),
    ("_nl", format_volume_nl),
    ("_pl", format_volume_pl),
    ("_ng", format_mass),
    ("_us", format_duration),
    *((f"{of}_s", _format_seconds) for of in _IN_SECONDS),
)


def field_label(name: str) -> str:
    """A message field's name in words, without its unit: rate_nl_day is "rate"."""
    for suffix, _ in _FIELD_SUFFIXES:
        if name.endswith(suffix):
            return name[: -len(suffix)].replace("_", " ")
    return name.replace("_", " ")


def format_field(name: str, value: int) -> str:
    """A message field's value with the unit its name ends in; a bare number if in none."""
    for suffix, write in _FIELD_SUFFIXES:
        if name.endswith(suffix):
            return write(value)
    return str(value)


def _places(value: Fraction) -> int | None:
    """Decimals the value has; None when they never end."""
    rest = value.denominator
    twos = fives = 0
    while rest % 2 == 0:
        rest //= 2
        twos += 1
    while rest % 5 == 0:
        rest //= 5
        fives += 1
    return max(twos, fives) if rest == 1 else None


def _format(
    value: int | Fraction,
    units: tuple[tuple[str, int], ...],
    digits: int | None,
    unit: str | None = None,
) -> str:
    """``value`` in ``unit``, by default the largest that is not below one; zero in the first."""
    known = dict(units)
    if unit is None:
        fitting = (name for name, scale in units if abs(value) >= scale)
        unit = next(fitting, units[-1][0]) if value else units[0][0]
    elif unit not in known:
        raise ValueError(f"{unit} is none of {', '.join(known)}")
    return f"{exact_decimal(Fraction(value) / known[unit], digits)} {unit}"


def _exact_duration_unit(duration_us: Fraction) -> str:
    for unit, scale in _DURATION_US:
        if abs(duration_us) < scale:
            continue
        places = _places(duration_us / scale)
        if places is not None and places <= _DURATION_DIGITS.get(unit, places):
            return unit
    return "ms"


def wall(wall_s: int, seconds: bool = False) -> str:
    """Wall time in UTC, to the minute or the second; "not set" for 0."""
    if not wall_s:
        return "not set"
    try:
        moment = _EPOCH + timedelta(seconds=wall_s)
    except OverflowError:
        return "after the year 9999"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if seconds else f"{moment:%Y-%m-%d %H:%M} UTC"
