"""How fast the emulated Pico simulates (CST-4), and how much of the time its processor is awake
(CST-6). Figures of one run each."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cisterna.bench_emulated import BOARD, EmulatedBench
from cisterna.boards import board_data
from cisterna.energy import BatteryLife, battery_life
from cisterna.prescription import Therapy

REQUIRED_FACTOR = 20  # CST-4
AIM_FACTOR = 100
AWAKE_LIMIT = 0.01  # CST-6
AWAKE_AIM = 0.001

_THERAPY = Therapy.simple_continuous(
    drug="saline", concentration="1 ug/mL", rate="1 mL/day", capacity="20 mL"
)


@dataclass(frozen=True)
class EmulatedSpeed:
    """One run at 1 mL/day with nobody talking. ``start_seconds``: real ones from power on to the
    first answer, and ``start_us`` the simulated time that took."""

    hours: float
    seconds: float
    steps: int
    awake_us: int
    flash_programs: int
    flash_erases: int
    start_seconds: float
    start_us: int

    @property
    def factor(self) -> float:
        """Simulated over real time."""
        return self.hours * 3600 / self.seconds

    @property
    def awake_share(self) -> float:
        """Share of simulated time in which the processor executed instructions."""
        return self.awake_us / (self.hours * 3.6e9)

    @property
    def life(self) -> BatteryLife:
        """What that makes of a battery."""
        return battery_life(board_data(BOARD), self.awake_share)


def measure(hours: float = 6) -> EmulatedSpeed:
    """Simulate ``hours`` at 1 mL/day and 0.1 uL a step, journalled as shipped."""
    began = time.perf_counter()
    with EmulatedBench(seed=1) as bench:
        start_seconds = time.perf_counter() - began
        start_us = bench.truth()["time_us"]
        with bench.programmer() as pump:
            pump.program(_THERAPY)
            pump.refill(0, _THERAPY.capacity_nl, "first fill")
        before = bench.truth()
        began = time.perf_counter()
        bench.advance(hours=hours)
        seconds = time.perf_counter() - began
        after = bench.truth()

    def more(name: str) -> int:
        return after[name] - before[name]

    return EmulatedSpeed(
        hours=hours,
        seconds=seconds,
        steps=more("steps"),
        awake_us=more("awake_us"),
        flash_programs=more("flash_programs"),
        flash_erases=more("flash_erases"),
        start_seconds=start_seconds,
        start_us=start_us,
    )


def _time(years: float) -> str:
    return f"{years:.2f} years ({years * 365.25:.0f} days)"


def table(speed: EmulatedSpeed) -> list[tuple[str, str]]:
    """The figures as rows for people."""
    life = speed.life
    return [
        ("simulated / real time", f"{speed.factor:,.0f}"),
        ("required (CST-4) / aim", f"{REQUIRED_FACTOR} / {AIM_FACTOR}"),
        ("measured / required", f"{speed.factor / REQUIRED_FACTOR:.1f}"),
        ("processor awake", f"{speed.awake_share:.4%} of the time"),
        ("allowed (CST-6) / aim", f"{AWAKE_LIMIT:.1%} / {AWAKE_AIM:.1%}"),
        ("measured / allowed", f"{speed.awake_share / AWAKE_LIMIT:.3f}"),
        ("battery at most, waiting as it does", _time(life.years)),
        ("battery at most, in light sleep instead", _time(life.lightsleep_years)),
        ("assumed for that", life.assumed),
        ("steps, all accounted for ahead", f"{speed.steps:,}"),
        ("flash programs / erases", f"{speed.flash_programs:,} / {speed.flash_erases:,}"),
        ("start, simulated / real time", f"{speed.start_us / 1e6 / speed.start_seconds:.3f}"),
    ]
