"""Time: a 64-bit microsecond clock over ticks that wrap, and wall time as a separate thing.

Delivery uses only ``Clock``. Wall time is what the programmer set; nothing that moves the motor
reads it.
"""


class Clock:
    """Microseconds since construction, extended from wrapping ticks.

    ``ticks``: callable giving microseconds modulo ``period``. ``period``: a power of two (2**30 on
    most ports). ``now_us`` must be called at least once a period; ``longest_gap_us`` is a safe
    interval for that. Not for interrupts: it keeps state.
    """

    def __init__(self, ticks, period):
        if period < 1 or period & (period - 1):
            raise ValueError("ticks period %d is not a power of two" % period)
        self._ticks = ticks
        self._mask = period - 1
        self._last = ticks()
        self._now = 0
        self.longest_gap_us = period // 4

    def now_us(self):
        """Microseconds since construction; never goes back."""
        ticks = self._ticks()
        self._now += (ticks - self._last) & self._mask
        self._last = ticks
        return self._now


class WallClock:
    """Seconds since 1970-01-01 UTC, as the programmer set them (or a clock on the board that kept
    going); 0 until then. ``before_s``: latest wall time known from before this start, 0: none.
    ``assumed_s``: the same, and what ``best_s`` goes on from until the clock is set."""

    def __init__(self, clock):
        self._clock = clock
        self.before_s = 0
        self.assumed_s = 0
        self._set_s = 0
        self._set_us = 0

    def set(self, wall_s):
        """Set wall time to ``wall_s`` (seconds) now."""
        self._set_s = wall_s
        self._set_us = self._clock.now_us()

    def now_s(self):
        """Wall time in seconds, 0 while it is not set."""
        if not self._set_s:
            return 0
        return self._set_s + (self._clock.now_us() - self._set_us) // 1_000_000

    def best_s(self):
        """``now_s``, or while it is not set what it would be if no time had passed without power;
        0 if it was never set."""
        if self._set_s or not self.assumed_s:
            return self.now_s()
        return self.assumed_s + self._clock.now_us() // 1_000_000

    def local_us(self, offset_min):
        """Best local time, ``offset_min`` minutes ahead of UTC, less the pump's clock, in us."""
        ahead_us = self._set_s * 1_000_000 - self._set_us
        if not self._set_s:
            ahead_us = self.assumed_s * 1_000_000
        return ahead_us + offset_min * 60_000_000

    def away_s(self):
        """Seconds from ``before_s`` to this start, -1 when it cannot be told; told once."""
        before_s = self.before_s
        self.before_s = 0
        if not before_s or not self._set_s:
            return -1
        away_s = self._set_s - self._set_us // 1_000_000 - before_s
        return away_s if away_s >= 0 else -1
