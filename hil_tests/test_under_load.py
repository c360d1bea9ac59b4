"""Pulses while the pump has other things to do: telemetry flooded, flash erased."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from cisterna import Bench, Programmer
from cisterna.programmer import connect
from cisterna.transport import Link
from hil_tests.pulses import commission
from hil_tests.test_delivery import BIG

SPACING_US = 360_000  # 24 mL/day, the fastest there is, at 0.1 uL a step
STEPS = 24
EVEN_NS = 10_000  # DEL-2 in a bolus
LATE_NS = 1_000_000  # DEL-2 at a basal rate
FLOOD_US = 10_000  # a piece of the flood, and its octets: more than an emulated Pico takes
FLOOD_OCTETS = 160
CTRL_C = b"\x03"  # stops a pump of the development profile, which is what benches run


class Recorded:
    """A link that keeps what is written."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.name = link.name
        self.written = b""

    def now_s(self) -> float:
        return self._link.now_s()

    def write(self, data: bytes) -> None:
        self.written = data
        self._link.write(data)

    def read(self, timeout_s: float) -> bytes:
        return self._link.read(timeout_s)

    def close(self) -> None:
        self._link.close()


@pytest.mark.requirement("DEL-2")
@pytest.mark.needs("advance", "edges", "truth", "refill")
def test_pulses_are_even_while_flooded_and_erasing(
    bench: Bench, pump: Programmer, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(seed)
    commission(bench, pump, replace(BIG, rate_nl_day=12_000_000))
    recorded = Recorded(bench.link())
    with connect(recorded) as talker:
        talker.status()
        request = recorded.written  # the same again is answered again
    flash = bench.truth()
    seen = len(bench.edges())
    pump.bolus(STEPS * 100, STEPS * SPACING_US)
    pump.close()

    # Flash: records of the log until a block has been erased.
    began_us = bench.truth()["time_us"]
    with bench.programmer() as writer:
        for _ in range(40):
            writer.set_clock(1_700_000_000 + chance.randrange(10**6))
            if bench.truth()["flash_erases"] > flash["flash_erases"]:
                break
        else:
            pytest.fail("40 records of the log without an erase: nothing to be disturbed by")
    erased_us = bench.truth()["time_us"] - began_us
    erases = bench.truth()["flash_erases"] - flash["flash_erases"]

    # Telemetry: garbage and valid requests, more than it can take, for three periods.
    link = bench.link()
    for _ in range(3 * SPACING_US // FLOOD_US):
        garbage = chance.randbytes(FLOOD_OCTETS - len(request)).replace(CTRL_C, b"\x04")
        link.write(garbage + request)
        bench.advance(us=FLOOD_US)
        link.read(0)
    flooded_us = bench.truth()["time_us"] - began_us
    assert flooded_us < STEPS * SPACING_US, "the bolus was over before the flood was"
    bench.advance(us=STEPS * SPACING_US - flooded_us + 7 * 2 * SPACING_US)

    with bench.programmer() as after:
        assert after.status().fault_text == ""
    edges = bench.edges()[seen:]
    rises = [edge.t_ns for edge in edges if edge.line == "step" and edge.level == 1]
    # One less than all: the first may have come before the answer did.
    bolus = [rise for rise in rises if rise > began_us * 1000][: STEPS - 1]
    gaps = [later - earlier for earlier, later in itertools.pairwise(bolus)]
    off = max(abs(gap - SPACING_US * 1000) for gap in gaps)
    basal = [rise for rise in rises if rise > (began_us + STEPS * SPACING_US) * 1000]
    basal_gaps = [later - earlier for earlier, later in itertools.pairwise(basal)]
    basal_off = max(abs(gap - 2 * SPACING_US * 1000) for gap in basal_gaps)
    with capsys.disabled():
        print(
            f"\nspacing of {len(bolus)} pulses off by {off / 1000:.3f} us at most, {erases} erases"
            f" in the first {erased_us / 1e6:.2f} s and a flood until {flooded_us / 1e6:.2f} s;"
            f" then basal off by {basal_off / 1000:.3f} us",
            end=" ",
        )
    assert len(bolus) == STEPS - 1
    assert off < EVEN_NS
    assert len(basal) >= 5
    assert basal_off < LATE_NS
