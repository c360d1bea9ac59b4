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
_RESIDUE = 0x2144DF1C  # CRC-32 of anything and its own FCS
MAX_FRAME = 256  # packet + FCS before stuffing; ARCHITECTURE.md, "Wire"
MAX_PACKET = MAX_FRAME - _FCS
MAX_STUFFED = 2 * MAX_FRAME + 2  # every octet escaped, and both flags


def _stuff(out, at, octets):
    for octet in octets:
        if octet < 0x20 or ESCAPE <= octet <= _DELETE:
            out[at] = ESCAPE
            octet ^= _FLIP
            at += 1
        out[at] = octet
        at += 1
    return at


def write_frame(out: bytearray, packet: bytes | bytearray | memoryview, length: int) -> int:
    """Write the frame of ``packet[:length]`` into ``out`` and return its size in octets.

    ``out`` needs MAX_STUFFED octets. Raises ValueError for a length outside 1 to MAX_PACKET.
    """
    if not 1 <= length <= MAX_PACKET:
        raise ValueError("packet of %d octets, allowed 1 to %d" % (length, MAX_PACKET))
    view = memoryview(packet)[:length]
    out[0] = FLAG
    at = _stuff(out, 1, view)
    at = _stuff(out, at, (crc32(view) & 0xFFFFFFFF).to_bytes(_FCS, "little"))
    out[at] = FLAG
    return at + 1


class FrameReader:
    """Find good frames in a stream of octets, whatever else is in it.

    The reader owns one buffer of MAX_FRAME octets. Being fed allocates nothing but, at the flag
    that ends a frame, the view and the number its FCS is checked with, both garbage at once. After
    damage it takes up again at the next flag. ``packet`` and ``length`` hold the last good packet
    until more octets are taken.

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
        self._one = bytearray(1)
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
        one = self._one
        one[0] = octet
        return self.take(one, 0, 1) < 0

    def take(self, chunk: bytes | bytearray | memoryview, at: int, end: int) -> int:
        """Take ``chunk[at:end]`` up to the flag that completes a good frame, now in
        ``packet[:length]``: then -n - 1, n the octets of ``chunk`` taken so far; else ``end``."""
        while at < end:
            if self._inside:
                at = self._fill_up(chunk, at, end)
                if at == end:
                    break
            octet = chunk[at]
            at += 1
            if octet == FLAG:
                if self._flag():
                    return -at - 1
            elif self._inside:  # what is never sent inside a frame, or one octet too many
                self.drop_partial()
            else:
                self.noise += 1
        return at

    def _fill_up(self, chunk, at, end):
        """Octets of a frame into the buffer; returns where one stands that ends it: a flag, or
        what is never sent inside a frame; ``end`` if none does."""
        buffer = self._buffer
        fill = self._fill
        escaped = self._escaped
        for at in range(at, end):  # noqa: B020 (allocates nothing)
            octet = chunk[at]
            if 0x20 <= octet < ESCAPE or octet > _DELETE:
                if escaped:
                    octet ^= _FLIP
                    escaped = False
                if fill == MAX_FRAME:
                    self.oversize += 1
                    self.damaged -= 1  # and not also that
                    break
                buffer[fill] = octet
                fill += 1
            elif octet == ESCAPE and not escaped:
                escaped = True
            else:
                break
        else:
            at = end
        self._fill = fill
        self._escaped = escaped
        return at

    def _flag(self):
        size = self._fill
        aborted = self._escaped
        began = self._inside
        self._inside = True
        self._escaped = False
        self._fill = 0
        if not began or size == 0:  # an opening flag, or flags back to back
            return False
        if aborted or size <= _FCS or crc32(self.packet[:size]) & 0xFFFFFFFF != _RESIDUE:
            self.damaged += 1
            return False
        self.good += 1
        self.length = size - _FCS
        return True
