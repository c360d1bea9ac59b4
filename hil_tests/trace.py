"""Which tests show which requirement: ``python -m hil_tests.trace``, or ``make trace``.

Collects every test of the project as pytest does, reads its ``requirement`` marks, prints the IDs
of requirements.toml with their tests and those still without one, and writes TRACE.md. Exit code:
0, or 1 when a test names an ID that does not exist or cannot be collected, or when a requirement
has no test and its row in requirements.toml no ``open``, the reason why not. An ``open`` of one
that has a test is taken out. ``--check`` writes nothing and also fails on what would have been
written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
TABLE = HERE / "requirements.toml"
TRACE = HERE / "TRACE.md"
TEST_FOLDERS = ("firmware/tests", "host_tools/tests", "hil_tests")


@dataclasses.dataclass(frozen=True)
class Requirement:
    """One row of requirements.toml. ``figure``: what passes. ``open``: why it has no test; ""
    where it must have one."""

    identity: str
    hazard: str
    text: str
    figure: str
    open: str = ""


@dataclasses.dataclass(frozen=True)
class TracedTest:
    """A test function with the requirements it names. ``runs_on``: benches, "VM", "CPython",
    "host"."""

    name: str
    identities: tuple[str, ...]
    runs_on: tuple[str, ...]


def read_requirements(path: Path = TABLE) -> dict[str, Requirement]:
    """The requirements by ID, in the order of the file."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        identity: Requirement(
            identity, row["hazard"], row["text"], row["pass"], row.get("open", "")
        )
        for identity, row in rows.items()
    }


def read_trace(path: Path = TRACE) -> dict[str, list[str]]:
    """The tests of every requirement that has any, as TRACE.md has them."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = line.split(" | ")
        tests = re.findall(r"`([^`]+)`", cells[2]) if len(cells) > 3 else []
        if tests:
            found[cells[0].removeprefix("| ")] = tests
    return found


def marked(item: pytest.Item) -> tuple[str, ...]:
    """The requirements that a test's marks name."""
    found = [identity for mark in item.iter_markers("requirement") for identity in mark.args]
    return tuple(dict.fromkeys(found))


def needed(item: pytest.Item | pytest.Module) -> frozenset[str]:
    """What a test's marks say the bench must offer."""
    return frozenset(offer for mark in item.iter_markers("needs") for offer in mark.args)


def bench_offers() -> dict[str, frozenset[str]]:
    """What each simulated bench offers, without opening it."""
    from cisterna.bench_emulated import EmulatedBench
    from cisterna.bench_virtual import VirtualBench

    return {"virtual": VirtualBench.offers, "emulated": EmulatedBench.offers}


def _runs_on(item: pytest.Item, offers: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    if item.name.endswith("[vm]"):
        return ("VM",)
    if item.name.endswith("[cpython]"):
        return ("CPython",)
    if {"bench", "module_bench"} & set(getattr(item, "fixturenames", ())):
        return tuple(bench for bench in offers if needed(item) <= offers[bench])
    return ("host",)


def trace_items(
    items: Iterable[pytest.Item], offers: Mapping[str, frozenset[str]]
) -> list[TracedTest]:
    """The marked tests among ``items``, one a function, sorted by name."""
    identities: dict[str, dict[str, None]] = {}
    runs_on: dict[str, dict[str, None]] = {}
    for item in items:
        found = marked(item)
        if found:
            name = item.nodeid.partition("[")[0]
            identities.setdefault(name, {}).update(dict.fromkeys(found))
            runs_on.setdefault(name, {}).update(dict.fromkeys(_runs_on(item, offers)))
    return [
        TracedTest(name, tuple(identities[name]), tuple(runs_on[name]))
        for name in sorted(identities)
    ]


class _Collector:
    """Takes the items of a pytest session that only collects."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = session.items


class CannotCollect(Exception):
    """pytest could not collect the tests; the text is what it said."""


def collect(project: Path) -> list[pytest.Item]:
    """Every test of the project, not run. Raises CannotCollect."""
    collector = _Collector()
    said = io.StringIO()
    # No cache: this must not touch what another session is keeping there.
    options = ["--collect-only", "-q", "-p", "no:cacheprovider"]
    settings = ["-c", str(project / "pyproject.toml"), "--rootdir", str(project)]
    folders = [str(project / folder) for folder in TEST_FOLDERS]
    with contextlib.redirect_stdout(said):
        code = pytest.main([*options, *settings, *folders], plugins=[collector])
    if code != pytest.ExitCode.OK:
        raise CannotCollect(said.getvalue())
    return collector.items


def unknown(requirements: Mapping[str, Requirement], tests: Iterable[TracedTest]) -> list[str]:
    """One line for every ID that a test names and that does not exist."""
    return [
        f"{test.name} names {identity}, which is not in requirements.toml"
        for test in tests
        for identity in test.identities
        if identity not in requirements
    ]


def unshown(requirements: Mapping[str, Requirement], tests: Iterable[TracedTest]) -> list[str]:
    """One line for every requirement that has no test and does not say why."""
    return [
        f"{identity} has no test: write one, or say why not in requirements.toml (open = ...)"
        for identity, shown in by_requirement(requirements, tests).items()
        if not shown and not requirements[identity].open
    ]


def closed(requirements: Mapping[str, Requirement], tests: Iterable[TracedTest]) -> list[str]:
    """The requirements that have a test and are still declared open."""
    rows = by_requirement(requirements, tests)
    return [identity for identity, row in requirements.items() if row.open and rows[identity]]


def without_open(text: str, identities: Iterable[str]) -> str:
    """The text of requirements.toml without the ``open`` of ``identities``."""
    for identity in identities:
        row = re.escape(f"[{identity}]") + r"\n(?:(?!\[).*\n)*?"
        text = re.sub(rf"^({row})open = .*\n", r"\1", text, flags=re.MULTILINE)
    return text


def by_requirement(
    requirements: Mapping[str, Requirement], tests: Iterable[TracedTest]
) -> dict[str, list[TracedTest]]:
    """The tests of every requirement, an empty list for one that is open."""
    rows: dict[str, list[TracedTest]] = {identity: [] for identity in requirements}
    for test in tests:
        for identity in test.identities:
            if identity in rows:
                rows[identity].append(test)
    return rows


def _cell(lines: Iterable[str]) -> str:
    return "<br>".join(line.replace("|", "\\|") for line in lines)


def as_markdown(requirements: Mapping[str, Requirement], tests: Iterable[TracedTest]) -> str:
    """The text of TRACE.md."""
    rows = by_requirement(requirements, tests)
    open_rows = [identity for identity, shown in rows.items() if not shown]
    lines = [
        "# Requirements and the tests that show them",
        "",
        "Generated by `make trace`; a test fails when it is stale. The requirements in full, with",
        "the figures that pass, are in [requirements.toml](requirements.toml).",
        "",
        f"{len(rows) - len(open_rows)} of {len(rows)} have a test.",
        "",
        "| ID | hazard | test | runs on |",
        "| --- | --- | --- | --- |",
    ]
    for identity, shown in rows.items():
        names = _cell(f"`{test.name}`" for test in shown)
        names = names or _cell([f"*open*: {requirements[identity].open or 'no reason given'}"])
        benches = _cell(", ".join(test.runs_on) or "no simulated bench" for test in shown)
        hazard = _cell([requirements[identity].hazard])
        lines.append(f"| {identity} | {hazard} | {names} | {benches} |")
    lines += ["", "Without a test: " + (", ".join(open_rows) or "none") + "."]
    return "\n".join(lines) + "\n"


def as_text(requirements: Mapping[str, Requirement], tests: Iterable[TracedTest]) -> str:
    """What ``make trace`` prints."""
    rows = by_requirement(requirements, tests)
    lines: list[str] = []
    for identity, shown in rows.items():
        if shown:
            lines.append(f"{identity:6}  {requirements[identity].text}")
            lines += [f"        {test.name} ({', '.join(test.runs_on)})" for test in shown]
    open_rows = [identity for identity, shown in rows.items() if not shown]
    lines += ["", f"{len(open_rows)} of {len(rows)} without a test:"]
    lines += [
        f"{identity:6}  {requirements[identity].text}\n        open: {requirements[identity].open}"
        for identity in open_rows
    ]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """See the module's text."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m hil_tests.trace [--check]", file=sys.stderr)
        return 2
    requirements = read_requirements()
    try:
        tests = trace_items(collect(HERE.parent), bench_offers())
    except CannotCollect as error:
        print(f"the tests cannot be collected:\n{error}", file=sys.stderr)
        return 1
    faults = unknown(requirements, tests) + unshown(requirements, tests)
    stale = closed(requirements, tests)
    text = as_markdown(requirements, tests)
    if not arguments:
        TRACE.write_text(text, encoding="utf-8")
        if stale:
            table = TABLE.read_text(encoding="utf-8")
            TABLE.write_text(without_open(table, stale), encoding="utf-8")
        print(as_text(requirements, tests))
    elif not TRACE.exists() or TRACE.read_text(encoding="utf-8") != text:
        faults.append("hil_tests/TRACE.md is stale: run `make trace`")
    elif stale:
        faults.append(f"{', '.join(stale)} have a test and are declared open: run `make trace`")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
