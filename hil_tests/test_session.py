"""Sessions as a clinician meets them: how long an answer takes, how a pump is paired, what a
change leaves in the log."""

from __future__ import annotations

import statistics
import time

import pytest

from cisterna import Bench
from cisterna.keys import KeyStore
from cisterna.programmer import Programmer
from hil_tests.evidence import Measured
from hil_tests.pulses import commission
from hil_tests.test_delivery import BIG
from pump_wire import messages

VIRTUAL_MS = 10  # CST-5
EMULATED_MS = 50


@pytest.mark.on_chip
@pytest.mark.requirement("CST-5")
@pytest.mark.needs("advance", "truth", "refill")
def test_a_status_is_answered_in_time(
    bench: Bench, pump: Programmer, measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the pump's clock where time moves while a reply is awaited, else by this computer's."""
    commission(bench, pump, BIG)
    simulated = "chip" in bench.offers
    took_ms: list[float] = []
    for _ in range(20 if simulated else 200):
        if simulated:
            bench.advance(us=7_001)
        from_us, began = bench.truth()["time_us"], time.perf_counter()
        pump.status()
        passed_us = bench.truth()["time_us"] - from_us
        took_ms.append(passed_us / 1e3 if simulated else (time.perf_counter() - began) * 1e3)
    median = statistics.median(took_ms)
    limit = EMULATED_MS if simulated else VIRTUAL_MS
    measured("CST-5", median, f"ms median, {max(took_ms):.1f} at most, status in a session")
    with capsys.disabled():
        print(f"\nstatus: median {median:.2f} ms, at most {max(took_ms):.2f} ms", end=" ")
    assert median <= limit


@pytest.mark.requirement("SEC-2")
@pytest.mark.needs("advance", "truth", "service", "refill")
def test_a_pump_is_paired_by_hand_and_delivers_meanwhile(
    bench: Bench, pump: Programmer, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a key store of its own, while steps are 0.36 s apart: none of them is late."""
    commission(bench, pump, BIG)
    bench.advance(seconds=30)
    before, from_us = bench.truth()["steps"], bench.truth()["time_us"]
    mine = KeyStore(None)
    with Programmer(bench.link(), "patient", keys=mine) as other:
        with bench.hold_service():
            began_us = bench.truth()["time_us"]
            other.session.pair()
            took_us = bench.truth()["time_us"] - began_us
        other.authenticate()
        assert other.status().fault == 0
    with capsys.disabled():
        print(f"\npaired in {took_us / 1e6:.2f} s of the bench's time", end=" ")
    bench.advance(seconds=30)
    passed_s = (bench.truth()["time_us"] - from_us) / 1e6
    due = passed_s * BIG.rate_nl_day / 86_400 / 100
    assert abs(bench.truth()["steps"] - before - due) <= 1.5
    assert pump.status().fault == 0


@pytest.mark.requirement("SEC-8")
@pytest.mark.needs("advance", "truth", "refill", "edges", "tone")
def test_a_change_sounds_and_is_in_the_log_with_the_role_of_who_made_it(
    bench: Bench, pump: Programmer
) -> None:
    commission(bench, pump, BIG)
    first = pump.status().next_event
    bench.advance(seconds=10)
    quiet = len([edge for edge in bench.edges() if edge.line == "tone"])
    from_ns = bench.truth()["time_us"] * 1000
    pump.status()
    bench.advance(seconds=3)
    assert len([edge for edge in bench.edges() if edge.line == "tone"]) == quiet
    done = pump.stop()
    bench.advance(seconds=2)
    tones = [edge for edge in bench.edges() if edge.line == "tone"][quiet:]
    assert tones
    assert tones[0].level > 0
    assert tones[0].t_ns - from_ns < 5 * 10**9
    bench.advance(minutes=3)  # the session is over; the next message opens another
    events = {event.sequence: event for event in pump.events(first)}
    assert events[done.event].name == "delivery_stopped"
    assert events[done.event].role == messages.CLINICIAN
    assert events[done.event].cause == pump.status().last_token[0] | (
        pump.status().last_token[1] << 8
    )
