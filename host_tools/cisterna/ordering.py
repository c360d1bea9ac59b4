"""How the ``cisterna`` command has a pump do something: the pump checks it, the user sees what the
pump would do and agrees, the pump does it once.

While the user reads, the pump is left alone: others may ask it, and stop it. What was shown is
checked again before it is confirmed; where it has changed, nothing is done.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from cisterna.errors import CisternaError, OutcomeUnknown, Refused, UsageError
from cisterna.finding import Earlier, open_pump, try_to_settle
from cisterna.programmer import (
    ENDS_DELIVERY,
    Done,
    Prepared,
    Programmer,
    ReadBackDiffers,
    Status,
    as_json,
)
from pump_wire.messages import (
    BY_ALARM,
    BY_COMMAND,
    BY_FAULT,
    BY_PRESCRIPTION,
    CANCEL_BOLUS,
    EMPTY_RESERVOIR,
    NO_PRESCRIPTION,
    RESUME,
    Message,
)

Basis = TypeVar("Basis")
STALE_S = 600  # what was shown longer ago is read and shown again before anything is done
_NOTHING_DONE = "nothing was changed"


class NotAgreed(CisternaError):
    """The user said no, or what was agreed to is no longer so. Nothing was done."""


@dataclass(frozen=True)
class Typed:
    """A number that the user types so that it is surely meant. ``needed``: it must be, even with
    --yes; ``check``: raises UsageError for another one; ``option``: how a script gives it."""

    needed: bool
    question: str
    check: Callable[[str], None]
    option: str


@dataclass(frozen=True)
class Order(Generic[Basis]):
    """``message``: the command. ``prepare``: has the pump check it. ``basis``: what the user's
    agreement rests on, compared before the pump is told to go on. ``show``: tells the user; called
    again when the user took long. ``question``: what is asked. ``after``: reads back what came of
    it. ``typed``: what has to be typed instead of a yes, None: nothing. ``agree``: told what was
    prepared once the user has agreed; it is prepared again then, with the answers. ``role``: the
    one it needs, None: the one that can do most."""

    message: Message
    prepare: Callable[[Programmer], Prepared]
    basis: Callable[[Programmer, Prepared], Basis]
    show: Callable[[Programmer, Prepared, Basis], None]
    question: str
    after: Callable[[Programmer, Done], None] = lambda _pump, _done: None
    typed: Callable[[Basis], Typed | None] = lambda _basis: None
    agree: Callable[[Prepared], None] | None = None
    role: str | None = None


class Now(NamedTuple):
    """What the pump does after a command; ``status`` None: it could not be read. ``capacity_nl``:
    of its reservoir, by which its rates are told in mL/h too. ``warnings``: what the user must be
    told besides."""

    status: Status | None
    capacity_nl: int
    warnings: tuple[str, ...] = ()


def check_can_ask(yes: bool, as_json: bool) -> None:
    """Raise UsageError where nobody could agree: without --yes, and no terminal to ask on."""
    if yes:
        return
    if as_json:
        raise UsageError("--json asks no question: it needs --yes", _NOTHING_DONE)
    if not _terminal():
        raise UsageError("there is no terminal to ask on: it needs --yes", _NOTHING_DONE)


def agreed(question: str) -> bool:
    """Ask on the terminal; only y or yes is a yes."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def asked_for(question: str) -> str:
    """What the user types on the terminal; empty at the end of input."""
    try:
        return input(f"{question} ").strip()
    except EOFError:
        print()
        return ""


def carry_out(
    order: Order[Any], port: str | None, *, yes: bool, as_json: bool, typed: str | None = None
) -> tuple[Prepared, Done, Now]:
    """Prepare, show, ask unless ``yes``, confirm, read back. Returns what the pump does then, too.
    What ends delivery waits for nothing: with ``yes`` it is confirmed before anything is read.

    ``typed``: what was given in place of typing it. Raises UsageError, NotAgreed, Refused,
    OutcomeUnknown, or what ``open_pump`` raises.
    """
    check_can_ask(yes, as_json)
    ends = order.message in ENDS_DELIVERY
    if ends and yes:
        with open_pump(port, order.role, Earlier.LEAVE) as pump:
            pump.session.waits_for_patients = False
            prepared = _prepare(order, pump)
            done, now = _confirm(order, pump, prepared)
            try_to_settle(pump)
            return prepared, done, now
    earlier = Earlier.TRY if ends else Earlier.END
    with open_pump(port, order.role, earlier) as pump:
        prepared = _prepare(order, pump)
        basis = order.basis(pump, prepared)
        if not as_json:
            _show(order, pump, prepared, basis)
        shown_s = _now_s()
        asked = order.typed(basis)
        if asked is not None and typed is not None:
            asked.check(typed)
        must_type = asked is not None and asked.needed and typed is None
        if asked is not None and must_type and (as_json or not _terminal()):
            raise UsageError(
                f"this must be typed, and --yes does not stand for it: {asked.option}",
                _NOTHING_DONE,
            )
        if yes and not must_type:
            if order.agree is not None:
                order.agree(prepared)
                prepared = _prepare(order, pump)
            return prepared, *_confirm(order, pump, prepared)
        where, who = pump.session.link.name, pump.identity.serial
    while True:
        if asked is not None and must_type:
            answer = asked_for(asked.question)
            if not answer:
                raise NotAgreed(f"not confirmed: {_NOTHING_DONE}")
            asked.check(answer)
        elif not agreed(order.question):
            raise NotAgreed(f"not confirmed: {_NOTHING_DONE}")
        with open_pump(where, order.role, Earlier.LEAVE if ends else earlier) as pump:
            pump.session.waits_for_patients = not ends
            if pump.identity.serial != who:
                raise NotAgreed(f"another pump is on {where} now: {_NOTHING_DONE}")
            if order.agree is not None:
                order.agree(prepared)
            prepared = _prepare(order, pump)
            if order.basis(pump, prepared) != basis:
                raise NotAgreed(
                    f"the pump has changed since you were asked: {_NOTHING_DONE}",
                    remedy="repeat the command and look again",
                )
            if _now_s() - shown_s <= STALE_S:
                return prepared, *_confirm(order, pump, prepared)
            print(f"What you saw is older than {STALE_S // 60} minutes; it was read again:")
            _show(order, pump, prepared, basis)
            shown_s = _now_s()


def _now_s() -> float:
    return time.monotonic()


def _terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


_LOOK = "cisterna status shows what it does"
# What leads out of a stop, by its reason.
_START_REMEDY = {
    NO_PRESCRIPTION: "program one: cisterna program FILE",
    BY_PRESCRIPTION: "the prescription says stopped; program another: cisterna program FILE",
    BY_COMMAND: "start it again: cisterna resume",
    EMPTY_RESERVOIR: "refill it, then tell the pump: cisterna refill",
    BY_FAULT: "see the fault: cisterna status",
    BY_ALARM: "see which alarm: cisterna alarms",
}


def _show(order: Order[Any], pump: Programmer, prepared: Prepared, basis: Any) -> None:
    try:
        order.show(pump, prepared, basis)
    except CisternaError as error:
        if order.message not in ENDS_DELIVERY:
            raise
        print(f"What the pump does now could not be read: {error}", file=sys.stderr)


def _prepare(order: Order[Any], pump: Programmer) -> Prepared:
    try:
        return order.prepare(pump)
    except Refused as refusal:
        if refusal.name != "wrong_mode":
            raise
        raise _wrong_mode(order.message, refusal, pump.status()) from refusal


def _wrong_mode(message: Message, refusal: Refused, now: Status) -> Refused:
    """``refusal`` with what the command needs, and what to do as the pump is now."""
    remedy = _START_REMEDY.get(now.stop_reason)
    if message is CANCEL_BOLUS:
        text, remedy = "no bolus is running", _LOOK
    elif message is RESUME:
        text = "the pump is not stopped by command"
        remedy = remedy or _LOOK
    else:
        text = f"not while the pump is stopped ({now.stopped_because})"
        return Refused(refusal.name, text, remedy=remedy)
    return Refused(refusal.name, text, refusal.field, refusal.value, refusal.limit, remedy)


_interrupts: list[int] = []  # Ctrl-C since the pump did what it was told


def hold_interrupts() -> None:
    """From here on Ctrl-C waits for ``take_interrupts``: the pump did it, and that is told."""
    _interrupts.clear()
    signal.signal(signal.SIGINT, lambda number, _: _interrupts.append(number))


def take_interrupts() -> None:
    """Ctrl-C ends the program again; raises KeyboardInterrupt for one that came meanwhile."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if _interrupts:
        _interrupts.clear()
        raise KeyboardInterrupt


def _confirm(order: Order[Any], pump: Programmer, prepared: Prepared) -> tuple[Done, Now]:
    """Have the pump do it, and read back. It is done whatever comes of the reading: only a
    prescription that differs is an error then."""
    done = confirm(pump, prepared)
    told = (done.warning,) if done.warning else ()
    try:
        order.after(pump, done)
        return done, Now(pump.status(), pump.account().capacity_pl // 1000, told)
    except ReadBackDiffers:
        raise
    except (CisternaError, OSError) as error:
        unread = f"do not repeat it; what the pump does now could not be read: {error}"
        return done, Now(None, 0, (*told, unread))


_carried_out: list[str] = []  # by the pump in this run


def begin() -> None:
    """A run of the command begins: nothing was carried out in it."""
    _carried_out.clear()


def carried_out() -> str:
    """What the pump carried out last in this run, in words; empty: nothing."""
    return _carried_out[-1] if _carried_out else ""


def confirm(pump: Programmer, prepared: Prepared) -> Done:
    """Have the pump do it; Ctrl-C is held from then on. Raises Refused (not done), or
    OutcomeUnknown, also at Ctrl-C."""
    try:
        done = pump.confirm(prepared)
        hold_interrupts()
        name = prepared.message.name.replace("_", " ")
        _carried_out.append(f"{name}: the pump carried it out (record {done.event})")
        return done
    except KeyboardInterrupt as interrupt:
        raise OutcomeUnknown(
            f"{prepared.message.name.replace('_', ' ')}: interrupted after the pump was told and "
            "before it answered",
            remedy="do not repeat it: run cisterna status, which asks the pump what became of it",
        ) from interrupt


def done_data(prepared: Prepared, done: Done, now: Now) -> dict[str, Any]:
    """What was done, and what the pump does then, as JSON values; null: it could not be read."""
    status = now.status
    return {
        "done": True,
        "command": prepared.message.name,
        "request": as_json(prepared.request),
        "echo": as_json(done.echo),
        "event": done.event,
        "uptime_us": done.uptime_us,
        "mode_name": status.mode_name if status else None,
        "stop_reason_name": status.stopped_because if status else None,
        "rate_nl_day": status.rate_nl_day if status else None,
        "warnings": list(now.warnings),
    }
