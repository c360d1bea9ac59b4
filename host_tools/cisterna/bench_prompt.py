"""The prompt of ``cisterna sim``: the bench around a virtual pump, for a person at a terminal.

What is done here happens to the plant or to time; the pump itself is told nothing.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cisterna import screens, units
from cisterna.amounts import format_concentration, format_volume_nl, format_volume_pl
from cisterna.bench import DAY_US, FIRMWARE_FAULTS, PLANT_FAULTS
from cisterna.errors import CisternaError, UsageError
from cisterna.mixture import CONCENTRATION_HIGH_NG_ML

if TYPE_CHECKING:
    from cisterna.sim import RunningPump

_MOST_YEARS_US = 100 * 365 * DAY_US  # advance at most this much at once
_SLICES = 100  # of a long advance, for its progress bar
_LONGEST_UNSHOWN_US = DAY_US
_PRESS_S = 0.3

_FAULTS = (*PLANT_FAULTS, *FIRMWARE_FAULTS)

_HELP = (
    ("truth", "what the plant did, whatever the pump says"),
    ("advance 30 days", "let time pass now"),
    ("speed 1000", "how fast time runs by itself: 1 is real time, or max"),
    ('fill "20 mL"', "aspirate the reservoir and fill it; tells what was aspirated"),
    ("fill 20 mL 500 ug/mL", "the same with a drug: truth then tells what left the tip"),
    ("stall", "the rotor no longer follows the steps (stall 10: after 10 more)"),
    ("clear", "the rotor follows again (clear slip: another fault is over)"),
    (
        "inject slip 60000",
        "another fault of the plant, with its amount: " + ", ".join(PLANT_FAULTS),
    ),
    ("inject clock_jump", "a fault of the chip: " + ", ".join(FIRMWARE_FAULTS)),
    ("press", "hold the service button down, as pairing wants it"),
    ("release", "let it go"),
    ("ask", "press the patient's button, which asks for a bolus"),
    ("cut", "take the pump's power away"),
    ("on", "give it back"),
    ("help", "this list"),
    ("quit", "end the pump"),
)


class _Quit(Exception):
    """The person wants to end."""


def serve(pump: RunningPump) -> None:
    """Read and carry out commands until quit or the end of input."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # pyright: ignore[reportUnusedImport] - gives input() a history
    prompt = Prompt(pump, screens.console())
    while True:
        try:
            line = input("bench> ")
        except EOFError:
            return
        try:
            prompt.carry_out(line)
        except _Quit:
            return


class Prompt:
    """Carries out lines on ``pump`` and says on ``shown`` what came of them."""

    def __init__(self, pump: RunningPump, shown: Console) -> None:
        self._pump = pump
        self._shown = shown
        self._orders: dict[str, Callable[[str], None]] = {
            "truth": self._truth,
            "advance": self._advance,
            "speed": self._speed,
            "fill": self._fill,
            "stall": self._stall,
            "clear": self._clear,
            "inject": self._inject,
            "press": self._press,
            "release": self._release,
            "ask": self._ask,
            "cut": self._cut,
            "on": self._on,
            "help": self._help,
            "quit": self._quit,
            "exit": self._quit,
        }

    def carry_out(self, line: str) -> None:
        """One line; what is wrong with it is said, nothing is raised but the wish to quit."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            screens.note(self._shown, f"{line}: {error}", "red")
            return
        if not words:
            return
        order = self._orders.get(words[0])
        if order is None:
            screens.note(self._shown, f"{words[0]}: not known here; try help", "red")
            return
        try:
            order(" ".join(words[1:]))
        except CisternaError as error:
            screens.note(self._shown, str(error), "red")
            if error.remedy:
                screens.note(self._shown, error.remedy)

    def _truth(self, _: str) -> None:
        with self._pump.lock:
            truth = self._pump.bench.truth()
        step_pl = truth["step_pl"]
        drug = f", with {screens.mass(truth['tip_ng'])} of drug" if truth.get("tip_ng") else ""
        screens.rows(
            self._shown,
            [
                ("Time", screens.pump_clock(truth["time_us"])),
                ("Delivered", f"{screens.volume(truth['delivered_pl'])}"),
                ("At the tip", f"{screens.volume(truth['tip_pl'])}{drug}"),
                ("In the reservoir", screens.volume(truth["residual_pl"])),
                (
                    "Rotor",
                    f"{truth['steps']:,} steps of {format_volume_pl(step_pl, unit='uL')} for "
                    f"{truth['pulses']:,} pulses, {truth['reverse_steps']:,} backwards"
                    + (", STALLED" if truth["stalled"] else ""),
                ),
            ],
        )

    def _advance(self, text: str) -> None:
        total_us = units.parse_duration(text, 1, _MOST_YEARS_US, name="advance")
        if total_us <= _LONGEST_UNSHOWN_US:
            with self._pump.lock:
                self._pump.bench.advance(us=total_us)
        else:
            self._advance_slowly(total_us)
        screens.note(self._shown, f"{screens.span(total_us)} passed")

    def _advance_slowly(self, total_us: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._shown, transient=True) as progress:
            task = progress.add_task("time passes", total=total_us)
            done_us = 0
            for number in range(1, _SLICES + 1):
                until_us = total_us * number // _SLICES
                with self._pump.lock:
                    self._pump.bench.advance(us=until_us - done_us)
                done_us = until_us
                progress.update(task, completed=done_us)

    def _speed(self, text: str) -> None:
        from cisterna.sim import parse_speed, speed_words

        speed = parse_speed(text)
        with self._pump.lock:
            self._pump.pace(speed)
        screens.note(self._shown, f"time now runs {speed_words(speed)}")

    def _fill(self, text: str) -> None:
        match = re.fullmatch(r"(.*\S)\s+(\d\S*\s*\S+/m[lL])", text)
        volume, drug = match.groups() if match else (text, None)
        fill_nl = units.parse_volume(volume, 0, 500_000_000, name="fill")
        ng_ml = (
            None if drug is None else units.parse_concentration(drug, 1, CONCENTRATION_HIGH_NG_ML)
        )
        with self._pump.lock:
            aspirated_nl = self._pump.bench.refill_reservoir(fill_nl, ng_ml)
        aspirated, fill = format_volume_nl(aspirated_nl), format_volume_nl(fill_nl)
        of = f" of {format_concentration(ng_ml)}" if ng_ml is not None else ""
        screens.note(self._shown, f"aspirated {aspirated}, put in {fill}{of}; now tell the pump:")
        screens.note(self._shown, f'  cisterna refill --measured "{aspirated}" --fill "{fill}"')

    def _stall(self, text: str) -> None:
        if text and not text.isdecimal():
            raise UsageError(f"stall {text}: give the steps it still follows, or nothing")
        with self._pump.lock:
            self._pump.bench.inject("stall", after_steps=int(text or 0))
        screens.note(self._shown, "the rotor stalls; clear lets it follow again")

    def _clear(self, text: str) -> None:
        name = text or "stall"
        if name != "stall" and name not in _FAULTS:
            raise UsageError(f"clear {text}: no such fault", ", ".join(_FAULTS))
        with self._pump.lock:
            self._pump.bench.clear(name)
        over = "the rotor follows the steps" if name == "stall" else f"{name} is over"
        screens.note(self._shown, over)

    def _inject(self, text: str) -> None:
        name, _, amount = text.partition(" ")
        if name not in _FAULTS:
            raise UsageError(f"inject {text}: no such fault", ", ".join(_FAULTS))
        if amount and not amount.removeprefix("-").isdecimal():
            raise UsageError(f"inject {text}: its amount is a whole number, or nothing")
        with self._pump.lock:
            self._pump.bench.inject(name, amount=int(amount) if amount else None)
        ends = "" if name.startswith(("hang_", "clock_jump")) else f"; clear {name} ends it"
        screens.note(self._shown, f"{name} begins{ends}")

    def _press(self, _: str) -> None:
        with self._pump.lock:
            self._pump.bench.set_service(True)
        screens.note(self._shown, "the service button is held; release lets it go; now:")
        screens.note(self._shown, "  cisterna pair")

    def _release(self, _: str) -> None:
        with self._pump.lock:
            self._pump.bench.set_service(False)
        screens.note(self._shown, "the service button is let go")

    def _ask(self, _: str) -> None:
        with self._pump.lock:
            self._pump.bench.set_patient(True)
        time.sleep(_PRESS_S)
        with self._pump.lock:
            self._pump.bench.set_patient(False)
        screens.note(self._shown, "the patient's button was pressed; what came of it:")
        screens.note(self._shown, "  cisterna log")

    def _cut(self, _: str) -> None:
        with self._pump.lock:
            self._pump.bench.cut_power()
        screens.note(self._shown, "the pump has no power; on gives it back")

    def _on(self, _: str) -> None:
        with self._pump.lock:
            self._pump.bench.power_on()
        screens.note(self._shown, "the pump has power")

    def _help(self, _: str) -> None:
        screens.rows(self._shown, _HELP)

    def _quit(self, _: str) -> None:
        raise _Quit
