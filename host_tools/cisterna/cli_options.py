"""What subcommands share: their common options, JSON output, a progress bar."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import re
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from cisterna import frame_trace, screens
from cisterna.errors import UsageError, quoted
from cisterna.finding import VARIABLE

Port = Annotated[
    str | None,
    typer.Option(
        "--port",
        metavar="URL",
        envvar=VARIABLE,
        help="The pump's serial port or pyserial URL; by default the only pump found.",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="One JSON document on stdout, for an error too; asks nothing."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]


EVERY_FRAME = "Write every frame, opened, to this file; cisterna bench decode reads it."
OWN_FRAMES = (
    "Write the frames that --pair sends and receives to this file, not those of whoever uses the "
    "pump's port: each of their commands has --trace itself."
)


def traced(function: Callable[..., None], told: str = EVERY_FRAME) -> Callable[..., None]:
    """The subcommand with --trace, if it opens a pump's port. ``told``: the option's help."""
    signature = inspect.signature(function)
    if "port" not in signature.parameters:
        return function
    hints = get_type_hints(function, include_extras=True)

    @functools.wraps(function)
    def run(*words: Any, trace: Path | None = None, **options: Any) -> None:
        with frame_trace.recording(trace):
            function(*words, **options)

    file: Any = Annotated[Path | None, typer.Option("--trace", metavar="FILE", help=told)]
    option = inspect.Parameter("trace", inspect.Parameter.KEYWORD_ONLY, default=None)
    known = [each.replace(annotation=hints[each.name]) for each in signature.parameters.values()]
    added: Any = run
    added.__signature__ = signature.replace(parameters=[*known, option.replace(annotation=file)])
    added.__annotations__ = {**hints, "trace": file}
    return run


def whole_number(text: str | None, option: str, lowest: int = 0) -> int | None:
    """What an option that counts was given; None where it was not. Raises UsageError."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < lowest:
        raise UsageError(
            f"{option} {quoted(text)} is no whole number from {lowest} on",
            remedy=f"write it like {option} 20",
        )
    return int(text)


def emit(data: Any) -> None:
    """The one JSON document of --json."""
    print(json.dumps(data, indent=2))


@contextlib.contextmanager
def progress(what: str) -> Generator[Callable[[int, int], None], None, None]:
    """A bar on stderr, on a terminal only; it appears with the first (done, total)."""
    shown = screens.console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task(what, total=None, visible=False)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        yield tell


def ignore_interrupts() -> None:
    """From here on Ctrl-C does nothing: the outcome is known, and all that is left is to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def say_why(text: str, remedy: str | None, label: str = "error") -> None:
    """A reason on stderr, and what to do about it on the line below."""
    shown = screens.console(stderr=True)
    for index, line in enumerate(text.splitlines() or [""]):
        screens.note(shown, f"{label}: {line}" if label and not index else line, "red")
    if remedy:
        screens.note(shown, f"to do: {remedy}")
