"""The guard on a change of dose: 24-h totals, old and new, of every drug on every day of the week,
without and with all patient boluses, and what has to be typed where one of them changes by more
than 20 %.

60 ug a day typed as 60 ug an hour is 24 times the dose, and each number of it is inside every
limit. What shows it is the total of a day, beside the old one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cisterna import units
from cisterna.amounts import exact_decimal, format_dose_rate, format_rate
from cisterna.dose import DayTotal, mass_of_volume_ng
from cisterna.errors import UsageError, quoted
from cisterna.prescription import Therapy
from pump_wire.messages import FLEX

MOST_UNTYPED = Fraction(1, 5)  # of the old total

_MASS_DIGITS = 3  # decimals that totals are shown with, and may be typed with
_VOLUME_DIGITS = 6
_MOST_PPM = (1 << 32) - 1  # what the pump tells of a change from nothing


class WrongTotal(UsageError):
    """The total that was typed is not the new one."""


@dataclass(frozen=True)
class DoseChange:
    """A change: ``old_ng`` and ``new_ng`` of ``drug`` in 24 hours of ``weekday`` (0 Monday), with
    volumes to the nearest nL as the pump counts them. ``with_patient``: with all patient boluses.
    """

    drug: str
    weekday: int
    old_ng: Fraction
    new_ng: Fraction
    with_patient: bool = False

    @property
    def factor(self) -> Fraction | None:
        """New / old; None where there was nothing."""
        return self.new_ng / self.old_ng if self.old_ng else None

    @property
    def relative(self) -> Fraction | None:
        """(new - old) / old; None where there was nothing."""
        return (self.new_ng - self.old_ng) / self.old_ng if self.old_ng else None

    @property
    def large(self) -> bool:
        """True above 20 %."""
        return abs(self.new_ng - self.old_ng) > MOST_UNTYPED * self.old_ng

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
    """``old``: None when nothing was ever prescribed, and then nothing has to be typed.
    ``change``: the largest of all; ``basal``: the largest without patient boluses."""

    old: Therapy | None
    new: Therapy
    change: DoseChange | None
    basal: DoseChange | None

    @property
    def must_be_typed(self) -> bool:
        """True where a drug's dose on some day changes by more than 20 %."""
        return self.change is not None and self.change.large

    @property
    def with_patient(self) -> bool:
        """True where the total to be typed is that with all patient boluses: no other changes by
        more than 20 %."""
        return self.must_be_typed and self.basal is not None and not self.basal.large

    @property
    def has_patient(self) -> bool:
        """True where there are patient boluses, before or after."""
        return any(each is not None and each.patients_nl for each in (self.old, self.new))

    @property
    def change_ppm(self) -> int:
        """The largest change as the pump tells it in its echo."""
        if self.change is None:
            return _MOST_PPM if self.new.total_nl else 0
        relative = self.change.relative
        if relative is None:
            return _MOST_PPM if self.change.new_ng else 0
        return min(_MOST_PPM, -(-abs(relative) * 1_000_000 // 1))

    @property
    def change_ng(self) -> tuple[Fraction, Fraction]:
        """Old and new of ``change`` from exact volumes, as totals are told; 0 and 0 without."""
        change, old = self.change, self.old
        if change is None or old is None:
            return Fraction(0), Fraction(0)
        was, is_now = (
            mass_of_volume_ng(
                therapy.day_volume_nl(change.weekday) + change.with_patient * therapy.patients_nl,
                therapy.mixture.concentration_ng_ml(change.drug),
            )
            for therapy in (old, self.new)
        )
        return was, is_now

    @property
    def typed_total(self) -> DayTotal:
        """The new total of 24 hours that is to be typed."""
        return all_boluses(self.new) if self.with_patient else self.new.day_total

    @property
    def asks_for(self) -> str:
        """What is to be typed, in words."""
        if self.with_patient:
            return "24-h total with all patient boluses"
        return "24-h total"

    @property
    def total_words(self) -> str:
        """The new total of 24 hours, as it may be typed."""
        total = self.typed_total
        mass = format_dose_rate(total.mass_ng, digits=_MASS_DIGITS)
        words = (
            f"{mass} of {self.new.drug} ({format_rate(total.volume_nl, digits=_VOLUME_DIGITS)})"
        )
        return f"{words} with all patient boluses" if self.with_patient else words

    def check(self, typed: str) -> None:
        """Raise WrongTotal unless ``typed`` is ``typed_total``: as a dose rate of the first drug
        or as a rate, exactly or as it is shown."""
        total = self.typed_total
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
            delivered = "could be" if self.with_patient else "would be"
            raise WrongTotal(
                f"24-h total {quoted(typed)} is not what {delivered} delivered, "
                f"{self.total_words}",
                remedy="look at the totals again: is a rate a day typed as one an hour?",
            )

    def as_data(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            **_totals("day", self.old and self.old.day_total, self.new.day_total),
            **_totals(
                "day_with_patient", self.old and all_boluses(self.old), all_boluses(self.new)
            ),
            **_masses("day", self.old, self.new, lambda therapy: therapy.day_total),
            **_masses("day_with_patient", self.old, self.new, all_boluses),
            "largest_change": _change_data(self.change),
            "largest_change_without_patient": _change_data(self.basal),
            "must_be_typed": self.must_be_typed,
            "typed_with_patient": self.with_patient,
        }


def all_boluses(therapy: Therapy) -> DayTotal:
    """What 24 hours deliver with all patient boluses; the largest day."""
    volume = therapy.day_total.volume_nl + therapy.patients_nl
    return DayTotal(volume, mass_of_volume_ng(volume, therapy.concentration_ng_ml))


def _totals(what: str, old: DayTotal | None, new: DayTotal) -> dict[str, float | None]:
    return {
        f"old_{what}_volume_nl": None if old is None else float(old.volume_nl),
        f"new_{what}_volume_nl": float(new.volume_nl),
        f"old_{what}_mass_ng": None if old is None else float(old.mass_ng),
        f"new_{what}_mass_ng": float(new.mass_ng),
    }


def _masses(
    what: str, old: Therapy | None, new: Therapy, total: Callable[[Therapy], DayTotal]
) -> dict[str, Any]:
    """The masses of every drug in a total."""
    return {
        f"{when}_{what}_masses": therapy and therapy.mixture.masses_data(total(therapy).volume_nl)
        for when, therapy in (("old", old), ("new", new))
    }


def _change_data(change: DoseChange | None) -> dict[str, Any] | None:
    if change is None:
        return None
    factor, relative = change.factor, change.relative
    return {
        "drug": change.drug,
        "weekday": change.weekday,
        "with_patient": change.with_patient,
        "old_ng": float(change.old_ng),
        "new_ng": float(change.new_ng),
        "percent": None if relative is None else float(100 * relative),
        "factor": None if factor is None else float(factor),
        "words": change.words,
    }


def guard(old: Therapy | None, new: Therapy) -> Guard:
    """What changes from ``old`` to ``new``."""
    if old is None:
        return Guard(None, new, None, None)
    basal = _changes(old, new, with_patient=False)
    largest = max(basal, key=_size)
    return Guard(
        old, new, max([largest, *_changes(old, new, with_patient=True)], key=_size), largest
    )


def _changes(old: Therapy, new: Therapy, *, with_patient: bool) -> list[DoseChange]:
    """The change of every drug on every day that differs from the others."""
    before = {drug.name: drug.concentration_ng_ml for drug in old.mixture.drugs}
    after = {drug.name: drug.concentration_ng_ml for drug in new.mixture.drugs}

    def dose_ng(therapy: Therapy, day: int, ng_ml: int | Fraction) -> Fraction:
        volume_nl = int(therapy.day_volume_nl(day) + Fraction(1, 2))
        return mass_of_volume_ng(volume_nl + with_patient * therapy.patients_nl, ng_ml)

    return [
        DoseChange(
            name,
            day,
            dose_ng(old, day, before.get(name, 0)),
            dose_ng(new, day, after.get(name, 0)),
            with_patient,
        )
        for day in range(7 if FLEX in (old.mode, new.mode) else 1)
        for name in dict.fromkeys([*after, *before])
    ]


def _size(change: DoseChange) -> Fraction:
    if change.relative is None:
        return Fraction(10**18) if change.new_ng else Fraction(0)
    return abs(change.relative)
