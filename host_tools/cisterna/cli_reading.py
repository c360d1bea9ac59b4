"""Subcommands that only read: ports, status, report. The log: ``cli_log``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cisterna import finding, screens
from cisterna.cli_options import Json, Port, emit, progress, say_why
from cisterna.interrogation import interrogate
from cisterna.programmer import as_data

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
