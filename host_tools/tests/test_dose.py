"""Dose maths against exact rationals, and the numbers it shares with the pump."""

from __future__ import annotations

import ast
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cisterna import dose
from cisterna.errors import UsageError
from pump_wire.messages import SET_PRESCRIPTION

FIRMWARE = Path(__file__).parents[2] / "firmware" / "pump" / "prescription.py"

concentrations = st.integers(1, 10**12)
rates = st.integers(0, dose.RATE_HIGH_NL_DAY)


def test_the_range_of_rates_is_the_pumps():
    numbers = {
        target.id: ast.literal_eval(statement.value)
        for statement in ast.parse(FIRMWARE.read_text()).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name) and target.id.endswith("_NL_DAY")
    }
    assert numbers == {
        "RATE_LOW_NL_DAY": dose.RATE_LOW_NL_DAY,
        "RATE_HIGH_NL_DAY": dose.RATE_HIGH_NL_DAY,
        "RATE_STEP_NL_DAY": dose.RATE_STEP_NL_DAY,
        "MINIMUM_RATE_NL_DAY": dose.MINIMUM_RATE_NL_DAY,
    }
    highest = next(
        high for name, _, _, high, _ in SET_PRESCRIPTION.request if name == "rate_nl_day"
    )
    assert highest == dose.RATE_HIGH_NL_DAY


@pytest.mark.parametrize(
    ("dose_rate", "concentration", "rate"),
    [
        (100_000, 500_000, 200_000),  # baclofen 500 ug/mL, 100 ug/day: 0.2 mL/day
        (500_000, 2_000_000, 250_000),  # morphine 2 mg/mL, 0.5 mg/day: 0.25 mL/day
        (100_000, 2_000_000, 50_000),
        (12_000_000, 500_000, 24_000_000),
        (24_000, 500_000, 48_000),
    ],
)
def test_a_dose_rate_the_pump_can_run_is_exact(dose_rate, concentration, rate):
    found = dose.achievable_rate(dose_rate, concentration)
    assert found.exact
    assert found.rate_nl_day == rate
    assert found.dose_rate_ng_day == dose_rate
    assert found.error_ng_day == 0
    assert found.relative_error == 0


def test_a_dose_rate_between_two_steps_takes_the_nearer():
    found = dose.achievable_rate(100_300, 500_000)  # 0.2006 mL/day
    assert not found.exact
    assert found.wanted_rate_nl_day == 200_600
    assert found.rate_nl_day == 201_000
    assert found.dose_rate_ng_day == 100_500
    assert found.error_ng_day == 200
    assert found.relative_error == Fraction(200, 100_300)


def test_half_way_between_two_steps_takes_the_lower():
    found = dose.achievable_rate(100_250, 500_000)  # 0.2005 mL/day
    assert found.rate_nl_day == 200_000
    assert found.error_ng_day == -250


@given(st.integers(1, 10**12), concentrations)
def test_the_achievable_rate_is_a_step_and_within_half_a_step(dose_rate, concentration):
    found = dose.achievable_rate(dose_rate, concentration)
    wanted = Fraction(dose_rate, concentration) * 10**6
    assert found.wanted_rate_nl_day == wanted
    assert found.rate_nl_day % dose.RATE_STEP_NL_DAY == 0
    half = Fraction(dose.RATE_STEP_NL_DAY, 2)
    assert -half <= found.rate_nl_day - wanted < half
    assert found.dose_rate_ng_day == Fraction(found.rate_nl_day * concentration, 10**6)
    assert found.dose_rate_ng_day - dose_rate == found.error_ng_day
    assert found.relative_error * dose_rate == found.error_ng_day
    assert found.exact == (found.error_ng_day == 0)


@given(rates, concentrations)
def test_rate_to_dose_rate_and_back_is_exact(rate, concentration):
    dose_rate = dose.dose_rate_ng_day(rate, concentration)
    assert dose_rate * 10**6 == rate * concentration
    assert dose.rate_of_dose_rate_nl_day(dose_rate, concentration) == rate


@pytest.mark.parametrize(
    ("mass_ng", "concentration", "volume_nl"),
    [
        (10_000, 500_000, 20_000),  # 10 ug at 500 ug/mL: 20 uL
        (500_000, 2_000_000, 250_000),
        (158_000, 500_000, 316_000),  # the dose in 0.316 mL of tubing and catheter
        (10_000, 3_000_000, 3_333),
        (20_000, 3_000_000, 6_667),
        (0, 500_000, 0),
    ],
)
def test_a_mass_as_a_volume(mass_ng, concentration, volume_nl):
    assert dose.volume_of_mass_nl(mass_ng, concentration) == volume_nl


@given(st.integers(1, 10**10), st.integers(1, 10**8))
def test_a_mass_is_within_half_a_nanolitre(mass_ng, concentration):
    wanted = Fraction(mass_ng * 10**6, concentration)
    if wanted <= Fraction(1, 2):
        with pytest.raises(UsageError, match="less than the smallest volume, 1 nL"):
            dose.volume_of_mass_nl(mass_ng, concentration)
        return
    volume_nl = dose.volume_of_mass_nl(mass_ng, concentration)
    assert -Fraction(1, 2) <= volume_nl - wanted < Fraction(1, 2)
    assert dose.mass_of_volume_ng(volume_nl, concentration) * 10**6 == volume_nl * concentration


def test_a_mass_too_small_for_any_volume_names_mass_concentration_and_limit():
    with pytest.raises(UsageError) as caught:
        dose.volume_of_mass_nl(1, 500_000_000)
    assert "1 ng at 500 mg/mL is less than the smallest volume, 1 nL" in str(caught.value)
    assert caught.value.exit_code == 2


@given(st.integers(0, 10**9), concentrations)
def test_volume_to_mass_and_back_is_the_same_volume(volume_nl, concentration):
    mass_ng = dose.mass_of_volume_ng(volume_nl, concentration)
    assert mass_ng == Fraction(volume_nl * concentration, 10**6)
    if mass_ng.denominator == 1:
        assert dose.volume_of_mass_nl(int(mass_ng), concentration) == volume_nl


def test_the_24_h_total_of_a_basal_rate_is_the_rate():
    total = dose.day_total(200_000, 500_000)
    assert (total.volume_nl, total.mass_ng) == (200_000, 100_000)


def test_a_bolus_runs_in_place_of_the_basal_rate():
    # 20 uL over 12 h: half a day of 0.2 mL/day, and the bolus
    total = dose.day_total(200_000, 500_000, [(20_000, dose.DAY_US // 2)])
    assert (total.volume_nl, total.mass_ng) == (120_000, 60_000)


def test_the_hourly_daily_mistake_is_24_times_the_total():
    meant = dose.day_total(dose.achievable_rate(60_000, 500_000).rate_nl_day, 500_000)
    typed = dose.day_total(dose.achievable_rate(60_000 * 24, 500_000).rate_nl_day, 500_000)
    assert typed.mass_ng / meant.mass_ng == 24


def test_boluses_longer_than_a_day_have_no_24_h_total():
    with pytest.raises(ValueError, match="more than 24 hours"):
        dose.day_total(200_000, 500_000, [(1, dose.DAY_US), (1, 1)])


@given(rates, concentrations, st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**9))))
def test_the_24_h_total_is_exact(rate, concentration, boluses):
    total = dose.day_total(rate, concentration, boluses)
    basal = Fraction(rate) * (1 - Fraction(sum(us for _, us in boluses), dose.DAY_US))
    assert total.volume_nl == basal + sum(nl for nl, _ in boluses)
    assert total.mass_ng == total.volume_nl * concentration / 10**6
