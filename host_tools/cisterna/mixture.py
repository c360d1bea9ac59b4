"""Up to four drugs in one liquid: what a volume or a rate of it holds of each, and what becomes of
a residual and a fill that mix. Exact, in integers and Fractions.

The first drug is the one that doses are told by. The others follow it by their concentrations:
whatever a pump does to one of them it does to all.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cisterna.amounts import exact_decimal, format_concentration
from cisterna.dose import dose_rate_ng_day, mass_of_volume_ng, number
from cisterna.errors import UsageError, quoted

MOST_DRUGS = 4
CONCENTRATION_HIGH_NG_ML = 10**12  # 1 kg/mL: as SET_PRESCRIPTION in the message table has it


@dataclass(frozen=True)
class Drug:
    """One drug of a mixture; ``concentration_ng_ml`` may be a fraction after two have mixed."""

    name: str
    concentration_ng_ml: int | Fraction

    @property
    def words(self) -> str:
        """Name and concentration, to 3 decimals of its unit."""
        return f"{self.name} {format_concentration(self.concentration_ng_ml, digits=3)}"


@dataclass(frozen=True)
class Mixture:
    """One to four drugs, no name twice. Raises UsageError for anything else."""

    drugs: tuple[Drug, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.drugs) <= MOST_DRUGS:
            raise UsageError(f"{len(self.drugs)} drugs, allowed are 1 to {MOST_DRUGS}")
        names = [drug.name for drug in self.drugs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"drug {quoted(twice)} is in the mixture twice")

    def masses_ng(self, volume_nl: int | Fraction) -> tuple[Fraction, ...]:
        """Mass of each drug in a volume, in their order."""
        return tuple(mass_of_volume_ng(volume_nl, d.concentration_ng_ml) for d in self.drugs)

    def masses_data(self, volume_nl: int | Fraction) -> list[dict[str, Any]]:
        """The same as JSON values, with the names; whole numbers where they are whole."""
        return [
            {"name": drug.name, "mass_ng": number(mass)}
            for drug, mass in zip(self.drugs, self.masses_ng(volume_nl), strict=True)
        ]

    def dose_rates_ng_day(self, rate_nl_day: int | Fraction) -> tuple[Fraction, ...]:
        """Dose rate of each drug at a rate, in their order."""
        return tuple(dose_rate_ng_day(rate_nl_day, d.concentration_ng_ml) for d in self.drugs)

    def concentration_ng_ml(self, name: str) -> int | Fraction:
        """Concentration of a drug by name, 0 when it is not in it."""
        return next((d.concentration_ng_ml for d in self.drugs if d.name == name), 0)

    @property
    def words(self) -> str:
        """All of it on one line."""
        return " + ".join(drug.words for drug in self.drugs)

    def is_like(self, other: Mixture) -> bool:
        """True if it has the drugs of ``other`` at its concentrations, to one in a thousand: what
        a pump lets pass without a question."""
        names = {drug.name for drug in other.drugs}
        return names == {drug.name for drug in self.drugs} and all(
            abs(other.concentration_ng_ml(drug.name) - drug.concentration_ng_ml) * 1000
            <= drug.concentration_ng_ml
            for drug in self.drugs
        )


def by_ratio(first: Drug, others: tuple[tuple[str, Fraction], ...]) -> Mixture:
    """A mixture in which each other drug has ``ratio`` times the concentration of the first.

    Raises UsageError for a ratio that makes no whole number of ng/mL from 1 to
    CONCENTRATION_HIGH_NG_ML.
    """
    drugs = [first]
    for name, ratio in others:
        concentration = ratio * first.concentration_ng_ml
        written = f"drug {quoted(name)}: ratio {exact_decimal(ratio, digits=6)}"
        if concentration.denominator != 1:
            raise UsageError(
                f"{written} makes no whole number of ng/mL", "give its concentration instead"
            )
        if not 1 <= concentration <= CONCENTRATION_HIGH_NG_ML:
            raise UsageError(
                f"{written} makes {concentration} ng/mL; allowed are 1 to "
                f"{CONCENTRATION_HIGH_NG_ML} ng/mL"
            )
        drugs.append(Drug(name, concentration.numerator))
    return Mixture(tuple(drugs))


def mixed(
    residual: Mixture | None, residual_nl: int, fill: Mixture, fill_nl: int
) -> tuple[Drug, ...]:
    """What is in a reservoir after ``fill_nl`` of ``fill`` came to ``residual_nl`` of ``residual``
    (None: nothing known of it, and then it must be empty): the fill's drugs in their order, then
    what only the residual has. More than four are more than a pump can be told: they are not cut
    here.

    Raises ValueError for volumes that are below zero, both zero, or of nothing known.
    """
    total_nl = residual_nl + fill_nl
    if residual_nl < 0 or fill_nl < 0 or not total_nl:
        raise ValueError(f"{residual_nl} nL and {fill_nl} nL do not mix")
    if residual is None and residual_nl:
        raise ValueError("nothing is known of the residual")
    before = residual.drugs if residual is not None and residual_nl else ()
    names = [drug.name for drug in fill.drugs]
    names += [drug.name for drug in before if drug.name not in names]
    return tuple(
        Drug(
            name,
            Fraction(
                fill.concentration_ng_ml(name) * fill_nl
                + (residual.concentration_ng_ml(name) if residual else 0) * residual_nl
            )
            / total_nl,
        )
        for name in names
    )
