"""The telemetry link in a whole pump: octets in, octets out."""

from random_numbers import Random
from sealed_host import CLINICIAN, Host, framed
from virtual_pump import SECOND_US

from pump_wire.codec import MAX_BODY, decode, encode
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
from pump_wire.session import REFUSAL, REPLY

TIMEOUT_S = 60


def test_a_request_gets_one_reply_with_its_counter():
    host = Host()
    for counter in range(2, 14):
        message = (HELLO, GET_STATUS, GET_ACCOUNT)[counter % 3]
        reply = host.opened(host.send(host.frame(message)))
        assert reply[:3] == (REPLY, counter, message.number)
        decode(message.reply, reply[3])


def test_an_open_request_gets_one_reply_with_its_sequence():
    host = Host()
    for sequence in (0, 1, 0x7E7D, 0xFFFF):
        reply = host.unwrapped(host.send(host.open_frame(HELLO, sequence)))
        assert reply[:3] == (REPLY, sequence, HELLO.number)
        assert decode(HELLO.reply, reply[3])["sealed"] == 1


def test_a_refusal_is_told_with_its_limit():
    host = Host()
    body = bytearray(MAX_BODY)
    end = encode(
        START_BOLUS.request, {"volume_nl": 10_000, "duration_us": 1_000_000, "agreed": 0}, body
    )
    octets = host.frame(PREPARE, command=START_BOLUS.number, body=bytes(body[:end]))
    kind, counter, number, body = host.opened(host.send(octets))
    assert (kind, counter, number) == (REFUSAL, 2, PREPARE.number)
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
    kind, sequence, number, body = host.unwrapped(host.send(framed(b"\x01\x05\x00\x7f")))
    assert (kind, sequence, number) == (REFUSAL, 5, 0x7F)
    assert REFUSALS[decode(ERROR, body)["code"]][0] == "unknown_message"
    kind, _, number, body = host.opened(host.send(framed(host.talk.packet(0x7F, b""))))
    assert (kind, number) == (REFUSAL, 0x7F)
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


def test_the_same_message_with_a_new_counter_is_a_new_request():
    host = Host()
    first = host.prepare(STOP)
    assert host.prepare(STOP) != first


def test_a_new_session_voids_what_was_prepared_and_hello_does_not():
    host = Host()
    token = host.prepare(STOP)
    host.ask_open(HELLO)
    late = host.frame(CONFIRM, token=token)
    before = host.talk
    host.talk = host.open(CLINICIAN)
    host.ask(GET_STATUS)
    kind, _, number, body = host.unwrapped(host.send(late))  # the session it is of is over
    assert (kind, number) == (REFUSAL, 0)
    assert REFUSALS[decode(ERROR, body)["code"]][0] == "no_session"
    kind, _, _, body = host.opened(host.send(host.frame(CONFIRM, token=token)))
    assert kind == REFUSAL
    assert REFUSALS[decode(ERROR, body)["code"]][0] == "bad_token"
    assert before.id != host.talk.id
    assert host.pump.mode == "simple_continuous"


def test_hello_between_a_lost_reply_and_its_repeat_changes_nothing():
    host = Host()
    ask = host.frame(GET_STATUS)
    first = host.send(ask)
    host.ask_open(HELLO)
    host.pump.advance(SECOND_US)
    assert host.send(ask) == first


def test_damaged_frames_get_no_reply_and_cost_only_themselves():
    host = Host()
    good = host.frame(GET_STATUS)
    assert host.opened(host.send(good))[0] == REPLY
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
        assert host.send(framed(packet)) == b"", packet
    assert host.ask(GET_STATUS)["fault"] == 0


def test_a_partial_frame_is_dropped_within_half_a_second_of_silence():
    host = Host()
    host.wire.put(b"~")
    frame = host.open_frame(HELLO)
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
    frame = host.frame(GET_STATUS)
    for at in range(len(frame) - 1):
        assert host.send(frame[at : at + 1], us=300_000) == b""
    assert host.opened(host.send(frame[-1:], us=30_000))[:2] == (REPLY, 2)


def test_many_requests_at_once_are_answered_in_order():
    host = Host()
    octets = b"".join([host.frame(GET_STATUS) for _ in range(10)])
    counters = [host.talk.opened(packet)[1] for packet in host.packets(host.send(octets))]
    assert counters == list(range(2, 12))


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
