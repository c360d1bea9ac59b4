"""Numbered records of one size on littlefs, oldest overwritten, at little cost in erases.

A log of the last ``files`` x ``batch`` records or so, in two places under its folder:

- *slots*, a ring of ``slots`` small files, each in a folder of its own, ``per_slot`` records each:
  the newest. A slot is rewritten whole with every record, which littlefs commits atomically as the
  program of one page, with an erase about every 15th.
- *files* in the folder ``old`` (a start looks for the slots, and a folder with many files is slow
  to look in), named after their first record, each one ``batch`` = ``slots`` x ``per_slot``
  records that the slots held, written once: when the last slot is full.

Record n stands at a place that follows from n, so numbers need no counter, only the newest place
that is taken; slots and files both tell, and the higher one counts, so no damage takes a number
back. A record begins with its number (u32) and ends with the CRC-32 of all before.
"""

# The stubs know three of ilistdir's four values.
# pyright: reportGeneralTypeIssues=false

from binascii import crc32
from errno import EEXIST, ENOENT
from os import ilistdir, mkdir, remove, stat
from struct import pack, pack_into, unpack_from

from pump.journal import Damaged, TwoCopies

_HEAD = 8  # of a slot: number of its first record, and that number's complement
_ALL = 0xFFFFFFFF
_FILE = 0x8000  # ilistdir's type


def is_whole(record):
    """True if the CRC at the end of ``record`` is that of what is before it."""
    return crc32(record[:-4]) == unpack_from("<I", record, len(record) - 4)[0]


class RecordLog:
    """``next``: number of the next record written; ``oldest``: of the oldest one kept.

    ``size``: octets of a record, number and CRC among them. ``per_slot`` records and the head must
    fit, with littlefs's 36 octets, into a page of 256.
    """

    def __init__(self, folder, size, per_slot, slots, files):
        self._folder = folder
        self._size = size
        self._per_slot = per_slot
        self._slots = slots
        self._files = files
        self._batch = per_slot * slots
        self._slot = bytearray(_HEAD + per_slot * size)  # the newest, as it is stored
        self._view = memoryview(self._slot)
        self._cleared = TwoCopies(folder + "/cleared")
        self._filed = 0  # records below this stand in files
        self._first_file = 0  # the oldest of them
        self._unwritten = 0  # records put into ``_slot`` and not known to be stored
        self._stored = False  # the file of that slot holds earlier ones of them
        self.next = 0
        self.oldest = 0

    # -- finding what is stored ---------------------------------------------------------------

    def load(self):
        """Find what is stored; True if records in the slots are damaged. Raises OSError."""
        self._make_folder(self._folder)
        self._make_folder(self._folder + "/old")
        at, newest, length, doubtful, blank, damaged = self._read_slots()
        last = newest - newest % self._batch  # batch that the newest slot belongs to
        if doubtful < 0 <= newest and (not blank or not last):
            filed, oldest = self._ask_for_files(last)
        else:
            filed, oldest = self._list_files()
        self._filed = max(filed, 0)
        self._place(at, newest, length, doubtful)
        self._first_file = oldest if 0 <= oldest < self._filed else self._filed
        self.oldest = self._first_file
        try:
            cleared = self._cleared.load()
        except Damaged:
            cleared = None
        if cleared:
            self.oldest = min(max(self.oldest, unpack_from("<I", cleared)[0]), self.next)
        if self.next == self._filed + self._batch:  # cut before they were filed
            self._file_slots()
        self._remove_oldest()
        return damaged

    def _list_files(self):
        """(end of the newest whole file, first of the oldest), -1 where there is none, from the
        folder: littlefs reads it once for every file in it."""
        filed = oldest = -1
        for entry in ilistdir(self._folder + "/old"):
            name = entry[0]
            if entry[1] != _FILE or not name.isdigit():
                continue
            first = int(name)
            if first % self._batch:
                continue
            if oldest < 0 or first < oldest:
                oldest = first
            if entry[3] == self._batch * self._size and first + self._batch > filed:
                filed = first + self._batch
        return filed, oldest

    def _ask_for_files(self, last):
        """The same where the slots are whole and belong to the batch that begins with ``last``
        and the one before: which files there are follows from that."""
        batch = self._batch
        filed = last
        if self._file_size(last) == batch * self._size:
            filed += batch
        oldest = max(filed - self._files * batch, 0)
        while oldest and self._file_size(oldest - batch) >= 0:  # cut before it was removed
            oldest -= batch
        while oldest < filed and self._file_size(oldest) < 0:  # gone
            oldest += batch
        return filed, oldest if oldest < filed else -1

    def _file_size(self, first):
        """Octets of the file that begins with record ``first``, -1 when it is not there."""
        try:
            return stat(self._file(first))[6]
        except OSError as error:
            if error.errno != ENOENT:
                raise
            return -1

    def _make_folder(self, path):
        try:
            mkdir(path)
        except OSError as error:
            if error.errno != EEXIST:
                raise

    def _read_slots(self):
        """(slot of the newest records, their first number, octets of the slot, a slot in which
        nothing can tell, whether one was never written, whether records in them are damaged); -1
        for none."""
        at = newest = doubtful = -1
        length = 0
        blank = damaged = False
        part = _ALL  # first of the oldest slot that is not full: only the newest may be so
        for slot in range(self._slots):
            raw = self._read_slot(slot)
            if not raw:
                self._make_folder(self._slot_folder(slot))
                blank = True
                continue
            first = self._first_of(raw, slot)
            for end in range(_HEAD + self._size, len(raw) + 1, self._size):
                if not is_whole(raw[end - self._size : end]):
                    damaged = True
            if first < 0:
                doubtful = slot
                damaged = True
            elif len(raw) < len(self._slot):
                part = min(part, first)
            if first > newest:
                newest = first
                at = slot
                length = len(raw)
                self._keep(raw)
        return at, newest, length, doubtful, blank, damaged or part < newest

    def _place(self, at, newest, length, doubtful):
        """Set ``next`` from what the slots told; ``_filed`` goes up when they know of later
        records."""
        if newest < self._filed:  # the slots hold only what is filed already, or nothing
            newest = self._filed
            length = _HEAD
            at = 0 if doubtful == 0 else -1
        elif doubtful == at + 1:
            at = doubtful
            newest += self._per_slot
            length = _HEAD
        else:
            doubtful = -1
        count = (length - _HEAD) // self._size
        if doubtful >= 0 and doubtful == at:
            # All of a slot is damaged that may be the newest: its numbers count as taken.
            count = self._per_slot
            self._begin_slot(newest)
            for i in range(_HEAD, len(self._slot)):
                self._slot[i] = 0xFF
        self._stored = count > 0 and doubtful < 0
        self.next = newest + count
        self._filed = max(self._filed, newest - newest % self._batch)

    def _keep(self, raw):
        for i in range(len(self._slot)):
            self._slot[i] = raw[i] if i < len(raw) else 0xFF

    def _first_of(self, raw, slot):
        """Number of the first record of a stored slot; -1 when nothing in it can tell."""
        size = self._size
        if len(raw) >= _HEAD:
            first, complement = unpack_from("<II", raw, 0)
            if first ^ complement == _ALL and first % self._batch == slot * self._per_slot:
                return first
        for at in range(_HEAD, len(raw) - size + 1, size):
            if is_whole(raw[at : at + size]):
                return unpack_from("<I", raw, at)[0] - (at - _HEAD) // size
        return -1

    def _read_slot(self, slot):
        """Octets of a slot; b"" while nothing was written to it."""
        try:
            with open(self._slot_folder(slot) + "/now", "rb") as file:
                return file.read()
        except OSError as error:
            return b"" if error.errno == ENOENT else b"?"

    def _slot_folder(self, slot):
        return "%s/s%d" % (self._folder, slot)

    def _file(self, first):
        return "%s/old/%08d" % (self._folder, first)

    # -- writing ------------------------------------------------------------------------------

    def put(self, body):
        """Add the record of ``body`` (all between its number and its CRC) without writing it;
        returns its number. ``write`` must follow, and does by itself when a slot is full. Raises
        OSError when earlier records could not be written to make room."""
        number = self.next
        place = number % self._per_slot
        if place == 0:
            if self._unwritten:
                self.write()
            if number == self._filed + self._batch:
                self._file_slots()
            self._begin_slot(number)
        at = _HEAD + place * self._size
        end = at + self._size - 4
        pack_into("<I", self._slot, at, number)
        self._slot[at + 4 : end] = body
        pack_into("<I", self._slot, end, crc32(self._view[at:end]))
        self.next = number + 1
        self._unwritten += 1
        return number

    def _begin_slot(self, number):
        self._stored = False
        first = number - number % self._per_slot
        pack_into("<II", self._slot, 0, first, first ^ _ALL)

    def write(self):
        """Make durable what was put. Raises OSError; the records stay and go with the next
        write."""
        if self._unwritten:
            self._write()

    def _write(self):
        last = self.next - 1
        slot = last % self._batch // self._per_slot
        end = _HEAD + (last % self._per_slot + 1) * self._size
        # What is there is not cut off before its successor is in the file, for a write that fails
        # leaves the file as it is closed. Records of an earlier round stand in ``old`` already.
        with open(self._slot_folder(slot) + "/now", "r+b" if self._stored else "wb") as file:
            if file.write(self._view[:end]) != end:
                raise OSError(28)
        self._stored = True
        self._unwritten = 0
        if self.next == self._filed + self._batch:
            self._file_slots()

    def _file_slots(self):
        """The slots are full: write them as a file, and remove what is older than is kept."""
        first = self._filed
        with open(self._file(first), "wb") as file:
            for slot in range(self._slots):
                raw = self._slot_records(slot, first + slot * self._per_slot)
                if file.write(raw) != len(raw):
                    raise OSError(28)
        self._filed = first + self._batch
        self._remove_oldest()

    def _remove_oldest(self):
        while self._filed - self._first_file > self._files * self._batch:
            try:
                remove(self._file(self._first_file))
            except OSError as error:
                if error.errno != ENOENT:
                    raise
            self._first_file += self._batch
        self.oldest = max(self.oldest, self._first_file)

    def clear(self):
        """Hide all records there are. Numbers go on. Raises OSError."""
        self._cleared.commit(pack("<I", self.next))
        self.oldest = self.next

    # -- reading ------------------------------------------------------------------------------

    def _slot_records(self, slot, first):
        """All records of a slot that begins with ``first``; FF where they cannot be read or are
        others."""
        raw = self._read_slot(slot)
        size = self._per_slot * self._size
        if self._first_of(raw, slot) != first and len(raw) != _HEAD + size:
            raw = b""
        raw = raw[_HEAD : _HEAD + size]
        return raw + b"\xff" * (size - len(raw))

    def read(self, first, most):
        """Up to ``most`` records from ``first`` on (or the oldest kept), as stored octets. What
        cannot be read is all FF, which no record is: its CRC is wrong."""
        number = max(first, self.oldest)
        if number >= self.next or most < 1:
            return b""
        size = self._size
        if number >= self._filed:
            place = number % self._per_slot
            count = min(most, self.next - number, self._per_slot - place)
            slot = number % self._batch // self._per_slot
            raw = self._slot_records(slot, number - place)
            return raw[place * size : (place + count) * size]
        place = number % self._batch
        count = min(most, self._batch - place)
        try:
            with open(self._file(number - place), "rb") as file:
                file.seek(place * size)
                records = file.read(count * size)
        except OSError:
            records = b""
        return records + b"\xff" * (count * size - len(records))
