"""The report of a run: what it says of tests that pass, fail and are skipped, alone and on several
workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from cisterna.prescription import NOTICE
from hil_tests.test_bench_fixture import Project

_TESTS = """
import pytest

PNG = b"\\x89PNG of one pixel"

@pytest.mark.requirement("DEL-1")
def test_holds(bench, measured, picture):
    measured("DEL-1", 0.25, "steps <at> most")
    measured("DEL-1", "none", "drift")
    picture("dot.png", PNG)

@pytest.mark.requirement("DEL-2", "DEL-1")
def test_fails(bench, measured):
    measured("DEL-2", 12, "us")
    print("what it printed")
    assert not ["powercut:1:PWR-2:17:half_program", "a < b"]

@pytest.mark.requirement("DEL-6")
@pytest.mark.needs("runs")
def test_lacks(bench):
    pass

@pytest.mark.requirement("DEL-6")
def test_names_another(bench, measured):
    with pytest.raises(ValueError, match="does not name DEL-7"):
        measured("DEL-7", 0, "steps")
"""


@pytest.fixture(params=[(), ("-n", "2")], ids=["alone", "workers"])
def reported(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Folder and data of a run's report."""
    project = Project(tmp_path)
    folder = tmp_path / "out"
    said = project.run("--report", str(folder), "--seed", "7", *request.param, tests=_TESTS)
    assert "report.html" in said
    return folder, json.loads((folder / "report.json").read_text())


def test_verdicts_figures_and_replays(reported: tuple[Path, dict[str, Any]]) -> None:
    folder, data = reported
    rows = {row["id"]: row for row in data["requirements"]}
    assert rows["DEL-1"]["verdict"] == "fails"  # one test of two
    assert rows["DEL-2"]["verdict"] == "fails"
    assert rows["DEL-6"]["verdict"] == "holds"
    assert rows["DEL-3"]["verdict"] == "not in this run"
    assert "test_trumpet.py" in rows["DEL-3"]["why"]
    assert all(row["why"] for row in rows.values() if row["verdict"] == "open")
    figures = [(one["value"], one["unit"]) for one in rows["DEL-1"]["measured"]]
    assert figures == [(0.25, "steps <at> most"), ("none", "drift")]
    assert rows["DEL-7"]["measured"] == []
    tests = {test["test"].rpartition("::")[2]: test for test in data["tests"]}
    failed = tests["test_fails"]
    assert failed["replay"].endswith("test_it.py::test_fails --bench virtual --seed 7")
    assert failed["cases"] == ["powercut:1:PWR-2:17:half_program"]
    assert "what it printed" in (folder / failed["log"]).read_text()
    assert tests["test_lacks"]["outcome"] == "skipped"
    assert "the virtual bench does not offer runs" in tests["test_lacks"]["why"]
    assert data["run"]["bench"] == "virtual"
    assert data["run"]["seed"] == 7
    assert len(data["run"]["firmware_hash"]) == 16


def test_the_page_is_whole_and_fetches_nothing(reported: tuple[Path, dict[str, Any]]) -> None:
    folder, data = reported
    page = (folder / "report.html").read_text()
    assert NOTICE in page
    assert "http" not in page
    assert "0.25 steps &lt;at&gt; most" in page
    assert "<at>" not in page
    assert page.count("data:image/png;base64,") == 1
    assert "cisterna bench powercut --replay powercut:1:PWR-2:17:half_program" in page
    for row in data["requirements"]:
        assert row["id"] in page
    suite = ElementTree.parse(folder / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "1")
