"""Subcommands that only read: ports, status, report. The log: ``cli_log``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cisterna import finding, ordering, screens
from cisterna.cli_options import Json, Port, emit, progress, say_why
from cisterna.interrogation import interrogate
from cisterna.programmer import LogCannotTell, as_data

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


def status(
    settle: Annotated[
        bool,
        typer.Option(
            "--settle",
            help="Show it with a command that the log can tell nothing of; you say that you "
            "compared, and that settles it.",
        ),
    ] = False,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Show what the pump is and does, and what is left in it."""
    if settle:
        _settle(port, as_json)
        return
    with finding.open_pump(port) as pump:
        seen = interrogate(pump)
    if as_json:
        emit(seen.as_data())
    else:
        screens.status_screen(screens.console(), seen)


def _settle(port: str | None, as_json: bool) -> None:
    """Settle a command: by what the pump can tell, else by the word of who compared."""
    with finding.open_pump(port, earlier=finding.Earlier.LEAVE) as pump:
        keys, who = pump.session.keys, pump.identity.serial
        command = keys.pending(who)
        by_hand = False
        try:
            pump.settle()
        except LogCannotTell:
            by_hand = True
        seen = interrogate(pump)
    if not by_hand:
        command = None
    if not as_json:
        screens.status_screen(screens.console(), seen)
        shown = screens.console()
        if command is not None:
            screens.pending_screen(shown, command)
            if sys.stdin.isatty() and not ordering.agreed(
                "Have you compared the therapy and the reservoir with it?"
            ):
                raise ordering.NotAgreed("not settled: its outcome stays unknown")
        else:
            screens.note(shown, pump.settled or "No command is open: there is nothing to settle.")
    if command is not None and not keys.settle_by_hand(who, command):
        raise ordering.NotAgreed("not settled: another command is open now", "look again")
    if as_json:
        emit({**seen.as_data(), "settled": pump.settled or None, "settled_by_hand": command})
    elif command is not None:
        screens.good(screens.console(), "Settled by hand: you compared.")


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
