"""The parts every campaign is made of: cases, workers, results that outlive Ctrl-C, verdicts."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cisterna import campaign, campaign_dask, campaign_report, cli_campaigns
from cisterna.attack import Attack
from cisterna.campaign import Batch, BrokenCampaign, Campaign, Evidence, Result, case_parts
from cisterna.errors import CisternaError, UsageError
from cisterna.flips import Flips
from cisterna.powercut import PowerCut
from cisterna.powercut_emulated import EmulatedPowerCut
from cisterna.prescription import NOTICE

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None,
    reason="Dask is not installed: pip install distributed",
)

CASES = 12
A_BATCH = 3


class Toy(Campaign):
    """Case N fails where N squared ends in the seed. Each batch needs the one before."""

    name = "toy"
    stop_at = -1  # case at which the user presses Ctrl-C
    chained = False

    def batches(self) -> list[Batch]:
        numbers = range(CASES)
        return [
            Batch(
                tuple(f"toy:{self.seed}:T-1:{number}" for number in numbers[at : at + A_BATCH]),
                after=at // A_BATCH - 1 if self.chained else -1,
                weight=A_BATCH,
            )
            for at in range(0, CASES, A_BATCH)
        ]

    def run_batch(self, cases: tuple[str, ...], folder: Path) -> Iterator[Result]:
        first = int(cases[0].split(":")[3])
        if self.chained and first:
            assert (folder / f"done-{first - 1}").is_file()
        for case in cases:
            number = int(case.split(":")[3])
            if number == self.stop_at:
                raise KeyboardInterrupt
            with (folder / "ran.txt").open("a") as ran:
                ran.write(f"{number}\n")
            wrong = ((case, "its square"),) if number**2 % 10 == self.seed else ()
            (folder / f"done-{number}").touch()
            yield Result(case, failures=wrong, figures={"square": number**2})

    def evidence(self, results: list[Result]) -> list[Evidence]:
        return [
            Evidence(
                "T-1",
                "no square ends in the seed",
                f"largest {campaign.largest(results, 'square')}",
                not campaign.failures(results),
            )
        ]

    def replay(self, case: str, folder: Path) -> Iterator[str]:
        number = int(case_parts(case, self.name, 4)[3])
        yield f"{number} squared is {number**2}"
        yield "verdict: its square" if number**2 % 10 == self.seed else "verdict: all holds"


def ran(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "ran.txt").read_text().split()]


def verdict(toy: Toy, results: list[Result]) -> dict[str, Any]:
    found = campaign.data(toy, results, 1.0, 1)
    del found["run"]
    return found


def test_every_case_is_run_and_told_in_order(tmp_path: Path) -> None:
    toy = Toy(6, "quick")
    seen: list[tuple[int, int, int]] = []
    results = campaign.run(toy, tmp_path, progress=lambda *now: seen.append(now))
    assert [each.case for each in results] == [f"toy:6:T-1:{number}" for number in range(CASES)]
    assert campaign.failures(results) == [
        ("toy:6:T-1:4", "its square"),
        ("toy:6:T-1:6", "its square"),
    ]
    assert seen[0] == (0, CASES, 0)
    assert seen[-1] == (CASES, CASES, 2)
    assert verdict(toy, results)["holds"] is False
    assert verdict(Toy(3, "quick"), campaign.run(Toy(3, "quick"), tmp_path / "3"))["holds"] is True


def test_a_campaign_that_was_interrupted_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    whole = campaign.run(Toy(6, "quick"), tmp_path / "whole")
    toy = Toy(6, "quick")
    toy.stop_at = 7
    with pytest.raises(KeyboardInterrupt):
        campaign.run(toy, tmp_path / "cut")
    assert ran(tmp_path / "cut") == list(range(7))
    again = campaign.run(Toy(6, "quick"), tmp_path / "cut")
    assert ran(tmp_path / "cut") == list(range(CASES))
    assert again == whole


def test_half_a_line_is_no_result(tmp_path: Path) -> None:
    toy = Toy(6, "quick")
    toy.stop_at = 5
    with pytest.raises(KeyboardInterrupt):
        campaign.run(toy, tmp_path)
    path = tmp_path / campaign.RESULTS
    path.write_text(path.read_text()[:-9])
    results = campaign.run(Toy(6, "quick"), tmp_path)
    assert len(results) == CASES
    assert ran(tmp_path) == [0, 1, 2, 3, 4, *range(4, CASES)]


@pytest.mark.parametrize("other", [Toy(7, "quick"), Toy(6, "full")])
def test_results_of_another_campaign_are_not_gone_on_with(tmp_path: Path, other: Toy) -> None:
    toy = Toy(6, "quick")
    toy.stop_at = 5
    with pytest.raises(KeyboardInterrupt):
        campaign.run(toy, tmp_path)
    campaign.run(other, tmp_path)
    assert ran(tmp_path) == [*range(5), *range(CASES)]


def test_a_finished_campaign_begins_anew(tmp_path: Path) -> None:
    for _ in range(2):
        campaign.run(Toy(6, "quick"), tmp_path)
    assert ran(tmp_path) == [*range(CASES), *range(CASES)]


@pytest.mark.parametrize("chained", [False, True])
def test_one_and_three_workers_give_the_same_verdict(tmp_path: Path, chained: bool) -> None:
    toy = Toy(6, "quick")
    toy.chained = chained
    one = campaign.run(toy, tmp_path / "1", workers=1)
    three = campaign.run(toy, tmp_path / "3", workers=3)
    assert verdict(toy, one) == verdict(toy, three)
    assert sorted(ran(tmp_path / "3")) == list(range(CASES))


@needs_dask
@pytest.mark.parametrize("chained", [False, True])
def test_a_cluster_of_one_and_of_two_give_the_same_verdict(tmp_path: Path, chained: bool) -> None:
    toy = Toy(6, "quick")
    toy.chained = chained
    here = campaign.run(toy, tmp_path / "here")
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        found = campaign.run(toy, folder, workers, dask="local")
        assert found == here
        assert verdict(toy, found) == verdict(toy, here)
        assert not (folder / "ran.txt").exists()  # nothing is shared but what comes back


def test_what_a_cluster_gets_after_an_interruption() -> None:
    toy = Toy(6, "quick")
    cases = [batch.cases for batch in toy.batches()]
    missing = {case for batch in cases for case in batch[1:]} - set(cases[2])
    assert campaign_dask.chains(toy.batches(), missing) == [
        [cases[0][1:]],
        [cases[1][1:]],
        [cases[3][1:]],
    ]
    toy.chained = True
    assert campaign_dask.chains(toy.batches(), missing) == [cases]
    assert campaign_dask.chains(toy.batches(), set()) == []


@needs_dask
def test_a_worker_with_other_firmware_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign_dask, "firmware_hash", lambda: "another")
    with pytest.raises(BrokenCampaign, match="here it is another"):
        campaign.run(Toy(6, "quick"), tmp_path, 1, dask="local")


@needs_dask
def test_no_scheduler_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign_dask, "_CONNECT_S", 1)
    with pytest.raises(CisternaError, match="no Dask scheduler"):
        campaign.run(Toy(6, "quick"), tmp_path, dask="tcp://127.0.0.1:9")


def test_a_case_that_tells_nothing_is_an_error(tmp_path: Path) -> None:
    class Mute(Toy):
        def run_batch(self, cases: tuple[str, ...], folder: Path) -> Iterator[Result]:
            yield from list(super().run_batch(cases, folder))[1:]

    with pytest.raises(BrokenCampaign, match="4 cases told nothing, the first is toy:6:T-1:0"):
        campaign.run(Mute(6, "quick"), tmp_path)


def test_the_page_holds_all_and_fetches_nothing(tmp_path: Path) -> None:
    toy = Toy(6, "quick")
    results = campaign.run(toy, tmp_path)
    odd = Result("toy:6:T-1:<b>", failures=(("toy:6:T-1:<b>", "a < b"),))
    html, as_json = campaign_report.write(campaign.data(toy, [*results, odd], 1.5, 2), tmp_path)
    page = html.read_text()
    assert NOTICE in page
    assert "toy:6:T-1:4" in page
    assert "a &lt; b" in page
    assert "<b>" not in page
    assert "http" not in page
    found = json.loads(as_json.read_text())
    assert found["identity"]["seed"] == 6
    assert found["identity"]["firmware"] == campaign.firmware_hash()
    assert found["failures"][0] == {"id": "toy:6:T-1:4", "why": "its square"}
    assert found["run"] == {"seconds": 1.5, "workers": 2}


class Less(Toy):
    """Its quick setting does less than its figure tells."""

    bench = "emulated"

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "requirements": ["T-1", "T-2"], "rates": []}

    def evidence(self, results: list[Result]) -> list[Evidence]:
        quick = self.setting == "quick"
        return [dataclasses.replace(row, quick=quick) for row in super().evidence(results)]


@pytest.mark.parametrize("setting", ["quick", "full"])
def test_the_quick_setting_does_not_pass_for_the_requirements_figures(
    tmp_path: Path, setting: campaign.Setting, capsys: pytest.CaptureFixture[str]
) -> None:
    cli_campaigns.run(Less(3, setting), tmp_path, None, "1", False)
    shown = " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "toy.html").read_text()
    found = json.loads((tmp_path / "toy.json").read_text())
    assert found["holds"] is True
    quick = setting == "quick"
    assert found["quick"] is found["evidence"][0]["quick"] is quick
    assert ("largest 121: holds at the quick setting's figures" in shown) is quick
    assert ("cisterna bench toy --bench emulated --full" in shown) is quick
    assert ("cisterna bench toy --bench emulated --full" in page) is quick
    assert page.count("holds at the quick setting&#x27;s figures") == 2 * quick
    assert page.count('<span class="holds">') == 2 * (not quick)
    assert "<td>T-1, T-2</td>" in page
    assert "<td>not given</td>" in page
    cli_campaigns.run(Less(3, setting), tmp_path, None, "1", True)
    assert json.loads(capsys.readouterr().out)["quick"] is quick


def test_what_fails_fails_in_the_quick_setting_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        cli_campaigns.run(Less(6, "quick"), tmp_path, None, "1", False)
    assert "largest 121: FAILS" in capsys.readouterr().out
    assert '<span class="fails">fails</span>' in (tmp_path / "toy.html").read_text()


def test_every_campaign_tells_what_its_quick_setting_is() -> None:
    fuzz = Result("attack:1:INP-1:fuzz:0", runs=20_000)
    honest = Result("attack:1:none:honest:0")
    flips = Result("flips:1:FLT-4:0", runs=1_000)
    for setting in ("quick", "full"):
        quick = setting == "quick"
        rows = Attack(1, setting).evidence([fuzz, honest])
        assert {row.requirement: row.quick for row in rows} == {"no fault": False, "INP-1": quick}
        assert [row.quick for row in Flips(1, setting).evidence([flips])] == [quick]
        rows = PowerCut(1, setting).evidence([Result("powercut:1:PWR-1:1")])
        assert {row.quick for row in rows} == {quick}
        (row,) = EmulatedPowerCut(1, setting).evidence([Result("powercut:1:PWR-4:1", runs=5)])
        assert (row.quick, "1,000 random cuts" in row.wanted) == (quick, True)


@pytest.mark.parametrize("case", ["", "toy", "toy:x:T-1:3", "other:1:T-1:3", "toy:6:T-1"])
def test_an_id_that_names_no_case_is_refused(case: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no case of campaign toy"):
        list(Toy(6, "quick").replay(case, tmp_path))
