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
    read_requirements,
    unknown,
)

ROOT = Path(__file__).parents[1]

TWO = {
    "DEL-1": Requirement("DEL-1", "drift", "volume", "< 1 step"),
    "ACC-1": Requirement("ACC-1", "no balance", "a | b", "exact"),
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
    assert "| ACC-1 | no balance | *open* |  |" in page
    assert "1 of 2 have a test." in page
    assert "1 of 2 without a test:\nACC-1" in as_text(TWO, tests)


# A project of two tests, enough for the trace to work on.
_TEST = """
import pytest

@pytest.mark.requirement("{identity}")
@pytest.mark.parametrize("rate", [1, 2])
def test_delivers(rate):
    assert rate
"""


def seeded_project(folder: Path, identity: str) -> Path:
    """A copy of what the trace works with, and one test that names ``identity``."""
    for name in ("firmware/tests", "host_tools/tests", "hil_tests"):
        (folder / name).mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\naddopts = '--import-mode=importlib'\n"
        "pythonpath = ['.']\nmarkers = ['requirement(id): x', 'needs(offer): x']\n"
    )
    for name in ("__init__.py", "trace.py", "requirements.toml"):
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
    assert "58 of 59 without a test:" in printed
    assert check(project).returncode == 0


def test_a_test_that_cannot_be_collected_is_told(tmp_path: Path) -> None:
    project = seeded_project(tmp_path, "DEL-1")
    (project / "hil_tests" / "test_broken.py").write_text("import nothing_of_this_name\n")
    done = check(project)
    assert done.returncode == 1
    assert "nothing_of_this_name" in done.stderr
