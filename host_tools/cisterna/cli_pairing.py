"""The subcommand that makes and revokes keys: pair."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from cisterna import finding, screens
from cisterna.cli_options import Json, Port, emit
from cisterna.errors import CisternaError, NoPump, Refused, UsageError, quoted
from cisterna.keys import ROLES, HeldKey, KeyStore
from cisterna.programmer import Programmer
from pump_wire import messages

_WAIT_S = 60.0  # for somebody to hold the button
_ASK_EVERY_S = 0.5


def pair(
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help="clinician, patient, service, or all.")
    ] = "clinician",
    listed: Annotated[
        bool, typer.Option("--list", help="Show the keys that are here, and the pump's.")
    ] = False,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Make the role's key worthless, wherever it is.")
    ] = False,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Get a key from the pump, whose service button you hold meanwhile.

    Keys are made on the pump, and stay in your data folder, readable by you alone. A lost key
    cannot be had again: pair again. Whoever had a key that you revoke must pair again, too.
    """
    if role not in (*ROLES, "all"):
        raise UsageError(f"no role {quoted(role)}", f"one of: {', '.join(ROLES)}, all")
    if listed:
        _list(port, as_json)
        return
    roles = list(ROLES) if role == "all" else [role]
    done: list[dict[str, Any]] = []
    with finding.open_pump(port, earlier=finding.Earlier.LEAVE) as pump:
        for each in roles:
            _with_button(pump, each, revoke=revoke, as_json=as_json)
            if revoke:
                pump.session.keys.drop(pump.identity.serial, each)
            held = pump.session.keys.get(pump.identity.serial, each)
            done.append(_data(held) if held else {"role": each, "revoked": True})
            if not as_json:
                what = "key revoked" if revoke else "paired"
                who = pump.identity.serial.hex()
                screens.good(screens.console(), f"{each}: {what}, pump {who}")
    if as_json:
        emit({"pump": pump.identity.serial.hex(), "done": done})


def _with_button(pump: Programmer, role: str, *, revoke: bool, as_json: bool) -> None:
    """Pair or revoke, waiting until somebody holds the button."""
    pump.session.role = role
    until = time.monotonic() + _WAIT_S
    asked = False
    while True:
        try:
            if revoke:
                pump.session.request(messages.REVOKE_KEY, {"role": ROLES[role]})
            else:
                pump.session.pair()
            return
        except Refused as refusal:
            if refusal.name != "no_button" or time.monotonic() > until:
                raise
        if not asked and not as_json:
            screens.note(screens.console(stderr=True), "Hold the pump's service button now.")
        asked = True
        time.sleep(_ASK_EVERY_S)


def _list(port: str | None, as_json: bool) -> None:
    """The keys that are here; and what the pump there may be has given out."""
    held = KeyStore.of_user().all()
    pump_data: dict[str, Any] | None = None
    problem = ""
    try:
        with finding.open_pump(port, earlier=finding.Earlier.LEAVE) as pump:
            generations = pump.session.request(messages.GET_KEYS, {})
            pump_data = {"pump": pump.identity.serial.hex(), "generations": generations}
    except NoPump:
        pass
    except CisternaError as error:
        problem = str(error)
    if as_json:
        emit({"keys": [_data(each) for each in held], "pump": pump_data, "problem": problem})
        return
    shown = screens.console()
    if not held:
        screens.note(shown, "No keys here. cisterna pair gets one.")
    for each in held:
        text = f"{each.role}, key {each.generation} of this role, paired {each.paired_at}"
        if pump_data is not None and pump_data["pump"] == each.pump.hex():
            now = pump_data["generations"][each.role]
            if now != each.generation:
                text += ", WORTHLESS: " + (f"the pump is at key {now}" if now else "revoked")
        screens.note(shown, f"{each.pump.hex()}: {text}")
    if problem:
        screens.note(shown, problem)


def _data(held: HeldKey) -> dict[str, Any]:
    return {
        "pump": held.pump.hex(),
        "role": held.role,
        "generation": held.generation,
        "paired_at": held.paired_at,
    }
