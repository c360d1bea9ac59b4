"""What the firmware costs on a stock Pico: memory, time to start, waking time, interrupts off.
The tests judge one bench in turn; each says what it adds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cisterna import Bench
from cisterna.boards import board_data
from cisterna.energy import battery_life
from cisterna.errors import Refused
from hil_tests.evidence import Measured
from hil_tests.pulses import commission
from hil_tests.test_delivery import BIG

pytestmark = pytest.mark.needs("advance", "truth", "edges", "power", "refill", "chip")

HEAP = 120 * 1024  # CST-1
SAFE_US = 100_000  # CST-2
DELIVERY_US = 2_000_000
AWAKE = 0.01  # CST-6
SPAN_NS = 1_000_000  # CST-7
ERASED_PAGES = 4  # littlefs's cache, programmed at once into a block that it has just erased
ERASES_A_RECORD = 0.1
BASAL_RESERVE_PL = 500_000  # a durable record for so much, see motion._BASAL_RESERVE_PL


@pytest.fixture(scope="module")
def delivering(module_bench: Bench) -> Bench:
    """Delivers 1 mL/day."""
    with module_bench.programmer() as pump:
        commission(module_bench, pump, BIG)
    return module_bench


@pytest.mark.requirement("CST-6")
def test_the_processor_sleeps(
    delivering: Bench, measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = delivering
    bench.advance(seconds=20)
    before = bench.truth()
    bench.advance(minutes=30)
    after = bench.truth()
    share = (after["awake_us"] - before["awake_us"]) / (after["time_us"] - before["time_us"])
    life = battery_life(board_data("rpi_pico"), share)
    measured("CST-6", share * 100, f"% awake; a battery lasts {life.years:.2f} years at most")
    with capsys.disabled():
        print(
            f"\n1 mL/day, nobody talking: awake {share:.3%} of the time; a battery lasts at most"
            f" {life.years:.2f} years, {life.lightsleep_years:.2f} if it slept lightly; assumed:"
            f" {life.assumed}",
            end=" ",
        )
    assert after["steps"] - before["steps"] in (208, 209)
    assert share <= AWAKE


@pytest.mark.on_chip
@pytest.mark.requirement("CST-2", "DEL-7")
def test_starts_safe_and_soon(
    delivering: Bench, measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    """MicroPython runs boot.py, which makes the outputs safe, before main.py, so the time from
    power on bounds what is asked for."""
    bench = delivering
    bench.cut_power()
    bench.advance(seconds=1)
    seen = len(bench.edges())
    on_us = bench.truth()["time_us"]
    bench.power_on()
    bench.advance(seconds=2)
    edges = bench.edges()[seen:]
    safe_us = bench.safe_since_us() - on_us
    enabled = [edge.t_ns for edge in edges if edge.line == "enable" and edge.level == 1]
    assert enabled
    delivery_us = enabled[0] // 1000 - on_us
    measured("CST-2", safe_us / 1000, "ms from power on to safe outputs")
    measured("CST-2", delivery_us / 1000, "ms from power on to delivery")
    with capsys.disabled():
        print(
            f"\nfrom power on: outputs safe after {safe_us / 1000:.1f} ms, delivery after"
            f" {delivery_us / 1000:.0f} ms",
            end=" ",
        )
    assert 0 < safe_us <= SAFE_US
    assert delivery_us <= DELIVERY_US
    assert edges[0].line == "enable"  # nothing moves before the programme runs
    assert not [e for e in edges if e.line == "step" and e.t_ns <= enabled[0]]


@pytest.mark.on_chip
@pytest.mark.requirement("CST-1")
def test_heap_stays(
    delivering: Bench, full: bool, measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    """Traffic of every kind; as much as a day of one exchange every five minutes in full."""
    bench = delivering
    bench.cut_power()
    bench.power_on()
    with bench.programmer() as pump:
        before = pump.heap_free()
        for exchange in range(288 if full else 8):
            pump.status()
            pump.account()
            pump.prescription()
            pump.log(max(pump.status().next_event - 3, 0))
            if exchange % 4 == 0:
                pump.program(replace(BIG, rate_nl_day=1_000_000 + exchange * 1000))
            if exchange % 4 == 1:
                with pytest.raises(Refused):
                    pump.bolus("10 mL", over="1 h")
            if exchange % 4 == 2:
                pump.bolus("1 uL", over="10 s")
                pump.cancel_bolus()
            if exchange % 4 == 3:
                pump.stop()
                pump.resume()
            bench.link().write(bytes(range(4, 256)))  # without 03, which stops a development pump
            bench.advance(seconds=300 if full else 10)
        after = pump.heap_free()
    measured("CST-1", before, "octets free after boot")
    measured("CST-1", after, "octets free after traffic")
    with capsys.disabled():
        print(f"\nfree heap: {before} octets after boot, {after} after traffic", end=" ")
    assert before >= HEAP
    assert after >= HEAP
    assert abs(after - before) <= 2_048


def _sorted_spans(
    spans: list[tuple[int, int, int, int]],
) -> tuple[list[int], list[int], list[int]]:
    """Lengths of the spans: in which a page or nothing was programmed, in which a block was
    erased, and in which that block next got what it held before, up to ERASED_PAGES at once."""
    plain: list[int] = []
    erasing: list[int] = []
    refilling: list[int] = []
    erased_now = False
    for since, until, erased, programmed in spans:
        kind = erasing if erased else refilling if erased_now and programmed else plain
        kind.append(until - since)
        if kind is not plain:
            erased_now = bool(erased) or programmed == ERASED_PAGES
    return plain, erasing, refilling


@pytest.mark.requirement("CST-7")
def test_interrupts_are_off_for_a_page_at_most(
    delivering: Bench, full: bool, measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    """The account's records while it delivers fast, those of the log, and a stop and resume."""
    bench = delivering
    with bench.programmer() as pump:
        pump.program(replace(BIG, rate_nl_day=24_000_000))
        bench.interrupts_off()
        bench.advance(seconds=2)
        before = bench.truth()
        bench.advance(seconds=400 if full else 90)
        after = bench.truth()
        records = (after["steps"] - before["steps"]) * 100_000 / BASAL_RESERVE_PL
        account = (after["flash_erases"] - before["flash_erases"]) / records
        events = 144 if full else 14
        for second in range(events):
            pump.set_clock(1_700_000_000 + second)
        pump.stop()
        pump.resume()
        spans = bench.interrupts_off()
    plain, erasing, refilling = _sorted_spans(spans)
    programs = sum(programmed for _, _, _, programmed in spans)
    measured("CST-7", max(plain) / 1e6, "ms interrupts off at most, no block erased")
    measured("CST-7", account, "erases a record of the account")
    with capsys.disabled():
        print(
            f"\ninterrupts off {max(plain) / 1e6:.3f} ms at most in {programs} programs of a page;"
            f" where a block was erased {max(erasing, default=0) / 1e6:.1f} ms and then"
            f" {max(refilling, default=0) / 1e6:.3f} ms for what it held; erases per record"
            f" of the account: {account:.3f} of {records:.0f}",
            end=" ",
        )
    assert programs >= records + events
    assert max(plain) <= SPAN_NS
    assert account <= ERASES_A_RECORD
