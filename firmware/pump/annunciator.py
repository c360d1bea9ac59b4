"""Tones: plays what the alarms ask for through the board's sounder, each class in its interval.

A tone begins when an alarm comes up and again every interval while one of its class is pending,
measured from tone to tone. A critical one breaks off any other; what is due meanwhile follows it.
While nothing sounds and nothing is due the task does not exist.
"""

import asyncio
from struct import pack, unpack

from pump.journal import Damaged
from pump_wire.messages import ANNOUNCEMENT, CRITICAL, OTHER, TONES

_DEFAULTS = (600, 3_600)  # PRODUCT.md: critical every 10 min by default, non-critical hourly
_LAYOUT = "<II"
_LONGEST_US = 60_000_000_000  # a single sleep; asyncio's ticks allow 2**29 ms


class Annunciator:
    """``sounder``: of the board, or None. ``copies``: where the intervals are kept; ``critical_s``
    and ``other_s`` are those in force. ``sounded_ms``: time that tones took since the start.
    ``on_time()`` is called when time may have made alarms come up, to write what was noted.
    """

    def __init__(self, clock, sounder, alarms, copies):
        self._clock = clock
        self._sounder = sounder
        self._alarms = alarms
        self._copies = copies
        self.other_s = self.critical_s = 0
        self._due_us = [0, 0]  # next tone of each class, us of the pump's clock
        self._once = -1  # pattern asked for once, -1 none
        self._playing = -1
        self._task = None
        self._start = None
        self.sounded_ms = 0
        self.on_time = int  # nothing
        alarms.on_raised = self.raised
        alarms.on_changed = self.kick

    def load(self):
        """Read the intervals. Raises Damaged; the defaults are in force then."""
        self.critical_s, self.other_s = _DEFAULTS
        raw = self._copies.load()
        if raw is not None:
            if len(raw) != 8:
                raise Damaged("alarm intervals")
            self.critical_s, self.other_s = unpack(_LAYOUT, raw)

    def commit(self, critical_s, other_s):
        """Make other intervals durable, then use them. Raises OSError."""
        self._copies.commit(pack(_LAYOUT, critical_s, other_s))
        self.critical_s = critical_s
        self.other_s = other_s
        self._due_us = [self._clock.now_us()] * 2
        self.kick()

    def start(self, start_task):
        """Begin. ``start_task(coroutine_function)`` makes a guarded task and returns it."""
        self._start = start_task
        self.kick()

    def raised(self, urgent):
        """An alarm of this class begins to sound."""
        self._due_us[urgent] = self._clock.now_us()
        self.kick()

    def play_once(self, pattern):
        """Play ``TONES[pattern]`` once, now unless an alarm sounds; returns its length in ms."""
        self._once = pattern
        self.kick()
        return sum([ms for _, ms in TONES[pattern]])

    def announce(self):
        """A short tone: something was changed from outside."""
        if self._once < 0:
            self.play_once(ANNOUNCEMENT)

    def kick(self):
        """Something has changed: look again now instead of when the last sleep ends."""
        task = self._task
        if self._start is None or (task is not None and task is asyncio.current_task()):
            return
        if task is not None and not task.done():
            if self._playing >= 0 and self._goes_on():
                return  # it looks again when it is over
            task.cancel()
        self._task = self._start(self._run)

    def _goes_on(self):
        """True if the tone that plays is not to be broken off."""
        sounding = self._alarms.sounding
        if self._playing == CRITICAL:
            return sounding(CRITICAL) or self._once == CRITICAL
        if sounding(CRITICAL) and self._due_us[CRITICAL] <= self._clock.now_us():
            return False
        return self._playing == ANNOUNCEMENT or self._once == OTHER or sounding(OTHER)

    async def _run(self):
        alarms = self._alarms
        clock = self._clock
        due = self._due_us
        while True:
            next_us = alarms.pass_time()
            self.on_time()
            for pattern in (CRITICAL, OTHER):
                if not alarms.sounding(pattern):
                    continue
                now_us = clock.now_us()
                if due[pattern] <= now_us:
                    due[pattern] = now_us + 1_000_000 * (
                        self.critical_s if pattern == CRITICAL else self.other_s
                    )
                    await self._play(pattern)
                    next_us = 0  # look again: much may have changed
                elif next_us < 0 or due[pattern] < next_us:
                    next_us = due[pattern]
            if self._once >= 0:
                await self._play(self._once)
                self._once = -1
                continue
            if next_us < 0:
                return
            if next_us:
                await self._until(min(next_us, clock.now_us() + _LONGEST_US))

    async def _play(self, pattern):
        sounder = self._sounder
        at_us = self._clock.now_us()
        self._playing = pattern
        try:
            for hz, ms in TONES[pattern]:
                if sounder is not None:
                    sounder.play(hz)
                    self.sounded_ms += ms
                at_us += ms * 1000
                await self._until(at_us)
        finally:
            self._playing = -1
            if sounder is not None:
                sounder.off()

    async def _until(self, at_us):
        wait = (at_us - self._clock.now_us() + 999) // 1000
        await asyncio.sleep_ms(wait if wait > 0 else 0)
