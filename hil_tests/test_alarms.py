"""Alarms, faults and the supervisor on a bench: the plant does what it should not, the pump
notices from the rotor sensor, says so and is heard; a pump that hangs is reset."""

from __future__ import annotations

import pytest

from cisterna import Bench
from cisterna.boards import board_data
from cisterna.errors import CisternaError
from cisterna.programmer import Programmer
from hil_tests.pulses import commission
from hil_tests.test_delivery import BIG
from pump_wire import messages

STEP_PL = 100_000
LIMIT_PL = 20_000_000  # ALM-3: 0.02 mL
LIMIT_S = 20 * 60


def _names(pump: Programmer) -> list[str]:
    return [alarm.name for alarm in pump.alarms().listed]


@pytest.mark.on_chip
@pytest.mark.needs("advance", "truth", "inject", "rotor", "tone", "refill", "edges")
@pytest.mark.requirement("ALM-3", "ALM-5")
def test_a_stall_is_seen_heard_and_leaves_the_account(
    bench: Bench, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with bench.programmer() as pump:
        commission(bench, pump, BIG)  # 1 mL/day
        bench.advance(minutes=2)
        bench.inject("stall")
        from_us = bench.truth()["time_us"]
        from_pulses = bench.truth()["pulses"]
        while "stall" not in _names(pump):
            bench.advance(seconds=10)
            assert bench.truth()["time_us"] - from_us <= LIMIT_S * 1_000_000
        seen_us = bench.truth()["time_us"] - from_us
        missed_pl = (bench.truth()["pulses"] - from_pulses) * STEP_PL
        bench.advance(hours=6 if full else 0, minutes=5)
        account, truth = pump.account(), bench.truth()
        off_pl = account.lifetime_pl - truth["steps"] * STEP_PL
        bench.clear("stall")
        bench.advance(minutes=5)
        told = [event.name for event in pump.log()]
        after_pl = pump.account().lifetime_pl - bench.truth()["steps"] * STEP_PL
    heard = [
        edge
        for edge in bench.edges()
        if edge.line == "tone" and edge.level and edge.t_ns // 1000 >= from_us
    ]
    with capsys.disabled():
        print(f"\na stall was seen after {seen_us / 1e6:.0f} s; account off {off_pl} pL", end=" ")
    assert missed_pl <= LIMIT_PL
    assert 0 <= off_pl <= LIMIT_PL
    assert 0 <= after_pl <= LIMIT_PL
    assert [told.count(name) for name in ("rotor_stalled", "rotor_follows", "volume_missed")] == [
        1,
        1,
        1,
    ]
    assert heard
    assert {2_600, 2_000} <= {round(edge.level, -2) for edge in heard[:6]}
    assert heard[0].t_ns // 1000 - from_us <= seen_us + 1_000_000


@pytest.mark.needs("advance", "truth", "inject", "edges", "tone", "refill", "days")
@pytest.mark.requirement("FLT-2")
@pytest.mark.parametrize("where", ["loop", "handler", "telemetry"])
def test_a_pump_that_hangs_is_reset(bench: Bench, where: str) -> None:
    timeout_us = board_data("virtual")["watchdog"]["timeout_ms"] * 1000
    with bench.programmer() as pump:
        commission(bench, pump, BIG)
    bench.advance(minutes=10)
    from_us = bench.truth()["time_us"]
    bench.inject(f"hang_{where}")
    if where == "loop":
        bench.advance(seconds=1)
    else:
        with pytest.raises(CisternaError), bench.programmer() as pump:
            pump.status()
    truth = bench.truth()
    assert truth["resets"] == 1
    bench.advance(seconds=10)
    off = [edge for edge in bench.edges() if edge.line == "enable" and not edge.level]
    reset_us = off[-1].t_ns // 1000  # the driver is let go in the reset itself
    assert reset_us - from_us <= 2 * timeout_us
    with bench.programmer() as pump:
        assert pump.identity.reset_cause == messages.RESET_CAUSES.index("watchdog")
        assert "watchdog_reset" in _names(pump)
        assert [fault.name for fault in pump.faults()][-1] == "watchdog_reset"
        assert pump.status().mode_name == "simple continuous"


@pytest.mark.needs("advance", "truth", "inject", "refill", "days")
@pytest.mark.requirement("DEL-8", "DEL-7")
@pytest.mark.parametrize("us", [3_600_000_000, 2_000_000, -10_000_000])
def test_a_counter_that_jumps_stops_the_motor(bench: Bench, us: int) -> None:
    """The pump's clock only goes forward: a counter that falls back has come round."""
    with bench.programmer() as pump:
        commission(bench, pump, BIG)
        bench.advance(minutes=10)
        due = bench.truth()["steps"]
        bench.inject("clock_jump", amount=us)
        bench.advance(minutes=10)
        truth = bench.truth()
        status = pump.status()
    if us == 2_000_000:  # less than a step takes: nobody can tell, and it is one step at most
        assert 69 <= truth["steps"] - due <= 71
        assert status.fault == 0
        return
    assert truth["steps"] - due <= 5  # what was reserved
    assert messages.FAULTS[status.fault][0] == "step_late"
    assert status.mode_name == "stopped"
    bench.cut_power()
    bench.power_on()
    with bench.programmer() as pump:
        assert pump.status().mode_name == "simple continuous"


@pytest.mark.needs("advance", "truth", "inject", "edges", "power", "refill", "days")
@pytest.mark.requirement("FLT-1", "FLT-2", "DEL-8")
def test_a_clock_that_stands_resets_and_then_moves_nothing(bench: Bench) -> None:
    with bench.programmer() as pump:
        commission(bench, pump, BIG)
    bench.advance(minutes=10)
    steps = bench.truth()["steps"]
    bench.inject("clock_stop")
    bench.advance(hours=1)
    truth = bench.truth()
    assert truth["resets"] == 1
    off = [edge for edge in bench.edges() if edge.line == "enable"][-1]
    assert off.level == 0
    with bench.programmer() as pump:
        status = pump.status()
        assert messages.FAULTS[status.fault][0] == "self_test_failed"
        assert status.fault_text.startswith("clock")
        assert bench.truth()["steps"] - steps <= 5
    bench.clear("clock_stop")
    bench.cut_power()
    bench.power_on()
    before = bench.truth()["steps"]
    bench.advance(hours=1)
    assert bench.truth()["steps"] - before in (416, 417)


@pytest.mark.needs("advance", "truth", "inject", "power", "refill", "days")
@pytest.mark.requirement("FLT-3")
@pytest.mark.parametrize("fault", ["memory_pressure", "flash_fails"])
def test_what_the_chip_has_no_more_stops_it_or_changes_nothing(bench: Bench, fault: str) -> None:
    with bench.programmer() as pump:
        commission(bench, pump, BIG)
    bench.advance(minutes=10)
    for amount in (1, 2, 3) if fault == "flash_fails" else (4_096, 2_048, 1_024):
        before = bench.truth()["steps"]
        bench.inject(fault, amount=amount)
        bench.advance(hours=1)
        moved = bench.truth()["steps"] - before
        bench.clear(fault)
        with bench.programmer() as pump:
            status = pump.status()
        if status.fault:
            assert moved <= 417
            assert status.mode_name == "stopped"
            bench.cut_power()
            bench.power_on()
        else:
            assert moved in (416, 417)
        before = bench.truth()["steps"]
        bench.advance(hours=1)
        assert bench.truth()["steps"] - before in (416, 417), (amount, status.fault_text)


@pytest.mark.needs("advance", "truth", "inject", "refill", "days")
def test_too_little_memory_for_the_bench_is_refused(bench: Bench) -> None:
    with bench.programmer() as pump:
        commission(bench, pump, BIG)
    for octets in (1, 1_023, -1):
        with pytest.raises(CisternaError, match=f"{octets} octets left: 0, or 1024 at least"):
            bench.inject("memory_pressure", amount=octets)
    before = bench.truth()["steps"]
    bench.advance(hours=1)
    assert bench.truth()["steps"] - before in (416, 417)
