"""The bench fixture's habits: skip what a bench lacks, fail once when it is broken, then skip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent

# A plugin that puts benches which show each habit in the place of the real ones.
_BENCHES = """
import cisterna
from cisterna.emulator import NoPicoImage

class Bench:
    offers = frozenset({"advance", "truth"})
    def __init__(self, seed):
        self.seed = seed
    def __enter__(self):
        return self
    def __exit__(self, *_):
        print("closed", self.seed)
    def close(self):
        print("ended")

def open_bench(name, *, seed):
    if name == "broken":
        raise OSError("no such bench today")
    if name == "imageless":
        raise NoPicoImage("no image for the Pico: look in three places")
    if name == "emulated":
        print("started")
    return Bench(seed)

cisterna.open_bench = open_bench
"""

_TESTS = """
import pytest

def test_plain(bench):
    assert bench.offers

@pytest.mark.needs("truth", "edges", "flash_cuts")
def test_needy(bench):
    assert False, "it must not run"

@pytest.mark.needs("advance", "truth")
def test_served(bench, seed, full):
    assert (bench.seed, seed, full) == (SEED, SEED, FULL)

@pytest.mark.requirement("DEL-99")
def test_of_nothing():
    pass
"""

_FORKED = """
import os

import pytest

def test_first(bench):
    assert bench.seed == 1
    bench.seed = 2

@pytest.mark.needs("edges", "day")
def test_lacking(bench):
    assert False, "it must not run"

def test_second(bench):
    assert bench.seed == 1

def test_fails(bench):
    assert bench.seed == 3

def test_dies(bench):
    os._exit(7)
"""


class Project:
    """hil_tests with its real conftest.py, in front of benches that are not real."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tests = folder / "hil_tests"
        self.tests.mkdir()
        for name in (
            *("__init__.py", "booted.py", "conftest.py", "evidence.py", "trace.py", "TRACE.md"),
            "requirements.toml",
        ):
            (self.tests / name).write_text((HERE / name).read_text(encoding="utf-8"), "utf-8")
        (folder / "benches.py").write_text(_BENCHES)
        (folder / "pytest.ini").write_text(
            "[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\npythonpath = .\n"
            "markers =\n    requirement(id): x\n    needs(offer): x\n"
        )

    def run(self, *options: str, seed: int = 1, full: bool = False, tests: str = _TESTS) -> str:
        """What pytest prints."""
        text = tests.replace("SEED", str(seed)).replace("FULL", str(full))
        (self.tests / "test_it.py").write_text(text)
        command = [sys.executable, "-m", "pytest", "hil_tests", "-rA", "--color=no"]
        places = [self.folder, ROOT / "host_tools", ROOT / "firmware"]
        done = subprocess.run(
            [*command, "-p", "benches", *options],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_skip_names_what_is_missing(project: Project) -> None:
    said = project.run("-k", "not test_of_nothing")
    assert "bench: virtual, seed: 1, quick" in said
    assert "PASSED hil_tests/test_it.py::test_plain" in said
    assert "the virtual bench does not offer edges, flash_cuts" in said
    assert "PASSED hil_tests/test_it.py::test_served" in said
    assert "2 passed, 1 skipped, 1 deselected" in said


def test_skip_names_what_is_missing_from_the_first_test_on(project: Project) -> None:
    said = project.run("-k", "needy")
    assert "the virtual bench does not offer edges, flash_cuts" in said
    assert "1 skipped" in said


def test_unknown_requirement_fails_its_test(project: Project) -> None:
    said = project.run("-k", "test_of_nothing")
    assert "DEL-99 is not in hil_tests/requirements.toml" in said
    assert "1 error" in said


def test_options_reach_test_and_bench(project: Project) -> None:
    said = project.run("-k", "served", "--seed", "42", "--full", seed=42, full=True)
    assert "bench: virtual, seed: 42, full" in said
    assert "1 passed" in said


def test_broken_bench_fails_once_and_then_skips(project: Project) -> None:
    said = project.run("--bench", "broken", "-k", "plain or needy or served")
    assert "ERROR hil_tests/test_it.py::test_plain - OSError: no such bench today" in said
    assert "the broken bench is broken: OSError: no such bench today" in said
    assert "2 skipped" in said
    assert "1 error" in said


def test_bench_that_is_not_to_be_had_skips_with_its_reason(project: Project) -> None:
    said = project.run("--bench", "imageless", "-k", "plain or needy or served")
    assert "no image for the Pico: look in three places" in said
    assert "3 skipped" in said
    assert "error" not in said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here: each test starts its own")
def test_emulated_bench_is_started_once_and_new_for_each_test(project: Project) -> None:
    (project.tests / "test_other.py").write_text("def test_without():\n    pass\n")
    said = project.run("--bench", "emulated", "-s", tests=_FORKED)
    assert said.count("started\n") == 1
    assert said.count("ended\n") == 1
    assert said.count("closed") == 3  # not by the one that dies
    assert "assert 1 == 3" in said
    assert "its process ended with 7" in said
    assert "2 failed, 3 passed, 1 skipped" in said
