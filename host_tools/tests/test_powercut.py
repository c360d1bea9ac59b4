"""The campaign of power cuts: its cases, its replays, what it makes of a pump that is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cisterna import campaign, powercut, vm_runs
from cisterna.errors import UsageError
from cisterna.flips import Flips
from cisterna.powercut import ERASE_SHAPES, PROGRAM_SHAPES, PowerCut
from cisterna.powercut_emulated import EmulatedPowerCut
from host_tools.tests.conftest import Cisterna
from host_tools.tests.test_seeded_bugs import copied


def wrong_pump(tree: Path) -> Path:
    """Firmware that counts steps when they are out, not before."""
    path = copied(tree) / "firmware" / "pump" / "ledger.py"
    right = "self._store(self._start_steps + issued - self.missed, bolus)"
    source = path.read_text()
    assert source.count(right) == 1
    path.write_text(source.replace(right, "self._store(self.moved(), self.bolus_steps())"))
    return tree


def test_the_full_setting_has_every_operation_and_every_shape() -> None:
    full = PowerCut(1, "full")
    cases = [case for batch in full.batches() for case in batch.cases]
    assert len(set(cases)) == len(cases)
    by_requirement: dict[str, list[list[str]]] = {}
    for case in cases:
        parts = case.split(":")
        by_requirement.setdefault(parts[2], []).append(parts[3:])
    before = [int(number) for (number,) in by_requirement["PWR-1"]]
    assert before == list(range(1, len(before) + 1))
    assert len(before) > 5_000
    shapes: dict[str, set[str]] = {}
    for number, shape in by_requirement["PWR-2"]:
        shapes.setdefault(number, set()).add(shape)
    assert len(shapes) == len(before)
    assert {frozenset(each) for each in shapes.values()} == {
        frozenset(PROGRAM_SHAPES),
        frozenset(ERASE_SHAPES),
    }
    assert len(by_requirement["PWR-3"]) > 200
    assert len(by_requirement["PWR-4"]) == 30_000
    assert by_requirement["none"] == [["0"]]


def test_a_replay_tells_what_the_run_found(tmp_path: Path) -> None:
    tree = wrong_pump(tmp_path / "tree")
    wrong = PowerCut(1, "quick", ("PWR-1",), tree)
    cases = tuple(f"powercut:1:PWR-1:{number}" for number in range(90, 110))
    found = campaign.failures(list(wrong.run_batch(cases, tmp_path)))
    assert found
    case, why = found[0]
    told = list(wrong.replay(case, tmp_path))
    assert told[-1] == f"verdict: {why}"
    assert "steps too few" in why
    assert any(line.startswith("cut at operation ") for line in told)
    assert any("the plant saw" in line for line in told)
    right = list(PowerCut(1, "quick").replay(case, tmp_path))
    assert right[-1] == "verdict: all holds"


def test_a_segment_of_the_living_image_goes_on_from_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(powercut, "_SEGMENT", 6)
    monkeypatch.setattr(powercut, "_LIVING", {"quick": 12})
    living = PowerCut(3, "quick", ("PWR-4",))
    found = campaign.run(living, tmp_path)
    assert [each.failures for each in found] == [()] * 13
    state = json.loads((tmp_path / "living-6" / "state.json").read_text())
    later = json.loads((tmp_path / "living-12" / "state.json").read_text())
    assert later["starts"] > state["starts"] > 6
    told = list(PowerCut(3, "quick").replay("powercut:3:PWR-4:9", tmp_path))
    assert any(line.startswith("cut number 9:") for line in told)
    assert not any(line.startswith("cut number 8:") for line in told)
    assert told[-1] == "verdict: all holds"


@pytest.mark.parametrize(
    "case",
    [
        *("powercut:1:PWR-1:x", "powercut:1:PWR-9:3", "powercut:1:PWR-2:3:split_program"),
        *("powercut:1:PWR-2:3", "powercut:1:PWR-1:999999", "powercut:1:PWR-1:"),
    ],
)
def test_an_id_that_names_no_case_is_refused(case: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        list(PowerCut(1, "quick").replay(case, tmp_path))


def test_replay_on_the_command_line(cisterna: Cisterna, tmp_path: Path) -> None:
    words = ("bench", "powercut", "--report", str(tmp_path), "--replay")
    shown = cisterna(*words, "powercut:1:PWR-1:40")
    assert shown.code == 0
    assert "verdict: all holds" in shown.out
    as_json = cisterna(*words, "powercut:1:PWR-3:40.2", "--json")
    assert as_json.code == 0
    assert as_json.json["holds"] is True
    assert cisterna(*words, "nonsense").code == 2
    assert cisterna("bench", "powercut", "--bench", "moon").code == 2


@pytest.mark.requirement("FLT-4")
def test_two_flipped_bits_are_seen_or_do_nothing(tmp_path: Path) -> None:
    flips = Flips(1, "quick")
    found = campaign.run(flips, tmp_path)
    assert campaign.failures(found) == []
    assert sum(each.runs for each in found) >= 4_000
    assert list(flips.replay("flips:1:FLT-4:2.50", tmp_path))[-1] == "verdict: all holds"


def test_each_image_of_the_emulated_pico_goes_on_from_its_last_segment() -> None:
    full = EmulatedPowerCut(1, "full").batches()
    numbers = [[int(case.split(":")[3]) for case in batch.cases] for batch in full]
    assert sorted(number for cases in numbers for number in cases) == list(range(1, 41))
    for batch, cases in zip(full, numbers, strict=True):
        if batch.after < 0:
            assert cases[0] in (1, 21)
        else:
            assert cases[0] == numbers[batch.after][-1] + 1


@pytest.mark.parametrize("case", ["powercut:1:PWR-4-emulated:0", "powercut:1:PWR-4-emulated:x.1"])
def test_an_id_that_names_no_life_of_the_emulated_pico_is_refused(
    case: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        list(EmulatedPowerCut(1, "quick").replay(case, tmp_path))


def test_a_start_on_the_flash_that_a_cut_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The truth decides: what the plant, the settings, the log or a bolus say otherwise is
    told."""
    monkeypatch.setattr(powercut, "_SEGMENT", 6)
    monkeypatch.setattr(powercut, "_LIVING", {"quick": 6})
    campaign.run(PowerCut(3, "quick", ("PWR-4",)), tmp_path)
    folder = tmp_path / "living-6"
    state = json.loads((folder / "state.json").read_text())
    right = {
        "number": 1,
        "settings": state["settings"],
        "refills": state["refills"],
        "in_bolus": False,
        "next_event": state["next_event"],
        "over_steps": state["over_steps"],
        "plant": state["plant"],
        "all_records": True,
    }

    def why(**changes: object) -> str:
        shutil.copy(folder / "flash.bin", work)
        return next(vm_runs.run("power_image", {**right, **changes}, work))["why"]

    work = tmp_path / "work"
    work.mkdir()
    found = why()
    assert found == ""
    plant = state["plant"]
    assert "too few" in why(plant={**plant, "pulses": plant["pulses"] + 6})
    assert "too many" in why(plant={**plant, "pulses": plant["pulses"] - 6})
    assert why(plant={**plant, "pulses": plant["pulses"] - 6}, in_bolus=True) == ""
    assert "neither old nor new" in why(settings=[[1, 2, False]])
    assert "refill" in why(refills=[[99, 1]])
    assert "were written" in why(next_event=state["next_event"] + 100)
