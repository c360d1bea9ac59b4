"""The two pictures of a report, as PNG octets. Nothing here touches the pump, a file or pyplot.

Input is whole numbers, as ``cisterna.run_samples`` has them. The same input gives the same octets
with the same matplotlib; the typeface is the one matplotlib brings along.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from cisterna.chart_sheet import (
    STYLE,
    WIDE,
    Look,
    Palette,
    Sheet,
    Span,
    draw_markers,
    name_time,
    place_markers,
    room_over,
    set_ticks,
    span_of,
    unlabelled_text,
)
from cisterna.run_samples import (
    DeliverySample,
    Forecast,
    Marker,
    day_text,
    delivery_findings,
    forecast_text,
    residual_finding,
    steps_text,
    thin,
    volume_text,
    wall_time,
)

_PL_PER_ML = 1_000_000_000
_FORECAST_SPANS = 6  # a forecast is drawn out to at most this many times the sampled span
_VOLUME_AXIS = "volume, mL"
_RESIDUAL_AXIS = "residual volume, mL"


def draw_delivery(
    samples: Sequence[DeliverySample],
    markers: Sequence[Marker],
    step_pl: int,
    start_wall_s: int | None = None,
    look: Look = WIDE,
) -> bytes:
    """PNG of programmed against true delivered volume, and below it the error in steps.

    ``samples`` in order of time, at least one; ``step_pl`` > 0.
    """
    with matplotlib.style.context(STYLE):
        return _delivery(samples, markers, step_pl, start_wall_s, look).png()


def _delivery(
    samples: Sequence[DeliverySample],
    markers: Sequence[Marker],
    step_pl: int,
    start_wall_s: int | None,
    look: Look,
) -> Sheet:
    sheet = Sheet(look, look.delivery_in)
    palette = look.palette
    times_us = [sample.time_us for sample in samples] + [marker.time_us for marker in markers]
    span = span_of(times_us, 0.012)
    placed, unplaced = place_markers(sheet, markers, span, _VOLUME_AXIS)
    findings = [*delivery_findings(samples, step_pl), *unlabelled_text(unplaced)]
    sheet.header("Programmed and true delivered volume", findings)
    sheet.footer()
    dots = Line2D([], [], color=palette.true, marker="o", markersize=_dot(look), linestyle="None")
    sheet.key(
        [
            (Line2D([], [], color=palette.programmed, linewidth=5), "programmed"),
            (Line2D([], [], color=palette.true, linewidth=1.4), "delivered (true)"),
            (dots, "error, one dot a sample"),
        ]
    )
    top_in = sheet.high_in - room_over(placed)
    bottom_in = sheet.low_in + 0.46
    free_in = top_in - bottom_in - 0.42
    upper = sheet.axes(top_in - free_in * 0.58, top_in)
    lower = sheet.axes(bottom_in, bottom_in + free_in * 0.42)
    set_ticks(upper, look, 6)
    set_ticks(lower, look, 4)
    sheet.name_axis(upper, _VOLUME_AXIS)
    sheet.name_axis(lower, "error (true \N{MINUS SIGN} programmed), steps")
    for axes in (upper, lower):
        axes.set_xlim(span.low, span.high)
    upper.tick_params(labelbottom=False)
    name_time(sheet, lower, span, start_wall_s)

    shown = thin(samples)
    where = [span.at(sample.time_us) for sample in shown]
    programmed = [sample.programmed_pl / _PL_PER_ML for sample in shown]
    delivered = [sample.delivered_pl / _PL_PER_ML for sample in shown]
    errors = [sample.error_pl / step_pl for sample in shown]
    dot = "o" if len(shown) == 1 else ""
    upper.plot(where, programmed, color=palette.programmed, linewidth=5, marker=dot, markersize=9)
    upper.plot(where, delivered, color=palette.true, linewidth=1.4, marker=dot, markersize=4)
    most_ml = max([*programmed, *delivered])
    least_ml = min([*programmed, *delivered, 0.0])
    room_ml = (most_ml - least_ml) or 1.0
    upper.set_ylim(least_ml - (0.05 * room_ml if least_ml < 0 else 0), least_ml + 1.06 * room_ml)

    lower.axhspan(-1, 1, color=palette.band, linewidth=0, zorder=0.4)
    for limit in (-1, 1):
        lower.axhline(limit, color=palette.quiet, linewidth=0.8, linestyle=(0, (5, 3)))
    lower.plot(
        where,
        errors,
        color=palette.true,
        marker="o",
        markersize=_dot(look),
        linestyle="None",
        markeredgewidth=0,
    )
    most = max([1.0, *errors])
    least = min([-1.0, *errors])
    lower.set_ylim(least - 0.28 * (most - least), most + 0.28 * (most - least))
    if most - least < 6:
        lower.yaxis.set_major_locator(MultipleLocator(1))
    _name_limits(sheet, lower, most - least)
    _ring_extremes(sheet, lower, samples, step_pl, span)
    draw_markers(sheet, (upper, lower), markers, placed, span)
    return sheet


def _name_limits(sheet: Sheet, axes: Axes, height: float) -> None:
    """Name the band's limits where there is room between them."""
    if height > 12:
        names = ((0, "±1 step", "bottom"),)
    else:
        names = ((1, "+1 step", "bottom"), (-1, "\N{MINUS SIGN}1 step", "top"))
    for limit, text, up in names:
        axes.annotate(
            text,
            (1, limit),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-2, 2 if up == "bottom" else -2),
            textcoords="offset points",
            ha="right",
            va=up,
            fontsize=sheet.look.text_pt - 0.5,
            color=sheet.palette.quiet,
            bbox=sheet.backing(),
            zorder=4,
        )


def _dot(look: Look) -> float:
    """Diameter of a sample's dot, in points."""
    return 1.5 if look.narrow else 2.1


def _ring_extremes(
    sheet: Sheet, axes: Axes, samples: Sequence[DeliverySample], step_pl: int, span: Span
) -> None:
    """Ring and number for the largest error on either side of zero."""
    extremes = (
        (min(samples, key=lambda sample: sample.error_pl), -1),
        (max(samples, key=lambda sample: sample.error_pl), 1),
    )
    for sample, side in extremes:
        if sample.error_pl * side <= 0:
            continue
        x = span.at(sample.time_us)
        part = (x - span.low) / (span.high - span.low)
        axes.plot(
            [x],
            [sample.error_pl / step_pl],
            marker="o",
            markersize=7,
            markerfacecolor="none",
            markeredgecolor=sheet.palette.low,
            markeredgewidth=1.3,
        )
        axes.annotate(
            f"largest {steps_text(sample.error_pl, step_pl, 3)}",
            (x, sample.error_pl / step_pl),
            xytext=(0, 7 * side),
            textcoords="offset points",
            ha="left" if part < 0.2 else "right" if part > 0.7 else "center",
            va="bottom" if side > 0 else "top",
            fontsize=sheet.look.text_pt - 0.5,
            color=sheet.palette.low,
            bbox=sheet.backing(),
        )


def draw_reservoir(
    samples: Sequence[DeliverySample],
    markers: Sequence[Marker],
    low_mark_pl: int,
    capacity_pl: int,
    forecast: Forecast | None = None,
    start_wall_s: int | None = None,
    look: Look = WIDE,
) -> bytes:
    """PNG of the residual volume, true and expected, with the low mark and the forecast to it.

    ``samples`` in order of time, the forecast drawn to at most six times their span. Without any
    it is drawn alone, to its end: it must have one (``has_line``).
    """
    with matplotlib.style.context(STYLE):
        return _reservoir(
            samples, markers, low_mark_pl, capacity_pl, forecast, start_wall_s, look
        ).png()


def _forecast_end_us(samples: Sequence[DeliverySample], forecast: Forecast | None) -> int | None:
    """Instant to which the forecast is drawn; None if there is nothing to draw."""
    if forecast is None or forecast.low_us is None or not forecast.has_line:
        return None
    if not samples:
        return forecast.low_us
    span_us = max(forecast.now_us - samples[0].time_us, 86_400_000_000)
    return min(forecast.low_us, forecast.now_us + _FORECAST_SPANS * span_us)


def _reservoir(
    samples: Sequence[DeliverySample],
    markers: Sequence[Marker],
    low_mark_pl: int,
    capacity_pl: int,
    forecast: Forecast | None,
    start_wall_s: int | None,
    look: Look,
) -> Sheet:
    sheet = Sheet(look, look.reservoir_in if samples else look.forecast_in)
    palette = look.palette
    end_us = _forecast_end_us(samples, forecast)
    times_us = [sample.time_us for sample in samples] + [marker.time_us for marker in markers]
    if end_us is not None and forecast is not None:
        times_us += [forecast.now_us, end_us]
    span = span_of(times_us, 0.02)
    placed, unplaced = place_markers(sheet, markers, span, _RESIDUAL_AXIS)
    findings = [forecast_text(forecast, start_wall_s), *unlabelled_text(unplaced)]
    entries: list[tuple[Line2D, str]] = []
    if samples:
        findings.insert(0, residual_finding(samples))
        entries += [
            (Line2D([], [], color=palette.programmed, linewidth=5), "expected (pump’s account)"),
            (Line2D([], [], color=palette.true, linewidth=1.4), "true"),
        ]
    title = "Residual volume in the reservoir" if samples else "Forecast of the residual volume"
    sheet.header(title, findings)
    sheet.footer()
    if end_us is not None:
        dashed = Line2D([], [], color=palette.forecast, linewidth=1.6, linestyle=(0, (5, 2.5)))
        how = "" if samples or forecast is None else f" {forecast.how}"
        entries.append((dashed, f"forecast{how}"))
    sheet.key(entries)
    axes = sheet.axes(sheet.low_in + 0.46, sheet.high_in - room_over(placed))
    set_ticks(axes, look, 7)
    sheet.name_axis(axes, _RESIDUAL_AXIS)
    start = "the start" if samples else "the pump’s start"
    name_time(sheet, axes, span, start_wall_s, start)
    axes.set_xlim(span.low, span.high)

    shown = thin(samples)
    low_ml, capacity_ml = low_mark_pl / _PL_PER_ML, capacity_pl / _PL_PER_ML
    levels = [
        level for sample in shown for level in (sample.residual_pl, sample.expected_residual_pl)
    ]
    if forecast is not None:
        levels.append(forecast.residual_pl)
    most_ml = max(low_ml, capacity_ml, *(level / _PL_PER_ML for level in levels)) or 1.0
    least_ml = min(0.0, *(level / _PL_PER_ML for level in levels), 0.0)
    axes.set_ylim(least_ml * 1.08, least_ml + (most_ml - least_ml) * 1.08)

    axes.axhspan(min(least_ml * 1.08, 0), low_ml, color=palette.low, alpha=0.08, linewidth=0)
    axes.axhline(low_ml, color=palette.low, linewidth=1.2)
    _name_level(sheet, axes, low_ml, f"low mark {volume_text(low_mark_pl)}", palette.low, "bottom")
    axes.axhline(capacity_ml, color=palette.quiet, linewidth=0.8, linestyle=(0, (5, 3)))
    capacity = f"capacity {volume_text(capacity_pl)}"
    _name_level(sheet, axes, capacity_ml, capacity, palette.quiet, "bottom", right=True)
    _draw_levels(axes, shown, span, palette)
    if forecast is not None and end_us is not None:
        _draw_forecast(sheet, axes, forecast, end_us, span, start_wall_s)
    draw_markers(sheet, (axes,), markers, placed, span)
    return sheet


def _name_level(
    sheet: Sheet,
    axes: Axes,
    level_ml: float,
    text: str,
    colour: str,
    up: str,
    *,
    right: bool = False,
) -> None:
    axes.annotate(
        text,
        (1 if right else 0, level_ml),
        xycoords=axes.get_yaxis_transform(),
        xytext=(-3 if right else 4, 2.5),
        textcoords="offset points",
        ha="right" if right else "left",
        va=up,
        fontsize=sheet.look.text_pt - 0.5,
        color=colour,
        bbox=sheet.backing(),
        zorder=4,
    )


def _draw_levels(
    axes: Axes, shown: Sequence[DeliverySample], span: Span, palette: Palette
) -> None:
    """Both levels; where the true one rises, a refill, the lines are broken and joined by dots."""
    pieces: list[list[DeliverySample]] = []
    for sample in shown:
        if pieces and sample.residual_pl <= pieces[-1][-1].residual_pl:
            pieces[-1].append(sample)
        else:
            pieces.append([sample])
    for before, after in pairwise(pieces):
        ends = (before[-1], after[0])
        axes.plot(
            [span.at(end.time_us) for end in ends],
            [end.residual_pl / _PL_PER_ML for end in ends],
            color=palette.true,
            linewidth=1.2,
            linestyle=(0, (1, 1.5)),
        )
    for piece in pieces:
        where = [span.at(sample.time_us) for sample in piece]
        dot = "o" if len(piece) == 1 else ""
        expected = [sample.expected_residual_pl / _PL_PER_ML for sample in piece]
        axes.plot(where, expected, color=palette.programmed, linewidth=5, marker=dot, markersize=9)
        true = [sample.residual_pl / _PL_PER_ML for sample in piece]
        axes.plot(where, true, color=palette.true, linewidth=1.4, marker=dot, markersize=4)


def _draw_forecast(
    sheet: Sheet,
    axes: Axes,
    forecast: Forecast,
    end_us: int,
    span: Span,
    start_wall_s: int | None,
) -> None:
    """The dashed line to the low mark, or towards it, and its date over the line's end."""
    palette = sheet.palette
    low_us = forecast.low_us
    if low_us is None:
        return
    left_pl = forecast.residual_pl - forecast.low_mark_pl
    fallen_pl = left_pl * (end_us - forecast.now_us) // (low_us - forecast.now_us)
    end_ml = (forecast.residual_pl - fallen_pl) / _PL_PER_ML
    start_ml = forecast.residual_pl / _PL_PER_ML
    x0, x1 = span.at(forecast.now_us), span.at(end_us)
    axes.plot(
        [x0, x1],
        [start_ml, end_ml],
        color=palette.forecast,
        linewidth=1.6,
        linestyle=(0, (5, 2.5)),
    )
    date = wall_time(start_wall_s, low_us)
    beyond = low_us > end_us
    lines = ["low mark reached", day_text(low_us) + (" →" if beyond else "")]
    if date is not None:
        lines.append(f"{date:%Y-%m-%d}")
    axes.plot(
        [x1],
        [end_ml],
        color=palette.forecast,
        marker=">" if beyond else "o",
        markersize=6,
        clip_on=False,
    )

    size = sheet.look.text_pt
    box = axes.get_position()
    wide_in = box.width * sheet.look.width_in
    bottom_ml, top_ml = axes.get_ylim()
    ml_per_in = (top_ml - bottom_ml) / (box.height * sheet.height_in)
    run_in = (x1 - x0) / (span.high - span.low) * wide_in
    text_in = max(sheet.width_of(line, size, True) for line in lines)
    tall_ml = 0.17 * len(lines) * ml_per_in
    # Right-aligned with the line's end, over the line or under it; left of a line that is steep.
    at_left_ml = end_ml + min(1.0, text_in / max(run_in, 1e-9)) * (start_ml - end_ml)
    x, y_ml = x1, at_left_ml + 0.12 * ml_per_in
    highest_ml = top_ml - 0.2 * ml_per_in - tall_ml
    under_ml = end_ml - 0.2 * ml_per_in - tall_ml
    if y_ml > highest_ml and under_ml > bottom_ml:
        y_ml = under_ml
    elif y_ml > highest_ml and run_in < text_in:
        x, y_ml = x0 - 0.1 / wide_in * (span.high - span.low), end_ml + 0.2 * ml_per_in
    elif y_ml > highest_ml:
        y_ml = highest_ml
    axes.annotate(
        "\n".join(lines),
        (x1, end_ml),
        xytext=(x, y_ml),
        textcoords="data",
        ha="right",
        va="bottom",
        fontsize=size,
        weight="bold",
        color=palette.forecast,
        linespacing=1.25,
        bbox=sheet.backing(),
        zorder=4,
    )
