"""``cisterna log``: the event log and the fault log, read whole, filtered, or followed."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from cisterna import finding, screens, units
from cisterna.cli_options import Json, Port, emit, progress, whole_number
from cisterna.errors import UsageError, quoted
from cisterna.programmer import Account, Event, FaultRecord, Programmer, Status, as_data
from pump_wire.messages import EVENT

_LOOK_EVERY_S = 1.0  # while following the log


@dataclass(frozen=True)
class Filter:
    """Which records are shown. ``names``: events, empty for all. ``most_age_us``: how long ago at
    most, None for ever; a record whose age cannot be told is left out then. A damaged record is
    always shown: what it was is not known."""

    names: frozenset[str]
    most_age_us: int | None
    status: Status
    first_of_start: int

    def shows(self, record: Event | FaultRecord) -> bool:
        """True if ``record`` is to be shown."""
        if record.damaged:
            return True
        if self.names and record.name not in self.names:
            return False
        if self.most_age_us is None:
            return True
        age_us = self._age_us(record)
        return age_us is not None and age_us <= self.most_age_us

    def _age_us(self, record: Event | FaultRecord) -> int | None:
        """Wall time where both ends have it, else the pump's clock where it is this start's."""
        if record.wall_s and self.status.wall_s:
            return (self.status.wall_s - record.wall_s) * 1_000_000
        if isinstance(record, Event) and record.sequence >= self.first_of_start:
            return self.status.uptime_us - record.uptime_us
        return None


def log(
    first: Annotated[
        str | None, typer.Option(metavar="N", help="Start at record number N.")
    ] = None,
    last: Annotated[
        str | None, typer.Option(metavar="N", help="The last N of the records asked for.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="T", help='As long ago as "2 h", or since 2026-11-22T08:30 (UTC).'),
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Events of this name only; may be repeated."),
    ] = None,
    faults: Annotated[
        bool, typer.Option("--faults", help="The fault log: what was seen, and where.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new records until Ctrl-C.")
    ] = False,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Print the event log, or the fault log, oldest first.

    Times are wall time where the pump's clock was set, else the pump's clock since a start. Of the
    last refill the pump keeps reason and measured volume, too. Starts are counted from what hello
    says, which nothing proves; why the pump started is in the log and proved as all of it.
    """
    if first is not None and last is not None:
        raise UsageError("--first and --last were both given", "give one of them")
    if event and faults:
        raise UsageError("--event and --faults were both given", "give one of them")
    from_number, count = whole_number(first, "--first"), whole_number(last, "--last", 1)
    if follow and as_json:
        raise UsageError("--follow never ends, and --json is one document", "give one of them")
    names = _event_names(event or [])
    with finding.open_pump(port) as pump:
        where = pump.session.link.name
        status = pump.status()
        most_age_us = None if since is None else _age_us(since, status)
        filtered = bool(names) or most_age_us is not None
        next_event = status.next_event
        begin = from_number or 0
        if count is not None and not filtered and not faults:
            begin = max(0, next_event - count)
        with progress("reading the log") as tell:
            source = pump.faults if faults else pump.events
            records: list[Event | FaultRecord] = list(source(begin, tell))
        boots = pump.identity.boots
        account = pump.account()
    refills = [each.sequence for each in records if each.name == "refill_recorded"]
    last_refill = refills[-1] if refills and not faults else None
    starts = [each.sequence for each in records if each.name == "pump_started"]
    kept = Filter(names, most_age_us, status, starts[-1] if starts else next_event)
    start = boots - len(starts)
    lines: list[tuple[Event | FaultRecord, int]] = []
    for record in records:
        start += record.name == "pump_started"
        if kept.shows(record):
            lines.append((record, start))
    if count is not None:
        lines = lines[-count:]
    if as_json:
        kind = "faults" if faults else "events"
        next_number = records[-1].sequence + 1 if records else 0
        found = [_record_data(record) for record, _ in lines]
        emit(
            {
                kind: found,
                "next": next_number if faults else next_event,
                "last_refill": None if last_refill is None else _refill_data(account),
            }
        )
        return
    shown = screens.console()
    for record, start in lines:
        is_last = record.sequence == last_refill
        _show(shown, record, start, screens.refill_words(account) if is_last else "")
    if follow:
        after = records[-1].sequence + 1 if records else 0 if faults else next_event
        _follow(shown, where, after, names, faults)


def _event_names(asked: list[str]) -> frozenset[str]:
    for name in asked:
        if name not in EVENT:
            raise UsageError(
                f"there is no event {quoted(name)}", f"there are: {', '.join(sorted(EVENT))}"
            )
    return frozenset(asked)


def _age_us(since: str, status: Status) -> int:
    """How long before now ``since`` is. Raises UsageError."""
    if not since[:4].isdigit() or "-" not in since:
        return units.parse_duration(since, name="--since")
    try:
        instant = datetime.fromisoformat(since.removesuffix("Z"))
    except ValueError:
        raise UsageError(
            f"--since {quoted(since)} is no time", 'write it like 2026-11-22T08:30, or "2 h"'
        ) from None
    if not status.wall_s:
        raise UsageError(
            f"--since {quoted(since)}: the pump's clock is not set, so it cannot tell",
            'say how long ago, such as --since "2 h", or set it: cisterna clock --set',
        )
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=timezone.utc)
    return int((status.wall_s - instant.timestamp()) * 1_000_000)


def _refill_data(account: Account) -> dict[str, Any]:
    """What the pump keeps of the last refill besides its record, as JSON values."""
    return {name: getattr(account, name) for name in ("reason", "measured_pl", "expected_pl")}


def _show(shown: Console, record: Event | FaultRecord, start: int, more: str = "") -> None:
    if isinstance(record, Event):
        shown.print(screens.event_line(record, start, more))
    else:
        shown.print(screens.fault_line(record))


def _follow(
    shown: Console, where: str, begin: int, names: frozenset[str], faults: bool
) -> NoReturn:
    """Print records from ``begin`` on as they come; the pump is free in between."""
    while True:
        sys.stdout.flush()
        time.sleep(_LOOK_EVERY_S)
        with finding.open_pump(where) as pump:
            records = _new(pump, begin, faults)
            boots = pump.identity.boots
        start = boots - sum(each.name == "pump_started" for each in records)
        for record in records:
            start += record.name == "pump_started"
            if record.damaged or not names or record.name in names:
                _show(shown, record, start)
            begin = record.sequence + 1


def _new(pump: Programmer, begin: int, faults: bool) -> list[Event | FaultRecord]:
    return list(pump.faults(begin) if faults else pump.events(begin))


def _record_data(record: Event | FaultRecord) -> dict[str, Any]:
    found = {**as_data(record), "name": record.name}
    return {**found, "text": record.text} if isinstance(record, Event) else found
