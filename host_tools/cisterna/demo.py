"""``make demo``: one story on a virtual pump, with the real firmware behind a real serial port.

What the pump says is shown beside what the plant knows. The table at the end balances to the step,
but for the one that the rotor sensor cannot tell after the motor has jammed.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from cisterna import amounts
from cisterna.bench import DAY_US
from cisterna.bench_virtual import VirtualBench
from cisterna.errors import CisternaError, Refused
from cisterna.prescription import NOTICE, Therapy, load, shipped
from cisterna.programme import ExactProgramme
from cisterna.programmer import Alarm, Programmer
from cisterna.report import (
    BalanceRow,
    EventRow,
    RefillSummary,
    ReportData,
    ReportPaths,
    balance_rows,
    write_report,
)
from cisterna.run_samples import DeliverySample, Forecast, Marker, plain, ratio_text
from pump_wire.messages import SINGLE_BOLUS

PRESCRIPTION = "baclofen"
DAYS = 30
BOLUS = "10 ug"
BOLUS_OVER = "10 min"
DAYS_AFTER = 10
JAM_US = 6 * 3_600_000_000  # how long the motor is jammed
JAM_LOOK_US = 613_000_000
HEARD_US = 60_000_000  # an alarm that is listed has been heard by then
START_WALL_S = 1_767_600_000  # 2026-01-05 08:00 UTC, a Monday: the story's own clock
# Between two looks: no multiple of the time between two steps, so that looks fall anywhere in it.
LOOK_US = 21_577_300_000
BOLUS_LOOK_US = 23_300_000
ACCOUNT_PL = 20_000_000  # after a jam the account is that close to the truth (ALM-3)
SYRINGE_NL = 100_000  # a refill syringe is read to 0.1 mL

_WIDTH = 80  # columns at most
_NAME_WIDTH = 21


class DoesNotBalance(CisternaError):
    """The account differs from the plant."""


@dataclass
class _Run:
    """A bench, its programmer, and what was seen on the way."""

    bench: VirtualBench
    pump: Programmer
    programme: ExactProgramme = field(default_factory=ExactProgramme)
    samples: list[DeliverySample] = field(default_factory=list[DeliverySample])
    markers: list[Marker] = field(default_factory=list[Marker])
    start_us: int = 0
    at_refill_pl: int = 0  # what the plant had delivered
    unknown_pl: int = 0  # what the rotor sensor could not tell

    def now_us(self) -> int:
        """Time since delivery began."""
        return self.bench.truth()["time_us"] - self.start_us

    def sample(self) -> None:
        """Look at programme, plant and account at this instant."""
        truth = self.bench.truth()
        account = self.pump.account()
        self.samples.append(
            DeliverySample(
                time_us=truth["time_us"] - self.start_us,
                programmed_pl=int(self.programme.volume_pl(truth["time_us"])),
                delivered_pl=truth["delivered_pl"],
                account_pl=account.lifetime_pl,
                residual_pl=truth["residual_pl"],
                expected_residual_pl=account.residual_pl,
                missed_pl=truth["pulses"] * truth["step_pl"] - truth["delivered_pl"],
            )
        )

    def pass_time(self, us: int, every_us: int, tick: Callable[[int], None] | None = None) -> None:
        """Let ``us`` pass, looking every ``every_us``; ``tick`` is told the microseconds
        passed."""
        left_us = us
        while left_us:
            span_us = min(every_us, left_us)
            self.bench.advance(us=span_us)
            left_us -= span_us
            self.sample()
            if tick is not None:
                tick(span_us)


def run(out_dir: Path, *, seed: int = 1, console: Console | None = None) -> ReportPaths:
    """Tell the story on ``console`` and write report and pictures into ``out_dir``.

    Raises DoesNotBalance if account and plant differ, or any CisternaError on the way.
    """
    say = console or Console()
    began = time.monotonic()
    say.print("[bold]Cisterna[/bold]")
    for line in textwrap.wrap(NOTICE, _WIDTH):
        say.print(line)
    path = shipped()[PRESCRIPTION]
    loaded = load(path)
    therapy = loaded.therapy

    _step(say, 1, "A virtual pump boots: firmware in the MicroPython VM, behind a serial port")
    with VirtualBench(seed=seed, trace=False, paired=False) as bench:
        say.print(f"   its port is {bench.port}")
        with Programmer(bench.link(), keys=bench.keys) as pump:  # not paired yet
            tale = _Run(bench, pump)
            _found(say, pump)
            _pair(say, bench, pump)
            _programme(say, tale, path, therapy)
            _days(say, tale, 5)
            _jam(say, tale)
            _days(say, tale, 7)
            _bolus(say, tale, therapy)
            refill = _refill(say, tale, therapy)
            _ten_more_days(say, tale)
            data = _report_data(tale, therapy, refill)
            _log(say, data)
            _balance(say, data)
    paths = write_report(data, out_dir)
    _step(say, 12, f"Report and pictures, {time.monotonic() - began:.0f} s after the start")
    for name in (paths.html, *paths.pngs):
        say.print(f"   {name}", soft_wrap=True)
    if not all(row.balances for row in data.balance):
        raise DoesNotBalance("the account differs from the plant: see the table above")
    return paths


def _step(say: Console, number: int, text: str) -> None:
    say.print(f"\n[bold]{number}. {text}[/bold]")


def _rows(say: Console, rows: list[tuple[str, str]]) -> None:
    """Names and values, one a line, a long value going on below its beginning."""
    for name, value in rows:
        before = f"   {name:<{_NAME_WIDTH}}  "
        for line in textwrap.wrap(plain(value), _WIDTH - len(before)):
            say.print(Text.assemble((before, "dim"), line))
            before = " " * len(before)


def _table(say: Console, columns: str, rows: Sequence[Sequence[str]]) -> None:
    """``rows``, the first of them the heads; ``columns``: "<" or ">" for each, its alignment."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    style = "dim"
    for row in rows:
        cells = zip(row, columns, widths, strict=True)
        line = "   " + "  ".join(f"{cell:{align}{width}}" for cell, align, width in cells)
        say.print(Text(line.rstrip(), style))
        style = ""


def _found(say: Console, pump: Programmer) -> None:
    _step(say, 2, "It is found: it says who it is, and nothing of a therapy")
    who = pump.identity
    _rows(
        say,
        [
            ("board", f"{who.board}, serial {who.serial.hex()}"),
            ("firmware", f"{who.firmware} on MicroPython {who.vm}"),
            ("wire", f"version {who.wire_version}, message table {who.table_hash:08x}"),
            ("link", "sealed" if who.sealed else "not sealed: nobody has a key"),
        ],
    )


def _pair(say: Console, bench: VirtualBench, pump: Programmer) -> None:
    _step(say, 3, "It is paired, its service button held, and interrogated")
    try:
        pump.session.pair()
    except Refused as refusal:
        say.print(f"   without the button: refused, {refusal.name}")
    with bench.hold_service():
        pump.session.pair()
    key = pump.session.keys.get(pump.identity.serial, pump.session.role)
    if key is None:
        raise CisternaError("the pump was paired, and there is no key")
    say.print(f"   with it held: key {key.generation} of the role {key.role}; the link is sealed")
    status = pump.status()
    _rows(
        say,
        [
            ("mode", f"{status.mode_name}: {status.stopped_because}"),
            ("one motor step", amounts.format_volume_pl(status.step_pl)),
        ],
    )


def _therapy_rows(therapy: Therapy) -> list[tuple[str, str]]:
    total = therapy.day_total
    return [
        ("drug", therapy.drug),
        ("concentration", amounts.format_concentration(therapy.concentration_ng_ml)),
        ("mode", therapy.mode_name),
        ("basal rate", amounts.format_rate(therapy.basal_rate_nl_day)),
        ("dose rate", amounts.format_dose_rate(total.mass_ng, digits=3)),
        (
            "24-h total",
            f"{amounts.format_mass(total.mass_ng, digits=3)} in "
            f"{amounts.format_volume_nl(total.volume_nl, digits=4)}",
        ),
        ("reservoir", amounts.format_volume_nl(therapy.capacity_nl)),
        ("low mark", amounts.format_volume_nl(therapy.low_mark_nl)),
    ]


def _programme(say: Console, tale: _Run, path: Path, therapy: Therapy) -> None:
    _step(say, 4, f"The prescription {path.name}: shown, checked, committed, read back")
    _rows(say, _therapy_rows(therapy))
    pump = tale.pump
    pump.set_clock(START_WALL_S)
    prepared = pump.prepare_program(therapy)
    say.print(f"   the pump agrees, token {prepared.token.hex()}, nothing changed yet")
    done = pump.confirm(prepared)
    pump.verify(therapy)
    say.print(f"   committed (event {done.event}) and read back: identical")
    tale.bench.refill_reservoir(therapy.capacity_nl)
    pump.refill(0, therapy.capacity_nl, "first fill")
    fill = amounts.format_volume_nl(therapy.capacity_nl)
    say.print(f"   first fill recorded, {fill}: delivery begins")
    tale.start_us = tale.bench.truth()["time_us"]
    tale.programme.run(tale.start_us, therapy.basal_rate_nl_day)
    tale.sample()


def _days(say: Console, tale: _Run, number: int) -> None:
    """Half of DAYS."""
    days = DAYS // 2
    _step(say, number, f"{days} days pass")
    columns = (
        TextColumn("   simulated days"),
        BarColumn(bar_width=40),
        TextColumn("{task.completed:.0f} of {task.total}"),
        TimeRemainingColumn(),
    )
    start = time.monotonic()
    with Progress(*columns, console=say, transient=True) as progress:
        task = progress.add_task("", total=days)
        tale.pass_time(
            days * DAY_US, LOOK_US, lambda passed_us: progress.advance(task, passed_us / DAY_US)
        )
    seconds = time.monotonic() - start
    truth = tale.bench.truth()
    said = tale.pump.account()
    factor = days * 86_400 / seconds
    _rows(
        say,
        [
            ("took", f"{seconds:.1f} s, {factor:,.0f} times real time"),
            ("the plant delivered", _volume(truth["delivered_pl"], truth["step_pl"])),
            ("the pump accounts for", _volume(said.lifetime_pl, truth["step_pl"])),
        ],
    )


def _bolus(say: Console, tale: _Run, therapy: Therapy) -> None:
    _step(say, 8, f"A single bolus: {BOLUS} over {BOLUS_OVER}")
    prepared = tale.pump.prepare_bolus(BOLUS, BOLUS_OVER)
    echo = prepared.echo
    _rows(
        say,
        [
            (
                "understood",
                f"{BOLUS} at {amounts.format_concentration(therapy.concentration_ng_ml)} is "
                f"{amounts.format_volume_nl(echo['volume_nl'])}",
            ),
            ("rate meanwhile", amounts.format_rate(echo["rate_nl_day"], digits=3)),
        ],
    )
    before = tale.bench.truth()
    tale.pump.confirm(prepared)
    tale.programme.run(before["time_us"], echo["rate_nl_day"])
    tale.programme.run(before["time_us"] + echo["duration_us"], therapy.basal_rate_nl_day)
    tale.markers.append(Marker(tale.now_us(), f"{BOLUS} bolus"))
    half_us = echo["duration_us"] // 2
    tale.pass_time(half_us, BOLUS_LOOK_US)
    if tale.pump.status().mode != SINGLE_BOLUS:
        raise CisternaError("the bolus is not running after half its time")
    tale.pass_time(echo["duration_us"] - half_us, BOLUS_LOOK_US)
    after = tale.bench.truth()
    moved = after["delivered_pl"] - before["delivered_pl"]
    status = tale.pump.status()
    _rows(
        say,
        [
            ("the plant delivered", _volume(moved, after["step_pl"])),
            ("the pump is back in", status.mode_name),
        ],
    )


def _jam(say: Console, tale: _Run) -> None:
    _step(say, 6, f"The motor jams for {JAM_US // 3_600_000_000} h, as in an MRI scanner")
    bench, pump = tale.bench, tale.pump
    heard: list[tuple[int, int]] = []
    bench.listen(lambda time_us, hz: heard.append((time_us, hz)))
    began = bench.truth()
    tale.markers.append(Marker(tale.now_us(), "jam"))
    bench.inject("stall")
    left_us = JAM_US
    listed: list[Alarm] = []
    while not listed:
        tale.pass_time(JAM_LOOK_US, JAM_LOOK_US)
        left_us -= JAM_LOOK_US
        if left_us <= 0:
            raise CisternaError("the motor is jammed, and no alarm tells it")
        listed = [alarm for alarm in pump.alarms().listed if alarm.name == "stall"]
    bench.advance(us=HEARD_US)
    left_us -= HEARD_US
    (alarm,) = listed
    now_us = bench.truth()["time_us"]
    raised_us = now_us - HEARD_US - alarm.age_s * 1_000_000
    tones = [hz for time_us, hz in heard if hz and time_us > began["time_us"]]
    if not tones:
        raise CisternaError("the alarm is listed, and nobody can hear it")
    pump.acknowledge(alarm.instance)
    tale.pass_time(left_us, JAM_LOOK_US)
    jammed = bench.truth()
    bench.clear("stall")
    tale.pass_time(JAM_LOOK_US * 4, JAM_LOOK_US)
    after, account = bench.truth(), pump.account()
    if [each for each in pump.alarms().listed if each.name == "stall"]:
        raise CisternaError("the motor turns again, and the alarm stands")
    missed_pl = (jammed["pulses"] - began["pulses"]) * after["step_pl"]
    off_pl = account.lifetime_pl - after["delivered_pl"]
    _rows(
        say,
        [
            ("alarm", f"{alarm.text}, after {(raised_us - began['time_us']) / 60e6:.0f} min"),
            ("heard", f"{' and '.join(f'{hz:,}' for hz in dict.fromkeys(tones))} Hz"),
            ("remedy", alarm.remedy),
            ("acknowledged", f"instance {alarm.instance}; it is silent while the cause stands"),
            ("never delivered", _volume(missed_pl, after["step_pl"])),
            ("taken out", _volume(account.missed_pl, after["step_pl"])),
            ("account - plant", f"{amounts.format_volume_pl(off_pl)}: the sensor cannot tell"),
        ],
    )
    if not 0 <= off_pl <= ACCOUNT_PL:
        raise DoesNotBalance(f"after the jam the account is off by {off_pl} pL")
    tale.unknown_pl = off_pl


def _refill(say: Console, tale: _Run, therapy: Therapy) -> RefillSummary:
    _step(say, 9, "A refill: what is left is aspirated and measured, and the pump is told")
    aspirated_nl = tale.bench.refill_reservoir(therapy.capacity_nl)
    measured_nl = round(aspirated_nl / SYRINGE_NL) * SYRINGE_NL
    now_us = tale.now_us()
    tale.at_refill_pl = tale.bench.truth()["delivered_pl"]
    done = tale.pump.refill(measured_nl, therapy.capacity_nl, "scheduled")
    echo = done.echo
    tale.markers.append(Marker(now_us, "refill"))
    tale.sample()
    summary = RefillSummary(
        expected_pl=echo["expected_pl"],
        measured_pl=measured_nl * 1000,
        discrepancy_pl=echo["discrepancy_pl"],
        ratio_ppm=echo["ratio_ppm"],
        flagged=bool(echo["flagged"]),
        programmed_pl=echo["programmed_pl"],
        true_pl=echo["true_pl"],
        fill_pl=therapy.capacity_nl * 1000,
        reason="scheduled",
        time_us=now_us,
    )
    _rows(
        say,
        [
            ("expected residual", amounts.format_volume_pl(summary.expected_pl)),
            (
                "measured residual",
                f"{amounts.format_volume_pl(summary.measured_pl)} (read to 0.1 mL)",
            ),
            (
                "discrepancy",
                f"{amounts.format_volume_pl(summary.discrepancy_pl)}, ratio "
                f"{ratio_text(summary.ratio_ppm)}: "
                + ("act on it" if summary.flagged else "within the pump's limits"),
            ),
            ("new fill", amounts.format_volume_nl(therapy.capacity_nl)),
        ],
    )
    return summary


def _ten_more_days(say: Console, tale: _Run) -> None:
    _step(say, 10, f"{DAYS_AFTER} more days on the new filling")
    tale.pass_time(DAYS_AFTER * DAY_US, LOOK_US)
    forecast = _forecast(tale)
    low_us = forecast.low_us
    if low_us is not None:
        days = (low_us - forecast.now_us) / DAY_US
        say.print(f"   at this rate the low mark is reached in {days:.1f} days")


def _forecast(tale: _Run) -> Forecast:
    status = tale.pump.status()
    account = tale.pump.account()
    left_pl = account.fill_pl - status.programmed_pl
    return Forecast(tale.now_us(), left_pl, account.low_mark_pl, status.rate_nl_day)


def _report_data(tale: _Run, therapy: Therapy, refill: RefillSummary) -> ReportData:
    who = tale.pump.identity
    account = tale.pump.account()
    truth = tale.bench.truth()
    step_pl = truth["step_pl"]
    lifetime = BalanceRow(
        "Delivered in its lifetime",
        account.lifetime_pl // step_pl,
        account.lifetime_pl,
        truth["steps"],
        truth["delivered_pl"],
        unknown_pl=tale.unknown_pl,
    )
    return ReportData(
        title="Forty days of a virtual pump",
        step_pl=step_pl,
        low_mark_pl=account.low_mark_pl,
        capacity_pl=account.capacity_pl,
        identity={
            "Bench": tale.bench.name,
            "Board": who.board,
            "Serial": who.serial.hex(),
            "Firmware": who.firmware,
            "MicroPython": who.vm,
            "Wire version": f"{who.wire_version}, message table {who.table_hash:08x}",
        },
        therapy=[(name.capitalize(), value) for name, value in _therapy_rows(therapy)],
        samples=tale.samples,
        markers=tale.markers,
        forecast=_forecast(tale),
        refill=refill,
        events=[
            EventRow(event.sequence, event.uptime_us, event.wall_s, event.text)
            for event in tale.pump.events()
        ],
        balance=[
            *balance_rows(
                step_pl=step_pl,
                fill_pl=account.fill_pl,
                delivered_pl=account.delivered_pl,
                residual_pl=account.residual_pl,
                true_delivered_pl=truth["delivered_pl"] - tale.at_refill_pl,
                true_residual_pl=truth["residual_pl"],
            ),
            lifetime,
        ],
        start_wall_s=START_WALL_S,
    )


def _log(say: Console, data: ReportData) -> None:
    _step(say, 11, "The event log, and the account against the plant")
    rows = [("event", "time", "what")]
    for event in data.events:
        seconds = event.wall_s or START_WALL_S
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
        known = when if event.wall_s else "clock not set"
        rows.append((str(event.sequence), known, plain(event.text)))
    _table(say, "><<", rows)
    say.print()


def _balance(say: Console, data: ReportData) -> None:
    rows = [("balance, in motor steps", "account", "by the plant", "difference", "volume")]
    for row in data.balance:
        steps = (row.steps, row.truth_steps)
        known = [step for step in steps if step is not None]
        account, plant = ("" if step is None else f"{step:,}" for step in steps)
        difference = f"{known[0] - known[1]:,}" if len(known) == 2 else ""
        volume = amounts.format_volume_pl(row.volume_pl)
        rows.append((row.name, account, plant, difference, volume))
    _table(say, "<>>>>", rows)


def _volume(volume_pl: int, step_pl: int) -> str:
    return f"{amounts.format_volume_pl(volume_pl)}, {volume_pl // step_pl:,} steps"
