"""Wires the pump's objects and runs its tasks. The only place that knows them all."""

import asyncio
import gc
import sys

from pump.clock import Clock, WallClock
from pump.commands import Commands
from pump.delivery import Delivery
from pump.eventlog import EventLog
from pump.faults import Faults
from pump.journal import Damaged, HotRecord, TwoCopies
from pump.ledger import HOT_LAYOUT, Ledger
from pump.link import Link
from pump.motion import Motion
from pump.prescription import PrescriptionStore
from pump.schedule import Schedule
from pump_wire.messages import FAULT
from pump_wire.session import OpenSession

FIRMWARE = "0.1.0"
_RESTART_MS = 100  # pause before a failed link task runs again, so that the fault can be read


class App:
    """One pump on one board. See the boards' contract in ``drivers/README.md``."""

    def __init__(self, board):
        root = board.root
        self.clock = Clock(board.ticks_us, board.ticks_period)
        self.wall = WallClock(self.clock)
        self.faults = Faults()
        board.stepper.attach(self.clock)
        self.schedule = Schedule(board.step_pl)
        self.log = EventLog(root + "/log", self.clock, self.wall)
        self.ledger = Ledger(
            board.step_pl,
            board.stepper.emitted,
            HotRecord(root + "/steps", HOT_LAYOUT),
            TwoCopies(root + "/refill"),
        )
        self.store = PrescriptionStore(TwoCopies(root + "/prescription"))
        self.motion = Motion(self.clock, board.stepper, self.schedule, self.ledger, self.faults)
        self.delivery = Delivery(
            self.schedule, self.motion, self.ledger, self.store, self.faults, self.log
        )
        self.motion.on_fed = self.log.flush
        self.faults.stops.append(board.stepper.halt)
        self.faults.stops.append(self.delivery.fault_stop)
        self.faults.on_latch = self._log_fault
        boots = self._load(TwoCopies(root + "/boots"), board.reset_cause)
        identity = {
            "board": board.name,
            "firmware": FIRMWARE,
            "vm": ".".join(str(part) for part in sys.implementation.version[:3]),
            "serial": board.unique_id,
            "boots": boots,
            "reset_cause": board.reset_cause,
        }
        session = OpenSession()
        self.commands = Commands(
            identity,
            session.sealed,
            self.clock,
            self.wall,
            self.delivery,
            self.ledger,
            self.store,
            self.log,
            self.faults,
            board.entropy,
        )
        self.link = Link(board.port, session, self.commands, self.clock)

    def _log_fault(self, code):
        self.log.append("fault_latched", code)

    def _load(self, boot_count, reset_cause):
        """Read everything durable; what is damaged latches a fault. Returns the boot count."""
        faults = self.faults
        boots = 0
        try:
            self.log.load()
            try:
                boot_count.load()
            finally:  # damage is told once: the count starts again
                boot_count.commit(b"")
            boots = boot_count.sequence
            self.log.append("pump_started", reset_cause)
        except (OSError, Damaged, ValueError) as error:
            faults.latch(FAULT["storage_failed"], "start: %r" % error)
        try:
            self.ledger.load()
        except (OSError, Damaged) as error:
            faults.latch(FAULT["account_damaged"], repr(error))
        try:
            self.store.load()
        except (OSError, Damaged, ValueError) as error:
            faults.latch(FAULT["settings_damaged"], repr(error))
        return boots

    def start_task(self, work):
        """Task running ``work`` (a coroutine function); an exception in it latches a fault."""
        return asyncio.create_task(self._guarded(work))

    async def _guarded(self, work):
        try:
            await work()
        except Exception as error:
            self._task_failed("a task", error)

    def _task_failed(self, where, error, name=None):
        self.faults.latch_error(error, where, name)
        sys.print_exception(error)

    async def _serve_link(self):
        while True:
            try:
                await self.link.run()
            except Exception as error:
                self._task_failed("link", error, "task_failed")
            await asyncio.sleep_ms(_RESTART_MS)

    async def _keep_clock(self):
        """Read the clock often enough that its ticks never wrap unseen."""
        pause_ms = min(self.clock.longest_gap_us // 1000, 1 << 28)
        while True:
            self.clock.now_us()
            await asyncio.sleep_ms(pause_ms)

    async def main(self):
        """Run until the power goes."""
        try:
            if not self.faults.code:
                self.delivery.begin()
        except Exception as error:
            self._task_failed("begin", error)
        self.motion.start(self.start_task)
        self.start_task(self._keep_clock)
        await self._serve_link()


def run(board):
    """Run the pump on ``board``; returns only if the board's main loop is stopped."""
    try:
        app = App(board)
        gc.collect()  # what importing left behind
        asyncio.run(app.main())
    finally:
        board.stepper.halt()
