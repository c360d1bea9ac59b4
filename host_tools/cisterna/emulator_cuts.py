"""Power cuts of the emulated Pico that are to come: at a processor cycle, at a flash operation, at
an instant; and instants at which somebody wants to look at what a cut would leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from cisterna.emulator_fixes import CYCLE_NS
from cisterna.emulator_flash import TORN_ERASES, TORN_PROGRAMS, FlashChip

_IDLE_LOOK_NS = 1e6


class CycleAlarms:
    """All who wait for the processor to have worked for a number of cycles. They share one alarm
    of the emulator: while the core sleeps it follows the next of the others, and two that did
    would follow each other for ever."""

    def __init__(self, mcu: Any, awake_cycles: Callable[[], int]) -> None:
        self.awake_cycles = awake_cycles
        self._core = mcu.core
        self._clock = mcu.clock
        self._alarm = mcu.clock.create_alarm(self.look)
        self._waiting: list[CycleAlarm] = []

    def alarm(self, due: Callable[[], None]) -> CycleAlarm:
        """One that calls ``due`` once for each time it is set."""
        made = CycleAlarm(self, due)
        self._waiting.append(made)
        return made

    def look(self) -> None:
        """While the core sleeps, whatever wakes it is an alarm, and this one follows that. While
        it works, its counter runs up to a tenth ahead of simulated time (it counts waits for the
        bus that the clock does not), so the instant is closed in on."""
        self._alarm.cancel()
        for each in self._waiting:
            each.come()
        left = min(
            (each.at_cycle for each in self._waiting if each.at_cycle is not None), default=None
        )
        if left is None:
            return
        left -= self.awake_cycles()
        clock = self._clock
        if self._core.waiting:
            next_ns = clock.nanos_to_next_alarm if clock.has_scheduled_alarm else _IDLE_LOOK_NS
            self._alarm.schedule(next_ns)
        else:
            self._alarm.schedule(max(left // 2, 1) * CYCLE_NS)


class CycleAlarm:
    """Calls ``due`` when the processor has worked for as many cycles as it was set to."""

    def __init__(self, alarms: CycleAlarms, due: Callable[[], None]) -> None:
        self._alarms = alarms
        self._due = due
        self.at_cycle: int | None = None

    def set(self, cycles: int) -> None:
        """Count ``cycles`` from here."""
        self.at_cycle = self._alarms.awake_cycles() + cycles
        self._alarms.look()

    def cancel(self) -> None:
        self.at_cycle = None

    def come(self) -> None:
        """Call ``due`` if it is time; it may set this alarm again."""
        while self.at_cycle is not None and self.at_cycle <= self._alarms.awake_cycles():
            self.at_cycle = None
            self._due()


class Instants:
    """``look`` is called, inside the emulator, at given cycles after power on. It may read what
    there is and must not let time pass."""

    def __init__(self, alarms: CycleAlarms) -> None:
        self._alarm = alarms.alarm(self._come)
        self._left: list[int] = []  # cycles between one instant and the next, the next first
        self._look: Callable[[], None] = lambda: None

    def watch(self, cycles: Iterable[int], look: Callable[[], None]) -> None:
        """Have ``look`` called at each of ``cycles``, in place of what was asked for before."""
        self.cancel()
        ordered = sorted(cycles)
        self._left = [at - before for before, at in zip([0, *ordered], ordered, strict=False)]
        self._look = look

    def begin(self) -> None:
        """There is power: count from here."""
        if self._left:
            self._alarm.set(self._left.pop(0))

    def cancel(self) -> None:
        self._left = []
        self._alarm.cancel()

    def _come(self) -> None:
        self._look()
        self.begin()


class ArmedCut:
    """At most one cut to come. ``due``: it is to happen now. ``stop`` is called then, inside the
    emulator; whoever runs the emulator takes the power away as soon as it has stopped, which is
    behind the instruction that was being executed."""

    def __init__(
        self,
        mcu: Any,
        flash: FlashChip,
        alarms: CycleAlarms,
        stop: Callable[[], None],
    ) -> None:
        self._flash = flash
        self._stop = stop
        self._at_cycle = alarms.alarm(self._fire)
        self._alarm = mcu.clock.create_alarm(self._fire)
        self._cycle: int | None = None
        self._operation: int | None = None
        self._torn: str | None = None
        self._us: float | None = None
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
        self._cycle = self._operation = self._us = None
        self.due = False
        self._at_cycle.cancel()
        self._alarm.cancel()
        self._flash.cancel_cut()

    def begin(self) -> None:
        """There is power: count from here."""
        if self._cycle is not None:
            self._at_cycle.set(self._cycle)
        elif self._us is not None:
            self._alarm.schedule(self._us * 1000)
        elif self._operation is not None:
            self._flash.cut_at(self._operation, self._torn, self._fire)

    def _fire(self) -> None:
        self.due = True
        self._stop()
