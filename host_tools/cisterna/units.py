"""Numbers with units, read strictly, and written back (the writers are in ``cisterna.amounts``).

A quantity is one number, at most one space, and one unit. The number is ASCII digits, with a
decimal point only between digits: no sign, exponent, comma, underscore or leading zero, so ".5" is
never 5. What is read is a whole number of the base unit below; text finer than that is refused,
never rounded.

========================  =========  ==========================================================
quantity                  base unit  units
========================  =========  ==========================================================
volume                    nL         L mL uL nL
rate                      nL/day     mL uL nL, each per day or h
mass                      ng         g mg ug ng
dose rate                 ng/day     mg ug ng, each per day or h
concentration             ng/mL      mg/mL ug/mL ng/mL
density                   ng/mL      g/mL mg/mL
temperature               mC         C
duration                  us         days (or day) h min s ms
length                    um         cm mm um
volume per length         nL/cm      mL/cm uL/cm
========================  =========  ==========================================================

ug may be written mcg or µg, uL µL, and the litre with a small l. Ranges are inclusive and in the
base unit; None leaves that side open. ``name`` is what messages call the value. Every refusal is a
QuantityError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

from cisterna.amounts import (
    exact_decimal,
    field_label,
    format_concentration,
    format_dose_rate,
    format_duration,
    format_field,
    format_length,
    format_mass,
    format_rate,
    format_volume_nl,
    format_volume_per_length,
    format_volume_pl,
)
from cisterna.errors import UsageError, quoted

MAX_TEXT = 40  # characters of a quantity; longer text is a mistake, not a number

_NUMBER = r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"
_QUANTITY = re.compile(rf"(?P<number>{_NUMBER}) ?(?P<unit>[^\W\d_]+(?:/[^\W\d_]+)?)")

_LITRES_NL = {"L": 1_000_000_000, "mL": 1_000_000, "uL": 1_000, "nL": 1}
_GRAMS_NG = {"g": 1_000_000_000, "mg": 1_000_000, "ug": 1_000, "ng": 1}
_PER_DAY = {"day": 1, "h": 24}
_MILLILITRE = ("mL",)


class QuantityError(UsageError):
    """Text that is not the quantity it should be.

    ``name``: what the value is called; ``text``: what was typed; ``units``: the units it may have.
    """

    def __init__(
        self, name: str, text: str, problem: str, units: tuple[str, ...], remedy: str
    ) -> None:
        super().__init__(f"{name} {quoted(text)} {problem}", remedy)
        self.name = name
        self.text = text
        self.units = units


class Dose(NamedTuple):
    """A dose as it was typed. ``amount`` is in nL for a volume, in ng for a mass."""

    kind: Literal["volume", "mass"]
    amount: int


@dataclass(frozen=True)
class _Quantity:
    """``units``: base units in one of each unit, in the order messages list them. ``spellings``:
    the unit each accepted spelling means."""

    noun: str
    base: str
    example: str
    units: Mapping[str, int]
    spellings: Mapping[str, str]
    write: Callable[[int | Fraction], str]


def _spellings(units: Mapping[str, int]) -> dict[str, str]:
    spellings: dict[str, str] = {}
    for unit in units:
        for micro in ("u", "\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}"):
            spelling = re.sub(r"^u(?=[Lg])", micro, unit)
            spellings[spelling] = unit
            spellings[spelling.replace("L", "l")] = unit
        if unit.startswith("ug"):
            mcg = "mcg" + unit[len("ug") :]
            spellings[mcg] = spellings[mcg.replace("L", "l")] = unit
    return spellings


def _quantity(
    noun: str,
    base: str,
    example: str,
    units: Mapping[str, int],
    write: Callable[[int | Fraction], str],
) -> _Quantity:
    return _Quantity(noun, base, example, units, _spellings(units), write)


_VOLUME = _quantity("a volume", "nL", "0.5 mL", _LITRES_NL, format_volume_nl)
_RATE = _quantity(
    "a rate",
    "nL/day",
    "0.5 mL/day",
    {
        f"{volume}/{time}": _LITRES_NL[volume] * per_day
        for time, per_day in _PER_DAY.items()
        for volume in ("mL", "uL", "nL")
    },
    format_rate,
)
_MASS = _quantity("a mass", "ng", "10 ug", _GRAMS_NG, format_mass)
_DOSE_RATE = _quantity(
    "a dose rate",
    "ng/day",
    "100 ug/day",
    {
        f"{mass}/{time}": _GRAMS_NG[mass] * per_day
        for time, per_day in _PER_DAY.items()
        for mass in ("mg", "ug", "ng")
    },
    format_dose_rate,
)
_CONCENTRATION = _quantity(
    "a concentration",
    "ng/mL",
    "500 ug/mL",
    {f"{mass}/mL": _GRAMS_NG[mass] for mass in ("mg", "ug", "ng")},
    format_concentration,
)
_DURATION = _quantity(
    "a duration",
    "us",
    "10 min",
    {
        "days": 86_400_000_000,
        "day": 86_400_000_000,
        "h": 3_600_000_000,
        "min": 60_000_000,
        "s": 1_000_000,
        "ms": 1_000,
    },
    format_duration,
)
_DENSITY = _quantity(
    "a density",
    "ng/mL",
    "0.9982 g/mL",
    {"g/mL": 1_000_000_000, "mg/mL": 1_000_000},
    format_concentration,
)
_TEMPERATURE = _quantity(
    "a temperature",
    "0.001 C",
    "21.5 C",
    {"C": 1_000},
    lambda thousandths: f"{exact_decimal(Fraction(thousandths) / 1_000)} C",
)
_LENGTH = _quantity("a length", "um", "80 cm", {"cm": 10_000, "mm": 1_000, "um": 1}, format_length)
_VOLUME_PER_LENGTH = _quantity(
    "a volume per length",
    "nL/cm",
    "0.0022 mL/cm",
    {"mL/cm": 1_000_000, "uL/cm": 1_000},
    format_volume_per_length,
)
_QUANTITIES = (
    _VOLUME,
    _RATE,
    _MASS,
    _DOSE_RATE,
    _CONCENTRATION,
    _DURATION,
    _TEMPERATURE,
    _LENGTH,
    _VOLUME_PER_LENGTH,
)


def parse_volume(
    text: str, low_nl: int | None = None, high_nl: int | None = None, name: str = "volume"
) -> int:
    """Volume in nL."""
    return _parse(_VOLUME, text, low_nl, high_nl, name)


def parse_rate(
    text: str, low_nl_day: int | None = None, high_nl_day: int | None = None, name: str = "rate"
) -> int:
    """Rate in nL/day."""
    return _parse(_RATE, text, low_nl_day, high_nl_day, name)


def parse_mass(
    text: str, low_ng: int | None = None, high_ng: int | None = None, name: str = "mass"
) -> int:
    """Mass in ng."""
    return _parse(_MASS, text, low_ng, high_ng, name)


def parse_dose_rate(
    text: str,
    low_ng_day: int | None = None,
    high_ng_day: int | None = None,
    name: str = "dose rate",
) -> int:
    """Mass of drug a day, in ng/day."""
    return _parse(_DOSE_RATE, text, low_ng_day, high_ng_day, name)


def parse_concentration(
    text: str,
    low_ng_ml: int | None = None,
    high_ng_ml: int | None = None,
    name: str = "concentration",
) -> int:
    """Concentration in ng/mL."""
    return _parse(_CONCENTRATION, text, low_ng_ml, high_ng_ml, name)


def parse_duration(
    text: str, low_us: int | None = None, high_us: int | None = None, name: str = "duration"
) -> int:
    """Duration in us."""
    return _parse(_DURATION, text, low_us, high_us, name)


def parse_length(
    text: str, low_um: int | None = None, high_um: int | None = None, name: str = "length"
) -> int:
    """Length in um."""
    return _parse(_LENGTH, text, low_um, high_um, name)


def parse_volume_per_length(
    text: str,
    low_nl_cm: int | None = None,
    high_nl_cm: int | None = None,
    name: str = "volume per length",
) -> int:
    """What a centimetre of a catheter holds, in nL/cm."""
    return _parse(_VOLUME_PER_LENGTH, text, low_nl_cm, high_nl_cm, name)


def parse_ratio(text: object, name: str = "ratio") -> Fraction:
    """A bare number from above 0 to 1,000,000, such as a concentration against another."""
    if not isinstance(text, str) or not re.fullmatch(_NUMBER, text) or len(text) > MAX_TEXT:
        problem = "is no number without a unit, as text in digits 0 to 9"
        raise QuantityError(name, str(text), problem, (), 'write it like "2" or "0.25"')
    value = Fraction(text)
    if not 0 < value <= 1_000_000:
        raise QuantityError(name, text, "is not from above 0 to 1000000", (), "check it")
    return value


def is_rate(text: str) -> bool:
    """True if ``text`` has the unit of a rate, and not of a dose rate."""
    match = _QUANTITY.fullmatch(text)
    return match is not None and match["unit"] in _RATE.spellings


def parse_density(
    text: str,
    low_ng_ml: int | None = None,
    high_ng_ml: int | None = None,
    name: str = "density",
) -> int:
    """Density of a liquid in ng/mL."""
    return _parse(_DENSITY, text, low_ng_ml, high_ng_ml, name)


def parse_temperature(
    text: str,
    low_mc: int | None = None,
    high_mc: int | None = None,
    name: str = "temperature",
) -> int:
    """Temperature in thousandths of a degree Celsius."""
    return _parse(_TEMPERATURE, text, low_mc, high_mc, name)


def parse_dose(text: str, name: str = "dose") -> Dose:
    """A dose given as a mass or as a volume, told apart by its unit."""
    either = _Quantity(
        "a mass or a volume",
        "",
        "10 ug or 20 uL",
        {**_MASS.units, **_VOLUME.units},
        {**_MASS.spellings, **_VOLUME.spellings},
        exact_decimal,
    )
    _, unit = _split(either, text, name)
    if unit in _VOLUME.units:
        return Dose("volume", parse_volume(text, name=name))
    return Dose("mass", parse_mass(text, name=name))


def _parse(quantity: _Quantity, text: str, low: int | None, high: int | None, name: str) -> int:
    number, unit = _split(quantity, text, name)
    exact = Fraction(number) * quantity.units[unit]
    allowed = tuple(quantity.units)
    if exact.denominator != 1:
        raise QuantityError(
            name,
            text,
            f"is finer than the resolution, 1 {quantity.base}",
            allowed,
            f"give a whole number of {quantity.base}; nothing is rounded for you",
        )
    value = exact.numerator
    if low is not None and value < low:
        problem = f"is below the lowest allowed, {quantity.write(low)}"
        raise QuantityError(name, text, problem, allowed, _range_text(quantity, low, high))
    if high is not None and value > high:
        problem = f"is above the highest allowed, {quantity.write(high)}"
        raise QuantityError(name, text, problem, allowed, _range_text(quantity, low, high))
    return value


def _range_text(quantity: _Quantity, low: int | None, high: int | None) -> str:
    sides = (("from", low), ("up to", high))
    return "allowed: " + " ".join(
        f"{word} {quantity.write(limit)}" for word, limit in sides if limit is not None
    )


def _split(quantity: _Quantity, text: object, name: str) -> tuple[str, str]:
    """Number and unit of ``text``, the unit in its listed spelling."""
    allowed = tuple(quantity.units)
    remedy = f"write it like {quantity.example}"
    if not isinstance(text, str):
        problem = f"is not text with a unit; {_expected(quantity)}"
        raise QuantityError(name, str(text), problem, allowed, remedy)
    match = _QUANTITY.fullmatch(text) if len(text) <= MAX_TEXT else None
    if match is None:
        raise QuantityError(name, text, _form_problem(quantity, text), allowed, remedy)
    unit = quantity.spellings.get(match["unit"])
    if unit is None:
        raise QuantityError(name, text, _unit_problem(quantity, match["unit"]), allowed, remedy)
    return match["number"], unit


def _expected(quantity: _Quantity) -> str:
    *units, last = quantity.units
    return f"{quantity.noun} is expected, in {', '.join(units)} or {last}"


def _unit_problem(quantity: _Quantity, unit: str) -> str:
    expected = _expected(quantity)
    for other in _QUANTITIES:
        if unit in other.spellings:
            return f"is {other.noun}; {expected}"
    return f"has the unknown unit {unit}; {expected}"


# What is wrong with text that is no number and unit, first match first.
_FORM_PROBLEMS = (
    (r"\s*", "is empty"),
    (r"\s.*|.*\s", "begins or ends with a blank"),
    (r".*(?![0-9])\d.*", "has digits other than 0 to 9"),
    (r"[+\-\N{MINUS SIGN}].*", "has a sign; numbers here have none"),
    (r"\..*", "has no digit before the decimal point"),
    (r"[0-9]*,.*", "has a comma; the decimal point is a point, and digits are not grouped"),
    (r"[0-9]+_.*", "has an underscore in the number"),
    (r"0[0-9].*", "has a leading zero"),
    (r"[0-9]+\.(?![0-9]).*", "has no digit after the decimal point"),
    (rf"{_NUMBER}[eE][+\-]?[0-9].*", "has an exponent; write the number out"),
    (_NUMBER, "has no unit"),
    (rf"{_NUMBER}\s\s.*|{_NUMBER}[^\S ].*", "has another blank than one space before the unit"),
    (rf"{_NUMBER}[.,].*", "has more than one decimal point or a comma"),
    (rf"{_NUMBER} [0-9].*", "has more than one number or unit"),
    (rf"{_NUMBER} ?[^\W\d_/]+(?:/[^\W\d_]+)?[\s\d].*", "has more than one number or unit"),
    (r"(?![0-9]).*", "does not begin with a number in digits 0 to 9"),
)


def _form_problem(quantity: _Quantity, text: str) -> str:
    expected = _expected(quantity)
    if len(text) > MAX_TEXT:
        return f"is longer than {MAX_TEXT} characters; {expected}"
    for pattern, problem in _FORM_PROBLEMS:
        if re.fullmatch(pattern, text, re.DOTALL):
            return f"{problem}; {expected}"
    return f"is not a number and a unit; {expected}"


__all__ = [
    "MAX_TEXT",
    "Dose",
    "QuantityError",
    "exact_decimal",
    "field_label",
    "format_concentration",
    "format_dose_rate",
    "format_duration",
    "format_field",
    "format_length",
    "format_mass",
    "format_rate",
    "format_volume_nl",
    "format_volume_per_length",
    "format_volume_pl",
    "is_rate",
    "parse_concentration",
    "parse_density",
    "parse_dose",
    "parse_dose_rate",
    "parse_duration",
    "parse_length",
    "parse_mass",
    "parse_rate",
    "parse_ratio",
    "parse_temperature",
    "parse_volume",
    "parse_volume_per_length",
]
