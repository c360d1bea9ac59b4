"""What the basal programme runs at an instant, piece by piece: a rate and how long it holds.

Continuous modes are one piece without end. Flex follows local time: its steps begin at absolute
instants. Once a step runs, its end stands fast; a clock that is set by up to two hours moves the
later steps by at most a quarter of each until they are in time again, so that none is left out and
none comes twice. By more, the step that the new time calls for runs at once. While nobody has set
the clock since the power was away, flex goes on from where it stood. Periodic boluses are counted
on the pump's clock, from the instant they were programmed; wall time does not touch them. One that
falls into another bolus comes right after it, of several the last; those of a stopped pump and
those that fall into a bridge bolus are left out.
"""

from struct import unpack_from

from pump.lending import lent, return_module
from pump.prescription import basal_rate, find_part
from pump.schedule import DAY_US, UNITS_PER_NL, ceil_div
from pump_wire.messages import FLEX, PERIODIC_BOLUS, STEP_FORMAT

_MINUTE_US = 60_000_000
_MOST_SLEW_US = 7_200_000_000  # clocks are set by an hour or two when summer or a journey begins
_SHARE = 4  # a step is made longer or shorter by at most one part in so many
_THURSDAY = 3  # 1970-01-01, Monday is 0


class Basal:
    """``local_us``: local time less the pump's clock, in us since 1970-01-01, where flex stands.
    ``step``: step of the day that runs, from 0, None when none does. ``next_us``: instant at which
    the rate changes by itself, None for never."""

    def __init__(self, clock, store):
        self._clock = clock
        self._store = store
        self._most = None  # (patterns, fastest of their rates, most that they give in 26 h)
        self.local_us = 0
        self._wanted_us = 0  # what local_us should be
        self._from_us = 0  # local time at which the step that runs began
        self.step = None
        self.next_us = None
        self.bolus_us = 0  # instant at which the next periodic bolus begins
        self._units = 0  # of a periodic bolus that has begun, what is left

    def set_time(self, local_us):
        """Local time less the pump's clock is ``local_us``. Returns by how much flex jumps, 0 if
        it is left to come in time by itself."""
        moved = local_us - self.local_us
        self._wanted_us = local_us
        if -_MOST_SLEW_US <= moved <= _MOST_SLEW_US:
            return 0
        self.local_us = local_us
        self._from_us = 0
        return moved

    def begin(self, now_us, since_us=0):
        """Count periodic boluses from ``now_us`` on, the last one having begun ``since_us``
        before."""
        current = self._store.current
        self._units = 0
        self._from_us = 0
        self.local_us = self._wanted_us
        if current is not None:
            self.bolus_us = now_us + max(0, current["interval_s"] * 1_000_000 - since_us)

    def suspend(self, left):
        """Another bolus takes the place of the piece that runs, which has ``left`` units left."""
        if self._units:
            self._units = left
            self.next_us = None

    def skip(self, now_us):
        """The programme did not run until ``now_us``: periodic boluses that were due are left
        out."""
        self._units = 0
        interval_us = self._store.current["interval_s"] * 1_000_000
        if interval_us and self.bolus_us < now_us:
            self.bolus_us += -((self.bolus_us - now_us) // interval_us) * interval_us

    def piece(self, now_us):
        """(rate in nL/day, units it holds for or None for without end) from ``now_us`` on."""
        current = self._store.current
        mode = current["mode"]
        self.step = self.next_us = None
        if mode == FLEX:
            return self._flex(now_us, current)
        if mode == PERIODIC_BOLUS:
            return self._periodic(now_us, current)
        return basal_rate(current), None

    def _flex(self, now_us, current):
        local = now_us + self.local_us
        if local < self._from_us:  # set back: the step that runs goes on
            local = self._from_us
        start, end, rate, self.step = self._step(local, current)
        if start > self._from_us:  # it begins now
            self._from_us = start
            slew = self._wanted_us - self.local_us
            most = (end - local) // _SHARE
            slew = min(most, max(-most, slew))
            self.local_us += slew
        self.next_us = end - self.local_us
        return rate, rate * (self.next_us - now_us)

    def _step(self, local, current):
        """(begin, end, rate, number) of the step at local time ``local``."""
        day = local // DAY_US
        octets = find_part(current["parts"], current["week"][(day + _THURSDAY) % 7])
        day *= DAY_US
        at = len(octets)
        end = day + DAY_US
        while True:
            at -= 4
            minute, rate = unpack_from(STEP_FORMAT, octets, at)
            start = day + minute * _MINUTE_US
            if start <= local:
                break
            end = start
        return start, end, rate * 1000, at // 4

    def _periodic(self, now_us, current):
        rate = (current["bolus_nl"] * 86_400 + current["bolus_s"] // 2) // current["bolus_s"]
        if not self._units:
            if now_us < self.bolus_us:
                self.next_us = self.bolus_us
                rate = current["rate_nl_day"]
                return rate, rate * (self.bolus_us - now_us)
            self._units = current["bolus_nl"] * UNITS_PER_NL
            interval_us = current["interval_s"] * 1_000_000
            self.bolus_us += ((now_us - self.bolus_us) // interval_us + 1) * interval_us
        self.next_us = now_us - (-self._units // rate)
        return rate, self._units

    def rate_now(self):
        """Rate that the programme would run at now, in nL/day."""
        current = self._store.current
        if current["mode"] != FLEX:
            return basal_rate(current)
        local = max(self._clock.now_us() + self.local_us, self._from_us)
        return self._step(local, current)[2]

    def since_us(self):
        """How long ago a periodic bolus began, or they were programmed; 0 without."""
        current = self._store.current
        interval_us = current["interval_s"] * 1_000_000 if current is not None else 0
        return max(0, self._clock.now_us() - self.bolus_us + interval_us) if interval_us else 0

    def late_us(self, us):
        """How late a periodic bolus is after one of another kind that takes ``us`` from now on; 0
        if none is then due."""
        current = self._store.current
        if current is None or current["mode"] != PERIODIC_BOLUS:
            return 0
        now_us = self._clock.now_us()
        over_us = now_us + us
        interval_us = current["interval_s"] * 1_000_000
        if not self._units:
            return (over_us - self.bolus_us) % interval_us if over_us > self.bolus_us else 0
        length_us = current["bolus_s"] * 1_000_000
        if self.next_us is None:  # another one has taken its place
            left_us = self._units * length_us // (current["bolus_nl"] * UNITS_PER_NL)
        else:
            left_us = self.next_us - now_us
        begun_us = over_us + left_us - length_us
        return min(max(0, begun_us - self.bolus_us + interval_us), interval_us)

    def most_nl(self, p, us):
        """Most that the basal programme of ``p`` gives in any ``us`` (to 26 h), rounded up."""
        mode = p["mode"]
        if mode == PERIODIC_BOLUS:
            interval_us = p["interval_s"] * 1_000_000
            rest_us = us % interval_us
            volume = p["bolus_nl"]
            part = min(volume, ceil_div(rest_us * volume, p["bolus_s"] * 1_000_000))
            return us // interval_us * volume + part + ceil_div(p["rate_nl_day"] * us, DAY_US)
        if mode != FLEX:
            return ceil_div(basal_rate(p) * us, DAY_US)
        key = (p["parts_crc"], p["week"])
        if self._most is None or self._most[0] != key:
            try:
                programming = lent("programming")
                peak = max(step[1] for day in range(7) for step in programming.steps_of(p, day))
                self._most = (key, peak, programming.most_nl(p, programming.DAY_LOOK_S))
            finally:
                return_module("programming")
        return min(ceil_div(self._most[1] * us, DAY_US), self._most[2])

    def over(self):
        """The piece that ran is over at its end."""
        if self.next_us is not None and self._store.current["mode"] == PERIODIC_BOLUS:
            self._units = 0
