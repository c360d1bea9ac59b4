"""The session layer: packets inside frames. Today it is open; this is where sealing belongs.

A packet is ``kind u8, sequence u16, message u8, body``. A reply repeats the sequence and message
of its request; a request sent again with the same sequence gets the same reply and is not carried
out again. ``sealed`` is what hello says: False until packets are authenticated and encrypted.
"""

from struct import pack_into, unpack_from

REQUEST = 1
REPLY = 2
REFUSAL = 3
HEADER = 4
_HEADER_FORMAT = "<BHB"


class OpenSession:
    """Packets as they are, neither authenticated nor encrypted."""

    sealed = False

    def wrap(self, out: bytearray, kind: int, sequence: int, number: int, end: int) -> int:
        """Complete the packet whose body is ``out[HEADER:end]``; return the packet's length."""
        pack_into(_HEADER_FORMAT, out, 0, kind, sequence, number)
        return end

    def unwrap(self, packet: bytes | memoryview):
        """(kind, sequence, message number, body view) of a packet; None if it is not one."""
        if len(packet) < HEADER:
            return None
        kind, sequence, number = unpack_from(_HEADER_FORMAT, packet, 0)
        if kind not in (REQUEST, REPLY, REFUSAL):
            return None
        return kind, sequence, number, packet[HEADER:]
