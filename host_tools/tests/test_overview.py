"""What OVERVIEW.md names is there: modules, classes, functions, files, and numbers with their
values.

A name in code is checked when it looks like one: ``motion.Motion._feed`` and ``app._RESTART_MS``
are looked up in the sources without running them, ``boards/virtual`` and ``board.toml`` are looked
for as files, and a bare word has to be a word of the sources.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OVERVIEW = ROOT / "firmware" / "OVERVIEW.md"
SOURCES = (
    "firmware/pump",
    "firmware/pump_wire",
    "firmware/drivers",
    "boards",
    "host_tools/cisterna",
)
# Where a file that the text names may lie.
PLACES = ("", "firmware", "boards", "boards/*", "host_tools", "host_tools/cisterna")

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
WORD = re.compile(r"[A-Za-z_]\w+")
FILE = re.compile(r"[\w./-]+\.(py|toml|md|txt)|[\w.-]+(/[\w.-]+)+/?")


def code_spans(text: str) -> list[str]:
    """Every `span` of the text, in order, without the () behind it; blocks of code have none."""
    blocks = (block for block in text.split("\n\n") if not block.startswith("    "))
    spans = re.findall(r"`([^`]+)`", "\n\n".join(blocks))
    return [" ".join(span.split()).removesuffix("()") for span in spans]


@functools.cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, by package or board folder: pump.motion, virtual.world, drivers.x."""
    found: dict[str, Path] = {}
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            found[f"{path.parent.name}.{path.stem}"] = path
    return found


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def modules_called(name: str) -> list[str]:
    """Modules that ``name`` (a stem, or package.stem) may mean."""
    return [full for full in modules() if name in (full, full.partition(".")[2])]


def targets(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.Assign):
        return [
            part
            for target in statement.targets
            for part in (target.elts if isinstance(target, ast.Tuple) else [target])
        ]
    return [statement.target] if isinstance(statement, ast.AnnAssign) else []


def members(body: list[ast.stmt]) -> dict[str, ast.AST]:
    """What a module or a class defines: functions, classes, assignments, attributes of self."""
    found: dict[str, ast.AST] = {}
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[statement.name] = statement
        for target in targets(statement):
            if isinstance(target, ast.Name):
                found[target.id] = statement
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            for name, inner in attributes_set_in(statement):
                found.setdefault(name, inner)
    return found


def attributes_set_in(method: ast.AST) -> list[tuple[str, ast.stmt]]:
    """(name, statement) of every ``self.name = ...`` in a method."""
    return [
        (target.attr, statement)
        for statement in ast.walk(method)
        if isinstance(statement, ast.stmt)
        for target in targets(statement)
        if isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
    ]


def find(name: str) -> ast.AST:
    """The definition of a dotted name. Raises LookupError saying which part is not there."""
    parts = name.split(".")
    if modules_called(".".join(parts[:2])):
        module, rest = ".".join(parts[:2]), parts[2:]
    else:
        module, rest = parts[0], parts[1:]
    called = modules_called(module)
    if not called:
        raise LookupError(f"{name}: there is no module {module}")
    if len(called) > 1:
        raise LookupError(f"{name}: {module} may be {' or '.join(called)}; say which")
    node: ast.AST = tree(modules()[called[0]])
    for part in rest:
        inside = members(node.body) if isinstance(node, ast.Module | ast.ClassDef) else {}
        if part not in inside:
            raise LookupError(f"{name}: {called[0]} has no {part}")
        node = inside[part]
    return node


@functools.cache
def words() -> frozenset[str]:
    """Every word of the sources: names, and words in texts."""
    found: set[str] = set()
    for path in modules().values():
        found.update(re.findall(r"[A-Za-z_]\w*", path.read_text(encoding="utf-8")))
    return frozenset(found)


@functools.cache
def imported() -> frozenset[str]:
    """Modules that are not ours and that the sources import."""
    found: set[str] = set()
    for path in modules().values():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    ours = {part for full in modules() for part in full.split(".")}
    return frozenset(found - ours)


def file_problem(name: str) -> str | None:
    there = any(list(ROOT.glob(f"{place}/{name}".lstrip("/"))) for place in PLACES)
    return None if there else f"{name}: there is no such file"


def name_problem(name: str) -> str | None:
    first, _, last = name.partition(".")
    if first in imported():
        return None if last in words() else f"{name}: nobody uses it"
    if name == "board.build":  # every board's
        boards = [full for full in modules() if full.endswith(".board")]
        lacking = [full for full in boards if "build" not in members(tree(modules()[full]).body)]
        return f"{lacking} have no build" if lacking else None
    try:
        find(name)
    except LookupError as error:
        return str(error)
    return None


def word_problem(name: str) -> str | None:
    if name in words() or modules_called(name) or file_problem(name) is None:
        return None
    return f"{name}: no source has this word"


def problem(span: str) -> str | None:
    """What is wrong with a span; None when it is right or is no name."""
    if FILE.fullmatch(span):
        return file_problem(span)
    if NAME.fullmatch(span):
        return name_problem(span)
    return word_problem(span) if WORD.fullmatch(span) else None


def problems(text: str) -> list[str]:
    return [found for span in code_spans(text) if (found := problem(span)) is not None]


def constants(text: str) -> dict[str, int]:
    """The table of numbers: name -> value as the text has it."""
    rows = re.findall(r"(?m)^\| `([\w.]+)` \| ([\d,]+) \|", text)
    return {name: int(value.replace(",", "")) for name, value in rows}


def value_of(name: str) -> int:
    statement = find(name)
    assert isinstance(statement, ast.Assign | ast.AnnAssign), name
    assert statement.value is not None
    return ast.literal_eval(statement.value)


def test_every_name_is_there() -> None:
    assert problems(OVERVIEW.read_text(encoding="utf-8")) == []


def test_every_number_is_the_codes() -> None:
    table = constants(OVERVIEW.read_text(encoding="utf-8"))
    assert len(table) >= 10
    assert {name: value_of(name) for name in table} == table


WALK = (
    "cli.main",
    "programmer.Programmer.prepare_bolus",
    "cisterna.session.Session.request",
    "transport.SerialLink.write",
    "link.Link.run",
    "link.Link._serve",
    "commands.Commands.answer",
    "commands.Commands.prepare",
    "commands.Commands.confirm",
    "therapy.TherapyCommands.apply_start_bolus",
    "delivery.Delivery.start_bolus",
    "motion.Motion.halt",
    "schedule.Schedule.run_volume",
    "motion.Motion._feed",
    "schedule.Schedule.segment",
    "ledger.Ledger.reserve",
    "stepper_pio.StepperPio.queue",
    "stepper_pio._begin",
    "stepper_virtual.StepperVirtual.queue",
    "ledger.Ledger.steps",
    "delivery.Delivery._piece_over",
    "delivery.Delivery._run_basal",
)


def test_the_walk_goes_all_the_way_in_order() -> None:
    text = OVERVIEW.read_text(encoding="utf-8")
    walk = text[text.index("## The walk") : text.index("## What each hop takes")]
    places = [walk.find(f"`{name}`") for name in WALK]
    assert -1 not in places, [name for name in WALK if f"`{name}`" not in walk]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ("motion.Motion._glide", "pump.motion has no _glide"),
        ("motion.Mover._feed", "pump.motion has no Mover"),
        ("mover.Motion._feed", "no module mover"),
        ("motion._NO_SUCH_US", "pump.motion has no _NO_SUCH_US"),
        ("schedule.Schedule.segment.first", "pump.schedule has no first"),
        ("session.Session.request", "say which"),
        ("pump/mover.py", "no such file"),
        ("boards/no_board", "no such file"),
        ("mover.toml", "no such file"),
        ("frobnicated", "no source has this word"),
        ("motion.Motion._glide()", "has no _glide"),
    ],
)
def test_a_made_up_name_is_found(span: str, said: str) -> None:
    found = problems(f"Then `{span}` runs, and `motion.Motion._feed` too.")
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    "span",
    [
        "motion.Motion._feed",
        "motion.Motion._run()",
        "pump.motion.Motion",
        "cisterna.session.Session.request",
        "schedule.Schedule.first_us",
        "virtual.board._TelemetryPort.write",
        "app._RESTART_MS",
        "asyncio.sleep_ms",
        "pump/ledger.py",
        "boot.py",
        "board.toml",
        'cisterna bolus "10 ug"',
    ],
)
def test_a_name_that_is_there_passes(span: str) -> None:
    assert problems(f"`{span}`") == []


def test_a_wrong_number_is_found() -> None:
    table = constants("| `motion._LATE_US` | 100,001 | too late |")
    assert table == {"motion._LATE_US": 100_001}
    assert value_of("motion._LATE_US") != table["motion._LATE_US"]


def test_a_name_broken_over_two_lines_is_read() -> None:
    assert code_spans("- see `motion.Motion._feed` and\n  `link.Link._serve`") == [
        "motion.Motion._feed",
        "link.Link._serve",
    ]
    assert code_spans("text\n\n    `not.a.name` in a block\n") == []
