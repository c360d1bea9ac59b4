"""The sheet every picture is drawn on: its looks, header, key, notice, axes, time axis and marks.

Places on a sheet are inches from its lower left corner. Floats are made only to place ink.
Colours are Okabe and Ito's set for all kinds of colour vision (https://jfly.uni-koeln.de/color/),
darkened or lightened to be read as text on their paper; no meaning rests on colour alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import get_data_path
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cisterna.prescription import NOTICE
from cisterna.run_samples import Marker, minus, plain, wall_time

_CSS_PER_INCH = 100  # pixels of a page one inch of a Figure takes
_DPI = 2 * _CSS_PER_INCH
_MEASURE_PT = 20  # text is measured once, at this size
_BOLD_IS_WIDER = 1.17  # DejaVu Sans Bold against DejaVu Sans, rounded up
# Blanks that must not end a line: between a number and its unit, between "day" and its number.
_GLUE = re.compile(r"(?<=[0-9]) (?=[^\W\d])|(?<=\bday) (?=[0-9])")
# matplotlib's own defaults, whatever this user's are
STYLE = ["default", {"lines.solid_capstyle": "butt", "lines.dash_capstyle": "butt"}]


@dataclass(frozen=True)
class Palette:
    """Colours of a picture, as matplotlib and CSS both read them."""

    paper: str
    ink: str
    quiet: str
    faint: str
    band: str
    programmed: str
    true: str
    low: str
    forecast: str


LIGHT = Palette(
    paper="#ffffff",
    ink="#1b1f24",
    quiet="#59636e",
    faint="#d4d9df",
    band="#e6f2ed",
    programmed="#7cc4ee",
    true="#00456e",
    low="#b84a00",
    forecast="#0072b2",
)
DARK = Palette(
    paper="#171b21",
    ink="#e8ecf1",
    quiet="#a3adb9",
    faint="#39414b",
    band="#1d3530",
    programmed="#2f78a8",
    true="#c5e6fb",
    low="#ff9a4d",
    forecast="#56b4e9",
)


@dataclass(frozen=True)
class Look:
    """For what surface a picture is drawn.

    ``width_in``, ``delivery_in``, ``reservoir_in``, ``forecast_in``: width and heights of the
    pictures, in inches of 100 page pixels. ``left_in``, ``right_in``: room beside the axes.
    ``marker_rows``: rows of marker labels at most.
    """

    palette: Palette
    width_in: float
    delivery_in: float
    reservoir_in: float
    forecast_in: float
    left_in: float
    right_in: float
    marker_rows: int
    text_pt: float

    @property
    def narrow(self) -> bool:
        """True for a phone."""
        return self.width_in < 6

    def pixels(self, height_in: float) -> tuple[int, int]:
        """Page pixels, width and height, of a picture of that height."""
        return round(self.width_in * _CSS_PER_INCH), round(height_in * _CSS_PER_INCH)


WIDE = Look(LIGHT, 9.0, 6.3, 5.0, 3.6, 0.78, 0.28, 2, 9.0)
WIDE_DARK = Look(DARK, 9.0, 6.3, 5.0, 3.6, 0.78, 0.28, 2, 9.0)
NARROW = Look(LIGHT, 4.0, 6.5, 5.4, 4.2, 0.64, 0.16, 3, 8.6)
NARROW_DARK = Look(DARK, 4.0, 6.5, 5.4, 4.2, 0.64, 0.16, 3, 8.6)


# -- the sheet all pictures share --------------------------------------------------------------


def _filled(
    words: Sequence[str], widths_in: Sequence[float], space_in: float, room_in: float
) -> list[list[str]]:
    """``words`` in rows of ``room_in``, each as full as it goes; a row has at least one."""
    rows: list[list[str]] = []
    taken_in = 0.0
    for word, width_in in zip(words, widths_in, strict=True):
        if rows and taken_in + space_in + width_in <= room_in:
            rows[-1].append(word)
            taken_in += space_in + width_in
        else:
            rows.append([word])
            taken_in = width_in
    return rows


class Sheet:
    """A figure with a title and findings above, the notice below and axes in between.

    ``low_in`` and ``high_in`` bound what is free for axes once header and footer are written.
    """

    def __init__(self, look: Look, height_in: float) -> None:
        self.look = look
        self.palette = look.palette
        self.height_in = height_in
        self.figure = Figure(
            figsize=(look.width_in, height_in), dpi=_DPI, facecolor=look.palette.paper
        )
        self.canvas = FigureCanvasAgg(self.figure)
        self._font = FT2Font(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf")
        self._widths: dict[str, float] = {}
        self.edge_in = 0.16
        self.low_in = self.edge_in
        self.high_in = height_in - self.edge_in

    def drawable(self, text: str, most: int = 600) -> str:
        """``text`` on one line of ``most`` characters; what the typeface lacks shown as U+FFFD."""
        shown = "".join(
            c if self._font.get_char_index(ord(c)) else "\N{REPLACEMENT CHARACTER}"
            for c in plain(text[: 2 * most])
        )
        return shown if len(shown) <= most else shown[: most - 1].rstrip() + "…"

    def width_of(self, text: str, size_pt: float, bold: bool = False) -> float:
        """Width of one line, in inches."""
        if text not in self._widths:
            font = FontProperties(family="DejaVu Sans", size=_MEASURE_PT)
            renderer = self.canvas.get_renderer()
            measured = renderer.get_text_width_height_descent(text, font, False)[0]
            self._widths[text] = measured / _DPI / _MEASURE_PT
        return self._widths[text] * size_pt * (_BOLD_IS_WIDER if bold else 1)

    def wrapped(self, text: str, size_pt: float, most: int, bold: bool = False) -> list[str]:
        """``text`` in as few lines as the sheet's width allows and of about equal length; ``most``
        of them, the last one cut short. A number and what follows it stay together."""
        words = _GLUE.sub("\N{NO-BREAK SPACE}", self.drawable(text)).split(" ")
        widths_in = [self.width_of(word, size_pt, bold) for word in words]
        space_in = self.width_of("n n", size_pt, bold) - self.width_of("nn", size_pt, bold)
        room_in = self.look.width_in - 2 * self.edge_in
        rows = _filled(words, widths_in, space_in, room_in)
        if len(rows) > most:
            rows = [*rows[: most - 1], [word for row in rows[most - 1 :] for word in row]]
        elif len(rows) > 1:
            while True:
                room_in -= 0.05
                narrower = _filled(words, widths_in, space_in, room_in)
                if len(narrower) > len(rows):
                    break
                rows = narrower
        room_in = self.look.width_in - 2 * self.edge_in
        return [self._cut(" ".join(row), room_in, size_pt, bold) for row in rows]

    def _cut(self, text: str, room_in: float, size_pt: float, bold: bool) -> str:
        """``text``, ended with an ellipsis where it is wider than ``room_in``."""
        if self.width_of(text, size_pt, bold) <= room_in:
            return text
        fits, too_long = 0, len(text)
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if self.width_of(text[:middle].rstrip() + "…", size_pt, bold) <= room_in:
                fits = middle
            else:
                too_long = middle
        return text[:fits].rstrip() + "…"

    def write(
        self,
        x_in: float,
        y_in: float,
        text: str,
        size_pt: float,
        colour: str,
        *,
        bold: bool = False,
        across: str = "left",
        up: str = "baseline",
        backed: bool = False,
    ) -> None:
        """One line of text at a place of the sheet; ``backed``: readable over a line."""
        self.figure.text(
            x_in / self.look.width_in,
            y_in / self.height_in,
            text,
            fontsize=size_pt,
            color=colour,
            weight="bold" if bold else "normal",
            ha=across,
            va=up,
            parse_math=False,
            bbox=self.backing() if backed else None,
        )

    def backing(self) -> dict[str, object]:
        """What lies behind text that crosses lines."""
        return {"facecolor": self.palette.paper, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}

    def header(self, title: str, findings: Sequence[str]) -> None:
        """Title and what the picture shows, in words."""
        size = self.look.text_pt
        for line in self.wrapped(title, size + 2.5, 1, bold=True):
            self.write(
                self.edge_in, self.high_in, line, size + 2.5, self.palette.ink, bold=True, up="top"
            )
            self.high_in -= 0.25
        for finding in findings:
            for line in self.wrapped(finding, size, 3):
                self.write(self.edge_in, self.high_in, line, size, self.palette.quiet, up="top")
                self.high_in -= 0.175
        self.high_in -= 0.04

    def footer(self) -> None:
        """The notice, on every picture."""
        size = self.look.text_pt - 2
        lines = self.wrapped(NOTICE, size, 3)
        for line in reversed(lines):
            self.write(self.edge_in, self.low_in, line, size, self.palette.quiet, up="bottom")
            self.low_in += 0.135
        self.low_in += 0.06

    def key(self, entries: Sequence[tuple[Line2D, str]]) -> None:
        """What line is what, in one row or as many as it takes."""
        size = self.look.text_pt
        x_in = self.edge_in
        swatch_in, gap_in = 0.3, 0.22
        y_in = self.high_in - 0.09
        for handle, text in entries:
            width_in = swatch_in + 0.08 + self.width_of(text, size)
            if x_in > self.edge_in and x_in + width_in > self.look.width_in - self.edge_in:
                x_in = self.edge_in
                y_in -= 0.185
            inset_in = 0.06 if handle.get_linestyle() == "None" else 0
            ends_in = (x_in + inset_in, x_in + swatch_in / 2, x_in + swatch_in - inset_in)
            handle.set_data(
                [end_in / self.look.width_in for end_in in ends_in], [y_in / self.height_in] * 3
            )
            handle.set_transform(self.figure.transFigure)
            self.figure.add_artist(handle)
            self.write(
                x_in + swatch_in + 0.08, y_in, text, size, self.palette.ink, up="center_baseline"
            )
            x_in += width_in + gap_in
        self.high_in = y_in - 0.14

    def axes(self, bottom_in: float, top_in: float) -> Axes:
        """Axes between two heights, as wide as the look has room for."""
        look, palette = self.look, self.palette
        axes = self.figure.add_axes(
            (
                look.left_in / look.width_in,
                bottom_in / self.height_in,
                (look.width_in - look.left_in - look.right_in) / look.width_in,
                (top_in - bottom_in) / self.height_in,
            ),
            facecolor=palette.paper,
        )
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(palette.faint)
        axes.tick_params(
            colors=palette.quiet, labelsize=look.text_pt - 0.5, length=3, color=palette.faint
        )
        axes.grid(axis="y", color=palette.faint, linewidth=0.5)
        axes.set_axisbelow(True)
        return axes

    def name_axis(self, axes: Axes, text: str) -> None:
        """The vertical axis in words, written over its upper end."""
        top_in = axes.get_position().y1 * self.height_in
        size = self.look.text_pt - 0.5
        up_in = top_in + _OVER_AXES_IN
        self.write(self.edge_in, up_in, text, size, self.palette.quiet, backed=True)

    def png(self) -> bytes:
        """The sheet as it is now."""
        out = io.BytesIO()
        self.figure.savefig(
            out, format="png", dpi=_DPI, facecolor=self.palette.paper, metadata={"Software": None}
        )
        return out.getvalue()


# -- the time axis -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """What the time axis shows: from ``low`` to ``high`` in units of ``unit_us``."""

    unit_us: int
    unit: str
    low: float
    high: float

    def at(self, time_us: int) -> float:
        """Place of an instant on the axis."""
        return time_us / self.unit_us


def span_of(times_us: Sequence[int], margin: float) -> Span:
    """Axis over ``times_us`` with ``margin`` of its length free at either end."""
    low_us, high_us = (min(times_us), max(times_us)) if times_us else (0, 0)
    length_us = high_us - low_us
    units = ((86_400_000_000, "days"), (3_600_000_000, "hours"), (60_000_000, "minutes"))
    unit_us, unit = next((u for u in units if length_us >= 2 * u[0]), units[-1])
    if length_us == 0 and low_us >= units[0][0]:
        unit_us, unit = units[0]
    low, high = low_us / unit_us, high_us / unit_us
    free = (high - low) * margin or max(0.5, abs(high) * 1e-9)
    return Span(unit_us, unit, low - free, high + free)


def _tick_text(value: float, _: object = None) -> str:
    if abs(value) >= 1e7:
        return minus(f"{value:.6g}")
    text = f"{value:,.6f}".rstrip("0").rstrip(".")
    return minus("0" if text == "-0" else text)


_ROUND = (1, 2, 2.5, 5, 10)  # tick distances


def set_ticks(axes: Axes, look: Look, up: int) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5 if look.narrow else 10, steps=_ROUND))
    axes.xaxis.set_major_formatter(FuncFormatter(_tick_text))
    axes.yaxis.set_major_locator(MaxNLocator(up, steps=_ROUND))
    axes.yaxis.set_major_formatter(FuncFormatter(_tick_text))


def name_time(
    sheet: Sheet, axes: Axes, span: Span, start_wall_s: int | None, start: str = "the start"
) -> None:
    text = f"{span.unit} since {start}"
    date = wall_time(start_wall_s, 0)
    if date is not None:
        text += f", {date:%Y-%m-%d %H:%M} UTC"
    axes.set_xlabel(text, fontsize=sheet.look.text_pt - 0.5, color=sheet.palette.quiet, labelpad=4)


@dataclass(frozen=True)
class Placed:
    marker: Marker
    text: str
    x_in: float
    row: int


def place_markers(
    sheet: Sheet, markers: Sequence[Marker], span: Span, axis_name: str
) -> tuple[list[Placed], int]:
    """Labels that fit over the axes without touching, and how many did not. ``axis_name`` has the
    left end of the lowest row."""
    look = sheet.look
    size = look.text_pt - 0.5
    left_in, right_in = look.left_in, look.width_in - look.right_in
    ends_in = [float("-inf")] * look.marker_rows
    ends_in[0] = sheet.edge_in + sheet.width_of(axis_name, size)
    placed: list[Placed] = []
    for marker in sorted(markers, key=lambda marker: marker.time_us):
        text = sheet.drawable(marker.label)
        text = text if len(text) <= 32 else text[:31].rstrip() + "…"
        if not text:
            continue
        part = (span.at(marker.time_us) - span.low) / (span.high - span.low)
        half_in = sheet.width_of(text, size) / 2
        x_in = left_in + part * (right_in - left_in)
        x_in = max(min(x_in, look.width_in - 0.08 - half_in), left_in + half_in)
        for row, end_in in enumerate(ends_in):
            if x_in - half_in > end_in + 0.1:
                ends_in[row] = x_in + half_in
                placed.append(Placed(marker, text, x_in, row))
                break
    named = sum(1 for marker in markers if plain(marker.label))
    return placed, named - len(placed)


_ROW_IN = 0.175
_OVER_AXES_IN = 0.08
_FEW_MARKERS = 12  # lines of more than these are drawn faint


def room_over(placed: Sequence[Placed]) -> float:
    """Inches the marker labels and the axis's name take over the axes."""
    return _OVER_AXES_IN + _ROW_IN * max((label.row + 1 for label in placed), default=1)


def unlabelled_text(count: int) -> list[str]:
    """What a picture says of markers that have no label."""
    if not count:
        return []
    return [
        f"{count:,} more {'mark has' if count == 1 else 'marks have'} no label for want of room."
    ]


def draw_markers(
    sheet: Sheet,
    panels: Sequence[Axes],
    markers: Sequence[Marker],
    placed: Sequence[Placed],
    span: Span,
) -> None:
    """A line through every panel for every marker, and the labels over the first panel."""
    palette = sheet.palette
    for marker in markers:
        for axes in panels:
            axes.axvline(
                span.at(marker.time_us),
                color=palette.quiet,
                linewidth=0.8,
                linestyle=(0, (1, 2)),
                alpha=1 if len(markers) <= _FEW_MARKERS else 0.3,
            )
    box = panels[0].get_position()
    for label in placed:
        up_in = _OVER_AXES_IN + label.row * _ROW_IN
        part = (span.at(label.marker.time_us) - span.low) / (span.high - span.low)
        x = box.x0 + part * box.width
        sheet.figure.add_artist(
            Line2D(
                [x, x],
                [box.y1, box.y1 + (up_in - 0.03) / sheet.height_in],
                color=palette.quiet,
                linewidth=0.8,
                linestyle=(0, (1, 2)),
            )
        )
    for label in placed:
        sheet.write(
            label.x_in,
            box.y1 * sheet.height_in + _OVER_AXES_IN + label.row * _ROW_IN,
            label.text,
            sheet.look.text_pt - 0.5,
            palette.ink,
            across="center",
            backed=True,
        )
