"""What a pump delivered, by weighing: the difference of two readings of a balance, corrected.

The vessel on the balance loses by evaporation what is added here again, and air carries a part of
what lies on a balance that was adjusted with steel: the same corrections, with their sources, as
``calibration`` has. The limit of what is judged is the programme, a step, the readability of both
readings, and a tolerance that the bench's file gives with its source.
"""

from __future__ import annotations

from dataclasses import dataclass

from cisterna.balance import Reading
from cisterna.calibration import lift
from cisterna.errors import UsageError

_DAY_US = 86_400_000_000
_PPM = 1_000_000


@dataclass(frozen=True)
class Liquid:
    """``evaporation_ng_day``: how much less the balance shows a day while the pump is stopped."""

    density_ng_ml: int
    evaporation_ng_day: int = 0
    buoyancy: bool = True


@dataclass(frozen=True)
class Weighed:
    """``volume_pl`` delivered between two readings, known to ``readability_pl``."""

    volume_pl: int
    readability_pl: int
    duration_us: int


@dataclass(frozen=True)
class Verdict:
    """``error_pl``: weighed less programmed; it may be ``limit_pl`` either way."""

    error_pl: int
    limit_pl: int

    @property
    def holds(self) -> bool:
        return abs(self.error_pl) <= self.limit_pl


def delivered(start: Reading, end: Reading, duration_us: int, liquid: Liquid) -> Weighed:
    """What came between two readings ``duration_us`` apart. Raises UsageError for readings that
    are not stable or a time that runs backwards."""
    if not (start.stable and end.stable):
        raise UsageError("a reading that is not stable", "wait for the balance to settle")
    if duration_us <= 0:
        raise UsageError(f"{duration_us} us between two readings; it must be more than 0")
    factor = lift(liquid.density_ng_ml) if liquid.buoyancy else 1.0
    to_pl = factor / liquid.density_ng_ml * 1e9  # ng over ng/mL is mL, and a mL has 1e9 pL
    evaporated_ng = liquid.evaporation_ng_day * duration_us / _DAY_US
    mass_ng = end.mass_ng - start.mass_ng + evaporated_ng
    blur_ng = start.readability_ng + end.readability_ng
    return Weighed(round(mass_ng * to_pl), round(blur_ng * to_pl) + 1, duration_us)


def judge(weighed: Weighed, programmed_pl: int, step_pl: int, tolerance_ppm: int) -> Verdict:
    """DEL-1 by weighing. ``tolerance_ppm``: of the programmed volume, as the bench's file says."""
    limit_pl = step_pl + weighed.readability_pl + programmed_pl * tolerance_ppm // _PPM
    return Verdict(weighed.volume_pl - programmed_pl, limit_pl)
