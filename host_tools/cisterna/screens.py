"""How the ``cisterna`` command shows things on a terminal: at most 100 columns, the same words and
numbers without colours, and one value a line where the output is no terminal.

Text that came from a pump or a file is shown on one line without control characters.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cisterna.amounts import (
    exact_decimal,
    field_label,
    format_concentration,
    format_dose_rate,
    format_duration,
    format_field,
    format_mass,
    format_rate,
    format_volume_nl,
    format_volume_pl,
    wall,
)
from cisterna.bench import DAY_US, HOUR_US, MINUTE_US
from cisterna.dose import DayTotal, dose_rate_ng_day
from cisterna.drugs import Stability
from cisterna.finding import Answer
from cisterna.guard import MOST_UNTYPED, Guard, all_boluses, change_words
from cisterna.interrogation import BOLUS_MODES, NO_STEP, Interrogation, not_prescribed
from cisterna.mixture import Drug
from cisterna.prescription import Therapy
from cisterna.profiles import told_per_hour
from cisterna.programmer import NEVER, Account, Alarm, Event, FaultRecord, Outlook, Status, Values
from cisterna.run_samples import plain
from pump_wire.messages import (
    ASK_MIXTURE,
    ASK_SOFT_BOLUS,
    ASK_SOFT_DAY,
    ASK_SOFT_RAISED,
    BRIDGE,
    BRIDGE_BOLUS,
    BY_ALARM,
    BY_COMMAND,
    BY_FAULT,
    CURED,
    EMPTY_RESERVOIR,
    FAULTS,
    FLEX,
    MODES,
    NO_PRESCRIPTION,
    PERIODIC_BOLUS,
    RESET_CAUSES,
    STOPPED,
)

WIDTH = 100  # columns at most
_UNLIMITED = 10_000  # columns where the output is no terminal: lines are not broken

_GOOD, _BAD, _QUIET, _LOUD = "green", "bold red", "dim", "bold"
_NAME_WIDTH = 20
_SCALE = 30  # characters of the reservoir's scale
_BEFORE_UNIT = re.compile(r"(?<=[0-9]) (?=[mun][gL]\b)")
_HELD = "\ue000"  # a blank at which no line is broken, one column wide

Value = str | Text


def console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr as they are now. Markup is off: text is shown as it is."""
    stream = sys.stderr if stderr else sys.stdout
    shown = Console(file=stream, markup=False, highlight=False, emoji=False)
    shown.width = min(shown.width, WIDTH) if shown.is_terminal else _UNLIMITED
    return shown


# -- words -------------------------------------------------------------------------------------


def volume(volume_pl: int | Fraction) -> str:
    """A volume to 0.1 nL."""
    return format_volume_pl(volume_pl, digits=7 if abs(volume_pl) >= 10_000_000 else 4)


def microlitres(volume_pl: int) -> str:
    """A volume of a bolus, to 0.1 uL."""
    return format_volume_pl(volume_pl, digits=1, unit="uL")


def mass(mass_ng: int | Fraction | None) -> str:
    """A mass to 3 decimals of its unit; "?" when it is not known."""
    return "?" if mass_ng is None else format_mass(mass_ng, digits=3)


def dose_rate(rate_ng_day: int | Fraction | None) -> str:
    """A dose rate to 3 decimals of its unit; "?" when it is not known."""
    return "?" if rate_ng_day is None else format_dose_rate(rate_ng_day, digits=3)


def signed(text: str) -> str:
    """A number in words with a plus if it is above zero."""
    return text if text.startswith(("-", "0 ")) else "+" + text


def span(us: int) -> str:
    """A length of time to two units: "59 days 22 h", "3 h 20 min", "10 min", "45 s"."""
    if us >= DAY_US:
        days, hours = us // DAY_US, us % DAY_US // HOUR_US
        return f"{days:,} {'day' if days == 1 else 'days'}" + (f" {hours} h" if hours else "")
    if us >= HOUR_US:
        hours, minutes = us // HOUR_US, us % HOUR_US // MINUTE_US
        return f"{hours} h" + (f" {minutes} min" if minutes else "")
    if us >= MINUTE_US:
        minutes, seconds = us // MINUTE_US, us % MINUTE_US // 1_000_000
        return f"{minutes} min" + (f" {seconds} s" if seconds else "")
    return f"{us // 1_000_000} s"


def pump_clock(us: int) -> str:
    """The pump's clock as days and h:min:s."""
    seconds = us // 1_000_000
    days, rest = divmod(seconds, 86_400)
    return f"{days:,} d {rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"


def change(old: int | Fraction, new: int | Fraction) -> Text:
    """By how much ``new`` differs from ``old``, with the factor where it is large: "24x"."""
    text = change_words(old, new)
    if old == new:
        return Text(text, style=_QUIET)
    if not old or not new:
        return Text(text, style=_LOUD)
    large = abs(Fraction(new) - old) > MOST_UNTYPED * old
    return Text(text, style=_BAD if large else "")


def rate_words(
    rate_nl_day: int | Fraction, capacity_nl: int | None = None, digits: int | None = 6
) -> str:
    """A rate; of a pump whose reservoir no implanted one has in mL/h too."""
    text = format_rate(rate_nl_day, digits=digits)
    if capacity_nl is not None and told_per_hour(capacity_nl):
        text += f" ({exact_decimal(Fraction(rate_nl_day) / 24_000_000, digits=4)} mL/h)"
    return text


# -- parts of screens --------------------------------------------------------------------------


def title(shown: Console, text: str) -> None:
    """A heading."""
    shown.print(Text(text, style=_LOUD))


def note(shown: Console, text: str, style: str = "") -> None:
    """A line of text, indented as it begins."""
    indent = len(text) - len(text.lstrip(" "))
    _hanging(shown, Text(" " * indent), Text(plain(text), style=style))


def good(shown: Console, text: str) -> None:
    """What went well."""
    note(shown, text, _GOOD)


def path(shown: Console, text: str) -> None:
    """A file's name, never broken, so that it can be copied."""
    shown.print(Text(text), soft_wrap=True)


def rows(shown: Console, pairs: Iterable[tuple[str, Value]]) -> None:
    """Names and values, one a line."""
    lines = list(pairs)
    width = max([_NAME_WIDTH - 2, *(len(name) for name, _ in lines)])
    for name, value in lines:
        text = value if isinstance(value, Text) else Text(plain(value))
        _hanging(shown, Text(f"  {name:<{width}}  ", style=_QUIET), text)


def _hanging(shown: Console, start: Text, text: Text) -> None:
    """``text`` behind ``start``, its further lines below its first. A number stays with its
    unit."""
    text = text.copy()
    text.plain = _BEFORE_UNIT.sub(_HELD, text.plain)
    for line in text.wrap(shown, max(shown.width - len(start), 1), overflow="fold"):
        line.plain = line.plain.replace(_HELD, " ")
        line.rstrip()
        shown.print(start + line)
        start = Text(" " * len(start))


# -- screens -----------------------------------------------------------------------------------


def status_screen(shown: Console, seen: Interrogation) -> None:
    """What the pump is and does."""
    who = seen.identity
    sealed = "sealed link" if who.sealed else "open link (not sealed)"
    title(shown, f"Pump {who.serial.hex()} on {plain(seen.port)}")
    note(
        shown,
        f"  board {who.board}, firmware {who.firmware}, MicroPython {who.vm} (unproved), {sealed}",
        _QUIET,
    )
    title(shown, "\nTherapy")
    rows(shown, _therapy_rows(seen))
    title(shown, "\nReservoir")
    rows(shown, _reservoir_rows(seen))
    title(shown, "\nClock and battery")
    rows(shown, _clock_rows(seen) + _own_rows(seen))


def pending_screen(shown: Console, command: Mapping[str, Any]) -> None:
    """A command whose outcome is not known, as ``KeyStore.pending`` has it."""
    title(shown, "\nTold to the pump, outcome unknown")
    lines: list[tuple[str, Value]] = [("Command", command["command"].replace("_", " "))]
    if "sent_at" in command:
        lines.append(("Told", wall(command["sent_at"], True)))
    for name, value in command.get("request", {}).items():
        if value:
            words = format_field(name, value) if isinstance(value, int) else plain(str(value))
            if name == "mode" and value in range(len(MODES)):
                words = mode_words(value)
            lines.append((field_label(name), words))
    rows(shown, lines)


_STOPPED_REMEDY = {
    NO_PRESCRIPTION: "program one: cisterna program FILE",
    BY_COMMAND: "cisterna resume starts it again",
    EMPTY_RESERVOIR: "refill it, then tell the pump: cisterna refill",
    BY_FAULT: "see the fault below",
    BY_ALARM: "see the alarms below",
}


def mode_now(
    status: Status,
    account: Account | None = None,
    with_rate: bool = False,
    capacity_nl: int | None = None,
) -> Text:
    """What the pump does, and if it is stopped, why and what to do. ``account``: explains why it
    is empty. ``with_rate``: with the rate it delivers, in the units of ``capacity_nl``'s pumps."""
    if status.mode != STOPPED:
        rate = f", {rate_words(status.rate_nl_day, capacity_nl)}" if with_rate else ""
        back = ""
        if status.mode == BRIDGE_BOLUS:
            back = ", then the new programme"
        elif status.mode in BOLUS_MODES:
            back = f", then back to {mode_words(status.return_mode)}"
        return Text(f"{status.mode_name}{rate}{back}")
    text = Text(f"STOPPED ({status.stopped_because})", style=_BAD)
    remedy = _STOPPED_REMEDY.get(status.stop_reason)
    if status.stop_reason == EMPTY_RESERVOIR and account is not None:
        left, unusable = volume(account.residual_pl), volume(account.unusable_pl)
        remedy = f"empty: {left} left, {unusable} cannot be used; {remedy}"
    return text.append(f"  {remedy}", style="not bold default") if remedy else text


def mode_words(mode: int) -> str:
    """An infusion mode of the message table in words."""
    return MODES[mode].replace("_", " ")


def _therapy_rows(seen: Interrogation) -> list[tuple[str, Value]]:
    status, therapy = seen.status, seen.therapy
    lines: list[tuple[str, Value]] = [("Mode", mode_now(status, seen.account))]
    lines.append(("Rate now", rate_now(seen)))
    if therapy is not None:
        drug = f"{therapy.drug} {format_concentration(therapy.concentration_ng_ml)}"
        prescribed = f"{drug}, {therapy.mode_name}"
        if therapy.others:
            with_ = ", ".join(f"{plain(d.name)} {_concentration(d)}" for d in therapy.others)
            prescribed = f"{drug} with {with_}, {therapy.mode_name}"
        lines.append(("Prescribed", prescribed + programme_words(therapy)))
    else:
        lines.append(("Prescribed", "nothing"))
    lines += not_prescribed_rows(therapy, seen.reservoir)
    periodic = therapy is not None and therapy.mode == PERIODIC_BOLUS  # has a row of its own
    if status.mode != BRIDGE_BOLUS and (seen.bolus_running or not periodic):
        lines.append(("Bolus", bolus_progress(seen) if seen.bolus_running else "none"))
    lines += outlook_rows(seen)
    if status.fault:
        _, text, remedy = FAULTS.get(status.fault, ("", f"fault {status.fault}", ""))
        fault = Text(f"FAULT: {text}", style=_BAD)
        fault.append(f"  {plain(status.fault_text)}", style="not bold default")
        lines.append(("Fault", fault))
        lines.append(("", f"to do: {remedy}"))
    else:
        lines.append(("Fault", "none"))
    return lines + alarm_rows(seen.alarms.listed, brief=True)


def rate_now(seen: Interrogation) -> str:
    """The rate now and what it gives of each drug at the tip; only the rate where that is not
    known."""
    rate, therapy = seen.status.rate_nl_day, seen.therapy
    if therapy is None or not rate:
        return format_rate(rate, digits=6)
    text = rate_words(rate, therapy.capacity_nl)
    if seen.old_drug:
        return f"{text} of the old drug"
    by = ", as prescribed" if seen.not_prescribed else ""
    return f"{text} = {doses_words(therapy, rate)}{by}"


def not_prescribed_words(therapy: Therapy, inside: Sequence[Drug]) -> str:
    """That the reservoir holds something else than is prescribed; empty where it does not, or it
    is not known."""
    if not not_prescribed(therapy, inside):
        return ""
    return (
        "the reservoir's concentrations are not the prescription's: it holds "
        f"{_drugs_words(inside)}, prescribed is {_drugs_words(therapy.mixture.drugs)}"
    )


def not_prescribed_rows(
    therapy: Therapy | None, inside: Sequence[Drug]
) -> list[tuple[str, Value]]:
    """The same as a row, none where there is nothing to tell."""
    text = "" if therapy is None else not_prescribed_words(therapy, inside)
    return [("WARNING", Text(text, style=_BAD))] if text else []


def _drugs_words(drugs: Sequence[Drug]) -> str:
    return _AND.join(plain(drug.words) for drug in drugs)


def programme_words(therapy: Therapy) -> str:
    """Rate and dose of the prescription; the 24-h total where that is not the rate's."""
    at = "" if therapy.mode == STOPPED else basal_words(therapy)
    total = therapy.day_total
    if therapy.mode in (FLEX, PERIODIC_BOLUS):
        volume_words = format_volume_nl(total.volume_nl, digits=6)
        at += f", 24-h total {volume_words} = {masses_words(therapy, total.volume_nl)}"
    return at + (" on the largest day" if therapy.mode == FLEX else "")


def basal_words(therapy: Therapy) -> str:
    """Rate and dose of the prescription without boluses, after a comma; nothing of flex."""
    if therapy.mode == FLEX:
        return ""
    rate = therapy.basal_rate_nl_day
    given = doses_words(therapy, rate)
    if not therapy.others:
        given = dose_rate(dose_rate_ng_day(rate, therapy.concentration_ng_ml))
    between = " between boluses" if therapy.mode == PERIODIC_BOLUS else ""
    return f", {rate_words(rate, therapy.capacity_nl)} = {given}{between}"


_AND = " + "  # between two drugs


def masses_words(
    therapy: Therapy, volume_nl: int | Fraction, digits: int = 3, *, named: bool = False
) -> str:
    """What a volume holds of each drug; of an only one without its name unless ``named``."""
    drugs = therapy.mixture.drugs
    masses = [format_mass(each, digits=digits) for each in therapy.mixture.masses_ng(volume_nl)]
    if not therapy.others and not named:
        return masses[0]
    return _AND.join(
        f"{each} of {plain(drug.name)}" for each, drug in zip(masses, drugs, strict=True)
    )


def doses_words(therapy: Therapy, rate_nl_day: int | Fraction) -> str:
    """What a rate gives of each drug."""
    rates = therapy.mixture.dose_rates_ng_day(rate_nl_day)
    return _AND.join(
        f"{dose_rate(each)} of {plain(drug.name)}"
        for each, drug in zip(rates, therapy.mixture.drugs, strict=True)
    )


def alarm_rows(alarms: Sequence[Alarm], *, brief: bool = False) -> list[tuple[str, Value]]:
    """Alarms, each with its instance, its state and, unless ``brief``, its class and remedy."""
    if not alarms:
        return [("Alarms", "none")]
    lines: list[tuple[str, Value]] = []
    for alarm in alarms:
        shown = Text(f"{alarm.text}", style=_BAD if alarm.critical else _LOUD)
        age = span(alarm.age_s * 1_000_000)
        kind = "" if brief else "critical, " if alarm.critical else "non-critical, "
        shown.append(f"  {kind}{alarm.state_name}, raised {age} ago", style="not bold default")
        lines.append((f"Alarm {alarm.instance}", shown))
        if not brief:
            gone = f"nothing; its cause is gone: cisterna alarms --ack {alarm.instance}"
            lines.append(("", f"to do: {gone if alarm.state == CURED else alarm.remedy}"))
    return lines


def outlook_rows(seen: Interrogation) -> list[tuple[str, Value]]:
    """What comes by itself, patient bolus, volume limits and bridge bolus, as far as there are
    any."""
    ahead, therapy = seen.outlook, seen.therapy
    if ahead is None or therapy is None:
        return []
    lines: list[tuple[str, Value]] = []
    if therapy.mode == FLEX and ahead.step != NO_STEP:
        until = f", the next in {span(ahead.next_us)}" if ahead.next_us < NEVER else ""
        lines.append(("Flex step", f"{ahead.step + 1} of the day{until}"))
    if therapy.mode == PERIODIC_BOLUS:
        lines.append(("Periodic bolus", periodic_words(seen, therapy)))
    if therapy.patient_nl:
        lines.append(("Patient bolus", patient_words(seen, therapy, ahead)))
    if therapy.hour_nl or therapy.day_nl:
        room = "no limit" if ahead.room_nl >= NEVER else format_volume_nl(ahead.room_nl)
        lines.append(
            (
                "Last 1 h / 24 h",
                f"at most {volume(ahead.hour_pl)} / {volume(ahead.day_pl)}; "
                f"room for a bolus of {room}",
            )
        )
    if ahead.bridge:
        words = bridge_words(ahead)
        if seen.status.mode == BRIDGE_BOLUS:
            words += f", done in {span(seen.bolus_left_us)}"
        lines.append(("Bridge bolus", words))
    elif ahead.why:
        lines.append(("No bridge bolus", f"at the last change, because: {plain(ahead.why)}"))
    return lines


def periodic_words(seen: Interrogation, therapy: Therapy) -> str:
    """The periodic bolus that runs, or when the next comes, as far as the pump tells it."""
    dose = _dose_words(therapy, therapy.bolus_nl)
    status, found = seen.status, seen.periodic
    if found is None:
        if status.mode == BRIDGE_BOLUS:
            return f"{dose}; none during the bridge bolus"
        if STOPPED in (status.mode, status.return_mode):
            return f"{dose}; none while the pump is stopped"
        return dose if status.rate_nl_day else f"{dose}; held back by a volume limit"
    if found.next_us is None:
        return f"{dose}; interrupted, goes on when the running bolus is done"
    after = f"the next in {span(found.next_us)}"
    if not found.left_us:
        return f"{dose}; {after}"
    left = microlitres(found.left_nl * 1000)
    return f"{dose}; running: {left} to go, done in {span(found.left_us)}, {after} at the latest"


def flex_clock_rows(seen: Interrogation) -> list[tuple[str, Value]]:
    """The row that tells that flex does not run by local time yet; none where it does."""
    wanted, ahead = seen.flex_wanted, seen.outlook
    if wanted is None or ahead is None:
        return []
    step, end_us = wanted
    if ahead.step == step and abs(ahead.next_us - end_us) < MINUTE_US:
        return []
    text = f"step {ahead.step + 1} of the day keeps its end, in {span(ahead.next_us)}; "
    if ahead.step == step:
        text += f"by the new time it would end in {span(end_us)}"
    else:
        text += f"by the new time step {step + 1} of the day would run"
    text += "; each step after it is up to a quarter longer or shorter until flex is in time"
    return [("Flex", Text(text, style=_LOUD))]


def patient_words(seen: Interrogation, therapy: Therapy, ahead: Outlook) -> str:
    """When the patient's next bolus is possible, or what stands in the way, and how many are
    left."""
    used = f"{ahead.patient_used} of {therapy.patient_max} used in 24 h"
    dose = _dose_words(therapy, therapy.patient_nl)
    if seen.patient_obstacle:
        return f"{dose}; not possible now: {seen.patient_obstacle}, {used}"
    if ahead.patient_us >= NEVER:
        return f"{dose}; not possible now, {used}"
    if ahead.patient_us:
        return f"{dose}; possible in {span(ahead.patient_us)}, {used}"
    if ahead.room_nl < therapy.patient_nl:
        cut = format_volume_nl(ahead.room_nl)
        return f"{dose}; possible now, but only {cut} of it within the volume limits, {used}"
    return f"{dose}; possible now, {used}"


def bridge_words(ahead: Outlook) -> str:
    """The bridge bolus in words."""
    left = format_volume_nl(ahead.bridge_left_nl)
    if ahead.bridge == BRIDGE:
        return f"runs: {left} of the old drug still to come"
    return f"CANCELLED with {left} of the old drug still to come; cisterna bridge --resume"


def _own_rows(seen: Interrogation) -> list[tuple[str, Value]]:
    status = seen.status
    battery = f"{status.battery_mv / 1000:.2f} V" if status.battery_mv else "not measured"
    battery += f", {status.service_days:,} days served"
    years = seen.longevity_years
    if years is not None:
        battery += f"; a new one lasts about {years:.1f} years at this rate"  # estimated
    return [("Battery", battery), ("Loop late by", f"{status.lag_ms:,} ms at most")]


def bolus_progress(seen: Interrogation) -> str:
    """The running bolus in words."""
    status = seen.status
    given_pl = status.bolus_pl - status.bolus_left_pl
    drug = _bolus_mass(seen, status.bolus_pl)
    return (
        f"{microlitres(status.bolus_pl)}{drug}: {microlitres(given_pl)} given, "
        f"{microlitres(status.bolus_left_pl)} to go, done in {span(seen.bolus_left_us)}"
    )


def _bolus_mass(seen: Interrogation, volume_pl: int) -> str:
    """Drugs in a part of the running bolus, in brackets; nothing where they are not known."""
    if seen.therapy is None or seen.old_drug:
        return ""
    return f" ({masses_words(seen.therapy, Fraction(volume_pl, 1000))})"


def bolus_ends(seen: Interrogation) -> list[tuple[str, Value]]:
    """The row that tells that a command ends the running bolus; none without one, and of a bridge
    bolus, which goes on afterwards."""
    if not seen.bolus_running or seen.status.mode == BRIDGE_BOLUS:
        return []
    left_pl, all_pl = seen.status.bolus_left_pl, seen.status.bolus_pl
    drug = _bolus_mass(seen, left_pl)
    text = f"WILL END: {microlitres(left_pl)}{drug} of {microlitres(all_pl)} not given yet"
    return [("Running bolus", Text(text, style=_BAD))]


def _reservoir_rows(seen: Interrogation) -> list[tuple[str, Value]]:
    account, step_pl = seen.account, seen.status.step_pl
    low, unusable = volume(account.low_mark_pl), volume(account.unusable_pl)
    if not account.refills:
        fill = format_volume_pl(account.capacity_pl)
        return [
            ("Expected residual", "no refill recorded"),
            ("", f'cisterna refill --measured "0 mL" --fill "{fill}" --reason "first fill"'),
            ("Low mark", low),
            ("Cannot be used", unusable),
        ]
    residual = Text(f"{volume(account.residual_pl)} of {volume(account.capacity_pl)}  ")
    is_low = account.residual_pl <= account.low_mark_pl
    residual.append(scale(account.residual_pl, account.capacity_pl), _BAD if is_low else "")
    delivered = f"{volume(account.delivered_pl)} = {account.delivered_pl // step_pl:,} steps"
    if account.bolus_pl:
        delivered += f", {volume(account.bolus_pl)} of it by boluses"
    return [
        ("Expected residual", residual),
        ("Delivered", f"{delivered}, since the refill"),
        (
            "Last refill",
            f"to {volume(account.fill_pl)}, {_refill_time(seen)}; {refill_words(account)}",
        ),
        ("Low mark", _forecast(seen, low)),
        *refill_rows(seen),
        ("Cannot be used", unusable),
    ]


def refill_rows(seen: Interrogation) -> list[tuple[str, Value]]:
    """When the next refill is due by the pump's own forecast, with a countdown; what is inside."""
    lines: list[tuple[str, Value]] = []
    left_us = seen.refill_in_us
    if left_us is not None:
        date = wall(seen.wall_s + left_us // 1_000_000)
        if not seen.status.wall_s:
            date = f"{date.split()[0]} (computer's clock)"
        due = f"{date}, in {span(left_us)}" if left_us else "NOW"
        style = "" if left_us else _BAD
        lines.append(("Next refill", Text(f"{due} ({seen.refill_why})", style=style)))
    if seen.reservoir:
        lines.append(("In the reservoir", _drugs_words(seen.reservoir)))
    return lines


def refill_words(account: Account) -> str:
    """Why the last refill was, and what was found in the reservoir then; the pump keeps no more
    than the last one's."""
    found = f"{plain(account.reason)}, measured {volume(account.measured_pl)}"
    return found + ("" if account.refills == 1 else f", expected {volume(account.expected_pl)}")


def _refill_time(seen: Interrogation) -> str:
    account = seen.account
    if account.refill_wall_s:
        return wall(account.refill_wall_s)
    if account.refill_uptime_us:
        return span(seen.status.uptime_us - account.refill_uptime_us) + " ago"
    return "at a time not known"


def _forecast(seen: Interrogation, low: str) -> Value:
    left_us = seen.low_in_us
    if left_us is None:
        return f"{low}; no date: nothing is delivered"
    if not left_us:
        return Text(f"{low}: REACHED, refill now", style=_BAD)
    date = wall(seen.wall_s + left_us // 1_000_000)
    if not seen.status.wall_s:
        date = f"{date.split()[0]} (computer's clock)"
    varies = seen.therapy is not None and seen.therapy.mode in (FLEX, PERIODIC_BOLUS)
    by = f"at {'the mean' if varies else 'this'} rate"
    if seen.flex_local_us is not None:
        by = "by the flex steps"
    return f"{low}, {by} on {date}, in {span(left_us)}"


def scale(part_pl: int, whole_pl: int) -> str:
    """How full it is, as a bar."""
    filled = min(max(part_pl, 0) * _SCALE // whole_pl, _SCALE) if whole_pl else 0
    return "[" + "#" * filled + "." * (_SCALE - filled) + "]"


def _clock_rows(seen: Interrogation) -> list[tuple[str, Value]]:
    status = seen.status
    cause = RESET_CAUSES[seen.identity.reset_cause]
    started = f"start {seen.identity.boots:,}, cause: {cause}; unproved"
    return [
        ("Wall time", clock_words(status.wall_s, seen.computer_s)),
        ("Running for", f"{span(status.uptime_us)} ({started})"),
    ]


def clock_words(pump_s: int, computer_s: int) -> str:
    """The pump's wall time, and how far it is from this computer's: from an hour on to the nearest
    minute, as the two are read a moment apart."""
    if not pump_s:
        return "not set: cisterna clock --set"
    off_s = pump_s - computer_s
    if abs(off_s) <= 1:
        return f"{wall(pump_s, True)}, as this computer's"
    way = "ahead of" if off_s > 0 else "behind"
    off_us = abs(off_s) * 1_000_000
    if off_us >= HOUR_US - MINUTE_US // 2:
        off_us = (off_us + MINUTE_US // 2) // MINUTE_US * MINUTE_US
    return f"{wall(pump_s, True)}, {span(off_us)} {way} this computer's"


def ports_screen(shown: Console, answers: Sequence[Answer]) -> None:
    """Every port and what is there."""
    pumps = [answer for answer in answers if answer.state == "pump"]
    if pumps:
        table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
        for name in ("Port", "Serial", "Board", "Firmware", "Link", "Mode"):
            table.add_column(name, overflow="fold")
        for answer in pumps:
            assert answer.identity is not None
            who = answer.identity
            table.add_row(
                plain(answer.candidate.port),
                who.serial.hex(),
                plain(who.board),
                plain(who.firmware),
                "paired" if who.sealed else "not paired",
                answer.status.mode_name if answer.status else "not told",
            )
        shown.print(table)
    for answer in answers:
        if answer.problem:
            what = answer.candidate.description
            where = answer.candidate.port + (f" ({what})" if what else "")
            note(shown, f"{where}: {answer.problem}", _QUIET)


def outcome(
    shown: Console,
    text: str,
    status: Status | None,
    capacity_nl: int,
    warnings: Iterable[str] = (),
) -> None:
    """What was done, and what the pump does now, in the units of ``capacity_nl``'s pumps; None: it
    could not be read."""
    good(shown, text)
    if status is not None:
        rows(shown, [("Now", mode_now(status, with_rate=True, capacity_nl=capacity_nl))])
    for warning in warnings:
        note(shown, f"  WARNING: {plain(warning)}", "bold red")


def therapy_screen(shown: Console, therapy: Therapy, notes: Iterable[str]) -> None:
    """A prescription, as it was understood."""
    rows(shown, ((name, value) for name, value, _ in therapy_lines(therapy, _STEP_WIDTH)))
    for text in notes:
        note(shown, f"  note: {text}", "yellow")


_Line = tuple[str, str, int | Fraction | None]


def therapy_lines(therapy: Therapy, width: int = 0) -> list[_Line]:
    """Name, value in words, and the number by which a change is measured. Lines that begin alike
    are the same setting. ``width``: as of ``flex_words``."""
    total = therapy.day_total
    lines: list[_Line] = [
        ("Drug", plain(therapy.drug), None),
        (
            "Concentration",
            format_concentration(therapy.concentration_ng_ml),
            therapy.concentration_ng_ml,
        ),
    ]
    for drug in therapy.others:
        lines.append((f"with {plain(drug.name)}", _concentration(drug), drug.concentration_ng_ml))
    lines.append(("Mode", therapy.mode_name, None))
    if therapy.mode == FLEX:
        lines += [(f"Steps {days}", words, None) for days, words in flex_words(therapy, width)]
    else:
        basal = therapy.basal_rate_nl_day
        lines.append(("Rate", rate_words(basal, therapy.capacity_nl), basal))
    if therapy.mode == PERIODIC_BOLUS:
        lines += [
            ("Periodic bolus", _dose_words(therapy, therapy.bolus_nl, width), therapy.bolus_nl),
            ("  over", _seconds(therapy.bolus_s), therapy.bolus_s),
            ("  every", _seconds(therapy.interval_s), therapy.interval_s),
        ]
    lines.append(("24 h volume", format_volume_nl(total.volume_nl, digits=6), total.volume_nl))
    masses = therapy.mixture.masses_ng(total.volume_nl)
    lines.append(("24 h drug", mass(total.mass_ng), total.mass_ng))
    for drug, amount in zip(therapy.others, masses[1:], strict=True):
        lines.append((f"24 h {plain(drug.name)}", mass(amount), amount))
    if therapy.patient_nl:
        with_patient = total.volume_nl + therapy.patients_nl
        lines += [
            ("Patient bolus", _dose_words(therapy, therapy.patient_nl, width), therapy.patient_nl),
            (
                "  over, lockout",
                f"{_seconds(therapy.patient_s)}, {_seconds(therapy.lockout_s)}",
                None,
            ),
            ("  at most in 24 h", str(therapy.patient_max), therapy.patient_max),
            (
                "24 h with all",
                _dose_words(therapy, with_patient, width),
                with_patient,
            ),
        ]
    for name, value in (
        ("Limit in 1 h", therapy.hour_nl),
        ("Limit in 24 h", therapy.day_nl),
        ("Soft limit 24 h", therapy.soft_day_nl),
        ("Soft limit bolus", therapy.soft_bolus_nl),
        ("Tubing", therapy.tubing_nl),
        ("Catheter", therapy.catheter_nl),
    ):
        if value:
            lines.append((name, format_volume_nl(value), value))
    if therapy.stable_until_s:
        lines.append(("Stable until", wall(therapy.stable_until_s), None))
    if therapy.stable_why:
        lines.append(("Stable because", plain(therapy.stable_why), None))
    return [
        *lines,
        ("Reservoir", format_volume_nl(therapy.capacity_nl), therapy.capacity_nl),
        ("Low mark", format_volume_nl(therapy.low_mark_nl), therapy.low_mark_nl),
    ]


_STEP_WIDTH = 26  # columns of a day's steps in a comparison
_DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def flex_words(therapy: Therapy, width: int = 0) -> list[tuple[str, str]]:
    """Days and their steps in words, days with the same steps together. ``width``: break there."""
    found: list[tuple[str, str]] = []
    for number, pattern in enumerate(therapy.patterns):
        days = " ".join(_DAYS[day] for day in range(7) if therapy.week[day] == number)
        if days == " ".join(_DAYS[:5]):
            days = "Mo-Fr"
        elif len(days.split()) == 7:
            days = "daily"
        steps = [
            f"{minute // 60:02d}:{minute % 60:02d} {rate_words(rate, therapy.capacity_nl)}"
            for minute, rate in pattern
        ]
        found.append((days, ("\n" if width else ", ").join(steps)))
    return found


def _concentration(drug: Drug) -> str:
    return format_concentration(drug.concentration_ng_ml, digits=3)


def _seconds(seconds: int) -> str:
    return format_duration(seconds * 1_000_000)


def _dose_words(therapy: Therapy, volume_nl: int | Fraction, width: int = 0) -> str:
    """A volume and what it holds. ``width``: as of ``flex_words``."""
    held = masses_words(therapy, volume_nl)
    if width:
        held = held.replace(_AND, "\n+ ")
    return f"{format_volume_nl(volume_nl, digits=6)} = {held}"


def change_screen(shown: Console, old: Therapy | None, new: Therapy) -> None:
    """The prescription in force and the new one side by side, every setting of both."""
    if old is None:
        therapy_screen(shown, new, ())
        rows(shown, [("In force now", "nothing")])
        return
    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    table.add_column("", style=_QUIET, min_width=_NAME_WIDTH - 2)
    table.add_column("Now", overflow="fold")
    table.add_column("New", style=_LOUD, overflow="fold")
    table.add_column("Change")
    before = {name: (value, amount) for name, value, amount in therapy_lines(old, _STEP_WIDTH)}
    after = {name: (value, amount) for name, value, amount in therapy_lines(new, _STEP_WIDTH)}
    for name in _merged(list(before), list(after)):
        was, was_amount = before.get(name, ("", None))
        value, amount = after.get(name, ("", None))
        if amount is not None and was_amount is not None:
            differs = change(was_amount, amount)
        elif value == was:
            differs = Text("unchanged", style=_QUIET)
        else:
            word = "new" if name not in before else "gone" if name not in after else "changed"
            differs = Text(word, style=_BAD)
        table.add_row(f"  {name}", was, value, differs)
    shown.print(table)


def _merged(first: list[str], second: list[str]) -> list[str]:
    """The names of both lists, those of each in its order."""
    found: list[str] = []
    rest = list(second)
    for name in first:
        if name in rest:
            at = rest.index(name)
            found += rest[:at]
            del rest[: at + 1]
        if name not in found:
            found.append(name)
    return found + [name for name in rest if name not in found]


def guard_screen(shown: Console, seen: Guard) -> None:
    """The 24-h totals, old and new, in one line each, without and with all patient boluses, and
    the largest change; loud where it is large."""
    old, new, change = seen.old, seen.new, seen.change
    lines = _total_rows("24-h total", seen, lambda therapy: therapy.day_total)
    if seen.has_patient:
        lines += _total_rows("24 h with all", seen, all_boluses)
    if old is not None and change is not None:
        was_ng, is_now_ng = seen.change_ng
        words = f"{change_words(was_ng, is_now_ng)} ({plain(change.drug)}"
        if change.with_patient:
            words += ", with all patient boluses"
        flex = FLEX in (old.mode, new.mode)
        if flex or change.with_patient or change.drug != new.drug:
            day = f", {_WEEKDAYS[change.weekday]}" if flex else ""
            words += f"{day}: {dose_rate(was_ng)} to {dose_rate(is_now_ng)}"
        style = _BAD if change.large else ""
        lines.append(("Largest change", Text(words + ")", style=style)))
    rows(shown, lines)


def _total_rows(
    what: str, seen: Guard, total: Callable[[Therapy], DayTotal]
) -> list[tuple[str, Value]]:
    """A total of 24 hours, old and new."""

    def words(therapy: Therapy) -> str:
        found = total(therapy)
        rate = format_rate(found.volume_nl, digits=6)
        largest = max(range(7), key=therapy.day_volume_nl)
        day = f" on {_WEEKDAYS[largest]}, the largest day" if therapy.mode == FLEX else ""
        return f"{doses_words(therapy, found.volume_nl)} = {rate}{day}"

    if seen.old is None:
        return [(f"{what}, new", words(seen.new)), (f"{what}, old", "none")]
    new = Text(words(seen.new), style=_LOUD)
    return [(f"{what}, old", words(seen.old)), (f"{what}, new", new)]


def cut_words(echo: Values, therapy: Therapy | None, limits: Sequence[str]) -> Text:
    """What a bolus will not give of what was asked for, and by which limits: fields of
    ``therapy``, hour_nl and day_nl."""
    cut = format_volume_nl(echo["cut_nl"])
    if therapy is None:
        return Text(f"{cut} of what was asked for will not be given", style=_BAD)
    spans = {"hour_nl": "1 h", "day_nl": "24 h"}
    by = " or ".join(f"{format_volume_nl(getattr(therapy, at))} in {spans[at]}" for at in limits)
    text = f"{cut} = {masses_words(therapy, echo['cut_nl'])}"
    return Text(f"{text} of it will not be given: limit of {by}", style=_BAD)


def stability_words(stability: Stability, guessed: bool = False) -> str:
    """How long the drugs may stay, and who says so. ``guessed``: nobody knows when they came."""
    begin = "today, as the day of the refill is not known" if guessed else "the refill"
    by = f"override: {stability.source}" if stability.overridden else stability.source
    return f"{stability.days} days from {begin} ({plain(by)})"


def bridge_rows(echo: Values, why_not: str | None) -> list[tuple[str, Value]]:
    """What becomes of the old drug in tubing and catheter; none where no concentration changes."""
    if why_not is not None:
        text = "NONE: the old drug comes first, at the new rate"
        return [("Bridge bolus", Text(text, style=_BAD)), ("  because", plain(why_not))]
    if not echo["bridge_nl"]:
        return []
    during = rate_words(echo["bridge_rate_nl_day"], echo["capacity_nl"])
    last = span(echo["bridge_us"])
    volume_words = format_volume_nl(echo["bridge_nl"])
    return [("Bridge bolus", f"{volume_words} of the old drug at {during} first, for {last}")]


_ASK_WORDS = {
    ASK_SOFT_DAY: "the 24-h total with every patient bolus is above the soft limit",
    ASK_SOFT_BOLUS: "a bolus is above the soft limit",
    ASK_SOFT_RAISED: "a soft limit is raised or taken away",
    ASK_MIXTURE: "the concentrations are not those of what is in the reservoir",
}


def ask_words(asks: int) -> list[str]:
    """What must be agreed to, in words, without the total and the bridge."""
    return [words for bit, words in _ASK_WORDS.items() if asks & bit]


def refill_screen(
    shown: Console,
    found: Values,
    request: Values,
    account: Account,
    inside: Sequence[Drug] = (),
    therapy: Therapy | None = None,
) -> None:
    """What a refill tells. ``inside``: the drugs in the reservoir then, where that is known;
    ``therapy``: the prescription in force.
    ``found``: the pump's echo to record_refill; ``request``: what it was
    asked to record; ``account``: the one that it ends."""
    measured = format_volume_nl(request["measured_nl"] + request["rest_nl"])
    if request["rest_nl"]:
        rest = format_volume_nl(request["rest_nl"])
        aspirated = format_volume_nl(request["measured_nl"])
        measured += f", {aspirated} aspirated and {rest} left in it"
    lines: list[tuple[str, Value]] = [
        ("Reason", str(request["reason"])),
        ("Measured residual", measured),
    ]
    if not account.refills:
        lines.append(("Expected residual", "none: the first refill, nothing to compare with"))
    else:
        ratio = exact_decimal(Fraction(found["ratio_ppm"], 1_000_000), digits=4)
        lines += [
            ("Expected residual", volume(found["expected_pl"])),
            ("Discrepancy", f"{signed(volume(found['discrepancy_pl']))} (measured - expected)"),
            (
                "Ratio",
                f"{ratio} (delivered {volume(found['true_pl'])} / programmed "
                f"{volume(found['programmed_pl'])})"
                if found["ratio_ppm"]
                else "none: too little was programmed to tell, or more was found than was put in",
            ),
            ("Verdict", refill_verdict(found)),
        ]
        if found["life_ppm"]:
            life = exact_decimal(Fraction(found["life_ppm"], 1_000_000), digits=4)
            lines.append(("Ratio over life", f"{life} (delivered / programmed, all refills)"))
    fill = format_volume_nl(request["fill_nl"])
    lines.append(("To be put in", fill))
    if inside and therapy is not None:
        lines.append(("Prescribed", _drugs_words(therapy.mixture.drugs)))
    if inside:
        lines.append(("Then in it", _drugs_words(inside)))
    lines.append(("Cannot be used", volume(account.unusable_pl)))
    rows(shown, lines)
    if request["fill_nl"] * 1000 <= account.low_mark_pl:
        low = volume(account.low_mark_pl)
        note(shown, f"  {fill} is not above the low mark, {low}: the reservoir is low", "yellow")
    warning = "" if therapy is None else not_prescribed_words(therapy, inside)
    if warning:
        note(shown, f"  WARNING: {warning}", _BAD)


def refill_verdict(found: Values) -> Text:
    """Whether the pump flags a discrepancy."""
    if found["flagged"]:
        return Text("DISCREPANCY outside the limits: find out why before going on", style=_BAD)
    return Text("within the limits", style=_GOOD)


def event_line(event: Event, start: int, more: str = "") -> Text:
    """One record: number, time, words. ``start``: the start of the pump it belongs to; ``more``:
    what else is known of it."""
    bad = event.damaged or event.name in _ALARMING
    text = f"{event.text}: {more}" if more else event.text
    return _record_line(event, f"start {start} + ", text, bad)


def fault_line(fault: FaultRecord) -> Text:
    """One fault record: number, time, words."""
    return _record_line(fault, "start + ", fault.words, True)


def _record_line(record: Event | FaultRecord, start: str, words: str, bad: bool) -> Text:
    if record.damaged:
        when = "?"
    elif record.wall_s:
        when = wall(record.wall_s, True)
    else:
        when = start + pump_clock(record.uptime_us)
    line = Text(f"{record.sequence:>6}  {when:<27}  ", style=_QUIET)
    return line.append(plain(words), style=_BAD if bad else "not dim")


_ALARMING = ("fault_latched", "discrepancy", "empty_reservoir")
