"""The event log: numbered records in small files, oldest overwritten.

Record n stands at position n % FILE_RECORDS of the file named after its first record, so numbers
follow from places and are never reused. Each record carries a CRC-32, checked by whoever reads it;
the log hands records out as they are stored.
"""

from binascii import crc32
from os import listdir, mkdir, remove, stat
from struct import pack

from pump_wire.messages import EVENT, EVENT_FORMAT, EVENT_SIZE

FILE_RECORDS = 128  # one 4 KiB block
FILES = 26  # 3,328 records, at least 3,200 whole while the newest file fills
_WALL_KNOWN = 1


class EventLog:
    """``next``: sequence number of the next record written; ``oldest``: of the oldest one kept."""

    def __init__(self, folder, clock, wall):
        self._folder = folder
        self._clock = clock
        self._wall = wall
        self.next = 0
        self.oldest = 0
        self._waiting = []  # noted: (code, uptime_us, wall_s, value)
        self._unsure = False  # a write failed: its record may be there all the same

    def load(self):
        """Find what is stored. Raises OSError when the folder cannot be made."""
        try:
            names = listdir(self._folder)
        except OSError:
            mkdir(self._folder)
            return
        firsts = sorted(int(name) for name in names if name.isdigit())
        if firsts:
            size = stat(self._path(firsts[-1]))[6]
            self.next = firsts[-1] + size // EVENT_SIZE
            self.oldest = firsts[0]

    def _path(self, first):
        return "%s/%08d" % (self._folder, first)

    def note(self, name, value=0):
        """Take down event ``name`` (a key of EVENT) with this instant, for the next ``flush``;
        returns the sequence number it will get. Writing can take 0.1 s: what moves the motor goes
        first.
        """
        self._waiting.append((EVENT[name], self._clock.now_us(), self._wall.now_s(), value))
        return self.next + len(self._waiting) - 1

    def flush(self):
        """Make durable what was noted. Raises OSError when it could not be written."""
        while self._waiting:
            self._write(self._waiting.pop(0))

    def append(self, name, value=0):
        """``note`` and ``flush``: durable on return. Returns the sequence number."""
        self.note(name, value)
        self.flush()
        return self.next - 1

    def _write(self, event):
        if self._unsure:
            self.load()
        code, uptime_us, wall_s, value = event
        number = self.next
        if wall_s >> 32:  # more than a record holds: unknown
            wall_s = 0
        flags = _WALL_KNOWN if wall_s else 0
        body = pack(EVENT_FORMAT, number, code, flags, 0, uptime_us, wall_s, value)
        self._unsure = True
        with open(self._path(number - number % FILE_RECORDS), "ab") as file:
            file.write(body + pack("<I", crc32(body)))
        self._unsure = False
        self.next = number + 1
        while number - self.oldest >= FILES * FILE_RECORDS:
            remove(self._path(self.oldest))
            self.oldest += FILE_RECORDS

    def read(self, first, most):
        """Up to ``most`` records from ``first`` on (or the oldest kept), as stored octets. What
        cannot be read is all FF, which no record is: its CRC is wrong."""
        number = max(first, self.oldest)
        if number >= self.next or most < 1:
            return b""
        start = number - number % FILE_RECORDS
        count = min(most, self.next - number, FILE_RECORDS - number % FILE_RECORDS)
        size = count * EVENT_SIZE
        try:
            with open(self._path(start), "rb") as file:
                file.seek((number - start) * EVENT_SIZE)
                records = file.read(size)
        except OSError:
            records = b""
        return records + b"\xff" * (size - len(records))
