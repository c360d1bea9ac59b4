"""The shared wire code under CPython, with examples that hypothesis looks for."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pump_wire.codec import MAX_BODY, FieldError, decode, encode
from pump_wire.frame import MAX_FRAME, MAX_PACKET, MAX_STUFFED, FrameReader, write_frame
from pump_wire.messages import ERROR, TABLE
from pump_wire.session import HEADER, unwrap, wrap

# No deadline: the machine may be busy. Derandomised: a red run is red again.
settings.register_profile("wire", deadline=None, derandomize=True, max_examples=200)
wire = settings.get_profile("wire")

BODIES = {"error": ERROR}
for message in TABLE:
    BODIES[message.name + " request"] = message.request
    BODIES[message.name + " reply"] = message.reply

packets = st.binary(min_size=1, max_size=MAX_PACKET)
# Octets that mean something to the reader, more often than chance has them.
noise = st.lists(
    st.one_of(st.integers(0, 255), st.sampled_from([0x7E, 0x7D, 0x7F, 0x03, 0x5E])), max_size=300
).map(bytes)


def frame_of(packet: bytes) -> bytes:
    out = bytearray(MAX_STUFFED)
    return bytes(out[: write_frame(out, packet, len(packet))])


def packets_in(reader: FrameReader, octets: bytes) -> list[bytes]:
    return [bytes(reader.packet[: reader.length]) for octet in octets if reader.feed(octet)]


def unstuffed(inside: bytes) -> bytes | None:
    """What stands between two flags, by RFC 1662's words; None when it is damaged."""
    found = bytearray()
    octets = iter(inside)
    for octet in octets:
        if octet < 0x20 or octet == 0x7F:
            return None
        if octet == 0x7D:
            escaped = next(octets, None)
            if escaped is None or escaped < 0x20 or escaped in (0x7D, 0x7F):
                return None
            octet = escaped ^ 0x20
        found.append(octet)
    if not 4 < len(found) <= MAX_FRAME:
        return None
    if zlib.crc32(found[:-4]).to_bytes(4, "little") != found[-4:]:
        return None
    return bytes(found[:-4])


def values_of(fields: tuple) -> st.SearchStrategy[dict[str, object]]:
    """Any values that ``fields`` allow."""
    each: dict[str, st.SearchStrategy[object]] = {}
    for name, kind, low, high, _ in fields:
        if kind[0] in "ui":
            each[name] = st.integers(low, high)
        elif kind == "b*":
            each[name] = st.binary(max_size=60)
        elif kind[0] == "b":
            each[name] = st.binary(min_size=int(kind[1:]), max_size=int(kind[1:]))
        else:
            text = st.text(max_size=int(kind[1:]))
            each[name] = text.filter(lambda t, most=int(kind[1:]): len(t.encode()) <= most)
    return st.fixed_dictionaries(each)


@wire
@given(packets)
def test_frame_goes_there_and_back(packet: bytes) -> None:
    frame = frame_of(packet)
    assert frame[0] == frame[-1] == 0x7E
    assert unstuffed(frame[1:-1]) == packet
    assert packets_in(FrameReader(), frame) == [packet]


@wire
@given(st.lists(st.one_of(packets.map(frame_of), noise), max_size=8))
def test_reader_finds_what_an_independent_parser_finds(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)
    # Everything between two flags is a candidate, whatever came before.
    found = [unstuffed(inside) for inside in octets.split(b"~")[1:-1]]
    assert packets_in(FrameReader(), octets) == [packet for packet in found if packet is not None]


@wire
@given(st.lists(st.one_of(packets.map(frame_of), noise), max_size=8), st.data())
def test_octets_taken_in_chunks_are_octets_fed_one_by_one(
    pieces: list[bytes], data: st.DataObject
) -> None:
    octets = b"".join(pieces)
    fed, taken = FrameReader(), FrameReader()
    wanted = packets_in(fed, octets)
    found: list[bytes] = []
    at = 0
    while at < len(octets):
        chunk = octets[at : at + data.draw(st.integers(1, 80))]
        done = 0
        while done < len(chunk):
            done = taken.take(chunk, done, len(chunk))
            if done < 0:
                found.append(bytes(taken.packet[: taken.length]))
                done = -done - 1
        at += len(chunk)
    assert found == wanted
    for name in ("good", "damaged", "oversize", "noise", "partial"):
        assert getattr(taken, name) == getattr(fed, name)


@wire
@given(noise, packets)
def test_next_good_frame_is_read_whatever_came_before(before: bytes, packet: bytes) -> None:
    reader = FrameReader()
    packets_in(reader, before)
    assert packets_in(reader, b"~" + frame_of(packet))[-1] == packet


@wire
@given(noise)
def test_reader_stays_in_its_buffer_and_counts(octets: bytes) -> None:
    reader = FrameReader()
    good = len(packets_in(reader, octets))
    assert reader.good == good
    assert len(reader.packet) == MAX_FRAME
    assert reader.damaged + reader.oversize + reader.good <= octets.count(b"~") + len(octets)
    assert 0 <= reader.noise <= len(octets)


@wire
@given(packets, st.data())
def test_changed_octet_is_never_accepted(packet: bytes, data: st.DataObject) -> None:
    frame = bytearray(frame_of(packet))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    assert packets_in(FrameReader(), bytes(frame)) == []


@pytest.mark.parametrize("body", BODIES)
def test_body_goes_there_and_back(body: str) -> None:
    fields = BODIES[body]

    @settings(wire, max_examples=50)
    @given(values_of(fields))
    def check(values: dict[str, object]) -> None:
        out = bytearray(MAX_BODY)
        end = encode(fields, values, out)
        assert decode(fields, bytes(out[:end])) == values
        assert not any(out[end:])

    check()


@pytest.mark.parametrize("body", BODIES)
def test_random_octets_are_refused_or_mean_exactly_themselves(body: str) -> None:
    fields = BODIES[body]

    @settings(wire, max_examples=100)
    @given(st.binary(max_size=MAX_BODY))
    def check(octets: bytes) -> None:
        try:
            values = decode(fields, octets)
        except FieldError:
            return
        out = bytearray(MAX_BODY)
        assert bytes(out[: encode(fields, values, out)]) == octets

    check()


@wire
@given(
    st.integers(1, 3), st.integers(0, 0xFFFF), st.integers(0, 255), st.binary(max_size=MAX_BODY)
)
def test_packet_goes_there_and_back(kind: int, sequence: int, number: int, body: bytes) -> None:
    packet = bytearray(HEADER + MAX_BODY)
    packet[HEADER : HEADER + len(body)] = body
    length = wrap(packet, kind, sequence, number, HEADER + len(body))
    found = unwrap(memoryview(packet)[:length])
    assert found is not None
    assert (*found[:3], bytes(found[3])) == (kind, sequence, number, body)
