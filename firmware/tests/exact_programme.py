"""What a programme asks for, worked out the long way: a list of pieces, whole numbers of *units*
(1 nL/day for 1 us) and nothing carried from step to step. The judge of ``pump.schedule``. Pure.
"""

DAY_US = 86_400_000_000
UNITS_PER_PL = 86_400_000


class ExactProgramme:
    """Pieces are added in order of time. Between pieces nothing is lost."""

    def __init__(self, step_pl):
        self.step_units = step_pl * UNITS_PER_PL
        self._pieces = [(0, 0, 0, None)]  # from_us, units by then, rate, most units

    def rate_from(self, at_us, rate_nl_day):
        """From ``at_us`` on ``rate_nl_day``, without end."""
        self._pieces.append((at_us, self.units(at_us), rate_nl_day, None))

    def volume_from(self, at_us, volume_nl, rate_nl_day):
        """From ``at_us`` on ``volume_nl`` at ``rate_nl_day``, then nothing; returns the first
        whole microsecond at which all of it is asked for."""
        units = self.units(at_us)
        self._pieces.append((at_us, units, rate_nl_day, units + volume_nl * DAY_US))
        return at_us - (-(volume_nl * DAY_US) // rate_nl_day)

    def forget_from(self, from_us):
        """The pieces that begin at ``from_us`` or later will not be."""
        while self._pieces[-1][0] >= from_us:
            self._pieces.pop()

    def units(self, at_us):
        """Units asked for by ``at_us``."""
        for from_us, units, rate, most in reversed(self._pieces):
            if from_us <= at_us:
                units += (at_us - from_us) * rate
                return units if most is None or units < most else most
        raise ValueError("%d us is before the programme" % at_us)

    def picolitres(self, at_us):
        """Volume asked for by ``at_us``, rounded down."""
        return self.units(at_us) // UNITS_PER_PL

    def steps(self, at_us):
        """Whole steps asked for by ``at_us``."""
        return self.units(at_us) // self.step_units

    def is_due(self, step, at_us):
        """True if ``at_us`` is the instant of the ``step``-th step (from 1): the first whole
        microsecond by which so many whole steps are asked for."""
        need = step * self.step_units
        return self.units(at_us) >= need and (at_us == 0 or self.units(at_us - 1) < need)
