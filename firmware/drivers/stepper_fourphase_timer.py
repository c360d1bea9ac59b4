"""Four coils of a unipolar motor (28BYJ-48) behind switches (ULN2003), stepped by a timer.

Fulfils the stepper contract of ``drivers/README.md``, with these words for its: a pulse is a full
step, from two neighbouring coils to the next two; the driver chip being off is all four coils
without current; there is no STEP, DIR or EN. Instants are ``stepper_timer``'s, which it needs
beside it. ``emitted`` counts the steps given to the coils; nothing counts them on the pins.

Two coils at a time, one changed after the other: between two steps one coil carries current for
some microseconds, never three, and never two that face each other. While the motor stands after
``halt`` nothing holds it but its gears. A start after a power cut begins with coils 0 and 1, so
the motor may first be drawn to them, by up to two steps in either direction.
"""

from drivers.stepper_timer import StepperTimer


def _no_direction(level):
    """It only turns one way."""


class StepperFourPhaseTimer(StepperTimer):
    """``timer``: as ``StepperTimer`` takes it. ``coils``: four outputs, called with a level, in
    the order in which they follow each other; high is current. ``gap_us``: least time between two
    steps, and from current in the coils to the first step."""

    def __init__(self, timer, coils, gap_us):
        self._coils = coils
        self._phase = 0  # coils _phase and _phase + 1 have current, or had; written by _turn
        super().__init__(self._turn, _no_direction, self._power, 1, 1, 0, gap_us, timer)

    def _turn(self, level):
        """Stands in for STEP: the timer's interrupt calls it. Allocates nothing."""
        if level:
            phase = self._phase
            self._coils[phase](0)
            self._coils[(phase + 2) & 3](1)
            self._phase = (phase + 1) & 3

    def _power(self, level):
        """Stands in for EN."""
        phase = self._phase
        for i in range(2, 4):
            self._coils[(phase + i) & 3](0)
        for i in range(2):
            self._coils[(phase + i) & 3](level)
