"""Collect ``firmware/tests/test_*.py`` as tests that run in the real MicroPython VM.

A firmware test file is plain MicroPython: ``test_*`` functions without arguments, bare asserts, no
pytest. Every function is an item ``test_clock.py::test_wraps[vm]``. One VM process a file runs all
of the file's items that were asked for, in the order of the file, with a heap of HEAP, an
empty folder of its own as the working directory, and firmware/, firmware/tests/ and
boards/virtual/ to import from. When the VM dies, the items it did not tell of fail with its
output.

Names a file may define, each a literal:
- ``PURE = True``: needs no MicroPython; every function also runs under CPython, as
  ``test_clock.py::test_wraps[cpython]``.
- ``VM_ONLY = ("test_name", ...)``: those of a pure file that do not.
- ``REQUIREMENTS = {"test_name": ["DEL-1"]}``: IDs of hil_tests/requirements.toml that it shows.
- ``TIMEOUT_S = 60``: how long the file's VM may take, DEFAULT_TIMEOUT_S unless said.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HEAP = "256wk"  # in words of 32 bits; more than a board has: sources are compiled here
DEFAULT_TIMEOUT_S = 120.0

HERE = Path(__file__).parent
FIRMWARE = HERE.parent
VIRTUAL = FIRMWARE.parent / "boards" / "virtual"
RUNNER = HERE / "run_in_vm.py"
SHIMS = HERE / "cpython"


def vm_command() -> list[str]:
    """The command that starts the VM; raises what ``find_vm`` raises when there is none."""
    from cisterna.vm import find_vm

    return [find_vm()]


@dataclasses.dataclass
class FirmwareTests:
    """What a firmware test file says of itself, read without importing it."""

    functions: dict[str, int]  # name: line, in the order of the file
    pure: bool = False
    vm_only: tuple[str, ...] = ()
    requirements: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    timeout_s: float = DEFAULT_TIMEOUT_S


class BadTestFile(Exception):
    """A firmware test file breaks the convention."""


_SETTINGS = {
    "PURE": "pure",
    "VM_ONLY": "vm_only",
    "REQUIREMENTS": "requirements",
    "TIMEOUT_S": "timeout_s",
}


def read_tests(path: Path) -> FirmwareTests:
    """Raises BadTestFile for a file without tests, and for names and arguments that do not fit."""
    tests = FirmwareTests({})
    for node in ast.parse(path.read_text(encoding="utf-8"), str(path)).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            if node.name in tests.functions:
                raise BadTestFile(f"{path.name}: {node.name} is there twice")
            if ast.unparse(node.args):
                raise BadTestFile(f"{path.name}: {node.name} takes arguments; the VM gives none")
            tests.functions[node.name] = node.lineno
        elif isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_"):
            raise BadTestFile(f"{path.name}: {node.name} is async; call asyncio.run() inside")
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            setting = _SETTINGS.get(node.targets[0].id)
            if setting is not None:
                setattr(tests, setting, ast.literal_eval(node.value))
    if not tests.functions:
        raise BadTestFile(f"{path.name} has no test_ functions")
    for name in (*tests.vm_only, *tests.requirements):
        if name not in tests.functions:
            raise BadTestFile(f"{path.name} speaks of {name}, which it does not define")
    return tests


@dataclasses.dataclass
class Told:
    """What a VM told of one test."""

    ok: bool
    trace: str
    heap: int
    output: str


@dataclasses.dataclass
class VmRun:
    """What came of one VM process. ``left_over``: its output after the last test it told of."""

    told: dict[str, Told]
    end: str
    left_over: str


_LINE = '{"test": '


def run_in_vm(path: Path, tests: list[str], timeout_s: float, folder: Path) -> VmRun:
    """Run ``tests`` of the file in one VM, with ``folder`` as its working directory."""
    folders = (FIRMWARE, HERE, VIRTUAL)
    environment = dict(os.environ, MICROPYPATH=":".join([*map(str, folders), ".frozen"]))
    command = [*vm_command(), "-X", f"heapsize={HEAP}", str(RUNNER), str(path), *tests]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        octets, _ = process.communicate(timeout=timeout_s)
        end = f"the VM ended with exit code {process.returncode}"
    except subprocess.TimeoutExpired:
        process.kill()
        octets, _ = process.communicate()
        end = f"the VM was ended after {timeout_s:g} s"
    told: dict[str, Told] = {}
    said: list[str] = []
    for line in octets.decode(errors="replace").splitlines(keepends=True):
        before, mark, rest = line.partition(_LINE)
        try:
            result = json.loads(mark + rest)
        except ValueError:
            said.append(line)
            continue
        said.append(before)
        told[result["test"]] = Told(result["ok"], result["trace"], result["heap"], "".join(said))
        said = []
    return VmRun(told, end, "".join(said))


class VmFailure(Exception):
    """A test failed in the VM; the text is what to show."""


class VmItem(pytest.Item):
    """One test function in the VM. ``fixturenames``: none; plugins of others read it of every
    item."""

    fixturenames = ()

    def __init__(self, *, test: str, line: int, **rest) -> None:
        super().__init__(**rest)
        self.test = test
        self.line = line

    def runtest(self) -> None:
        run = self.parent.vm_run(self)
        told = run.told.get(self.test)
        if told is None and "" in run.told:
            raise VmFailure(f"{self.path.name} cannot be imported\n{run.told[''].trace}")
        if told is None:
            lost = [name for name in self.parent.asked if name not in run.told]
            where = f"{run.end} in {lost[0]}"
            if lost[0] != self.test:
                where += f", before {self.test}"
            raise VmFailure(f"{where}; its last output:\n{run.left_over.strip() or '(nothing)'}")
        if told.output:
            self.add_report_section("call", "VM output", told.output)
        self.user_properties.append(("heap", told.heap))
        if not told.ok:
            raise VmFailure(with_source(told.trace))

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, VmFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, self.line - 1, self.name


def with_source(trace: str) -> str:
    """A MicroPython traceback with the source under each of its lines, less the runner's own."""
    lines: list[str] = []
    for line in trace.strip().splitlines():
        place = re.match(r'\s+File "(.+)", line (\d+)', line)
        if place is None:
            lines.append(line)
            continue
        path = Path(place[1])
        if path.name == RUNNER.name:
            continue
        lines.append(line)
        with contextlib.suppress(OSError, IndexError):
            source = path.read_text(encoding="utf-8").splitlines()[int(place[2]) - 1]
            lines.append("    " + source.strip())
    return "\n".join(lines)


class FirmwareFile(pytest.Module):
    """A firmware test file: items for the VM, and for CPython where the file is pure."""

    _run: VmRun | Exception | None = None
    asked: list[str]

    def collect(self):
        try:
            tests = read_tests(self.path)
        except BadTestFile as error:
            raise self.CollectError(str(error)) from error
        self.timeout_s = tests.timeout_s
        items: list[pytest.Item] = [
            VmItem.from_parent(self, name=f"{name}[vm]", test=name, line=line)
            for name, line in tests.functions.items()
        ]
        if tests.pure:
            with shims():
                items += [
                    item for item in super().collect() if item.originalname not in tests.vm_only
                ]
        for item in items:
            name = item.test if isinstance(item, VmItem) else item.originalname
            identities = tests.requirements.get(name)
            if identities:
                item.add_marker(pytest.mark.requirement(*identities))
        return items

    def vm_run(self, item: VmItem) -> VmRun:
        """Run all items of this file that the session asks for, once."""
        if self._run is None:
            self.asked = [
                each.test
                for each in item.session.items
                if isinstance(each, VmItem) and each.parent is self
            ]
            try:
                with tempfile.TemporaryDirectory(prefix="cisterna-vm-") as folder:
                    self._run = run_in_vm(self.path, self.asked, self.timeout_s, Path(folder))
            except Exception as error:  # no VM to be had: every item tells, the first one looked
                self._run = error
        if isinstance(self._run, Exception):
            raise self._run
        return self._run


def pytest_pycollect_makemodule(module_path: Path, parent) -> pytest.Module:
    return FirmwareFile.from_parent(parent, path=module_path)


def pytest_generate_tests(metafunc) -> None:
    """Give the CPython items of a firmware file their ``[cpython]``."""
    if isinstance(metafunc.definition.parent, FirmwareFile):
        metafunc.fixturenames.append("interpreter")
        metafunc.parametrize("interpreter", ["cpython"])


_shims = {}


@contextlib.contextmanager
def shims() -> Iterator[None]:
    """Let ``import micropython`` and the like find the modules in cpython/, and only in here."""
    names = [path.stem for path in SHIMS.glob("*.py")]
    outside = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.modules.update(_shims)
    sys.path.insert(0, str(SHIMS))
    try:
        yield
    finally:
        sys.path.remove(str(SHIMS))
        for name in names:
            if name in sys.modules:
                _shims[name] = sys.modules.pop(name)
        sys.modules.update(outside)


@pytest.fixture(autouse=True)
def _shimmed() -> Iterator[None]:
    with shims():
        yield
