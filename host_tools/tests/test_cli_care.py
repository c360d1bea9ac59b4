"""Refills with another drug, the clock's time zone, and what a patient, a prime and a bridge bolus
are refused for."""

from __future__ import annotations

import pytest

from cisterna.bench_virtual import VirtualBench
from host_tools.tests.conftest import Cisterna


def test_what_is_in_the_reservoir_after_a_refill_with_another_concentration(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    first = cisterna(
        "refill", "--measured", "0 mL", "--fill", "20 mL", "--reason", "first fill",
        "--drug", "baclofen 500 ug/mL", "--yes",
    )  # fmt: skip
    assert first.code == 0
    assert "baclofen 500 ug/mL" in first.out
    bench.advance(days=90)
    left = bench.truth()["residual_pl"]
    assert left == 2_000_000_000
    second = cisterna(
        "refill", "--measured", "2 mL", "--left", "2 mL", "--fill", "18 mL",
        "--drug", "baclofen 2 mg/mL", "--yes", "--accept-warnings", "--json",
    )  # fmt: skip
    assert second.code == 0
    # (2 x 500 + 18 x 2,000) / 20 ug/mL
    assert second.json["reservoir"] == [{"name": "baclofen", "concentration_ng_ml": 1_850_000}]
    assert second.json["echo"]["drug_ng_ml"] == 1_850_000
    status = cisterna("status", "--json").json
    assert status["reservoir"] == [{"name": "baclofen", "concentration_ng_ml": 1_850_000}]
    assert "baclofen 1.85 mg/mL" in cisterna("status").out


@pytest.mark.requirement("ACC-3")
@pytest.mark.parametrize(
    ("measured", "flagged"),
    [("14.9 mL", 0), ("15 mL", 0), ("15.01 mL", 1), ("13 mL", 0), ("12.99 mL", 1)],
)
def test_a_discrepancy_is_shown_to_a_hundredth_of_a_millilitre(
    cisterna: Cisterna, bench: VirtualBench, measured: str, flagged: int
) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    words = ("refill", "--measured", "0 mL", "--fill", "20 mL", "--reason", "first fill", "--yes")
    assert cisterna(*words).code == 0
    bench.advance(days=30)  # 6 mL: 14 mL expected; the ratio's limits are 0.13 and 0.87 mL away
    shown = cisterna("refill", "--measured", measured, "--fill", "20 mL", "--yes")
    assert shown.code == 0
    ratio_off = abs(1 - (20 - float(measured.split()[0])) / 6)
    expected = flagged or ratio_off > 0.145
    assert ("DISCREPANCY" in shown.out) == bool(expected)
    assert "Ratio" in shown.out


@pytest.mark.parametrize(
    "drug", ["baclofen", "2 mg/mL", "baclofen 2", "baclofen .5 mg/mL", "baclofen 2 mg"]
)
def test_a_drug_that_is_none(cisterna: Cisterna, bench: VirtualBench, drug: str) -> None:
    words = ("refill", "--measured", "0 mL", "--fill", "20 mL", "--drug", drug, "--yes")
    shown = cisterna(*words)
    assert shown.code == 2
    assert "--drug" in shown.err
    assert bench.truth()["steps"] == 0


def test_the_clock_has_a_time_zone(cisterna: Cisterna, bench: VirtualBench) -> None:
    done = cisterna("clock", "--set", "--utc-offset", "+05:30", "--json")
    assert done.code == 0
    assert done.json["utc_offset_min"] == 330
    assert "UTC+05:30" in cisterna("clock").out
    assert (
        cisterna("clock", "--set", "--utc-offset=-03:00", "--json").json["utc_offset_min"] == -180
    )
    for wrong in ("5:30", "+15:00", "+05:60", "+0530"):
        assert cisterna("clock", "--set", "--utc-offset", wrong).code == 2
    assert cisterna("clock", "--utc-offset", "+05:30").code == 2
    assert bench.truth()["steps"] == 0


def test_a_patient_without_a_permitted_bolus(cisterna: Cisterna, bench: VirtualBench) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    assert "the prescription permits none" in cisterna("patient").out
    assert cisterna("patient", "--json").json["possible_now"] is False
    refused = cisterna("patient", "--bolus", "--yes")
    assert refused.code == 1
    assert bench.truth()["steps"] == 0


def test_priming_needs_a_volume(cisterna: Cisterna, bench: VirtualBench) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    refused = cisterna("prime", "--yes")
    assert refused.code == 1
    assert "does not say what tubing and catheter hold" in refused.err
    assert cisterna("bridge").code == 0
    assert "none" in cisterna("bridge").out
    assert cisterna("bridge", "--cancel", "--yes").code == 1
    assert bench.truth()["steps"] == 0


def test_a_changed_concentration_wants_an_answer(cisterna: Cisterna, bench: VirtualBench) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    shown = cisterna("program", "baclofen_2000", "--yes")
    assert shown.code == 2
    assert "say --bridge, or --no-bridge-because and why" in shown.err
    both = cisterna("program", "baclofen_2000", "--bridge", "--no-bridge-because", "x", "--yes")
    assert both.code == 2
    done = cisterna("program", "baclofen_2000", "--no-bridge-because", "rinsed", "--yes")
    assert done.code == 0
    assert "NONE: the old drug comes first" in done.out
    assert bench.truth()["steps"] == 0
