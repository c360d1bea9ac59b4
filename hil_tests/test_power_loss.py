"""After a loss of power: the basal rate comes back, a bolus does not, and the log says so."""

from __future__ import annotations

import itertools

import pytest

from cisterna import Bench, Programmer, Therapy
from hil_tests.pulses import commission
from pump_wire.messages import SIMPLE_CONTINUOUS

RATE = Therapy(
    drug="saline",
    concentration_ng_ml=1_000,
    mode=SIMPLE_CONTINUOUS,
    rate_nl_day=8_640_000,  # a step a second
    capacity_nl=20_000_000,
    low_mark_nl=2_000_000,
)
STEP_PL = 100_000


@pytest.mark.on_chip
@pytest.mark.requirement("PWR-5", "ACC-2")
@pytest.mark.needs("advance", "truth", "edges", "power", "refill")
def test_after_a_cut_basal_resumes_and_a_bolus_does_not(bench: Bench, pump: Programmer) -> None:
    commission(bench, pump, RATE)
    bench.advance(seconds=5)
    pump.bolus(5_000, 20_000_000)
    bench.advance(seconds=7)
    pump.close()
    bench.cut_power()
    true_pl = bench.truth()["delivered_pl"]
    cut_ns = bench.truth()["time_us"] * 1000
    bench.power_on()
    bench.advance(seconds=5)  # the safe state within 5 s
    with bench.programmer() as again:
        status = again.status()
        names = [event.name for event in again.log()]
        least_pl = bench.truth()["delivered_pl"]
        account = again.account()
    assert (status.mode, status.bolus_pl) == (SIMPLE_CONTINUOUS, 0)
    assert names[-3:] == ["power_lost", "bolus_interrupted", "mode_entered"]
    assert names.count("bolus_started") == 1
    assert "bolus_done" not in names
    assert least_pl <= account.lifetime_pl <= bench.truth()["delivered_pl"] + 2_000_000
    bench.advance(seconds=20)
    steps = [e.t_ns for e in bench.edges() if e.line == "step" and e.level and e.t_ns > cut_ns]
    gaps = [later - earlier for earlier, later in itertools.pairwise(steps)]
    assert len(steps) >= 20
    assert all(abs(gap - 1_000_000_000) < 2_000_000 for gap in gaps), gaps
    assert bench.truth()["delivered_pl"] - true_pl == len(steps) * STEP_PL


@pytest.mark.requirement("PWR-5")
@pytest.mark.needs("advance", "truth", "power", "refill")
def test_each_loss_of_power_leaves_a_record(bench: Bench, pump: Programmer) -> None:
    commission(bench, pump, RATE)
    pump.close()
    for cuts in range(1, 4):
        bench.advance(seconds=3)
        bench.cut_power()
        bench.power_on()
        with bench.programmer() as again:
            events = again.log()
        assert [event.name for event in events].count("power_lost") == cuts
        numbers = [event.sequence for event in events]
        assert numbers == list(range(len(numbers)))
