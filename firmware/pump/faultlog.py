"""The fault log: every fault that latched, with what was seen and where, in numbered records;
oldest overwritten. As the event log, but a record is 108 octets and holds text."""

from struct import pack

from pump.recordlog import RecordLog
from pump_wire.messages import FAULT_FORMAT, FAULT_SIZE

PER_SLOT = 2
SLOTS = 8
FILES = 32  # 512 records in files, and up to 16 in the slots
_MOST_TEXT = 84  # octets
_WALL_KNOWN = 1


class FaultLog(RecordLog):
    """``next``: sequence number of the next record written; ``oldest``: of the oldest one kept."""

    def __init__(self, folder, clock, wall):
        super().__init__(folder, FAULT_SIZE, PER_SLOT, SLOTS, FILES)
        self._clock = clock
        self._wall = wall

    def append(self, code, text):
        """Make durable that fault ``code`` latched; of ``text`` as much as fits. Returns the
        record's number. Raises OSError."""
        while len(text.encode()) > _MOST_TEXT:
            text = text[:-1]
        octets = text.encode()
        wall_s = self._wall.now_s()
        if wall_s >> 32:
            wall_s = 0
        flags = _WALL_KNOWN if wall_s else 0
        uptime_us = self._clock.now_us()
        body = pack(FAULT_FORMAT, 0, code, flags, len(octets), uptime_us, wall_s, octets)
        number = self.put(memoryview(body)[4:])
        self.write()
        return number
