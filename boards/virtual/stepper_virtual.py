"""The virtual twin of a step driver: pulses happen at exactly the instants they are due.

Whole segments are accounted in closed form, so a day of steps costs as much as one. With a trace
file every run of pulses is written down as it happens, for ``bench.edges()``.
"""


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
        self._more = []  # segments behind it
        self._run = None  # [first, slack, spacing, rate, count] of the run being traced
        self._enabled = False

    def attach(self, clock):
        self._clock = clock

    @property
    def enabled(self):
        """The driver chip is switched on."""
        return self._enabled

    def queue(self, first_us, slack, spacing, rate, count):
        now = self._clock.now_us()
        if not self._enabled:
            self._enable(now, True)
        self._queued += count
        if self._count:
            self._more.append((first_us, slack, spacing, rate, count))
            return
        while count and first_us < now:  # too late to be on time: they happen now
            self._happen(now, 0, spacing, rate, 1)
            count -= 1
            lead = -((slack - spacing) // rate)
            slack += lead * rate - spacing
            first_us += lead
        self._first = first_us
        self._slack = slack
        self._spacing = spacing
        self._rate = rate
        self._count = count

    def emitted(self):
        count = self._count
        if count:
            now = self._clock.now_us()
            if now >= self._first:
                self._advance(now)
        return self._emitted

    def commanded(self):
        self.emitted()
        queued = self._queued - self._count
        for segment in self._more:  # allocates nothing: halt works where memory is out
            queued -= segment[4]
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
            spacing = self._spacing
            rate = self._rate
            due = ((now - self._first) * rate + self._slack) // spacing + 1
            if due < self._count:
                self._happen(self._first, self._slack, spacing, rate, due)
                span = due * spacing - self._slack
                lead = -(-span // rate)
                self._slack = lead * rate - span
                self._first += lead
                self._count -= due
                return
            self._happen(self._first, self._slack, spacing, rate, self._count)
            self._count = 0
            if self._more:
                self._first, self._slack, self._spacing, self._rate, self._count = self._more.pop(
                    0
                )

    def _happen(self, first, slack, spacing, rate, count):
        self._emitted += count
        self._plant.move(count)
        if self._trace is None:
            return
        run = self._run
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
