"""Subcommands for tubing and catheter: prime, bridge."""

from __future__ import annotations

from typing import Annotated

import typer

from cisterna import finding, ordering, screens, units
from cisterna.amounts import format_duration, format_volume_nl
from cisterna.catheter import Segment, catheter_volume_nl
from cisterna.cli_options import Json, Port, Yes, emit
from cisterna.cli_therapy import start_program, whose
from cisterna.dose import RATE_HIGH_NL_DAY
from cisterna.errors import CisternaError, UsageError
from cisterna.interrogation import interrogate, outlook_data
from cisterna.ordering import Order
from cisterna.prescription import Therapy
from cisterna.programmer import Prepared, Programmer, Values
from pump_wire import messages

_DAY_S = 86_400
_MINUTE_S = 60


def prime(
    volume: Annotated[
        str | None,
        typer.Option(metavar="VOLUME", help="By default the prescription's tubing and catheter."),
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="By default as fast as the pump can, in whole minutes."),
    ] = None,
    supplied: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="Work the catheter's volume out: supplied")
    ] = None,
    trimmed: Annotated[str, typer.Option(metavar="LENGTH", help="less what was cut off")] = "0 cm",
    per_length: Annotated[
        str, typer.Option(metavar="VOLUME", help="times what a centimetre holds.")
    ] = "0.0022 mL/cm",
    yes: Yes = False,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Fill tubing and catheter with drug, fast, after an implantation.

    It is no dose for anybody before the drug is at the tip. The pump then goes on with what it
    did before; also a stopped pump can be primed.
    """
    if volume is not None and supplied is not None:
        raise UsageError("give --volume, or the catheter's lengths, not both")
    shown = screens.console()
    paths: list[str] = []
    capacities_nl: list[int | None] = []

    def prepare(pump: Programmer) -> Prepared:
        therapy = pump.prescription()
        capacities_nl[:] = [therapy.capacity_nl if therapy is not None else None]
        volume_nl = _prime_volume_nl(therapy, volume, supplied, trimmed, per_length, paths)
        least_s = -(-volume_nl * _DAY_S // RATE_HIGH_NL_DAY)
        fastest_us = -(-least_s // _MINUTE_S) * _MINUTE_S * 1_000_000
        over_us = (
            fastest_us if over is None else units.parse_duration(over, 1_000_000, name="--over")
        )
        return pump.prepare_prime(volume_nl, over_us)

    def show(pump: Programmer, prepared: Prepared, _: Values) -> None:
        echo = prepared.echo
        screens.title(shown, f"Prime {whose(pump)}")
        lines: list[tuple[str, screens.Value]] = [
            ("Path", paths[0]),
            ("Volume", format_volume_nl(echo["volume_nl"])),
            ("Time", format_duration(echo["duration_us"], digits=3)),
            ("Rate", screens.rate_words(echo["rate_nl_day"], capacities_nl[0])),
        ]
        if echo["cut_nl"]:
            cut = format_volume_nl(echo["cut_nl"])
            lines.append(("Cut by a limit", f"{cut} of it will not be given"))
        screens.rows(shown, lines)
        screens.note(shown, "  The pump checked it and can give it.")

    order = Order(
        messages.START_PRIME, prepare, lambda _pump, prepared: prepared.echo, show, "Prime it?"
    )
    prepared, done, now = ordering.carry_out(order, port, yes=yes, as_json=as_json)
    if as_json:
        emit(ordering.done_data(prepared, done, now))
    else:
        screens.outcome(shown, f"Started (record {done.event}).", *now)


def _prime_volume_nl(
    therapy: Therapy | None,
    volume: str | None,
    supplied: str | None,
    trimmed: str,
    per_length: str,
    paths: list[str],
) -> int:
    """Volume to prime with; ``paths`` gets where it comes from, in words."""
    tubing_nl = therapy.tubing_nl if therapy is not None else 0
    if volume is not None:
        paths[:] = ["as given"]
        return units.parse_volume(volume, 1, name="--volume")
    if supplied is not None:
        segment = Segment(
            "catheter",
            units.parse_length(supplied, name="--supplied"),
            units.parse_length(trimmed, name="--trimmed"),
            units.parse_volume_per_length(per_length, name="--per-length"),
        )
        catheter_nl = catheter_volume_nl([segment])
        paths[:] = [
            f"tubing {format_volume_nl(tubing_nl)} + ({supplied} - {trimmed}) x {per_length}"
        ]
        return tubing_nl + catheter_nl
    if therapy is None or not therapy.path_nl:
        raise CisternaError(
            "the prescription does not say what tubing and catheter hold",
            remedy="give --volume, or put [path] into the prescription",
        )
    paths[:] = [
        f"tubing {format_volume_nl(tubing_nl)} + catheter {format_volume_nl(therapy.catheter_nl)}"
    ]
    return therapy.path_nl


def bridge(
    start: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Program it, and begin with a bridge bolus of the old drug."
        ),
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the one that runs.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a cancelled one.")] = False,
    confirm_total: Annotated[
        str | None, typer.Option(metavar="RATE", help="As of cisterna program.")
    ] = None,
    accept_warnings: Annotated[bool, typer.Option(help="As of cisterna program.")] = False,
    yes: Yes = False,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Show, start, cancel or resume a bridge bolus.

    After a change of concentration tubing and catheter still hold the old drug: the pump runs at
    the rate that keeps its old dose until the new drug is at the tip, then changes over by itself.
    """
    if sum((start is not None, cancel, resume)) > 1:
        raise UsageError("--start, --cancel and --resume exclude each other")
    if start is not None:
        start_program(
            start,
            port,
            yes,
            as_json,
            confirm_total=confirm_total,
            accept_warnings=accept_warnings,
            bridge=True,
        )
    elif cancel or resume:
        _change(messages.CANCEL_BOLUS if cancel else messages.RESUME_BRIDGE, port, yes, as_json)
    else:
        _show(port, as_json)


def _show(port: str | None, as_json: bool) -> None:
    with finding.open_pump(port) as pump:
        seen = interrogate(pump)
    ahead = seen.outlook
    assert ahead is not None
    if as_json:
        emit({"mode_name": seen.status.mode_name, **outlook_data(ahead)})
        return
    shown = screens.console()
    words = screens.bridge_words(ahead) if ahead.bridge else "none"
    lines: list[tuple[str, screens.Value]] = [("Bridge bolus", words)]
    if ahead.why:
        lines.append(("Why there was none", ahead.why))
    if ahead.bridge == messages.BRIDGE and seen.bolus_running:
        lines.append(("Then", f"the new programme, in {screens.span(seen.bolus_left_us)}"))
    screens.rows(shown, lines)


def _change(message: messages.Message, port: str | None, yes: bool, as_json: bool) -> None:
    shown = screens.console()
    cancel = message is messages.CANCEL_BOLUS

    def prepare(pump: Programmer) -> Prepared:
        if cancel and pump.outlook().bridge != messages.BRIDGE:
            raise CisternaError("no bridge bolus runs", remedy="see: cisterna bridge")
        return pump.prepare(message, {})

    def show(pump: Programmer, _: Prepared, __: int) -> None:
        screens.title(shown, f"Bridge bolus of {whose(pump)}")
        ahead = pump.outlook()
        screens.rows(shown, [("Now", screens.bridge_words(ahead))])
        if cancel:
            text = "the new programme runs at once, and the old drug comes first at its rate"
            screens.note(shown, f"  Then: {text}", "bold red")

    question = "Cancel it?" if cancel else "Go on with it?"
    order: Order[int] = Order(
        message, prepare, lambda pump, _prepared: pump.outlook().bridge, show, question
    )
    prepared, done, now = ordering.carry_out(order, port, yes=yes, as_json=as_json)
    if as_json:
        emit(ordering.done_data(prepared, done, now))
    else:
        word = "Cancelled" if cancel else "Resumed"
        screens.outcome(shown, f"{word} (record {done.event}).", *now)
