"""Whatever octets may come: what both sides share refuses them as it says, and in no other way.

``check`` takes any octets and raises AssertionError, or whatever else escaped, when ``pump_wire``
does what its contract does not allow. Hypothesis draws octets for it in ``make test``; coverage
guided, with atheris::

    .venv/bin/pip install atheris
    .venv/bin/python -m cisterna.wire_fuzz -runs=10000000 build/corpus

which ends at the first failure and keeps the octets that led there. Options are libFuzzer's.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

from pump_wire import session
from pump_wire.codec import MAX_BODY, FieldError, decode, encode
from pump_wire.frame import FLAG, MAX_PACKET, MAX_STUFFED, FrameReader, write_frame
from pump_wire.messages import BY_NUMBER, ERROR


def framed(packet: bytes) -> bytes:
    """The frame of a packet."""
    out = bytearray(MAX_STUFFED)
    return bytes(out[: write_frame(out, packet, len(packet))])


def packets(reader: FrameReader, octets: bytes) -> list[bytes]:
    """What ``reader`` takes for good packets."""
    return [bytes(reader.packet[: reader.length]) for octet in octets if reader.feed(octet)]


def chunks(reader: FrameReader, octets: bytes, size: int) -> list[bytes]:
    """The same, taken ``size`` octets at a time, as the pump does."""
    found: list[bytes] = []
    for begin in range(0, len(octets), size):
        chunk = octets[begin : begin + size]
        at = 0
        while at < len(chunk):
            at = reader.take(chunk, at, len(chunk))
            if at < 0:
                at = -at - 1
                found.append(bytes(reader.packet[: reader.length]))
    return found


def check_stream(octets: bytes) -> None:
    """Any octets on the line: packets of a size, each of which frames to octets that were there;
    and after them a good frame gets through."""
    reader = FrameReader()
    found = packets(reader, octets)
    for packet in found:
        assert 1 <= len(packet) <= MAX_PACKET
        assert packets(FrameReader(), framed(packet)) == [packet]
    assert len(found) == reader.good
    chunked = FrameReader()
    assert chunks(chunked, octets, 1 + len(octets) % 7) == found
    for name in ("good", "damaged", "oversize", "noise", "partial"):
        assert getattr(chunked, name) == getattr(reader, name), name
    last = packets(reader, bytes((FLAG,)) + framed(b"next"))
    assert last[-1:] == [b"next"]
    reader.drop_partial()
    assert not reader.partial


def check_packet(octets: bytes) -> None:
    """Any packet of up to MAX_PACKET octets comes out of its frame as it went in."""
    packet = octets[:MAX_PACKET] or b"\0"
    frame = framed(packet)
    assert packets(FrameReader(), frame) == [packet]
    assert all(octet >= 0x20 and octet not in (FLAG, 0x7F) for octet in frame[1:-1])


def check_body(fields: Any, octets: bytes) -> None:
    """Any body decodes to values that encode to it again, or is refused by name."""
    body = octets[:MAX_BODY]
    try:
        values = decode(fields, body)
    except FieldError as error:
        assert error.field == "" or error.field in [field[0] for field in fields]
        return
    out = bytearray(MAX_BODY)
    assert bytes(out[: encode(fields, values, out)]) == body


def check(octets: bytes) -> None:
    """All of it; the first two octets choose what the others are."""
    if len(octets) < 2:
        check_stream(octets)
        return
    kind, number, rest = octets[0] % 4, octets[1], octets[2:]
    if kind == 0:
        check_stream(rest)
    elif kind == 1:
        check_packet(rest)
    elif kind == 2:
        message = BY_NUMBER.get(number & 0x7F)
        fields = ERROR if message is None else message.reply if number & 0x80 else message.request
        check_body(fields, rest)
    else:
        for opener in (getattr(session, "unwrap", None), getattr(session, "sealed_header", None)):
            parts = opener(memoryview(rest)) if opener is not None else None
            assert parts is None or len(parts) in (3, 4)


def main() -> None:
    """Fuzz with atheris until it finds something."""
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.exit("atheris is not installed here: .venv/bin/pip install atheris")
    with contextlib.suppress(AttributeError):
        for module in ("pump_wire.frame", "pump_wire.codec", "pump_wire.session"):
            _instrument(atheris, module)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


def _instrument(atheris: Any, name: str) -> None:
    """Have every function of a module tell where it has been."""
    module = importlib.import_module(name)
    for holder in (module, *(each for each in vars(module).values() if isinstance(each, type))):
        for attribute, value in list(vars(holder).items()):
            ours = callable(value) and getattr(value, "__module__", "") == name
            if ours and not isinstance(value, type):
                setattr(holder, attribute, atheris.instrument_func(value))


if __name__ == "__main__":
    main()
