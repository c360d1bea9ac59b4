"""The exact programme: which motor step is due at which microsecond, in closed form.

Volume is counted in *units* of 1 nL/day x 1 us, so that a rate (whole nL/day) times a time (whole
microseconds) is a whole number of units and nothing is ever rounded:

    one step = step_pl x 86,400,000 units        (a day is 86,400,000,000 us, a nL is 1000 pL)

After ``base_us`` the programme stands at ``issued`` whole steps and ``phase`` units towards the
next one. The k-th step from there is due at

    base_us + ceil((k x spacing - phase) / rate)

and every later quantity follows from that line. Commanded volume is the number of steps due, so it
is never more than one step from the exact programme. Rates 0 to 24,000,000 nL/day; a step of
100,000 pL and segments of up to 1,000 steps stay below 2**62.
"""

DAY_US = 86_400_000_000
UNITS_PER_PL = 86_400_000  # DAY_US / 1000: a picolitre in units
UNITS_PER_NL = DAY_US


def ceil_div(a, b):
    """Quotient rounded up; b > 0."""
    return -(-a // b)


class Schedule:
    """The programme as one piece at a time: a constant rate, without end or for a given volume.

    ``segment`` hands out steps in order. What was handed out and not emitted comes back through
    ``give_back`` before the piece is changed. After ``segment`` returned n > 0, ``first_us``,
    ``slack`` and ``last_us`` describe the segment: step i (from 0) of it is due at
    ``first_us + ceil((i * spacing - slack) / rate)``, the last at ``last_us``.

    ``rate`` and ``spacing`` set the dose: ``is_whole`` tells whether they and the volume of a
    piece with an end are what was set. Any one or two bits that flip in them are seen.
    """

    def __init__(self, step_pl):
        self.step_pl = step_pl
        self.spacing = step_pl * UNITS_PER_PL
        self.rate = 0  # nL/day
        self.issued = 0  # steps handed out since construction
        self.first_us = 0
        self.slack = 0
        self.last_us = 0
        self._base_us = 0
        self._phase = 0  # units, in [0, spacing) unless steps came back
        self._left = None  # units left in a piece with an end, None without one
        self._left_guard = None  # -3 x _left
        self._guard = -5 * self.spacing  # -(3 x rate + 5 x spacing)

    def is_whole(self):
        """False when a number that sets the dose is not what was set."""
        if 3 * self.rate + 5 * self.spacing + self._guard:
            return False
        left = self._left
        if left is None:
            return self._left_guard is None
        return 3 * left == -self._left_guard

    def segment(self, most):
        """Hand out up to ``most`` (>= 1) further steps; return how many, 0 when none is due ever
        (rate 0) or before the piece ends."""
        rate = self.rate
        if rate == 0:
            return 0
        spacing = self.spacing
        if self._left is not None:
            most = min(most, (self._left + self._phase) // spacing)
            if most <= 0:
                return 0
        units = spacing - self._phase
        us = -(-units // rate)
        self.slack = us * rate - units
        self.first_us = self._base_us + us
        units = (most - 1) * spacing - self.slack
        self.last_us = self.first_us - (-units // rate)
        units = (self.last_us - self._base_us) * rate
        if self._left is not None:  # may fall below 0 by less than a microsecond's until settled
            self._left -= units
            self._left_guard += 3 * units
        self._phase += units - most * spacing
        self._base_us = self.last_us
        self.issued += most
        return most

    def give_back(self, count):
        """Take back the last ``count`` steps handed out: they were not emitted."""
        self.issued -= count
        self._phase += count * self.spacing

    def settle(self, now_us):
        """Bring the programme to ``now_us`` at the present rate, so that the piece can change.

        Steps due by then and not handed out stay owed and are due at once. ``now_us`` may lie
        before the last step handed out, if the steps after it were given back.
        """
        covered = (now_us - self._base_us) * self.rate
        left = self._left
        if left is not None:
            if covered > left:
                covered = left
            self._left = left - covered
            self._left_guard += 3 * covered
        self._phase += covered
        self._base_us = now_us

    def run_rate(self, rate_nl_day):
        """From the settled instant on: ``rate_nl_day`` without end. 0 stops and keeps the
        phase."""
        self.rate = rate_nl_day
        self._left = None
        self._left_guard = None
        self._guard = -3 * rate_nl_day - 5 * self.spacing

    def run_volume(self, volume_nl, rate_nl_day):
        """From the settled instant on: ``volume_nl`` at ``rate_nl_day`` (> 0), then nothing."""
        self.run_units(volume_nl * UNITS_PER_NL, rate_nl_day)

    def run_units(self, units, rate_nl_day):
        """From the settled instant on: ``units`` at ``rate_nl_day`` (> 0), then nothing."""
        self.rate = rate_nl_day
        self._left = units
        self._left_guard = -3 * units
        self._guard = -3 * rate_nl_day - 5 * self.spacing

    def forget_due(self):
        """Drop whole steps that are owed, at the settled instant; the part of a step is kept."""
        if self._phase > self.spacing:
            self._phase %= self.spacing

    def left_units(self):
        """Units left of a piece with an end at the settled instant, 0 for one without."""
        return self._left or 0

    def next_us(self):
        """Instant at which the next step is due at the present rate (> 0)."""
        return self._base_us + ceil_div(self.spacing - self._phase, self.rate)

    def end_us(self):
        """Instant at which a piece with an end is over; None for one without."""
        if self._left is None:
            return None
        return self._base_us + ceil_div(self._left, self.rate)

    def left_pl(self, now_us):
        """Volume of a piece with an end that is not yet due at ``now_us``, rounded up; else 0."""
        if self._left is None:
            return 0
        left = self._left - (now_us - self._base_us) * self.rate
        return ceil_div(left, UNITS_PER_PL) if left > 0 else 0

    def programmed_pl(self, now_us):
        """Volume the programme has asked for since construction, whole picolitres, rounded
        down."""
        covered = (now_us - self._base_us) * self.rate
        if self._left is not None and self._left < covered:
            covered = self._left
        return self.issued * self.step_pl + (self._phase + covered) // UNITS_PER_PL
