"""The patient's subcommand: ask for a bolus, or see when the next one is possible."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cisterna import finding, ordering, screens
from cisterna.amounts import format_duration, format_volume_nl
from cisterna.cli_options import Json, Port, Yes, emit
from cisterna.errors import Refused
from cisterna.interrogation import Interrogation, interrogate, outlook_data
from cisterna.ordering import Order
from cisterna.programmer import NEVER, Prepared, Programmer
from pump_wire import messages

_ROLE = "patient"
_TELL = "tell your clinician"

# What a patient can do about a refusal; most of what others do about one is not the patient's.
_REMEDIES = {
    "bolus_running": "wait until it is done: cisterna patient",
    "bridge_running": "wait until it is done: cisterna patient",
    "volume_limit": "try again later: cisterna patient",
    **dict.fromkeys(("wrong_mode", "fault_latched", "alarm_stands", "not_enough_drug"), _TELL),
    **dict.fromkeys(("no_prescription", "not_permitted", "below_limit"), _TELL),
}


def patient(
    bolus: Annotated[
        bool, typer.Option("--bolus", help="Ask for a bolus, as the prescription permits it.")
    ] = False,
    yes: Yes = False,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Show when a patient bolus is possible, or ask for one.

    The prescription says how large it is, how long the lockout is, and how many there may be in 24
    hours. The pump grants it or refuses it; both are logged.
    """
    if bolus:
        _ask(port, yes, as_json)
        return
    with finding.open_pump(port, _ROLE) as pump:
        seen = interrogate(pump)
    therapy, ahead = seen.therapy, seen.outlook
    assert ahead is not None
    permitted = therapy is not None and therapy.patient_nl > 0
    if as_json:
        emit(
            {
                "permitted": permitted,
                "possible_now": permitted and not ahead.patient_us and not seen.patient_obstacle,
                "obstacle": seen.patient_obstacle or None,
                "possible_in_us": ahead.patient_us if ahead.patient_us < NEVER else None,
                "volume_nl": therapy.patient_nl if therapy is not None else 0,
                "lockout_s": therapy.lockout_s if therapy is not None else 0,
                "most_in_24_h": therapy.patient_max if therapy is not None else 0,
                "outlook": outlook_data(ahead),
            }
        )
        return
    shown = screens.console()
    lines: list[tuple[str, screens.Value]] = [
        ("Now", _now(seen)),
    ]
    if therapy is None or not permitted:
        lines.append(("Patient bolus", "the prescription permits none"))
    else:
        lines.append(("Patient bolus", screens.patient_words(seen, therapy, ahead)))
        lockout = format_duration(therapy.lockout_s * 1_000_000)
        most = f"at most {therapy.patient_max} in any 24 h"
        lines.append(("Lockout", f"{lockout} from start to start, {most}"))
    screens.rows(shown, lines)


def _now(seen: Interrogation) -> screens.Value:
    if seen.status.mode == messages.STOPPED:
        return f"STOPPED ({seen.status.stopped_because})  {_TELL}"
    return screens.mode_now(seen.status, None, True, seen.account.capacity_pl // 1000)


def _ask(port: str | None, yes: bool, as_json: bool) -> None:
    shown = screens.console()
    masses: list[dict[str, Any]] = []

    def show(pump: Programmer, prepared: Prepared, _: object) -> None:
        echo = prepared.echo
        screens.title(shown, "Patient bolus")
        given = format_volume_nl(echo["volume_nl"])
        therapy = pump.prescription()
        if therapy is not None:
            given += f" = {screens.masses_words(therapy, echo['volume_nl'], named=True)}"
        lines: list[tuple[str, screens.Value]] = [
            ("Volume", given),
            ("Time", format_duration(echo["duration_us"], digits=3)),
        ]
        if echo["cut_nl"]:
            cut = format_volume_nl(echo["cut_nl"])
            lines.append(("Cut by a limit", f"{cut} of it will not be given"))
        lines += screens.not_prescribed_rows(therapy, pump.reservoir())
        screens.rows(shown, lines)

    def basis(pump: Programmer, prepared: Prepared) -> object:
        therapy = pump.prescription()
        if therapy is not None:
            masses[:] = therapy.mixture.masses_data(prepared.echo["volume_nl"])
        return prepared.echo["cut_nl"], therapy

    order = Order(
        messages.REQUEST_BOLUS,
        lambda pump: pump.prepare(messages.REQUEST_BOLUS, {}),
        basis,
        show,
        "Give it?",
        role=_ROLE,
    )
    try:
        prepared, done, now = ordering.carry_out(order, port, yes=yes, as_json=as_json)
    except Refused as refusal:
        refusal.remedy = _REMEDIES.get(refusal.name, refusal.remedy)
        raise
    if as_json:
        mass_ng = masses[0]["mass_ng"] if masses else None
        data = ordering.done_data(prepared, done, now)
        emit({**data, "mass_ng": mass_ng, "masses": masses or None})
    else:
        screens.outcome(shown, f"Granted and started (record {done.event}).", *now)
