"""Self-test before the first motion: each part is tried once, and the first that fails is named.

Used once a start and then dropped from memory.
"""

from os import stat, unlink

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


def files(board):
    """Every file that the board's list names is there and as long as it says. The list: lines of
    path and size; a board may have none."""
    path = getattr(board, "sizes", None)
    if path is None:
        return True
    with open(path) as lines:
        for line in lines:
            name, size = line.split()
            if stat(name)[6] != int(size):
                return False
    return True


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
        if not files(board):
            return part
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
