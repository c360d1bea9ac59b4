"""What happens on the pins during a bolus, from edges that the pump did not report."""

from __future__ import annotations

import itertools

import pytest

from cisterna import Bench, Programmer
from cisterna.bench import Edge
from hil_tests.pulses import commission
from hil_tests.test_delivery import BIG

BOLUS_STEPS = 40
SPACING_NS = 3_000_000_000
EVEN_NS = 10_000  # DEL-2 in a bolus
LATE_NS = 1_000_000  # DEL-2 at a basal rate


@pytest.mark.on_chip
@pytest.mark.needs("advance", "edges", "truth", "refill")
def test_a_bolus_on_the_step_pin(bench: Bench, pump: Programmer) -> None:
    commission(bench, pump, BIG)
    bench.advance(seconds=20)
    seen = len(bench.edges())
    before = bench.truth()
    pump.bolus("4 uL", over="2 min")
    bench.advance(seconds=130)
    edges = bench.edges()[seen:]
    pump.stop()
    bench.advance(seconds=30)
    after = bench.truth()

    assert _level(bench.edges(), "enable") == 0  # the driver chip is off once delivery is stopped
    rises = [edge.t_ns for edge in edges if edge.line == "step" and edge.level == 1]
    bolus = rises[:BOLUS_STEPS]
    assert len(bolus) == BOLUS_STEPS
    for earlier, later in itertools.pairwise(bolus):
        assert abs(later - earlier - SPACING_NS) < EVEN_NS
    # The basal rate goes on with the part of a step that was due, an 8.64 s step at a time.
    assert len(rises) - BOLUS_STEPS in (1, 2)
    assert rises[BOLUS_STEPS] - bolus[-1] <= 8_640_000_000 + LATE_NS
    falls = [edge.t_ns for edge in edges if edge.line == "step" and edge.level == 0]
    assert len(falls) == len(rises)
    assert all(fall - rise >= 1_000 for rise, fall in zip(rises, falls, strict=True))
    assert not [edge for edge in edges if edge.line == "dir"]
    assert after["steps"] - before["steps"] == len(rises)
    assert after["reverse_steps"] == 0


def _level(edges: list[Edge], line: str) -> int:
    return [edge.level for edge in edges if edge.line == line][-1]
