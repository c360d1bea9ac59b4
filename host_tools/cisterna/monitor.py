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
from cisterna.amounts import format_rate
from cisterna.errors import CisternaError
from cisterna.interrogation import Interrogation, interrogate
from cisterna.prescription import NOTICE
from cisterna.programmer import NEVER, Event, Programmer, as_data
from cisterna.run_samples import plain
from pump_wire.messages import FAULTS, STOPPED

EVENTS_SHOWN = 6


@dataclass(frozen=True)
class Look:
    """One look at a pump: its state and its newest event records, oldest first."""

    seen: Interrogation
    events: tuple[Event, ...]

    def as_data(self) -> dict[str, Any]:
        """All of it as JSON values, as ``cisterna status`` has them, with the events."""
        events = [{**as_data(e), "name": e.name, "text": e.text} for e in self.events]
        return {**self.seen.as_data(), "events": events}


def look_at(pump: Programmer, count: int = EVENTS_SHOWN) -> Look:
    """Read it all in one session."""
    seen = interrogate(pump)
    first = max(0, seen.status.next_event - count)
    return Look(seen, tuple(pump.events(first)))


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
    status, therapy, ahead = seen.status, seen.therapy, seen.outlook
    rate = format_rate(status.rate_nl_day, digits=6)
    if therapy is not None and status.rate_nl_day:
        rates = therapy.mixture.dose_rates_ng_day(status.rate_nl_day)
        rate += " = " + " + ".join(
            f"{screens.dose_rate(each)} of {plain(drug.name)}"
            for each, drug in zip(rates, therapy.mixture.drugs, strict=True)
        )
    lines: list[tuple[str, screens.Value]] = [
        ("Mode", screens.mode_now(status, seen.account)),
        ("Rate and dose", rate),
    ]
    if seen.bolus_running:
        lines.append(("Bolus", screens.bolus_progress(seen)))
    if ahead is not None and ahead.day_pl:
        mass = seen.mass_ng(Fraction(ahead.day_pl, 1000))
        held = f" = {screens.mass(mass)}" if mass is not None else ""
        lines.append(("Last 24 h", f"at most {screens.volume(ahead.day_pl)}{held}"))
    programmed_pl = status.programmed_pl
    since = f"{screens.volume(seen.account.delivered_pl)} since the refill"
    if programmed_pl:
        ratio = Fraction(seen.account.delivered_pl, programmed_pl)
        since += f", {screens.exact_decimal(ratio, 4)} of what was programmed"
    lines.append(("Delivered", since))
    return lines + screens.outlook_rows(seen)


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
