"""The pump: its objects, and the tasks that run them. The only place that knows them all."""

# ``starting`` sets the attributes of App.
# pyright: reportAttributeAccessIssue=false

import asyncio
import gc
import sys

from pump.lending import lent, return_module
from pump_wire.messages import FAULT, STOPPED

# fault, the alarm that it is: any other is pump_fault
_FAULT_ALARMS = (
    (FAULT["settings_damaged"], "memory_critical"),
    (FAULT["account_damaged"], "memory_critical"),
    (FAULT["free_run"], "free_run"),
    (FAULT["self_test_failed"], "self_test"),
)
_STORAGE_FAILED = FAULT["storage_failed"]
_RESTART_MS = 100  # pause before a failed link task runs again, so that the fault can be read


class App:
    """One pump on one board. See the boards' contract in ``drivers/README.md``. ``starting.make``
    gives it its attributes; those of its methods that are hooks are named here."""

    def __init__(self, board):
        lent("starting").make(self, board)
        return_module("starting")

    def next_event(self):
        """Hook of ``Ledger``."""
        return self.log.coming

    def lag_ms(self):
        """Hook of ``Reading``."""
        return self.supervisor.lag_us // 1000

    def changed(self, role, message):
        """Hook of ``Commands``: somebody changed something from outside."""
        self.annunciator.announce()

    def log_fault(self, code, text, place):
        """Hook of ``Faults``."""
        alarm = "pump_fault"
        for each, name in _FAULT_ALARMS:
            if each == code:
                alarm = name
        self.alarms.begin(alarm)
        self.alarms.stopped(True)
        self.fault_log.append(code, "%s at %s" % (text, place) if place else text)
        self.log.append("fault_latched", code)

    def noted(self, name, value):
        """Hook of ``EventLog``."""
        self.alarms.noted(name, value)
        if name == "refill_recorded" and self.flow is not None:
            self.flow.refilled()

    async def _watch_rotor(self):
        while True:
            await self.turned()
            self.flow.pulsed()

    def hold(self, action):
        """Hook of ``Alarms``."""
        self.delivery.held = action
        self.start_task(self._obey)

    async def _obey(self):
        self.delivery.obey()
        self.log.flush()

    def write_log(self):
        """Write what was noted; what fails latches a fault, and is not tried again by itself: each
        try wears what is left."""
        if self.faults.code == _STORAGE_FAILED:
            return
        try:
            self.log.flush()
        except Exception as error:
            self.faults.latch_error(error, "log")

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

    async def main(self):
        """Run until the power goes."""
        try:
            if not self.faults.code:
                self.delivery.begin()
        except Exception as error:
            self._task_failed("begin", error)
        self.alarms.stopped(self.store.current is not None and self.delivery.mode == STOPPED)
        self.annunciator.start(self.start_task)
        self.motion.start(self.start_task)
        tasks = self.supervisor.tasks
        if self.turned is not None:
            tasks.append(("rotor", self.start_task(self._watch_rotor)))
        tasks.append(("link", self.start_task(self._serve_link)))
        await self.supervisor.run()


def run(board):
    """Run the pump on ``board``; returns only if the board's main loop is stopped."""
    try:
        app = App(board)
        gc.collect()  # what importing left behind
        asyncio.run(app.main())
    except KeyboardInterrupt:  # somebody wants the REPL, and the profile lets them
        stop = getattr(getattr(board, "watchdog", None), "stop", None)
        if stop is not None:
            stop()
        raise
    finally:
        board.stepper.halt()
