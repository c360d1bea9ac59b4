"""Subcommands that only read: ports, status, log, report."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from cisterna import finding, screens
from cisterna.cli_options import Json, Port, emit, progress, say_why, whole_number
from cisterna.errors import UsageError
from cisterna.interrogation import interrogate
from cisterna.programmer import Event, as_data

_LOOK_EVERY_S = 1.0  # while following the log


def ports(port: Port = None, as_json: Json = False) -> None:
    """List the pumps on this machine's ports, virtual ones too.

    It opens every serial port there is and asks whether a pump answers; --port asks one more.
    """
    where = finding.candidates()
    if port is not None and not any(finding.same_port(each.port, port) for each in where):
        where.insert(0, finding.Candidate(port, "named", virtual=False))
    answers = finding.look(where)
    if as_json:
        emit({"ports": [_answer_data(answer) for answer in answers]})
    else:
        screens.ports_screen(screens.console(), answers)
    if not any(answer.is_pump for answer in answers):
        none = finding.no_pump(answers)
        say_why(str(none), none.remedy)
        raise typer.Exit(none.exit_code)


def _answer_data(answer: finding.Answer) -> dict[str, Any]:
    return {
        "port": answer.candidate.port,
        "description": answer.candidate.description,
        "virtual": answer.candidate.virtual,
        "boards": list(answer.candidate.boards),
        "state": answer.state,
        "problem": answer.problem or None,
        "identity": as_data(answer.identity) if answer.identity else None,
        "mode_name": answer.status.mode_name if answer.status else None,
    }


def status(port: Port = None, as_json: Json = False) -> None:
    """Show what the pump is and does, and what is left in it."""
    with finding.open_pump(port) as pump:
        seen = interrogate(pump)
    if as_json:
        emit(seen.as_data())
    else:
        screens.status_screen(screens.console(), seen)


def log(
    first: Annotated[
        str | None, typer.Option(metavar="N", help="Start at record number N.")
    ] = None,
    last: Annotated[str | None, typer.Option(metavar="N", help="The last N records only.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new records until Ctrl-C.")
    ] = False,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Print the event log, oldest first.

    Times are wall time where the pump's clock was set, else the pump's clock since a start.
    """
    if first is not None and last is not None:
        raise UsageError("--first and --last were both given", "give one of them")
    from_number, count = whole_number(first, "--first"), whole_number(last, "--last", 1)
    if follow and as_json:
        raise UsageError("--follow never ends, and --json is one document", "give one of them")
    with finding.open_pump(port) as pump:
        where = pump.session.link.name
        next_event = pump.status().next_event
        begin = max(0, next_event - count) if count is not None else from_number or 0
        with progress("reading the log") as tell:
            events = list(pump.events(begin, tell))
        boots = pump.identity.boots
    if as_json:
        emit({"events": [_event_data(event) for event in events], "next": next_event})
        return
    shown = screens.console()
    start = boots - sum(event.name == "pump_started" for event in events)
    for event in events:
        start += event.name == "pump_started"
        shown.print(screens.event_line(event, start))
    if follow:
        _follow(shown, where, events[-1].sequence + 1 if events else next_event)


def _follow(shown: Console, where: str, begin: int) -> NoReturn:
    """Print records from ``begin`` on as they come; the pump is free in between."""
    while True:
        sys.stdout.flush()
        time.sleep(_LOOK_EVERY_S)
        with finding.open_pump(where) as pump:
            events = list(pump.events(begin))
            boots = pump.identity.boots
        start = boots - sum(event.name == "pump_started" for event in events)
        for event in events:
            start += event.name == "pump_started"
            shown.print(screens.event_line(event, start))
            begin = event.sequence + 1


def _event_data(event: Event) -> dict[str, Any]:
    return {**as_data(event), "name": event.name, "text": event.text}


def report(
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where it goes; by default cisterna-report-SERIAL, here."
        ),
    ] = None,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Write an HTML report of the pump as it is now.

    It shows identity, therapy, account, last refill and event log.
    """
    with finding.open_pump(port) as pump:
        seen = interrogate(pump)
        with progress("reading the log") as tell:
            events = list(pump.events(0, tell))
    from cisterna.live_report import report_data
    from cisterna.report import write_report

    folder = out or Path(f"cisterna-report-{seen.identity.serial.hex()}")
    paths = write_report(report_data(seen, events), folder)
    if as_json:
        emit({"html": str(paths.html), "pngs": [str(path) for path in paths.pngs]})
        return
    for path in (paths.html, *paths.pngs):
        screens.path(screens.console(), str(path))
