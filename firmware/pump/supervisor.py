"""Supervisor: who watches the watchers. It alone feeds the watchdog, and only while every task
that must run does: the loop itself (or it would not be here), those that never end, and motion,
which says when it comes back. It reads the clock before its ticks wrap, and measures how late the
loop lets it be.
"""

import asyncio

from micropython import const

_NO_WATCHDOG_MS = const(60_000)
_LATE_US = const(10_000_000)  # motion that comes back later than this after it should is lost


class Supervisor:
    """``watchdog``: of the board, or None. ``tasks``: those that never end, with their names.
    ``lag_us``: the latest it ever was. ``looks``: called at each look."""

    def __init__(self, clock, watchdog, motion, faults):
        self._clock = clock
        self._watchdog = watchdog
        self._motion = motion
        self._faults = faults
        self.tasks = []
        self.looks = []
        self.lag_us = 0
        period = _NO_WATCHDOG_MS if watchdog is None else watchdog.timeout_ms * 2 // 5
        self._period_ms = min(period, clock.longest_gap_us // 1000)

    def lost(self, now_us):
        """Name of what should run and does not, "" when all do."""
        for name, task in self.tasks:
            if task.done():
                return name
        due_us = self._motion.due_us
        if due_us is not None and now_us > due_us + _LATE_US:
            return "motion"
        return ""

    async def run(self):
        """Watch until the power goes."""
        clock = self._clock
        watchdog = self._watchdog
        faults = self._faults
        if watchdog is not None:
            watchdog.start()
        while True:
            now_us = clock.now_us()
            name = self.lost(now_us)
            if name:
                faults.latch_error(RuntimeError("silent"), name, "task_silent")
            elif watchdog is not None:
                watchdog.feed()
            for look in self.looks:
                try:
                    look()
                except Exception as error:
                    faults.latch_error(error, "supervisor")
            due_us = now_us + self._period_ms * 1000
            await asyncio.sleep_ms(self._period_ms)
            late_us = clock.now_us() - due_us
            if late_us > self.lag_us:
                self.lag_us = late_us
