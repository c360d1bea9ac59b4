"""Subcommands that need no pump, or make one: sim, demo, flash, bench."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cisterna import finding, frame_trace, screens
from cisterna.cli_calibrate import calibrate
from cisterna.cli_options import Json, emit, progress, whole_number
from cisterna.errors import UsageError, quoted
from cisterna.programmer import as_data


def sim(
    speed: Annotated[
        str, typer.Option(metavar="N", help="Simulated seconds a second, or max.")
    ] = "1",
    state: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep flash and plant here, and take them up again."),
    ] = None,
    board: Annotated[
        str, typer.Option(metavar="NAME", help="virtual, or rpi_pico: an emulated Pico.")
    ] = "virtual",
    seed: Annotated[
        str | None,
        typer.Option(metavar="N", help="Of everything random in the pump, its keys too."),
    ] = None,
    port: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Give the pump's port this name, a symbolic link."),
    ] = None,
    pair: Annotated[
        bool,
        typer.Option("--pair", help="Put the pump's keys into your key store, with no button."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON with the port, and nothing else.")
    ] = False,
) -> None:
    """Run a virtual pump until Ctrl-C, and print its port."""
    from cisterna import sim as simulator

    simulator.run(
        board=board,
        speed=simulator.parse_speed(speed),
        state=state,
        seed=whole_number(seed, "--seed"),
        link=port,
        pair=pair,
        as_json=as_json,
    )


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where report and pictures go.")] = Path(
        "cisterna-demo"
    ),
    seed: Annotated[
        str, typer.Option(metavar="N", help="Of everything random in the pump.")
    ] = "1",
    as_json: Json = False,
) -> None:
    """Tell one story on a virtual pump of its own.

    Program, deliver, give a bolus, refill, balance; then a report with pictures.
    """
    from cisterna import demo as story

    shown = Console(stderr=as_json)
    paths = story.run(out, seed=whole_number(seed, "--seed") or 0, console=shown)
    if as_json:
        emit({"html": str(paths.html), "pngs": [str(path) for path in paths.pngs]})


def flash(
    board: Annotated[
        str, typer.Option(metavar="NAME", help="The board's folder in boards/.")
    ] = "rpi_pico",
    remove: Annotated[
        bool, typer.Option("--remove", help="Take the firmware off; the pump's records stay.")
    ] = False,
    profile: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="development: Ctrl-C leads to the REPL. sealed: only the service button held at"
            " power on does.",
        ),
    ] = "development",
    yes: Annotated[
        bool,
        typer.Option("--yes", "-y", help="Also a pump that delivers: it stops for the while."),
    ] = False,
    port: Annotated[
        str | None,
        typer.Option(
            "--port",
            metavar="URL",
            envvar=finding.VARIABLE,
            help="The board's serial port; by default the only one with the board's USB id.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put the firmware on a board, or take it off.

    The board runs MicroPython already; its pump starts when all files are there.
    """
    from cisterna.flash import deploy, unflash

    where = port or finding.find_board(board)
    shown = screens.console()
    if remove:
        paths = unflash(where, stop=yes)
        if as_json:
            emit({"port": where, "removed": paths})
        else:
            screens.good(shown, f"{len(paths)} files were removed from the board on {where}.")
        return
    with progress("writing the firmware") as tell:
        deployed = deploy(
            board,
            where,
            lambda _path, done, total: tell(done, total),
            profile=profile,
            stop=yes,
        )
    if as_json:
        data = dataclasses.asdict(deployed)
        who = as_data(deployed.identity)
        emit({**data, "port": where, "profile": profile, "identity": who})
        return
    screens.good(
        shown,
        f"{len(deployed.copied)} files written ({deployed.octets:,} octets), "
        f"{deployed.unchanged} were there already, {len(deployed.removed)} removed.",
    )
    who = deployed.identity
    screens.note(
        shown,
        f"Pump {who.serial.hex()} runs firmware {who.firmware} ({who.board}, MicroPython {who.vm},"
        f" profile {profile}) on {where}.",
    )
    if profile == "sealed":
        screens.note(
            shown,
            "Its REPL is shut. To flash it again, hold its service button while you plug it in.",
        )


bench = typer.Typer(
    name="bench",
    help="Measure a pump, virtual or real, or run a campaign.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_BENCHES = ("virtual", "emulated")


def speed(
    on: Annotated[
        str, typer.Option("--bench", metavar="B", help="virtual, or emulated: the Pico.")
    ] = "virtual",
    as_json: Json = False,
) -> None:
    """Simulated against real time (CST-3, CST-4), and where the time goes."""
    if on not in _BENCHES:
        raise UsageError(
            f"speed is measured on no bench {quoted(on)}", f"there are: {', '.join(_BENCHES)}"
        )
    shown = screens.console(stderr=True)
    if on == "emulated":
        _emulated_speed(as_json, shown)
        return
    from cisterna import bench_speed

    if shown.is_terminal:
        screens.note(shown, "simulating a year; this takes a minute")
    measured = bench_speed.measure()
    if as_json:
        emit(
            {
                **dataclasses.asdict(measured),
                "factor": measured.factor,
                "rest_us": measured.rest_us,
            }
        )
    else:
        screens.rows(screens.console(), bench_speed.table(measured))


def _emulated_speed(as_json: bool, shown: Console) -> None:
    from cisterna import bench_speed_emulated

    if shown.is_terminal:
        screens.note(shown, "simulating six hours on the Pico; this takes a minute")
    measured = bench_speed_emulated.measure()
    if as_json:
        more = {"factor": measured.factor, "awake_share": measured.awake_share}
        emit({**dataclasses.asdict(measured), **more, **dataclasses.asdict(measured.life)})
    else:
        screens.rows(screens.console(), bench_speed_emulated.table(measured))


def decode(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What --trace FILE wrote.")],
    as_json: Json = False,
) -> None:
    """Show a frame trace: every frame a command sent and received, opened, with units.

    Each subcommand that opens a pump's port writes one with --trace FILE.
    """
    head, frames = frame_trace.read(file)
    if as_json:
        emit({"trace": head, "frames": frames})
        return
    shown = screens.console()
    screens.note(shown, f"began {head['began']}, message table {head['table_hash']}")
    for line in frame_trace.as_text(frames):
        screens.note(shown, line)


def therapy(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the pictures go.")] = Path(
        "therapy"
    ),
    as_json: Json = False,
) -> None:
    """Draw a therapy on virtual pumps, as the plant saw it.

    A day of flex steps with patient boluses, a bridge bolus with the concentration at the tip, and
    the dose of each day between two refills.
    """
    from cisterna.bench_virtual import VirtualBench
    from cisterna.therapy_story import write_pictures

    with progress("pictures") as tell:
        paths = write_pictures(lambda: VirtualBench(seed=1, trace=False), out, tell)
    if as_json:
        emit({"pngs": [str(path) for path in paths]})
        return
    for path in paths:
        screens.path(screens.console(), str(path))


# Every subcommand of bench, with its examples, one a line.
BENCH_COMMANDS: tuple[tuple[Callable[..., None], str], ...] = (
    (speed, "cisterna bench speed\ncisterna bench speed --bench emulated"),
    (therapy, "cisterna bench therapy --out pictures"),
    (
        decode,
        """cisterna status --trace session.jsonl
        cisterna bench decode session.jsonl
        cisterna bench decode session.jsonl --json""",
    ),
    (
        calibrate,
        """cisterna bench calibrate --steps 5000 --water "21.5 C" 498.1mg 499.0mg 498.7mg
        cisterna bench calibrate --volume 0.5mL --density 1.005g/mL 0.5021g 0.5030g 0.5017g
        cisterna bench calibrate --steps 5000 --water 22C --evaporation 2mg/h \\
            --duration 10min 498.1mg 499.0mg 498.7mg 498.4mg 499.2mg""",
    ),
)
