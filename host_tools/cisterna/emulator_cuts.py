"""Power cuts of the emulated Pico that are to come: at a processor cycle, at a flash operation, at
an instant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cisterna.emulator_fixes import CYCLE_NS
from cisterna.emulator_flash import TORN_ERASES, TORN_PROGRAMS, FlashChip

_IDLE_LOOK_NS = 1e6


class ArmedCut:
    """At most one cut to come. ``due``: it is to happen now. ``stop`` is called then, inside the
    emulator; whoever runs the emulator takes the power away as soon as it has stopped, which is
    behind the instruction that was being executed."""

    def __init__(
        self,
        mcu: Any,
        flash: FlashChip,
        awake_cycles: Callable[[], int],
        stop: Callable[[], None],
    ) -> None:
        self._core = mcu.core
        self._clock = mcu.clock
        self._flash = flash
        self._awake = awake_cycles
        self._stop = stop
        self._alarm = mcu.clock.create_alarm(self._look)
        self._cycle: int | None = None
        self._operation: int | None = None
        self._torn: str | None = None
        self._us: float | None = None
        self._at_cycle: int | None = None
        self.due = False

    def arm(
        self,
        cycle: int | None = None,
        flash_op: int | None = None,
        torn: str | None = None,
        us: float | None = None,
    ) -> None:
        """See ``Bench.cut_power_at``. Counting begins with ``begin``. Raises ValueError."""
        if sum(each is not None for each in (cycle, flash_op, us)) != 1:
            raise ValueError("a power cut is armed with one of cycle, flash_op and us")
        if torn is not None and flash_op is None:
            raise ValueError("torn is for a cut at a flash_op")
        if torn is not None and torn not in TORN_PROGRAMS + TORN_ERASES:
            known = ", ".join(TORN_PROGRAMS + TORN_ERASES)
            raise ValueError(f"no torn operation is called {torn}; there are {known}")
        for name, value, least in (("cycle", cycle, 1), ("flash_op", flash_op, 1), ("us", us, 0)):
            if value is not None and value < least:
                raise ValueError(f"{name} of a power cut must be {least} or more, not {value}")
        self.disarm()
        self._cycle, self._operation, self._torn, self._us = cycle, flash_op, torn, us

    def disarm(self) -> None:
        """No cut is to come."""
        self._cycle = self._operation = self._us = self._at_cycle = None
        self.due = False
        self._alarm.cancel()
        self._flash.cancel_cut()

    def begin(self) -> None:
        """There is power: count from here."""
        if self._cycle is not None:
            self._at_cycle = self._awake() + self._cycle
            self._look()
        elif self._us is not None:
            self._alarm.schedule(self._us * 1000)
        elif self._operation is not None:
            self._flash.cut_at(self._operation, self._torn, self._fire)

    def _look(self) -> None:
        """The cut's alarm. While the core sleeps, whatever wakes it is an alarm, and this one
        follows that. While it works, its counter runs up to a tenth ahead of simulated time (it
        counts waits for the bus that the clock does not), so the instant is closed in on."""
        left = 0 if self._at_cycle is None else self._at_cycle - self._awake()
        clock = self._clock
        if left <= 0:
            self._fire()
        elif self._core.waiting:
            next_ns = clock.nanos_to_next_alarm if clock.has_scheduled_alarm else _IDLE_LOOK_NS
            self._alarm.schedule(next_ns)
        else:
            self._alarm.schedule(max(left // 2, 1) * CYCLE_NS)

    def _fire(self) -> None:
        self.due = True
        self._stop()
