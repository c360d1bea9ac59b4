"""Volume limits over any hour and any 24 h, from every source, and what patients have used.

Steps since manufacture are noted at marks, every 10 minutes and every hour; a mark gets the count
of the last look before it, so a window is counted from a mark at or before its begin and from a
count that is not too high: never too low. Over that a window looks back by up to one mark and the
steps between two looks further than it is long. What may have been emitted (the reservation)
counts; stalled volume that has left the account does not. One look costs the same whatever the
limits are.

The marks are durable every 10 minutes where there is a limit or a patient's bolus, else every
hour. After a start it is as if no time had passed since: what came later counts as recent, a
lockout lasts at least as long as it would have.
"""

from array import array

from pump.journal import Damaged
from pump.schedule import ceil_div

MARK_US = 600_000_000
_DAY_MARKS = 6  # marks of 10 min in one of the day's
_HOURS = 24
_DAY_US = 86_400_000_000
_GRANTS = 24  # PATIENT_MAX of the table
NO_LIMIT = 1 << 60
_SLACK_STEPS = 21  # a bolus's segment and one: what a look may be behind
LAYOUT = "<I8I26I24HI"
_NONE = 0xFFFF


class Limits:
    """``grants``: instants at which the patient's boluses of the last 24 h began, on this start's
    clock, oldest first. ``free_us``: next mark, when the windows move on. ``since_us``: how long
    ago, when the last mark became durable, a periodic bolus began; -1 unknown. ``since()`` tells
    it of now, in us. ``unknown_us``: until then the past is unknown, and no bolus is given."""

    def __init__(self, clock, ledger, hot):
        self._clock = clock
        self._ledger = ledger
        self._hot = hot
        self._hour = array("I", bytes(32))  # steps at the last 8 marks, newest first
        self._day = array("I", bytes(104))  # steps at the last 26 of the day's marks
        self.free_us = MARK_US
        self._left = _DAY_MARKS  # marks to the day's next one
        self._seen = 0  # steps at the last look
        self._most_hour = self._most_day = NO_LIMIT  # steps
        self._top = NO_LIMIT  # steps since manufacture that may be reserved now
        self.active = False
        self.grants = []
        self.unknown_us = 0
        self.since_us = -1
        self.since = None

    def load(self):
        """Read the marks. Raises OSError."""
        try:
            found = self._hot.load()
        except Damaged:
            found = None
            self.unknown_us = _DAY_US
            steps = self._ledger.start_steps()
            for marks in (self._hour, self._day):
                for i in range(len(marks)):
                    marks[i] = steps
        if found:
            self._left = found[0] & 0xFF or _DAY_MARKS
            for i in range(8):
                self._hour[i] = found[1 + i]
            for i in range(26):
                self._day[i] = found[9 + i]
            for age in found[35:59]:
                if age != _NONE:
                    self.grants.append(-60_000_000 * age)
            self.since_us = found[59] * 1_000_000
        self._seen = steps = self._ledger.start_steps()
        self._lower(steps)

    def set(self, hour_nl, day_nl, patient):
        """From now on: at most so much; 0 means no limit. ``patient``: boluses are permitted."""
        step_pl = self._ledger.step_pl
        self._most_hour = hour_nl * 1000 // step_pl if hour_nl else NO_LIMIT
        self._most_day = day_nl * 1000 // step_pl if day_nl else NO_LIMIT
        self.active = bool(hour_nl or day_nl or patient)
        self._reckon()

    def _reckon(self):
        self._top = min(self._hour[6] + self._most_hour, self._day[24] + self._most_day)

    def room(self):
        """Steps that may be moved now, those that are queued among them. Called before each
        segment."""
        now_us = self._clock.now_us()
        if now_us >= self.free_us:
            self._mark(now_us)
        steps = self._ledger.moved()
        if steps < self._seen:
            self._lower(steps)
            self._reckon()
        self._seen = steps
        top = self._top
        return top if top >= NO_LIMIT else top - steps

    def _lower(self, steps):
        """Stalled volume has left the account, which is at ``steps`` now: so is what marks of
        meanwhile counted of it."""
        for marks in (self._hour, self._day):
            for i in range(len(marks)):
                if marks[i] > steps:
                    marks[i] = steps

    def _mark(self, now_us):
        """Marks have passed since the last look."""
        hour = self._hour
        day = self._day
        store = self.active
        while now_us >= self.free_us:
            self.free_us += MARK_US
            for i in range(7, 0, -1):
                hour[i] = hour[i - 1]
            hour[0] = self._seen
            self._left -= 1
            if not self._left:
                self._left = _DAY_MARKS
                store = True
                for i in range(25, 0, -1):
                    day[i] = day[i - 1]
                day[0] = self._seen
        self._reckon()
        if store:
            self.store()

    def store(self):
        """Make marks and grants durable. Raises OSError."""
        now_us = self._clock.now_us()
        self._expire(now_us)
        ages = [(now_us - begun) // 60_000_000 for begun in self.grants[-_GRANTS:]]
        ages += [_NONE] * (_GRANTS - len(ages))
        since_s = min(self.since() // 1_000_000, 0xFFFFFFFF)
        self._hot.store(self._left, *(list(self._hour) + list(self._day) + ages + [since_s]))

    def _expire(self, now_us):
        while self.grants and self.grants[0] <= now_us - _DAY_US:
            self.grants.pop(0)

    # -- for a bolus, and to tell -------------------------------------------------------------

    def used_steps(self, hours):
        """Steps of at most the last hour (``hours`` 1) or 24 h; may be more, never fewer."""
        self.room()
        return self._seen - (self._hour[6] if hours == 1 else self._day[24])

    def used(self):
        """Patient boluses that began in the last 24 h."""
        self._expire(self._clock.now_us())
        return len(self.grants)

    def spare_nl(self, most_nl, hour_nl, day_nl):
        """What limits of ``hour_nl`` and ``day_nl`` (0: none) leave for a bolus beside the basal
        programme in every window that begins by now, nL; below 0 when they have no room for that
        programme. Windows are taken a mark longer than they are, as ``room`` will count them.
        ``most_nl(us)``: most that the programme gives in a time."""
        self.room()
        now_us = self._clock.now_us()
        spare = NO_LIMIT
        if now_us < self.unknown_us and (hour_nl or day_nl):
            return 0
        step_pl = self._ledger.step_pl
        newest_us = self.free_us - MARK_US
        hour_us = _DAY_MARKS * MARK_US
        for marks, limit_nl, width_us, first_us, each_us in (
            (self._hour, hour_nl, hour_us + MARK_US, newest_us, MARK_US),
            (
                self._day,
                day_nl,
                _DAY_US + hour_us,
                newest_us - (_DAY_MARKS - self._left) * MARK_US,
                hour_us,
            ),
        ):
            if not limit_nl:
                continue
            for i in range(len(marks)):  # windows that begin from this mark to the next one
                ends_us = first_us - (i - 1) * each_us if i else now_us
                ahead_us = width_us - (now_us - ends_us)
                if ahead_us < 0:
                    break
                past_nl = ceil_div((self._seen - marks[i] + _SLACK_STEPS) * step_pl, 1000)
                spare = min(spare, limit_nl - past_nl - most_nl(ahead_us))
        return spare
