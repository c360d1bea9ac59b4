"""Durable records on a littlefs directory.

``TwoCopies`` for what changes rarely and must never be half written: the same in two files,
written one after the other, each with a sequence number and a CRC-32. ``HotRecord`` for what
changes with every segment: one small file kept open and rewritten in place, which littlefs commits
atomically as one metadata program (an erase about every sixteenth).
"""

from binascii import crc32
from errno import ENOENT
from os import mkdir
from struct import calcsize, pack, pack_into, unpack, unpack_from

_HEAD = "<IH"  # sequence, payload length
_HEAD_SIZE = 6
_CRC_SIZE = 4
_UNREADABLE = b"?"  # shorter than any record, so never a whole one


class Damaged(Exception):
    """Stored, and no copy reads back whole."""


def _read(path):
    """Octets of a file. None when it was never written: it is not there, or it is empty, as
    littlefs leaves a new file whose first commit was cut. ``_UNREADABLE`` when it cannot be
    read."""
    try:
        with open(path, "rb") as file:
            return file.read() or None
    except OSError as error:
        return None if error.errno == ENOENT else _UNREADABLE


def _parse(raw):
    """(sequence, payload) of a stored copy, None if it is damaged."""
    if len(raw) < _HEAD_SIZE + _CRC_SIZE:
        return None
    sequence, length = unpack_from(_HEAD, raw, 0)
    if len(raw) != _HEAD_SIZE + length + _CRC_SIZE:
        return None
    if unpack_from("<I", raw, _HEAD_SIZE + length)[0] != crc32(raw[: _HEAD_SIZE + length]):
        return None
    return sequence, raw[_HEAD_SIZE : _HEAD_SIZE + length]


def _record(sequence, payload):
    body = pack(_HEAD, sequence, len(payload)) + payload
    return body + pack("<I", crc32(body))


class TwoCopies:
    """A payload of up to 1 kB in ``path.0`` and ``path.1``.

    ``sequence`` of the newest good copy, 0 when nothing was ever committed. ``damaged_copies``
    counts copies found damaged by ``load``; ``mended``: it wrote the other copy anew.
    """

    def __init__(self, path):
        self._path = path
        self._newest = 1
        self.sequence = 0
        self.damaged_copies = 0
        self.mended = False

    def load(self):
        """The newest good payload; None when nothing was ever committed. A copy that is damaged,
        or older than the other, is written anew from it: later damage to either costs nothing.

        Raises Damaged when copies are there and none of them is whole, OSError when the other
        copy could not be written.
        """
        best = None
        self.damaged_copies = 0
        same = 0
        for slot in (0, 1):
            raw = _read("%s.%d" % (self._path, slot))
            if raw is None:
                continue
            copy = _parse(raw)
            if copy is None:
                self.damaged_copies += 1
            elif best is None or copy[0] > best[0]:
                best = copy
                self._newest = slot
                same = 1
            elif copy[0] == best[0]:
                same = 2
        if best is None:
            if self.damaged_copies:
                raise Damaged(self._path)
            return None
        self.sequence, payload = best
        self.mended = same == 1
        if self.mended:
            self._write(1 - self._newest, _record(self.sequence, payload))
        return payload

    def whole(self):
        """True if both copies are whole and the same, or there are none."""
        first, second = [_read("%s.%d" % (self._path, slot)) for slot in (0, 1)]
        return first == second and (first is None or _parse(first) is not None)

    def commit(self, payload):
        """Store ``payload`` as the next in sequence, in the older copy and then in the other: one
        of them is whole at any time, and afterwards either may be damaged.

        Raises OSError when it is not in both; the newest payload is then the previous one or this.
        """
        record = _record(self.sequence + 1, payload)
        older = 1 - self._newest
        self._write(older, record)
        self._newest = older
        self.sequence += 1
        self._write(1 - older, record)

    def _write(self, slot, record):
        with open("%s.%d" % (self._path, slot), "wb") as file:
            file.write(record)


class HotRecord:
    """A few integers in one file that is rewritten in place. Writes allocate nothing but the CRC.

    The file has a folder of its own: littlefs commits by folder, and what else lies in a folder is
    copied each time its block is compacted. ``layout``: a struct format of unsigned fields, little
    endian. ``buffer``: the integers as they are stored, and the CRC that ``write`` puts behind.
    """

    def __init__(self, folder, layout):
        self._folder = folder
        self._path = folder + "/now"
        self._layout = layout
        self._size = calcsize(layout)
        self.buffer = bytearray(self._size + _CRC_SIZE)
        self._body = memoryview(self.buffer)[: self._size]
        self._file = None

    def load(self):
        """The stored integers; None when the file was never written. Raises Damaged."""
        raw = _read(self._path)
        if raw is None:
            return None
        if len(raw) != len(self.buffer):
            raise Damaged(self._path)
        if unpack_from("<I", raw, self._size)[0] != crc32(raw[: self._size]):
            raise Damaged(self._path)
        return unpack(self._layout, raw[: self._size])

    def store(self, *values):
        """Make ``values`` durable before returning. Raises OSError when they are not."""
        pack_into(self._layout, self.buffer, 0, *values)
        self.write()

    def write(self):
        """The same of what ``buffer`` holds."""
        file = self._file
        if file is None:
            try:
                mkdir(self._folder)
            except OSError:  # it is there; if it cannot be made, open says so
                pass
            file = self._file = open(self._path, "wb")
        pack_into("<I", self.buffer, self._size, crc32(self._body))
        file.seek(0)
        if file.write(self.buffer) != len(self.buffer):
            raise OSError(28)
        file.flush()
