"""The guard on a change of dose: 24-h totals, old and new, of every drug on every day of the week,
and what has to be typed where one of them changes by more than 20 %.

60 ug a day typed as 60 ug an hour is 24 times the dose, and each number of it is inside every
limit. What shows it is the total of a day, beside the old one.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cisterna import units
from cisterna.amounts import exact_decimal, format_dose_rate, format_rate
from cisterna.dose import mass_of_volume_ng
from cisterna.errors import UsageError, quoted
from cisterna.prescription import Therapy
from pump_wire.messages import FLEX

MOST_UNTYPED = Fraction(1, 5)  # of the old total

_MASS_DIGITS = 3  # decimals that totals are shown with, and may be typed with
_VOLUME_DIGITS = 6


class WrongTotal(UsageError):
    """The total that was typed is not the new one."""


@dataclass(frozen=True)
class DoseChange:
    """The largest change among all drugs and days: ``old_ng`` and ``new_ng`` of ``drug`` on
    ``weekday`` (0 Monday). ``factor``: new / old, None from nothing."""

    drug: str
    weekday: int
    old_ng: Fraction
    new_ng: Fraction

    @property
    def factor(self) -> Fraction | None:
        """New / old; None where there was nothing."""
        return self.new_ng / self.old_ng if self.old_ng else None

    @property
    def relative(self) -> Fraction | None:
        """(new - old) / old; None where there was nothing."""
        return (self.new_ng - self.old_ng) / self.old_ng if self.old_ng else None

    @property
    def words(self) -> str:
        """ "+400 %, 5x", "-50 %, 1/2x", "from nothing", "unchanged"."""
        return change_words(self.old_ng, self.new_ng)


def change_words(old: int | Fraction, new: int | Fraction) -> str:
    """By how much ``new`` differs from ``old``, with the factor from twice or half on."""
    if old == new:
        return "unchanged"
    if not old or not new:
        return "from nothing" if not old else "to nothing"
    factor = Fraction(new) / old
    percent = exact_decimal(100 * (factor - 1), digits=1)
    text = f"{'+' if factor > 1 else ''}{percent} %"
    if factor >= 2:
        text += f", {exact_decimal(factor, digits=2)}x"
    elif factor <= Fraction(1, 2):
        text += f", 1/{exact_decimal(1 / factor, digits=2)}x"
    return text


@dataclass(frozen=True)
class Guard:
    """``old``: None when nothing was ever prescribed, and then nothing has to be typed."""

    old: Therapy | None
    new: Therapy
    change: DoseChange | None

    @property
    def must_be_typed(self) -> bool:
        """True where a drug's dose on some day changes by more than 20 %."""
        change = self.change
        if self.old is None or change is None or change.old_ng == change.new_ng:
            return False
        return change.relative is None or abs(change.relative) > MOST_UNTYPED

    @property
    def total_words(self) -> str:
        """The new total of 24 hours, as it may be typed."""
        total = self.new.day_total
        mass = format_dose_rate(total.mass_ng, digits=_MASS_DIGITS)
        return f"{mass} of {self.new.drug} ({format_rate(total.volume_nl, digits=_VOLUME_DIGITS)})"

    def check(self, typed: str) -> None:
        """Raise WrongTotal unless ``typed`` is the new 24-h total: as a dose rate of the first
        drug or as a rate, exactly or as it is shown."""
        total = self.new.day_total
        if units.is_rate(typed):
            amount: int = units.parse_rate(typed, name="24-h total")
            exact, digits, scale = total.volume_nl, _VOLUME_DIGITS, 1_000_000
        else:
            amount = units.parse_dose_rate(typed, name="24-h total")
            exact, digits = total.mass_ng, _MASS_DIGITS
            shown = format_dose_rate(exact, digits=digits)
            scale = {"mg/day": 1_000_000, "ug/day": 1_000, "ng/day": 1}[shown.split(" ")[1]]
        rounded = Fraction(round(exact * 10**digits / scale) * scale, 10**digits)
        if amount not in (exact, rounded):
            raise WrongTotal(
                f"24-h total {quoted(typed)} is not what would be delivered, {self.total_words}",
                remedy="look at the totals again: is a rate a day typed as one an hour?",
            )

    def as_data(self) -> dict[str, Any]:
        """All of it as JSON values."""
        change = self.change
        old = self.old.day_total if self.old is not None else None
        new = self.new.day_total
        factor = change.factor if change is not None else None
        relative = change.relative if change is not None else None
        return {
            "old_day_volume_nl": None if old is None else float(old.volume_nl),
            "new_day_volume_nl": float(new.volume_nl),
            "old_day_mass_ng": None if old is None else float(old.mass_ng),
            "new_day_mass_ng": float(new.mass_ng),
            "largest_change": None
            if change is None
            else {
                "drug": change.drug,
                "weekday": change.weekday,
                "old_ng": float(change.old_ng),
                "new_ng": float(change.new_ng),
                "percent": None if relative is None else float(100 * relative),
                "factor": None if factor is None else float(factor),
                "words": change.words,
            },
            "must_be_typed": self.must_be_typed,
        }


def guard(old: Therapy | None, new: Therapy) -> Guard:
    """What changes from ``old`` to ``new``."""
    if old is None:
        return Guard(None, new, None)
    before = {drug.name: drug.concentration_ng_ml for drug in old.mixture.drugs}
    after = {drug.name: drug.concentration_ng_ml for drug in new.mixture.drugs}
    days = range(7 if FLEX in (old.mode, new.mode) else 1)
    changes = [
        DoseChange(
            name,
            day,
            mass_of_volume_ng(old.day_volume_nl(day), before.get(name, 0)),
            mass_of_volume_ng(new.day_volume_nl(day), after.get(name, 0)),
        )
        for day in days
        for name in dict.fromkeys([*after, *before])
    ]
    return Guard(old, new, max(changes, key=_size))


def _size(change: DoseChange) -> Fraction:
    if change.relative is None:
        return Fraction(10**18) if change.new_ng else Fraction(0)
    return abs(change.relative)
