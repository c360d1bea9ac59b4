"""Motion: keeps the step generator fed with segments of the programme, each accounted for first.

A segment is a run of evenly spaced steps. It is reserved in the ledger before it is handed to the
step generator, and the CPU sleeps until it is over (or, where steps are close, until shortly
before its last pulse). The reservation bounds are ACC-2's: 0.5 uL at basal rates, 2 uL in a bolus.
"""

import asyncio

from pump_wire.messages import FAULT

_BASAL_RESERVE_PL = 500_000
_BOLUS_RESERVE_PL = 2_000_000
_LEAD_US = 100_000  # how early the next segment is queued where steps are close
_CLOSE_US = 250_000  # steps closer than this are fed ahead
_LATE_US = 100_000  # a step this late is a fault
_SPARING_US = 1_000_000  # where steps are spared, one is reserved this long before it is due
_LOOK_US = 300_000_000  # a basal segment is no longer, so that the rotor is looked at (ALM-3, -4)
_EARLY_US = 2_000  # a piece is changed this long before its end, so that no step due then is late
_GO_ON = -1  # in place of an instant
_SLEEP_MS = 60_000_000  # longest single sleep; asyncio's ticks allow 2**29 ms


class Motion:
    """``on_piece_end()`` is called when a piece with an end is over and all its steps are out.

    ``allowance()`` gives how many further steps reservoir and limits allow before their next mark;
    at 0 ``on_mark()`` is called. ``wake_us``: instant at which ``on_wake()`` is called although
    there is nothing to queue; None for never. ``sparing``: a step is reserved shortly before it is
    due, so that a power cut seldom costs one. ``bolus``: the larger reservation of a bolus. The
    last three are set with each piece, by whoever makes it. ``on_fed()`` is called when all that
    had to be queued is queued: the moment for work that takes long. ``check_settings()`` raises
    ``journal.Damaged`` when what the programme comes from is no longer whole. ``due_us``: when the
    next segment is fed at the latest, None for never.
    """

    def __init__(self, clock, stepper, schedule, ledger, faults):
        self._clock = clock
        self._stepper = stepper
        self._schedule = schedule
        self._ledger = ledger
        self._faults = faults
        self._basal_steps = max(1, _BASAL_RESERVE_PL // schedule.step_pl)
        self._bolus_steps = max(1, _BOLUS_RESERVE_PL // schedule.step_pl)
        self._task = None
        self._start = None
        self._changed_us = 0  # instant of the last halt: steps owed from before are due then
        self.due_us = None  # when _run comes back, None: when it is kicked
        self.on_piece_end = None
        self.sparing = False
        self.bolus = False
        self.wake_us = None
        self.on_wake = None
        self.allowance = None
        self.on_mark = None
        self.on_fed = self.check_settings = int  # nothing

    def start(self, start_task):
        """Begin feeding. ``start_task(coroutine_function)`` makes a guarded task and returns
        it."""
        self._start = start_task
        self._task = start_task(self._run)

    def halt(self):
        """Stop at once and bring programme and account to this instant, so that the piece can
        change. Raises OSError when the account could not be made durable; motion is stopped all
        the same. Returns the instant."""
        emitted = self._stepper.halt()
        now_us = self._changed_us = self._clock.now_us()
        schedule = self._schedule
        if emitted > schedule.issued:
            self._faults.latch(FAULT["step_count"], "%d of %d" % (emitted, schedule.issued))
        elif emitted < schedule.issued:
            schedule.give_back(schedule.issued - emitted)
        end_us = schedule.end_us()
        if end_us is not None and end_us <= now_us:
            self.on_piece_end(end_us)
        schedule.settle(now_us)
        self._ledger.settle()
        return now_us

    def kick(self):
        """The piece or the account has changed: feed now instead of when the last sleep ends."""
        task = self._task
        if task is asyncio.current_task():
            return  # _run is what changed it, and feeds next
        if task is not None and not task.done():
            task.cancel()
            self.due_us = None
        self._feed()
        self._task = self._start(self._run)

    async def _run(self):
        clock = self._clock
        sleep_ms = asyncio.sleep_ms
        while True:
            self.due_us = None  # what fails here latches, and nobody waits for it any more
            wake_us = self._feed()
            self.on_fed()
            self.due_us = wake_us
            if wake_us is None:
                return
            wait = (wake_us - clock.now_us() + 999) // 1000
            if wait < 1:
                wait = 1
            elif wait > _SLEEP_MS:
                wait = _SLEEP_MS
            await sleep_ms(wait)

    def _feed(self):
        """Queue what should be queued; return the instant to come back at, None for never."""
        schedule = self._schedule
        while not self._faults.code:
            if self.wake_us is not None and self._clock.now_us() >= self.wake_us:
                self.wake_us = None
                self.on_wake()
            if not schedule.rate:
                return self.wake_us
            now_us = self._clock.now_us()
            outstanding = schedule.issued - self._stepper.emitted()
            if outstanding:
                at_us = schedule.last_us
                if outstanding < 0:
                    self._faults.latch(FAULT["step_count"], "%d steps too many" % -outstanding)
                    break
                if now_us > at_us + _LATE_US and now_us > self._changed_us + _LATE_US:
                    self._faults.latch(FAULT["step_late"], "%d steps overdue" % outstanding)
                    break
                if schedule.spacing >= _CLOSE_US * schedule.rate:
                    return at_us
                if now_us < at_us - _LEAD_US:
                    return at_us - _LEAD_US
            at_us = self._next(now_us, outstanding)
            if at_us != _GO_ON:
                return at_us
        return None

    # MicroPython makes a call of eleven words at most, arguments and all, without the heap, where
    # looking for room takes longer than the call.

    def _next(self, now_us, outstanding):
        """Queue the next segment, once what it comes from is found whole: _GO_ON. Else the instant
        to come back at, or None when a fault was latched."""
        schedule = self._schedule
        self.check_settings()
        if not schedule.is_whole():
            self._faults.latch(FAULT["settings_damaged"], "programme in memory")
            return None
        allowed = self.allowance() - outstanding
        if allowed <= 0:
            if outstanding:
                return schedule.last_us
            self.on_mark()
            return _GO_ON
        most = self._bolus_steps if self.bolus else self._basal_steps
        if self.sparing:
            if self._ledger.unsure and not outstanding:
                self._ledger.settle()
            most = 1
            at_us = schedule.next_us() - _SPARING_US
            if now_us < at_us < schedule.end_us() - _SPARING_US:
                return at_us
            self._ledger.unsure = 1
        most -= outstanding
        if most > allowed:
            most = allowed
        if not self.bolus and most * schedule.spacing > _LOOK_US * schedule.rate:
            most = max(1, _LOOK_US * schedule.rate // schedule.spacing)
        if most <= 0:  # all that may be reserved is queued: look again in a millisecond
            return now_us
        most = schedule.segment(most)
        if most:
            return self._queue(now_us, most)
        if outstanding:
            return schedule.last_us
        at_us = schedule.end_us()
        if now_us < at_us - _EARLY_US:
            return at_us - _EARLY_US
        self.on_piece_end(at_us)
        return _GO_ON

    def _queue(self, now_us, count):
        schedule = self._schedule
        if now_us > schedule.first_us + _LATE_US and now_us > self._changed_us + _LATE_US:
            self._faults.latch(FAULT["step_late"], "%d us late" % (now_us - schedule.first_us))
            return None
        self._ledger.reserve(schedule.issued)
        self._stepper.queue(
            schedule.first_us, schedule.slack, schedule.spacing, schedule.rate, count
        )
        return _GO_ON
