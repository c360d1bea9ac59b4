"""Volume of a motor step by weighing what the pump delivers: the gravimetric method.

Each repeat delivers the same number of steps into a weighed vessel. A mass read from a scale
becomes the volume of a step:

1. what evaporated meanwhile is added: evaporation rate times duration;
2. buoyancy of air: the scale was adjusted with steel weights, so water weighs less than it is. The
   mass is the reading times (1 - 1.2/8000) / (1 - 1.2/density), densities in kg/m3 (the general
   formula of ISO 8655-6, without its term for how the apparatus expands; 1.2 kg/m3 is air, 8,000
   kg/m3 the weights, by convention). With step 3 that is its factor Z;
3. divided by the density of the liquid. Water's is Tanaka et al., Metrologia 38 (2001) 301, for 0
   to 40 degrees, free of air (by the same paper air lowers it by 2.5 ppm at 20 degrees);
4. divided by the number of steps.

The uncertainty is that of the mean by repeatability alone, at 95 % (Student's t): it tells nothing
of a scale that is out of adjustment, a wrong temperature, or drops that stay in the tubing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cisterna.errors import UsageError

MOST_STEPS = 1_000_000_000
MOST_REPEATS = 100
# Temperatures of water that the formula is for, and densities of liquids that flow, as the parser
# gives them.
LOW_MC, HIGH_MC = 0, 40_000
LOW_DENSITY_NG_ML, HIGH_DENSITY_NG_ML = 500_000_000, 2_000_000_000

# Warnings: DEL-4 wants each bolus within 1 % and their mean within 0.5 %.
_MOST_SPREAD = 0.01
_MOST_UNCERTAINTY = 0.005
_MOST_EVAPORATED = 0.01
_MOST_CHANGE = 0.145  # the tolerance of flow that the label of a real pump states
_FEW_REPEATS = 5

_AIR_KG_M3 = 1.2
_WEIGHTS_KG_M3 = 8_000.0
_DAY_US = 86_400_000_000

# Student's t, two-sided 95 %, for 1, 2, 3 ... degrees of freedom; beyond the last the last, which
# is on the safe side. The tests integrate its density up to some of them.
_T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True)
class Calibration:
    """``step_pl``: mean over the repeats; ``steps_pl``: each of them. ``uncertainty_pl``: half of
    the 95 % interval of the mean, ``spread_pl``: standard deviation of one repeat; both None for a
    single repeat. ``warnings``: what speaks against using it."""

    steps: int
    step_pl: float
    steps_pl: tuple[float, ...]
    spread_pl: float | None
    uncertainty_pl: float | None
    density_ng_ml: int
    evaporated_ng: float
    buoyancy: bool
    warnings: tuple[str, ...]

    @property
    def rounded_pl(self) -> int:
        """What goes into board.toml."""
        return round(self.step_pl)

    def board_toml(self, liquid: str, date: str) -> str:
        """The table [plant] with these numbers and where they come from."""
        within = (
            f"+- {self.uncertainty_pl:,.0f} pL (95 %, repeatability)"
            if self.uncertainty_pl is not None
            else "once, so of unknown uncertainty"
        )
        return (
            "[plant]\n"
            f"step_pl = {self.rounded_pl:_}\n"
            f'step_source = "weighed {date}: {len(self.steps_pl)} x {self.steps:,} steps, '
            f'{liquid}; {within}"\n'
        )


def water_density_ng_ml(temperature_mc: int) -> int:
    """Density of air-free water at 101,325 Pa and 0 to 40 degrees, given in thousandths of a
    degree Celsius. Raises UsageError outside."""
    if not LOW_MC <= temperature_mc <= HIGH_MC:
        raise UsageError(
            f"water at {temperature_mc / 1000:g} C: its density is known from "
            f"{LOW_MC // 1000} to {HIGH_MC // 1000} C",
            "measure at room temperature",
        )
    t = temperature_mc / 1000
    kg_m3 = 999.974950 * (1 - (t - 3.983035) ** 2 * (t + 301.797) / (522_528.9 * (t + 69.34881)))
    return round(kg_m3 * 1_000_000)


def lift(density_ng_ml: int) -> float:
    """What a reading is multiplied with for the buoyancy of air, step 2 above."""
    return (1 - _AIR_KG_M3 / _WEIGHTS_KG_M3) / (1 - _AIR_KG_M3 * 1_000_000 / density_ng_ml)


def calibrate(
    steps: int,
    masses_ng: Sequence[int],
    density_ng_ml: int,
    evaporation_ng_day: int = 0,
    duration_us: int = 0,
    buoyancy: bool = True,
    present_pl: int | None = None,
) -> Calibration:
    """Volume of a step from the masses (ng, as the scale reads) of repeats of ``steps`` steps.

    ``duration_us``: of one repeat, for what evaporates. ``present_pl``: the board's step volume
    now. Raises UsageError.
    """
    if not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"{steps} steps; allowed: 1 to {MOST_STEPS:,}")
    if not 1 <= len(masses_ng) <= MOST_REPEATS:
        raise UsageError(
            f"{len(masses_ng)} masses; allowed: 1 to {MOST_REPEATS}", "give one for each repeat"
        )
    for mass_ng in masses_ng:
        if mass_ng <= 0:
            raise UsageError("a mass of 0", "leave out repeats in which nothing came")
    evaporated_ng = evaporation_ng_day * duration_us / _DAY_US
    factor = lift(density_ng_ml) if buoyancy else 1.0
    # ng over ng/mL is mL, and a mL has 1e9 pL
    steps_pl = tuple(
        (mass_ng + evaporated_ng) * factor / density_ng_ml * 1e9 / steps for mass_ng in masses_ng
    )
    mean = statistics.fmean(steps_pl)
    spread = uncertainty = None
    if len(steps_pl) > 1:
        spread = statistics.stdev(steps_pl)
        t = _T_95[min(len(steps_pl) - 1, len(_T_95)) - 1]
        uncertainty = t * spread / math.sqrt(len(steps_pl))
    return Calibration(
        steps=steps,
        step_pl=mean,
        steps_pl=steps_pl,
        spread_pl=spread,
        uncertainty_pl=uncertainty,
        density_ng_ml=density_ng_ml,
        evaporated_ng=evaporated_ng,
        buoyancy=buoyancy,
        warnings=tuple(
            _warnings(steps_pl, mean, spread, uncertainty, evaporated_ng, masses_ng, present_pl)
        ),
    )


def _warnings(
    steps_pl: Sequence[float],
    mean: float,
    spread: float | None,
    uncertainty: float | None,
    evaporated_ng: float,
    masses_ng: Sequence[int],
    present_pl: int | None,
) -> list[str]:
    found: list[str] = []
    if len(steps_pl) < _FEW_REPEATS:
        found.append(f"{len(steps_pl)} repeats tell little; make at least {_FEW_REPEATS}")
    if spread is not None and spread > _MOST_SPREAD * mean:
        worst = max(steps_pl, key=lambda each: abs(each - mean))
        found.append(
            f"the repeats spread by {spread / mean:.1%} (more than {_MOST_SPREAD:.0%}), repeat "
            f"{steps_pl.index(worst) + 1} most: look for air, leaks and lost steps first"
        )
    if uncertainty is not None and uncertainty > _MOST_UNCERTAINTY * mean:
        found.append(
            f"the mean is uncertain by {uncertainty / mean:.1%} (more than "
            f"{_MOST_UNCERTAINTY:.1%}): deliver more, or repeat more often"
        )
    if evaporated_ng > _MOST_EVAPORATED * min(masses_ng):
        found.append(
            f"{evaporated_ng / min(masses_ng):.1%} evaporated meanwhile: cover the vessel"
        )
    if present_pl is not None and abs(mean / present_pl - 1) > _MOST_CHANGE:
        found.append(
            f"it is {mean / present_pl:.3g} times the present {present_pl:,} pL: are the steps "
            "(micro-steps?), the unit of the masses and the gearing right?"
        )
    return found
