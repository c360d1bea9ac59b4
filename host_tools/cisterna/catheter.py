"""What lies between the reservoir and the tip: volumes of tubing and catheter, and the bridge
bolus that empties them of an old concentration at its old dose rate. Exact, in integers and
Fractions.

Volume of a segment = (supplied - trimmed length) x volume per length. The volume of a pump's
tubing has one home: its profile (``cisterna.profiles``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from cisterna.amounts import format_length
from cisterna.dose import DAY_US, mass_of_volume_ng, rate_of_dose_rate_nl_day
from cisterna.errors import UsageError, quoted

_UM_PER_CM = 10_000


@dataclass(frozen=True)
class Segment:
    """A piece of catheter: what was supplied, what was cut off, and what it holds a centimetre.

    Raises UsageError when more was trimmed than was supplied.
    """

    name: str
    supplied_um: int
    trimmed_um: int
    nl_per_cm: int

    def __post_init__(self) -> None:
        if not 0 <= self.trimmed_um <= self.supplied_um:
            raise UsageError(
                f"segment {quoted(self.name)}: {format_length(self.trimmed_um)} trimmed of "
                f"{format_length(self.supplied_um)} supplied"
            )

    @property
    def implanted_um(self) -> int:
        """Length that is implanted."""
        return self.supplied_um - self.trimmed_um

    @property
    def volume_nl(self) -> Fraction:
        """Volume of what is implanted."""
        return Fraction(self.implanted_um * self.nl_per_cm, _UM_PER_CM)


def catheter_volume_nl(segments: Iterable[Segment]) -> int:
    """Volume of the implanted catheter: that of its segments, rounded to the nearest nL."""
    return round(sum((segment.volume_nl for segment in segments), Fraction(0)))


@dataclass(frozen=True)
class Bridge:
    """A bridge bolus: the old drug in tubing and catheter, delivered at its old dose rate."""

    volume_nl: int
    rate_nl_day: Fraction
    mass_ng: Fraction

    @property
    def duration_us(self) -> Fraction:
        """How long it takes."""
        return Fraction(self.volume_nl * DAY_US) / self.rate_nl_day


def bridge(volume_nl: int, old_concentration_ng_ml: int, old_dose_rate_ng_day: int) -> Bridge:
    """The bridge bolus over ``volume_nl`` of tubing and catheter, in plug flow.

    rate = old dose rate / old concentration; duration = volume x old concentration / old dose
    rate; dose = volume x old concentration.
    """
    return Bridge(
        volume_nl,
        rate_of_dose_rate_nl_day(old_dose_rate_ng_day, old_concentration_ng_ml),
        mass_of_volume_ng(volume_nl, old_concentration_ng_ml),
    )
