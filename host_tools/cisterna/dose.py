"""Dose maths: drug and volume, rate and dose rate, exactly, in integers and Fractions.

mass (ng) = volume (nL) x concentration (ng/mL) / 1,000,000 (nL/mL), and the same per day for
rates.

A pump runs whole multiples of 0.001 mL/day between 0.048 and 24 mL/day, and at 0.006 mL/day in its
minimum-rate mode: the range of fielded intrathecal pumps. ``firmware/pump/prescription.py`` holds
the same four numbers and enforces them; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from cisterna.amounts import format_concentration, format_mass
from cisterna.errors import UsageError

RATE_LOW_NL_DAY = 48_000
RATE_HIGH_NL_DAY = 24_000_000
RATE_STEP_NL_DAY = 1_000
MINIMUM_RATE_NL_DAY = 6_000

DAY_US = 86_400_000_000

_NL_PER_ML = 1_000_000


@dataclass(frozen=True)
class AchievableRate:
    """The programmable rate nearest to a wanted dose rate.

    ``wanted_rate_nl_day`` is the rate the wanted dose rate needs, ``rate_nl_day`` the programmable
    one. It is not checked against the pump's range.
    """

    wanted_dose_rate_ng_day: int
    concentration_ng_ml: int
    wanted_rate_nl_day: Fraction
    rate_nl_day: int

    @property
    def dose_rate_ng_day(self) -> Fraction:
        """Dose rate that the programmable rate gives, ng/day."""
        return dose_rate_ng_day(self.rate_nl_day, self.concentration_ng_ml)

    @property
    def error_ng_day(self) -> Fraction:
        """Achievable minus wanted dose rate, ng/day."""
        return self.dose_rate_ng_day - self.wanted_dose_rate_ng_day

    @property
    def relative_error(self) -> Fraction:
        """The error as a part of the wanted dose rate."""
        return self.error_ng_day / self.wanted_dose_rate_ng_day

    @property
    def exact(self) -> bool:
        """True if the pump can run the wanted dose rate itself."""
        return self.rate_nl_day == self.wanted_rate_nl_day


@dataclass(frozen=True)
class DayTotal:
    """What 24 hours deliver: volume in nL, drug in ng."""

    volume_nl: Fraction
    mass_ng: Fraction


def dose_rate_ng_day(rate_nl_day: int | Fraction, concentration_ng_ml: int | Fraction) -> Fraction:
    """Dose rate in ng/day of a rate in nL/day."""
    return Fraction(rate_nl_day) * concentration_ng_ml / _NL_PER_ML


def rate_of_dose_rate_nl_day(
    dose_rate_ng_day: int | Fraction, concentration_ng_ml: int
) -> Fraction:
    """Rate in nL/day that gives a dose rate in ng/day. Concentration from 1 ng/mL."""
    return Fraction(dose_rate_ng_day) * _NL_PER_ML / concentration_ng_ml


def achievable_rate(dose_rate_ng_day: int, concentration_ng_ml: int) -> AchievableRate:
    """The programmable rate nearest to ``dose_rate_ng_day`` (from 1 ng/day).

    Half-way between two, the lower one: never more drug than asked for without need.
    """
    wanted = rate_of_dose_rate_nl_day(dose_rate_ng_day, concentration_ng_ml)
    rate = RATE_STEP_NL_DAY * _nearest_lower_at_half(wanted / RATE_STEP_NL_DAY)
    return AchievableRate(dose_rate_ng_day, concentration_ng_ml, wanted, rate)


def mass_of_volume_ng(volume_nl: int | Fraction, concentration_ng_ml: int | Fraction) -> Fraction:
    """Drug in ng that a volume in nL holds."""
    return Fraction(volume_nl) * concentration_ng_ml / _NL_PER_ML


def volume_of_mass_nl(mass_ng: int, concentration_ng_ml: int) -> int:
    """Volume in whole nL nearest to the one that holds ``mass_ng``; half-way, the lower one.

    The error is at most 0.5 nL, far below a motor step; ``mass_of_volume_ng`` tells the mass that
    the result holds. Raises UsageError for a mass above zero that would round to no volume at all.
    """
    volume_nl = _nearest_lower_at_half(Fraction(mass_ng * _NL_PER_ML, concentration_ng_ml))
    if mass_ng and not volume_nl:
        raise UsageError(
            f"a dose of {format_mass(mass_ng)} at {format_concentration(concentration_ng_ml)} "
            "is less than the smallest volume, 1 nL",
            remedy="give a larger dose, or check its unit",
        )
    return volume_nl


def day_total(
    rate_nl_day: int,
    concentration_ng_ml: int,
    boluses: Iterable[tuple[int, int]] = (),
) -> DayTotal:
    """What 24 hours at a basal rate deliver, with ``boluses`` of (volume in nL, duration in us).

    A bolus runs in place of the basal rate. Raises ValueError when they take more than 24 hours.
    """
    bolus_nl = 0
    basal_us = DAY_US
    for volume_nl, duration_us in boluses:
        bolus_nl += volume_nl
        basal_us -= duration_us
    if basal_us < 0:
        raise ValueError("the boluses take more than 24 hours")
    volume_nl = bolus_nl + Fraction(rate_nl_day * basal_us, DAY_US)
    return DayTotal(volume_nl, mass_of_volume_ng(volume_nl, concentration_ng_ml))


def _nearest_lower_at_half(value: Fraction) -> int:
    """Nearest integer; the lower of two equally near."""
    return -((1 - 2 * value) // 2)  # the smallest integer not below value - 1/2


def number(value: Fraction) -> int | float:
    """A fraction as a JSON number: whole where it is whole."""
    return value.numerator if value.denominator == 1 else float(value)
