"""Packets inside frames, and the keys of a session.

An open packet is ``kind u8, sequence u16, message u8, body``: hello, opening a session, pairing. A
sealed one is ``kind u8, session u16, counter u32, sealed text, tag``: AES-128-CCM (RFC 3610) with
a tag of 8 octets, its nonce made of session, direction and counter, the 7 octets in front of the
text authenticated with it. The text is ``kind u8, message u8, body``. Who checks what, and what a
repeated packet does, is in ``PROTOCOL.md``.
"""

from hashlib import sha256
from struct import pack, pack_into, unpack_from

REQUEST = 1
REPLY = 2
REFUSAL = 3
SEALED_REQUEST = 4
SEALED_REPLY = 5

HEADER = 4  # octets in front of an open body
_OPEN = "<BHB"
SEALED = 7  # octets in front of a sealed text
BODY = 9  # octets in front of a sealed body: with its kind and message
_SEALED = "<BHI"
TAG = 8
KEY = 16  # octets of a role's key and of a session's

TO_PUMP = 0
FROM_PUMP = 1
_NONCE = "<8sBI"
LAST_COUNTER = (1 << 32) - 1  # a session ends before its counter could begin again

_BLOCK = 64  # of SHA-256


def wrap(out: bytearray, kind: int, sequence: int, number: int, end: int) -> int:
    """Complete the open packet whose body is ``out[HEADER:end]``; return the packet's length."""
    pack_into(_OPEN, out, 0, kind, sequence, number)
    return end


def unwrap(packet: bytes | memoryview):
    """(kind, sequence, message number, body view) of an open packet; None if it is none."""
    if len(packet) < HEADER:
        return None
    kind, sequence, number = unpack_from(_OPEN, packet, 0)
    if kind not in (REQUEST, REPLY, REFUSAL):
        return None
    return kind, sequence, number, packet[HEADER:]


def wrap_sealed(
    out: bytearray, kind: int, session: bytes, counter: int, inner: int, number: int
) -> None:
    """Write what stands in front of a sealed body: ``inner`` is REQUEST, REPLY or REFUSAL."""
    pack_into(_SEALED, out, 0, kind, session[0] | session[1] << 8, counter)
    out[SEALED] = inner
    out[SEALED + 1] = number


def sealed_header(packet: bytes | memoryview):
    """(kind, session u16, counter) of a packet that is long enough to be sealed, else None."""
    if len(packet) < BODY + TAG:
        return None
    return unpack_from(_SEALED, packet, 0)


def nonce(session: bytes, direction: int, counter: int) -> bytes:
    """13 octets that no two texts under a session's key share. ``session``: its 8 octets."""
    return pack(_NONCE, session, direction, counter)


def hmac(key: bytes, text: bytes) -> bytes:
    """HMAC-SHA-256 (RFC 2104). ``key``: at most 64 octets."""
    inner = bytearray(_BLOCK)
    outer = bytearray(_BLOCK)
    for at in range(_BLOCK):
        octet = key[at] if at < len(key) else 0
        inner[at] = octet ^ 0x36
        outer[at] = octet ^ 0x5C
    hashed = sha256(inner)
    hashed.update(text)
    last = sha256(outer)
    last.update(hashed.digest())
    return last.digest()


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """32 octets out of ``secret`` (RFC 5869, SHA-256). ``salt``: at most 64 octets."""
    return hmac(hmac(salt, secret), info + b"\x01")


def session_info(
    wire_version: int, table_hash: int, pump_id: bytes, role: int, who: bytes
) -> bytes:
    """What a session's key is made for: both sides, and that they speak of the same things."""
    return b"cisterna session" + pack("<HI8sB", wire_version, table_hash, pump_id, role) + who


def pairing_info(wire_version: int, table_hash: int, pump_id: bytes, role: int) -> bytes:
    """The same for the key that carries a role's key to a programmer."""
    return b"cisterna pair" + pack("<HI8sB", wire_version, table_hash, pump_id, role)
