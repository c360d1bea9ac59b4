"""Priming volume, bridge bolus, pump profiles and the drug table: constants with one home."""

from __future__ import annotations

import re
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cisterna import drugs
from cisterna.catheter import Segment, bridge, catheter_volume_nl
from cisterna.dose import DAY_US, RATE_HIGH_NL_DAY, RATE_LOW_NL_DAY
from cisterna.errors import UsageError
from cisterna.profiles import profile, profiles
from cisterna.units import parse_length, parse_volume, parse_volume_per_length

ROOT = Path(__file__).parents[2]
HOUR_US = 3_600_000_000


def path_nl(name: str) -> int:
    """Tubing and untrimmed catheter of a profile."""
    pump = profile(name)
    return pump.tubing_nl + catheter_volume_nl([pump.catheter()])


@pytest.mark.requirement("THE-3")
@pytest.mark.parametrize("name", ["implanted 20 mL", "implanted 40 mL"])
def test_80_cm_of_catheter_and_the_tubing_are_0_316_ml(name):
    assert profile(name).tubing_nl == parse_volume("0.140 mL")
    assert profile(name).catheter_nl_per_cm == parse_volume_per_length("0.0022 mL/cm")
    assert path_nl(name) == parse_volume("0.316 mL")


@pytest.mark.requirement("THE-3")
def test_field_mistake_tubing_constant_0_199_instead_of_0_140(tmp_path):
    """A build with the recalled constant does not pass the test above."""
    text = (ROOT / "host_tools/cisterna/profiles/implanted_20.toml").read_text()
    assert text.count('volume = "0.14 mL"') == 1
    wrong = tmp_path / "implanted_20.toml"
    wrong.write_text(text.replace('volume = "0.14 mL"', 'volume = "0.199 mL"'))
    from cisterna.profiles import _read

    seeded = _read(wrong)
    volume_nl = seeded.tubing_nl + catheter_volume_nl([seeded.catheter()])
    assert volume_nl == 375_000
    assert volume_nl != path_nl("implanted 20 mL")
    # 42 % of the tubing's drug too much: the recall's own figure.
    assert (
        round(100 * Fraction(seeded.tubing_nl, profile("implanted 20 mL").tubing_nl) - 100) == 42
    )


@pytest.mark.requirement("THE-3")
def test_the_tubing_constant_has_one_home():
    """No source file but the profiles has it as a number."""
    names = subprocess.run(
        ["git", "ls-files", "host_tools/cisterna", "firmware/pump", "firmware/pump_wire"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    homes = [
        name
        for name in names
        if name.endswith((".py", ".toml"))
        and "/profiles/" not in name
        and re.search(r"\b140_?000\b|\b0\.140? mL|\b199_?000\b", (ROOT / name).read_text())
    ]
    assert homes == []


@pytest.mark.requirement("THE-3")
@given(
    st.lists(
        st.tuples(st.integers(0, 2_000_000), st.integers(0, 2_000_000), st.integers(0, 10_000)),
        max_size=4,
    )
)
def test_a_catheter_is_the_sum_of_what_is_implanted(parts):
    exact = Fraction(0)
    segments = []
    for supplied, trimmed, nl_per_cm in parts:
        supplied, trimmed = max(supplied, trimmed), min(supplied, trimmed)
        segments.append(Segment("s", supplied, trimmed, nl_per_cm))
        exact += Fraction(supplied - trimmed, 10_000) * nl_per_cm
    assert abs(catheter_volume_nl(segments) - exact) <= Fraction(1, 2)


def test_more_trimmed_than_supplied_is_refused():
    with pytest.raises(UsageError, match='"tip": 81 cm trimmed of 80 cm supplied'):
        Segment("tip", parse_length("80 cm"), parse_length("81 cm"), 2_200)


@pytest.mark.requirement("THE-4")
@pytest.mark.parametrize(
    ("concentration", "hours", "mass_ng"),
    [
        (500_000, Fraction("37.92"), 158_000),  # vector A: 500 to 2,000 ug/mL
        (2_000_000, Fraction("151.68"), 632_000),  # vector B: 2,000 to 500 ug/mL
    ],
)
def test_the_bridge_of_the_vectors_is_exact(concentration, hours, mass_ng):
    found = bridge(path_nl("implanted 20 mL"), concentration, 100_000)
    assert found.duration_us == hours * HOUR_US
    assert found.mass_ng == mass_ng
    assert found.rate_nl_day == Fraction(100_000 * 10**6, concentration)


@given(st.integers(1, 10**6), st.integers(1, 10**9), st.integers(1, 10**9))
def test_a_bridge_keeps_the_old_dose(volume_nl, concentration, dose_rate):
    found = bridge(volume_nl, concentration, dose_rate)
    assert found.rate_nl_day * found.duration_us == volume_nl * DAY_US
    assert found.mass_ng == dose_rate * found.duration_us / DAY_US


def test_every_profile_can_be_run_and_has_its_sources():
    found = profiles()
    assert set(found) == {
        "implanted 20 mL",
        "implanted 40 mL",
        *(f"external {v} mL {p}" for v in (100, 250) for p in ("epidural", "intrathecal")),
    }
    # What the pump cannot deliver is the firmware's, and the same in every reservoir.
    firmware = (ROOT / "firmware/pump/delivery.py").read_text(encoding="utf-8")
    for name, pump in found.items():
        assert pump.name == name
        assert f"{pump.capacity_nl // 10**6} mL" in name
        assert RATE_LOW_NL_DAY <= pump.rate_low_nl_day < pump.rate_high_nl_day <= RATE_HIGH_NL_DAY
        assert pump.unusable_nl < pump.low_mark_nl < pump.capacity_nl
        assert f"_UNUSABLE_PL = {pump.unusable_nl * 1000:_} " in firmware, name
        assert 0 < pump.hour_nl <= pump.day_nl < pump.capacity_nl
        assert pump.per_hour == name.startswith("external")
    assert profile("external 100 mL epidural").rate_low_nl_day == 2_400_000  # 0.1 mL/h


def test_a_profile_without_a_source_for_a_number_is_refused(tmp_path):
    from cisterna.profiles import _read

    text = (ROOT / "host_tools/cisterna/profiles/implanted_20.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith('"tubing.volume"')]
    (tmp_path / "p.toml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="each number needs its source"):
        _read(tmp_path / "p.toml")
    with pytest.raises(UsageError, match="there is no pump profile"):
        profile("implanted 21 mL")


def test_ziconotide_is_stable_14_84_or_40_days_by_its_fill():
    names = frozenset(("ziconotide",))
    days = {fill: drugs.stability(names, fill) for fill in ("first", "undiluted", "diluted")}
    assert {fill: row.days for fill, row in days.items() if row} == {
        "first": 14,
        "undiluted": 84,
        "diluted": 40,
    }
    with pytest.raises(UsageError, match="depends on the fill"):
        drugs.stability(names)
    with pytest.raises(UsageError, match='no fill "any"'):
        drugs.stability(names, "any")


def test_what_the_drug_table_does_not_have_needs_an_override_with_a_reason():
    names = frozenset(("hydromorphone",))
    assert drugs.stability(names) is None
    found = drugs.override(names, 60, "our pharmacy's own measurement")
    assert (found.days, found.overridden) == (60, True)
    assert found.source == "our pharmacy's own measurement"
    with pytest.raises(UsageError, match="needs a reason"):
        drugs.override(names, 60, "  ")
    with pytest.raises(UsageError, match="stability of 367 days; allowed are 1 to 366 days"):
        drugs.override(names, 367, "x")


def test_each_row_of_the_drug_table_has_a_source_and_is_there_once():
    keys = [(row.names, row.fill) for row in drugs.table()]
    assert len(keys) == len(set(keys))
    assert all(len(row.source) > 20 and 1 <= row.days <= 366 for row in drugs.table())
