"""The emulated Pico's flash chip as the silicon's is: busy times, page wrap, unique id, wear, and
what a power cut leaves of an operation.

Symptom of rp2040py 0.3.6 without it: an erase call takes 0.15 ms and a page program 0.1 ms, so
that no test meets the 45 ms for which a real chip keeps interrupts off. A program that runs over
the end of a page goes on in the next one, where a real chip wraps round. ``machine.unique_id()``
is eight times FF.

Reproduction::

    t = time.ticks_us(); rp2.Flash().ioctl(6, 351); print(time.ticks_diff(time.ticks_us(), t))

``RPSSI._shift_byte`` never reports the busy bit of the status register. ``FlashChip`` may go when
the reproduction prints about 45,000 without it; power cuts and wear then need a home elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from cisterna.emulator_fixes import CYCLE_NS

# What a power cut may leave of an operation. A NOR chip erases by first programming all to 0, and
# its cells settle neither all at once nor in order.
TORN_PROGRAMS = ("half_program", "last_program", "weak_program")
TORN_ERASES = ("half_erase", "last_erase", "weak_erase", "zero_erase", "noise_erase")


class FlashChip:
    """Winbond W25Q16JV behind the emulator's SSI.

    Times are its typical ones (Winbond's data sheet, AC characteristics): sector erase 45 ms,
    block erase 150 ms, page program 0.4 ms. The loop in which the boot ROM polls the status is
    passed over in one go; alarms and PIO see all of that time.

    ``erases``, ``programs``: operations since construction. ``sector_erases``: by sector.
    ``polled_cycles``: cycles that the processor spent in that loop, which its own counter lacks.
    """

    SECTOR_ERASE_NS = 45_000_000
    BLOCK_ERASE_NS = 150_000_000
    PAGE_PROGRAM_NS = 400_000
    SIZE = 2 * 1024 * 1024
    SECTOR = 4096
    BLOCK = 65536
    PAGE = 256

    _PROGRAM, _ERASE, _BLOCK_ERASE, _READ_STATUS, _READ_ID = 0x02, 0x20, 0xD8, 0x05, 0x4B
    _BUSY = 0x01

    def __init__(self, mcu: Any, is_stopped: Callable[[], bool], unique_id: bytes) -> None:
        self._mcu = mcu
        self._clock = mcu.clock
        self._is_stopped = is_stopped
        self._unique_id = unique_id
        self._busy_from = self._busy_until = 0.0
        self._undo: tuple[int, bytes] | None = None  # place and content before the last operation
        self._cut_at = 0  # operation before or in which the power goes; 0: none
        self._cut_shape: str | None = None
        self._cut: Callable[[], None] = _nothing
        self._torn_as: str | None = None
        self._ssi = mcu.ssi
        self._shift_other: Callable[[int], int] = mcu.ssi._shift_byte
        self._apply_other: Callable[[], None] = mcu.ssi._apply_command
        mcu.ssi._shift_byte = self._shift
        mcu.ssi._apply_command = self._apply
        self.erases = 0
        self.programs = 0
        self.polled_cycles = 0
        self.sector_erases: dict[int, int] = {}

    # -- power ----------------------------------------------------------------------------------

    def cut_at(self, operation: int, shape: str | None, cut: Callable[[], None]) -> None:
        """Have ``cut`` called at the ``operation``-th program or erase from now (1: the next),
        before it changes anything; with ``shape`` (one of TORN_...) in the middle of it."""
        self._cut_at = self.erases + self.programs + operation
        self._cut_shape = shape
        self._cut = cut

    def cancel_cut(self) -> None:
        """Forget ``cut_at``."""
        self._cut_at = 0
        self._cut = _nothing

    def cut_power(self, rng: random.Random) -> None:
        """Power goes now: an operation that is not over leaves its place half done.

        Left to chance, a program leaves some bits that should have fallen, and an erase leaves
        bits that should have risen, at random in proportion to the time that was left.
        """
        at, torn = self._left_by_cut(rng)
        self._mcu.flash[at : at + len(torn)] = torn
        self._undo = None
        self._torn_as = None
        self._busy_until = 0.0

    def content_if_cut(self, rng: random.Random) -> bytes:
        """Whole content as ``cut_power`` would leave it now."""
        at, torn = self._left_by_cut(rng)
        content = bytearray(self._mcu.flash[: self.SIZE])
        content[at : at + len(torn)] = torn
        return bytes(content)

    def _left_by_cut(self, rng: random.Random) -> tuple[int, bytes]:
        """What a cut leaves of the operation that is not over: (place, content)."""
        if self._undo is None or self._clock.nanos >= self._busy_until:
            return 0, b""
        at, before = self._undo
        after = bytes(self._mcu.flash[at : at + len(before)])
        done = (self._clock.nanos - self._busy_from) / (self._busy_until - self._busy_from)
        return at, _torn(self._torn_as, before, after, done, rng)

    # -- commands -------------------------------------------------------------------------------

    def _shift(self, octet: int) -> int:
        answer = self._shift_other(octet)
        position = len(self._ssi._tx_buffer) - 1
        opcode = self._ssi._tx_buffer[0]
        if opcode == self._READ_STATUS and position > 0:
            self._pass_busy_time()
            return answer | self._BUSY if self._clock.nanos < self._busy_until else answer
        if opcode == self._READ_ID and 5 <= position < 5 + len(self._unique_id):
            return self._unique_id[position - 5]
        return answer

    def _pass_busy_time(self) -> None:
        clock = self._clock
        while (left := self._busy_until - clock.nanos) > 0 and not self._is_stopped():
            jump = min(left, clock.nanos_to_next_alarm) if clock.has_scheduled_alarm else left
            self.polled_cycles += int(jump / CYCLE_NS)
            clock.tick(jump)

    def _apply(self) -> None:
        command = bytes(self._ssi._tx_buffer)
        if (
            len(command) < 4
            or not self._ssi._write_enabled
            or command[0] not in (self._PROGRAM, self._ERASE, self._BLOCK_ERASE)
        ):
            self._apply_other()
            return
        if self.erases + self.programs + 1 == self._cut_at:
            shapes = TORN_PROGRAMS if command[0] == self._PROGRAM else TORN_ERASES
            if self._cut_shape not in shapes:
                self._cut()
                return
            self._torn_as = self._cut_shape
        at = int.from_bytes(command[1:4], "big")
        if command[0] == self._PROGRAM:
            self._program(at, command[4:])
        else:
            self._erase(at, self.SECTOR if command[0] == self._ERASE else self.BLOCK)
        if self._torn_as is not None:
            self._cut()

    def _program(self, at: int, data: bytes) -> None:
        page = at & ~(self.PAGE - 1)
        before = bytes(self._mcu.flash[page : page + self.PAGE])
        after = bytearray(before)
        for index, octet in enumerate(data):
            after[(at + index) % self.PAGE] &= octet
        self._undo = (page, before)
        self._mcu.flash[page : page + self.PAGE] = bytes(after)
        self._ssi._write_enabled = False
        self._ssi._tx_buffer = bytearray()
        self.programs += 1
        self._busy_for(self.PAGE_PROGRAM_NS)

    def _erase(self, at: int, size: int) -> None:
        at &= ~(size - 1)
        self._undo = (at, bytes(self._mcu.flash[at : at + size]))
        self._apply_other()
        self.erases += 1
        for sector in range(at // self.SECTOR, (at + size) // self.SECTOR):
            self.sector_erases[sector] = self.sector_erases.get(sector, 0) + 1
        self._busy_for(self.SECTOR_ERASE_NS if size == self.SECTOR else self.BLOCK_ERASE_NS)

    def _busy_for(self, duration_ns: int) -> None:
        self._busy_from = self._clock.nanos
        self._busy_until = self._busy_from + duration_ns


def _nothing() -> None:
    pass


def _torn(
    shape: str | None, before: bytes, after: bytes, done: float, rng: random.Random
) -> bytes:
    """What is left of an operation that would have made ``after`` of ``before``. Without a shape,
    each changing bit has changed with the chance ``done``."""
    half = len(before) // 2
    if shape in ("half_program", "half_erase"):
        return after[:half] + before[half:]
    if shape in ("last_program", "last_erase"):
        return before[:half] + after[half:]
    if shape == "zero_erase":
        return bytes(len(before))
    if shape == "noise_erase":
        return rng.randbytes(len(before))
    if shape is not None:
        done = 0.5
    torn = bytearray(before)
    for index, new in enumerate(after):
        for bit in range(8):
            if (torn[index] ^ new) >> bit & 1 and rng.random() < done:
                torn[index] ^= 1 << bit
    return bytes(torn)
