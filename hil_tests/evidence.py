"""What a run of the requirement tests leaves behind: ``pytest hil_tests --bench X --report DIR``.

DIR then has ``report.html``, all in one file, ``report.json`` with the same, ``junit.xml``, and of
every test that printed something or failed its output in ``logs``, with the pins' edges of those
that failed in ``traces``. Works with pytest-xdist: workers send what they saw with their reports,
and only the process that collects them writes.

Tests say what they measured with the fixture ``measured``, and add a picture with ``picture``::

    measured("DEL-1", worst_us, "us late at most")
    picture("trumpet-1-ml-day.png", png)
"""

from __future__ import annotations

import datetime
import platform
import re
import shlex
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from cisterna import campaign, run_report
from cisterna.programmer import as_data
from hil_tests.trace import marked, read_requirements, read_trace

Measured = Callable[[str, "float | str", str], None]
Picture = Callable[[str, bytes], None]

_OWN = "cisterna"  # the user property in which a test's facts travel with its reports
_MOST_EDGES = 100_000  # of a trace file: the last
_CASE_ID = re.compile(r"\b[a-z]+:\d+:[A-Z]{3}-\d+(?::[\w.]+)+")

failed = pytest.StashKey[bool]()  # of an item: its call failed


def add_options(group: pytest.OptionGroup) -> None:
    group.addoption("--report", metavar="DIR", help="write an evidence report there")


def configure(config: pytest.Config) -> None:
    """Before other plugins are: JUnit's file is one of theirs."""
    folder = config.getoption("--report")
    if folder is None:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    if not config.option.xmlpath:
        config.option.xmlpath = str(Path(folder) / "junit.xml")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Collected(config, Path(folder)))


def facts(item: pytest.Item) -> dict[str, Any]:
    """What travels with the item's reports; add to it."""
    for name, value in item.user_properties:
        if name == _OWN:
            return value  # pyright: ignore[reportReturnType]
    made: dict[str, Any] = {"requirements": list(marked(item)), "measured": [], "pictures": []}
    item.user_properties.append((_OWN, made))
    return made


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """``measured(requirement, value, unit)``: a figure for the report, once or more in a test that
    names the requirement. ``value`` may be text; ``unit`` says what it is."""

    def note(requirement: str, value: float | str, unit: str) -> None:
        item = request.node
        if requirement not in marked(item):
            raise ValueError(f"{item.nodeid} does not name {requirement}")
        facts(item)["measured"].append([requirement, value, unit])

    return note


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Picture:
    """``picture(name, png)``: a picture for the report, of one name in all tests."""
    folder = request.config.getoption("--report")

    def keep(name: str, png: bytes) -> None:
        if folder is None:
            return
        place = Path(folder) / "pictures"
        place.mkdir(exist_ok=True)
        (place / name).write_bytes(png)
        facts(request.node)["pictures"].append(name)

    return keep


def met(item: pytest.Item | pytest.Module, bench: Any) -> None:
    """A test is over on ``bench``: keep who answered, and the trace of a test that failed."""
    if not isinstance(item, pytest.Item):
        return
    heard = getattr(bench, "heard", None)
    if heard is not None:
        facts(item)["pump"] = as_data(heard)
    folder = item.config.getoption("--report")
    if folder is None or failed not in item.stash or "edges" not in bench.offers:
        return
    try:
        edges = bench.edges()[-_MOST_EDGES:]
        place = Path(folder) / "traces"
        place.mkdir(exist_ok=True)
        name = f"{file_name(item.nodeid)}.csv"
        with (place / name).open("w", encoding="utf-8") as file:
            file.write("t_ns,line,level\n")
            file.writelines(f"{edge.t_ns},{edge.line},{edge.level}\n" for edge in edges)
        facts(item)["trace"] = f"traces/{name}"
    except Exception as error:  # a pump that is gone tells nothing more; the failure is told
        facts(item)["trace"] = f"none: {type(error).__name__}: {error}"


def file_name(node: str) -> str:
    """A test's name as a file's."""
    return re.sub(r"[^\w.-]+", "-", node).strip("-")[:150]


class Collected:
    """The reports of a run, in the process that writes."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._began = time.time()
        self._path: Path | None = None
        self._tests: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of a test is over."""
        test = self._tests.setdefault(
            report.nodeid,
            {"test": report.nodeid, "outcome": "passed", "seconds": 0.0, "requirements": []},
        )
        test["seconds"] += report.duration
        for name, value in report.user_properties:
            if name == _OWN and isinstance(value, dict):
                test.update(value)
        if report.failed:
            test["outcome"] = "failed"
            test["why"] = report.longreprtext
            test["replay"] = self._replay(report.nodeid)
            test["cases"] = list(dict.fromkeys(_CASE_ID.findall(report.longreprtext)))
        elif report.skipped and test["outcome"] == "passed":
            test["outcome"] = "skipped"
            told = report.longrepr
            why = told[2] if isinstance(told, tuple) else report.longreprtext
            test["why"] = why.removeprefix("Skipped: ")
        self._keep_log(report, test)

    def _keep_log(self, report: pytest.TestReport, test: dict[str, Any]) -> None:
        parts = [f"== {title} ==\n{text}" for title, text in report.sections if text.strip()]
        if report.failed:
            parts.append(f"== {report.when}: failed ==\n{report.longreprtext}\n")
        if not parts:
            return
        place = self._folder / "logs"
        place.mkdir(exist_ok=True)
        name = f"{file_name(report.nodeid)}.txt"
        mode = "a" if "log" in test else "w"
        with (place / name).open(mode, encoding="utf-8") as file:
            file.write("\n".join(parts))
        test["log"] = f"logs/{name}"

    def _replay(self, node: str) -> str:
        """The command that runs this one test again."""
        option = self._config.getoption
        words = ["python", "-m", "pytest", node, "--bench", option("--bench")]
        words += ["--seed", str(option("--seed"))]
        words += ["--full"] if option("--full") else []
        return shlex.join(words)

    def data(self) -> dict[str, Any]:
        """The run as JSON values."""
        option = self._config.getoption
        tests = sorted(self._tests.values(), key=lambda test: test["test"])
        pumps = [test.pop("pump") for test in tests if "pump" in test]
        return {
            "run": {
                "bench": option("--bench"),
                "seed": option("--seed"),
                "setting": "full" if option("--full") else "quick",
                "commit": campaign.commit(),
                "firmware_hash": campaign.firmware_hash(),
                "began": datetime.datetime.fromtimestamp(
                    self._began, datetime.timezone.utc
                ).isoformat(timespec="seconds"),
                "seconds": round(time.time() - self._began, 1),
                "command": shlex.join(["pytest", *self._config.invocation_params.args]),
                "host": f"Python {platform.python_version()}, {platform.platform()}",
            },
            "pump": pumps[-1] if pumps else None,
            "requirements": self._requirements(tests),
            "tests": tests,
        }

    def _requirements(self, tests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        traced = read_trace()
        rows: list[dict[str, Any]] = []
        for identity, row in read_requirements().items():
            shown = [test for test in tests if identity in test["requirements"]]
            outcomes = {test["outcome"] for test in shown}
            if "failed" in outcomes:
                verdict, why = "fails", ""
            elif "passed" in outcomes:
                verdict, why = "holds", ""
            elif shown:
                verdict = "skipped"
                why = "; ".join(dict.fromkeys(test.get("why", "") for test in shown))
            elif row.open:
                verdict, why = "open", row.open
            else:
                verdict = "not in this run"
                why = "shown by " + ", ".join(traced.get(identity, ())) if traced else ""
            rows.append(
                {
                    "id": identity,
                    "text": row.text,
                    "hazard": row.hazard,
                    "pass": row.figure,
                    "measured": [
                        {"value": value, "unit": unit, "test": test["test"]}
                        for test in shown
                        for name, value, unit in test.get("measured", ())
                        if name == identity
                    ],
                    "verdict": verdict,
                    "why": why,
                    "tests": [test["test"] for test in shown],
                }
            )
        return rows

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """The run is over: write page and data."""
        names = [name for test in self._tests.values() for name in test.get("pictures", ())]
        pictures = {
            name: (self._folder / "pictures" / name).read_bytes() for name in sorted(set(names))
        }
        self._path = run_report.write(self.data(), self._folder, pictures)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Where it is."""
        terminalreporter.write_line(f"report: {self._path}")
