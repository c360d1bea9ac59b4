"""A Raspberry Pi Pico on the PC: the unmodified MicroPython image in rp2040py.

Simulated time moves only in ``run`` and while a reader of the serial link waits; it stands still
while the host thinks. Everything happens in the caller's thread, one caller at a time.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

import littlefs
from rp2040py.boards import BOARDS, resolve_firmware
from rp2040py.device.bootrom import BOOTROM_B1
from rp2040py.device.load_flash import load_uf2  # pyright: ignore[reportUnknownVariableType]
from rp2040py.execute_batch import execute_batch
from rp2040py.gpio_pin import GPIOPinState
from rp2040py.peripherals.vreg_and_chip_reset import HAD_POR
from rp2040py.rp2040 import RP2040
from rp2040py.simulator import Simulator
from rp2040py.usb.cdc import USBCDC
from rp2040py.utils.logging import ConsoleLogger, LogLevel

from cisterna.emulator_cuts import ArmedCut, CycleAlarms, Instants
from cisterna.emulator_fixes import CYCLE_NS, NakingHost, OutputsAreInputs, PioPacer
from cisterna.emulator_flash import FlashChip
from cisterna.emulator_interrupts import InterruptWatch
from cisterna.emulator_usb import UsbCable
from cisterna.errors import CisternaError

IMAGE_VARIABLE = "CISTERNA_PICO_UF2"
IMAGE_FILE = Path("~/.cache/cisterna/RPI_PICO.uf2")
IMAGE_VERSION = "1.28.0"

# The Pico's flash and where the stock RPI_PICO image keeps its file system: 1,408 KiB at the end
# of 2 MiB (MicroPython, ports/rp2/boards/RPI_PICO), mounted by its _boot.py with 256-octet
# programs.
FLASH_SIZE = 2 * 1024 * 1024
FILES_AT = 0xA0000
FILES_BLOCK = 4096
FILES_BLOCKS = 352
FILES_PROGRAM = 256

_PINS = 30
_NEVER_NS = float("inf")


class NoPicoImage(CisternaError):
    """No MicroPython image for the emulated Pico."""


class EmulatorFailed(CisternaError):
    """The emulated Pico did not do what a Pico does."""


class PinEdge(NamedTuple):
    """A line changed: when (simulated nanoseconds since the emulator was made), which, to what."""

    t_ns: int
    line: str
    level: int


def find_pico_image() -> Path:
    """The RPI_PICO image (UF2): the one named by CISTERNA_PICO_UF2, else the one in
    ``~/.cache/cisterna``, else the official one, downloaded once.

    Raises NoPicoImage naming all three.
    """
    named = os.environ.get(IMAGE_VARIABLE)
    if named:
        if Path(named).is_file():
            return Path(named)
        raise NoPicoImage(
            f"{IMAGE_VARIABLE} names {named}, which is no file",
            remedy="name a MicroPython RPI_PICO .uf2 in it, or unset it",
        )
    cached = IMAGE_FILE.expanduser()
    if cached.is_file():
        return cached
    try:
        found = resolve_firmware(BOARDS["pico"], "micropython", IMAGE_VERSION).image
        problem = "it is not to be had"
    except (OSError, ValueError) as error:
        found, problem = None, str(error)
    if found is not None and Path(found).is_file():
        return Path(found)
    raise NoPicoImage(
        f"no MicroPython image for the emulated Pico: {IMAGE_VARIABLE} is not set, {IMAGE_FILE}"
        f" does not exist, and RPI_PICO {IMAGE_VERSION} cannot be downloaded ({problem})",
        remedy=f"download RPI_PICO {IMAGE_VERSION} (.uf2) from micropython.org to {IMAGE_FILE}",
    )


def _littlefs(mount: bool) -> littlefs.LittleFS:
    return littlefs.LittleFS(
        block_size=FILES_BLOCK,
        block_count=FILES_BLOCKS,
        read_size=32,
        prog_size=FILES_PROGRAM,
        cache_size=4 * FILES_PROGRAM,
        lookahead_size=32,
        mount=mount,
    )


def file_system_image(files: Mapping[str, bytes]) -> bytes:
    """The file system of a stock RPI_PICO image with ``files`` in it (absolute paths)."""
    fs = _littlefs(mount=False)
    fs.format()
    fs.mount()
    _write_files(fs, files)
    fs.unmount()
    return bytes(fs.context.buffer)


def _write_files(fs: littlefs.LittleFS, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        folder = PurePosixPath(path).parent
        if str(folder) != "/":
            fs.makedirs(str(folder), exist_ok=True)
        with cast("IO[bytes]", fs.open(path, "wb")) as file:
            file.write(data)


def files_of(image: bytes) -> dict[str, bytes]:
    """What a file system image holds: absolute path -> content. Raises LittleFSError."""
    fs = _littlefs(mount=False)
    fs.context.buffer = bytearray(image)
    fs.mount()
    found: dict[str, bytes] = {}
    for folder, _, names in fs.walk("/"):
        for name in names:
            path = str(PurePosixPath(folder) / name)
            with cast("IO[bytes]", fs.open(path, "rb")) as file:
                found[path] = file.read()
    return found


class EmulatedPico:
    """One Pico. Its power is off until ``power_on``.

    ``image``: the MicroPython image, found by ``find_pico_image`` when None. ``files``: what its
    file system holds (absolute path -> content); None leaves the flash blank behind the image, and
    MicroPython makes a file system at its first start. ``flash``: whole content of the flash, as
    ``flash_image`` gives it, in place of both. ``seed``: what is random in it (content of RAM at
    power on, torn flash operations) repeats with the same seed.
    """

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        *,
        image: Path | None = None,
        flash: bytes | None = None,
        seed: int = 0,
        unique_id: bytes = bytes.fromhex("e660c15c00000001"),
    ) -> None:
        self.lock = threading.RLock()  # held by every method; hold it to keep several together
        self._rng = random.Random(seed)
        self._mcu: Any = RP2040()
        simulator = Simulator(rp2040=self._mcu)
        self._clock: Any = self._mcu.clock
        self._mcu.load_bootrom(BOOTROM_B1)
        self._mcu.logger = ConsoleLogger(LogLevel.ERROR)
        self._cdc: Any = USBCDC(self._mcu.usb_ctrl)
        self._host = NakingHost(self._cdc)
        self._cable = UsbCable(self._mcu, self._cdc)
        self._pacer = PioPacer(self._mcu)
        self._simulator = self._pacer.processor_of(simulator)
        self._pads = OutputsAreInputs(self._mcu, self._pacer)
        self.flash = FlashChip(self._mcu, lambda: self._simulator.stopped, unique_id)
        if flash is not None:
            if len(flash) != FLASH_SIZE:
                raise ValueError(f"flash of {len(flash)} octets, a Pico has {FLASH_SIZE}")
            self._mcu.flash[:FLASH_SIZE] = flash
        else:
            load_uf2(image or find_pico_image(), self._mcu)
            if files is not None:
                content = file_system_image(files)
                self._mcu.flash[FILES_AT : FILES_AT + len(content)] = content
        self._received = bytearray()
        self._wake_on_octets = False
        self.connected = False
        self._cdc.on_serial_data = self._on_octets
        self._cdc.on_device_connected = self._on_connected
        self._mcu.watchdog.on_watchdog_trigger = self._watchdog_reset
        self._stop_alarm = self._clock.create_alarm(self._stop)
        self._cycles_before = 0  # that the core counted before its last reset
        alarms = CycleAlarms(self._mcu, lambda: self.awake_cycles)
        self._cut = ArmedCut(self._mcu, self.flash, alarms, self._stop)
        self._instants = Instants(alarms)
        self._lines: list[_Line] = []
        self.edges: list[PinEdge] = []
        self.on_edge: Callable[[PinEdge], None] | None = None
        self.resets = 0  # by the watchdog, which is also how machine.reset() works
        self.usb_losses = 0  # times that the board went off USB
        self._interrupts: InterruptWatch | None = None
        self.powered = False
        self._mcu.set_run_pin(low=True)

    # -- time -----------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """Simulated nanoseconds since this object was made; they go on while the power is off."""
        return int(self._clock.nanos)

    @property
    def awake_cycles(self) -> int:
        """Cycles of 8 ns that the processor spent executing instructions, polling the flash chip
        among them. The emulator counts some waits for the bus that take no simulated time: up to
        a tenth too many."""
        return int(self._cycles_before + self._mcu.core.cycles + self.flash.polled_cycles)

    @property
    def awake_ns(self) -> int:
        """The same in ns."""
        return int(self.awake_cycles * CYCLE_NS)

    def run(self, us: float) -> None:
        """Let ``us`` of simulated time pass."""
        with self.lock:
            self._run_to(self._clock.nanos + us * 1000)

    def run_until(self, condition: Callable[[], bool], timeout_us: float) -> bool:
        """Run until ``condition()``, looked at every simulated millisecond and whenever octets
        arrive; False if it did not come true in ``timeout_us`` or before the power went."""
        with self.lock:
            end_ns = self._clock.nanos + timeout_us * 1000
            while not condition():
                if self._clock.nanos >= end_ns or not self.powered:
                    return False
                self._run_to(min(self._clock.nanos + 1e6, end_ns), wake_on_octets=True)
        return True

    def _run_to(self, end_ns: float, wake_on_octets: bool = False) -> None:
        """Run to ``end_ns``, or until octets arrive. A cut that was armed may happen before; time
        then goes on without the chip, but not for who waits for octets."""
        if self.powered:
            self._run_chip(end_ns, wake_on_octets)
            if not self._cut.due:
                return
            self.cut_power()
            if wake_on_octets:
                return
        self._clock.tick(max(end_ns - self._clock.nanos, 0.0))

    def _run_chip(self, end_ns: float, wake_on_octets: bool) -> None:
        simulator = self._simulator
        self._pacer.attend()
        if self._interrupts is not None:
            self._interrupts.attend()
        self._wake_on_octets = wake_on_octets
        self._stop_alarm.schedule(max(end_ns - self._clock.nanos, 0.0))
        simulator.stopped = False
        try:
            while not simulator.stopped:
                execute_batch(simulator, 1)
        finally:
            simulator.stopped = True
            self._stop_alarm.cancel()

    def _stop(self) -> None:
        self._simulator.stopped = True

    # -- power ----------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Power comes: RAM holds anything, flash what it held."""
        with self.lock:
            if self.powered:
                return
            self.powered = True
            self._mcu.sram[:] = self._rng.randbytes(len(self._mcu.sram))
            self._mcu.watchdog.reset()
            self._mcu.vreg_and_chip_reset.record_reset_cause(HAD_POR)
            self._mcu.set_run_pin(low=False)
            self._instants.begin()
            self._cut.begin()

    def cut_power(self) -> None:
        """Power goes, in the middle of whatever happens: pins are released, RAM is lost, a flash
        operation that is not over leaves its place half done."""
        with self.lock:
            if not self.powered:
                return
            self.powered = False
            self._cut.disarm()
            self._instants.cancel()
            self.flash.cut_power(self._rng)
            self._reset(lambda: self._mcu.set_run_pin(low=True))

    def cut_power_at(
        self,
        *,
        cycle: int | None = None,
        flash_op: int | None = None,
        torn: str | None = None,
        us: float | None = None,
    ) -> None:
        """Arm a power cut, see ``Bench.cut_power_at``."""
        with self.lock:
            self._cut.arm(cycle, flash_op, torn, us)
            if self.powered:
                self._cut.begin()

    def watch_cuts(self, cycles: Iterable[int], seen: Callable[[bytes], None]) -> None:
        """``seen`` is given the whole content of the flash as a cut would leave it, at each of
        ``cycles`` of the processor from here (from power on, while it is off) that comes before
        the power goes. It is called inside the emulator and must not let time pass."""
        with self.lock:
            self._instants.watch(cycles, lambda: seen(self.flash.content_if_cut(self._rng)))
            if self.powered:
                self._instants.begin()

    def disarm_cut(self) -> None:
        """Forget the cut that ``cut_power_at`` armed."""
        with self.lock:
            self._cut.disarm()

    def _watchdog_reset(self) -> None:
        self.resets += 1
        self._reset(lambda: self._mcu.enter_reset(from_watchdog=True))
        self._mcu.leave_reset()

    def _reset(self, enter: Callable[[], None]) -> None:
        cycles = self._mcu.core.cycles
        enter()
        self._cycles_before += cycles - self._mcu.core.cycles
        self._lost_usb()
        self._pads.look()
        for line in self._lines:
            line.look()

    def _lost_usb(self) -> None:
        if self.connected:
            self.usb_losses += 1
        self.connected = False

    # -- the cable ------------------------------------------------------------------------------

    @property
    def plugged(self) -> bool:
        """The USB cable is in."""
        return self._cable.plugged

    def unplug(self) -> None:
        """Pull the USB cable; the board keeps its power. Octets under way are lost."""
        with self.lock:
            self._cable.unplug()
            self._lost_usb()

    def replug(self) -> None:
        """Put the USB cable in again. The host finds the board as time runs."""
        with self.lock:
            self._cable.replug(self.powered)

    def wait_connected(self, timeout_us: float = 2_000_000) -> None:
        """Run until the board is on USB. Raises EmulatorFailed after ``timeout_us`` or when the
        power goes."""
        if not self.run_until(lambda: self.connected, timeout_us):
            raise EmulatorFailed(
                f"the emulated Pico did not appear on USB within {timeout_us / 1e6:g} s",
                remedy="is the image a MicroPython RPI_PICO one?",
            )

    def watch_interrupts(self) -> InterruptWatch:
        """From now on, note how long interrupts are off. It costs half the speed."""
        with self.lock:
            if self._interrupts is None:
                self._interrupts = InterruptWatch(self._mcu, self.flash)
            return self._interrupts

    # -- flash ----------------------------------------------------------------------------------

    def flash_image(self) -> bytes:
        """Whole content of the flash."""
        with self.lock:
            return bytes(self._mcu.flash[:FLASH_SIZE])

    def files(self) -> dict[str, bytes]:
        """What the board's file system holds now, as a fresh mount would see it."""
        return files_of(self.flash_image()[FILES_AT:])

    def put_files(self, files: Mapping[str, bytes]) -> None:
        """Put files on the board's file system. The power must be off."""
        with self.lock:
            fs = _littlefs(mount=False)
            fs.context.buffer = bytearray(self.flash_image()[FILES_AT:])
            fs.mount()
            _write_files(fs, files)
            fs.unmount()
            self._mcu.flash[FILES_AT:FLASH_SIZE] = bytes(fs.context.buffer)

    # -- pins -----------------------------------------------------------------------------------

    def watch(self, name: str, pin: int, undriven: int) -> None:
        """Record the edges of ``pin`` (GPIO number) as line ``name``. ``undriven``: the level that
        the board's resistor gives it while nothing drives it."""
        if not 0 <= pin < _PINS:
            raise ValueError(f"GPIO {pin}: a Pico has 0 to {_PINS - 1}")
        gpio = self._mcu.gpio[pin]
        self._lines.append(_Line(gpio, name, undriven, self._record, lambda: self.now_ns))

    def level(self, name: str) -> int:
        """Level of a watched line now."""
        return next(line.level for line in self._lines if line.name == name)

    def driven_ns(self, name: str) -> int | None:
        """When the chip began to drive a watched line after its last reset; None: it has not."""
        return next(line.driven_ns for line in self._lines if line.name == name)

    def drive(self, pin: int, level: int | None) -> None:
        """Drive ``pin`` from outside; None lets go of it."""
        with self.lock:
            self._pacer.catch_up()
            if level is None:
                self._mcu.gpio[pin].release_input()
            else:
                self._mcu.gpio[pin].set_input_value(bool(level))
            self._pacer.attend()

    def listen(self, pin: int, heard: Callable[[int], None]) -> None:
        """``heard(level)`` is called at every edge of ``pin`` while the chip drives it."""

        def on_change(state: GPIOPinState, _: GPIOPinState) -> None:
            if state in (GPIOPinState.LOW, GPIOPinState.HIGH):
                heard(int(state == GPIOPinState.HIGH))

        self._mcu.gpio[pin].add_listener(on_change)

    def set_analogue(self, channel: int, value: int) -> None:
        """What the converter reads at ADC ``channel`` (0 to 3): 0 to 4095 of its reference."""
        self._mcu.adc.channel_values[channel] = value

    def _record(self, name: str, level: int) -> None:
        edge = PinEdge(int(self._clock.nanos), name, level)
        self.edges.append(edge)
        if self.on_edge is not None:
            self.on_edge(edge)

    # -- serial link ----------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Give octets to the USB serial port; the board takes them as time runs. They are lost
        while the board is not on USB."""
        with self.lock:
            if self.connected:
                self._host.write(data)

    def receive(self, timeout_us: float = 0) -> bytes:
        """What the board has sent; runs up to ``timeout_us`` for the first octet."""
        with self.lock:
            if not self._received and timeout_us > 0:
                end_ns = self._clock.nanos + timeout_us * 1000
                if not self.powered:
                    self._run_to(end_ns)
                while not self._received and self._clock.nanos < end_ns and self.powered:
                    self._run_to(end_ns, wake_on_octets=True)
            data = bytes(self._received)
            self._received.clear()
            return data

    def set_terminal(self, present: bool) -> None:
        """A program on the host has the port open, or has closed it (DTR)."""
        with self.lock:
            if self.connected:
                self._cdc.set_control_lines(dtr=present, rts=present)

    def _on_octets(self, data: bytes | bytearray) -> None:
        self._received += data
        if data and self._wake_on_octets:
            self._simulator.stopped = True

    def _on_connected(self) -> None:
        self.connected = True


class _Line:
    """A pin whose edges are recorded."""

    def __init__(
        self,
        gpio: Any,
        name: str,
        undriven: int,
        record: Callable[[str, int], None],
        now_ns: Callable[[], int],
    ) -> None:
        self.name = name
        self.driven_ns: int | None = None  # since when the chip drives it, if it has since reset
        self._now_ns = now_ns
        self._gpio = gpio
        self._undriven = undriven
        self._record = record
        self.level = self._level_of(gpio.value)
        gpio.add_listener(self._on_change)

    def _level_of(self, state: GPIOPinState) -> int:
        if state == GPIOPinState.HIGH:
            return 1
        return 0 if state == GPIOPinState.LOW else self._undriven

    def _on_change(self, state: GPIOPinState, _: GPIOPinState) -> None:
        if self.driven_ns is None and state in (GPIOPinState.LOW, GPIOPinState.HIGH):
            self.driven_ns = self._now_ns()
        level = self._level_of(state)
        if level != self.level:
            self.level = level
            self._record(self.name, level)

    def look(self) -> None:
        """The chip was reset, which changes pins without telling listeners."""
        self.driven_ns = None
        self._on_change(self._gpio.value, self._gpio.value)
