"""Infusion modes: what runs now, what it came from, and every change between them.

A change never stops delivery: motion is halted and the next piece starts in the same instant, with
the part of a step that was already due carried over. A bolus takes the place of the basal
programme and returns to the mode it came from; after a restart it does not come back. A bridge
bolus goes on after a restart: what is left of it follows from the count of steps.
"""

from pump.lending import lent, return_module
from pump.prescription import NONE, Refusal
from pump.schedule import DAY_US, UNITS_PER_NL, ceil_div
from pump_wire.messages import (
    BRIDGE,
    BRIDGE_BOLUS,
    BY_ALARM,
    BY_COMMAND,
    BY_FAULT,
    BY_PRESCRIPTION,
    EMPTY_RESERVOIR,
    FLEX,
    NO_PRESCRIPTION,
    PATIENT_BOLUS,
    PERIODIC_BOLUS,
    PRIMING_BOLUS,
    RUNNING,
    SINGLE_BOLUS,
    STOP_ALL,
    STOPPED,
)

_UNUSABLE_PL = 1_400_000_000  # PRODUCT.md: "1.4 mL cannot be used"
_NO_PRESCRIPTION_CAPACITY_PL = 20_000_000_000  # until a prescription says otherwise: 20 mL
_NO_PRESCRIPTION_LOW_PL = 2_000_000_000  # PRODUCT.md: low reservoir 2 mL by default
_CANCELLED = 2  # first of the store's bridge
_STARTED = {
    SINGLE_BOLUS: "bolus_started",
    PATIENT_BOLUS: "patient_granted",
    PRIMING_BOLUS: "prime_started",
}


class Delivery:
    """``mode``, ``return_mode`` and ``stop_reason`` as in the message table. ``held``: index in
    ACTIONS of what alarms want; whoever sets it calls ``obey`` soon.

    Commands return (sequence number of the event that records them, instant they took effect).
    Events are noted here and written by whoever called, after the motor has been fed.
    """

    def __init__(self, schedule, motion, ledger, store, faults, log, basal, limits):
        self._schedule = self.schedule = schedule
        self._motion = motion
        self._ledger = self.ledger = ledger
        self._store = self.store = store
        self._faults = faults
        self._log = log
        self.basal = basal
        self.limits = limits
        self._low_told = False
        self.empty = False
        self._limited = False  # a volume limit keeps the basal programme back
        self._bolus_pl = 0
        self._bolus_event = 0  # number of the event that ended the last bolus
        self._bridge_units = None  # left of a bridge bolus, None: as the count of steps has it
        self._bridge_over = False  # and not yet made durable
        self.mode = STOPPED
        self.stop_reason = NO_PRESCRIPTION
        self.held = 0
        self._programmed_from_pl = 0  # schedule's programmed_pl at the last refill of this start
        self._refilled = False
        motion.on_piece_end = self._piece_over
        motion.allowance = self._allowance
        motion.on_mark = self._at_mark
        motion.on_wake = self._free
        motion.on_fed = self._fed

    # -- what runs ----------------------------------------------------------------------------

    @property
    def in_bolus(self):
        """True while a bolus takes the place of the basal programme."""
        return self.mode in _STARTED

    @property
    def return_mode(self):
        """Mode after a bolus; the mode itself when none runs."""
        return self._basal_mode()[0] if self.in_bolus else self.mode

    @property
    def bolus_pl(self):
        """Volume of the running bolus, 0 when none runs."""
        return self._bolus_pl if self.in_bolus else 0

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
        store = self._store
        if store.current is None:
            return STOPPED, NO_PRESCRIPTION
        if store.halted:
            return STOPPED, BY_COMMAND
        if self.empty:
            return STOPPED, EMPTY_RESERVOIR
        if self.held == STOP_ALL:
            return STOPPED, BY_ALARM
        mode = store.current["mode"]
        if mode == STOPPED and store.bridge[0] != BRIDGE:
            return mode, BY_PRESCRIPTION
        if store.bridge[0] == BRIDGE and not self._bridge_over:
            mode = BRIDGE_BOLUS
        return mode, RUNNING if mode != STOPPED else BY_PRESCRIPTION

    def _halt(self):
        """Motion halted and programme settled at this instant, which is returned."""
        now_us = self._motion.halt()
        if self.mode == BRIDGE_BOLUS:
            self._bridge_units = self._schedule.left_units()
        elif self.mode == PERIODIC_BOLUS and not self._limited:
            self.basal.suspend(self._schedule.left_units())
        return now_us

    def _run_basal(self, now_us):
        """Start the basal piece at the settled instant ``now_us``."""
        self._store.check()
        mode, reason = self._basal_mode()
        motion = self._motion
        motion.wake_us = None
        motion.bolus = motion.sparing = False
        self._ledger.unsure = 0
        units = None
        rate = 0
        if mode == BRIDGE_BOLUS:
            units = self.bridge_left_units()
            rate = self._store.bridge[1]
            motion.sparing = True
            if units <= 0:
                self._bridge_ends()
                self.basal.skip(now_us)
                mode, reason = self._basal_mode()
                motion.sparing = False
        changed = mode != self.mode
        self.mode = mode
        self.stop_reason = reason
        self._bolus_pl = 0
        self._limited = False
        if mode != STOPPED and mode != BRIDGE_BOLUS:
            rate, units = self.basal.piece(now_us)
        if units is None:
            self._schedule.run_rate(rate if mode != STOPPED else 0)
        else:
            self._schedule.run_units(units, rate)
        if changed:
            self._log.note("mode_entered", mode)

    def begin(self):
        """Run what is stored, from this instant. Called once at start."""
        self.empty = self._whole_steps_to_empty() <= 0
        store = self._store
        bridge = store.bridge
        if self._ledger.unsure and bridge[0] == BRIDGE:
            bridge = bridge[:2] + (bridge[2] + 1, bridge[3])
            store.commit(store.current, store.halted, bridge)
        now_us = self._motion.halt()
        self._set_limits()
        self.basal.begin(now_us, self.limits.since_us)
        if self.empty and self._ledger.refills:
            self._log.note("empty_reservoir", self._ledger.residual_pl())
        self._run_basal(now_us)

    def _set_limits(self):
        p = self._store.current
        if p is not None:
            self.limits.set(
                p["hour_nl"], p["day_nl"], p["patient_nl"] or p["mode"] == PERIODIC_BOLUS
            )

    def obey(self):
        """Bring what runs in line with ``held``. For a task of its own, not from inside a change.
        Raises OSError."""
        if self.in_bolus:
            if not self.held:
                return
        elif self._basal_mode() == (self.mode, self.stop_reason):
            return
        if self._faults.code:
            return
        now_us = self._halt()
        if self.in_bolus:
            self._end_bolus_early()
            self._run_basal(now_us)
        else:
            self._follow(now_us)
        self._motion.kick()

    def _follow(self, now_us):
        """Run what prescription, commands, alarms and reservoir lead to, if it is not what
        runs."""
        if self._basal_mode() != (self.mode, self.stop_reason):
            if self.mode == STOPPED and self._store.current is not None:
                self.basal.skip(now_us)
            self._run_basal(now_us)

    def fault_stop(self):
        """Stop for a latched fault. Writes nothing: storage may be what failed."""
        self._schedule.run_rate(0)
        self.mode = STOPPED
        self.stop_reason = BY_FAULT

    def time_set(self, local_us):
        """Local time less the pump's clock is ``local_us`` from now on."""
        moved = self.basal.set_time(local_us)
        if moved and self.mode == FLEX:
            now_us = self._halt()
            self._run_basal(now_us)
            self._log.note("flex_moved", moved // 1_000_000)
            self._motion.kick()

    def _piece_over(self, end_us):
        """The piece is complete at ``end_us`` and all its steps are out."""
        self._schedule.settle(end_us)
        if self.in_bolus:
            moved = self._ledger.bolus_ends()
            self._bolus_event = self._log.note("bolus_done", moved * self._ledger.step_pl)
        elif self.mode == BRIDGE_BOLUS:
            self._bridge_units = 0
        else:
            self.basal.over()
        self._run_basal(end_us)

    def _fed(self):
        """All that had to be queued is queued: what takes long comes now."""
        if self._bridge_over:
            self._bridge_over = False
            self._store.commit(self._store.current, self._store.halted, NONE)
        self._log.flush()

    # -- marks of the reservoir, and volume limits ---------------------------------------------

    def _whole_steps_to_empty(self):
        return (self._ledger.residual_pl() - _UNUSABLE_PL) // self._ledger.step_pl

    def _low_threshold_pl(self):
        low = self.low_mark_pl()
        return low if low > _UNUSABLE_PL else _UNUSABLE_PL

    def _steps_to_mark(self):
        """Steps the reservoir allows before its next mark."""
        residual_pl = self._ledger.residual_pl()
        step_pl = self._ledger.step_pl
        to_empty = (residual_pl - _UNUSABLE_PL) // step_pl
        if self._low_told:
            return to_empty
        return min(ceil_div(residual_pl - self._low_threshold_pl(), step_pl), to_empty)

    def _allowance(self):
        room = self.limits.room()
        to_mark = self._steps_to_mark()
        return room if room < to_mark else to_mark

    def _at_mark(self):
        """The next mark is reached and no step is outstanding."""
        residual = self._ledger.residual_pl()
        if self._steps_to_mark() > 0:
            self._at_limit()
            return
        if not self._low_told:
            self._low_told = True
            self._log.note("low_reservoir", residual)
            return
        now_us = self._halt()
        self._end_bolus_early()
        self.empty = True
        self._log.note("empty_reservoir", residual)
        self._run_basal(now_us)

    def _at_limit(self):
        """A volume limit has no room for another step: a bolus is cut, the basal programme held
        until a window moves on. What is held back is not made up for."""
        now_us = self._halt()
        if self.in_bolus:
            left_pl = self._bolus_pl - self._ledger.bolus_ends() * self._ledger.step_pl
            self._bolus_event = self._log.note("bolus_cut", left_pl)
            self._run_basal(now_us)
            return
        if not self._limited:
            self._log.note("limit_held")
        self._limited = True
        self._schedule.run_rate(0)
        self._schedule.forget_due()
        self._motion.wake_us = self.limits.free_us

    def _free(self):
        """A window has moved on while the basal programme was held."""
        now_us = self._motion.halt()
        self.limits.room()
        if self.limits.room() <= 0:
            self._motion.wake_us = self.limits.free_us
            return
        self._log.note("limit_over")
        self._run_basal(now_us)

    def spare_nl(self, bolus_us):
        """What the volume limits leave for a bolus of ``bolus_us`` from now on, nL: as
        ``Limits.spare_nl``."""
        p = self._store.current
        late_us = self._late_us(bolus_us)

        def most_nl(us):
            return self.most_of(p, us, late_us)

        return self.limits.spare_nl(most_nl, p["hour_nl"], p["day_nl"])

    def _late_us(self, bolus_us):
        """How late a periodic bolus may come after a bolus of ``bolus_us`` from now on."""
        leaves_out = self.mode == BRIDGE_BOLUS or self._store.halted
        return 0 if leaves_out else self.basal.late_us(bolus_us)

    def most_of(self, p, us, late_us=0):
        """Most that the basal programme of ``p``, or the bridge bolus before it, gives in ``us``,
        nL, when its periodic boluses may come up to ``late_us`` late."""
        bridge = self._store.bridge
        most = ceil_div(bridge[1] * us, DAY_US) if bridge[0] == BRIDGE else 0
        if p["mode"] == PERIODIC_BOLUS:
            us += late_us
        return max(most, self.basal.most_nl(p, us))

    def check_room(self, p, bridge_rate):
        """Raise Refusal unless what was delivered of late leaves room for prescription ``p`` and a
        bridge bolus of ``bridge_rate`` nL/day, 0 none, under the limits of ``p``."""
        late_us = self._late_us(0)

        def most_nl(us):
            return max(self.most_of(p, us, late_us), ceil_div(bridge_rate * us, DAY_US))

        for hour_nl, day_nl in ((p["hour_nl"], 0), (0, p["day_nl"])):
            spare_nl = self.limits.spare_nl(most_nl, hour_nl, day_nl)
            if spare_nl < 0:
                field = "hour_nl" if hour_nl else "day_nl"
                raise Refusal("volume_limit", field, p[field], p[field] - spare_nl)

    # -- commands -----------------------------------------------------------------------------

    def prescribe(self, prescription, bridge=None):
        """Commit ``prescription`` (checked) and run it from this instant; a stop by command
        stays. ``bridge``: as the store's, None as it is."""
        store = self._store
        old = store.current
        goes_on = old is not None and all(
            old[name] == prescription[name]
            for name in ("mode", "bolus_nl", "bolus_s", "interval_s", "parts_crc", "week")
        )
        if bridge is None and self._bridge_over:
            bridge = NONE
        store.commit(prescription, store.halted, bridge)
        now_us = self._halt()
        self._end_bolus_early()
        self._low_told = False  # the mark may be another one now
        self._set_limits()
        if not goes_on:
            self.basal.begin(now_us)
        if self.limits.active:
            self.limits.store()
        if bridge is not None:
            self._bridge_over = False
            self._bridge_units = None
            if bridge[0] == BRIDGE:
                volume_nl = prescription["tubing_nl"] + prescription["catheter_nl"]
                self._bridge_units = volume_nl * UNITS_PER_NL
                self._log.note("bridge_started", volume_nl * 1000)
            elif bridge[3]:
                volume_nl = prescription["tubing_nl"] + prescription["catheter_nl"]
                self._log.note("bridge_refused", volume_nl * 1000)
        self._run_basal(now_us)
        event = self._log.note("prescription_committed", self._store.sequence)
        self._motion.kick()
        return event, now_us

    def plan(self, name, *request):
        """What ``pump.planning.NAME`` tells; raises Refusal."""
        try:
            return getattr(lent("planning"), name)(self, *request)
        finally:
            return_module("planning")

    def start_bolus(self, volume_nl, duration_us, kind=SINGLE_BOLUS, agreed=0):
        """Run a bolus from this instant, in place of the basal programme."""
        plan = self.plan("bolus", volume_nl, duration_us, kind, agreed)
        if plan["asks"]:
            raise Refusal("not_agreed", "asks", plan["asks"])
        volume_nl = plan["volume_nl"]
        now_us = self._halt()
        self.refuse_if_latched()
        self._ledger.bolus_begins()
        self._motion.bolus = True
        self._motion.wake_us = None
        self._schedule.run_volume(volume_nl, plan["rate_nl_day"])
        self.mode = kind
        self.stop_reason = RUNNING
        self._bolus_pl = volume_nl * 1000
        event = self._log.note(_STARTED[kind], self._bolus_pl)
        if plan["cut_nl"]:
            self._log.note("bolus_cut", plan["cut_nl"] * 1000)
        self._motion.kick()
        return event, now_us

    def bolus_left_pl(self, now_us):
        """Part of the running bolus that is not yet due."""
        return self._schedule.left_pl(now_us) if self.in_bolus else 0

    def cancel_bolus(self):
        """End the running bolus, back to the mode it came from. What is left of a bridge bolus is
        kept."""
        self.plan("permit", "cancel_bolus")
        bridge = self.mode == BRIDGE_BOLUS
        now_us = self._halt()
        if bridge:
            left_pl = self.bridge_left_pl()
            kept = self._store.bridge
            self._store.commit(self._store.current, self._store.halted, (_CANCELLED,) + kept[1:])
            self._bridge_units = None
            self.basal.skip(now_us)
            event = self._log.note("bridge_cancelled", left_pl)
        else:
            event = self._end_bolus_early()
        self._run_basal(now_us)
        self._motion.kick()
        return event, now_us

    def stop(self):
        """Stop until resumed, also across a restart."""
        self.refuse_unprescribed()
        now_us = self._halt()
        self._schedule.run_rate(0)
        self._store.commit(self._store.current, True)
        self._end_bolus_early()
        self._run_basal(now_us)
        return self._log.note("delivery_stopped"), now_us

    def resume(self):
        """Leave stopped and run the prescription from this instant."""
        self.plan("resume")
        self._store.commit(self._store.current, False)
        now_us = self._halt()
        self.basal.skip(now_us)
        self._run_basal(now_us)
        event = self._log.note("delivery_resumed")
        self._motion.kick()
        return event, now_us

    def refill(self, measured_pl, fill_pl, wall_s, reason, drugs):
        """Start a new account. Delivery goes on with the part of a step that was due."""
        now_us = self._halt()
        programmed_pl = self.programmed_pl(now_us)
        self._ledger.refill(measured_pl, fill_pl, now_us, wall_s, reason, programmed_pl, drugs)
        self._programmed_from_pl = self._schedule.programmed_pl(now_us)
        self._refilled = True
        self._low_told = False
        self.empty = self._whole_steps_to_empty() <= 0
        event = self._log.note("refill_recorded", fill_pl)  # ends the alarm that holds delivery
        if not self.in_bolus:
            self._follow(now_us)
        if self.empty:
            self._log.note("empty_reservoir", fill_pl)
        self._motion.kick()
        return event, now_us

    # -- the bridge bolus ---------------------------------------------------------------------

    def bridge_left_units(self):
        """Units of the old drug that are still before the tip, at the settled instant."""
        if self._bridge_units is not None:
            return self._bridge_units
        steps = self._store.bridge[2] - self._ledger.moved()
        return steps * self._schedule.spacing

    def bridge_left_pl(self):
        """The same in pL as the count of steps has it, 0 when no bridge bolus was begun."""
        if not self._store.bridge[0] or self._bridge_over:
            return 0
        return max(0, self._store.bridge[2] - self._ledger.moved()) * self._ledger.step_pl

    def _bridge_ends(self):
        self._bridge_over = True
        self._bridge_units = None
        self._log.note("bridge_done")

    def resume_bridge(self):
        """Go on with a cancelled bridge bolus from this instant."""
        self.plan("bridge")
        store = self._store
        store.commit(store.current, store.halted, (BRIDGE,) + store.bridge[1:])
        now_us = self._halt()
        self._bridge_units = None
        event = self._log.note("bridge_resumed", self.bridge_left_pl())
        self._run_basal(now_us)
        self._motion.kick()
        return event, now_us

    # -- the bolus ----------------------------------------------------------------------------

    def _end_bolus_early(self):
        """End a running bolus where it is; returns the number of the event that ended it, or the
        last one. Motion must be halted; a new piece must follow."""
        if not self.in_bolus:
            return self._bolus_event
        moved = self._ledger.bolus_ends()
        left_pl = self._bolus_pl - moved * self._ledger.step_pl
        self._bolus_event = self._log.note("bolus_ended_early", left_pl)
        return self._bolus_event

    def refuse_if_latched(self):
        if self._faults.code:
            raise Refusal("fault_latched", "fault", self._faults.code)

    def refuse_unprescribed(self):
        if self._store.current is None:
            raise Refusal("no_prescription")
