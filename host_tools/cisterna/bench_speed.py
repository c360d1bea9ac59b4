"""How fast the virtual pump simulates (CST-3), and where the time goes. Figures of one run
each."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cisterna.bench_virtual import VirtualBench, compiled_firmware
from cisterna.boards import board_data
from cisterna.errors import CisternaError
from cisterna.prescription import Therapy
from cisterna.vm import find_vm

YEAR_DAYS = 365
REQUIRED_FACTOR = 525_600  # CST-3: a year in 60 s
AIM_FACTOR = 3_153_600  # a year in 10 s

_THERAPY = Therapy.simple_continuous(
    drug="saline", concentration="1 ug/mL", rate="1 mL/day", capacity="400 mL"
)  # a year and more without a refill


@dataclass(frozen=True)
class Speed:
    """One run. ``factor``: simulated over real time. ``flash_programs``: pages of 256 octets;
    ``flash_erases``: blocks of 4 KiB. ``parts``: microseconds of each part of one segment, by its
    name, measured one by one; they need not add up to the whole."""

    days: int
    seconds: float
    steps: int
    flash_programs: int
    flash_erases: int
    parts: dict[str, float]

    @property
    def factor(self) -> float:
        """Simulated over real time."""
        return self.days * 86_400 / self.seconds

    @property
    def seconds_a_year(self) -> float:
        """Real seconds for a simulated year."""
        return YEAR_DAYS * 86_400 / self.factor

    @property
    def us_a_segment(self) -> float:
        """Real microseconds for a segment of five steps, all told."""
        return self.seconds * 1e6 / (self.steps / 5)

    @property
    def rest_us(self) -> float:
        """Microseconds of a segment that no part accounts for."""
        return self.us_a_segment - sum(self.parts.values())


def measure(days: int = YEAR_DAYS) -> Speed:
    """Simulate ``days`` at 1 mL/day and 0.1 uL a step, journalled as shipped, on one core."""
    with VirtualBench(seed=1, trace=False) as bench:
        with bench.programmer() as pump:
            pump.program(_THERAPY)
            bench.refill_reservoir(_THERAPY.capacity_nl)
            pump.refill(0, _THERAPY.capacity_nl, "first fill")
        before = bench.truth()
        start = time.perf_counter()
        bench.advance(days=days)
        seconds = time.perf_counter() - start
        after = bench.truth()
    return Speed(
        days=days,
        seconds=seconds,
        steps=after["steps"] - before["steps"],
        flash_programs=after["flash_programs"] - before["flash_programs"],
        flash_erases=after["flash_erases"] - before["flash_erases"],
        parts=_parts(),
    )


def _parts() -> dict[str, float]:
    """Microseconds of each part of a segment, by ``boards/virtual/segment_cost.py``."""
    data = board_data("virtual")
    with tempfile.TemporaryDirectory(prefix="cisterna-") as folder:
        flash = Path(folder, "flash.bin")
        flash.write_bytes(b"\xff" * data["flash"]["blocks"] * data["flash"]["block_size"])
        environment = {**os.environ, "MICROPYPATH": f"{compiled_firmware()}:.frozen"}
        heap = f"heapsize={data['memory']['heap']}"
        done = subprocess.run(
            [find_vm(), "-X", heap, "-m", "segment_cost", str(flash)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    if done.returncode:
        raise CisternaError(f"segment_cost failed: {done.stderr.strip() or done.stdout.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def table(speed: Speed) -> list[tuple[str, str]]:
    """The figures as rows for people."""
    rows = [
        ("simulated / real time", f"{speed.factor:,.0f}"),
        ("required (CST-3) / aim", f"{REQUIRED_FACTOR:,} / {AIM_FACTOR:,}"),
        ("measured / required", f"{speed.factor / REQUIRED_FACTOR:.2f}"),
        ("a simulated year takes", f"{speed.seconds_a_year:.1f} s"),
        ("steps, all accounted for ahead", f"{speed.steps:,}"),
        ("flash programs / erases", f"{speed.flash_programs:,} / {speed.flash_erases:,}"),
        ("one segment of 5 steps", f"{speed.us_a_segment:.1f} us"),
    ]
    for name, us in [*speed.parts.items(), ("rest", speed.rest_us)]:
        share = us / speed.us_a_segment
        rows.append((f"  {name}", f"{us:.1f} us, {share:.0%}"))
    return rows
