"""What rp2040py 0.3.6 does not do as the silicon does, put right from outside.

Each class is one defect: its symptom, the smallest program that shows it, and when the class may
be deleted. ``host_tools/tests/test_emulator.py`` runs each reproduction with and without its
class. The emulator's objects are compiled and their internals untyped, hence ``Any``.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from rp2040py.gpio_pin import GPIOPinState

CYCLE_NS = 8.0  # clk_sys of 125 MHz: what the emulator assumes and MicroPython 1.28 sets
_FP = 256  # the emulator counts PIO time in 1/256 cycles
_NEVER_FP = 1 << 62  # a due instant as late as this, or later, is none
_RX_FIFOS = range(0x20, 0x30, 4)  # registers RXF0 to RXF3
_DELAY = 0x1F00  # of a PIO instruction
_LOOPS = {0x0040: "x", 0x0080: "y"}  # jmp(x_dec, 0), jmp(y_dec, 0)
_DRIVEN = (GPIOPinState.LOW, GPIOPinState.HIGH)  # by the chip
_SHORTEST_LOOP = 8  # worth passing over


class NakingHost:
    """The host side of the USB serial port: octets to the board, and NAK while there are none.

    Symptom: the emulated host answers every armed OUT endpoint within 10 us, with an empty packet
    when it has nothing to send. The firmware takes the packet, arms the endpoint again, and spends
    all of its time in the USB interrupt: one idle second costs 28 s.

    Reproduction, with any RPI_PICO image::

        device = MicroPythonDevice(board=pico)
        await device.astart()
        await device.aexec("import time; time.sleep(1)")  # half a minute instead of 0.2 s

    ``USBCDC._on_endpoint_read`` calls ``endpoint_read_done`` with an empty buffer. A real host
    sends no packet then, which the device sees as nothing at all.

    Delete when an idle second costs well under a second without it.
    """

    def __init__(self, cdc: Any) -> None:
        self._cdc = cdc
        self._usb = cdc.usb
        self._waiting: deque[bytes] = deque()
        self._armed: deque[int] = deque()  # sizes of OUT transfers that wait for octets
        self._answer_other: Callable[[int, int], None] = cdc.usb.on_endpoint_read
        self._reset_host: Callable[[], None] = cdc.usb.on_reset
        cdc.usb.on_endpoint_read = self._on_read
        cdc.usb.on_reset = self._on_reset

    @property
    def queued(self) -> int:
        """Octets that the board has not taken yet."""
        return sum(map(len, self._waiting))

    def write(self, data: bytes) -> None:
        """Hand ``data`` (any size) to the board, as fast as it takes it."""
        if data:
            self._waiting.append(bytes(data))
        while self._armed and self._waiting:
            self._transfer(self._armed.popleft())

    def _on_read(self, endpoint: int, size: int) -> None:
        if endpoint == 0 or endpoint != self._cdc._out_endpoint:
            self._answer_other(endpoint, size)
        elif self._waiting:
            self._transfer(size)
        else:
            self._armed.append(size)

    def _transfer(self, size: int) -> None:
        packet = bytearray()
        while self._waiting and len(packet) < size:
            piece = self._waiting.popleft()
            room = size - len(packet)
            packet += piece[:room]
            if len(piece) > room:
                self._waiting.appendleft(piece[room:])
        self._usb.endpoint_read_done(self._cdc._out_endpoint, packet)

    def _on_reset(self) -> None:
        self._armed.clear()
        self._waiting.clear()
        self._reset_host()


class PioPacer:
    """Keeps the PIO blocks at their own rate, whether the processor sleeps or works.

    Symptom: while the core waits for an event, simulated time jumps from one scheduled alarm to
    the next, and a jump is worth one PIO instruction however far it goes. A state machine that
    should toggle a pin every 50 us does so when something happens to wake the core. While the core
    works, an instruction of more than 8 cycles makes a state machine forget the cycles it is late
    by.

    Reproduction::

        @rp2.asm_pio(set_init=rp2.PIO.OUT_LOW)
        def square():
            set(pins, 1) [31]
            set(pins, 0) [31]
        rp2.StateMachine(0, square, freq=640_000, set_base=Pin(2)).active(1)  # 10 kHz on the pin
        time.sleep(1)                                                   # some hundred edges

    ``RPPIO.advance`` runs at most one instruction a call and re-arms what is overdue by more than
    8 cycles from now; ``execute_batch`` calls it once a jump.

    The cure: the blocks no longer run with the processor but from alarms, one at the next due
    instant of each, which the clock then stands at.

    With that, a state machine that waits by counting down costs an alarm for every turn: ``wait``
    below, at 1 MHz, takes a minute of ours for each of its seconds::

        label("wait")
        jmp(x_dec, "wait")

    A loop of this one instruction is passed over in one go. Nothing can see the register while it
    runs but a write to the block's registers, and before each of those the loop is put where it
    would have been: to the cycle what the silicon does.

    What an instruction that the processor gives to a state machine (``exec``) does to a pin is
    seen only when some state machine of the block next runs; here, at once.

    Delete when both reproductions run at their rate, and faster than real time, without it, and
    ``exec("set(pins, 1)")`` on a state machine that is off raises the pin.
    """

    def __init__(self, mcu: Any) -> None:
        self._blocks = [_PacedBlock(mcu, pio) for pio in mcu.pio]
        for address, peripheral in list(mcu.peripherals.items()):
            for block in self._blocks:
                if peripheral is block.pio:
                    mcu.peripherals[address] = _WatchedRegisters(
                        block.pio, block.before_write, self.attend
                    )

    def processor_of(self, simulator: Any) -> Any:
        """What to run in place of ``simulator``: the processor without its PIO blocks."""
        return _ProcessorOnly(simulator)

    def catch_up(self) -> None:
        """Something outside the blocks is about to happen that they may hear of."""
        for block in self._blocks:
            block.catch_up()

    def attend(self) -> None:
        """Look at all blocks again: something outside them may have started a state machine."""
        for block in self._blocks:
            block.attend()


class _ProcessorOnly:
    """As much of a ``Simulator`` as ``execute_batch`` uses, of a chip with no PIO block to run."""

    def __init__(self, simulator: Any) -> None:
        chip = cast("Any", type(simulator.rp2040))
        self.rp2040 = chip.__new__(chip)
        self.rp2040.core = simulator.rp2040.core
        self.rp2040.pio = []
        self.rp2040._run_pin_low = False
        self.clock = simulator.clock
        self.stopped = True


class _WatchedRegisters:
    """A PIO block on the bus, telling of every write to it before and after."""

    def __init__(
        self, pio: Any, before_write: Callable[[], None], after_write: Callable[[], None]
    ) -> None:
        self._pio = pio
        self._before_write = before_write
        self._after_write = after_write
        self._look_at_pins: Callable[[], None] = pio.check_changed_pins
        self.reset = pio.reset

    def read_uint32(self, offset: int) -> int:
        if offset not in _RX_FIFOS:
            return self._pio.read_uint32(offset)
        self._before_write()  # room in a FIFO may be what a state machine waits for
        value = self._pio.read_uint32(offset)
        self._after_write()
        return value

    def write_uint32(self, offset: int, value: int) -> None:
        self._before_write()
        self._pio.write_uint32(offset, value)
        self._look_at_pins()
        self._after_write()

    def write_uint32_atomic(self, offset: int, value: int, atomic_type: int) -> None:
        self._before_write()
        self._pio.write_uint32_atomic(offset, value, atomic_type)
        self._look_at_pins()
        self._after_write()


class _Loop(NamedTuple):
    """A ``jmp(x_dec, itself)`` that is being passed over."""

    machine: Any
    register: str
    held: int  # what the register held: as many turns jump back
    from_fp: int  # when its first turn was due
    turn: int  # cycles of a turn
    end_fp: int


class _PacedBlock:
    """One PIO block and the alarm that runs it."""

    def __init__(self, mcu: Any, pio: Any) -> None:
        self.pio = pio
        self._clock = mcu.clock
        self._alarm = mcu.clock.create_alarm(self._at_due)
        self._running = False
        self._stepping = False
        self._origin_ns = 0.0  # instant at which cycle_fp was 0
        self._loops: list[_Loop] = []

    def catch_up(self) -> None:
        """Set the block's cycle counter from the clock."""
        if self._running and not self._stepping:
            self.pio.cycle_fp = int((self._clock.nanos - self._origin_ns) * _FP / CYCLE_NS)

    def before_write(self) -> None:
        """A register is about to be written: everything as it is at this instant."""
        if not self._running or self.pio.stopped:
            self._loops.clear()
            return
        self.catch_up()
        self._leave_loops()

    def attend(self) -> None:
        """Await the next due instant, which may be another than before."""
        if self._stepping:
            return
        pio = self.pio
        if pio.stopped:
            if self._running:
                self._running = False
                self._alarm.cancel()
            return
        if not self._running:
            self._running = True
            self._origin_ns = self._clock.nanos - pio.cycle_fp * CYCLE_NS / _FP
        self._enter_loops()
        if pio.next_due_fp >= _NEVER_FP:  # nothing to do until something outside happens
            self._alarm.cancel()
            return
        due_ns = self._origin_ns + pio.next_due_fp * CYCLE_NS / _FP
        self._alarm.schedule(max(due_ns - self._clock.nanos, 0.0))

    def _at_due(self) -> None:
        pio = self.pio
        if not pio.stopped and pio.next_due_fp < _NEVER_FP:
            self.catch_up()
            pio.cycle_fp = max(pio.cycle_fp, pio.next_due_fp)  # the instant was rounded to floats
            self._stepping = True
            try:
                pio.advance(0)
            finally:
                self._stepping = False
        self.attend()

    def _enter_loops(self) -> None:
        pio = self.pio
        for machine in pio.machines:
            if not machine.enabled or machine.waiting or machine.exec_valid:
                continue
            opcode = pio.instructions[machine.pc]
            register = _LOOPS.get(opcode & ~_DELAY & 0xFFFF ^ machine.pc)
            if register is None or machine.sideset_count:
                continue
            count = getattr(machine, register)
            if count < _SHORTEST_LOOP:
                continue
            turn = 1 + ((opcode & _DELAY) >> 8)
            from_fp = machine.next_due_fp
            end_fp = from_fp + count * turn * machine.div_fp
            self._loops = [loop for loop in self._loops if loop.machine is not machine]
            self._loops.append(_Loop(machine, register, count, from_fp, turn, end_fp))
            self._put(machine, register, 0, count * turn, end_fp)

    def _leave_loops(self) -> None:
        for machine, register, held, from_fp, turn, end_fp in self._loops:
            now_fp = self.pio.cycle_fp
            if machine.next_due_fp != end_fp or now_fp >= end_fp:
                continue  # it is over, or was changed
            turn_fp = turn * machine.div_fp
            done = (now_fp - from_fp) // turn_fp + 1 if now_fp >= from_fp else 0
            left = held - done
            self._put(machine, register, left, -left * turn, from_fp + done * turn_fp)
        self._loops.clear()

    def _put(self, machine: Any, register: str, value: int, cycles: int, due_fp: int) -> None:
        setattr(machine, register, value)
        machine.cycles += cycles
        machine.next_due_fp = due_fp
        self.pio.recompute_due()


class OutputsAreInputs:
    """Lets the chip read the pins that it drives itself.

    Symptom: a state machine that waits for an edge of a pin which another one drives waits for
    ever, and ``Pin.value()`` of such a pin is 0.

    Reproduction::

        @rp2.asm_pio(set_init=rp2.PIO.OUT_LOW)
        def high():
            set(pins, 1)
            pull()
        rp2.StateMachine(0, high, set_base=Pin(2)).active(1)
        Pin(2).value()  # 0

    ``GPIOPin.input_value`` knows what drives the pin from outside and the pull resistors; the
    silicon's input sees the pad, whoever drives it. While the chip drives a pin, what drives it
    from outside is not told apart; when the chip lets go of it, nothing drives it.

    Delete when the reproduction prints 1 without it.
    """

    def __init__(self, mcu: Any, pacer: PioPacer) -> None:
        self._pacer = pacer
        self._held: set[Any] = set()  # pins whose input follows what the chip drives
        for gpio in mcu.gpio:
            gpio.add_listener(functools.partial(self._on_change, gpio))

    def _on_change(self, gpio: Any, state: GPIOPinState, before: GPIOPinState) -> None:
        self._pacer.catch_up()
        if state in _DRIVEN:
            self._held.add(gpio)
            gpio.set_input_value(state == GPIOPinState.HIGH)
        elif before in _DRIVEN:
            self._held.discard(gpio)
            gpio.release_input()
        self._pacer.attend()

    def look(self) -> None:
        """The chip was reset, which lets go of pins without telling listeners."""
        for gpio in [gpio for gpio in self._held if gpio.value not in _DRIVEN]:
            self._held.discard(gpio)
            gpio.release_input()
