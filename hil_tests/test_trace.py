"""TRACE.md, the requirements and the marks of the tests agree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hil_tests.trace import (
    Requirement,
    TracedTest,
    as_markdown,
    as_text,
    by_requirement,
    closed,
    read_requirements,
    read_trace,
    unknown,
    unshown,
    without_open,
)

ROOT = Path(__file__).parents[1]

TWO = {
    "DEL-1": Requirement("DEL-1", "drift", "volume", "< 1 step"),
    "ACC-1": Requirement("ACC-1", "no balance", "a | b", "exact", "not yet"),
}


def trace(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the trace of the project in ``folder``."""
    places = [folder, ROOT / "host_tools", ROOT / "firmware"]
    return subprocess.run(
        [sys.executable, "-m", "hil_tests.trace", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    return trace(folder, "--check")


def test_trace_is_fresh_and_every_id_exists() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stderr + done.stdout


def test_requirements_are_all_there() -> None:
    requirements = read_requirements()
    areas = {"DEL": 8, "ACC": 8, "THE": 6, "ALM": 6, "FLT": 5, "PWR": 6, "SEC": 8, "INP": 5}
    areas["CST"] = 7
    expected = [f"{area}-{number + 1}" for area, count in areas.items() for number in range(count)]
    assert list(requirements) == expected
    assert all(row.text and row.figure and row.hazard for row in requirements.values())


def test_unknown_id_is_told() -> None:
    tests = [TracedTest("a.py::test_x", ("DEL-1", "DEL-99"), ("virtual",))]
    assert unknown(TWO, tests) == ["a.py::test_x names DEL-99, which is not in requirements.toml"]


def test_open_requirements_are_told() -> None:
    tests = [TracedTest("a.py::test_x", ("DEL-1",), ("virtual", "emulated"))]
    assert by_requirement(TWO, tests) == {"DEL-1": tests, "ACC-1": []}
    page = as_markdown(TWO, tests)
    assert "| DEL-1 | drift | `a.py::test_x` | virtual, emulated |" in page
    assert "| ACC-1 | no balance | *open*: not yet |  |" in page
    assert "1 of 2 have a test." in page
    assert "1 of 2 without a test:\nACC-1   a | b\n        open: not yet" in as_text(TWO, tests)


def test_a_requirement_without_a_test_says_why_or_is_told() -> None:
    tests = [TracedTest("a.py::test_x", ("ACC-1",), ("virtual",))]
    told = ["DEL-1 has no test: write one, or say why not in requirements.toml (open = ...)"]
    assert unshown(TWO, tests) == told
    assert unshown(TWO, [TracedTest("a.py::test_x", ("DEL-1",), ("virtual",))]) == []
    assert closed(TWO, tests) == ["ACC-1"]


def test_open_is_taken_out_of_the_table_where_there_is_a_test() -> None:
    text = '# open = x\n[A-1]\ntext = "[A-2]"\nopen = "why"\n\n[A-2]\nopen = "so"\ntext = "t"\n'
    assert without_open(text, ["A-1"]) == text.replace('open = "why"\n', "")
    assert without_open(text, ["A-2"]) == text.replace('open = "so"\n', "")


def test_the_written_trace_is_read() -> None:
    found = read_trace()
    assert (
        "hil_tests/test_trumpet.py::test_flow_error_is_inside_the_bound_of_an_ideal_pump"
        in (found["DEL-3"])
    )
    assert set(found) <= set(read_requirements())


# The rows of a project: one that a seeded test names, and one that none does.
_ROWS = """
[DEL-1]
hazard = "drift"
text = "volume"
pass = "< 1 step"
open = "why"

[ACC-1]
hazard = "no balance"
text = "sum"
pass = "exact"
{reason}"""
_OPEN = 'open = "not yet"\n'


# A project of two tests, enough for the trace to work on.
_TEST = """
import pytest

@pytest.mark.requirement("{identity}")
@pytest.mark.parametrize("rate", [1, 2])
def test_delivers(rate):
    assert rate
"""


def seeded_project(folder: Path, identity: str, reason: str = _OPEN) -> Path:
    """What the trace works with, and one test that names ``identity``; ``reason``: of ACC-1."""
    for name in ("firmware/tests", "host_tools/tests", "hil_tests"):
        (folder / name).mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\naddopts = '--import-mode=importlib'\n"
        "pythonpath = ['.']\nmarkers = ['requirement(id): x', 'needs(offer): x']\n"
    )
    (folder / "hil_tests" / "requirements.toml").write_text(_ROWS.format(reason=reason))
    for name in ("__init__.py", "trace.py"):
        source = ROOT / "hil_tests" / name
        (folder / "hil_tests" / name).write_text(source.read_text(encoding="utf-8"), "utf-8")
    (folder / "hil_tests" / "test_seeded.py").write_text(_TEST.format(identity=identity))
    return folder


@pytest.mark.parametrize(
    ("identity", "told"),
    [
        ("DEL-1", "hil_tests/TRACE.md is stale: run `make trace`"),
        ("DEL-99", "test_delivers names DEL-99, which is not in requirements.toml"),
    ],
)
def test_check_is_red_on_a_seeded_fault(tmp_path: Path, identity: str, told: str) -> None:
    done = check(seeded_project(tmp_path, identity))
    assert done.returncode == 1
    assert told in done.stderr


def test_written_trace_passes_the_check(tmp_path: Path) -> None:
    project = seeded_project(tmp_path, "DEL-1")
    done = trace(project)
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    assert "hil_tests/test_seeded.py::test_delivers (host)" in printed
    assert "1 of 2 without a test:" in printed
    assert check(project).returncode == 0
    assert (project / "hil_tests" / "requirements.toml").read_text() == (
        _ROWS.format(reason=_OPEN).replace('open = "why"\n', "")
    )


def test_check_is_red_where_nobody_says_why_there_is_no_test(tmp_path: Path) -> None:
    project = seeded_project(tmp_path, "DEL-1", reason="")
    assert trace(project).returncode == 1
    done = check(project)
    assert done.returncode == 1
    assert "ACC-1 has no test: write one, or say why not" in done.stderr


def test_check_is_red_where_one_with_a_test_is_declared_open(tmp_path: Path) -> None:
    project = seeded_project(tmp_path, "DEL-1")
    trace(project)
    (project / "hil_tests" / "requirements.toml").write_text(_ROWS.format(reason=_OPEN))
    done = check(project)
    assert done.returncode == 1
    assert "DEL-1 have a test and are declared open: run `make trace`" in done.stderr


def test_a_test_that_cannot_be_collected_is_told(tmp_path: Path) -> None:
    project = seeded_project(tmp_path, "DEL-1")
    (project / "hil_tests" / "test_broken.py").write_text("import nothing_of_this_name\n")
    done = check(project)
    assert done.returncode == 1
    assert "nothing_of_this_name" in done.stderr
