"""The event log: what happened, when, in numbered records; oldest overwritten.

Each record carries a CRC-32, checked by whoever reads it; the log hands records out as they are
stored.
"""

from struct import pack, unpack

from pump.recordlog import RecordLog, is_whole
from pump_wire.messages import EVENT, EVENT_FORMAT, EVENT_SIZE

PER_SLOT = 6  # records written with one page
SLOTS = 12
FILES = 44  # 3,168 records in files, and up to 72 in the slots
_WALL_KNOWN = 1
_ASKED_S = 600
_AT_ONCE_S = 13_800  # 23 times that


class EventLog:
    """``next``: sequence number of the next record written; ``oldest``: of the oldest one kept.

    ``on_written()`` is called when all that was noted is durable, ``on_noted(name, value)`` after
    each ``note``. ``cause`` goes into what is noted from then on: role << 1, and the
    command's first octets << 16; 0: the pump itself.
    """

    def __init__(self, folder, clock, wall):
        self._records = RecordLog(folder, EVENT_SIZE, PER_SLOT, SLOTS, FILES)
        self._clock = clock
        self._wall = wall
        self._told_s = -_AT_ONCE_S
        self._more = {}  # patient_refused that is still to be told: {its value: how many}
        self._waiting = []  # noted: (code, uptime_us, wall_s, value, cause)
        self.cause = 0
        self.on_written = int  # nothing
        self.on_noted = lambda name, value: None
        self.load = self._records.load
        self.read = self._records.read
        self.clear = self._records.clear

    @property
    def next(self):
        return self._records.next

    @property
    def coming(self):
        """Number that the next event to be noted will get."""
        return self._records.next + len(self._waiting)

    @property
    def oldest(self):
        return self._records.oldest

    def note(self, name, value=0):
        """Take down event ``name`` (a key of EVENT) with this instant, for the next ``flush``;
        returns the sequence number it will get. Writing can take 0.1 s: what moves the motor goes
        first.
        """
        number = self.coming
        self._waiting.append(
            (EVENT[name], self._clock.now_us(), self._wall.now_s(), value, self.cause)
        )
        self.on_noted(name, value)
        return number

    def asked(self, name, value=0):
        """``note`` of what somebody may ask for again and again: 24 at once, and then one in ten
        minutes: nobody can push the log out by asking. What is more is not taken down, but of a
        patient's boluses that are refused it is counted, and told at that pace."""
        now_s = self._clock.now_us() // 1_000_000
        self._told_s = max(self._told_s, now_s - _AT_ONCE_S)
        if self._told_s <= now_s:
            self._told_s += _ASKED_S
            self.note(name, value)
        elif name == "patient_refused":
            self._more[value] = self._more.get(value, 0) + 1

    def _tell_more(self):
        """Of each reason a record, and one of how many more there were."""
        if self._told_s > self._clock.now_us() // 1_000_000:
            return
        cause, self.cause = self.cause, 0
        for value in self._more:
            self.note("patient_refused", value)
            more = self._more[value] - 1
            if more:
                self.note("refused_again", more)
            self._told_s += 2 * _ASKED_S
        self._more.clear()
        self.cause = cause

    def flush(self):
        """Make durable what was noted, together. Raises OSError when it could not be written; it
        is then written with the next."""
        if self._more:
            self._tell_more()
        if self._waiting:
            self._put()
        self._records.write()
        self.on_written()

    def _put(self):
        records = self._records
        while self._waiting:
            code, uptime_us, wall_s, value, cause = self._waiting[0]
            if wall_s >> 32:  # more than a record holds: unknown
                wall_s = 0
            flags = cause & 0xFF | (_WALL_KNOWN if wall_s else 0)
            body = pack(EVENT_FORMAT, 0, code, flags, cause >> 16, uptime_us, wall_s, value)
            records.put(memoryview(body)[4:])
            self._waiting.pop(0)

    def find(self, first, codes):
        """Code of the first event from number ``first`` on that is in ``codes``; 0 if none is."""
        while first < self._records.next:
            raw = self._records.read(first, PER_SLOT)
            if not raw:
                break
            first = max(first, self._records.oldest)
            for at in range(0, len(raw), EVENT_SIZE):
                record = raw[at : at + EVENT_SIZE]
                if is_whole(record) and record[4] in codes:
                    return record[4]
                first += 1
        return 0

    def last_wall_s(self):
        """Wall time of the newest record, 0 if there is none or it is not known."""
        raw = self._records.read(self._records.next - 1, 1) if self._records.next else b""
        return unpack(EVENT_FORMAT, raw[:-4])[5] if raw and is_whole(raw) else 0

    def append(self, name, value=0):
        """``note`` and ``flush``: durable on return. Returns the sequence number."""
        self.note(name, value)
        self.flush()
        return self._records.next - 1
