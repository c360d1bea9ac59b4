"""``cisterna bench calibrate``: the sums of a calibration by weighing, see ``calibration``."""

from __future__ import annotations

import datetime
from fractions import Fraction
from typing import Annotated

import typer

from cisterna import calibration, screens, units
from cisterna.boards import board_data
from cisterna.calibration import Calibration
from cisterna.cli_options import Json, emit, whole_number
from cisterna.errors import UsageError

_NAMES = ("density_ng_ml", "evaporated_ng", "buoyancy", "steps", "step_pl", "steps_pl")


def calibrate(
    masses: Annotated[
        list[str],
        typer.Argument(metavar="MASS...", help="What each repeat weighed, such as 0.4983g."),
    ],
    steps: Annotated[
        str | None, typer.Option(metavar="N", help="Motor steps of one repeat.")
    ] = None,
    volume: Annotated[
        str | None,
        typer.Option(metavar="VOLUME", help="Instead: what one repeat was commanded to deliver."),
    ] = None,
    board: Annotated[
        str, typer.Option(metavar="NAME", help="Whose step volume this is to replace.")
    ] = "rpi_pico",
    water: Annotated[
        str | None, typer.Option(metavar="TEMPERATURE", help="The liquid is water, this warm.")
    ] = None,
    density: Annotated[
        str | None, typer.Option(metavar="DENSITY", help="Instead: density of another liquid.")
    ] = None,
    evaporation: Annotated[
        str, typer.Option(metavar="RATE", help="What the vessel loses, such as 2mg/h.")
    ] = "0 mg/h",
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="Of one repeat, for what evaporates.")
    ] = None,
    buoyancy: Annotated[
        bool, typer.Option("--buoyancy/--no-buoyancy", help="Allow for the buoyancy of air.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Volume of a motor step from the masses of several repeats, for board.toml.

    Deliver the same number of steps each time, and weigh what came. At least five repeats.
    """
    present_pl = int(board_data(board)["plant"]["step_pl"])
    liquid, density_ng_ml = _liquid(water, density)
    evaporation_ng_day = units.parse_dose_rate(evaporation, name="evaporation")
    if evaporation_ng_day and duration is None:
        raise UsageError(
            "--evaporation needs the duration of one repeat", "write it like --duration 10min"
        )
    found = calibration.calibrate(
        _steps(steps, volume, present_pl),
        [units.parse_mass(text, name="mass") for text in masses],
        density_ng_ml,
        evaporation_ng_day,
        units.parse_duration(duration, name="duration") if duration else 0,
        buoyancy,
        present_pl,
    )
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    line = found.board_toml(liquid, today)
    if as_json:
        emit(
            {
                **{name: getattr(found, name) for name in _NAMES},
                "spread_pl": found.spread_pl,
                "uncertainty_pl": found.uncertainty_pl,
                "present_pl": present_pl,
                "board_toml": line,
                "warnings": list(found.warnings),
            }
        )
        return
    shown = screens.console()
    screens.rows(shown, rows(found, liquid, present_pl))
    screens.note(shown, f"For boards/{board}/board.toml, in place of its [plant]:")
    print(f"\n{line}")
    for warning in found.warnings:
        screens.note(screens.console(stderr=True), f"warning: {warning}", "yellow")


def rows(found: Calibration, liquid: str, present_pl: int) -> list[tuple[str, str]]:
    """The result for people, with what was understood of the input."""
    repeats = len(found.steps_pl)
    shown = [
        ("repeats", f"{repeats} of {found.steps:,} steps, {liquid}"),
        ("density", _density_text(found.density_ng_ml)),
        ("air's buoyancy", "allowed for" if found.buoyancy else "left out"),
        ("evaporated, added to each", units.format_mass(Fraction(found.evaporated_ng), digits=3)),
    ]
    for number, each in enumerate(found.steps_pl, 1):
        apart = each / found.step_pl - 1
        shown.append((f"  repeat {number}", f"{each:,.0f} pL a step, {apart:+.2%}"))
    if found.spread_pl is not None and found.uncertainty_pl is not None:
        spread = found.spread_pl / found.step_pl
        shown.append(("spread of one repeat", f"{found.spread_pl:,.0f} pL, {spread:.2%}"))
        within = found.uncertainty_pl / found.step_pl
        told = f"{found.step_pl:,.0f} pL +- {found.uncertainty_pl:,.0f} pL ({within:.2%}, at 95 %)"
        shown.append(("step volume", told))
    else:
        shown.append(("step volume", f"{found.step_pl:,.0f} pL, of unknown uncertainty"))
    change = found.step_pl / present_pl - 1
    shown.append(("board.toml now", f"{present_pl:,} pL; the new one is {change:+.2%}"))
    return shown


def _liquid(water: str | None, density: str | None) -> tuple[str, int]:
    """(its name, density in ng/mL)."""
    if (water is None) == (density is None):
        raise UsageError(
            "give one of --water and --density",
            'write it like --water "21.5 C", or --density "1.005 g/mL"',
        )
    if water is not None:
        warm_mc = units.parse_temperature(
            water, calibration.LOW_MC, calibration.HIGH_MC, "temperature of the water"
        )
        warm = units.exact_decimal(Fraction(warm_mc, 1_000))
        return f"water at {warm} C", calibration.water_density_ng_ml(warm_mc)
    assert density is not None
    ng_ml = units.parse_density(
        density, calibration.LOW_DENSITY_NG_ML, calibration.HIGH_DENSITY_NG_ML
    )
    return f"liquid of {_density_text(ng_ml)}", ng_ml


def _density_text(ng_ml: int) -> str:
    return f"{units.exact_decimal(Fraction(ng_ml, 1_000_000_000))} g/mL"


def _steps(steps: str | None, volume: str | None, step_pl: int) -> int:
    if (steps is None) == (volume is None):
        raise UsageError("give one of --steps and --volume", "write it like --steps 5000")
    number = whole_number(steps, "--steps", 1)
    if number is not None:
        return number
    assert volume is not None
    volume_pl = units.parse_volume(volume, 1) * 1_000
    if volume_pl % step_pl:
        raise UsageError(
            f"--volume {volume} is no whole number of steps of {step_pl:,} pL",
            "give --steps, or a volume that is a multiple of it",
        )
    return volume_pl // step_pl
