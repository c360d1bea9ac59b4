"""The telemetry link in a whole pump: octets in, octets out."""

import asyncio

from random_numbers import Random
from virtual_pump import SECOND_US, filled, running

from pump_wire.codec import MAX_BODY, decode, encode
from pump_wire.frame import MAX_STUFFED, FrameReader, write_frame
from pump_wire.messages import (
    CONFIRM,
    ERROR,
    GET_ACCOUNT,
    GET_STATUS,
    HELLO,
    PREPARE,
    REFUSALS,
    SET_PRESCRIPTION,
    START_BOLUS,
    STOP,
)
from pump_wire.session import HEADER, REFUSAL, REPLY, REQUEST, OpenSession

TIMEOUT_S = 60


class Wire:
    """The host's end of the port. ``sent``: octets that the pump wrote and nobody took yet."""

    def __init__(self):
        self._incoming = bytearray()
        self._event = asyncio.Event()
        self.sent = bytearray()

    def put(self, octets):
        self._incoming += octets
        self._event.set()

    # the port's contract

    def read_into(self, buffer):
        count = min(len(buffer), len(self._incoming))
        buffer[:count] = self._incoming[:count]
        self._incoming = self._incoming[count:]
        return count

    async def wait_readable(self):
        while not self._incoming:
            self._event.clear()
            await self._event.wait()

    def write(self, view):
        self.sent += bytes(view)


class Host:
    """Speaks with ``pump`` over ``wire``."""

    def __init__(self):
        self.wire = Wire()
        self.pump = running(port=self.wire)
        self.pump.advance(1_000)
        self._session = OpenSession()
        self._sequence = 100

    def frame(self, message, sequence=None, kind=REQUEST, **values):
        """Octets of a request."""
        if sequence is None:
            self._sequence += 1
            sequence = self._sequence
        packet = bytearray(HEADER + MAX_BODY)
        end = encode(message.request, values, packet, HEADER)
        length = self._session.wrap(packet, kind, sequence, message.number, end)
        return self.framed(packet, length)

    def framed(self, packet, length=None):
        out = bytearray(MAX_STUFFED)
        return bytes(out[: write_frame(out, packet, length or len(packet))])

    def send(self, octets, us=1_000):
        """The octets that the pump answers with within ``us``."""
        self.wire.put(octets)
        self.pump.advance(us)
        sent = bytes(self.wire.sent)
        self.wire.sent = bytearray()
        return sent

    def opened(self, octets):
        """(kind, sequence, message number, body) of the one reply in ``octets``; None if empty."""
        reader = FrameReader()
        found = []
        for octet in octets:
            if reader.feed(octet):
                kind, sequence, number, body = self._session.unwrap(reader.packet[: reader.length])
                found.append((kind, sequence, number, bytes(body)))
        assert reader.damaged == reader.noise == 0 and len(found) <= 1, found
        return found[0] if found else None

    def ask(self, message, **values):
        kind, _, number, body = self.opened(self.send(self.frame(message, **values)))
        assert (kind, number) == (REPLY, message.number)
        return decode(message.reply, body)

    def prepare(self, message, **values):
        body = bytearray(MAX_BODY)
        end = encode(message.request, filled(message.request, **values), body)
        return self.ask(PREPARE, command=message.number, body=bytes(body[:end]))["token"]


def test_a_request_gets_one_reply_with_its_sequence():
    host = Host()
    for message in (HELLO, GET_STATUS, GET_ACCOUNT):
        for sequence in (0, 1, 0x7E7D, 0xFFFF):
            reply = host.opened(host.send(host.frame(message, sequence)))
            assert reply[:3] == (REPLY, sequence, message.number)
            decode(message.reply, reply[3])


def test_a_refusal_is_told_with_its_limit():
    host = Host()
    body = bytearray(MAX_BODY)
    end = encode(
        START_BOLUS.request, {"volume_nl": 10_000, "duration_us": 1_000_000, "agreed": 0}, body
    )
    octets = host.frame(PREPARE, 7, command=START_BOLUS.number, body=bytes(body[:end]))
    kind, sequence, number, body = host.opened(host.send(octets))
    assert (kind, sequence, number) == (REFUSAL, 7, PREPARE.number)
    values = decode(ERROR, body)
    assert REFUSALS[values["code"]][0] == "below_limit"
    assert values["field"] == "duration_us"
    assert (values["value"], values["limit"]) == (1_000_000, 36_000_000)


def test_a_refusal_of_a_number_too_big_for_the_answer_is_told():
    host = Host()
    body = b"\x06saline" + b"\xff" * 8 + bytes(200 - 15)
    octets = host.frame(PREPARE, command=SET_PRESCRIPTION.number, body=body)
    kind, _, _, body = host.opened(host.send(octets))
    assert kind == REFUSAL
    values = decode(ERROR, body)
    assert (values["field"], values["limit"]) == ("concentration_ng_ml", 10**12)
    assert host.pump.fault == ""


def test_an_unknown_message_is_refused():
    host = Host()
    kind, sequence, number, body = host.opened(host.send(host.framed(b"\x01\x05\x00\x63")))
    assert (kind, sequence, number) == (REFUSAL, 5, 0x63)
    assert REFUSALS[decode(ERROR, body)["code"]][0] == "unknown_message"


def test_a_repeated_request_gets_the_same_reply_and_is_not_carried_out_again():
    host = Host()
    prepare = host.frame(PREPARE, command=STOP.number, body=b"")
    first = host.send(prepare)
    for _ in range(3):
        host.pump.advance(SECOND_US)
        assert host.send(prepare) == first  # the same token, not a new one
    token = decode(PREPARE.reply, host.opened(first)[3])["token"]
    confirm = host.frame(CONFIRM, token=token)
    first = host.send(confirm)
    events = host.pump.app.log.next
    assert host.pump.mode == "stopped"
    assert host.send(confirm) == first
    assert host.pump.app.log.next == events


def test_a_command_whose_reply_was_lost_is_done_once():
    host = Host()
    token = host.prepare(START_BOLUS, volume_nl=1_000, duration_us=10_000_000)
    before = host.pump.steps
    confirm = host.frame(CONFIRM, token=token)
    assert host.send(confirm) != b""  # and lost
    host.pump.advance(3 * SECOND_US)
    again = decode(CONFIRM.reply, host.opened(host.send(confirm))[3])
    status = host.ask(GET_STATUS)
    assert status["last_token"] == token
    other = decode(CONFIRM.reply, host.opened(host.send(host.frame(CONFIRM, token=token)))[3])
    assert again == other
    assert host.pump.event_names().count("bolus_started") == 1
    host.pump.advance(7 * SECOND_US)
    assert host.pump.steps - before == 10


def test_the_same_message_with_a_new_sequence_is_a_new_request():
    host = Host()
    first = host.prepare(STOP)
    assert host.prepare(STOP) != first


def test_hello_begins_anew_and_voids_what_was_prepared():
    host = Host()
    hello = host.frame(HELLO, 0)
    host.send(hello)
    token = host.prepare(STOP)
    assert host.opened(host.send(hello))[0] == REPLY
    kind, _, _, body = host.opened(host.send(host.frame(CONFIRM, token=token)))
    assert kind == REFUSAL
    assert REFUSALS[decode(ERROR, body)["code"]][0] == "bad_token"
    assert host.pump.mode == "simple_continuous"


def test_hello_asked_again_is_answered_anew():
    host = Host()
    hello = host.frame(HELLO, 0)
    assert host.opened(host.send(hello))[0] == REPLY
    token = host.prepare(STOP)
    host.send(hello)
    host.send(hello)
    assert host.opened(host.send(host.frame(CONFIRM, token=token)))[0] == REFUSAL


def test_damaged_frames_get_no_reply_and_cost_only_themselves():
    host = Host()
    good = host.frame(GET_STATUS, 9)
    for at in range(1, len(good) - 1):
        bad = bytearray(good)
        bad[at] ^= 0x20
        assert host.send(bytes(bad), us=600_000) == b"", at
        assert host.opened(host.send(host.frame(GET_STATUS)))[0] == REPLY, at
    assert host.pump.fault == ""


def test_what_is_no_request_gets_no_reply():
    host = Host()
    for packet in (
        b"\x01",
        b"\x01\x00\x00",
        b"\x02\x00\x00\x02",
        b"\x03\x00\x00\x02",
        b"\x00" * 9,
    ):
        assert host.send(host.framed(packet)) == b"", packet
    assert host.ask(GET_STATUS)["fault"] == 0


def test_a_partial_frame_is_dropped_within_half_a_second_of_silence():
    host = Host()
    frame = host.frame(GET_STATUS)
    for keep in (3, 5, len(frame) - 1):
        host.send(frame[:keep])
        assert host.pump.app.link.frames.partial
        host.pump.advance(499_000)
        assert not host.pump.app.link.frames.partial
        assert host.send(frame[keep:]) == b""  # its rest is nothing now
        host.pump.advance(SECOND_US)
        assert host.opened(host.send(host.frame(GET_STATUS)))[0] == REPLY


def test_a_slow_sender_is_heard_out():
    host = Host()
    frame = host.frame(GET_STATUS, 3)
    for at in range(len(frame) - 1):
        assert host.send(frame[at : at + 1], us=300_000) == b""
    assert host.opened(host.send(frame[-1:], us=30_000))[:2] == (REPLY, 3)


def test_many_requests_at_once_are_answered_in_order():
    host = Host()
    octets = b"".join(host.frame(GET_STATUS, sequence) for sequence in range(10))
    reader = FrameReader()
    sequences = []
    for octet in host.send(octets):
        if reader.feed(octet):
            sequences.append(reader.packet[1] | reader.packet[2] << 8)
    assert sequences == list(range(10))


def test_noise_does_not_disturb_delivery():
    host = Host()
    before = host.pump.steps
    random = Random(6)
    for _ in range(100):
        noise = bytes(random.below(256) for _ in range(random.below(80)))
        host.wire.put(noise)
        host.pump.advance(100_000)
    host.pump.advance(SECOND_US)
    host.wire.sent = bytearray()
    assert host.pump.steps - before == 11
    assert host.pump.fault == ""
    assert host.ask(GET_STATUS)["fault"] == 0
