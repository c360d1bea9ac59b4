"""Who may talk to the pump: sessions, roles, keys, back-off, in a whole pump behind its port."""

from random_numbers import Random
from sealed_host import KEYS, Button, Host, framed
from virtual_pump import ROOT, SECOND_US, damage, state

from pump_wire.codec import MAX_BODY, decode, encode
from pump_wire.messages import (
    ANYONE,
    CLINICIAN,
    CLOSE_SESSION,
    CONFIRM,
    ERROR,
    GET_KEYS,
    GET_PRESCRIPTION,
    GET_STATUS,
    HELLO,
    OPEN_SESSION,
    PAIR,
    PATIENT,
    PREPARE,
    REFUSALS,
    REVOKE_KEY,
    SERVICE,
    START_BOLUS,
    STOP,
    TABLE,
)
from pump_wire.session import FROM_PUMP, REFUSAL, REPLY, TO_PUMP

TIMEOUT_S = 120
REQUIREMENTS = {
    "test_before_authentication_only_hello": ["SEC-1"],
    "test_every_message_in_every_role": ["SEC-1"],
    "test_a_pump_without_keys_lets_nobody_in": ["SEC-1"],
    "test_keys_are_given_only_while_the_button_is_held": ["SEC-2"],
    "test_no_message_tells_a_key": ["SEC-2"],
    "test_sessions_never_share_a_nonce_or_a_key": ["SEC-2"],
    "test_every_flipped_bit_of_a_request_is_refused": ["SEC-3"],
    "test_packets_of_another_direction_are_refused": ["SEC-3"],
    "test_packets_of_another_session_are_refused": ["SEC-3"],
    "test_counters_that_are_not_the_next_are_refused": ["SEC-4"],
    "test_a_recorded_session_means_nothing_after_a_restart": ["SEC-4"],
    "test_a_token_is_good_in_its_session_only": ["SEC-5"],
    "test_a_token_of_another_command_is_not_good_for_this": ["SEC-5"],
    "test_failed_authentications_back_off_and_are_logged": ["SEC-7"],
    "test_a_flood_of_failures_locks_nobody_out": ["SEC-7"],
    "test_a_session_ends_after_three_minutes_of_silence": ["SEC-8"],
    "test_every_change_is_announced_and_logged_with_its_role": ["SEC-8"],
    "test_another_programmer_is_told_who_has_the_pump": ["INP-3"],
}


def name_of(body):
    return REFUSALS[decode(ERROR, body)["code"]][0]


def octets(message, **values):
    out = bytearray(MAX_BODY)
    return bytes(out[: encode(message.request, values, out)])


def any_values(fields):
    """Values that the table allows for ``fields``."""
    values = {}
    for name, kind, low, _, _ in fields:
        if kind[0] in "ui":
            values[name] = max(low, 0)
        else:
            values[name] = "" if kind[0] == "s" else bytes(int(kind[1:].strip("*") or 0))
    return values


def body_of(message):
    return octets(message, **any_values(message.request))


_WHAT_COMMANDS_CHANGE = (
    "mode",
    "return_mode",
    "stop_reason",
    "rate_nl_day",
    "bolus_pl",
    "fault",
    "last_token",
    "fill_pl",
    "capacity_pl",
    "refills",
    "expected_pl",
    "measured_pl",
    "reason",
    "halted",
)


def unchanged(host):
    """What no message may have changed that was refused."""
    pump = host.pump
    found = state(pump)
    kept = {name: found[name] for name in _WHAT_COMMANDS_CHANGE}
    kept.update(pump.ask(GET_PRESCRIPTION))
    kept["wall_s"] = bool(found["wall_s"])
    kept["keys"] = list(pump.app.sessions._keys)
    return kept


# -- roles ----------------------------------------------------------------------------------------


def test_before_authentication_only_hello():
    host = Host(0)
    before = unchanged(host)
    answered = []
    for message in TABLE:
        packet = b"\x01\x00\x00" + bytes((message.number,)) + body_of(message)
        kind, _, number, body = host.unwrapped(host.send(framed(packet)))
        assert number == message.number
        if kind == REPLY:
            answered.append(message.name)
        elif not message.roles & ANYONE:
            assert name_of(body) == "not_allowed", message.name
    assert answered == ["hello", "open_session"]  # which is how one authenticates
    told = host.ask_open(HELLO)
    for word in ("rate", "drug", "volume", "_pl", "_nl", "mode"):
        assert not [name for name in told if word in name]
    assert unchanged(host) == before


def test_every_message_in_every_role():
    for role in (PATIENT, CLINICIAN, SERVICE):
        host = Host(role)
        before = unchanged(host)
        for message in TABLE:
            if message is CLOSE_SESSION:
                continue
            allowed = message.roles & role
            if allowed and message is not PREPARE and message is not CONFIRM:
                continue  # it may, and its own tests say what it does
            kind, _, _, body = host.opened(
                host.send(framed(host.talk.packet(message.number, body_of(message))))
            )
            assert kind == REFUSAL, message.name
            if not allowed:
                assert name_of(body) == "not_allowed", message.name
        for message in TABLE:
            if message.prepared and not message.roles & role:
                body = octets(PREPARE, command=message.number, body=body_of(message))
                kind, _, _, body = host.opened(
                    host.send(framed(host.talk.packet(PREPARE.number, body)))
                )
                assert (kind, name_of(body)) == (REFUSAL, "not_allowed"), message.name
        assert unchanged(host) == before
        assert host.pump.fault == ""
        host.pump.app.log.flush()
        assert "command_refused" in host.pump.event_names()


def test_refusals_by_role_are_logged_as_long_as_there_are_few():
    host = Host(PATIENT)
    body = octets(PREPARE, command=STOP.number, body=b"")
    for _ in range(60):
        host.send(framed(host.talk.packet(PREPARE.number, body)))
    host.pump.app.log.flush()
    assert host.pump.event_names().count("command_refused") == 24


def test_a_pump_without_keys_lets_nobody_in():
    host = Host(0)
    for role in KEYS:
        host.pump.app.sessions._keep(role, 0, bytes(16))
    assert host.ask_open(HELLO)["sealed"] == 0
    for role in (PATIENT, CLINICIAN, SERVICE, 3):
        ask = host.open_frame(OPEN_SESSION, role=role, who="x", nonce=host.nonce())
        kind, _, _, body = host.unwrapped(host.send(ask))
        assert (kind, name_of(body)) == (REFUSAL, "not_paired")


# -- keys -----------------------------------------------------------------------------------------


def test_keys_are_given_only_while_the_button_is_held():
    host = Host(0)
    sessions = host.pump.app.sessions
    ask = {"role": PATIENT, "public": b"\x09" + bytes(31)}
    before = list(sessions._keys)
    for button in (None, Button()):
        sessions._button = button
        for message in (PAIR, REVOKE_KEY):
            values = ask if message is PAIR else {"role": PATIENT}
            kind, _, _, body = host.unwrapped(host.send(host.open_frame(message, **values)))
            assert (kind, name_of(body)) == (REFUSAL, "no_button")
    answers = [True, False]
    button.pressed = lambda: answers.pop(0)  # let go before it is done
    kind, _, _, body = host.unwrapped(host.send(host.open_frame(PAIR, **ask), us=5_000_000))
    assert (kind, name_of(body)) == (REFUSAL, "no_button")
    assert (sessions._keys, answers) == (before, [])
    button.pressed = lambda: True
    assert host.ask_open(PAIR, us=5_000_000, **ask)["generation"] == 1
    assert sessions._keys == before  # it was there: the same again, sealed for another


def test_a_revoked_key_is_worthless_and_the_next_is_another():
    host = Host(PATIENT)
    sessions = host.pump.app.sessions
    sessions._button = button = Button()
    button.held = True
    announced = []
    sessions.on_keys = lambda: announced.append(1)
    host.ask_open(REVOKE_KEY, role=PATIENT)
    kind, _, number, body = host.unwrapped(host.send(host.frame(GET_STATUS)))
    assert (kind, number, name_of(body)) == (REFUSAL, 0, "no_session")
    ask = host.open_frame(OPEN_SESSION, role=PATIENT, who="x", nonce=host.nonce())
    assert name_of(host.unwrapped(host.send(ask))[3]) == "not_paired"
    assert announced == [1]
    reply = host.ask_open(PAIR, us=5_000_000, role=PATIENT, public=b"\x09" + bytes(31))
    assert reply["generation"] == 2
    assert sessions._keys[0][1] not in (KEYS[PATIENT], bytes(16))
    assert sessions._keys[1][1] == KEYS[CLINICIAN]
    names = host.pump.event_names()
    assert names[-2:] == ["key_revoked", "paired"]
    assert announced == [1, 1]


def test_keys_outlive_a_restart_and_damage_to_a_copy():
    for copy in (0, 1):
        host = Host(0)
        host.restart(lambda copy=copy: damage("%s/keys.%d" % (ROOT, copy)))
        host.talk = host.open(SERVICE)
        assert host.ask(GET_KEYS) == {"patient": 1, "clinician": 1, "service": 1}


def test_keys_that_are_lost_let_nobody_in_and_delivery_goes_on():
    host = Host(0)
    host.restart(lambda: [damage("%s/keys.%d" % (ROOT, copy)) for copy in (0, 1)])
    host.pump.advance(10 * SECOND_US)
    assert host.ask_open(HELLO)["sealed"] == 0
    assert host.pump.fault == ""
    assert host.pump.mode == "simple_continuous"
    assert host.pump.steps > 5
    assert "keys_lost" in host.pump.event_names()


def test_no_message_tells_a_key():
    host = Host(SERVICE)
    sessions = host.pump.app.sessions
    sessions._button = button = Button()
    button.held = True
    seen = bytearray()
    for message in TABLE:
        packet = b"\x01\x00\x00" + bytes((message.number,)) + body_of(message)
        if message is not REVOKE_KEY:
            seen += host.send(framed(packet), us=2_000_000)
    for role in sorted(KEYS):
        host.talk = host.open(role)
        for message in TABLE:
            if message.prepared or message is CLOSE_SESSION or not message.roles & role:
                continue
            packet = host.packet(
                host.send(framed(host.talk.packet(message.number, body_of(message))))
            )
            seen += host.talk.opened(packet)[3]
    assert len(seen) > 500
    for key in KEYS.values():
        for at in range(0, 16, 4):
            assert key[at : at + 4] not in bytes(seen)


def test_sessions_never_share_a_nonce_or_a_key():
    host = Host(0)
    seen = set()
    for _ in range(100):
        talk = host.open(CLINICIAN)
        seen.add(talk.id)
        seen.add(bytes(talk.ccm._key))
    assert len(seen) == 200


# -- what is sealed -------------------------------------------------------------------------------


def test_every_flipped_bit_of_a_request_is_refused():
    host = Host()
    before = unchanged(host)
    packet = host.talk.packet(GET_STATUS.number, b"")
    for bit in range(8 * len(packet)):
        bad = bytearray(packet)
        bad[bit >> 3] ^= 1 << (bit & 7)
        answer = host.send(framed(bytes(bad)))
        if answer:  # at most that this is no session of the pump's
            kind, _, number, body = host.unwrapped(answer)
            assert (kind, number, name_of(body)) == (REFUSAL, 0, "no_session"), bit
    assert unchanged(host) == before
    assert host.opened(host.send(framed(packet)))[0] == REPLY


def test_packets_of_another_direction_are_refused():
    host = Host()
    reply = host.packet(host.send(host.frame(GET_STATUS)))
    before = unchanged(host)
    for counter in (2, 3):
        turned = host.talk.packet(STOP.number, b"", counter, direction=FROM_PUMP)
        assert host.send(framed(turned)) == b""
    back = bytearray(reply)
    back[0] = 4
    assert host.send(framed(bytes(back))) == b""
    assert host.send(framed(reply)) == b""
    assert unchanged(host) == before
    assert TO_PUMP != FROM_PUMP


def test_packets_of_another_session_are_refused():
    host = Host()
    old = host.talk
    kept = [old.packet(GET_STATUS.number, b"") for _ in range(5)]
    host.talk = host.open()
    host.ask(HELLO)
    for packet in kept:
        spliced = bytearray(packet)
        spliced[1:3] = host.talk.id[:2]  # as if it were of this one
        assert host.send(framed(bytes(spliced))) == b""
        assert host.unwrapped(host.send(framed(packet)))[0] == REFUSAL
    assert host.ask(GET_STATUS)["fault"] == 0


def test_counters_that_are_not_the_next_are_refused():
    host = Host()
    for _ in range(3):
        host.ask(GET_STATUS)
    now = host.talk.counter
    for counter in (0, 1, now - 1, now, now + 2, now + 3, 0xFFFFFFFF):
        body = octets(PREPARE, command=STOP.number, body=b"")
        assert host.send(framed(host.talk.packet(PREPARE.number, body, counter))) == b"", counter
    assert host.pump.app.commands._prepared is None
    assert host.ask(GET_STATUS)["fault"] == 0


def test_a_recorded_session_means_nothing_after_a_restart():
    host = Host()
    recorded = [host.frame(GET_STATUS) for _ in range(3)]
    for frame in recorded:
        assert host.send(frame)
    opening = host.open_frame(OPEN_SESSION, role=CLINICIAN, who="test", nonce=b"host nonce     1")
    host.restart()
    before = unchanged(host)
    for frame in recorded:
        assert host.unwrapped(host.send(frame))[0] == REFUSAL
    host.send(opening)
    for frame in recorded:
        answer = host.send(frame)
        assert not answer or host.unwrapped(answer)[0] == REFUSAL
    assert unchanged(host) == before


# -- what a session holds -------------------------------------------------------------------------


def test_a_token_is_good_in_its_session_only():
    host = Host()
    token = host.prepare(STOP)
    host.talk = host.open(SERVICE)
    kind, _, _, body = host.opened(host.send(host.frame(CONFIRM, token=token)))
    assert (kind, name_of(body)) == (REFUSAL, "bad_token")
    host.pump.advance(SECOND_US)
    assert host.pump.mode == "simple_continuous"


def test_a_token_of_another_command_is_not_good_for_this():
    """What is carried out is what was prepared last, and what its token was given for."""
    host = Host()
    stop = host.prepare(STOP)
    bolus = host.prepare(START_BOLUS, volume_nl=1_000, duration_us=10_000_000)
    kind, _, _, body = host.opened(host.send(host.frame(CONFIRM, token=stop)))
    assert (kind, name_of(body)) == (REFUSAL, "bad_token")
    assert host.pump.mode == "simple_continuous"
    host.ask(CONFIRM, token=bolus)
    assert host.pump.mode == "single_bolus"


def test_a_session_ends_after_three_minutes_of_silence():
    host = Host()
    for quiet_us, alive in ((179_900_000, True), (179_900_000, True), (180_100_000, False)):
        host.pump.advance(quiet_us)
        answer = host.packet(host.send(host.frame(GET_STATUS)))
        assert (answer[0] == 5) == alive
    assert host.pump.app.sessions.active is None


def test_a_session_that_is_closed_is_over():
    host = Host()
    token = host.prepare(STOP)
    close = host.frame(CLOSE_SESSION)
    assert host.opened(host.send(close))[0] == REPLY
    assert host.unwrapped(host.send(close))[0] == REFUSAL
    assert host.unwrapped(host.send(host.frame(CONFIRM, token=token)))[0] == REFUSAL
    assert host.pump.mode == "simple_continuous"


def test_a_handshake_that_is_not_finished_disturbs_nobody():
    host = Host()
    token = host.prepare(STOP)
    mine = host.talk
    for _ in range(5):
        host.open(SERVICE, who="test")
    host.talk = mine
    host.ask(CONFIRM, token=token)
    assert host.pump.mode == "stopped"


def test_open_session_asked_again_is_the_same_session_while_it_waits():
    host = Host(0)
    ask = host.open_frame(OPEN_SESSION, role=PATIENT, who="x", nonce=host.nonce())
    first = host.send(ask)
    assert host.send(ask) == first
    host.pump.advance(10 * SECOND_US)
    assert host.send(ask) != first


def test_another_programmer_is_told_who_has_the_pump():
    host = Host(0)
    host.talk = host.open(CLINICIAN, who="ann@ward")
    host.ask(GET_STATUS)
    host.pump.advance(20 * SECOND_US)
    ask = {"role": PATIENT, "who": "bob@home", "nonce": host.nonce()}
    kind, _, _, body = host.unwrapped(host.send(host.open_frame(OPEN_SESSION, **ask)))
    told = decode(ERROR, body)
    assert (kind, name_of(body)) == (REFUSAL, "busy")
    assert (told["field"], told["value"]) == ("ann@ward", CLINICIAN)
    assert 9_900 <= told["limit"] <= 10_001
    host.ask(GET_STATUS)  # she goes on
    host.pump.advance(30_000_000)
    ann = host.talk
    host.talk = host.open(PATIENT, who="bob@home")
    host.ask(GET_STATUS)
    packet = ann.packet(GET_STATUS.number, b"")
    assert host.unwrapped(host.send(framed(packet)))[0] == REFUSAL


def test_nobody_takes_over_a_session_of_a_role_that_may_more():
    host = Host(0)
    host.talk = host.open(CLINICIAN, who="ann@ward")
    host.ask(GET_STATUS)
    clinician = host.talk
    ask = host.open_frame(OPEN_SESSION, role=PATIENT, who="ann@ward", nonce=host.nonce())
    kind, _, _, body = host.unwrapped(host.send(ask))
    assert (kind, name_of(body)) == (REFUSAL, "busy")
    host.ask(GET_STATUS)
    host.talk = host.open(SERVICE, who="ann@ward")
    host.ask(GET_STATUS)
    packet = clinician.packet(GET_STATUS.number, b"")
    assert host.unwrapped(host.send(framed(packet)))[0] == REFUSAL


def test_who_waited_does_not_end_a_session_that_came_to_life_again():
    host = Host(0)
    host.talk = host.open(CLINICIAN, who="ann@ward")
    host.ask(GET_STATUS)
    host.pump.advance(30_000_000)
    bob = host.open(PATIENT, who="bob@home")  # she was silent for long enough
    host.ask(GET_STATUS)  # and goes on
    kind, _, _, body = host.unwrapped(host.send(framed(bob.packet(GET_STATUS.number, b""))))
    assert (kind, name_of(body)) == (REFUSAL, "no_session")
    host.ask(GET_STATUS)


# -- failures -------------------------------------------------------------------------------------


def fail(host, who="test"):
    """Authenticate with a wrong key; what the pump said to open_session."""
    ask = {"role": CLINICIAN, "who": who, "nonce": host.nonce()}
    host.drawn -= 1
    found = host.unwrapped(host.send(host.open_frame(OPEN_SESSION, **ask)))
    if found[0] == REFUSAL:
        host.drawn += 1
        return decode(ERROR, found[3])
    host.pump.advance(10_000_000)
    talk = host.open(CLINICIAN, who, key=b"w" * 16)
    assert host.send(framed(talk.packet(GET_STATUS.number, b""))) == b""
    return None


def test_failed_authentications_back_off_and_are_logged():
    host = Host(0)
    waits = []
    for _ in range(6):
        assert fail(host) is None
        told = fail(host)
        assert REFUSALS[told["code"]][0] == "backed_off"
        waits.append(told["value"])
        assert host.ask_open(HELLO)["sealed"] == 1  # hello is not held up
        host.pump.advance(1_000 * (told["value"] + 1))
    assert waits == sorted(waits)
    assert waits[0] <= 101 and 300 < waits[2] <= 401 and 700 < waits[-1] <= 801
    host.talk = host.open()  # whoever has the key gets in
    host.ask(GET_STATUS)
    host.pump.app.log.flush()
    records = [event for event in host.pump.events() if event[1] == "auth_failed"]
    assert [event[3] for event in records] == [1]
    host.pump.advance(600 * SECOND_US)
    assert fail(host) is None
    host.pump.app.log.flush()
    records = [event for event in host.pump.events() if event[1] == "auth_failed"]
    assert [event[3] for event in records] == [1, 6]


def test_forging_in_an_open_session_is_logged_and_harms_nobody():
    host = Host()
    for _ in range(50):
        packet = bytearray(host.talk.packet(GET_STATUS.number, b""))
        host.talk.counter -= 1
        packet[-1] ^= 1
        assert host.send(framed(packet)) == b""
    host.ask(GET_STATUS)
    host.pump.advance(600 * SECOND_US)
    host.talk = host.open()
    packet = bytearray(host.talk.packet(GET_STATUS.number, b""))
    packet[-1] ^= 1
    host.send(framed(packet))
    host.pump.app.log.flush()
    records = [event for event in host.pump.events() if event[1] == "auth_failed"]
    assert [event[3] for event in records] == [1, 50]


def test_a_flood_of_failures_locks_nobody_out():
    host = Host()
    before = host.pump.steps
    from_us = host.pump.now_us
    mine = host.talk
    for _ in range(200):
        fail(host)
        host.pump.advance(50_000)
    host.talk = mine
    assert mine.counter == 1
    host.pump.advance(1_000_000)
    host.talk = host.open()
    host.ask(GET_STATUS)
    passed = (host.pump.now_us - from_us) // SECOND_US
    assert abs(host.pump.steps - before - passed) <= 1
    assert host.pump.fault == ""


def test_who_waits_takes_no_harm_from_failures():
    """Anybody can send a wrong tag with the number of a session that is being opened."""
    host = Host(0)
    host.talk = host.open(CLINICIAN)
    for octet in range(20):
        packet = bytearray(host.talk.packet(GET_STATUS.number, b""))
        host.talk.counter -= 1
        packet[-1] ^= 1 + octet
        assert host.send(framed(packet)) == b""
    host.ask(GET_STATUS)
    refused = host.unwrapped(
        host.send(host.open_frame(OPEN_SESSION, role=CLINICIAN, who="y", nonce=host.nonce()))
    )
    assert refused[0] == REFUSAL


def test_a_session_takes_no_harm_from_failures():
    host = Host()
    random = Random(5)
    for _ in range(50):
        packet = bytearray(host.talk.packet(GET_STATUS.number, b"", host.talk.counter + 1))
        packet[-1 - random.below(8)] ^= 1 + random.below(255)
        assert host.send(framed(bytes(packet))) == b""
    assert host.ask(GET_STATUS)["fault"] == 0


def test_every_change_is_announced_and_logged_with_its_role():
    host = Host()
    announced = []
    host.pump.app.commands.on_change = lambda role, message: announced.append((role, message.name))
    token = host.prepare(STOP)
    assert announced == []
    done = host.ask(CONFIRM, token=token)
    host.ask(GET_STATUS)
    host.ask(CONFIRM, token=token)  # asked again: not done again, not announced again
    assert announced == [(CLINICIAN, "stop_delivery")]
    from struct import unpack

    from pump_wire.messages import EVENT_FORMAT

    row = unpack(EVENT_FORMAT, host.pump.app.log.read(done["event"], 1)[:-4])
    assert row[2] >> 1 & 7 == CLINICIAN
    assert row[3] == token[0] | token[1] << 8
