"""How long the emulated Pico's processor keeps interrupts off."""

from __future__ import annotations

from typing import Any, NamedTuple

from cisterna.emulator_flash import FlashChip

SAMPLE_NS = 2_000  # what a span may be longer or shorter by
_IDLE_LOOK_NS = 1e6


class Span(NamedTuple):
    """Interrupts were off from ``from_ns`` to ``until_ns``; flash operations meanwhile."""

    from_ns: int
    until_ns: int
    erases: int
    programs: int


class InterruptWatch:
    """Looks at PRIMASK every 2 us of the time in which the processor is awake. ``spans``: those of
    10 us and more, since it was made."""

    def __init__(self, mcu: Any, flash: FlashChip) -> None:
        self._core = mcu.core
        self._clock = mcu.clock
        self._flash = flash
        self._alarm = mcu.clock.create_alarm(self._look)
        self._since_ns: int | None = None
        self._erases = self._programs = 0
        self.spans: list[Span] = []
        self._look()

    def attend(self) -> None:
        """To be called whenever the chip is about to run on: what was done to it from outside may
        wake it before the alarm that was next."""
        self._alarm.cancel()
        self._alarm.schedule(SAMPLE_NS)

    def _look(self) -> None:
        clock, core = self._clock, self._core
        if core.pm and not core.waiting:
            if self._since_ns is None:
                self._since_ns = int(clock.nanos)
                self._erases, self._programs = self._flash.erases, self._flash.programs
        elif self._since_ns is not None:
            self._ended(self._since_ns)
        if core.waiting:  # what wakes it is an alarm, and this one follows that
            wait_ns = clock.nanos_to_next_alarm if clock.has_scheduled_alarm else _IDLE_LOOK_NS
            self._alarm.schedule(max(wait_ns, SAMPLE_NS))
        else:
            self._alarm.schedule(SAMPLE_NS)

    def _ended(self, since_ns: int) -> None:
        self._since_ns = None
        span = Span(
            since_ns - SAMPLE_NS,
            int(self._clock.nanos),
            self._flash.erases - self._erases,
            self._flash.programs - self._programs,
        )
        if span.until_ns - span.from_ns >= 10_000:
            self.spans.append(span)
