"""Pictures of a therapy as PNG octets: the day of a flex schedule, a bridge bolus as the tip sees
it, the dose of each day between two refills. Nothing here touches a pump or a file.

Input is whole numbers; floats are made only to place ink.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import matplotlib.style
from matplotlib.lines import Line2D

from cisterna.amounts import (
    exact_decimal,
    format_concentration,
    format_dose_rate,
    format_mass,
    format_rate,
    format_volume_nl,
)
from cisterna.chart_sheet import STYLE, WIDE, Look, Sheet, Span, name_time, set_ticks
from cisterna.dose import dose_rate_ng_day, mass_of_volume_ng
from cisterna.prescription import Therapy
from cisterna.run_samples import plain

_NL_PER_ML = 1_000_000
_HOUR_US = 3_600_000_000
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_HEIGHT_IN = 5.0


@dataclass(frozen=True)
class DayBolus:
    """A bolus of a day: minute it begins at, volume, minutes it takes, what kind it is."""

    minute: int
    volume_nl: int
    minutes: int
    kind: str


@dataclass(frozen=True)
class TipSample:
    """The tip from an instant on: concentration in plug flow and rate, which hold until the next
    sample, and the concentration where it mixes, at that instant."""

    time_us: int
    plug_ng_ml: int
    mixed_ng_ml: int
    rate_nl_day: int


@dataclass(frozen=True)
class DayDose:
    """Drug of one day, numbered from 1: what was programmed, and what the plant delivered."""

    day: int
    programmed_ng: int
    delivered_ng: int


def draw_day(
    therapy: Therapy,
    weekday: int,
    boluses: Sequence[DayBolus] = (),
    delivered: Sequence[tuple[int, int]] = (),
    look: Look = WIDE,
) -> bytes:
    """PNG of a day, 0 Monday: the rate over local time, with its steps and boluses.

    ``delivered``: (minute at the end of a stretch, nL the plant moved in it), in order.
    """
    with matplotlib.style.context(STYLE):
        sheet = Sheet(look, _HEIGHT_IN)
        palette = sheet.palette
        steps = therapy.steps(weekday)
        total = therapy.day_volume_nl(weekday)
        held = mass_of_volume_ng(total, therapy.concentration_ng_ml)
        findings = [
            f"{len(steps)} steps: {format_volume_nl(total, digits=4)} a day, "
            f"{format_mass(held, digits=3)} of {plain(therapy.drug)} without boluses"
        ]
        if boluses:
            given = sum(bolus.volume_nl for bolus in boluses)
            mass = mass_of_volume_ng(given, therapy.concentration_ng_ml)
            findings.append(
                f"{len(boluses)} boluses: {format_volume_nl(given, digits=4)} = "
                f"{format_mass(mass, digits=3)}; each takes the place of the step's rate"
            )
        sheet.header(f"{_DAYS[weekday]}: rate over the day, local time", findings)
        sheet.footer()
        entries = [(Line2D([], [], color=palette.programmed, linewidth=5), "programmed rate")]
        if delivered:
            line = Line2D([], [], color=palette.true, linewidth=1.4)
            lengths = {end - begin for begin, end in pairwise([0, *(at for at, _ in delivered)])}
            each = f"{lengths.pop()} min" if len(lengths) == 1 else "stretch"
            entries.append((line, f"delivered (true), mean of each {each}"))
        if boluses:
            mark = Line2D([], [], color=palette.low, marker="v", linestyle="None")
            entries.append((mark, "bolus begins"))
        sheet.key(entries)
        axes = sheet.axes(sheet.low_in + 0.46, sheet.high_in - 0.42)
        set_ticks(axes, look, 6)
        sheet.name_axis(axes, "rate, mL/day")
        ends = [minute for minute, _ in steps[1:]] + [1440]
        where: list[float] = []
        rates: list[float] = []
        for (minute, rate), end in zip(steps, ends, strict=True):
            where += [minute / 60, end / 60]
            rates += [rate / _NL_PER_ML] * 2
        axes.plot(where, rates, color=palette.programmed, linewidth=5)
        true_rates: list[float] = []
        if delivered:
            at: list[float] = []
            before = 0
            for minute, volume_nl in delivered:
                rate_ml = volume_nl / _NL_PER_ML * 1440 / (minute - before)
                at += [before / 60, minute / 60]
                true_rates += [rate_ml, rate_ml]
                before = minute
            axes.plot(at, true_rates, color=palette.true, linewidth=1.4)
        most = max([*rates, *true_rates])
        axes.set_xlim(0, 24)
        axes.set_ylim(0, most * (1.32 if boluses else 1.28) or 1.0)
        axes.set_xticks(range(0, 25, 3))
        axes.set_xticklabels([f"{hour:02d}:00" for hour in range(0, 25, 3)])
        for bolus in boluses:
            axes.plot([bolus.minute / 60], [most * 1.1], "v", color=palette.low, markersize=6)
            during = Fraction(bolus.volume_nl * 1440, bolus.minutes)
            axes.annotate(
                f"{bolus.kind} {format_volume_nl(bolus.volume_nl)}\n"
                f"{format_rate(during, digits=3)}, {bolus.minutes} min",
                (bolus.minute / 60, most * 1.14),
                color=palette.ink,
                fontsize=look.text_pt - 1.5,
                ha="center",
                va="bottom",
            )
        if len(steps) <= 8:
            # Boluses as they are drawn: each raises the stretches that it is in.
            raised = [
                (begin, end)
                for begin, end in pairwise([0, *(at for at, _ in delivered)])
                if any(b.minute < end and begin < b.minute + b.minutes for b in boluses)
            ]
            for (minute, rate), end in zip(steps, ends, strict=True):
                dose = dose_rate_ng_day(rate, therapy.concentration_ng_ml)
                over = rate / _NL_PER_ML < most * 0.3  # no room below it
                begin, end = _widest_gap(minute, end, raised)
                label = axes.annotate(
                    f"{format_rate(rate).split()[0]}\n{format_dose_rate(dose, digits=1)}",
                    ((begin + end) / 120, rate / _NL_PER_ML + most * (0.03 if over else -0.03)),
                    color=palette.quiet,
                    fontsize=look.text_pt - 2,
                    ha="center",
                    va="bottom" if over else "top",
                )
                box = label.get_window_extent().transformed(axes.transData.inverted())
                if box.width * 60 > end - begin:
                    label.remove()
        return sheet.png()


def _widest_gap(begin: int, end: int, raised: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The longest part of the minutes from ``begin`` to ``end`` outside ``raised``, in order."""
    edges = [begin]
    for low, high in raised:
        edges += [min(max(each, begin), end) for each in (low, high)]
    edges.append(end)
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return max(gaps, key=lambda gap: gap[1] - gap[0])


def draw_bridge(
    samples: Sequence[TipSample],
    change_us: int | None,
    drug: str,
    look: Look = WIDE,
) -> bytes:
    """PNG of a bridge bolus from its start: concentration at the tip, and dose rate there.

    ``samples`` in order of time, at least two; ``change_us``: when the pump changed over.
    """
    with matplotlib.style.context(STYLE):
        sheet = Sheet(look, look.delivery_in)
        palette = sheet.palette
        first, last = samples[0], samples[-1]
        arrived = next((s for s in samples if s.plug_ng_ml == last.plug_ng_ml), last)
        old = format_concentration(first.plug_ng_ml)
        new = format_concentration(last.plug_ng_ml)
        doses = [dose_rate_ng_day(s.rate_nl_day, s.plug_ng_ml) for s in samples]
        low, high = min(doses), max(doses)
        findings = [
            f"{plain(drug)}, {old} to {new}: in plug flow the new drug is at the tip after "
            f"{_hours(arrived.time_us)}",
            f"dose rate at the tip, plug flow: {format_dose_rate(low, digits=2)} to "
            f"{format_dose_rate(high, digits=2)}",
        ]
        if change_us is not None:
            findings.insert(1, f"the pump changed over after {_hours(change_us)}")
        sheet.header("A bridge bolus, seen at the tip", findings)
        sheet.footer()
        mixed = Line2D([], [], color=palette.low, linewidth=1.4, linestyle=(0, (5, 2.5)))
        entries = [
            (Line2D([], [], color=palette.true, linewidth=2), "plug flow"),
            (mixed, "if the tubing were stirred: old and new drug mix in it"),
        ]
        sheet.key(entries)
        bottom_in = sheet.low_in + 0.46
        free_in = sheet.high_in - bottom_in - 0.72
        upper = sheet.axes(bottom_in + free_in * 0.5 + 0.36, sheet.high_in - 0.3)
        lower = sheet.axes(bottom_in, bottom_in + free_in * 0.5)
        span = Span(_HOUR_US, "hours", 0, last.time_us / _HOUR_US)
        where = [span.at(sample.time_us) for sample in samples]
        plug = [sample.plug_ng_ml / 1000 for sample in samples]
        mixing = [sample.mixed_ng_ml / 1000 for sample in samples]
        upper.plot(where, plug, color=palette.true, linewidth=2, drawstyle="steps-post")
        upper.plot(where, mixing, color=palette.low, linewidth=1.4, linestyle=(0, (5, 2.5)))
        dose = [float(d) / 1000 for d in doses]
        # The rate changes at an instant, what mixes does not: two doses where it changes.
        mixed_at = [where[0]]
        mixed_dose = [samples[0].rate_nl_day / 1e6 * mixing[0]]
        for (sample, after), at, each in zip(
            pairwise(samples), where[1:], mixing[1:], strict=True
        ):
            mixed_at += [at, at]
            mixed_dose += [rate / 1e6 * each for rate in (sample.rate_nl_day, after.rate_nl_day)]
        lower.plot(where, dose, color=palette.true, linewidth=2, drawstyle="steps-post")
        lower.plot(mixed_at, mixed_dose, color=palette.low, linewidth=1.4, linestyle=(0, (5, 2.5)))
        for axes, values in ((upper, [*plug, *mixing]), (lower, [*dose, *mixed_dose])):
            set_ticks(axes, look, 5)
            axes.set_xlim(span.low, span.high)
            axes.set_ylim(0, max(values) * 1.12)
            if change_us is not None:
                at = span.at(change_us)
                axes.axvline(at, color=palette.quiet, linewidth=0.9, linestyle=(0, (2, 2)))
        upper.tick_params(labelbottom=False)
        sheet.name_axis(upper, "concentration at the tip, ug/mL")
        sheet.name_axis(lower, "dose rate at the tip, ug/day")
        name_time(sheet, lower, span, None, "the start of the bridge")
        return sheet.png()


def _hours(time_us: int) -> str:
    return f"{exact_decimal(Fraction(time_us, _HOUR_US), digits=2)} h"


def draw_daily_dose(
    days: Sequence[DayDose],
    drug: str,
    notes: Sequence[tuple[int, str]] = (),
    look: Look = WIDE,
) -> bytes:
    """PNG of the dose of each day: programmed, and truly delivered; ``notes``: (day, text)."""
    with matplotlib.style.context(STYLE):
        sheet = Sheet(look, _HEIGHT_IN)
        palette = sheet.palette
        delivered = sum(day.delivered_ng for day in days)
        programmed = sum(day.programmed_ng for day in days)
        ratio = exact_decimal(Fraction(delivered, programmed), digits=4) if programmed else "none"
        findings = [
            f"{len(days)} days: {format_mass(delivered, digits=2)} of {plain(drug)} delivered, "
            f"{format_mass(programmed, digits=2)} programmed; ratio {ratio}"
        ]
        sheet.header("Dose of each day between two refills", findings)
        sheet.footer()
        sheet.key(
            [
                (Line2D([], [], color=palette.programmed, linewidth=7), "delivered (true)"),
                (Line2D([], [], color=palette.true, linewidth=1.4), "programmed"),
            ]
        )
        axes = sheet.axes(sheet.low_in + 0.46, sheet.high_in - 0.42)
        set_ticks(axes, look, 6)
        sheet.name_axis(axes, "dose, ug a day")
        numbers = [day.day for day in days]
        given = [day.delivered_ng / 1000 for day in days]
        wanted = [day.programmed_ng / 1000 for day in days]
        axes.bar(numbers, given, width=0.8, color=palette.programmed, linewidth=0)
        edges = [number - 0.5 for number in [*numbers, numbers[-1] + 1]]
        axes.stairs(wanted, edges, baseline=None, color=palette.true, linewidth=1.4)
        most = max([*given, *wanted]) or 1.0
        axes.set_xlim(0.3, numbers[-1] + 0.7)
        axes.set_ylim(0, most * 1.25)
        sheet.write(
            look.width_in / 2,
            sheet.low_in + 0.06,
            "day since the refill",
            look.text_pt - 0.5,
            palette.quiet,
            across="center",
            up="bottom",
        )
        for row, (day, text) in enumerate(notes):
            axes.annotate(
                plain(text),
                (day, most * 1.02),
                xytext=(day, most * (1.18 if row % 2 else 1.1)),
                color=palette.ink,
                fontsize=look.text_pt - 1,
                ha="center",
                va="bottom",
                arrowprops={"arrowstyle": "-", "color": palette.quiet, "linewidth": 0.7},
            )
        return sheet.png()
