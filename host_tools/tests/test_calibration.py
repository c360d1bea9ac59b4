"""cisterna bench calibrate: known densities and masses in, known step volumes out."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cisterna import calibration, cli_app, units
from cisterna.boards import board_data
from cisterna.errors import UsageError

# Degrees Celsius, kg/m3: the recommended table of Tanaka et al. 2001
_WATER = {10: 999.7027, 15: 999.1026, 20: 998.2067, 25: 997.0470, 30: 995.6488}


@pytest.mark.parametrize(("celsius", "kg_m3"), _WATER.items())
def test_density_of_water(celsius: int, kg_m3: float) -> None:
    found = calibration.water_density_ng_ml(celsius * 1000)
    assert found / 1e6 == pytest.approx(kg_m3, abs=0.001)


def test_water_is_densest_at_four_degrees() -> None:
    densities = {t: calibration.water_density_ng_ml(t) for t in range(0, 40_001, 100)}
    assert 3_900 <= max(densities, key=lambda t: densities[t]) <= 4_100


@pytest.mark.parametrize("warm", [-1, 40_001])
def test_water_outside_the_formula_is_refused(warm: int) -> None:
    with pytest.raises(UsageError, match="from 0 to 40 C"):
        calibration.water_density_ng_ml(warm)


def test_buoyancy_is_in_the_general_formula_of_iso_8655() -> None:
    """Volume = reading * (1 - air / weights) / (liquid - air), densities in mg/uL: 1.00285 uL/mg
    for water at 20 degrees."""
    found = calibration.calibrate(1, [1_000_000], 998_206_700)
    assert found.step_pl / 1e6 == pytest.approx((1 - 1.2 / 8000) / (0.9982067 - 0.0012), rel=1e-9)
    assert found.step_pl / 1e6 == pytest.approx(1.00285, abs=0.000005)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 15, 30])
def test_t_leaves_a_fortieth_above_it(freedom: int) -> None:
    constant = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2)
    constant /= math.sqrt(freedom * math.pi)

    def density(x: float) -> float:
        return constant * (1 + x * x / freedom) ** (-(freedom + 1) / 2)

    high = calibration._T_95[freedom - 1]
    width = high / 4000  # Simpson's rule
    inner = [density(i * width) * (4 if i % 2 else 2) for i in range(1, 4000)]
    below = 0.5 + width / 3 * (density(0) + sum(inner) + density(high))
    assert below == pytest.approx(0.975, abs=0.00005)


def test_mean_spread_and_uncertainty() -> None:
    masses = [99_000_000, 100_000_000, 101_000_000]  # ng over 1000 steps of water-like liquid
    found = calibration.calibrate(1000, masses, 1_000_000_000, buoyancy=False)
    assert found.steps_pl == pytest.approx((99_000, 100_000, 101_000))
    assert found.rounded_pl == 100_000
    assert found.spread_pl == pytest.approx(1_000)
    assert found.uncertainty_pl == pytest.approx(4.303 * 1_000 / math.sqrt(3))


def test_what_evaporated_is_added() -> None:
    # 24 mg/day is 1 mg/h; an hour of it
    found = calibration.calibrate(
        10_000, [999_000_000], 1_000_000_000, 24_000_000, 3_600_000_000, buoyancy=False
    )
    assert found.evaporated_ng == pytest.approx(1_000_000)
    assert found.rounded_pl == 100_000


@given(
    step_pl=st.integers(1_000, 10_000_000),
    steps=st.integers(100, 100_000),
    warm=st.integers(0, 40_000),
    wobble=st.lists(st.floats(-0.004, 0.004), min_size=1, max_size=12),
    evaporated=st.integers(0, 1_000_000_000),
    hours=st.integers(0, 5),
    buoyancy=st.booleans(),
)
def test_it_finds_the_step_that_was_weighed(
    step_pl: int,
    steps: int,
    warm: int,
    wobble: list[float],
    evaporated: int,
    hours: int,
    buoyancy: bool,
) -> None:
    density = calibration.water_density_ng_ml(warm)
    lost = evaporated * hours / 24
    true = [steps * step_pl * (1 + each) / 1e9 * density for each in wobble]
    lift = (1 - 1.2e6 / density) / (1 - 1.2 / 8000) if buoyancy else 1
    read = [round(mass * lift - lost) for mass in true]
    if min(read) < 1_000:
        return
    found = calibration.calibrate(
        steps, read, density, evaporated, hours * 3_600_000_000, buoyancy
    )
    mean = step_pl * (1 + math.fsum(wobble) / len(wobble))
    assert found.step_pl == pytest.approx(mean, rel=1e-9, abs=2e9 / density / steps)
    assert (found.uncertainty_pl is None) == (len(read) == 1)


def test_warnings() -> None:
    def warned(masses: list[int], **more: int) -> str:
        found = calibration.calibrate(1000, masses, 1_000_000_000, buoyancy=False, **more)
        return "; ".join(found.warnings)

    good = [100_000_000, 100_100_000, 99_900_000, 100_050_000, 99_950_000]
    assert warned(good, present_pl=100_000) == ""
    assert "2 repeats" in warned(good[:2])
    spread = warned([*good[:4], 110_000_000])
    assert "repeat 5 most" in spread
    assert "uncertain" in spread
    assert "16 times" in warned(good, present_pl=6_250)
    evaporates = warned(good, evaporation_ng_day=48_000_000, duration_us=3_600_000_000)
    assert "2.0% evaporated" in evaporates


@pytest.mark.parametrize(
    ("steps", "masses"), [(0, [1]), (calibration.MOST_STEPS + 1, [1]), (1, []), (1, [5, 0])]
)
def test_nonsense_is_refused(steps: int, masses: list[int]) -> None:
    with pytest.raises(UsageError):
        calibration.calibrate(steps, masses, 1_000_000_000)


# -- the command ------------------------------------------------------------------------------

_MASSES = ["498.1mg", "499.0mg", "498.7mg", "498.4mg", "499.2mg"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli_app.run(["bench", "calibrate", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_command_gives_the_lines_of_board_toml(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--steps", "5000", "--water", "21.5 C", *_MASSES, "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    density = calibration.water_density_ng_ml(21_500)
    expected = calibration.calibrate(
        5000, [units.parse_mass(mass) for mass in _MASSES], density, present_pl=100_000
    )
    assert data["step_pl"] == expected.step_pl == pytest.approx(100_000, rel=0.002)
    assert data["warnings"] == []
    lines = data["board_toml"].splitlines()
    assert lines[:2] == ["[plant]", f"step_pl = {expected.rounded_pl:_}"]
    assert lines[2].startswith('step_source = "weighed 20')
    assert "5 x 5,000 steps, water at 21.5 C; +- " in lines[2]
    code, out, err = run(capsys, "--steps", "5000", "--water", "21.5 C", *_MASSES)
    assert code == 0
    assert lines[1] in out
    assert "+-" in out


def test_command_takes_a_commanded_volume(capsys: pytest.CaptureFixture[str]) -> None:
    step_pl = board_data("rpi_pico")["plant"]["step_pl"]
    code, out, _ = run(
        capsys, "--volume", "0.5 mL", "--density", "1 g/mL", "0.5 g", "--no-buoyancy", "--json"
    )
    assert code == 0
    data = json.loads(out)
    assert data["steps"] == 500_000_000 // step_pl
    assert data["step_pl"] == pytest.approx(step_pl)
    assert data["uncertainty_pl"] is None


def test_command_warns_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--steps", "5000", "--water", "20C", "0.5g", "0.6g")
    assert code == 0
    assert "warning: the repeats spread" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "5000", "--water", "20", "0.5 g"], "temperature"),
        (["--steps", "5000", "--water", "68 F", "0.5 g"], "unknown unit F"),
        (["--steps", "5000", "--water", "41 C", "0.5 g"], "above the highest allowed, 40 C"),
        (["--steps", "5000", "--water", "20 C", ".5 g"], "mass"),
        (["--steps", "5000", "--water", "20 C", "0,5 g"], "comma"),
        (["--steps", "5000", "--water", "20 C", "0.5 mL"], "is a volume"),
        (["--steps", "5e3", "--water", "20 C", "0.5 g"], "--steps"),
        (["--steps", "5000", "--volume", "1 mL", "--water", "20 C", "1 g"], "one of --steps"),
        (["--water", "20 C", "0.5 g"], "one of --steps"),
        (["--steps", "5000", "0.5 g"], "one of --water"),
        (["--steps", "5000", "--density", "998 kg", "0.5 g"], "density"),
        (["--steps", "5000", "--density", "9 g/mL", "0.5 g"], "above the highest"),
        (["--volume", "1 nL", "--water", "20 C", "0.5 g"], "no whole number of steps"),
        (["--steps", "9", "--water", "20 C", "1 g", "--evaporation", "2 mg/h"], "duration"),
        (["--steps", "9", "--water", "20 C", "1 g", "--board", "nono"], "there is no board"),
        (["--steps", "9", "--water", "20 C"], "MASS"),
    ],
)
def test_bad_input_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert code in (1, 2)
    assert said in err
    assert out == ""
