"""What ``PROTOCOL.md`` tells as a known limit of the link is so. Whoever mends one of these
changes the document with it."""

from sealed_host import Button, Host, framed
from virtual_pump import SECOND_US

from pump_wire.codec import decode
from pump_wire.messages import (
    CLINICIAN,
    CLOSE_SESSION,
    CONFIRM,
    ERROR,
    GET_STATUS,
    OPEN_SESSION,
    PAIR,
    PATIENT,
    REFUSALS,
    REVOKE_KEY,
    SERVICE,
    STOP,
)
from pump_wire.session import REFUSAL, REPLY

TIMEOUT_S = 120


def refused(host, octets):
    """Name of the open refusal in ``octets``."""
    kind, _, _, body = host.unwrapped(octets)
    assert kind == REFUSAL
    return REFUSALS[decode(ERROR, body)["code"]][0]


def forged(talk):
    """A frame of the session ``talk`` from somebody who has no key, and no more than listens."""
    return framed(b"\x04" + talk.id[:2] + b"\x01\x00\x00\x00" + bytes(10))


def test_while_the_button_is_held_any_role_is_paired_and_revoked():
    host = Host(0)
    host.pump.app.sessions._button = button = Button()
    button.held = True
    for role in (PATIENT, CLINICIAN, SERVICE, CLINICIAN):
        host.ask_open(PAIR, us=5_000_000, role=role, public=b"\x09" + bytes(31))
    host.ask_open(REVOKE_KEY, role=SERVICE)
    assert host.pump.event_names()[-5:] == ["paired"] * 4 + ["key_revoked"]


def test_the_services_key_takes_a_clinicians_session_by_its_name():
    host = Host(0)
    ann = host.talk = host.open(CLINICIAN, who="ann")
    token = host.prepare(STOP)
    host.talk = host.open(SERVICE, who="ann")
    host.ask(GET_STATUS)
    host.talk = ann
    assert refused(host, host.send(host.frame(CONFIRM, token=token))) == "no_session"


def test_a_patient_who_goes_on_asking_keeps_others_out_but_not_of_the_same_name():
    host = Host(0)
    host.talk = host.open(PATIENT, who="bob")
    for _ in range(10):
        host.ask(GET_STATUS)
        host.pump.advance(25 * SECOND_US)
        ask = {"role": CLINICIAN, "who": "ann", "nonce": host.nonce()}
        assert refused(host, host.send(host.open_frame(OPEN_SESSION, **ask))) == "busy"
    host.talk = host.open(CLINICIAN, who="bob")
    host.ask(CONFIRM, token=host.prepare(STOP))
    assert host.pump.mode == "stopped"


def test_wrong_tags_without_a_key_make_two_records_in_ten_minutes():
    host = Host(0)
    log = host.pump.app.log
    before = log.coming
    for _ in range(6):
        for _ in range(3):
            host.send(forged(host.open()))
            host.pump.advance(SECOND_US)
        host.pump.advance(600 * SECOND_US)
    assert log.coming - before == 12
    log.flush()
    assert host.pump.event_names()[-2:] == ["auth_failed", "alarm_raised"]


def test_a_sealed_text_that_is_no_request_uses_its_counter_up():
    host = Host()
    reply = framed(host.talk.packet(GET_STATUS.number, b"", kind=REPLY))
    assert host.send(reply) == b""
    assert host.send(reply) == b""
    host.ask(GET_STATUS)


def test_a_session_closed_again_is_not_known():
    host = Host()
    close = host.frame(CLOSE_SESSION)
    assert host.opened(host.send(close))[0] == REPLY
    assert refused(host, host.send(close)) == "no_session"
