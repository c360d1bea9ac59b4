"""Wiring pictures of boards with the Pico's outline, drawn from their ``board.toml``.

``python -m cisterna.wiring_picture [BOARD ...]`` writes ``wiring_step_dir.svg`` and
``wiring_four_phase.svg`` into the boards' folders, by default those that have them. Texts stay
texts, so that a test can read the pins in a picture.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from cisterna.boards import board_data, board_names, project_root

PICTURES = ("step_dir", "four_phase")

# Pin -> what it is: Raspberry Pi Pico data sheet, figure 2; the Pico 2's is the same.
_PINS = (
    "GP0 GP1 GND GP2 GP3 GP4 GP5 GND GP6 GP7 GP8 GP9 GND GP10 GP11 GP12 GP13 GND GP14 GP15 "
    "GP16 GP17 GND GP18 GP19 GP20 GP21 GND GP22 RUN "
    "GP26 GP27 AGND GP28 VREF 3V3 3V3_EN GND VSYS VBUS"
)
PINOUT: dict[int, str] = dict(enumerate(_PINS.split(), 1))

_INK = "#1f2933"
_PALE = "#8895a3"
_BOARD = "#dcebdf"
_DEVICE = "#eef1f5"
_POWER = "#b42318"
_COLOURS = {
    "step": "#0b6bcb",
    "dir": "#7a3fb3",
    "enable": "#b35900",
    "rotor": "#0a7d5a",
    "service": "#a3236d",
    "sounder": "#4f5d00",
    "battery": "#006d8f",
    "coils": "#0b6bcb",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cisterna",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
}
_EDGE = 3.2  # half of the board's width
_DEVICES = (-22.0, -13.0)  # left and right edge of what stands on the left


def pin_of(gpio: int) -> int:
    """The board's pin that has this GPIO."""
    return next(pin for pin, name in PINOUT.items() if name == f"GP{gpio}")


def _height(pin: int) -> float:
    return -float(pin if pin <= 20 else 41 - pin)


class _Sheet:
    """A figure in units of the distance between two pins."""

    def __init__(self, bottom: float) -> None:
        left, right, top = -31.5, 18.5, 3.8
        self.bottom = bottom
        self.figure = Figure(figsize=(0.29 * (right - left), 0.29 * (top - bottom)))
        FigureCanvasSVG(self.figure)
        self.axes: Any = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(left, right)
        self.axes.set_ylim(bottom, top)
        self.axes.set_axis_off()

    def text(self, x: float, y: float, text: str, **more: Any) -> None:
        style = {"color": _INK, "fontsize": 10, "ha": "center", "va": "center", **more}
        self.axes.text(x, y, text, **style)

    def line(
        self, points: list[tuple[float, float]], colour: str = _INK, width: float = 1.6
    ) -> None:
        xs, ys = zip(*points, strict=True)
        self.axes.plot(xs, ys, color=colour, linewidth=width, solid_capstyle="round")

    def dot(self, x: float, y: float, colour: str = _INK) -> None:
        self.axes.add_patch(Circle((x, y), 0.16, color=colour, zorder=3))

    def box(self, left: float, bottom: float, right: float, top: float, fill: str) -> None:
        self.axes.add_patch(
            FancyBboxPatch(
                (left, bottom),
                right - left,
                top - bottom,
                boxstyle="round,pad=0,rounding_size=0.35",
                facecolor=fill,
                edgecolor=_INK,
                linewidth=1.2,
            )
        )

    def supply(self, x: float, y: float, name: str, up: bool = True) -> None:
        """A bar with the supply's name, at the end of a wire."""
        self.line([(x - 0.5, y), (x + 0.5, y)], _POWER, 2.2)
        self.text(x, y + (0.55 if up else -0.55), name, color=_POWER, fontsize=9)

    def ground(self, x: float, y: float) -> None:
        """Ground at the lower end of a wire."""
        for i, half in enumerate((0.55, 0.35, 0.15)):
            self.line([(x - half, y - 0.22 * i), (x + half, y - 0.22 * i)])

    def resistor(self, x: float, top: float, text: str, right: bool = True) -> None:
        """Upright, 1.4 long, from ``top`` down."""
        self.axes.add_patch(
            Rectangle((x - 0.28, top - 1.4), 0.56, 1.4, facecolor="white", edgecolor=_INK)
        )
        self.text(
            x + (0.5 if right else -0.5),
            top - 0.7,
            text,
            ha="left" if right else "right",
            fontsize=9,
        )

    def capacitor(
        self, x: float, top: float, bottom: float, text: str, right: bool = True
    ) -> None:
        middle = (top + bottom) / 2
        self.line([(x, top), (x, middle + 0.15)])
        self.line([(x, middle - 0.15), (x, bottom)])
        for y in (middle + 0.15, middle - 0.15):
            self.line([(x - 0.5, y), (x + 0.5, y)], width=2.2)
        self.text(
            x + (0.7 if right else -0.7), middle, text, ha="left" if right else "right", fontsize=9
        )


def _board(sheet: _Sheet, title: str, uses: dict[int, str]) -> None:
    """The board from above. ``uses``: pin -> colour of what is connected there."""
    sheet.box(-_EDGE, -21.2, _EDGE, 0.4, _BOARD)
    sheet.box(-1.2, -0.5, 1.2, 1.1, "white")
    sheet.text(0, 0.3, "USB", fontsize=9)
    sheet.text(0, -10.5, title, rotation=90, fontsize=13, fontweight="bold")
    for pin, name in PINOUT.items():
        side = -1 if pin <= 20 else 1
        y = _height(pin)
        colour = uses.get(pin)
        sheet.axes.add_patch(
            Circle((side * _EDGE, y), 0.27, facecolor=colour or "white", edgecolor=_INK, zorder=4)
        )
        ink = _INK if colour else _PALE
        weight = "bold" if colour else "normal"
        align = "left" if side < 0 else "right"
        sheet.text(
            side * (_EDGE - 0.45), y, name, ha=align, fontsize=8.5, color=ink, fontweight=weight
        )
        if colour:
            outside = "right" if side < 0 else "left"
            sheet.text(
                side * (_EDGE + 0.4), y + 0.33, f"pin {pin}", ha=outside, fontsize=7.5, color=ink
            )


def _to_device(sheet: _Sheet, pin: int, channel: float, y: float, colour: str) -> None:
    """A wire from a pin on the left to the right edge of a device at height ``y``."""
    start = _height(pin)
    sheet.line([(-_EDGE, start), (channel, start), (channel, y), (_DEVICES[1], y)], colour)


def _device(
    sheet: _Sheet,
    bottom: float,
    top: float,
    title: str,
    note: str,
    middle: float = sum(_DEVICES) / 2,
) -> None:
    sheet.box(_DEVICES[0], bottom, _DEVICES[1], top, _DEVICE)
    sheet.text(middle, (top + bottom) / 2 + 0.45, title, fontweight="bold")
    sheet.text(middle, (top + bottom) / 2 - 0.55, note, fontsize=8.5)


def _label(sheet: _Sheet, y: float, text: str, left: bool = False) -> None:
    x = _DEVICES[0] + 0.3 if left else _DEVICES[1] - 0.3
    sheet.text(x, y, text, ha="left" if left else "right", fontsize=9)


def _common(
    sheet: _Sheet, data: dict[str, Any], title: str, motor: str, uses: dict[int, str]
) -> None:
    """What both pictures have: rotor sensor, service button, buzzer, battery, supplies."""
    pins = data["pins"]
    rotor, service, sounder = (pin_of(pins[name]) for name in ("rotor", "service", "sounder"))
    battery = pin_of(pins["battery"])
    uses |= {
        rotor: _COLOURS["rotor"],
        service: _COLOURS["service"],
        sounder: _COLOURS["sounder"],
        battery: _COLOURS["battery"],
        36: _POWER,
        38: _INK,
    }
    _board(sheet, title, uses)
    left = _DEVICES[0]

    note = "Hall or fork light barrier,\nopen collector"
    _device(sheet, -14.0, -10.2, "rotor sensor", note, sum(_DEVICES) / 2 - 0.6)
    _label(sheet, -12.1, "OUT")
    for y, name in ((-11.0, "VCC"), (-13.2, "GND")):
        _label(sheet, y, name, left=True)
    sheet.line([(left, -11.0), (left - 1.5, -11.0), (left - 1.5, -10.2)], _POWER)
    sheet.supply(left - 1.5, -10.2, "3V3; A3144: VBUS")
    sheet.line([(left, -13.2), (left - 1.5, -13.2), (left - 1.5, -13.7)])
    sheet.ground(left - 1.5, -13.7)

    _device(sheet, -18.2, -15.6, "service button", "closes to ground")
    sheet.line([(left, -16.9), (left - 1.5, -16.9), (left - 1.5, -17.4)])
    sheet.ground(left - 1.5, -17.4)

    _device(sheet, -22.6, -20.0, "buzzer", "passive, 100 Ohm in series")
    sheet.line([(left, -21.3), (left - 1.5, -21.3), (left - 1.5, -21.8)])
    sheet.ground(left - 1.5, -21.8)

    x = 10.0
    y = _height(battery)
    sheet.line([(_EDGE, y), (x, y)], _COLOURS["battery"])
    sheet.dot(x, y)
    sheet.line([(x, y), (x, y + 1.0)])
    sheet.resistor(x, y + 2.4, "100 kOhm")
    sheet.line([(x, y + 2.4), (x, y + 3.6), (x + 5.4, y + 3.6), (x + 5.4, y + 1.4)], _POWER)
    sheet.line([(x, y), (x, y - 1.0)])
    sheet.resistor(x, y - 1.0, "100 kOhm")
    sheet.line([(x, y - 2.4), (x, y - 3.6)])
    sheet.ground(x, y - 3.6)
    sheet.line([(x, y), (x - 2.6, y)], _COLOURS["battery"])
    sheet.dot(x - 2.6, y)
    sheet.capacitor(x - 2.6, y, y - 3.0, "100 nF", right=False)
    sheet.ground(x - 2.6, y - 3.0)
    for level, half, width in ((1.4, 0.9, 2.0), (1.0, 0.45, 4.0)):
        sheet.line([(x + 5.4 - half, y + level), (x + 5.4 + half, y + level)], width=width)
    sheet.line([(x + 5.4, y + 1.0), (x + 5.4, y - 0.4)])
    sheet.ground(x + 5.4, y - 0.4)
    sheet.text(x + 5.0, y + 4.3, "battery, at most 6.6 V", fontsize=9)

    sheet.line([(_EDGE, _height(36)), (_EDGE + 2.2, _height(36))], _POWER)
    sheet.line([(_EDGE + 2.2, _height(36)), (_EDGE + 2.2, _height(36) + 0.6)], _POWER)
    sheet.supply(_EDGE + 2.2, _height(36) + 0.6, "3V3")
    sheet.line([(_EDGE, _height(38)), (_EDGE + 4.2, _height(38)), (_EDGE + 4.2, -3.6)])
    sheet.ground(_EDGE + 4.2, -3.6)
    sheet.text(
        -6.5,
        3.1,
        f"{title}: {motor}",
        ha="center",
        fontsize=15,
        fontweight="bold",
    )
    sheet.text(
        -6.5,
        sheet.bottom + 0.6,
        "All grounds are one. A bench and teaching model: not a medical device; never for use on"
        " people or animals.",
        fontsize=9,
        color=_PALE,
    )


def _sensors_of(sheet: _Sheet, data: dict[str, Any]) -> None:
    pins = data["pins"]
    for name, channel, y in (
        ("rotor", -9.4, -12.1),
        ("service", -8.5, -16.9),
        ("sounder", -7.6, -21.3),
    ):
        _to_device(sheet, pin_of(pins[name]), channel, y, _COLOURS[name])


def _motor(sheet: _Sheet, y: float, text: str) -> None:
    sheet.axes.add_patch(Circle((-29.3, y), 1.7, facecolor="white", edgecolor=_INK, linewidth=1.2))
    sheet.text(-29.3, y, text, fontsize=9)


def _step_dir(sheet: _Sheet, data: dict[str, Any], title: str) -> None:
    pins = data["pins"]
    uses: dict[int, str] = {3: _INK}
    left, right = _DEVICES
    sheet.box(left, -8.6, right, 1.6, _DEVICE)
    sheet.text(-17.0, -2.2, "stepper driver", fontweight="bold")
    sheet.text(-17.0, -3.4, "MS, SLEEP and RESET:\nsee the table", fontsize=8.5)
    for name, label in (("step", "STEP"), ("dir", "DIR"), ("enable", "EN")):
        pin = pin_of(pins[name])
        uses[pin] = _COLOURS[name]
        sheet.line([(-_EDGE, _height(pin)), (right, _height(pin))], _COLOURS[name])
        _label(sheet, _height(pin), label)
    enable = _height(pin_of(pins["enable"]))
    pulled = right + 0.9
    sheet.dot(pulled, enable, _COLOURS["enable"])
    sheet.line([(pulled, enable), (pulled, enable - 0.4)])
    sheet.resistor(pulled, enable - 0.4, "10 kOhm")
    sheet.line([(pulled, enable - 1.8), (pulled, enable - 2.4)], _POWER)
    sheet.supply(pulled, enable - 2.4, "3V3", up=False)
    _label(sheet, -0.6, "VDD (VIO)")
    sheet.line([(right, -0.6), (right + 1.5, -0.6), (right + 1.5, 0.2)], _POWER)
    sheet.supply(right + 1.5, 0.2, "3V3")
    _label(sheet, -3.0, "GND")
    sheet.line([(-_EDGE, -3.0), (right, -3.0)])

    _label(sheet, 0.6, "VMOT", left=True)
    sheet.line([(left, 0.6), (-27.5, 0.6)], _POWER)
    sheet.supply(-27.5, 0.6, "motor supply, 9 to 28 V")
    _label(sheet, -2.0, "GND", left=True)
    sheet.line([(left, -2.0), (-27.5, -2.0), (-27.5, -2.4)])
    sheet.ground(-27.5, -2.4)
    sheet.dot(-23.6, 0.6, _POWER)
    sheet.dot(-23.6, -2.0)
    sheet.capacitor(-23.6, 0.6, -2.0, "100 uF", right=False)
    for y, name in ((-4.6, "2B"), (-5.6, "2A"), (-6.6, "1A"), (-7.6, "1B")):
        _label(sheet, y, name, left=True)
        end = -29.3 + (1.7**2 - (y + 6.1) ** 2) ** 0.5
        sheet.line([(left, y), (end, y)])
    _motor(sheet, -6.1, "motor\n+ pump")
    _common(sheet, data, title, "STEP/DIR driver (A4988, DRV8825, TMC2209)", uses)
    _sensors_of(sheet, data)


def _four_phase(sheet: _Sheet, data: dict[str, Any], title: str) -> None:
    first = data["pins"]["coils"]
    uses: dict[int, str] = {}
    left, right = _DEVICES
    sheet.box(left, -32.2, right, -24.2, _DEVICE)
    sheet.text(-17.6, -28.2, "ULN2003 board", fontweight="bold")
    for i in range(4):
        pin = pin_of(first + i)
        uses[pin] = _COLOURS["coils"]
        y = -25.2 - i
        _label(sheet, y, f"IN{i + 1}")
        channel = -6.7 + 0.6 * i
        drop = _height(pin)
        sheet.line(
            [(-_EDGE, drop), (channel, drop), (channel, y), (right, y)],
            _COLOURS["coils"],
        )
    _label(sheet, -30.0, "+", left=False)
    sheet.line([(right, -30.0), (right + 2.0, -30.0), (right + 2.0, -29.6)], _POWER)
    sheet.supply(right + 2.0, -29.6, "5 V, 0.3 A")
    _label(sheet, -31.2, "-", left=False)
    sheet.line([(right, -31.2), (right + 2.0, -31.2), (right + 2.0, -31.7)])
    sheet.ground(right + 2.0, -31.7)
    _motor(sheet, -28.2, "28BYJ-48")
    sheet.line([(left, -28.2), (-27.6, -28.2)], width=5)
    sheet.text(-24.8, -27.5, "its plug", fontsize=8.5)
    _common(sheet, data, title, "28BYJ-48 with ULN2003", uses)
    _sensors_of(sheet, data)
    sheet.text(
        -_EDGE - 0.6,
        -5.0,
        f"GP{data['pins']['step']} to GP{data['pins']['enable']}: nothing is connected",
        ha="right",
        fontsize=9,
        color=_PALE,
    )


def draw(board: str, picture: str) -> Figure:
    """One of ``PICTURES``."""
    data = board_data(board)
    title = {"rpi_pico": "Raspberry Pi Pico", "rpi_pico2": "Raspberry Pi Pico 2"}[board]
    with mpl.rc_context(_STYLE):
        sheet = _Sheet(-24.6 if picture == "step_dir" else -34.6)
        (_step_dir if picture == "step_dir" else _four_phase)(sheet, data, title)
    return sheet.figure


def write(board: str, folder: Path) -> list[Path]:
    """Write the board's pictures into ``folder``; returns their paths."""
    paths: list[Path] = []
    for picture in PICTURES:
        if picture == "four_phase" and "coils" not in board_data(board)["pins"]:
            continue
        path = folder / f"wiring_{picture}.svg"
        with mpl.rc_context(_STYLE):
            draw(board, picture).savefig(path, metadata={"Date": None})
        paths.append(path)
    return paths


def main(names: list[str]) -> None:
    boards = project_root() / "boards"
    known = [name for name in board_names() if list((boards / name).glob("wiring_*.svg"))]
    for name in names or known:
        for path in write(name, boards / name):
            print(path.relative_to(boards.parent))


if __name__ == "__main__":
    main(sys.argv[1:])
