"""Flow: what the rotor does, against the steps that were emitted.

The rotor gives a pulse for every ``per`` steps: what moved is known to within ``per`` - 1 steps.
Looked at whenever motion writes the account, before each segment and at each halt, and after a
pulse of the rotor, where its driver can tell.

- stall: no pulse over ``per`` + 1 steps. It is over when the rotor follows again.
- over- and under-infusion: over the last _WINDOW steps the rotor is off by more than 5 %.
- free run: _FREE_STEPS more than were emitted since the last look. The motor is halted at once.

While one of these stands, what the rotor did not follow (or did too much) is taken out of the
account, down to what the sensor cannot tell.
"""

from array import array

from micropython import const

from pump_wire.messages import FAULT

_EVERY = const(20)  # steps between two marks of the window
_MARKS = const(20)
_WINDOW = const(400)  # _EVERY * _MARKS; ALM-4 in steps: 5 % of it are 20
_OFF = const(20)
_ON = const(8)  # 2 %: back in order
_FREE_STEPS = const(8)


class Flow:
    """``per``: steps of a rotor pulse. ``ran_free``: the rotor turned by itself, since when all
    is latched."""

    def __init__(self, clock, stepper, rotor, per, ledger, alarms, log, faults):
        self._clock = clock
        self._stepper = stepper
        self._rotor = rotor
        self._per = per
        self._ledger = ledger
        self._alarms = alarms
        self._log = log
        self._faults = faults
        self._booked = 0  # steps that were taken out of the account, of this start
        self._steps = self._turned = 0  # as of the last look
        self._seen_steps = 0  # steps when a pulse was last seen
        self._seen_us = 0
        self._stalled_us = -1  # since when at the earliest, -1: it is not
        self._stalled_booked = 0
        self._off = False  # over- or under-infusion stands
        self._marks = array("i", bytes(4 * (_MARKS + 1)))  # steps without rotor there, a ring
        self._mark = 0  # index of the newest
        self._mark_steps = 0  # steps there
        self.ran_free = False

    def look(self):
        """Compare. Reads two counters; may begin and end alarms, note events, change the
        account."""
        steps = self._stepper.emitted()
        turned = self._rotor.count() * self._per
        made = steps - self._steps
        followed = turned - self._turned
        if not made and not followed:
            return
        now_us = self._clock.now_us()
        self._steps = steps
        self._turned = turned
        if followed - made >= _FREE_STEPS and not self.ran_free:
            self._free()
            return
        if self._stalled_us >= 0:
            self._look_stalled(made, followed, now_us)
        elif followed > 0:
            self._seen_steps = steps
            self._seen_us = now_us
        elif steps - self._seen_steps > self._per:
            self._stalled_us = self._seen_us
            self._stalled_booked = self._booked
            self._log.note("rotor_stalled", (now_us - self._seen_us) // 1_000_000)
            self._alarms.begin("stall")
        if self._stalled_us < 0:
            self._look_back(steps, steps - turned)
        if self._stalled_us >= 0 or self._off:
            self._book(steps - turned)

    def _look_stalled(self, made, followed, now_us):
        if followed + self._per < made or not followed:
            return
        steps = self._steps
        self._seen_steps = steps
        self._seen_us = now_us
        self._book(steps - self._turned)
        self._log.note("rotor_follows", (now_us - self._stalled_us) // 1_000_000)
        self._log.note(
            "volume_missed", (self._booked - self._stalled_booked) * self._ledger.step_pl
        )
        self._stalled_us = -1
        self._alarms.end("stall")
        for at in range(_MARKS + 1):
            self._marks[at] = steps - self._turned
        self._mark_steps = steps

    def _look_back(self, steps, behind):
        mark = self._mark
        if steps - self._mark_steps >= _EVERY:
            mark = mark + 1 if mark < _MARKS else 0
            self._mark = mark
            self._mark_steps = steps
            self._marks[mark] = behind
        missing = behind - self._marks[mark + 1 if mark < _MARKS else 0]
        slack = self._per - 1
        if missing >= _OFF - slack:
            self._off = True
            self._alarms.begin("under_infusion")
        elif -missing >= _OFF - slack:
            self._off = True
            self._alarms.begin("over_infusion")
        elif self._off and -_ON <= missing <= _ON:
            self._off = False
            self._alarms.end("under_infusion")
            self._alarms.end("over_infusion")

    def _book(self, missing):
        """``missing``: steps without rotor, of this start. What is certain leaves the account."""
        slack = self._per - 1
        more = missing - self._booked
        if more > slack:
            more -= slack
        elif more < 0:  # at least so much, and at most slack more, was moved too much
            more -= slack
        else:
            return
        self._booked += more
        self._ledger.miss(more)

    def refilled(self):
        """The account begins anew: what was not booked before is settled by what was measured."""
        self._booked = self._steps - self._turned

    def pulsed(self):
        """The rotor gave a pulse."""
        turned = self._rotor.count() * self._per - self._turned
        if turned - (self._stepper.emitted() - self._steps) >= _FREE_STEPS:
            self.look()

    def _free(self):
        self._stepper.halt()
        self.ran_free = True
        self._book(self._steps - self._turned)
        try:
            self._ledger.settle()
        finally:
            self._faults.latch(
                FAULT["free_run"], "%d steps too many" % (self._turned - self._steps)
            )
