"""Commands in a whole pump: prepared, echoed, confirmed once; what is wrong changes nothing."""

from random_numbers import Random
from virtual_pump import ALL_ROLES, HOUR_US, SECOND_US, Pump, filled, refused, running, state

from pump.commands import TOKEN_VALID_US, refusal_values
from pump.prescription import Refusal
from pump_wire.codec import MAX_BODY, encode
from pump_wire.messages import (
    BY_NUMBER,
    CANCEL_BOLUS,
    CONFIRM,
    ERROR,
    GET_ACCOUNT,
    GET_EVENTS,
    GET_PRESCRIPTION,
    GET_STATUS,
    HELLO,
    PREPARE,
    RECORD_REFILL,
    REFUSAL,
    REQUEST_BOLUS,
    RESUME,
    SET_ALARM_INTERVALS,
    SET_CLOCK,
    SET_PRESCRIPTION,
    START_BOLUS,
    STOP,
    TABLE,
)

TIMEOUT_S = 60
REQUIREMENTS = {
    "test_every_refused_patient_bolus_is_told_with_its_reason": ["THE-2"],
    "test_a_token_is_good_once": ["SEC-5"],
    "test_a_token_is_good_for_thirty_seconds": ["SEC-5"],
    "test_a_token_with_any_bit_changed_is_refused": ["SEC-5"],
    "test_a_new_prepare_voids_the_one_before": ["SEC-5"],
    "test_what_must_be_prepared_is_refused_without": ["SEC-5"],
}

RX = filled(
    SET_PRESCRIPTION.request,
    drug="saline",
    concentration_ng_ml=500_000,
    mode=2,
    rate_nl_day=1_000_000,
    capacity_nl=20_000_000,
    low_mark_nl=2_000_000,
)
GOOD = {
    SET_PRESCRIPTION.number: RX,
    START_BOLUS.number: {"volume_nl": 1_000, "duration_us": 10_000_000, "agreed": 0},
    RECORD_REFILL.number: filled(
        RECORD_REFILL.request, measured_nl=0, fill_nl=10_000_000, reason="early"
    ),
    SET_CLOCK.number: {"wall_s": 1_800_000_000, "utc_offset_min": 60},
    SET_ALARM_INTERVALS.number: {"critical_s": 300, "other_s": 1_800},
}


def octets(fields, values):
    out = bytearray(MAX_BODY)
    return bytes(out[: encode(fields, values, out)])


def wanted(message):
    """A request that the pump can carry out, or that it can at least read."""
    return octets(message.request, filled(message.request, **GOOD.get(message.number, {})))


def answer(pump, number, body):
    return pump.app.commands.answer(ALL_ROLES, number, body, bytearray(MAX_BODY), 0)


# -- reads ----------------------------------------------------------------------------------------


def test_hello_says_who_is_there():
    pump = running()
    hello = pump.ask(HELLO)
    assert (hello["board"], hello["serial"], hello["boots"]) == ("virtual", b"testpump", 1)
    assert (hello["sealed"], hello["reset_cause"], hello["wire_version"]) == (0, 1, 2)
    pump.restart()
    assert pump.ask(HELLO)["boots"] == 2


def test_reads_change_nothing():
    pump = running()
    pump.advance(12_345_678)
    before = state(pump)
    for _ in range(3):
        for message in (HELLO, GET_STATUS, GET_ACCOUNT, GET_PRESCRIPTION):
            pump.ask(message)
        pump.ask(GET_EVENTS, first=0)
    assert state(pump) == before


def test_events_come_six_to_a_frame_from_any_number():
    pump = running()
    for i in range(20):
        pump.app.log.append("clock_set", i)
    reply = pump.ask(GET_EVENTS, first=0)
    assert (reply["oldest"], reply["next"]) == (0, pump.app.log.next)
    assert len(reply["records"]) == 6 * 32
    reply = pump.ask(GET_EVENTS, first=pump.app.log.next - 2)
    assert len(reply["records"]) == 2 * 32
    assert pump.ask(GET_EVENTS, first=4_000_000_000)["records"] == b""


def test_events_that_cannot_be_read_do_not_stop_delivery():
    import os

    pump = running()
    os.remove("/flash/log/s0/now")
    assert pump.ask(GET_EVENTS, first=0)["records"] == b"\xff" * (pump.app.log.next * 32)
    assert pump.fault == ""


# -- prepare and confirm --------------------------------------------------------------------------


def test_what_must_be_prepared_is_refused_without():
    pump = running()
    before = state(pump)
    for message in TABLE:
        if message.prepared:
            body = wanted(message)
            refused("not_prepared", answer, pump, message.number, body)
    assert state(pump) == before
    assert len([message for message in TABLE if message.prepared]) == 12


def test_prepare_changes_nothing_and_echoes_what_would_be_done():
    pump = running()
    before = state(pump)
    for number, values in GOOD.items():
        _, echo = pump.prepare(BY_NUMBER[number], **values)
        for name, value in values.items():
            assert name not in echo or name == "wall_s" or echo[name] == value
    pump.prepare(STOP)
    assert state(pump) == before
    pump.advance(40 * SECOND_US)
    assert pump.mode == "simple_continuous"
    assert pump.steps == 40


def test_bolus_echo_is_what_is_then_given():
    pump = running(1_000_000)
    _, echo = pump.prepare(START_BOLUS, volume_nl=1_234, duration_us=77_777_777)
    assert echo["rate_nl_day"] == (1_234 * 86_400_000_000 + 38_888_888) // 77_777_777
    assert abs(echo["duration_us"] - 77_777_777) < 77_777_777 // echo["rate_nl_day"] + 2
    pump.bolus(1_234, 77_777_777)
    assert pump.ask(GET_STATUS)["rate_nl_day"] == echo["rate_nl_day"]
    pump.advance(echo["duration_us"])
    assert pump.mode == "simple_continuous"


def test_a_token_is_good_once():
    pump = running()
    token, _ = pump.prepare(START_BOLUS, volume_nl=1_000, duration_us=10_000_000)
    first = pump.ask(CONFIRM, token=token)
    after = state(pump)
    for _ in range(3):  # asked again, as over a bad link: same answer, not done again
        assert pump.ask(CONFIRM, token=token) == first
    assert state(pump) == after
    assert pump.ask(GET_STATUS)["last_token"] == token
    pump.advance(10 * SECOND_US)
    assert pump.ask(CONFIRM, token=token) == first
    pump.advance(10 * SECOND_US)
    assert pump.steps == 10 + 10
    assert pump.event_names().count("bolus_started") == 1


def test_a_command_whose_record_cannot_be_written_counts_as_carried_out():
    pump = running()
    token, _ = pump.prepare(SET_CLOCK, wall_s=1_800_000_000)

    def failing():
        raise OSError(28)

    flush = pump.app.log.flush
    pump.app.log.flush = failing
    assert refused("internal", pump.ask, CONFIRM, token=token)
    pump.app.log.flush = flush
    status = pump.ask(GET_STATUS)
    assert (status["wall_s"], status["last_token"]) == (1_800_000_000, token)
    flush()
    assert pump.events(pump.ask(CONFIRM, token=token)["event"])[0][1] == "clock_set"


def test_what_a_patient_may_ask_without_end_does_not_push_the_log_out():
    pump = running()
    first = pump.app.log.coming

    def ask(times):
        for _ in range(times):
            refused("not_permitted", pump.prepare, REQUEST_BOLUS)

    ask(100)
    assert pump.event_names(first) == ["patient_refused"] * 24
    pump.advance(630 * SECOND_US)
    counted = ["patient_refused", "refused_again"]
    assert pump.event_names(first) == ["patient_refused"] * 24 + counted
    ask(2)  # two records were written: nothing for 20 minutes
    assert len(pump.event_names(first)) == 26
    pump.advance(1_200 * SECOND_US)
    assert pump.event_names(first) == ["patient_refused"] * 24 + 2 * counted
    assert told_refusals(pump, first) == {REFUSAL["not_permitted"]: 102}
    pump.advance(5 * HOUR_US)
    ask(100)
    assert pump.event_names(first).count("patient_refused") == 26 + 24


def told_refusals(pump, first):
    """{reason: patient boluses that the log tells were refused for it}"""
    found = {}
    reason = None
    for _, name, _, value in pump.events(first):
        if name == "patient_refused":
            reason = value
        if name in ("patient_refused", "refused_again"):
            found[reason] = found.get(reason, 0) + (1 if name == "patient_refused" else value)
    return found


def test_every_refused_patient_bolus_is_told_with_its_reason():
    pump = running()
    first = pump.app.log.coming
    permitted = dict(RX, patient_nl=5_000, patient_s=300, lockout_s=3_600, patient_max=6)
    pump.command(SET_PRESCRIPTION, **permitted)
    pump.command(REQUEST_BOLUS)
    pump.advance(330 * SECOND_US)
    asked = {}
    for values, reason, times in (
        (permitted, "lockout", 60),
        (RX, "not_permitted", 41),
        (permitted, "lockout", 1),
    ):
        pump.command(SET_PRESCRIPTION, **values)
        for _ in range(times):
            refused(reason, pump.prepare, REQUEST_BOLUS)
        asked[REFUSAL[reason]] = asked.get(REFUSAL[reason], 0) + times
        pump.advance(60 * SECOND_US)
    assert pump.ask(GET_STATUS)["mode"] == 2  # never in the way of delivery
    pump.advance(HOUR_US)
    assert told_refusals(pump, first) == asked


def test_a_confirmation_names_the_record_of_its_command():
    pump = running()
    pump.advance(2_500_000)
    for message, values, name in (
        (SET_PRESCRIPTION, RX, "prescription_committed"),
        (START_BOLUS, GOOD[START_BOLUS.number], "bolus_started"),
        (RECORD_REFILL, GOOD[RECORD_REFILL.number], "refill_recorded"),
        (CANCEL_BOLUS, {}, "bolus_ended_early"),
        (STOP, {}, "delivery_stopped"),
        (RESUME, {}, "delivery_resumed"),
        (SET_CLOCK, GOOD[SET_CLOCK.number], "clock_set"),
    ):
        done = pump.command(message, **values)
        number, recorded, uptime_us, _ = pump.events(done["event"])[0]
        assert (number, recorded) == (done["event"], name)
        assert uptime_us == done["uptime_us"] == pump.now_us
        pump.advance(1_234_567)


def test_a_token_of_an_older_command_is_not_good_again():
    pump = running()
    token, _ = pump.prepare(START_BOLUS, volume_nl=1_000, duration_us=10_000_000)
    pump.ask(CONFIRM, token=token)
    pump.command(STOP)
    refused("bad_token", pump.ask, CONFIRM, token=token)
    pump.restart()
    pump.advance(1_000)
    refused("bad_token", pump.ask, CONFIRM, token=token)


def test_a_token_is_good_for_thirty_seconds():
    assert TOKEN_VALID_US == 30_000_000
    for late_us, good in ((0, True), (29_999_999, True), (30_000_000, True), (30_000_001, False)):
        pump = running()
        token, _ = pump.prepare(STOP)
        pump.advance(late_us)
        if good:
            pump.ask(CONFIRM, token=token)
            assert pump.mode == "stopped"
        else:
            refusal = refused("token_expired", pump.ask, CONFIRM, token=token)
            assert refusal.limit == 30_000
            refused("bad_token", pump.ask, CONFIRM, token=token)
            assert pump.mode == "simple_continuous"


def test_a_token_with_any_bit_changed_is_refused():
    pump = running()
    token, _ = pump.prepare(STOP)
    before = state(pump)
    for bit in range(64):
        wrong = bytearray(token)
        wrong[bit >> 3] ^= 1 << (bit & 7)
        refused("bad_token", pump.ask, CONFIRM, token=bytes(wrong))
    refused("bad_token", pump.ask, CONFIRM, token=bytes(8))
    assert state(pump) == before
    pump.ask(CONFIRM, token=token)
    assert pump.mode == "stopped"


def test_a_new_prepare_voids_the_one_before():
    pump = running()
    first, _ = pump.prepare(START_BOLUS, volume_nl=1_000, duration_us=10_000_000)
    second, _ = pump.prepare(START_BOLUS, volume_nl=2_000, duration_us=10_000_000)
    assert first != second
    refused("bad_token", pump.ask, CONFIRM, token=first)
    pump.ask(CONFIRM, token=second)
    assert pump.ask(GET_STATUS)["bolus_pl"] == 2_000_000


def test_a_new_session_voids_what_was_prepared():
    pump = running()
    token, _ = pump.prepare(STOP)
    pump.app.commands.forget_prepared()
    refused("bad_token", pump.ask, CONFIRM, token=token)
    assert pump.mode == "simple_continuous"


def test_what_is_no_longer_possible_is_refused_at_the_confirmation():
    pump = running()
    token, _ = pump.prepare(SET_PRESCRIPTION, **RX)
    pump.app.faults.latch(1, "made by the test")
    refused("fault_latched", pump.ask, CONFIRM, token=token)
    pump = running()
    pump.refill(1_410_000)
    pump.advance(SECOND_US)
    token, _ = pump.prepare(START_BOLUS, volume_nl=9_900, duration_us=60_000_000)
    pump.advance(SECOND_US)  # another step has left since
    refused("not_enough_drug", pump.ask, CONFIRM, token=token)
    assert pump.mode == "simple_continuous"


# -- what is wrong --------------------------------------------------------------------------------


def test_unknown_messages_are_refused():
    pump = running()
    before = state(pump)
    known = {message.number for message in TABLE}
    for number in range(256):
        if number not in known:
            refused("unknown_message", answer, pump, number, b"")
        command = BY_NUMBER.get(number)
        if 1 <= number <= 127 and (command is None or not command.prepared):
            refused("unknown_message", pump.ask, PREPARE, command=number, body=b"")
    assert state(pump) == before


def test_bodies_that_do_not_decode_are_refused():
    pump = running()
    before = state(pump)
    for message in TABLE:
        if message.prepared:
            body = wanted(message)
            for wrong in [body[:size] for size in range(len(body))] + [body + b"\x00"]:
                refused("bad_body", pump.ask, PREPARE, command=message.number, body=wrong)
    for number in (GET_STATUS.number, GET_ACCOUNT.number, HELLO.number):
        refused("bad_body", answer, pump, number, b"\x00")
    refused("bad_body", answer, pump, CONFIRM.number, b"1234567")
    refused("bad_body", answer, pump, PREPARE.number, b"")
    assert state(pump) == before
    assert pump.fault == ""


def test_random_bodies_are_refused_and_no_fault():
    pump = running()
    before = state(pump)
    random = Random(77)
    # a patient's request is logged also when it is refused
    numbers = [message.number for message in TABLE if message is not REQUEST_BOLUS]
    prepared = 0
    for _ in range(3_000):
        number = numbers[random.below(len(numbers))]
        body = bytes(random.below(256) for _ in range(random.below(60)))
        if number == PREPARE.number and body[:1] == bytes([REQUEST_BOLUS.number]):
            continue
        if BY_NUMBER[number].prepared:
            good = bytearray(wanted(BY_NUMBER[number]))
            if good and random.below(4):
                good[random.below(len(good))] = random.below(256)
                body = bytes(good)
            body = bytes([number]) + body
            number = PREPARE.number
        try:
            answer(pump, number, body)
            prepared += number == PREPARE.number
        except Refusal as refusal:
            octets(ERROR, refusal_values(refusal))  # it can be told
        assert pump.fault == "", (number, body)
    assert prepared > 50
    assert state(pump) == before


def test_numbers_too_big_for_the_answer_are_refused_and_no_fault():
    pump = running()
    body = bytearray(octets(SET_PRESCRIPTION.request, RX))
    for at in (7, 16, 24, 32):  # concentration, rate, capacity, low mark
        wrong = body[:at] + b"\xff" * 8 + body[at + 8 :]
        refusal = refused(
            "above_limit", pump.ask, PREPARE, command=SET_PRESCRIPTION.number, body=bytes(wrong)
        )
        assert refusal.value == 2**64 - 1
        told = refusal_values(refusal)
        assert told["value"] == 1 << 62
        octets(ERROR, told)
    assert pump.fault == ""


def test_prescription_limits():
    pump = running()
    before = state(pump)
    for field, value, name, limit in (
        ("rate_nl_day", 0, "below_limit", 48_000),
        ("rate_nl_day", 47_000, "below_limit", 48_000),
        ("rate_nl_day", 47_999, "below_limit", 48_000),
        ("rate_nl_day", 48_001, "not_multiple", 1_000),
        ("rate_nl_day", 23_999_500, "not_multiple", 1_000),
        ("low_mark_nl", 20_000_000, "above_limit", 10_000_000),
        ("drug", "", "bad_text", 0),
        ("drug", "  ", "bad_text", 0),
    ):
        values = dict(RX)
        values[field] = value
        body = bytearray(MAX_BODY)
        if field == "low_mark_nl":
            values["low_mark_nl"] = 10_000_000
            values["capacity_nl"] = 10_000_000
            value = limit
        size = encode(SET_PRESCRIPTION.request, values, body)
        refusal = refused(
            name, pump.ask, PREPARE, command=SET_PRESCRIPTION.number, body=bytes(body[:size])
        )
        assert (refusal.field, refusal.limit) == (field, limit)
        assert field == "drug" or refusal.value == value
    for mode in (0, 1):
        values = dict(RX)
        values["mode"] = mode
        refusal = refused("above_limit", pump.prepare, SET_PRESCRIPTION, **values)
        assert (refusal.field, refusal.value, refusal.limit) == ("rate_nl_day", 1_000_000, 0)
    # Outside what the table can carry: 24 mL/day is the field's own limit.
    body = octets(SET_PRESCRIPTION.request, RX)
    for value in (24_000_001, 24_001_000):
        wrong = body[:16] + value.to_bytes(8, "little") + body[24:]
        refusal = refused(
            "above_limit", pump.ask, PREPARE, command=SET_PRESCRIPTION.number, body=wrong
        )
        assert (refusal.field, refusal.value, refusal.limit) == ("rate_nl_day", value, 24_000_000)
    assert state(pump) == before
    for rate in (48_000, 49_000, 24_000_000):
        values = dict(RX)
        values["rate_nl_day"] = rate
        pump.command(SET_PRESCRIPTION, **values)
        assert pump.ask(GET_STATUS)["rate_nl_day"] == rate
        assert pump.ask(GET_PRESCRIPTION)["rate_nl_day"] == rate


def test_clock_does_not_move_delivery():
    pump = running()
    for wall_s in (1_800_000_000, 1_577_836_800, 4_294_967_295):
        pump.command(SET_CLOCK, wall_s=wall_s)
        assert pump.ask(GET_STATUS)["wall_s"] == wall_s
        pump.advance(10 * SECOND_US)
    assert pump.steps == 30
    assert pump.fault == ""
    assert pump.event_names().count("clock_set") == 3


# -- faults ---------------------------------------------------------------------------------------


def test_a_handler_that_fails_latches_a_fault_and_is_told():
    pump = running()
    pump.advance(2_500_000)

    def broken(values):
        raise ZeroDivisionError("made by the test")

    pump.app.reading.get_account = broken
    refused("internal", pump.ask, GET_ACCOUNT)
    assert pump.fault == "task_failed"
    assert "get_account" in pump.app.faults.text
    pump.check_no_more_steps()
    assert pump.ask(GET_STATUS)["fault"] == 1


def test_a_reply_that_does_not_fit_the_table_latches_a_fault_and_is_told():
    pump = running()
    pump.app.ledger.refills = -1
    refused("internal", pump.ask, GET_ACCOUNT)
    assert pump.fault == "task_failed"
    pump.check_no_more_steps()


def test_a_fault_can_always_be_read():
    for text in ("x" * 300, "\xe9" * 64, "", "\u20ac" * 30):
        pump = running()
        pump.app.faults.latch(1, text)
        status = pump.ask(GET_STATUS)
        assert status["fault"] == 1
        assert len(status["fault_text"].encode()) <= 64


def test_the_first_fault_is_kept():
    pump = Pump()
    faults = pump.app.faults
    faults.latch(2, "first")
    faults.latch(5, "second")
    faults.latch_error(ValueError(), "third")
    assert (pump.fault, faults.text) == ("step_late", "first")
    assert pump.event_names().count("fault_latched") == 1
