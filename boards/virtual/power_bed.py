"""A whole pump in one VM whose power is cut as often as wanted: its flash writes down every
operation, takes operations back, and can be left in the state that a cut leaves.

Between two operations of the flash nothing that survives a cut changes but the plant. So a cut
before operation k is: the flash as operations 1 to k - 1 made it, the plant as it was then, and
none of the RAM. That state is made from the list of operations without running the story again.
"""

import asyncio

import nor_flash
import vfs
import virtual_pump
from nor_flash import PowerCut
from plant import Plant
from stepper_virtual import StepperVirtual
from virtual_pump import ROOT, STEP_PL

IMAGE = "flash.bin"
PROGRAM = 0
ERASE = 1
_ERASE_CALL = 6


class RecordedFlash(nor_flash.NorFlash):
    """``on_operation(kind, block, offset, octets)`` is told of each operation before it happens;
    what it raises keeps it from happening.

    ``keep_undo``: what operations changed is kept, and ``undo`` takes it back.
    """

    def __init__(self, path, seed=1):
        super().__init__(path, seed)
        self.on_operation = None
        self.keep_undo = False
        self._undo = []

    def writeblocks(self, number, buffer, offset=0):
        if self.dead:
            return super().writeblocks(number, buffer, offset)
        for at in range(0, len(buffer), nor_flash.PAGE):
            page = bytes(buffer[at : at + nor_flash.PAGE])
            self._begin(PROGRAM, number, offset + at, page)
            failed = super().writeblocks(number, page, offset + at)
            if failed:
                return failed
        return None

    def ioctl(self, operation, argument):
        if operation == _ERASE_CALL and not self.dead:
            self._begin(ERASE, argument, 0, b"")
        return super().ioctl(operation, argument)

    def _begin(self, kind, block, offset, octets):
        if self.on_operation is not None:
            self.on_operation(kind, block, offset, octets)
        if self.keep_undo:
            self._file.seek(block * nor_flash.BLOCK + offset)
            self._undo.append(
                (block, offset, self._file.read(len(octets) if octets else nor_flash.BLOCK))
            )

    def happen(self, kind, block, offset, octets):
        """Let an operation that was written down happen."""
        if kind == ERASE:
            self.ioctl(_ERASE_CALL, block)
        else:
            self.writeblocks(block, octets, offset)

    def undo(self):
        """Take back every operation since ``keep_undo`` was set, and what it broke."""
        for block, offset, old in reversed(self._undo):
            self._file.seek(block * nor_flash.BLOCK + offset)
            self._file.write(old)
        self._undo = []
        self.forget()
        if self._broken:
            self.heal()


class Bed(virtual_pump.Pump):
    """A pump that is off until ``power_on``, on the flash in IMAGE. ``on_mount(flash)`` is called
    before anything is read from it. ``over_steps``: what the account said too much when the last
    start had read it. ``written``: event records below this number are durable."""

    def __init__(self, reservoir_pl=20_000_000_000):
        self.plant = Plant(STEP_PL, reservoir_pl)
        self.flash = None
        self.stepper = None
        self.app = self._main = self._trace = None
        self.over_steps = 0
        self.written = 0
        self.on_mount = lambda flash: None
        self._make_stepper = StepperVirtual
        self._port = virtual_pump.SilentPort()
        self._starts = 0

    def power_on(self):
        """Start the firmware on what the flash holds. Raises OSError when the file system cannot
        be mounted: a stock image would make a new one and lose everything."""
        asyncio.new_event_loop()  # tasks of the last life do not live on
        try:
            vfs.umount(ROOT)
        except OSError:  # nothing was mounted
            pass
        self.app = None
        self.flash = RecordedFlash(IMAGE, self._starts + 1)
        self.on_mount(self.flash)
        vfs.mount(vfs.VfsLfs2(self.flash, progsize=nor_flash.PAGE), ROOT)
        super().power_on()
        self.over_steps = self.app.ledger.steps() - self.plant.pulses
        log = self.app.log
        self.written = log.next
        tell_ledger = log.on_written

        def written():
            self.written = log.next
            tell_ledger()

        log.on_written = written

    def power_off(self):
        """Everything stops now; pulses that are queued do not happen."""
        if self.flash is not None:
            self.flash.leave()
        if self.stepper is not None:
            self.stepper.halt()

    def new_file_system(self):
        """What a stock image does at its first start."""
        nor_flash.make(IMAGE)
        flash = nor_flash.NorFlash(IMAGE)
        vfs.VfsLfs2.mkfs(flash, progsize=nor_flash.PAGE)


__all__ = ["ERASE", "IMAGE", "PROGRAM", "Bed", "PowerCut", "RecordedFlash"]
