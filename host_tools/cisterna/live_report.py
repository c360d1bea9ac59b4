"""The report of a pump as it is now, from what the pump says: nothing independent measured it."""

from __future__ import annotations

from collections.abc import Sequence

from cisterna import screens
from cisterna.amounts import format_volume_pl
from cisterna.interrogation import Interrogation
from cisterna.programmer import Event
from cisterna.report import EventRow, RefillSummary, ReportData, balance_rows
from cisterna.run_samples import Forecast
from pump_wire.messages import BRIDGE_BOLUS, FAULTS, FLEX, PERIODIC_BOLUS, RESET_CAUSES


def report_data(seen: Interrogation, events: Sequence[Event]) -> ReportData:
    """What a report shows of ``seen`` and the pump's log. Times are the pump's clock."""
    status, account, refill_in_us = seen.status, seen.account, seen.refill_in_us
    return ReportData(
        title=f"Pump {seen.identity.serial.hex()}",
        step_pl=status.step_pl,
        low_mark_pl=account.low_mark_pl,
        capacity_pl=account.capacity_pl,
        identity=_identity(seen),
        therapy=_therapy(seen),
        prescription=_prescription(seen),
        forecast=_forecast(seen),
        refill=_refill(seen, events),
        events=[
            EventRow(event.sequence, event.uptime_us, event.wall_s, event.text) for event in events
        ],
        balance=balance_rows(
            step_pl=status.step_pl,
            fill_pl=account.fill_pl,
            delivered_pl=account.delivered_pl,
            residual_pl=account.residual_pl,
        ),
        start_wall_s=status.wall_s - status.uptime_us // 1_000_000 if status.wall_s else None,
        read_us=status.uptime_us,
        refill_us=None if refill_in_us is None else status.uptime_us + refill_in_us,
        refill_why=seen.refill_why,
    )


def _identity(seen: Interrogation) -> dict[str, str]:
    who = seen.identity
    return {
        "Serial": who.serial.hex(),
        "Port": seen.port,
        "Board": who.board,
        "Firmware": who.firmware,
        "MicroPython": who.vm,
        "Link": "sealed" if who.sealed else "open (not sealed)",
        "Starts": f"{who.boots:,}, the last by {RESET_CAUSES[who.reset_cause]}",
        "Not proved": "board, firmware, MicroPython, starts: as whoever answered hello said",
    }


def _therapy(seen: Interrogation) -> list[tuple[str, str]]:
    status, therapy = seen.status, seen.therapy
    lines = [("Mode now", status.mode_name)]
    if not status.mode:
        lines.append(("Stopped because", status.stopped_because))
    lines.append(("Rate now", screens.rate_now(seen)))
    if status.mode == BRIDGE_BOLUS:
        lines.append(("Bridge bolus", f"{format_volume_pl(seen.bolus_left_pl)} to come"))
    elif seen.bolus_running:
        lines.append(("Bolus running", format_volume_pl(status.bolus_pl)))
    lines += [(name, str(value)) for name, value in screens.refill_rows(seen)]
    if therapy is not None:
        lines += [
            (name.strip().capitalize(), str(value))
            for name, value in screens.not_prescribed_rows(therapy, seen.reservoir)
        ]
    if status.fault:
        _, text, remedy = FAULTS.get(status.fault, ("", f"fault {status.fault}", ""))
        lines += [("Fault", f"{text}: {status.fault_text}"), ("To do", remedy)]
    return lines


def _prescription(seen: Interrogation) -> list[tuple[str, str]]:
    """Every setting; a name that is indented on a screen belongs to the one before."""
    lines: list[tuple[str, str]] = []
    setting = ""
    for name, value, _ in screens.therapy_lines(seen.therapy) if seen.therapy else ():
        if not name.startswith(" "):
            setting = name[:1].upper() + name[1:]
        lines.append((setting if name[0] != " " else f"{setting}, {name.strip()}", value))
    return lines


def _forecast(seen: Interrogation) -> Forecast | None:
    status, account = seen.status, seen.account
    if not account.refills:
        return None
    low_in_us = seen.low_in_us
    return Forecast(
        now_us=status.uptime_us + seen.bolus_left_us,
        residual_pl=account.fill_pl - status.programmed_pl - seen.bolus_left_pl,
        low_mark_pl=account.low_mark_pl,
        rate_nl_day=seen.mean_rate_nl_day,
        is_mean=seen.therapy is not None and seen.therapy.mode in (FLEX, PERIODIC_BOLUS),
        low_at_us=status.uptime_us + low_in_us if low_in_us else None,
    )


def _refill(seen: Interrogation, events: Sequence[Event]) -> RefillSummary | None:
    """The last refill. The pump keeps what was delivered before it, which is the programme to one
    step, and its verdict stands in the log behind the refill's record."""
    account = seen.account
    if not account.refills:
        return None
    first = account.refills == 1  # nothing was put in before: nothing to compare
    true_pl = account.expected_pl + account.before_delivered_pl - account.measured_pl
    ratio_ppm = 0
    if not first and account.before_delivered_pl > 0 and true_pl > 0:
        half = account.before_delivered_pl // 2
        ratio_ppm = (true_pl * 1_000_000 + half) // account.before_delivered_pl
    names = [event.name for event in events]
    last = len(names) - names[::-1].index("refill_recorded") if "refill_recorded" in names else 0
    return RefillSummary(
        expected_pl=account.expected_pl,
        measured_pl=account.measured_pl,
        discrepancy_pl=0 if first else account.measured_pl - account.expected_pl,
        ratio_ppm=ratio_ppm,
        flagged=last > 0 and "discrepancy" in names[last : last + 2],
        programmed_pl=None if first else account.before_delivered_pl,
        true_pl=None if first else true_pl,
        fill_pl=account.fill_pl,
        reason=account.reason,
        time_us=account.refill_uptime_us or None,
    )
