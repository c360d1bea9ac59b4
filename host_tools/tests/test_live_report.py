"""The report of a pump as it is now: its own words and a forecast, nothing that nobody saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from cisterna.bench_virtual import VirtualBench
from cisterna.interrogation import interrogate
from cisterna.live_report import report_data
from cisterna.mixture import Drug
from cisterna.prescription import load, shipped
from cisterna.programmer import Programmer
from cisterna.report import write_report

DAY_US = 86_400_000_000


@pytest.fixture
def bench() -> Iterator[VirtualBench]:
    with VirtualBench(seed=5, trace=False) as made:
        yield made


@pytest.fixture
def pump(bench: VirtualBench) -> Iterator[Programmer]:
    with bench.programmer() as made:
        yield made


def written(pump: Programmer, folder: Path) -> tuple[str, list[str]]:
    """The page of the pump as it is, and the names of its pictures."""
    paths = write_report(report_data(interrogate(pump), list(pump.events())), folder)
    text = " ".join(paths.html.read_text(encoding="utf-8").split())
    assert "These are the pump’s own words only" in text
    return text, [path.name for path in paths.pngs]


def test_a_pump_that_was_never_filled_has_no_picture(pump: Programmer, tmp_path: Path) -> None:
    text, pictures = written(pump, tmp_path)
    assert pictures == []
    assert "No refill was recorded." in text
    assert "<figure>" not in text


def test_a_pump_that_delivers_has_its_forecast(
    bench: VirtualBench, pump: Programmer, tmp_path: Path
) -> None:
    therapy = load(shipped()["baclofen"]).therapy
    pump.confirm(pump.prepare_program(therapy))
    pump.refill(0, therapy.capacity_nl, "first fill")
    text, pictures = written(pump, tmp_path)
    assert pictures == ["reservoir.png"]
    assert "The first filling: there is nothing to compare it with." in text
    bench.advance(us=10 * DAY_US)
    pump.refill(18_000_000, therapy.capacity_nl, "early")
    text, pictures = written(pump, tmp_path)
    assert pictures == ["reservoir.png"]
    assert "Discrepancy within the pump’s limits (ratio 0.855 to 1.145, volume 1 mL)." in text
    assert "the low mark of 2 mL is reached on day 100.0." in text
    assert "Read on day 10.0 since the pump’s last start" in text
    for untrue in ("No samples", "Delivery error", "instrument beside"):
        assert untrue not in text


def test_flex_with_limits_and_a_mixture_is_told_whole(
    bench: VirtualBench, pump: Programmer, tmp_path: Path
) -> None:
    flex = load(shipped()["baclofen_flex"]).therapy
    therapy = dataclasses.replace(flex, others=(Drug("morphine", 1_000_000),))
    pump.set_clock(1_800_230_400, 0)  # Monday 2027-01-18 00:00 UTC: the slowest step
    pump.confirm(pump.prepare_program(therapy))
    pump.refill(0, therapy.capacity_nl, "first fill", drugs=therapy.mixture)
    bench.advance(us=DAY_US)
    text, _ = written(pump, tmp_path)
    # 17.804 mL at the mean of the week: 90.6 days; at the night's rate it would be 123
    assert "At a mean of 0.196571 mL/day" in text
    assert '<span class="name">Low-volume date</span><span class="value">2027-04-19' in text
    # 17.804 mL at 0.2266 mL/day, with all the patient's boluses: 78.6 days
    assert '<span class="name">Next refill</span><span class="value">2027-04-07' in text
    assert "low mark, all patient boluses" in text
    for words in (
        "Steps Mo-Fr</th><td>00:00 0.144 mL/day, 06:00 0.288 mL/day",
        "Limit in 1 h</th><td>0.1 mL",
        "With morphine</th><td>1 mg/mL",
        "Patient bolus</th><td>0.01 mL = 5 ug",
        "Patient bolus, at most in 24 h</th><td>3",
        "In the reservoir</th><td>baclofen 500 ug/mL + morphine 1 mg/mL",
        "0.144 mL/day = 72 ug/day of baclofen + 144 ug/day of morphine",
        "at the programme’s mean rate",
    ):
        assert words in text, words


def test_the_low_mark_is_not_told_before_the_next_refill(
    bench: VirtualBench, pump: Programmer
) -> None:
    flex = load(shipped()["baclofen_flex"]).therapy
    flex = dataclasses.replace(flex, patient_nl=0, patient_s=0, lockout_s=0, patient_max=0)
    pump.set_clock(1_800_230_400, 0)
    pump.confirm(pump.prepare_program(flex))
    pump.refill(0, flex.capacity_nl, "first fill", drugs=flex.mixture)
    bench.advance(us=60_000_000)
    data = report_data(interrogate(pump), [])
    assert data.forecast is not None
    assert data.refill_us is not None
    assert data.forecast.low_us is not None
    assert 0 <= data.forecast.low_us - data.refill_us < 3_600_000_000
