"""What went wrong in the field with programming pumps, each as a test that names it.

The tubing constant is in ``test_catheter``, 60 ug a day typed as 60 ug an hour in ``test_guard``.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cisterna import prescription
from cisterna.bench_virtual import VirtualBench
from cisterna.errors import CisternaError, OutcomeUnknown, Refused, UsageError
from cisterna.impairment import ImpairedLink, Impairment
from cisterna.programmer import Programmer
from host_tools.tests.conftest import Cisterna

BACLOFEN = prescription.load(prescription.shipped()["baclofen"]).therapy


def fill(bench: VirtualBench, pump: Programmer) -> None:
    """20 mL, in the reservoir and in the account."""
    bench.refill_reservoir(20_000_000)
    pump.refill(measured="0 mL", fill="20 mL", reason="first fill")


@pytest.mark.requirement("INP-4")
@pytest.mark.parametrize("text", [".5", "5.", "0,5", "1e1", "+5", "-5", "05", "5"])
def test_field_mistake_point_five_read_as_five(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Path, text: str
) -> None:
    """In a file, as a bolus and as a refill: refused, nothing has changed."""
    assert cisterna("program", "baclofen", "--yes").code == 0
    with bench.programmer() as pump:
        fill(bench, pump)
        before = pump.status().next_event
    unit = "" if text == "5" else " mL"
    file = tmp_path / "rx.toml"
    shipped = prescription.shipped()["baclofen"].read_text()
    file.write_text(shipped.replace('dose_rate = "100 ug/day"', f'rate = "{text}{unit}/day"'))
    runs = [
        cisterna("program", str(file), "--yes"),
        cisterna("bolus", "--over", "10 min", "--yes", "--", f"{text}{unit}"),
        cisterna("refill", f"--measured={text}{unit}", "--fill", "20 mL", "--yes"),
    ]
    assert [ran.code for ran in runs] == [2, 2, 2]
    for ran in runs:
        assert f'"{text}' in ran.err
    with bench.programmer() as pump:
        assert pump.status().next_event == before
        assert pump.prescription() == BACLOFEN
    bench.advance(days=1)
    assert bench.truth()["steps"] == 2_000


@pytest.mark.requirement("THE-6")
def test_field_mistake_a_value_that_wraps_from_zero_to_the_maximum(bench: VirtualBench) -> None:
    """Below the lowest and above the highest there is nothing: the pump refuses, and keeps what it
    had. What no field can hold is not sent at all."""
    with bench.programmer() as pump:
        pump.program(BACLOFEN)
        values = BACLOFEN.values()
        for rate in (47_000, 24_001_000, 0):
            with pytest.raises((Refused, UsageError)):
                _prepare(pump, {**values, "rate_nl_day": rate})
            assert pump.prescription() == BACLOFEN
        for rate in (-1, 1 << 64, (1 << 64) - 1):
            with pytest.raises((ValueError, OverflowError, CisternaError)):
                _prepare(pump, {**values, "rate_nl_day": rate})
            assert pump.prescription() == BACLOFEN
        for rate in (48_000, 24_000_000):
            pump.program(dataclasses.replace(BACLOFEN, rate_nl_day=rate))
            stored = pump.prescription()
            assert stored is not None
            assert stored.rate_nl_day == rate
    assert bench.truth()["steps"] == 0


def _prepare(pump: Programmer, values: dict[str, object]) -> None:
    from pump_wire.messages import SET_PRESCRIPTION

    pump.prepare(SET_PRESCRIPTION, values)


@pytest.mark.requirement("SEC-6")
def test_field_mistake_a_lost_acknowledgement_and_the_dose_given_twice() -> None:
    """Answers are lost: each bolus is given once, or known not to be, or its outcome is unknown
    and the log tells. The plant has given no more than the log says."""
    bad = Impairment(loss=0.45)
    outcomes = {"done": 0, "not done": 0, "unknown": 0}
    with VirtualBench(seed=1, trace=False) as bench:
        with bench.programmer() as pump:
            pump.program(BACLOFEN)
            fill(bench, pump)
        before = bench.truth()
        link = ImpairedLink(
            bench.link(), from_pump=bad, seed=5, pass_time=lambda s: bench.advance(seconds=s)
        )
        for _ in range(12):
            try:
                Programmer(link, keys=bench.keys).bolus(10_000, 60_000_000)
                outcomes["done"] += 1
            except OutcomeUnknown:
                outcomes["unknown"] += 1
            except CisternaError:
                outcomes["not done"] += 1
            bench.advance(minutes=2)
        link.close()
        with bench.programmer() as pump:
            given = [event.name for event in pump.log()].count("bolus_started")
        after = bench.truth()
    assert outcomes["done"] >= 1
    assert outcomes["done"] <= given <= outcomes["done"] + outcomes["unknown"]
    minutes = (after["time_us"] - before["time_us"]) / 60_000_000
    steps = after["steps"] - before["steps"]
    # 100 steps a bolus in place of a minute's basal rate, 2,000 steps a day else.
    assert abs(steps - (100 * given + 2_000 * (minutes - given) / 1440)) <= 1 + given


@pytest.mark.requirement("INP-5")
def test_field_mistake_the_update_left_the_pump_stopped(bench: VirtualBench) -> None:
    """A session that breaks between prepare and confirm leaves the old programme running; one that
    confirms goes over to the new one without a pause."""
    new = dataclasses.replace(BACLOFEN, rate_nl_day=240_000)
    with bench.programmer() as pump:
        pump.program(BACLOFEN)
        fill(bench, pump)
    bench.advance(hours=12)
    pump = bench.programmer()
    pump.prepare_program(new, total_nl=new.total_nl)
    pump.session.link.close()  # gone for good
    bench.advance(hours=12)
    assert bench.truth()["steps"] == 2_000
    with bench.programmer() as again:
        assert again.prescription() == BACLOFEN
        assert again.status().mode_name == "simple continuous"
        again.program(new)
    bench.advance(days=1)
    assert bench.truth()["steps"] == 4_400
