"""Frames on the serial link: RFC 1662 octet stuffing with a 32-bit FCS (CRC-32).

A frame is ``7E  stuffed(packet, FCS)  7E``. The FCS is RFC 1662's 32-bit one (the CRC-32 of zlib),
least significant octet first. Every control character (00 to 1F), 7D, 7E and 7F is sent as
``7D, octet ^ 20``, so a REPL's Ctrl-C (03) never appears inside a frame.

Sizes, in octets: packet 1 to MAX_PACKET, packet and FCS together at most 256 before stuffing.
"""

from binascii import crc32

FLAG = 0x7E
ESCAPE = 0x7D
_FLIP = 0x20
_DELETE = 0x7F
_FCS = 4
MAX_FRAME = 256  # packet + FCS before stuffing; ARCHITECTURE.md, "Wire"
MAX_PACKET = MAX_FRAME - _FCS
MAX_STUFFED = 2 * MAX_FRAME + 2  # every octet escaped, and both flags


def _stuff(out, at, octet):
    if octet < 0x20 or octet == FLAG or octet == ESCAPE or octet == _DELETE:
        out[at] = ESCAPE
        out[at + 1] = octet ^ _FLIP
        return at + 2
    out[at] = octet
    return at + 1


def write_frame(out: bytearray, packet: bytes | bytearray | memoryview, length: int) -> int:
    """Write the frame of ``packet[:length]`` into ``out`` and return its size in octets.

    ``out`` needs MAX_STUFFED octets. Raises ValueError for a length outside 1 to MAX_PACKET.
    """
    if not 1 <= length <= MAX_PACKET:
        raise ValueError("packet of %d octets, allowed 1 to %d" % (length, MAX_PACKET))
    view = memoryview(packet)[:length]
    fcs = crc32(view) & 0xFFFFFFFF
    out[0] = FLAG
    at = 1
    for octet in view:
        at = _stuff(out, at, octet)
    for _ in range(_FCS):
        at = _stuff(out, at, fcs & 0xFF)
        fcs >>= 8
    out[at] = FLAG
    return at + 1


class FrameReader:
    """Find good frames in a stream of octets, whatever else is in it.

    The reader owns one buffer of MAX_FRAME octets. Being fed allocates nothing but, at the flag
    that ends a frame, the view and the number its FCS is checked with, both garbage at once. After
    damage it takes up again at the next flag. ``packet`` and ``length`` hold the last good packet
    until the next call of ``feed``.

    Counters, all since construction: ``good`` frames, ``damaged`` (wrong FCS, aborted or cut
    short), ``oversize``, ``noise`` (octets outside any frame).
    """

    def __init__(self):
        self._buffer = bytearray(MAX_FRAME)
        self.packet = memoryview(self._buffer)
        self.length = 0
        self._fill = 0
        self._inside = False
        self._escaped = False
        self.good = 0
        self.damaged = 0
        self.oversize = 0
        self.noise = 0

    @property
    def partial(self):
        """True while a frame has begun and not ended."""
        return self._inside and (self._fill > 0 or self._escaped)

    def drop_partial(self):
        """Forget a frame that has begun: its sender has fallen silent."""
        if self.partial:
            self.damaged += 1
        self._inside = False
        self._escaped = False
        self._fill = 0

    def feed(self, octet: int) -> bool:
        """Take one octet; True when it completes a good frame, now in ``packet[:length]``."""
        if octet == FLAG:
            return self._flag()
        if not self._inside:
            self.noise += 1
            return False
        if octet < 0x20 or octet == _DELETE:  # never sent inside a frame: the frame is damaged
            self.drop_partial()
            return False
        if octet == ESCAPE:
            if self._escaped:
                self.drop_partial()
            else:
                self._escaped = True
            return False
        if self._escaped:
            self._escaped = False
            octet ^= _FLIP
        if self._fill == MAX_FRAME:
            self.oversize += 1
            self._inside = False
            self._fill = 0
            return False
        self._buffer[self._fill] = octet
        self._fill += 1
        return False

    def _flag(self):
        size = self._fill
        aborted = self._escaped
        began = self._inside
        self._inside = True
        self._escaped = False
        self._fill = 0
        if not began or size == 0:  # an opening flag, or flags back to back
            return False
        if aborted or size <= _FCS or not self._fcs_right(size):
            self.damaged += 1
            return False
        self.good += 1
        self.length = size - _FCS
        return True

    def _fcs_right(self, size):
        end = size - _FCS
        buffer = self._buffer
        fcs = crc32(self.packet[:end]) & 0xFFFFFFFF
        return (
            buffer[end] == fcs & 0xFF
            and buffer[end + 1] == (fcs >> 8) & 0xFF
            and buffer[end + 2] == (fcs >> 16) & 0xFF
            and buffer[end + 3] == fcs >> 24
        )
