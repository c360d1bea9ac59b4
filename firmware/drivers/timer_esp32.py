"""One-shot timer of microseconds on a hardware timer of an ESP32.

Fulfils the timer contract of ``drivers/README.md``, which on this port takes a wrapper: it refuses
``hard=True``, and its ``Timer(-1)`` counts in ticks of FreeRTOS.

The interrupt schedules the callback, and the interpreter calls it in the main thread between two
of its instructions: after tens of microseconds when it is idle, after what it is at otherwise (a
garbage collection, a flash erase). Of more than eight callbacks scheduled at a time the port drops
the rest without a word.
"""

from machine import Timer
from micropython import const

_US = const(1_000_000)  # the timer's tick_hz: its period is in microseconds


class TimerEsp32:
    """``number``: which of the chip's four timers, 0 to 3."""

    def __init__(self, number):
        self._timer = Timer(number)

    def init(self, mode, period, tick_hz, callback, hard):
        """Call ``callback`` once, ``period`` us from now. A wait under way is dropped. Allocates
        nothing."""
        self._timer.init(  # pyright: ignore[reportCallIssue]
            mode=Timer.ONE_SHOT, period=period, tick_hz=_US, callback=callback
        )

    def deinit(self):
        """Drop the wait; a callback that is scheduled already still comes."""
        self._timer.deinit()
