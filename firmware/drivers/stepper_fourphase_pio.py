"""Four coils of a unipolar motor (28BYJ-48) behind switches (ULN2003), stepped by PIO of an RP2
chip.

It is ``stepper_pio``, which it needs beside it, with one more state machine: that follows the
edges on the STEP pin, to which nothing is connected, and gives the coils their next phase within a
microsecond. All that ``stepper_pio`` promises of its pulses holds for the steps: even while flash
is erased, and counted by a state machine of its own.

A step is a full one, from two neighbouring coils to the next two, changed in the same instant.
While the motor stands after ``halt`` no coil has current, and nothing holds it but its gears. A
start after a power cut begins with coils 0 and 1, so the motor may first be drawn to them, by up
to two steps in either direction.
"""

# The names inside a PIO program are the assembler's.
# ruff: noqa: F821
# pyright: reportUndefinedVariable=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

import rp2

from drivers.stepper_pio import StepperPio

_PHASES = (3, 6, 12, 9)  # coils with current; coil 0 is bit 0
_OFF = rp2.asm_pio_encode("set(pins, 0)", 0)


@rp2.asm_pio(set_init=(rp2.PIO.OUT_LOW,) * 4)
def _coils():
    wrap_target()
    wait(0, pin, 0)
    wait(1, pin, 0)
    set(pins, 6)
    wait(0, pin, 0)
    wait(1, pin, 0)
    set(pins, 12)
    wait(0, pin, 0)
    wait(1, pin, 0)
    set(pins, 9)
    wait(0, pin, 0)
    wait(1, pin, 0)
    set(pins, 3)
    wrap()


def _no_direction(level):
    """It only turns one way."""


class StepperFourPhasePio(StepperPio):
    """``step``: an unconnected pin. ``coils``: the first of four pins in a row, in the order in
    which the coils follow each other; high is current. ``gap_us``: least time between two steps,
    and from current in the coils to the first step. ``pulse_us``, ``emitter``, ``counter``: as
    ``StepperPio`` takes them. ``phases``: the coils' state machine."""

    def __init__(self, step, coils, pulse_us, gap_us, emitter=0, counter=1, phases=4):
        step(0)
        self._phases = rp2.StateMachine(phases, _coils, in_base=step, set_base=coils)
        super().__init__(
            step, _no_direction, self._power, 1, 1, pulse_us, gap_us, emitter, counter
        )
        self._phases.active(1)

    def _power(self, level):
        """Stands in for EN. No step is under way."""
        if level:
            phase = _PHASES[self.emitted() & 3]
            self._phases.exec(rp2.asm_pio_encode("set(pins, %d)" % phase, 0))
        else:
            self._phases.exec(_OFF)
