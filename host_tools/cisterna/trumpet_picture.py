"""The picture of a trumpet curve: the start-up curve above, the trumpet below it with the bound of
an ideal pump drawn in."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from cisterna.amounts import format_rate
from cisterna.bench import HOUR_US, MINUTE_US
from cisterna.chart_sheet import STYLE, WIDE, Look, Sheet, set_ticks
from cisterna.run_samples import minus
from cisterna.trumpet import MARGIN, Trumpet

_HEIGHT_IN = 6.6


def _parts(values: Sequence[Fraction]) -> list[float]:
    return [float(each * 100) for each in values]


def _percent_text(value: float, _: object = None) -> str:
    return minus(f"{value:g}")


def _minutes_text(value: float, _: object = None) -> str:
    return f"{value:,.0f}"


def findings(trumpet: Trumpet) -> list[str]:
    """What the picture shows, in words."""
    worst = max(trumpet.windows, key=lambda each: each.outside)
    mean = trumpet.windows[-1]
    margin = f"{float(MARGIN * 100):g} %"
    held = "inside" if trumpet.holds else "NOT inside"
    place = f"in windows of {worst.length_us // MINUTE_US:,} min"
    most = float(worst.outside * 100)
    how = (
        f"{most:.3f} % outside the bound {place}"
        if most > 0
        else f"nowhere outside the bound, nearest to it {place}"
    )
    return [
        f"Flow error {held} the quantisation bound of an ideal pump plus {margin}: {how}. "
        + minus(f"Error of the mean flow {float(mean.low * 100):+.3f} %.")
    ]


def draw(trumpet: Trumpet, how: str, look: Look = WIDE) -> bytes:
    """PNG. ``how``: bench and instrument, in few words."""
    with matplotlib.style.context(STYLE):
        sheet = Sheet(look, _HEIGHT_IN)
        title = f"Start-up and trumpet curve at {format_rate(trumpet.rate_nl_day)}, {how}"
        sheet.header(title, findings(trumpet))
        sheet.footer()
        palette = look.palette
        line = Line2D([], [], color=palette.true, linewidth=1.4, marker="o", markersize=4)
        bound = Line2D([], [], color=palette.programmed, linewidth=5)
        band = Line2D([], [], color=palette.band, linewidth=7)
        sheet.key(
            [
                (line, "largest and smallest error"),
                (bound, "bound of an ideal pump"),
                (band, f"the bound plus {float(MARGIN * 100):g} %: passes"),
            ]
        )
        free_in = sheet.high_in - sheet.low_in
        middle_in = sheet.low_in + free_in * 0.56
        upper = sheet.axes(middle_in + 0.55, sheet.high_in - 0.26)
        lower = sheet.axes(sheet.low_in + 0.46, middle_in - 0.3)
        _start_up(sheet, upper, trumpet)
        _curve(sheet, lower, trumpet)
        return sheet.png()


def _start_up(sheet: Sheet, axes: Axes, trumpet: Trumpet) -> None:
    """Flow over time, in intervals of S, or of the shortest window where that is 15 min or more:
    what a unit of volume does to shorter ones says nothing."""
    look, palette = sheet.look, sheet.palette
    plan = trumpet.plan
    shortest_us = min(plan.windows_us)
    interval_us = shortest_us if shortest_us >= 15 * MINUTE_US else plan.sample_us
    group = interval_us // plan.sample_us
    flows = trumpet.start_up_nl_day
    shown = [
        float(sum(flows[at : at + group]) / (group * 1_000_000))
        for at in range(0, len(flows) - group + 1, group)
    ]
    set_ticks(axes, look, 4)
    sheet.name_axis(axes, f"flow in each {interval_us / MINUTE_US:g} min, mL/day")
    long = plan.total_us > 6 * HOUR_US
    unit_us = HOUR_US if long else MINUTE_US
    edges = [at * interval_us / unit_us for at in range(len(shown) + 1)]
    rate = trumpet.rate_nl_day / 1_000_000
    axes.axhline(rate, color=palette.programmed, linewidth=1.6)
    axes.stairs(shown, edges, color=palette.true, linewidth=0.9, baseline=None)
    axes.axvspan(
        plan.start_up_us / unit_us, plan.total_us / unit_us, color=palette.band, zorder=0.3
    )
    axes.set_xlim(0, plan.total_us / unit_us)
    axes.set_ylim(0, max([*shown, rate]) * 1.12)
    axes.set_xlabel(
        f"{'hours' if long else 'minutes'} since delivery began; shaded: analysed below",
        fontsize=look.text_pt - 0.5,
        color=palette.quiet,
        labelpad=2,
    )


def _curve(sheet: Sheet, axes: Axes, trumpet: Trumpet) -> None:
    look, palette = sheet.look, sheet.palette
    windows = sorted(trumpet.windows, key=lambda each: each.length_us)
    lengths = [each.length_us / MINUTE_US for each in windows]
    lows, highs = zip(*(each.worst for each in windows), strict=True)
    bound_low = [each.bound_low for each in windows]
    bound_high = [each.bound_high for each in windows]
    axes.set_xscale("log")
    axes.fill_between(
        lengths,
        _parts([each - MARGIN for each in bound_low]),
        _parts([each + MARGIN for each in bound_high]),
        color=palette.band,
        linewidth=0,
        zorder=0.4,
    )
    for bound in (bound_low, bound_high):
        axes.plot(lengths, _parts(bound), color=palette.programmed, linewidth=5)
    for found in (lows, highs):
        axes.plot(
            lengths, _parts(found), color=palette.true, linewidth=1.4, marker="o", markersize=4
        )
    axes.axhline(0, color=palette.quiet, linewidth=0.8, linestyle=(0, (5, 3)), zorder=1)
    axes.yaxis.set_major_formatter(FuncFormatter(_percent_text))
    axes.xaxis.set_major_locator(FixedLocator(lengths))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_minutes_text))
    axes.set_xlim(lengths[0] * 0.94, lengths[-1] * 1.06)
    most = max(*_parts(highs), *_parts([each + MARGIN for each in bound_high]))
    least = min(*_parts(lows), *_parts([each - MARGIN for each in bound_low]))
    room = (most - least) * 0.08
    axes.set_ylim(least - room, most + room)
    sheet.name_axis(axes, "flow error, % of the programmed flow")
    axes.set_xlabel(
        "length of the observation window, min",
        fontsize=look.text_pt - 0.5,
        color=palette.quiet,
        labelpad=2,
    )
