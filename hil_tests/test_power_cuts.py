"""The power goes: at operations of the flash, torn or not, again while the pump starts, at random.

What is compared comes from the plant. The first tests cut the power of the bench's own pump, over
the wires that a programmer uses. The campaigns after them run many cuts on the virtual board's
parts in one VM; what they are is in ``cisterna.powercut``.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from cisterna import Therapy, campaign
from cisterna.bench import Bench
from cisterna.errors import CisternaError
from cisterna.powercut import REQUIREMENTS, PowerCut
from cisterna.powercut_emulated import EmulatedPowerCut
from hil_tests.evidence import Measured
from hil_tests.pulses import commission

BACK_S = 5
BASAL_PL = 500_000
BOLUS_PL = 2_000_000


def therapy(rate: str) -> Therapy:
    return Therapy.simple_continuous(
        drug="saline", concentration="0.5 mg/mL", rate=rate, capacity="20 mL"
    )


OLD = therapy("8.64 mL/day")  # a step a second
NEW = therapy("17.28 mL/day")


def check_back(bench: Bench, over_before_pl: int, bound_pl: int, allowed: list[Therapy]) -> int:
    """The pump has its power again: account, settings, delivery and log are right. Returns what
    the account says too much."""
    with bench.programmer() as pump:
        truth = bench.truth()
        over_pl = pump.account().lifetime_pl - truth["delivered_pl"]
        assert 0 <= over_pl - over_before_pl <= bound_pl
        stored = pump.prescription()
        assert stored in allowed
        assert stored is not None
        bench.advance(seconds=BACK_S)
        steps = bench.truth()["steps"] - truth["steps"]
        due = stored.rate_nl_day * BACK_S // 86_400 * 1000 // pump.status().step_pl
        assert due <= steps <= due + 1 + (0 if "runs" in bench.offers else due)
        assert pump.status().mode_name == "simple continuous"
        names = [event.name for event in pump.log()]
        assert names[::-1].index("power_lost") < names[::-1].index("prescription_committed")
    return over_pl


@pytest.mark.requirement("PWR-1", "PWR-2", "PWR-5", "ACC-2")
@pytest.mark.needs("advance", "truth", "refill", "flash_cuts")
@pytest.mark.parametrize("torn", [None, "half_program"])
def test_a_programme_change_that_the_power_cuts_is_old_or_new(
    bench: Bench, torn: str | None, full: bool
) -> None:
    with bench.programmer() as pump:
        commission(bench, pump, OLD)
    bench.advance(seconds=7)
    over_pl = 0
    operations = range(1, 13) if full else (2, 6)
    for operation in operations if "days" in bench.offers else (2,):
        bench.cut_power_at(flash_op=operation, torn=torn)
        with contextlib.suppress(CisternaError), bench.programmer() as pump:
            pump.program(NEW)
        bench.advance(seconds=8)
        assert not bench.powered
        bench.power_on()
        over_pl = check_back(bench, over_pl, BASAL_PL, [OLD, NEW])
        with bench.programmer() as pump:
            pump.settle()
            pump.program(OLD)


@pytest.mark.requirement("PWR-3", "PWR-5", "ACC-2")
@pytest.mark.needs("advance", "truth", "refill", "power", "flash_cuts")
def test_cuts_in_a_row_while_it_starts_after_one_in_a_bolus(bench: Bench, full: bool) -> None:
    with bench.programmer() as pump:
        commission(bench, pump, OLD)
        bench.advance(seconds=5)
        pump.bolus("20 uL", over="2 min")
    bench.advance(seconds=31)
    bench.cut_power()
    for operation in (1, 3, 5) if full else (1, 4):
        bench.cut_power_at(flash_op=operation)
        bench.power_on()
        assert not bench.powered
    bench.power_on()
    check_back(bench, 0, BOLUS_PL, [OLD])
    with bench.programmer() as pump:
        names = [event.name for event in pump.log()]
        assert "bolus_interrupted" in names
        assert "bolus_done" not in names


@pytest.mark.requirement("PWR-1", "PWR-2", "PWR-3", "PWR-4", "PWR-5", "ACC-2", "ACC-4")
@pytest.mark.needs("flash_cuts", "days")
@pytest.mark.parametrize("requirement", REQUIREMENTS)
@pytest.mark.usefixtures("bench")
def test_campaign_of_power_cuts(
    requirement: str, seed: int, full: bool, tmp_path: Path, measured: Measured
) -> None:
    found = campaign.run(PowerCut(seed, "full" if full else "quick", (requirement,)), tmp_path)
    runs = sum(each.runs for each in found)
    measured(requirement, len(campaign.failures(found)), f"failures in {runs:,} runs")
    assert campaign.failures(found) == []
    assert sum(each.runs for each in found) > 100


@pytest.mark.usefixtures("bench")
@pytest.mark.requirement("PWR-4", "PWR-5", "ACC-2", "ACC-4")
@pytest.mark.needs("power_cuts", "chip")
def test_campaign_of_cuts_at_any_instruction(
    seed: int, tmp_path: Path, measured: Measured
) -> None:
    found = campaign.run(EmulatedPowerCut(seed, "quick"), tmp_path)
    runs = sum(each.runs for each in found)
    measured("PWR-4", len(campaign.failures(found)), f"failures in {runs:,} runs")
    assert campaign.failures(found) == []
    assert all(line.holds for line in EmulatedPowerCut(seed, "quick").evidence(found))
