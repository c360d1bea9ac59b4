"""How the ``cisterna`` command has a pump do something: the pump checks it, the user sees what the
pump would do and agrees, the pump does it once.

While the user reads, the pump is left alone: others may ask it, and stop it. What was shown is
checked again before it is confirmed; where it has changed, nothing is done.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cisterna.errors import CisternaError, OutcomeUnknown, Refused, UsageError
from cisterna.finding import open_pump
from cisterna.programmer import Done, Prepared, Programmer, Status
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
_NOTHING_DONE = "nothing was changed"


class NotAgreed(CisternaError):
    """The user said no, or what was agreed to is no longer so. Nothing was done."""


@dataclass(frozen=True)
class Order(Generic[Basis]):
    """``message``: the command. ``prepare``: has the pump check it. ``basis``: what the user's
    agreement rests on, compared before the pump is told to go on. ``show``: tells the user; called
    at most once. ``question``: what is asked. ``after``: reads back what came of it."""

    message: Message
    prepare: Callable[[Programmer], Prepared]
    basis: Callable[[Programmer, Prepared], Basis]
    show: Callable[[Programmer, Prepared, Basis], None]
    question: str
    after: Callable[[Programmer, Done], None] = lambda _pump, _done: None


def check_can_ask(yes: bool, as_json: bool) -> None:
    """Raise UsageError where nobody could agree: without --yes, and no terminal to ask on."""
    if yes:
        return
    if as_json:
        raise UsageError("--json asks no question: it needs --yes", _NOTHING_DONE)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("there is no terminal to ask on: it needs --yes", _NOTHING_DONE)


def agreed(question: str) -> bool:
    """Ask on the terminal; only y or yes is a yes."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def carry_out(
    order: Order[Any], port: str | None, *, yes: bool, as_json: bool
) -> tuple[Prepared, Done, Status]:
    """Prepare, show, ask unless ``yes``, confirm, read back. Returns what the pump does then, too.

    Raises UsageError, NotAgreed, Refused, OutcomeUnknown, or what ``open_pump`` raises.
    """
    check_can_ask(yes, as_json)
    with open_pump(port) as pump:
        prepared = _prepare(order, pump)
        basis = order.basis(pump, prepared)
        if not as_json:
            order.show(pump, prepared, basis)
        if yes:
            return prepared, *_confirm(order, pump, prepared)
        where, who = pump.session.link.name, pump.identity.serial
    if not agreed(order.question):
        raise NotAgreed(f"not confirmed: {_NOTHING_DONE}")
    with open_pump(where) as pump:
        if pump.identity.serial != who:
            raise NotAgreed(f"another pump is on {where} now: {_NOTHING_DONE}")
        prepared = _prepare(order, pump)
        if order.basis(pump, prepared) != basis:
            raise NotAgreed(
                f"the pump has changed since you were asked: {_NOTHING_DONE}",
                remedy="repeat the command and look again",
            )
        return prepared, *_confirm(order, pump, prepared)


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


def _confirm(order: Order[Any], pump: Programmer, prepared: Prepared) -> tuple[Done, Status]:
    done = confirm(pump, prepared)
    order.after(pump, done)
    return done, pump.status()


def confirm(pump: Programmer, prepared: Prepared) -> Done:
    """Have the pump do it; Ctrl-C is held from then on. Raises Refused (not done), or
    OutcomeUnknown, also at Ctrl-C."""
    try:
        done = pump.confirm(prepared)
        hold_interrupts()
        return done
    except KeyboardInterrupt as interrupt:
        raise OutcomeUnknown(
            f"{prepared.message.name.replace('_', ' ')}: interrupted after the pump was told and "
            "before it answered",
            remedy="do not repeat it: run cisterna status, which asks the pump what became of it",
        ) from interrupt


def _readable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Octets in hex, as JSON has no others."""
    return {k: v.hex() if isinstance(v, bytes) else v for k, v in values.items()}


def done_data(prepared: Prepared, done: Done, now: Status) -> dict[str, Any]:
    """What was done, and what the pump does then, as JSON values."""
    return {
        "done": True,
        "command": prepared.message.name,
        "request": _readable(prepared.request),
        "echo": _readable(done.echo),
        "event": done.event,
        "uptime_us": done.uptime_us,
        "mode_name": now.mode_name,
        "stop_reason_name": now.stopped_because,
        "rate_nl_day": now.rate_nl_day,
    }
