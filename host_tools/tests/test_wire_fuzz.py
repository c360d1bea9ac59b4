"""Octets that Hypothesis thinks of, for the code that both sides share."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cisterna.wire_fuzz import check, check_body, check_packet, check_stream, framed
from pump_wire import frame
from pump_wire.codec import MAX_BODY, encode
from pump_wire.frame import ESCAPE, FLAG
from pump_wire.messages import TABLE

hot = st.sampled_from((FLAG, ESCAPE, 0x7F, 0x03, 0x5E, 0x5D, 0x00, 0x20))
octets = st.lists(st.one_of(st.integers(0, 255), hot), max_size=600).map(bytes)
frames = st.binary(min_size=1, max_size=60).map(framed)
streams = st.lists(st.one_of(frames, octets), max_size=8).map(b"".join)
bodies = st.binary(max_size=MAX_BODY)


@pytest.mark.requirement("INP-1")
@settings(max_examples=400, deadline=None)
@given(st.one_of(octets, streams))
@example(b"")
@example(b"~}~}~}}~")
def test_no_stream_confuses_the_reader(stream: bytes) -> None:
    check_stream(stream)


@settings(max_examples=200, deadline=None)
@given(octets)
def test_every_packet_comes_out_as_it_went_in(packet: bytes) -> None:
    check_packet(packet)


@pytest.mark.requirement("INP-1")
@settings(max_examples=400, deadline=None)
@given(octets)
def test_any_octets_at_all(data: bytes) -> None:
    check(data)


@pytest.mark.requirement("INP-1")
@pytest.mark.parametrize("message", TABLE, ids=lambda message: message.name)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_body_decodes_to_what_encodes_to_it_or_is_refused(message, data) -> None:  # type: ignore[no-untyped-def]
    for fields in (message.request, message.reply):
        values = {}
        for name, kind, low, high, _ in fields:
            if kind[0] == "s":
                values[name] = data.draw(st.text(max_size=int(kind[1:]) // 4))
            elif kind == "b*":
                values[name] = data.draw(st.binary(max_size=40))
            elif kind[0] == "b":
                values[name] = data.draw(st.binary(min_size=int(kind[1:]), max_size=int(kind[1:])))
            else:
                values[name] = data.draw(st.integers(low, high))
        out = bytearray(512)
        body = bytes(out[: encode(fields, values, out)])
        check_body(fields, body[:MAX_BODY])
        at = data.draw(st.integers(0, max(0, len(body) - 1)))
        check_body(fields, (body[:at] + data.draw(st.binary(max_size=3)) + body[at + 1 :]))
        check_body(fields, data.draw(bodies))


def test_a_reader_that_does_not_check_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "crc32", lambda _: 0)
    with pytest.raises(AssertionError):
        check_stream(b"anything")
