"""A live screen of one pump: what it does, what it delivered, what is left, what happened last.

Each look is a short session of its own, and the port is free between two: whoever programs the
pump meanwhile is not disturbed. While another program has it, the last look stays, with its age.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cisterna import finding, screens
from cisterna.bench import DAY_US
from cisterna.errors import CisternaError
from cisterna.interrogation import Interrogation, interrogate
from cisterna.prescription import NOTICE
from cisterna.programmer import NEVER, Event, Programmer, as_data
from cisterna.run_samples import plain
from pump_wire.messages import BRIDGE_BOLUS, FAULTS, STOPPED

EVENTS_SHOWN = 6
_EVENTS_READ = 28  # four frames: most that a look costs to know of the last 24 h
_OTHER_DRUG = ("bridge_started", "bridge_done", "bridge_cancelled", "bridge_refused")


@dataclass(frozen=True)
class Look:
    """One look at a pump: its state and its newest event records, oldest first. ``one_drug``:
    the log shows that in the last 24 h nothing but the prescription's drug left the tip."""

    seen: Interrogation
    events: tuple[Event, ...]
    one_drug: bool

    def as_data(self) -> dict[str, Any]:
        """All of it as JSON values, as ``cisterna status`` has them, with the events."""
        events = [{**as_data(e), "name": e.name, "text": e.text} for e in self.events]
        return {**self.seen.as_data(), "events": events}


def look_at(pump: Programmer, count: int = EVENTS_SHOWN) -> Look:
    """Read it all in one session."""
    seen = interrogate(pump)
    first = max(0, seen.status.next_event - max(count, _EVENTS_READ))
    events = tuple(pump.events(first))
    return Look(seen, events[-count:], _one_drug(seen, events))


def _one_drug(seen: Interrogation, events: tuple[Event, ...]) -> bool:
    """False where an event of a change of concentration is less than 24 h old, or may be: where
    ``events`` do not reach back as far."""
    if seen.old_drug:
        return False
    status = seen.status
    this_start = True
    for event in reversed(events):
        if event.damaged:
            return False
        age_us = status.uptime_us - event.uptime_us
        if not this_start:
            both = event.wall_s and status.wall_s
            age_us = (status.wall_s - event.wall_s) * 1_000_000 if both else 0
        if age_us >= DAY_US:
            return True
        if event.name in _OTHER_DRUG:
            return False
        this_start = this_start and event.name != "pump_started"
    return not events or events[0].sequence == 0


def watch(
    port: str | None,
    shown: Console,
    every_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show the pump until Ctrl-C. Raises what ``open_pump`` raises at the first look."""
    with finding.open_pump(port) as pump:
        where, last = pump.session.link.name, look_at(pump)
    taken_s, problem = time.monotonic(), ""
    with Live(console=shown, screen=True, auto_refresh=False) as live:
        while True:
            age_s = time.monotonic() - taken_s
            live.update(picture(last, age_s, problem), refresh=True)
            sleep(every_s)
            try:
                with finding.open_pump(where) as pump:
                    last = look_at(pump)
                taken_s, problem = time.monotonic(), ""
            except CisternaError as error:
                problem = str(error)


def picture(look: Look, age_s: float = 0.0, problem: str = "") -> Group:
    """The screen. ``problem``: why there is no newer look, empty when there is."""
    seen = look.seen
    who = seen.identity
    head = Text(f"Pump {who.serial.hex()}", style="bold")
    head.append(f"  {plain(who.board)} on {plain(seen.port)}, firmware {plain(who.firmware)}")
    when = screens.clock_words(seen.status.wall_s, seen.computer_s)
    parts: list[Any] = [head, Text(f"  {when}", style="dim")]
    if problem:
        text = f"  {age_s:.0f} s old: {plain(problem)}"
        parts.append(Text(text, style="bold red"))
    parts += [
        _panel("Delivery", _delivery(look)),
        _panel("Reservoir", _reservoir(seen)),
        _panel("Alarms and faults", _alarms(seen)),
        _panel("Last events", _events(look)),
        Text(f"Ctrl-C ends this screen; the pump goes on. {NOTICE}", style="dim"),
    ]
    return Group(*parts)


def _panel(name: str, lines: list[tuple[str, screens.Value]]) -> Panel:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in lines:
        table.add_row(label, value if isinstance(value, Text) else Text(plain(value)))
    return Panel(table, title=name, title_align="left", padding=(0, 1))


def _delivery(look: Look) -> list[tuple[str, screens.Value]]:
    seen = look.seen
    status, ahead = seen.status, seen.outlook
    lines: list[tuple[str, screens.Value]] = [
        ("Mode", screens.mode_now(status, seen.account)),
        ("Rate and dose", screens.rate_now(seen)),
    ]
    lines += screens.not_prescribed_rows(seen.therapy, seen.reservoir)
    if seen.bolus_running and status.mode != BRIDGE_BOLUS:
        lines.append(("Bolus", screens.bolus_progress(seen)))
    if ahead is not None and ahead.day_pl:
        given = f"at most {screens.volume(ahead.day_pl)}"
        lines.append(("Last 24 h", given + _day_drug(look, ahead.day_pl)))
    programmed_pl = status.programmed_pl
    since = f"{screens.volume(seen.account.delivered_pl)} since the refill"
    if programmed_pl:
        ratio = Fraction(seen.account.delivered_pl, programmed_pl)
        since += f", {screens.exact_decimal(ratio, 4)} of what was programmed"
    lines.append(("Delivered", since))
    return lines + screens.outlook_rows(seen)


def _day_drug(look: Look, volume_pl: int) -> str:
    """What the last 24 h gave, as far as one concentration tells it."""
    if look.seen.status.mode == BRIDGE_BOLUS:
        return " of the old drug"
    if not look.one_drug:
        return "; the old drug may be in it"
    therapy = look.seen.therapy
    if therapy is None or look.seen.old_drug:
        return ""
    return f" = {screens.masses_words(therapy, Fraction(volume_pl, 1000))}"


def _reservoir(seen: Interrogation) -> list[tuple[str, screens.Value]]:
    account = seen.account
    if not account.refills:
        return [("Residual", "no refill recorded")]
    lines: list[tuple[str, screens.Value]] = [
        (
            "Residual",
            f"{screens.volume(account.residual_pl)} of {screens.volume(account.capacity_pl)}"
            f"  {screens.scale(account.residual_pl, account.capacity_pl)}",
        )
    ]
    return lines + (screens.refill_rows(seen) or [("Next refill", seen.refill_why)])


def _alarms(seen: Interrogation) -> list[tuple[str, screens.Value]]:
    status = seen.status
    lines: list[tuple[str, screens.Value]] = []
    if status.fault:
        _, text, remedy = FAULTS.get(status.fault, ("", f"fault {status.fault}", ""))
        lines.append(("Fault", Text(f"{text}: {plain(status.fault_text)}", style="bold red")))
        lines.append(("  to do", remedy))
    if status.mode == STOPPED:
        words = f"STOPPED ({status.stopped_because})"
        lines.append(("Delivery", Text(words, style="bold red")))
    for alarm in seen.alarms.listed:
        style = "bold red" if alarm.critical else "yellow"
        kind = "critical" if alarm.critical else "alarm"
        words = f"{alarm.text} ({alarm.state_name}, {screens.span(alarm.age_s * 1_000_000)})"
        lines.append((f"{kind} {alarm.instance}", Text(plain(words), style=style)))
        lines.append(("  to do", alarm.remedy))
    account = seen.account
    if account.refills and account.residual_pl <= account.low_mark_pl:
        low = f"at or below the low mark, {screens.volume(account.low_mark_pl)}"
        lines.append(("Reservoir", Text(low, style="bold red")))
    ahead = seen.outlook
    if ahead is not None and ahead.refill_us == 0 and ahead.refill_us < NEVER:
        lines.append(("Refill", Text(f"due now: {seen.refill_why}", style="bold red")))
    return lines or [("None", Text("no alarm, no fault, reservoir above its low mark", "green"))]


def _events(look: Look) -> list[tuple[str, screens.Value]]:
    return [
        ("", screens.event_line(event, look.seen.identity.boots)) for event in look.events
    ] or [("", "none")]
