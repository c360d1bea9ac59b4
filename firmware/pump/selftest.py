"""Self-test before the first motion: each part is tried once, and the first that fails is named.

Used once a start and then dropped from memory.
"""

from binascii import crc32
from errno import ENOENT
from os import unlink

_PATTERNS = b"\x00\xff\x55\xaa"
_SIZE = 512
_READS = 1_000


def ram():
    """A piece of memory takes and keeps four patterns."""
    piece = bytearray(_SIZE)
    for pattern in _PATTERNS:
        for at in range(_SIZE):
            piece[at] = pattern
        if piece != bytes([pattern]) * _SIZE:
            return False
    return True


def flash(root):
    """A file takes what is written, and is gone when it is removed."""
    path = root + "/selftest"
    with open(path, "wb") as file:
        file.write(_PATTERNS)
    with open(path, "rb") as file:
        same = file.read() == _PATTERNS
    unlink(path)
    return same


def _crc(path, piece):
    crc = 0
    view = memoryview(piece)
    with open(path, "rb") as file:
        while True:
            count = file.readinto(piece)
            if not count:
                return crc
            crc = crc32(view[:count], crc)


def files(board):
    """Name of the first file that is not what the board's list says, "" when all are. The list:
    lines of name and CRC-32 in hex; a board whose firmware is not on a file system has none."""
    path = getattr(board, "sums", None)
    if path is None:
        return ""
    piece = bytearray(_SIZE)
    try:
        lines = open(path)
    except OSError as error:
        if error.errno == ENOENT:
            return ""
        raise
    with lines:
        for line in lines:
            name, crc = line.split()
            try:
                if _crc(name, piece) != int(crc, 16):
                    return name
            except OSError:
                return name
    return ""


def clock(board):
    """Ticks go on while the processor is busy."""
    before = board.ticks_us()
    for _ in range(_READS):
        if board.ticks_us() != before:
            return True
    return getattr(board, "ticks_stand", False)  # a simulated board's, until it has nothing to do


def driver(stepper):
    """The step generator is at rest, and its two counts agree."""
    before = stepper.halt()
    return stepper.emitted() == before == stepper.commanded()


def run(board, copies):
    """Name of the part that failed, "" when none did. ``copies``: of the settings. Never
    raises."""
    part = "ram"
    try:
        if not ram():
            return part
        part = "flash"
        if not flash(board.root):
            return part
        part = "files"
        name = files(board)
        if name:
            return part + ": " + name
        part = "settings"
        if not copies.whole():
            return part
        part = "driver"
        if not driver(board.stepper):
            return part
        rotor = getattr(board, "rotor", None)
        count = 0
        if rotor is not None:
            part = "rotor"
            count = rotor.count()
        part = "clock"
        if not clock(board):
            return part
        if rotor is not None and rotor.count() != count:
            return "rotor"  # it turns, and nobody told it to
    except Exception as error:
        return "%s: %r" % (part, error)
    return ""
