"""Pulses while the pump has other things to do: telemetry flooded, flash erased."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from cisterna import Bench, Programmer
from cisterna.programmer import connect
from cisterna.transport import Link
from hil_tests.evidence import Measured
from hil_tests.pulses import commission
from hil_tests.test_delivery import BIG

SPACING_US = 360_000  # 24 mL/day, the fastest there is, at 0.1 uL a step
RECORD_STEPS = 20  # of a bolus for one record of the account, see motion._BOLUS_RESERVE_PL
RECORD_US = RECORD_STEPS * SPACING_US
RECORDS = 60  # of the whole bolus: several times as many as there are between two erases
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


def _run_to_an_erase(bench: Bench) -> int:
    """Let records of the account be written, one a turn, until a block was erased; how many."""
    before = bench.truth()["flash_erases"]
    for records in range(1, RECORDS // 3):
        bench.advance(us=RECORD_US)
        if bench.truth()["flash_erases"] > before:
            return records
    pytest.fail("no erase: nothing to be disturbed by")


def _flood(bench: Bench, link: Link, request: bytes, chance: random.Random, us: int) -> None:
    """Garbage and valid requests, more than the pump can take."""
    for _ in range(us // FLOOD_US):
        garbage = chance.randbytes(FLOOD_OCTETS - len(request)).replace(CTRL_C, b"\x04")
        link.write(garbage + request)
        bench.advance(us=FLOOD_US)
        link.read(0)


@pytest.mark.requirement("DEL-2")
@pytest.mark.needs("advance", "edges", "truth", "refill")
def test_pulses_are_even_while_flooded_and_erasing(
    bench: Bench,
    pump: Programmer,
    seed: int,
    measured: Measured,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The account's records, one every 20 steps, bring an erase about every 15th time: one of
    them comes while telemetry is flooded."""
    chance = random.Random(seed)
    commission(bench, pump, replace(BIG, rate_nl_day=12_000_000))
    recorded = Recorded(bench.link())
    with connect(recorded, keys=bench.keys) as talker:
        talker.status()
        request = recorded.written  # the same again is answered again
    seen = len(bench.edges())
    pump.bolus(RECORDS * RECORD_STEPS * 100, RECORDS * RECORD_US)
    pump.close()
    began_us = bench.truth()["time_us"]
    before = bench.truth()["flash_erases"]

    bench.advance(us=RECORD_US // 2)  # between two records
    _run_to_an_erase(bench)
    between = _run_to_an_erase(bench)
    bench.advance(us=(between - 2) * RECORD_US)
    link = bench.link()
    calm = bench.truth()["flash_erases"]
    for _ in range(3):  # a flood from a period and more before the record until it is written
        bench.advance(us=RECORD_US // 2 - 5 * SPACING_US // 4)
        _flood(bench, link, request, chance, 3 * SPACING_US // 2)
        if bench.truth()["flash_erases"] > calm:
            break
        bench.advance(us=RECORD_US // 2 - SPACING_US // 4)
    else:
        pytest.fail(f"no erase in the flood, after {between} records between the two before")
    bench.advance(us=2 * RECORD_US)
    erases = bench.truth()["flash_erases"] - before
    ended_us = bench.truth()["time_us"]
    assert ended_us - began_us < RECORDS * RECORD_US, "the bolus was over before the flood was"
    with bench.programmer() as after:
        after.cancel_bolus()
        basal_us = bench.truth()["time_us"]
        bench.advance(us=8 * 2 * SPACING_US)
        assert after.status().fault_text == ""

    edges = bench.edges()[seen:]
    rises = [edge.t_ns for edge in edges if edge.line == "step" and edge.level == 1]
    # The first may have come before the answer did.
    bolus = [rise for rise in rises if began_us * 1000 < rise < ended_us * 1000]
    gaps = [later - earlier for earlier, later in itertools.pairwise(bolus)]
    off = max(abs(gap - SPACING_US * 1000) for gap in gaps)
    basal = [rise for rise in rises if rise > basal_us * 1000]
    basal_gaps = [later - earlier for earlier, later in itertools.pairwise(basal)]
    basal_off = max(abs(gap - 2 * SPACING_US * 1000) for gap in basal_gaps)
    measured("DEL-2", off / 1000, f"us off in a bolus, flooded, {erases} erases")
    measured("DEL-2", basal_off / 1e6, "ms off at a basal rate after it")
    with capsys.disabled():
        print(
            f"\nspacing of {len(bolus)} pulses off by {off / 1000:.3f} us at most, {erases} erases"
            f" in {(ended_us - began_us) / 1e6:.0f} s, one of them in the flood;"
            f" then basal off by {basal_off / 1000:.3f} us",
            end=" ",
        )
    assert len(bolus) >= (ended_us - began_us) // SPACING_US - 1
    assert off < EVEN_NS
    assert len(basal) >= 5
    assert basal_off < LATE_NS
