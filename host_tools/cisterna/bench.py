"""Benches: a plant and the instruments around one pump, all with one interface.

``open_bench`` takes "virtual", "emulated", the path of a ``.toml`` (see ``bench_file``) or the
serial port of a board. What a bench can do is in
its ``offers``; a method it does not offer raises ``NotOffered``.
"""

from __future__ import annotations

import abc
import contextlib
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from typing_extensions import Self

from cisterna.errors import CisternaError, NoPump
from cisterna.keys import KeyStore
from cisterna.programmer import Identity, Programmer
from cisterna.transport import Link, SerialLink

if TYPE_CHECKING:
    from cisterna.balance import Reading

Line = Literal["step", "dir", "enable", "tone"]

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

PLANT_FAULTS = (
    *("slip", "free_run", "leak", "occlusion", "empty", "sensor_stuck", "sensor_noisy"),
    "battery_sag",
)
FIRMWARE_FAULTS = (
    *("hang_loop", "hang_handler", "hang_telemetry", "flash_fails", "memory_pressure"),
    *("clock_jump", "clock_stop"),
)

_BOOT_S = 20.0  # longest until a pump on a port answers after its power came


class Edge(NamedTuple):
    """One change of a pin: instant in ns of the bench's time, line, level after it. The level of
    "tone" is what sounds from then on, in Hz, and 0 where it is silent."""

    t_ns: int
    line: Line
    level: int


class NotOffered(CisternaError):
    """This bench lacks the instrument."""


class Bench(abc.ABC):
    """Use as a context manager. Times are the bench's own, from when it was opened.

    ``offers``, some of: advance, days (a simulated day takes a second, not minutes), truth, edges,
    runs, power, flash_cuts (of power, at a flash operation), power_cuts (at any instant too),
    cable, chip (counts of the processor and its flash), inject, refill, flash_files, service (its
    button can be pressed), patient (the patient's button can be pressed), rotor (the plant turns
    the pump's rotor sensor), battery (its voltage can be set), tone (edges() tells what sounds),
    counter (of pulses on the pin), scale (a balance).
    """

    name: str
    offers: frozenset[str] = frozenset()
    heard: Identity | None = None  # the pump that last answered a programmer of this bench
    keys: KeyStore  # with which ``programmer`` authenticates

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lacking(self, what: str) -> NotOffered:
        return NotOffered(f"the {self.name} bench has no {what}")

    @property
    @abc.abstractmethod
    def port(self) -> str:
        """The pump's serial port, for any host tool."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of everything."""

    def link(self) -> Link:
        """A fresh link to the pump."""
        return SerialLink(self.port)

    def programmer(self, role: str = "clinician") -> Programmer:
        """A connected, authenticated programmer in ``role``. A bench that can press the service
        button pairs it first if need be."""
        link = self.link()
        try:
            pump = Programmer(link, role, keys=self.keys)
            known = self.keys.get(pump.identity.serial, role) is not None
            if not known and "service" in self.offers:
                with self.hold_service():
                    pump.session.pair()
            pump.authenticate()
            self.heard = pump.identity
            return pump
        except BaseException:
            link.close()
            raise

    def advance(
        self,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        us: int = 0,
    ) -> None:
        """Let that much time pass; the sum must be a whole number of microseconds, 0 or more."""
        total = round(days * DAY_US + hours * HOUR_US + minutes * MINUTE_US + seconds * 1e6) + us
        if total < 0:
            raise ValueError(f"time cannot go back by {-total} us")
        self._advance_us(total)

    def _advance_us(self, us: int) -> None:
        raise self._lacking("advance")

    def truth(self) -> dict[str, int]:
        """What the plant did: delivered_pl, steps, reverse_steps, pulses, residual_pl, tip_pl,
        rotor_pulses, stalled, battery_mv, time_us; and resets, those by the watchdog since the
        bench was opened."""
        raise self._lacking("truth")

    def edges(self) -> list[Edge]:
        """Every edge on the pins since the bench was opened, in order."""
        raise self._lacking("edges")

    def runs(self) -> list[tuple[int, int, int, int, int]]:
        """Pulses on the STEP pin as runs (first_us, slack, spacing, rate, count): pulse i of a run
        happened at first_us + ceil((i * spacing - slack) / rate) us of the bench's time."""
        raise self._lacking("runs of pulses")

    def count(self) -> int:
        """Pulses that a counter on the STEP pin has seen."""
        raise self._lacking("counter")

    def weigh(self) -> Reading:
        """A stable reading of the balance under what the pump delivers."""
        raise self._lacking("balance")

    def interrupts_off(self) -> list[tuple[int, int, int, int]]:
        """Spans in which the processor kept interrupts off, since this was first called: (from,
        until, in ns of the bench's time, flash erases, flash programs meanwhile)."""
        raise self._lacking("way into the chip")

    def safe_since_us(self) -> int:
        """When the outputs of the motor were first driven since the power came last, us of the
        bench's time."""
        raise self._lacking("way into the chip")

    def inject(self, fault: str, after_steps: int = 0, amount: int | None = None) -> None:
        """Start ``fault`` in the plant (stall, slip, free_run, leak, occlusion, empty,
        sensor_stuck, sensor_noisy, battery_sag), with ``amount`` in its unit, see plant.FAULTS;
        the stall after ``after_steps``. On the virtual bench also what befalls the chip
        (FIRMWARE_FAULTS): hang_loop, hang_handler, hang_telemetry, until its watchdog bites;
        flash_fails, the ``amount``-th operation from now; memory_pressure, ``amount`` octets of
        the heap are left; clock_jump by ``amount`` us, forward or back; clock_stop, also after
        its reset, until it is cleared and the power was away."""
        raise self._lacking("inject")

    def clear(self, fault: str) -> None:
        """End ``fault``. What ended by itself, or latched in the pump, is not undone."""
        raise self._lacking("inject")

    def refill_reservoir(self, fill_nl: int, ng_ml: int | None = None, rest_nl: int = 0) -> int:
        """Aspirate the reservoir but for ``rest_nl`` and put ``fill_nl`` in, as a clinician's
        hands do. ``ng_ml``: drug in the fill, None as before. ``truth()`` then has ``tip_ng``, the
        drug that left the catheter's tip if fluid moves as a plug, and ``tip_mixed_ng``, if the
        tubing were stirred. Returns the volume aspirated, in nL. The pump is not told."""
        raise self._lacking("refill")

    def press_service(self, seconds: float = 3) -> None:
        """Press the service button, let ``seconds`` of the bench's time pass, let it go."""
        with self.hold_service():
            self.advance(seconds=seconds)

    @contextlib.contextmanager
    def hold_service(self) -> Generator[None]:
        """The service button is held down inside the block, also while the power is off::

        with bench.hold_service():
            bench.power_on()
        """
        self.set_service(True)
        try:
            yield
        finally:
            self.set_service(False)

    def set_service(self, held: bool) -> None:
        """The service button is held down from now on, or let go."""
        raise self._lacking("service button")

    def press_patient(self, seconds: float = 0.3) -> None:
        """Press the patient's button, let ``seconds`` of the bench's time pass, let it go. Less
        than 30 ms is no press."""
        self.set_patient(True)
        try:
            self.advance(us=round(seconds * 1_000_000))
        finally:
            self.set_patient(False)

    def set_patient(self, held: bool) -> None:
        """The patient's button is held down from now on, or let go."""
        raise self._lacking("patient's button")

    def set_battery(self, battery_mv: int) -> None:
        """The pump's battery has ``battery_mv`` from now on."""
        raise self._lacking("way to the battery")

    def read_flash_file(self, path: str) -> bytes:
        """A file of the pump's file system, read from outside. The power must be off."""
        raise self._lacking("way into the flash")

    def write_flash_file(self, path: str, content: bytes) -> None:
        """Replace a file of the pump's file system from outside. The power must be off."""
        raise self._lacking("way into the flash")

    def cut_power(self) -> None:
        """Take the pump's power away, now. The plant stays as it is."""
        raise self._lacking("power")

    def power_on(self) -> None:
        """Give the pump power and wait until it answers, or until a cut that was armed takes the
        power away again: see ``powered``."""
        raise self._lacking("power")

    @property
    def powered(self) -> bool:
        """The pump has power."""
        raise self._lacking("power")

    def cut_power_at(
        self,
        *,
        cycle: int | None = None,
        flash_op: int | None = None,
        torn: str | None = None,
        us: int | None = None,
    ) -> None:
        """Arm one power cut in place of any other, counted from now or, when the power is off,
        from when it comes. It happens in whatever then moves time: ``advance``, a programmer's
        request, ``power_on``. After it ``powered`` is False, and a link raises NoPump.

        ``cycle``: behind the instruction in which the processor has executed that many cycles.
        ``flash_op``: before the n-th (1: the next) program or erase of the flash changes
        anything, or with ``torn`` in the middle of it, leaving it in that shape, one of those
        that the bench knows (all know half_program and half_erase). ``us``: after that much
        simulated time.
        """
        raise self._lacking("power cuts")

    def disarm_cut(self) -> None:
        """Forget the cut that ``cut_power_at`` armed."""
        raise self._lacking("power cuts")

    def unplug(self) -> None:
        """Pull the cable of the pump's serial port; the pump keeps its power."""
        raise self._lacking("cable")

    def replug(self) -> None:
        """Put the cable in again and wait until the pump answers."""
        raise self._lacking("cable")


class SerialBench(Bench):
    """A board on a serial port with no instruments: only the pump itself can be asked, and time
    passes as it does. The pump keeps what it had: one bench follows another on the same pump. Its
    ``keys`` are the user's by default: pair it before, in each role that is wanted.

    Raises NoPump, WrongVersion when no pump for this programmer answers.
    """

    name = "serial"
    offers = frozenset({"advance"})

    def __init__(self, port: str, keys: KeyStore | None = None) -> None:
        self._port = port
        self.keys = keys or KeyStore.of_user()
        self.programmer().close()

    def _advance_us(self, us: int) -> None:
        time.sleep(us / 1e6)

    @property
    def port(self) -> str:
        return self._port

    def wait_answer(self) -> None:
        """Wait until the pump answers, after its power came. Raises NoPump."""
        end = time.monotonic() + _BOOT_S
        while True:
            try:
                self.programmer().close()
                return
            except NoPump:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def close(self) -> None:
        pass


def open_bench(
    name: str = "virtual",
    *,
    seed: int = 0,
    trace: bool = True,
    deploy: Literal["image", "mpremote"] = "image",
) -> Bench:
    """Open a bench: "virtual", "emulated", a file that describes one, ``labgrid:`` and an
    environment file, or a serial port.

    ``seed`` makes a simulated bench repeatable. ``trace=False`` on the virtual bench keeps no
    edges. ``deploy``: how the firmware gets on the emulated Pico, see EmulatedBench.
    """
    if name == "virtual":
        from cisterna.bench_virtual import VirtualBench

        return VirtualBench(seed=seed, trace=trace)
    if name == "emulated":
        from cisterna.bench_emulated import EmulatedBench

        return EmulatedBench(seed=seed, deploy=deploy)
    if name.startswith("labgrid:"):
        try:
            from cisterna.labgrid_driver import open_lab
        except ImportError:
            raise CisternaError(
                "boards of a lab need labgrid", "install it: pip install labgrid"
            ) from None
        return open_lab(name.removeprefix("labgrid:"))
    if name.endswith(".toml"):
        from cisterna.bench_file import FileBench

        return FileBench(Path(name))
    return SerialBench(name)
