"""Flash as NOR flash behaves, kept in a file of the PC, and how it fails.

A program only clears bits, by pages of 256 octets; an erase sets a whole 4 KiB block. Whatever
would set a bit without an erase is an error here, as it would be lost on the chip. Every operation
reaches the file before it returns, so killing the process is a power cut.

An *operation* is the program of one page or the erase of one block. ``cut_at`` takes the power
away at one of those to come, ``fail_at`` makes one fail, ``wear_out`` and ``make_unreadable``
break a block; what is broken is kept beside the image, in ``path + ".faults"``, until the block is
erased (unreadable) or for good (worn).

The block that was programmed last is held in memory too, for reading: littlefs reads the folder
that it appends to over and over, by 32 octets, and each time would be two calls of the operating
system.

Size as the file system of a stock Raspberry Pi Pico: 352 blocks, 1,408 KiB.
"""

import json
import os
from array import array
from io import BytesIO

BLOCK = 4096
PAGE = 256
BLOCKS = 352
_ERASED_PAGE = b"\xff" * PAGE
_PIECE = 1024  # octets that a block is erased and held by
_ERASED = b"\xff" * _PIECE

_IOCTL_SYNC = 3
_IOCTL_BLOCKS = 4
_IOCTL_BLOCK_SIZE = 5
_IOCTL_ERASE = 6

_NEVER = 1 << 60
_FAILED = -5  # EIO
_MOST_WRITTEN = 1024  # octets that littlefs writes at once: four pages

# How an operation may be torn. A shape that is not of the operation's kind counts as the one it
# stands beside.
PROGRAM_SHAPES = (
    "nothing_program",
    "half_program",
    "one_bit_program",
    "all_but_one_bit_program",
)
ERASE_SHAPES = ("nothing_erase", "half_erase", "most_erase", "unreadable_erase")
_AS_ERASE = dict(zip(PROGRAM_SHAPES, ("nothing_erase", "half_erase", "half_erase", "most_erase")))
_AS_PROGRAM = dict(
    zip(
        ERASE_SHAPES,
        ("nothing_program", "half_program", "all_but_one_bit_program", "half_program"),
    )
)
SHAPES = ("before",) + PROGRAM_SHAPES + ERASE_SHAPES


class PowerCut(BaseException):
    """The power went during a flash operation. Whatever touches the flash afterwards raises it
    again, so nothing that runs on can take it for something else."""


def make(path):
    """A new image at ``path``: every block erased, none broken."""
    with open(path, "wb") as file:
        for _ in range(BLOCKS * BLOCK // _PIECE):
            file.write(_ERASED)
    try:
        os.remove(path + ".faults")
    except OSError:  # none
        pass


class NorFlash:
    """Block device for ``VfsLfs2(..., progsize=256)``, from one power on to the next cut: making
    another on the same image is power on. ``path``: an existing file of BLOCKS x BLOCK octets.

    ``programs`` (pages), ``erases`` (blocks) and their sum ``ops`` count since construction, torn
    and failed ones too; ``wear[block]`` counts erases of a block. ``dead``: the power has gone.
    ``on_cut()`` is called in that moment, before PowerCut is raised. ``seed``: of what is random
    in a torn operation and in what an unreadable block reads as.
    """

    _left_last = None

    def __init__(self, path, seed=1):
        self._file = open(path, "r+b")
        self._path = path
        self._page = bytearray(PAGE)
        self._piece = bytearray(_PIECE)
        # Block whose octets are held, -1: none. None is once the power has gone or a block broke.
        self._held = -1
        held = BytesIO(BLOCK)
        self._seek_held = held.seek
        self._read_held = held.readinto
        self._write_held = held.write
        self._random = seed * 2_654_435_761 % (1 << 32) or 1
        self.programs = 0
        self.erases = 0
        self.wear = array("I", bytes(4 * BLOCKS))
        self.dead = False
        self.on_cut = lambda: None
        self._cut_at = self._fail_at = self._next_fault = _NEVER
        self._fail_for_ever = False
        self._torn = None
        self._left = False
        self._late = None  # what was written last after the power had gone, and where
        self._late_block = self._late_offset = -1
        self._worn = {}  # block: True if its operations fail, False if a bit sticks
        self._unreadable = set()
        self._broken = False
        try:
            with open(path + ".faults") as file:
                kept = json.load(file)
        except OSError:  # none
            return
        self._worn = {int(block): kept["worn"][block] for block in kept["worn"]}
        self._unreadable = set(kept["unreadable"])
        self._broken = bool(self._worn or self._unreadable)

    @property
    def ops(self):
        """Programs and erases since construction."""
        return self.programs + self.erases

    # -- what the bench arms ------------------------------------------------------------------

    def cut_at(self, op, torn=None):
        """The power goes at the ``op``-th operation (>= 1) from now on. ``torn``: one of SHAPES;
        None and "before": that operation is not begun. 0 disarms. Raises ValueError."""
        if torn is not None and torn not in SHAPES:
            raise ValueError("no such tear: %s; there are: %s" % (torn, ", ".join(SHAPES)))
        self._cut_at = self._later(op)
        self._torn = None if torn == "before" else torn
        self._next_fault = min(self._cut_at, self._fail_at)

    def fail_at(self, op, for_ever=False):
        """The ``op``-th operation (>= 1) from now on fails, and with ``for_ever`` all after it;
        nothing changes on the flash then. 0 disarms. Raises ValueError."""
        self._fail_at = self._later(op)
        self._fail_for_ever = for_ever
        self._next_fault = min(self._cut_at, self._fail_at)

    def _later(self, op):
        if op < 0:
            raise ValueError("operation %d from now on: not below 1, or 0 for none" % op)
        return self.ops + op if op else _NEVER

    @property
    def armed(self):
        """True while a cut or a failure is still to come (or fails for ever)."""
        return self._next_fault != _NEVER

    def wear_out(self, block, fails=False):
        """From now on ``block`` has a bit that cannot be cleared, or, with ``fails``, every
        program and erase of it ends with an error."""
        self._worn[block] = bool(fails)
        self._keep()

    def make_unreadable(self, block):
        """``block`` reads as noise, other noise each time, until it is erased."""
        self._unreadable.add(block)
        self._keep()

    def heal(self):
        """Nothing is armed and no block is broken."""
        self._cut_at = self._fail_at = self._next_fault = _NEVER
        self._worn = {}
        self._unreadable = set()
        self._keep()

    def _keep(self):
        self._broken = bool(self._worn or self._unreadable)
        self._held = -1
        worn = {str(block): self._worn[block] for block in self._worn}
        with open(self._path + ".faults", "w") as file:
            json.dump({"worn": worn, "unreadable": list(self._unreadable)}, file)

    def cut(self):
        """The power goes now, between two operations. PowerCut comes with the next access."""
        self._late = self._late or bytearray(_MOST_WRITTEN)
        self.dead = True
        self._held = -1

    def leave(self):
        """The power has gone and nobody runs any more: files still open, which the garbage
        collector closes some time, may write without an error and without effect."""
        self.dead = True
        self._held = -1
        self._late = self._late or bytearray(_MOST_WRITTEN)
        self._left = True
        NorFlash._left_last = self  # whose image must stay open until those files are collected

    # -- what littlefs calls ------------------------------------------------------------------

    def readblocks(self, number, buffer, offset=0):
        """Read ``len(buffer)`` octets from ``offset`` in block ``number`` on. Allocates nothing
        on a flash that is whole."""
        if number == self._held:
            self._seek_held(offset)
            if self._read_held(buffer) == len(buffer):
                return
            self._held = -1  # beyond the block
        if self.dead and self._gone():
            if number == self._late_block and offset == self._late_offset:
                for at in range(len(buffer)):
                    buffer[at] = self._late[at]
                return
        self._file.seek(number * BLOCK + offset)
        if self._file.readinto(buffer) != len(buffer):
            raise OSError(5)
        if self._broken and number in self._unreadable:
            for at in range(len(buffer)):
                buffer[at] = self._noise() & 0xFF

    def writeblocks(self, number, buffer, offset=0):
        """Program whole pages. Raises OSError(22) for an unaligned program or a bit to be set;
        returns a negative number when it failed."""
        # Of eleven words at most, arguments and all, MicroPython makes a call without the heap.
        if self.dead and self._gone():
            self._write_late(number, buffer, offset)
            return None
        size = len(buffer)
        if offset % PAGE or size % PAGE or offset + size > BLOCK:
            raise OSError(22)
        if number != self._held:
            self._hold(number)
        self._check_bits(buffer, offset)
        size //= PAGE
        if self._broken or self.programs + self.erases + size >= self._next_fault:
            return self._write_with_faults(number, buffer, number * BLOCK + offset)
        self.programs += size
        self._held = -1
        self._file.seek(number * BLOCK + offset)
        if self._file.write(buffer) != len(buffer):
            raise OSError(5)
        self._seek_held(offset)
        self._write_held(buffer)
        self._held = number
        return None

    def _check_bits(self, buffer, offset):
        """Raise OSError(22) for a bit to be set in the block that is held."""
        old = self._page
        self._seek_held(offset)
        offset = 0
        while offset < len(buffer):
            self._read_held(old)
            if old != _ERASED_PAGE:
                self._check_page(buffer[offset : offset + PAGE])
            offset += PAGE

    def _check_page(self, new):
        bits = int.from_bytes(new, "little")
        if int.from_bytes(self._page, "little") & bits != bits:
            raise OSError(22)

    def _hold(self, number):
        """Hold block ``number``; one that is broken for now only."""
        self._held = -1
        self._file.seek(number * BLOCK)
        self._seek_held(0)
        for _ in range(BLOCK // _PIECE):
            if self._file.readinto(self._piece) != _PIECE:
                raise OSError(5)
            self._write_held(self._piece)
        if not self._broken:
            self._held = number

    def forget(self):
        """Hold no block: somebody else has written to the file."""
        self._held = -1

    def _write_late(self, number, buffer, offset):
        for at in range(len(buffer)):
            self._late[at] = buffer[at]
        self._late_block = number
        self._late_offset = offset

    def ioctl(self, operation, argument):
        """littlefs's questions, and erase; negative when it failed."""
        if operation == _IOCTL_BLOCKS:
            return BLOCKS
        if operation == _IOCTL_BLOCK_SIZE:
            return BLOCK
        if operation == _IOCTL_ERASE:
            if self.dead and self._gone():
                return 0
            self.erases += 1
            self.wear[argument] += 1
            if self._broken or self.programs + self.erases >= self._next_fault:
                failed = self._erase_with_faults(argument)
                if failed:
                    return failed
            self._fill(argument, 0, BLOCK)
        return 0

    # -- faults -------------------------------------------------------------------------------

    def _gone(self):
        """The power has gone: raises PowerCut, or returns True once the flash was left.

        True also where nothing can be allocated: there the garbage collector closes a file. An
        exception would leave littlefs in the middle of that, with the file, which is free memory a
        moment later, still in its list of open ones. The next file closed would follow that list
        and crash the VM. On a board nothing runs any more.
        """
        if self._left:
            return True
        try:
            cut = PowerCut("flash operation %d" % self.ops)
        except MemoryError:
            return True
        raise cut

    def _noise(self):
        random = self._random
        random ^= random << 13 & 0xFFFFFFFF
        random ^= random >> 17
        random ^= random << 5 & 0xFFFFFFFF
        self._random = random
        return random >> 7

    def _due(self):
        """What the operation just counted meets: "cut", "fail" or None."""
        op = self.ops
        if op >= self._cut_at:
            return "cut"
        if op >= self._fail_at:
            if not self._fail_for_ever:
                self._fail_at = _NEVER
                self._next_fault = self._cut_at
            return "fail"
        return None

    def _cut(self):
        self._next_fault = self._cut_at = _NEVER
        self.cut()
        self.on_cut()
        raise PowerCut("flash operation %d" % self.ops)

    def _write_with_faults(self, number, buffer, start):
        self._held = -1
        for at in range(0, len(buffer), PAGE):
            self.programs += 1
            page = bytes(buffer[at : at + PAGE])
            met = self._due()
            if met == "cut":
                if self._torn:
                    self._program_torn(start + at, page)
                self._cut()
            if met or self._worn.get(number):
                return _FAILED
            if number in self._worn and at + start == number * BLOCK:
                page = bytes([page[0] | 1]) + page[1:]
            self._file.seek(start + at)
            self._file.write(page)
        return None

    def _program_torn(self, start, page):
        shape = _AS_PROGRAM.get(self._torn, self._torn)
        if shape == "nothing_program":
            return
        old = bytearray(PAGE)
        self._file.seek(start)
        self._file.readinto(old)
        if shape == "half_program":
            half = PAGE // 2
            new = page[:half] + bytes(old[half:])
        else:
            fall = int.from_bytes(old, "little") & ~int.from_bytes(page, "little")
            bit = self._one_of(fall)
            if shape == "all_but_one_bit_program":
                bit = fall & ~bit
            new = (int.from_bytes(old, "little") & ~bit).to_bytes(PAGE, "little")
        self._file.seek(start)
        self._file.write(new)

    def _one_of(self, bits):
        """One bit of ``bits``; 0 when there is none."""
        if not bits:
            return 0
        at = self._noise() % (8 * PAGE)
        while not bits >> at & 1:
            at = (at + 1) % (8 * PAGE)
        return 1 << at

    def _erase_with_faults(self, block):
        met = self._due()
        if met == "cut":
            if self._torn:
                self._erase_torn(block)
            self._cut()
        if met or self._worn.get(block):
            return _FAILED
        if block in self._unreadable:
            self._unreadable.discard(block)
            self._keep()
        return 0

    def _erase_torn(self, block):
        self._held = -1
        shape = _AS_ERASE.get(self._torn, self._torn)
        if shape == "half_erase":
            self._fill(block, 0, BLOCK // 2)
        elif shape == "unreadable_erase":
            self.make_unreadable(block)
        elif shape == "most_erase":  # one bit in 64 or so has not come up yet
            for at in range(0, BLOCK, PAGE):
                self._file.seek(block * BLOCK + at)
                self._file.readinto(self._page)
                for i in range(PAGE):
                    self._page[i] |= 0xFF ^ (1 << (self._noise() & 7) if i & 7 == 0 else 0)
                self._file.seek(block * BLOCK + at)
                self._file.write(self._page)

    def _fill(self, block, first, end):
        """Erase octets ``first`` to ``end`` of a block, multiples of _PIECE."""
        if self._held == block:
            self._held = -1
        self._file.seek(block * BLOCK + first)
        for _ in range(first, end, _PIECE):
            if self._file.write(_ERASED) != _PIECE:
                raise OSError(5)
