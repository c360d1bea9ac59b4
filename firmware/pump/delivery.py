"""Infusion modes: what runs now, what it came from, and every change between them.

A change never stops delivery: motion is halted and the next piece starts in the same instant, with
the part of a step that was already due carried over. A single bolus takes the place of the basal
rate and returns to the mode it came from; after a restart it does not come back.
"""

from pump.prescription import RATE_HIGH_NL_DAY, Refusal, basal_rate
from pump.schedule import DAY_US, UNITS_PER_NL, ceil_div
from pump_wire.messages import (
    BY_ALARM,
    BY_COMMAND,
    BY_FAULT,
    BY_PRESCRIPTION,
    EMPTY_RESERVOIR,
    NO_PRESCRIPTION,
    RUNNING,
    SINGLE_BOLUS,
    STOP_ALL,
    STOPPED,
)

_UNUSABLE_PL = 1_400_000_000  # PRODUCT.md: "1.4 mL cannot be used"
_NO_PRESCRIPTION_CAPACITY_PL = 20_000_000_000  # until a prescription says otherwise: 20 mL
_NO_PRESCRIPTION_LOW_PL = 2_000_000_000  # PRODUCT.md: low reservoir 2 mL by default


class Delivery:
    """``mode``, ``return_mode`` and ``stop_reason`` as in the message table. ``held``: index in
    ACTIONS of what alarms want; whoever sets it calls ``obey`` soon.

    Commands return (sequence number of the event that records them, instant they took effect).
    Events are noted here and written by whoever called, after the motor has been fed.
    """

    def __init__(self, schedule, motion, ledger, store, faults, log):
        self._schedule = self.schedule = schedule
        self._motion = motion
        self._ledger = ledger
        self._store = store
        self._faults = faults
        self._log = log
        self._low_told = False
        self._empty = False
        self._bolus_pl = 0
        self._bolus_event = 0  # number of the event that ended the last bolus
        self.mode = STOPPED
        self.stop_reason = NO_PRESCRIPTION
        self.held = 0
        self._programmed_from_pl = 0  # schedule's programmed_pl at the last refill of this start
        self._refilled = False
        motion.on_piece_end = self._bolus_over
        motion.allowance = self._steps_to_mark
        motion.on_mark = self._at_mark

    # -- what runs ----------------------------------------------------------------------------

    @property
    def return_mode(self):
        """Mode after a bolus; the mode itself when none runs."""
        return self._basal_mode()[0] if self.mode == SINGLE_BOLUS else self.mode

    @property
    def bolus_pl(self):
        """Volume of the running bolus, 0 when none runs."""
        return self._bolus_pl if self.mode == SINGLE_BOLUS else 0

    def capacity_pl(self):
        current = self._store.current
        return current["capacity_nl"] * 1000 if current else _NO_PRESCRIPTION_CAPACITY_PL

    def low_mark_pl(self):
        current = self._store.current
        return current["low_mark_nl"] * 1000 if current else _NO_PRESCRIPTION_LOW_PL

    def unusable_pl(self):
        return _UNUSABLE_PL

    def programmed_pl(self, now_us):
        """Volume the programme has asked for since the last refill."""
        programmed = self._schedule.programmed_pl(now_us) - self._programmed_from_pl
        if not self._refilled:  # steps of earlier starts since the refill were asked for too
            earlier = self._ledger.start_steps() - self._ledger.refill_steps()
            programmed += earlier * self._schedule.step_pl
        return programmed

    def _basal_mode(self):
        """(mode, stop reason) that the prescription, commands and reservoir lead to."""
        if self._faults.code:
            return STOPPED, BY_FAULT
        if self._store.current is None:
            return STOPPED, NO_PRESCRIPTION
        if self._store.halted:
            return STOPPED, BY_COMMAND
        if self._empty:
            return STOPPED, EMPTY_RESERVOIR
        if self.held == STOP_ALL:
            return STOPPED, BY_ALARM
        mode = self._store.current["mode"]
        return mode, BY_PRESCRIPTION if mode == STOPPED else RUNNING

    def _run_basal(self):
        """Start the basal piece at the settled instant."""
        self._store.check()
        mode, reason = self._basal_mode()
        changed = mode != self.mode
        self.mode = mode
        self.stop_reason = reason
        self._bolus_pl = 0
        self._schedule.run_rate(basal_rate(self._store.current) if mode != STOPPED else 0)
        if changed:
            self._log.note("mode_entered", mode)

    def begin(self):
        """Run what is stored, from this instant. Called once at start."""
        self._empty = self._whole_steps_to_empty() <= 0
        self._motion.halt()
        if self._empty and self._ledger.refills:
            self._log.note("empty_reservoir", self._ledger.residual_pl())
        self._run_basal()

    def obey(self):
        """Bring what runs in line with ``held``. For a task of its own, not from inside a change.
        Raises OSError."""
        if self.mode == SINGLE_BOLUS:
            if not self.held:
                return
        elif self._basal_mode() == (self.mode, self.stop_reason):
            return
        if self._faults.code:
            return
        self._motion.halt()
        self._end_bolus_early()
        self._run_basal()
        self._motion.kick()

    def fault_stop(self):
        """Stop for a latched fault. Writes nothing: storage may be what failed."""
        self._schedule.run_rate(0)
        self.mode = STOPPED
        self.stop_reason = BY_FAULT

    # -- marks of the reservoir ---------------------------------------------------------------

    def _whole_steps_to_empty(self):
        return (self._ledger.residual_pl() - _UNUSABLE_PL) // self._ledger.step_pl

    def _low_threshold_pl(self):
        low = self.low_mark_pl()
        return low if low > _UNUSABLE_PL else _UNUSABLE_PL

    def _steps_to_mark(self):
        """Steps the reservoir allows before its next mark."""
        if self._low_told:
            return self._whole_steps_to_empty()
        above_pl = self._ledger.residual_pl() - self._low_threshold_pl()
        to_low = ceil_div(above_pl, self._ledger.step_pl)
        return min(to_low, self._whole_steps_to_empty())

    def _at_mark(self):
        """The next mark is reached and no step is outstanding."""
        residual = self._ledger.residual_pl()
        if not self._low_told:
            self._low_told = True
            self._log.note("low_reservoir", residual)
            return
        self._motion.halt()
        self._end_bolus_early()
        self._empty = True
        self._log.note("empty_reservoir", residual)
        self._run_basal()

    # -- commands -----------------------------------------------------------------------------

    def prescribe(self, prescription):
        """Commit ``prescription`` (checked) and run it from this instant; a stop by command
        stays."""
        self._store.commit(prescription, self._store.halted)
        now_us = self._motion.halt()
        self._end_bolus_early()
        self._low_told = False  # the mark may be another one now
        self._run_basal()
        event = self._log.note("prescription_committed", self._store.sequence)
        self._motion.kick()
        return event, now_us

    def plan_bolus(self, volume_nl, duration_us):
        """(rate in nL/day, time in us) of a bolus; raises Refusal when it cannot be given.

        The rate is the nearest whole nL/day, so the time differs from the asked one by less than
        one part in the rate.
        """
        self._refuse_if_latched()
        if self.held:
            raise Refusal("alarm_stands", "action", self.held)
        if self.mode == SINGLE_BOLUS:
            raise Refusal("bolus_running")
        if self.mode == STOPPED:
            raise Refusal("wrong_mode", "mode", self.mode)
        if volume_nl * 1000 < self._ledger.step_pl:
            smallest_nl = ceil_div(self._ledger.step_pl, 1000)
            raise Refusal("below_limit", "volume_nl", volume_nl, smallest_nl)
        units = volume_nl * UNITS_PER_NL
        rate = (units + duration_us // 2) // duration_us
        if rate > RATE_HIGH_NL_DAY:
            shortest_us = ceil_div(volume_nl * DAY_US, RATE_HIGH_NL_DAY)
            raise Refusal("below_limit", "duration_us", duration_us, shortest_us)
        if rate < self._schedule.rate:  # it takes the place of the basal rate
            raise Refusal("below_limit", "rate_nl_day", rate, self._schedule.rate)
        allowed_nl = (self._ledger.residual_pl() - _UNUSABLE_PL) // 1000
        if volume_nl > allowed_nl:
            raise Refusal("not_enough_drug", "volume_nl", volume_nl, max(allowed_nl, 0))
        return rate, ceil_div(units, rate)

    def start_bolus(self, volume_nl, duration_us):
        """Run a bolus from this instant, in place of the basal rate."""
        rate, _ = self.plan_bolus(volume_nl, duration_us)
        now_us = self._motion.halt()
        self._refuse_if_latched()
        self._ledger.bolus_begins()
        self._schedule.run_volume(volume_nl, rate)
        self.mode = SINGLE_BOLUS
        self.stop_reason = RUNNING
        self._bolus_pl = volume_nl * 1000
        event = self._log.note("bolus_started", self._bolus_pl)
        self._motion.kick()
        return event, now_us

    def bolus_left_pl(self, now_us):
        """Part of the running bolus that is not yet due."""
        return self._schedule.left_pl(now_us) if self.mode == SINGLE_BOLUS else 0

    def cancel_bolus(self):
        """End the running bolus, back to the mode it came from."""
        if self.mode != SINGLE_BOLUS:
            raise Refusal("wrong_mode", "mode", self.mode)
        now_us = self._motion.halt()
        event = self._end_bolus_early()
        self._run_basal()
        self._motion.kick()
        return event, now_us

    def stop(self):
        """Stop until resumed, also across a restart."""
        self._refuse_without_prescription()
        now_us = self._motion.halt()
        self._schedule.run_rate(0)
        self._store.commit(self._store.current, True)
        self._end_bolus_early()
        self._run_basal()
        return self._log.note("delivery_stopped"), now_us

    def plan_resume(self):
        """(mode, rate) that resuming leads to; raises Refusal when it cannot be done."""
        self._refuse_without_prescription()
        self._refuse_if_latched()
        if not self._store.halted:
            raise Refusal("wrong_mode", "mode", self.mode)
        current = self._store.current
        if self._empty:
            return STOPPED, 0
        return current["mode"], basal_rate(current)

    def resume(self):
        """Leave stopped and run the prescription from this instant."""
        self.plan_resume()
        self._store.commit(self._store.current, False)
        now_us = self._motion.halt()
        self._run_basal()
        event = self._log.note("delivery_resumed")
        self._motion.kick()
        return event, now_us

    def refill(self, measured_pl, fill_pl, wall_s, reason, drugs):
        """Start a new account. Delivery goes on with the part of a step that was due."""
        now_us = self._motion.halt()
        programmed_pl = self.programmed_pl(now_us)
        self._ledger.refill(measured_pl, fill_pl, now_us, wall_s, reason, programmed_pl, drugs)
        self._programmed_from_pl = self._schedule.programmed_pl(now_us)
        self._refilled = True
        self._low_told = False
        self._empty = self._whole_steps_to_empty() <= 0
        event = self._log.note("refill_recorded", fill_pl)  # ends the alarm that holds delivery
        if self.mode != SINGLE_BOLUS:
            self._run_basal()
        if self._empty:
            self._log.note("empty_reservoir", fill_pl)
        self._motion.kick()
        return event, now_us

    # -- the bolus ----------------------------------------------------------------------------

    def _bolus_over(self, end_us):
        """The bolus is complete at ``end_us`` and all its steps are out."""
        self._schedule.settle(end_us)
        moved = self._ledger.bolus_ends()
        self._bolus_event = self._log.note("bolus_done", moved * self._ledger.step_pl)
        self._run_basal()

    def _end_bolus_early(self):
        """End a running bolus where it is; returns the number of the event that ended it, or the
        last one. Motion must be halted; a new piece must follow."""
        if self.mode != SINGLE_BOLUS:
            return self._bolus_event
        moved = self._ledger.bolus_ends()
        left_pl = self._bolus_pl - moved * self._ledger.step_pl
        self._bolus_event = self._log.note("bolus_ended_early", left_pl)
        return self._bolus_event

    def _refuse_if_latched(self):
        if self._faults.code:
            raise Refusal("fault_latched", "fault", self._faults.code)

    def _refuse_without_prescription(self):
        if self._store.current is None:
            raise Refusal("no_prescription")
