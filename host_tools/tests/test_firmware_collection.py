"""``firmware/tests/conftest.py`` tells the truth: what fails in the VM is red and shows why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "firmware" / "tests"


class Project:
    """A project with firmware tests of its own, run by the real conftest.py and runner."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tests = folder / "firmware" / "tests"
        self.tests.mkdir(parents=True)
        shutil.copy(TESTS / "conftest.py", self.tests)
        shutil.copy(TESTS / "run_in_vm.py", self.tests)
        shutil.copytree(TESTS / "cpython", self.tests / "cpython")
        (folder / "pytest.ini").write_text(
            "[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n"
            "markers = requirement(id): x\n"
            f"pythonpath = {ROOT / 'host_tools'} {ROOT / 'firmware'}\n"
        )

    def run(self, text: str, *options: str) -> tuple[dict[str, str], str]:
        """({item: outcome}, all that pytest printed) for one test file with ``text``."""
        (self.tests / "test_it.py").write_text(text)
        command = [sys.executable, "-m", "pytest", "-rA", "--color=no", "firmware/tests", *options]
        environment = {key: os.environ[key] for key in os.environ if not key.startswith("PYTEST_")}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        outcomes: dict[str, str] = {}
        for line in done.stdout.splitlines():
            outcome, _, rest = line.partition(" ")
            if outcome in ("PASSED", "FAILED", "ERROR") and rest:
                outcomes[rest.split(" - ")[0].partition("::")[2]] = outcome
        return outcomes, done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_functions_run_in_the_vm(project: Project) -> None:
    outcomes, said = project.run(
        "import sys, gc\n"
        "def test_here():\n"
        "    assert sys.implementation.name == 'micropython'\n"
        "    assert gc.mem_free() + gc.mem_alloc() < 2 * 256 * 1024\n"
        "def test_wrong():\n"
        "    print('what it said')\n"
        "    assert 1 + 1 == 3, 'not three'\n"
        "def no_test():\n"
        "    assert False\n"
    )
    assert outcomes == {"test_here[vm]": "PASSED", "test_wrong[vm]": "FAILED"}
    assert "assert 1 + 1 == 3, 'not three'" in said
    assert "AssertionError: not three" in said
    assert "what it said" in said


def test_pure_file_runs_in_both(project: Project) -> None:
    outcomes, said = project.run(
        "import sys\n"
        "from micropython import const\n"
        "PURE = True\n"
        "VM_ONLY = ('test_vm_only',)\n"
        "_SEVEN = const(7)\n"
        "def test_both():\n"
        "    assert _SEVEN == 7\n"
        "def test_vm_only():\n"
        "    assert sys.implementation.name == 'micropython'\n"
        "def test_not_in_cpython():\n"
        "    assert sys.implementation.name == 'micropython'\n"
    )
    assert outcomes == {
        "test_both[vm]": "PASSED",
        "test_both[cpython]": "PASSED",
        "test_vm_only[vm]": "PASSED",
        "test_not_in_cpython[vm]": "PASSED",
        "test_not_in_cpython[cpython]": "FAILED",
    }, said


def test_shim_stays_inside(project: Project) -> None:
    (project.folder / "test_outside.py").write_text(
        "import sys\n"
        "def test_outside():\n"
        "    assert not hasattr(sys.modules.get('micropython'), 'const')\n"
        "    assert not any(path.endswith('cpython') for path in sys.path)\n"
    )
    outcomes, said = project.run(
        "PURE = True\n"
        "def test_late_import():\n"
        "    from micropython import const\n"
        "    assert const(1) == 1\n",
        "test_outside.py",
    )
    assert set(outcomes.values()) == {"PASSED"}, said
    assert len(outcomes) == 3


def test_dead_vm_fails_what_is_left(project: Project) -> None:
    outcomes, said = project.run(
        "def test_first(): assert True\n"
        "def test_dies():\n"
        "    print('last words')\n"
        "    import uctypes\n"
        "    uctypes.bytearray_at(8, 1)[0]\n"
        "def test_never(): assert True\n"
    )
    assert outcomes == {
        "test_first[vm]": "PASSED",
        "test_dies[vm]": "FAILED",
        "test_never[vm]": "FAILED",
    }, said
    assert "the VM ended with exit code -" in said
    assert "in test_dies, before test_never" in said
    assert "last words" in said


def test_hanging_vm_is_ended(project: Project) -> None:
    outcomes, said = project.run(
        "TIMEOUT_S = 1.5\n"
        "def test_first(): assert True\n"
        "def test_hangs():\n"
        "    print('going round')\n"
        "    while True: pass\n"
    )
    assert outcomes == {"test_first[vm]": "PASSED", "test_hangs[vm]": "FAILED"}, said
    assert "the VM was ended after 1.5 s in test_hangs" in said
    assert "going round" in said


def test_test_that_exits_has_failed(project: Project) -> None:
    outcomes, _ = project.run(
        "import sys\ndef test_exits(): sys.exit(0)\ndef test_next(): assert True\n"
    )
    assert outcomes == {"test_exits[vm]": "FAILED", "test_next[vm]": "PASSED"}


def test_memory_is_bounded(project: Project) -> None:
    outcomes, said = project.run(
        "def test_too_much():\n    assert len(bytearray(508 * 1024))\n"
        "def test_after(): assert len(bytearray(64 * 1024))\n"
    )
    assert outcomes == {"test_too_much[vm]": "FAILED", "test_after[vm]": "PASSED"}
    assert "MemoryError" in said


def test_heap_is_unlocked_after_a_failure(project: Project) -> None:
    outcomes, _ = project.run(
        "import micropython\n"
        "def test_allocates():\n    micropython.heap_lock()\n    bytearray(100)\n"
        "def test_next(): assert bytearray(100)\n"
    )
    assert outcomes == {"test_allocates[vm]": "FAILED", "test_next[vm]": "PASSED"}


def test_import_error_is_shown(project: Project) -> None:
    outcomes, said = project.run("import nothing_of_this_name\ndef test_it(): assert True\n")
    assert outcomes == {"test_it[vm]": "FAILED"}
    assert "test_it.py cannot be imported" in said
    assert "no module named 'nothing_of_this_name'" in said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def tset_typo(): assert True\n", "test_it.py has no test_ functions"),
        ("def test_a(): assert True\ndef test_a(): assert True\n", "test_a is there twice"),
        ("def test_a(tmp_path): assert True\n", "test_a takes arguments"),
        ("async def test_a(): assert True\n", "test_a is async"),
        ("REQUIREMENTS = {'test_b': ['DEL-1']}\ndef test_a(): assert True\n", "speaks of test_b"),
        ("VM_ONLY = ('test_b',)\ndef test_a(): assert True\n", "speaks of test_b"),
    ],
)
def test_file_that_breaks_the_convention_is_red(project: Project, text: str, told: str) -> None:
    outcomes, said = project.run(text)
    assert "PASSED" not in outcomes.values()
    assert told in said
    assert "1 error" in said


def test_requirements_become_marks(project: Project) -> None:
    text = (
        "PURE = True\n"
        "REQUIREMENTS = {'test_a': ['DEL-1', 'ACC-1']}\n"
        "def test_a(): assert True\n"
        "def test_b(): assert True\n"
    )
    outcomes, _ = project.run(text, "-m", "requirement")
    assert outcomes == {"test_a[vm]": "PASSED", "test_a[cpython]": "PASSED"}


def test_one_item_runs_alone(project: Project) -> None:
    outcomes, _ = project.run(
        "def test_a(): assert True\ndef test_b():\n    while True: pass\n", "-k", "test_a"
    )
    assert outcomes == {"test_a[vm]": "PASSED"}
