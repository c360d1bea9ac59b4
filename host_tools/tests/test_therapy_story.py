"""The therapy from the programmer's side on a virtual pump, told by the plant."""

from __future__ import annotations

from fractions import Fraction
from math import exp
from pathlib import Path

import pytest

from cisterna import prescription
from cisterna.bench import DAY_US, HOUR_US
from cisterna.bench_virtual import VirtualBench
from cisterna.therapy_story import bridge_run, flex_day, refill_interval, write_pictures
from host_tools.tests.conftest import Cisterna


@pytest.mark.requirement("THE-4")
@pytest.mark.parametrize(
    ("old", "new", "hours", "mass_ng"),
    [
        (500_000, 2_000_000, Fraction("37.92"), 158_000),
        (2_000_000, 500_000, Fraction("151.68"), 632_000),
    ],
)
def test_a_bridge_bolus_as_the_tip_sees_it(
    old: int, new: int, hours: Fraction, mass_ng: int
) -> None:
    with VirtualBench(seed=1, trace=False) as bench:
        run = bridge_run(bench, old, new, after_h=12)
    assert abs(run.change_us - hours * HOUR_US) <= 1_000_000
    assert abs(run.tip_ng - mass_ng) <= mass_ng / 1000
    # The old drug alone was at the tip, in stirred tubing, too.
    assert abs(run.samples[0].mixed_ng_ml - old) <= old / 500
    for sample in run.samples:
        before = sample.time_us < run.change_us
        assert sample.plug_ng_ml == (old if before else new)
        dose = Fraction(sample.rate_nl_day * sample.plug_ng_ml, 10**6)
        assert abs(dose - 100_000) <= 4_000  # a step more or less in 72 minutes


@pytest.mark.parametrize(("old", "new"), [(500_000, 2_000_000), (2_000_000, 500_000)])
def test_where_it_mixes_the_tip_is_as_one_stirred_vessel_has_it(old: int, new: int) -> None:
    with VirtualBench(seed=1, trace=False) as bench:
        run = bridge_run(bench, old, new, after_h=12)
    rate_nl_day = 10**11 // old  # 100 ug/day
    front_us = 176_000 * DAY_US // rate_nl_day  # the catheter, behind the stirred tubing
    by_time = {sample.time_us: sample for sample in run.samples}
    assert by_time[front_us].mixed_ng_ml == pytest.approx(old, rel=0.002)
    assert by_time[run.change_us].rate_nl_day == pytest.approx(10**11 // new, rel=0.02)
    for sample in run.samples:
        # Volume that left the tubing since the new drug began to come into it.
        given_nl = sample.time_us * rate_nl_day / DAY_US - 176_000
        if sample.time_us > run.change_us:
            after_us = sample.time_us - run.change_us
            given_nl = 140_000 + after_us * 10**11 / new / DAY_US
        exact = new + (old - new) * exp(-max(0.0, given_nl) / 140_000)
        assert sample.mixed_ng_ml == pytest.approx(exact, rel=0.004), sample.time_us


def test_a_day_of_flex_is_its_steps_and_its_boluses() -> None:
    with VirtualBench(seed=1, trace=False) as bench:
        day = flex_day(bench)
    assert [(bolus.minute, bolus.volume_nl) for bolus in day.boluses] == [
        (480, 10_000),
        (945, 10_000),
    ]
    total = sum(volume for _, volume in day.delivered)
    # Each bolus takes the place of five minutes of its step's rate.
    instead = Fraction((288_000 + 192_000) * 5, 1440)
    exact = day.therapy.day_volume_nl(0) + 20_000 - instead
    assert abs(total - exact) <= 100  # a step
    for minute, volume in day.delivered[:24]:  # until 06:00, 0.144 mL/day
        assert abs(volume - 1_500) <= 100, minute


def test_the_dose_of_each_day_is_what_was_programmed() -> None:
    with VirtualBench(seed=1, trace=False) as bench:
        therapy, doses, _ = refill_interval(bench, days=22)
    assert therapy.drug == "baclofen"
    for dose in doses:
        assert abs(dose.delivered_ng - dose.programmed_ng) <= 100, dose.day  # two steps
    assert doses[10].delivered_ng > 109_000
    assert doses[20].delivered_ng < 92_000


def test_the_pictures_are_written(tmp_path: Path) -> None:
    paths = write_pictures(lambda: VirtualBench(seed=1, trace=False), tmp_path / "new")
    assert [path.name for path in paths] == ["flex_day.png", "bridge.png", "daily_dose.png"]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")


def pump_with(cisterna: Cisterna, bench: VirtualBench, name: str) -> None:
    """A pump with a shipped prescription, filled with its drug, its clock set."""
    assert cisterna("clock", "--set").code == 0
    assert cisterna("program", name, "--yes").code == 0
    therapy = prescription.load(prescription.shipped()[name]).therapy
    bench.refill_reservoir(20_000_000, therapy.concentration_ng_ml)
    drugs = [f"--drug={drug.words}" for drug in therapy.mixture.drugs]
    words = ("refill", "--measured", "0 mL", "--fill", "20 mL", *drugs, "--yes")
    assert cisterna(*words).code == 0


@pytest.mark.requirement("THE-2")
def test_a_patient_asks_and_is_told_when_the_next_is_possible(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    pump_with(cisterna, bench, "morphine_bupivacaine")
    assert "possible now, 0 of 6 used in 24 h" in cisterna("patient").out
    given = cisterna("patient", "--bolus", "--yes")
    assert given.code == 0
    assert "0.02 mL = 100 ug of morphine" in given.out
    before = bench.truth()["steps"]
    bench.advance(minutes=10)
    assert bench.truth()["steps"] - before >= 200  # 20 uL, and five minutes of the basal rate
    refused = cisterna("patient", "--bolus", "--yes")
    assert refused.code == 1
    assert "the lockout after the last patient bolus is not over" in refused.err
    assert "to go" in refused.err
    later = cisterna("patient", "--json").json
    assert later["possible_now"] is False
    assert 2 * HOUR_US < later["possible_in_us"] <= 3 * HOUR_US
    assert "possible in 2 h 5" in cisterna("patient").out
    names = [event["name"] for event in cisterna("log", "--json").json["events"]]
    assert names.count("patient_granted") == 1
    assert names.count("patient_refused") == 1


@pytest.mark.requirement("THE-3")
def test_priming_fills_tubing_and_catheter(cisterna: Cisterna, bench: VirtualBench) -> None:
    pump_with(cisterna, bench, "baclofen_2000")
    before = bench.truth()["delivered_pl"]
    done = cisterna("prime", "--yes")
    assert done.code == 0
    assert "tubing 0.14 mL + catheter 0.176 mL" in done.out
    assert "0.316 mL" in done.out
    bench.advance(minutes=19)
    moved_pl = bench.truth()["delivered_pl"] - before
    assert abs(moved_pl - 316_000_000) <= 100_000  # a step
    again = cisterna("prime", "--supplied", "89 cm", "--trimmed", "9 cm", "--yes", "--json")
    assert again.json["request"]["volume_nl"] == 316_000


@pytest.mark.requirement("THE-4")
def test_a_bridge_is_started_shown_cancelled_and_resumed(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    pump_with(cisterna, bench, "baclofen")
    started = cisterna("bridge", "--start", "baclofen_2000", "--yes", "--accept-warnings")
    assert started.code == 0, started.err
    assert "0.316 mL of the old drug at 0.2 mL/day first" in started.out
    assert "runs: 0.316 mL" in cisterna("bridge").out
    bench.advance(hours=12)
    assert "runs: 0.216 mL" in cisterna("bridge").out
    cancelled = cisterna("bridge", "--cancel", "--yes")
    assert cancelled.code == 0
    assert "CANCELLED with 0.216 mL" in cisterna("bridge").out
    assert cisterna("status", "--json").json["status"]["rate_nl_day"] == 50_000
    resumed = cisterna("bridge", "--resume", "--yes")
    assert resumed.code == 0
    assert cisterna("status", "--json").json["status"]["mode_name"] == "bridge bolus"
    bench.advance(hours=26)
    status = cisterna("status", "--json").json["status"]
    assert (status["mode_name"], status["rate_nl_day"]) == ("simple continuous", 50_000)


@pytest.mark.requirement("ACC-6")
def test_the_next_refill_is_shown_with_its_reason(cisterna: Cisterna, bench: VirtualBench) -> None:
    pump_with(cisterna, bench, "ziconotide")
    # 14 days of stability, long before 0.096 mL/day reach the low mark.
    found = cisterna("status", "--json").json["refill"]
    assert found["why"] == "the drug's stability"
    assert abs(found["in_us"] - 14 * 24 * HOUR_US) <= HOUR_US
    assert "(the drug's stability)" in " ".join(cisterna("status").out.split())
    assert bench.truth()["reverse_steps"] == 0
