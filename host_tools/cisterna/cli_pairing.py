"""The subcommand that makes and revokes keys: pair."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cisterna import finding, screens
from cisterna.cli_options import Json, Port, emit
from cisterna.errors import CisternaError, NoPump, OutcomeUnknown, Refused, UsageError, quoted
from cisterna.keys import ROLES, HeldKey, KeyStore
from cisterna.programmer import Programmer
from cisterna.session import Session
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

    The pump's answer to --revoke proves nothing, so it is asked once more, in a session of another
    role whose key is here. Where none proves it, the key stays here, and the command ends with
    exit code 4: whether the key was revoked is not known.
    """
    if role not in (*ROLES, "all"):
        raise UsageError(f"no role {quoted(role)}", f"one of: {', '.join(ROLES)}, all")
    if listed:
        _list(port, as_json)
        return
    roles = list(ROLES) if role == "all" else [role]
    with finding.open_pump(port, earlier=finding.Earlier.LEAVE) as pump:
        if revoke:
            done = _revoke(pump, roles, as_json)
        else:
            done = _pair(pump, roles, as_json)
    if as_json:
        emit({"pump": pump.identity.serial.hex(), "done": done})


def _pair(pump: Programmer, roles: list[str], as_json: bool) -> list[dict[str, Any]]:
    """Get a key of each role; returns what --json tells."""
    done: list[dict[str, Any]] = []
    for role in roles:
        _with_button(pump, role, as_json, pump.session.pair)
        held = pump.session.keys.get(pump.identity.serial, role)
        assert held is not None
        done.append(_data(held))
        if not as_json:
            who = pump.identity.serial.hex()
            screens.good(screens.console(), f"{role}: paired, pump {who}")
    return done


def _revoke(pump: Programmer, roles: list[str], as_json: bool) -> list[dict[str, Any]]:
    """Have the pump revoke the key of each role, and find out whether it did; returns what --json
    tells. Keys that are proved to be worthless are not kept.

    Raises CisternaError for a key that is still good, OutcomeUnknown when nothing proves it.
    """
    keys, serial = pump.session.keys, pump.identity.serial
    done: list[dict[str, Any]] = []
    unproved: list[str] = []
    problem = ""
    for role in roles:
        _with_button(pump, role, as_json, lambda: _ask_to_revoke(pump.session))
        others = [each for each in keys.roles(serial) if each != role]
        generations, why = _generations(pump, others)
        if generations is None:
            if _still_opens(pump, role):
                raise _not_revoked(role, "a session with the key that is here opens")
            unproved.append(role)
            problem = problem or why
            continue
        said = f"in a session as {pump.role} the pump says"
        if generations[role]:
            raise _not_revoked(role, f"{said} that it has key {generations[role]} of this role")
        keys.drop(serial, role)
        done.append({"role": role, "revoked": True, "proved_as": pump.role})
        if not as_json:
            text = f"{role}: key revoked, pump {serial.hex()} ({said} so)"
            screens.good(screens.console(), text)
    if unproved:
        raise _not_proved(unproved, problem)
    return done


def _ask_to_revoke(session: Session) -> None:
    """That there is nothing to revoke is as good an answer, and as little proved."""
    try:
        session.request(messages.REVOKE_KEY, {"role": ROLES[session.role]})
    except Refused as refusal:
        if refusal.name != "not_paired":
            raise


def _generations(pump: Programmer, roles: list[str]) -> tuple[dict[str, int] | None, str]:
    """The how many-th key of each role the pump has, 0 for none, asked in a session of the first
    of ``roles`` in which it answers, which is then ``pump.role``; else None, and why not."""
    problem = ""
    for role in roles:
        pump.session.close()
        pump.session.role = role
        try:
            return pump.session.request(messages.GET_KEYS, {}), ""
        except CisternaError as error:
            problem = problem or str(error)
    return None, problem


def _still_opens(pump: Programmer, role: str) -> bool:
    """True if the pump proves that it has the ``role``'s key that is here."""
    pump.session.close()
    pump.session.role = role
    try:
        pump.session.open()
    except CisternaError:
        return False
    pump.session.forget()
    return True


def _not_revoked(role: str, why: str) -> CisternaError:
    return CisternaError(
        f"NOT revoked: a {role}'s key is still good: {why}",
        remedy="somebody on the line keeps requests from the pump and forges its answers, or "
        "paired meanwhile: unplug what else is on the line, and revoke again",
    )


def _not_proved(roles: list[str], problem: str) -> OutcomeUnknown:
    other = next((role for role in reversed(ROLES) if role not in roles), "patient")
    whose = " nor ".join(f"{role}'s" for role in roles)
    return OutcomeUnknown(
        f"the pump says that it has no {whose} key any more, and nothing proves that: somebody on "
        "the line could have said so" + (f"; {problem}" if problem else ""),
        remedy=f"{'repeat it later, or ' if problem else ''}pair another role, cisterna pair "
        f"--role {other}, and revoke again: what the pump says of its keys in a session of that "
        "role is proved, as is what cisterna pair --list then shows; the key stays here till then",
    )


def _with_button(pump: Programmer, role: str, as_json: bool, ask: Callable[[], None]) -> None:
    """``ask`` in ``role``, waiting until somebody holds the button."""
    pump.session.role = role
    until = time.monotonic() + _WAIT_S
    asked = False
    while True:
        try:
            ask()
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
    serial, generations, problem = b"", None, ""
    try:
        with finding.open_pump(port, earlier=finding.Earlier.LEAVE) as pump:
            serial = pump.identity.serial
            here = pump.session.keys.roles(serial) or [pump.role]
            generations, problem = _generations(pump, here)
    except NoPump:
        pass
    except CisternaError as error:
        problem = str(error)
    if as_json:
        told = generations and {"pump": serial.hex(), "generations": generations}
        emit({"keys": [_data(each) for each in held], "pump": told, "problem": problem})
        return
    shown = screens.console()
    if not held:
        screens.note(shown, "No keys here. cisterna pair gets one.")
    for each in held:
        text = f"{each.role}, key {each.generation} of this role, paired {each.paired_at}"
        if generations is not None and each.pump == serial:
            now = generations[each.role]
            if now != each.generation:
                text += ", WORTHLESS: " + (f"the pump is at key {now}" if now else "revoked")
        screens.note(shown, f"{each.pump.hex()}: {text}")
    here = [each.role for each in held if each.pump == serial]
    for role in ROLES:
        if generations is not None and generations[role] and role not in here:
            text = f"{role}, key {generations[role]} of this role, NOT HERE: somebody else has it"
            screens.note(shown, f"{serial.hex()}: {text}")
    if problem:
        screens.note(shown, problem)


def _data(held: HeldKey) -> dict[str, Any]:
    return {
        "pump": held.pump.hex(),
        "role": held.role,
        "generation": held.generation,
        "paired_at": held.paired_at,
    }
