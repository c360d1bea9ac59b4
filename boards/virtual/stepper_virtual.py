"""The virtual twin of a step driver: pulses happen at exactly the instants they are due.

Whole segments are accounted in closed form, so a day of steps costs as much as one. With a trace
file every run of pulses is written down as it happens, for ``bench.edges()``.
"""

_WORDS = 5  # of a segment


class StepperVirtual:
    """See the stepper contract in ``drivers/README.md``. ``plant`` gets the pulses.

    ``world_us``: instant of the world at which the pump's clock was 0. ``trace``: open text file
    or None; lines are ``step FIRST_US SLACK SPACING RATE COUNT`` and ``enable T_US LEVEL``, in
    world time.
    """

    def __init__(self, plant, world_us, trace):
        self._plant = plant
        self._world_us = world_us
        self._trace = trace
        self._clock = None
        self._emitted = 0
        self._queued = 0  # pulses, less what halt dropped
        self._count = 0  # pulses still queued, of the segment described by:
        self._first = 0  # instant of the next pulse
        self._slack = 0
        self._spacing = 0
        self._rate = 0
        self._more = []  # segments behind it: first_us, slack, spacing, rate, count of each
        self._run = None  # [first, slack, spacing, rate, count] of the run being traced
        self._enabled = False

    def attach(self, clock):
        self._clock = clock

    @property
    def enabled(self):
        """The driver chip is switched on."""
        return self._enabled

    # Calls of eleven words at most, arguments and all, MicroPython makes without the heap, where
    # looking for room takes longer than all that is done here.

    def queue(self, first_us, slack, spacing, rate, count):
        now = self._clock.now_us()
        if not self._enabled:
            self._enable(now, True)
        self._queued += count
        if self._count:
            self._more.append(first_us)
            self._more.append(slack)
            self._more.append(spacing)
            self._more.append(rate)
            self._more.append(count)
            return
        self._first = first_us
        self._slack = slack
        self._spacing = spacing
        self._rate = rate
        self._count = count
        if first_us < now:
            self._catch_up(now)

    def _catch_up(self, now):
        """Pulses that are too late to be on time happen now."""
        while self._count and self._first < now:
            self._happen(now, 0, 1)
            self._skip(1)

    def emitted(self):
        if self._count:
            now = self._clock.now_us()
            if now >= self._first:
                self._advance(now)
        return self._emitted

    def commanded(self):
        self.emitted()
        queued = self._queued - self._count
        for at in range(_WORDS - 1, len(self._more), _WORDS):
            queued -= self._more[at]  # allocates nothing: halt works where memory is out
        return queued

    def halt(self):
        emitted = self.emitted()
        self._queued = self.commanded()
        self._count = 0
        self._more.clear()
        if self._enabled:
            self._enable(self._clock.now_us(), False)
        return emitted

    def _advance(self, now):
        """Let every pulse due by ``now`` happen."""
        while self._count and now >= self._first:
            due = ((now - self._first) * self._rate + self._slack) // self._spacing + 1
            if due < self._count:
                self._happen(self._first, self._slack, due)
                self._skip(due)
                return
            self._happen(self._first, self._slack, self._count)
            self._count = 0
            if self._more:
                self._first = self._more.pop(0)
                self._slack = self._more.pop(0)
                self._spacing = self._more.pop(0)
                self._rate = self._more.pop(0)
                self._count = self._more.pop(0)

    def _skip(self, count):
        """The next ``count`` pulses of the segment have happened, and more are to come or none."""
        span = count * self._spacing - self._slack
        lead = -(-span // self._rate)
        self._slack = lead * self._rate - span
        self._first += lead
        self._count -= count

    def _happen(self, first, slack, count):
        """``count`` pulses, spaced as those of the segment, happen from ``first`` on."""
        self._emitted += count
        self._plant.move(count)
        if self._trace is not None:
            self._write_down(first, slack, count)

    def _write_down(self, first, slack, count):
        run = self._run
        spacing = self._spacing
        rate = self._rate
        if run is not None:
            if run[3] == rate:
                span = run[4] * spacing - run[1]
                lead = -(-span // rate)
                if first == run[0] + lead and slack == lead * rate - span:
                    run[4] += count
                    return
            self.flush_trace()
        self._run = [first, slack, spacing, rate, count]

    def _enable(self, now, level):
        self._enabled = level
        if self._trace is not None:
            self.flush_trace()
            self._trace.write("enable %d %d\n" % (self._world_us + now, level))

    def flush_trace(self):
        """Write down the run that is going on, up to the present."""
        run = self._run
        if run is not None:
            self._run = None
            self._trace.write(
                "step %d %d %d %d %d\n" % (self._world_us + run[0], run[1], run[2], run[3], run[4])
            )
