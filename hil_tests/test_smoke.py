"""What any pump does for anybody: no instrument is needed, so a board alone on a desk runs these.
What the pump says of itself is no proof of delivery."""

from __future__ import annotations

import time

import pytest

from cisterna import Bench, Programmer
from cisterna.boards import board_names
from hil_tests.test_delivery import BIG


def test_pump_says_what_it_is(pump: Programmer) -> None:
    who = pump.identity
    assert who.board in board_names()
    assert len(who.serial) == 8
    assert who.boots >= 1
    assert pump.status().fault == 0


def test_therapy_is_taken_stopped_and_resumed(pump: Programmer) -> None:
    pump.program(BIG)
    assert pump.prescription() == BIG
    pump.refill(0, BIG.capacity_nl, "first fill")
    assert pump.status().mode_name == "simple continuous"
    pump.stop()
    assert pump.status().mode_name == "stopped"
    pump.resume()
    assert pump.status().mode_name == "simple continuous"
    pump.stop()


@pytest.mark.needs("advance")
def test_the_pump_s_clock_runs(bench: Bench, pump: Programmer) -> None:
    began, before_us = time.monotonic(), pump.status().uptime_us
    bench.advance(seconds=2)
    passed_us = pump.status().uptime_us - before_us
    if "truth" in bench.offers:  # the bench has the time
        assert 2_000_000 <= passed_us < 2_500_000
    else:  # the desk has; it went on while the pump was asked
        took_us = (time.monotonic() - began) * 1e6
        assert 0 < passed_us <= took_us * 1.001 + 1_000


@pytest.mark.needs("advance")
def test_steps_are_counted_at_the_programmed_rate(bench: Bench, pump: Programmer) -> None:
    """4 uL in a minute is a step of 0.1 uL every 1.5 s."""
    pump.program(BIG)
    pump.refill(0, BIG.capacity_nl, "first fill")
    if pump.status().mode_name == "stopped":  # a board alone keeps what the last test did
        pump.resume()
    pump.bolus("4 uL", over="1 min")
    before = pump.status()
    bench.advance(seconds=4)
    after = pump.status()
    passed_us = after.uptime_us - before.uptime_us
    pump.stop()
    due = passed_us / 1_500_000  # 40 steps in a minute
    assert abs(after.steps - before.steps - due) <= 1
