"""Delivery: what reached the motor against the exact programme. Judged by the plant and the
pulses, never by what the pump says."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import pytest

from cisterna import Bench, Programmer, Therapy
from cisterna.bench import DAY_US
from cisterna.programme import ExactProgramme
from hil_tests.evidence import Measured
from hil_tests.pulses import Pulses, commission, refill
from pump_wire.messages import MINIMUM_RATE, SIMPLE_CONTINUOUS, STOPPED

BIG = Therapy(
    drug="saline",
    concentration_ng_ml=1_000,
    mode=SIMPLE_CONTINUOUS,
    rate_nl_day=1_000_000,
    capacity_nl=500_000_000,
    low_mark_nl=2_000_000,
)
MINIMUM_RATE_NL_DAY = 6_000
WALL_S = 1_780_000_000  # seconds since 1970: a day in 2026
YEAR_S = 365 * 86_400


def _rates() -> list[int]:
    """0.006, 0.048, 0.1, 1, 24 mL/day and fifteen others, spread evenly over the logarithm."""
    rates = [6_000, 48_000, 100_000, 1_000_000, 24_000_000]
    chance = random.Random(20)
    while len(rates) < 20:
        rate = round(48 * 500 ** chance.random()) * 1000
        if rate not in rates:
            rates.append(rate)
    return rates


def _therapy(rate_nl_day: int) -> Therapy:
    if rate_nl_day == MINIMUM_RATE_NL_DAY:
        return replace(BIG, mode=MINIMUM_RATE, rate_nl_day=0)
    if rate_nl_day == 0:
        return replace(BIG, mode=STOPPED, rate_nl_day=0)
    return replace(BIG, rate_nl_day=rate_nl_day)


@pytest.mark.requirement("DEL-1")
@pytest.mark.needs("advance", "runs", "truth", "refill")
@pytest.mark.parametrize("rate", _rates())
def test_commanded_volume_follows_the_programme(
    bench: Bench, pump: Programmer, seed: int, full: bool, rate: int, measured: Measured
) -> None:
    days = 180 if full else 2
    therapy = _therapy(rate)
    step_pl = pump.status().step_pl
    programme = ExactProgramme()
    start_us = commission(bench, pump, therapy)
    programme.run(start_us, rate)
    between_refills = min(days, 490_000_000 // rate)
    passed = 0
    while passed < days:
        span = min(between_refills, days - passed)
        bench.advance(days=span)
        passed += span
        refill(bench, pump, therapy)

    truth = bench.truth()
    pulses = Pulses(bench.runs())
    end_us = start_us + days * DAY_US
    assert truth["time_us"] == end_us
    # Every pulse stands exactly where the programme has it: a run is one line of the same slope.
    k = 0
    for first, slack, spacing, run_rate, count in pulses.runs:
        assert Fraction(spacing, run_rate) == Fraction(step_pl * DAY_US, rate * 1000)
        exact = start_us + (k + 1) * Fraction(step_pl * DAY_US, rate * 1000)
        assert first - Fraction(slack, run_rate) == exact
        k += count
    # At any instant less than a step from the exact volume, none ahead of it.
    chance = random.Random(seed)
    times = [start_us, end_us] + [chance.randint(start_us, end_us) for _ in range(1000)]
    for i in (0, pulses.total // 2, pulses.total - 1):
        at = pulses.instant_us(0, i) if len(pulses.runs) == 1 and pulses.total else end_us
        times += [at - 1, at]
    errors = pulses.errors(programme, step_pl, times)
    measured("DEL-1", float(max(map(abs, errors))), f"steps at most, {rate / 1e6:g} mL/day")
    assert max(errors) < 1
    assert min(errors) >= 0
    # No drift at the end, and what was commanded is what the plant delivered.
    assert pulses.total == programme.volume_pl(end_us) // step_pl == truth["steps"]
    assert truth["delivered_pl"] == truth["steps"] * step_pl
    assert truth["reverse_steps"] == 0


@pytest.mark.requirement("DEL-6", "DEL-7")
@pytest.mark.needs("advance", "runs", "truth", "refill")
def test_rate_changes_at_random_moments(
    bench: Bench, pump: Programmer, seed: int, full: bool, measured: Measured
) -> None:
    changes = 1000 if full else 100
    chance = random.Random(seed)
    step_pl = pump.status().step_pl
    rate = 1_000_000
    programme = ExactProgramme()
    programme.run(commission(bench, pump, _therapy(rate)), rate)
    spans: list[tuple[int, int, int, int]] = []  # start, end, old rate, new rate
    before_us = bench.truth()["time_us"]
    used_nl = 0
    for _ in range(changes):
        # Up to a few steps of the present rate, so that changes fall between, before and after
        # steps.
        bench.advance(us=chance.randrange(1, 3 * 8_640_000_000_000 // max(rate, 100_000)))
        old, rate = rate, chance.choice((0, 6_000, 48_000, chance.randrange(48, 24_001) * 1000))
        pump.program(_therapy(rate))
        now_us = bench.truth()["time_us"]
        programme.run(now_us, rate)
        spans.append((before_us, now_us, old, rate))
        used_nl = int(programme.volume_pl(now_us) // 1000)
        before_us = now_us
        assert used_nl < 490_000_000
    bench.advance(hours=1)
    end_us = bench.truth()["time_us"]
    pulses = Pulses(bench.runs())
    times = [end_us]
    for (_, change_us, _, _), (_, next_us, _, _) in zip(
        spans, [*spans[1:], (0, end_us, 0, 0)], strict=True
    ):
        times += [
            change_us - 1,
            change_us,
            (change_us + next_us) // 2,
            chance.randint(change_us, next_us),
        ]
    errors = pulses.errors(programme, step_pl, times)
    measured("DEL-6", float(max(map(abs, errors))), f"steps at most, {changes} changes")
    assert max(errors) < 1
    assert min(errors) >= 0
    # Over each change, between what the old and the new rate would have given, within a step.
    for start_us, change_us, old, new in spans:
        window_us = min(change_us - start_us, 60_000_000)
        end = min(change_us + window_us, end_us)
        given = pulses.count(end) - pulses.count(change_us - window_us)
        ideal = sorted(
            Fraction(each * 1000 * (end - change_us + window_us), DAY_US * step_pl)
            for each in (old, new)
        )
        if end - change_us == window_us and _alone(spans, change_us, window_us):
            assert ideal[0] - 1 < given < ideal[1] + 1
    measured("DEL-7", bench.truth()["reverse_steps"], "reverse steps")
    assert bench.truth()["reverse_steps"] == 0


def _alone(spans: list[tuple[int, int, int, int]], change_us: int, window_us: int) -> bool:
    """True if no other change lies within the window after ``change_us``."""
    return not any(change_us < other[1] < change_us + window_us for other in spans)


@pytest.mark.requirement("DEL-7")
@pytest.mark.needs("advance", "truth", "refill", "power")
def test_no_step_while_stopped(bench: Bench, pump: Programmer) -> None:
    span_us = DAY_US if "days" in bench.offers else DAY_US // 240

    def still(spans: int) -> None:
        before = bench.truth()
        bench.advance(us=spans * span_us)
        after = bench.truth()
        assert after["pulses"] == before["pulses"]
        assert after["delivered_pl"] == before["delivered_pl"]

    def moves() -> None:
        before = bench.truth()["steps"]
        bench.advance(us=span_us // 4)
        assert bench.truth()["steps"] > before

    fast = _therapy(24_000_000)
    still(2)  # never programmed
    commission(bench, pump, fast)
    moves()
    pump.stop()
    still(3)
    pump.close()
    bench.cut_power()
    still(1)
    bench.power_on()
    still(3)  # stopped stays stopped over a power cut
    again = bench.programmer()
    again.resume()
    moves()
    again.bolus("1 mL", over="1 h")
    bench.advance(minutes=1)
    again.stop()  # in the middle of a bolus
    still(1)
    again.program(_therapy(0))
    still(1)
    assert bench.truth()["reverse_steps"] == 0
    again.close()


@pytest.mark.requirement("DEL-8")
@pytest.mark.needs("advance", "runs", "truth", "refill")
def test_no_step_moves_with_the_clock(
    bench: Bench, pump: Programmer, seed: int, full: bool, measured: Measured
) -> None:
    """Wall time set by up to a year either way, and the time zone with it, at random moments."""
    chance = random.Random(seed)
    step_pl = pump.status().step_pl
    programme = ExactProgramme()
    start_us = commission(bench, pump, BIG)
    programme.run(start_us, BIG.rate_nl_day)
    times: list[int] = []
    for _ in range(1000 if full else 100):
        bench.advance(us=chance.randrange(1, 3 * 3_600_000_000))
        wall_s = WALL_S + chance.randrange(-YEAR_S, YEAR_S + 1)
        pump.set_clock(wall_s, chance.randrange(-840, 841))
        assert pump.status().wall_s == wall_s
        now_us = bench.truth()["time_us"]
        times += [now_us - 1, now_us, now_us + 1, chance.randint(start_us, now_us)]
    bench.advance(hours=1)
    times = [at for at in times if at > start_us] + [bench.truth()["time_us"]]
    pulses = Pulses(bench.runs())
    errors = pulses.errors(programme, step_pl, times)
    measured("DEL-8", float(max(map(abs, errors))), "steps at most, clock set by up to a year")
    assert min(errors) >= 0
    assert max(errors) < 1
    assert pulses.total == programme.volume_pl(times[-1]) // step_pl == bench.truth()["steps"]


@pytest.mark.requirement("DEL-7")
@pytest.mark.needs("advance", "truth", "refill", "power", "flash_files")
def test_no_step_in_a_latched_fault(bench: Bench, pump: Programmer) -> None:
    days = "days" in bench.offers
    commission(bench, pump, BIG)
    pump.program(replace(BIG, rate_nl_day=2_000_000))  # so that there are two copies
    bench.advance(hours=5 if days else 0.02)
    pump.close()
    bench.cut_power()
    for copy in ("/prescription.0", "/prescription.1"):
        content = bytearray(bench.read_flash_file(copy))
        content[len(content) // 2] ^= 0x10
        bench.write_flash_file(copy, bytes(content))
    bench.power_on()
    before = bench.truth()
    bench.advance(us=3 * (DAY_US if days else DAY_US // 240))
    with bench.programmer() as again:
        status = again.status()
        assert status.fault != 0
        assert "prescription" in status.fault_text
        assert status.stopped_because == "fault"
    assert bench.truth()["pulses"] == before["pulses"]


@pytest.mark.needs("advance", "truth", "refill")
def test_a_bolus_takes_the_place_of_the_basal_rate_and_returns(
    bench: Bench, pump: Programmer
) -> None:
    commission(bench, pump, BIG)
    bench.advance(hours=1)
    before = bench.truth()["steps"]
    pump.bolus("50 uL", over="30 min")
    bench.advance(minutes=15)
    assert pump.status().mode_name == "single bolus"
    assert bench.truth()["steps"] - before in (250, 249, 251)
    bench.advance(minutes=15)
    assert bench.truth()["steps"] - before in (500, 501)
    assert pump.status().mode_name == "simple continuous"
    bench.advance(us=2 * 8_640_000 * 100)
    assert bench.truth()["steps"] - before in (700, 701)
