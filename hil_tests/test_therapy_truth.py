"""Therapy judged by the plant: the drug that leaves the catheter's tip over a bridge bolus, the
patient's boluses by when the motor ran, and the forecast by when the reservoir was low."""

from __future__ import annotations

import contextlib
import itertools
import random
from pathlib import Path

import pytest

from cisterna import Bench, Programmer, campaign
from cisterna.errors import Refused
from cisterna.limit_campaign import Limits
from hil_tests.evidence import Measured
from pump_wire import messages

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
DEAD_NL = 316_000  # PRODUCT.md: 80 cm x 0.0022 mL/cm + 0.140 mL
WALL_S = 1_800_000_000
PATIENT = {"patient_nl": 10_000, "patient_s": 300, "lockout_s": 7_200, "patient_max": 3}


def prescription(**values: int | str) -> dict[str, object]:
    """0.2 mL/day of baclofen of 500 ug/mL, changed by ``values``."""
    return {
        "drug": "baclofen",
        "concentration_ng_ml": 500_000,
        "mode": messages.SIMPLE_CONTINUOUS,
        "rate_nl_day": 200_000,
        "capacity_nl": 20_000_000,
        "low_mark_nl": 2_000_000,
        "tubing_nl": 140_000,
        "catheter_nl": 176_000,
        **values,
    }


def prescribe(pump: Programmer, **values: int | str) -> None:
    """Commit a prescription, its total typed and all agreed to."""
    wanted = prescription(**values)
    echo = pump.prepare(messages.SET_PRESCRIPTION, wanted).echo
    wanted["total_nl"] = echo["new_total_nl"]
    wanted["agreed"] = 46
    pump.confirm(pump.prepare(messages.SET_PRESCRIPTION, wanted))


def filled(bench: Bench, pump: Programmer, ng_ml: int, **values: int | str) -> None:
    """A filled pump that runs a prescription."""
    bench.refill_reservoir(20_000_000, ng_ml)
    prescribe(pump, concentration_ng_ml=ng_ml, **values)
    pump.confirm(
        pump.prepare(
            messages.RECORD_REFILL, {"measured_nl": 0, "fill_nl": 20_000_000, "reason": "first"}
        )
    )


@pytest.mark.requirement("THE-4")
@pytest.mark.needs("advance", "truth", "refill", "days")
@pytest.mark.parametrize(
    ("old", "new", "rate", "after", "hours", "dose_ng"),
    [
        (500_000, 2_000_000, 200_000, 50_000, 37.92, 158_000),
        (2_000_000, 500_000, 50_000, 200_000, 151.68, 632_000),
    ],
    ids=["A", "B"],
)
def test_bridge_gives_the_old_dose_until_the_new_drug_is_at_the_tip(
    bench: Bench,
    pump: Programmer,
    old: int,
    new: int,
    rate: int,
    after: int,
    hours: float,
    dose_ng: int,
) -> None:
    filled(bench, pump, old, rate_nl_day=rate)
    pump.confirm(
        pump.prepare(messages.START_PRIME, {"volume_nl": DEAD_NL, "duration_us": 2 * HOUR_US})
    )
    bench.advance(hours=30)
    aspirated_nl = bench.refill_reservoir(20_000_000, new)
    pump.confirm(
        pump.prepare(
            messages.RECORD_REFILL,
            {"measured_nl": aspirated_nl, "fill_nl": 20_000_000, "reason": "stronger"},
        )
    )
    prescribe(pump, concentration_ng_ml=new, rate_nl_day=after, bridge=1)
    begun = bench.truth()
    bench.advance(us=int(hours * HOUR_US) - 1_000_000)
    assert pump.status().mode == messages.BRIDGE_BOLUS
    bench.advance(us=2_000_000)
    assert pump.status().mode == messages.SIMPLE_CONTINUOUS
    assert pump.status().rate_nl_day == after
    given_ng = bench.truth()["tip_ng"] - begun["tip_ng"]
    step_ng = begun["step_pl"] * old // 10**9
    assert abs(given_ng - dose_ng) <= max(dose_ng // 1000, step_ng)
    # and then the new programme's dose a day, of the new drug
    before = bench.truth()["tip_ng"]
    bench.advance(us=DAY_US)
    day_ng = bench.truth()["tip_ng"] - before
    assert abs(day_ng - after * new // 1_000_000) <= 2 * begun["step_pl"] * new // 10**9


@pytest.mark.requirement("DEL-5")
@pytest.mark.needs("days")
@pytest.mark.usefixtures("bench")
def test_campaign_of_limits(seed: int, full: bool, tmp_path: Path, measured: Measured) -> None:
    found = campaign.run(Limits(seed, "full" if full else "quick"), tmp_path)
    runs = sum(each.runs for each in found)
    measured("DEL-5", len(campaign.failures(found)), f"failures in {runs:,} sequences")
    assert campaign.failures(found) == []
    assert sum(each.data["cuts"] for each in found) > runs


@pytest.mark.requirement("THE-2")
@pytest.mark.needs("advance", "truth", "refill", "power")
def test_patient_boluses_keep_lockout_and_maximum(
    bench: Bench, pump: Programmer, seed: int, full: bool
) -> None:
    chance = random.Random(seed)
    filled(bench, pump, 500_000, **PATIENT)
    pump.close()
    days = "days" in bench.offers
    requests = (1_000 if full else 150) if days else 8
    granted: list[int] = []
    patient = bench.programmer("patient")
    for number in range(requests):
        before = bench.truth()
        try:
            patient.confirm(patient.prepare(messages.REQUEST_BOLUS, {}))
        except Refused as refusal:
            assert refusal.name in ("lockout", "patient_max", "bolus_running")
        else:
            bench.advance(seconds=10)
            assert bench.truth()["steps"] - before["steps"] >= 3  # it truly runs
            granted.append(before["time_us"])
        if days:
            bench.advance(minutes=chance.randrange(5, 90))
        else:
            bench.advance(seconds=20)
        if number % 13 == 12 or (not days and number == 3):
            patient.close()
            bench.cut_power()
            bench.power_on()
            patient = bench.programmer("patient")
        elif number % 7 == 6:
            patient.close()
            with bench.programmer() as clinician:
                wall_s = WALL_S + chance.randrange(-400, 400) * 86_400
                clinician.confirm(
                    clinician.prepare(messages.SET_CLOCK, {"wall_s": wall_s, "utc_offset_min": 60})
                )
            patient = bench.programmer("patient")
    assert granted
    for first, second in itertools.pairwise(granted):
        assert second - first >= PATIENT["lockout_s"] * 1_000_000
    for first, last in zip(granted, granted[PATIENT["patient_max"] :], strict=False):
        assert last - first >= DAY_US
    events = [event.name for event in patient.log()]
    assert events.count("patient_granted") == len(granted)
    assert events.count("patient_refused") == requests - len(granted)
    patient.close()


@pytest.mark.requirement("ACC-3")
@pytest.mark.needs("advance", "truth", "refill", "days")
@pytest.mark.parametrize(
    ("capacity_nl", "most_nl"), [(20_000_000, 1_000_000), (40_000_000, 2_000_000)]
)
def test_a_refill_is_flagged_from_a_hundredth_of_a_millilitre_on(
    bench: Bench, pump: Programmer, capacity_nl: int, most_nl: int
) -> None:
    hundredth_nl = 10_000
    bench.refill_reservoir(20_000_000, 500_000)
    prescribe(pump, rate_nl_day=24_000_000, capacity_nl=capacity_nl)
    first = {"measured_nl": 0, "fill_nl": 20_000_000, "reason": "first"}
    pump.confirm(pump.prepare(messages.RECORD_REFILL, first))
    begun = bench.truth()["delivered_pl"]

    def flagged(measured_nl: int) -> int:
        again = {"measured_nl": measured_nl, "fill_nl": capacity_nl, "reason": "a test"}
        return pump.prepare(messages.RECORD_REFILL, again).echo["flagged"]

    bench.advance(hours=4)  # 4 mL: the ratio leaves its range before the volume does
    programmed = (bench.truth()["delivered_pl"] - begun) // 1000
    assert programmed == 4_000_000
    for ppm, inwards in ((855_000, 1), (1_145_000, -1)):
        true = programmed * ppm // 1_000_000
        assert flagged(20_000_000 - true) == 0
        assert flagged(20_000_000 - true - inwards * hundredth_nl) == 0
        assert flagged(20_000_000 - true + inwards * hundredth_nl) == 1
    bench.advance(hours=11)  # 15 mL: the volume leaves its range before the ratio does
    expected = 20_000_000 - (bench.truth()["delivered_pl"] - begun) // 1000
    assert expected == 5_000_000
    for sign in (1, -1):
        assert flagged(expected + sign * (most_nl - hundredth_nl)) == 0
        assert flagged(expected + sign * most_nl) == 0
        assert flagged(expected + sign * (most_nl + hundredth_nl)) == 1
    for fill_nl, wrong in ((capacity_nl - hundredth_nl, False), (capacity_nl, False),
                           (capacity_nl + hundredth_nl, True)):  # fmt: skip
        fill = {"measured_nl": expected, "fill_nl": fill_nl, "reason": "a test"}
        if wrong:
            with pytest.raises(Refused) as refusal:
                pump.prepare(messages.RECORD_REFILL, fill)
            assert (refusal.value.name, refusal.value.limit) == ("above_limit", capacity_nl)
        else:
            pump.prepare(messages.RECORD_REFILL, fill)
    with pytest.raises(Refused) as refusal:
        pump.prepare(messages.RECORD_REFILL, {**first, "reason": " "})
    assert refusal.value.name == "bad_text"


def _patients(pump: Programmer) -> list[str]:
    return [event.name for event in pump.log() if event.name.startswith("patient_")]


@pytest.mark.requirement("THE-2")
@pytest.mark.needs("advance", "truth", "refill", "patient")
def test_the_patients_button_asks_as_the_message_does(bench: Bench, pump: Programmer) -> None:
    filled(bench, pump, 500_000)

    def moved(seconds: float, then_s: float = 40) -> int:
        before = bench.truth()["steps"]
        bench.press_patient(seconds)
        bench.advance(seconds=then_s)
        return bench.truth()["steps"] - before

    assert moved(0.3) <= 1  # not permitted: the basal rate, a step every 43 s
    prescribe(pump, **PATIENT)
    assert moved(0.02) <= 1  # a spike is no press
    assert _patients(pump) == ["patient_refused"]
    steps = moved(1)  # 10 uL in 300 s: a step every 3 s
    assert 12 <= steps <= 15
    assert _patients(pump) == ["patient_refused", "patient_granted"]
    assert pump.status().mode == messages.PATIENT_BOLUS
    assert moved(0.3, 270) + steps <= 102  # within the lockout it changes nothing
    bench.advance(seconds=20)
    assert pump.status().mode == messages.SIMPLE_CONTINUOUS
    assert moved(0.3) <= 2
    events = [event for event in pump.log() if event.name.startswith("patient_")]
    assert [event.name for event in events[1:]] == ["patient_granted"] + 2 * ["patient_refused"]
    assert [event.value for event in events[2:]] == 2 * [messages.REFUSAL["lockout"]]
    pump.close()
    with bench.programmer("patient") as patient, pytest.raises(Refused, match="lockout"):
        patient.confirm(patient.prepare(messages.REQUEST_BOLUS, {}))


@pytest.mark.requirement("ACC-6")
@pytest.mark.needs("advance", "truth", "refill", "days")
@pytest.mark.parametrize("patient", [False, True])
def test_forecast_is_not_later_than_what_comes(
    bench: Bench, pump: Programmer, patient: bool
) -> None:
    filled(bench, pump, 500_000, rate_nl_day=4_000_000, **(PATIENT if patient else {}))
    told = pump.session.request(messages.GET_THERAPY, {})
    low_us = told["low_us"]
    assert told["refill_us"] == low_us
    start = bench.truth()["time_us"]
    if patient:
        pump.close()
        pump = bench.programmer("patient")
    while bench.truth()["residual_pl"] > 2_000_000_000:
        left_us = max(0, low_us - (bench.truth()["time_us"] - start))
        if patient:
            with contextlib.suppress(Refused):
                pump.confirm(pump.prepare(messages.REQUEST_BOLUS, {}))
            bench.advance(minutes=30)
        else:
            bench.advance(us=max(60_000_000, left_us - HOUR_US))
    reached = bench.truth()["time_us"] - start
    assert low_us <= reached
    if not patient:
        assert reached - low_us <= HOUR_US
    pump.close()
