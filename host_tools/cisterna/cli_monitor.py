"""The subcommand that watches a pump: monitor."""

from __future__ import annotations

from typing import Annotated

import typer

from cisterna import finding, screens, units
from cisterna.cli_options import Json, Port, emit
from cisterna.errors import Interrupted
from cisterna.monitor import look_at, picture, watch

_EVERY_US = (100_000, 3_600_000_000)


def monitor(
    every: Annotated[
        str, typer.Option(metavar="TIME", help="How often it looks at the pump.")
    ] = "2 s",
    once: Annotated[bool, typer.Option("--once", help="One look, then end.")] = False,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Watch a pump live: mode, rate, residual, refill date, lockout, alarms, last events.

    The port is free between two looks, so that others can use the pump. Where the output is no
    terminal, and with --json, it is one look.
    """
    every_us = units.parse_duration(every, *_EVERY_US, name="--every")
    shown = screens.console()
    if not (as_json or once) and shown.is_terminal:
        try:
            watch(port, shown, every_us / 1_000_000)
        except KeyboardInterrupt as interrupt:
            raise Interrupted("the pump goes on as it is") from interrupt
        return
    with finding.open_pump(port) as pump:
        look = look_at(pump)
    if as_json:
        emit(look.as_data())
    else:
        shown.width = screens.WIDTH
        shown.print(picture(look))
