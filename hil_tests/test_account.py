"""The reservoir account against the plant."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cisterna import Bench, Programmer, Therapy
from cisterna.errors import Refused
from hil_tests.evidence import Measured
from hil_tests.pulses import commission, refill
from pump_wire.messages import MINIMUM_RATE, SIMPLE_CONTINUOUS

FAST = Therapy(
    drug="saline",
    concentration_ng_ml=1_000,
    mode=SIMPLE_CONTINUOUS,
    rate_nl_day=24_000_000,
    capacity_nl=500_000_000,
    low_mark_nl=2_000_000,
)

BLOCK_ERASES = 100_000  # of one block of the Pico's W25Q16JV: its data sheet, section 1
SERVICE_YEARS = 20
LOG_CYCLE = 3 * 72  # three times what the slots of the log hold, see pump/eventlog.py


@pytest.mark.requirement("ACC-1")
@pytest.mark.needs("advance", "days", "truth", "refill")
def test_fill_less_delivered_is_residual(
    bench: Bench, pump: Programmer, seed: int, full: bool, measured: Measured
) -> None:
    wanted = 1_000_000 if full else 50_000
    chance = random.Random(seed)
    commission(bench, pump, FAST)
    step_pl = pump.status().step_pl
    at_refill = 0
    queries = 0
    while bench.truth()["steps"] < wanted:
        deed = chance.randrange(8)
        if deed == 0:
            pump.program(replace(FAST, rate_nl_day=chance.randrange(48, 24_001) * 1000))
        elif deed == 1:
            pump.program(replace(FAST, mode=MINIMUM_RATE, rate_nl_day=0))
        elif deed == 2:
            pump.program(FAST)
        elif deed in (3, 4):
            try:
                pump.bolus(chance.randrange(1, 5_000_000), chance.randrange(1, 240) * 60_000_000)
            except Refused as refusal:
                assert refusal.name in ("bolus_running", "below_limit", "wrong_mode")
        elif deed == 5:
            pump.stop()
            pump.resume()
        elif deed == 6 and chance.random() < 0.3:
            refill(bench, pump, FAST)
            at_refill = bench.truth()["steps"]
        bench.advance(us=chance.randrange(1, 7_200_000_000))
        account = pump.account()
        truth = bench.truth()
        assert account.fill_pl - account.delivered_pl == account.residual_pl
        assert account.delivered_pl == (truth["steps"] - at_refill) * step_pl
        assert account.lifetime_pl == truth["steps"] * step_pl == truth["delivered_pl"]
        assert account.residual_pl == truth["residual_pl"]
        assert 0 <= account.bolus_pl <= account.delivered_pl
        queries += 1
    measured("ACC-1", queries, f"queries exact, {bench.truth()['steps']:,} steps")
    assert queries > (100 if full else 10)


@pytest.mark.needs("advance", "truth", "refill", "power")
def test_a_refill_survives_a_power_cut(bench: Bench, pump: Programmer) -> None:
    commission(bench, pump, FAST)
    bench.advance(minutes=10 if "days" in bench.offers else 1)
    refill(bench, pump, FAST)
    before = pump.account()
    pump.close()
    bench.cut_power()
    bench.power_on()
    with bench.programmer() as again:
        after = again.account()
        assert after.fill_pl == before.fill_pl == FAST.capacity_nl * 1000
        assert after.refills == before.refills == 2
        assert after.measured_pl == before.measured_pl
        assert after.reason == before.reason == "scheduled"
        assert again.prescription() == FAST


@pytest.mark.requirement("ACC-2")
@pytest.mark.needs("advance", "truth", "refill", "power")
def test_a_power_cut_never_leaves_the_account_short(
    bench: Bench, pump: Programmer, seed: int, measured: Measured
) -> None:
    """The bounds that a segment's reservation sets: 0.5 uL at a basal rate, 2 uL in a bolus."""
    chance = random.Random(seed)
    commission(bench, pump, FAST)
    pump.close()
    over_before = 0
    cuts, most_us = (20, 300_000_000) if "days" in bench.offers else (2, 30_000_000)
    for cut in range(cuts):
        bolus = cut % 2 == 1
        with bench.programmer() as clinician:
            if bolus:
                clinician.bolus("500 uL", over="30 min")
        bench.advance(us=chance.randrange(1_000_000, most_us))
        bench.cut_power()
        bench.power_on()
        with bench.programmer() as clinician:
            over = clinician.account().lifetime_pl - bench.truth()["delivered_pl"]
            where = "bolus" if bolus else "basal"
            measured("ACC-2", (over - over_before) / 1e6, f"uL too much, {where}")
            assert 0 <= over - over_before <= (2_000_000 if bolus else 500_000)
            over_before = over
            assert clinician.status().mode_name == "simple continuous"


@pytest.mark.requirement("CST-7")
@pytest.mark.needs("advance", "truth", "refill")
def test_records_of_the_log_rarely_erase(
    bench: Bench,
    pump: Programmer,
    full: bool,
    measured: Measured,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each setting of the clock is one record, durable before the answer. Erases come in bursts:
    LOG_CYCLE records fill the slots and compact all their folders once."""
    if not full and "days" not in bench.offers:
        pytest.skip("216 records take minutes on this bench: --full")
    commission(bench, pump, FAST)
    pump.stop()
    first = pump.status().next_event
    before = bench.truth()
    for second in range(LOG_CYCLE):
        pump.set_clock(1_700_000_000 + second)
    after = bench.truth()
    assert pump.status().next_event == first + LOG_CYCLE
    erases = after["flash_erases"] - before["flash_erases"]
    measured("CST-7", erases / LOG_CYCLE, "erases a record of the log")
    with capsys.disabled():
        print(f"\nlog: {erases} erases for {LOG_CYCLE} records", end=" ")
    assert after["flash_programs"] - before["flash_programs"] >= LOG_CYCLE
    assert erases / LOG_CYCLE <= 0.1


@pytest.mark.requirement("ACC-8")
@pytest.mark.needs("advance", "days", "truth", "refill")
def test_flash_outlives_the_pump(
    bench: Bench, pump: Programmer, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 1 mL/day with a bolus, a report of the clock and a stop a day, refilled each fortnight:
    the block erased most often sets the life. littlefs moves on after 100 erases of a block, so a
    longer run tells of a longer life."""
    therapy = replace(FAST, rate_nl_day=1_000_000, capacity_nl=20_000_000)
    commission(bench, pump, therapy)
    before = bench.truth()
    days = 365 if full else 28
    for day in range(days):
        pump.bolus("20 uL", over="10 min")
        bench.advance(hours=24)
        pump.set_clock(1_700_000_000 + day * 86_400)
        pump.stop()
        pump.resume()
        if day % 14 == 13:
            refill(bench, pump, therapy)
    after = bench.truth()
    erases = after["flash_erases"] - before["flash_erases"]
    assert erases > 100 * days  # about 125 by the account alone
    years = BLOCK_ERASES * days / after["flash_most_erased"] / 365.25
    with capsys.disabled():
        print(
            f"\nflash: {erases} erases in {days} days, {after['flash_most_erased']} of one block:"
            f" {years:.0f} years",
            end=" ",
        )
    assert years >= SERVICE_YEARS
