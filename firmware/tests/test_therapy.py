"""Flex, periodic, patient's, priming and bridge bolus in a whole pump; exact volumes."""

from random_numbers import Random
from therapy_pump import (
    HOUR_US,
    MONDAY_S,
    PERIODIC,
    drug,
    fields,
    pattern,
    prepare,
    prescribe,
    stage,
    therapy,
    treated,
)
from virtual_pump import DAY_US, SECOND_US, refused

from pump_wire.messages import (
    CANCEL_BOLUS,
    CONFIRM,
    GET_ACCOUNT,
    GET_PART,
    GET_PRESCRIPTION,
    GET_STATUS,
    RECORD_REFILL,
    REQUEST_BOLUS,
    RESUME,
    RESUME_BRIDGE,
    SET_CLOCK,
    SET_PRESCRIPTION,
    START_PRIME,
    STOP,
    WRITE_PART,
)

TIMEOUT_S = 240
REQUIREMENTS = {
    "test_the_patients_button_does_not_bounce": ["THE-2"],
    "test_flex_runs_its_steps_at_local_time_and_exactly": ["THE-1"],
    "test_flex_with_the_clock_set_by_an_hour_repeats_and_skips_nothing": ["DEL-8"],
    "test_periodic_boluses_come_at_their_instants_whatever_the_clock": ["DEL-8"],
    "test_a_wall_clock_that_stands_changes_nothing": ["DEL-8"],
    "test_patient_bolus_keeps_lockout_and_maximum_also_over_a_restart": ["THE-2"],
    "test_bridge_vectors": ["THE-4"],
    "test_bridge_goes_on_after_resets_and_changes_over": ["THE-4"],
    "test_bridge_is_not_resumed_where_a_limit_has_no_room_for_it": ["DEL-5", "THE-4"],
    "test_a_concentration_is_not_changed_without_a_bridge_or_a_reason": ["THE-4"],
    "test_a_dose_that_changes_much_must_be_typed": ["THE-5"],
    "test_more_for_the_patient_to_ask_for_must_be_typed_too": ["THE-5"],
    "test_soft_limits_must_be_agreed_to": ["THE-6"],
    "test_a_bolus_across_a_limit_is_cut": ["DEL-5"],
    "test_a_bolus_leaves_room_for_a_periodic_bolus_that_it_makes_late": ["DEL-5"],
    "test_periodic_boluses_that_fall_into_a_bridge_bolus_are_left_out": ["THE-4"],
}
DAY = ((0, 480_000), (360, 1_920_000), (420, 4_800_000), (720, 960_000), (1_320, 240_000))
WEEKEND = ((0, 960_000), (720, 1_920_000))
PARTS = {0: pattern(*DAY), 1: pattern(*WEEKEND)}
WEEK = b"\0\0\0\0\0\1\1"


def day_steps(steps):
    """Steps of 100 nL that a day of flex asks for, exactly."""
    units = 0
    end = 1440
    for minute, rate in reversed(steps):
        units += rate * (end - minute)
        end = minute
    return units / 1440 / 100


def flex():
    return treated(PARTS, mode=3, week=WEEK)


# -- parts and checks -----------------------------------------------------------------------------


def test_what_is_staged_is_bound_to_its_token():
    pump = treated()
    values = fields(mode=3, week=WEEK)
    values["parts_crc"] = stage(pump, PARTS)
    values["total_nl"] = round(100 * day_steps(DAY))
    token, echo = pump.prepare(SET_PRESCRIPTION, **values)
    assert echo["new_total_nl"] == max(
        round(100 * day_steps(DAY)), round(100 * day_steps(WEEKEND))
    )
    pump.ask(WRITE_PART, part=0, octets=pattern((0, 24_000_000)))  # too late
    pump.ask(CONFIRM, token=token)
    assert pump.ask(GET_PART, part=0)["octets"] == PARTS[0]
    refusal = refused("parts_differ", pump.prepare, SET_PRESCRIPTION, **values)
    assert refusal.field == "parts_crc"
    pump.restart()
    assert pump.ask(GET_PART, part=1)["octets"] == PARTS[1]
    assert pump.ask(GET_PART, part=2)["octets"] == b""
    assert pump.ask(GET_PRESCRIPTION)["week"] == WEEK


def test_patterns_and_drugs_that_are_wrong_are_refused():
    pump = treated()
    for name, octets in (
        ("bad_body", b""),
        ("bad_body", b"\0\0\6"),
        ("above_limit", pattern((1, 48_000))),
        ("below_limit", pattern((0, 48_000), (0, 96_000))),
        ("above_limit", pattern((0, 48_000), (1_440, 96_000))),
        ("below_limit", pattern((0, 7_000))),
        ("above_limit", pattern((0, 24_001_000))),
    ):
        refused(name, prepare, pump, {0: octets} if octets else None, mode=3)
    refused("above_limit", pump.ask, WRITE_PART, part=0, octets=bytes(56))
    refused("above_limit", pump.ask, WRITE_PART, part=15, octets=b"x")
    refused("bad_body", prepare, pump, {7: b"12345678"})
    refused("bad_text", prepare, pump, {7: drug("saline", 5)})
    refused("below_limit", prepare, pump, {7: drug("other", 0)})
    prepare(pump, {0: pattern(*[(i, 48_000 + 1000 * i) for i in range(13)])}, mode=3)
    prescribe(pump, {7: drug("a", 5), 8: drug("b", 10**12)}, bridge=2, why="bench")
    assert pump.fault == ""


def test_whose_word_the_stability_is_stays_with_the_prescription():
    pump = treated()
    refused("bad_text", prepare, pump, {14: b"\xff\xfe"})
    why = "40 d: the pharmacy's own assay, lot 7 \u00b5".encode()
    prescribe(pump, {14: why}, stable_until_s=MONDAY_S + 40 * 86_400)
    pump.restart()
    pump.advance(1_000)
    assert pump.ask(GET_PART, part=14)["octets"] == why
    stage(pump, {10: drug("saline", 5), 14: why})  # a fill's part beside it
    assert prepare(pump, {14: why})[1]["asks"] == 0
    prescribe(pump)
    assert pump.ask(GET_PART, part=14)["octets"] == b""


def test_a_dose_that_changes_much_must_be_typed():
    pump = treated()
    _, echo = prepare(pump, rate_nl_day=1_200_000)
    assert (echo["asks"], echo["change_ppm"]) == (0, 200_000)
    _, echo = prepare(pump, rate_nl_day=1_201_000)
    assert (echo["asks"], echo["old_total_nl"], echo["new_total_nl"]) == (1, 1_000_000, 1_201_000)
    _, echo = prepare(pump, rate_nl_day=24_000_000)  # an hour's dose taken for a day's
    assert echo["change_ppm"] == 23_000_000
    token, _ = prepare(pump, rate_nl_day=24_000_000)
    refused("not_agreed", pump.ask, CONFIRM, token=token)
    assert pump.ask(GET_STATUS)["rate_nl_day"] == 1_000_000
    refused("total_differs", prepare, pump, rate_nl_day=24_000_000, total_nl=1_000_000)
    _, echo = prepare(pump, rate_nl_day=24_000_000, total_nl=24_000_000)
    assert echo["asks"] == 0


def test_more_for_the_patient_to_ask_for_must_be_typed_too():
    pump = treated()
    patient = {"patient_nl": 40_000, "patient_s": 600, "lockout_s": 7_200}
    _, echo = prepare(pump, patient_max=5, **patient)
    assert (echo["asks"], echo["change_ppm"]) == (0, 200_000)
    _, echo = prepare(pump, patient_max=6, **patient)
    assert (echo["asks"], echo["change_ppm"], echo["with_patient_nl"]) == (1, 240_000, 1_240_000)
    assert (echo["old_total_nl"], echo["new_total_nl"]) == (1_000_000, 1_000_000)
    token, _ = prepare(pump, patient_max=6, **patient)
    refused("not_agreed", pump.ask, CONFIRM, token=token)
    prescribe(pump, patient_max=6, **patient)
    assert prepare(pump, patient_max=6, **patient)[1]["asks"] == 0
    assert prepare(pump)[1]["change_ppm"] == 193_549  # less is a change, too


def test_soft_limits_must_be_agreed_to():
    pump = treated(soft_day_nl=1_100_000, soft_bolus_nl=20_000)
    patient = {"patient_nl": 30_000, "patient_s": 600, "lockout_s": 7_200, "patient_max": 4}
    soft = {"soft_day_nl": 1_100_000, "soft_bolus_nl": 20_000}
    _, echo = prepare(pump, **patient, **soft)
    assert (echo["asks"], echo["with_patient_nl"]) == (6, 1_120_000)
    _, echo = prepare(pump, agreed=6, **patient, **soft)
    assert echo["asks"] == 0
    assert prepare(pump, soft_day_nl=1_100_001, soft_bolus_nl=20_000)[1]["asks"] == 8
    assert prepare(pump, soft_day_nl=1_100_000)[1]["asks"] == 8
    assert prepare(pump, soft_day_nl=1_099_999, soft_bolus_nl=20_000)[1]["asks"] == 0


# -- flex and periodic bolus ----------------------------------------------------------------------


def test_flex_runs_its_steps_at_local_time_and_exactly():
    pump = flex()
    before = pump.steps
    at_us = 0
    for i, (minute, rate) in enumerate(DAY):
        pump.advance(minute * 60 * SECOND_US - at_us + SECOND_US)
        at_us = minute * 60 * SECOND_US + SECOND_US
        status = pump.ask(GET_STATUS)
        assert (status["rate_nl_day"], pump.mode) == (rate, "flex")
        assert therapy(pump)["step"] == i
    pump.advance(DAY_US - at_us)
    assert pump.steps - before == int(day_steps(DAY))
    pump.advance(4 * DAY_US)
    assert pump.steps - before == int(5 * day_steps(DAY))
    pump.advance(DAY_US)
    assert pump.steps - before == int(5 * day_steps(DAY) + day_steps(WEEKEND))
    assert pump.fault == ""


def test_flex_follows_the_time_zone_and_a_long_way_at_once():
    pump = flex()
    pump.command(SET_CLOCK, wall_s=MONDAY_S, utc_offset_min=720)
    assert pump.ask(GET_STATUS)["rate_nl_day"] == 960_000
    assert "flex_moved" in pump.event_names()
    pump.command(SET_CLOCK, wall_s=MONDAY_S + 365 * 86_400, utc_offset_min=0)
    assert pump.ask(GET_STATUS)["rate_nl_day"] == 480_000


def test_flex_with_the_clock_set_by_an_hour_repeats_and_skips_nothing():
    for shift_s in (3_600, -3_600):
        for hour in (6, 11, 23):
            pump = flex()
            pump.advance(hour * HOUR_US + 30 * 60 * SECOND_US)
            now_s = MONDAY_S + hour * 3_600 + 1_800
            before = pump.ask(GET_STATUS)["rate_nl_day"]
            pump.command(SET_CLOCK, wall_s=now_s + shift_s, utc_offset_min=0)
            assert pump.ask(GET_STATUS)["rate_nl_day"] == before
            rates = []
            for _ in range(30 * 6):
                rate = pump.ask(GET_STATUS)["rate_nl_day"]
                if not rates or rates[-1] != rate:
                    rates.append(rate)
                pump.advance(HOUR_US // 6)
            wanted = [step[1] for step in DAY] * 3
            start = wanted.index(before)
            assert rates == wanted[start : start + len(rates)], (shift_s, hour, rates)
            assert len(rates) >= 6
            # and then it is in time again
            late_us = (now_s + shift_s - MONDAY_S) % 86_400 * SECOND_US + 30 * HOUR_US
            minute = late_us % DAY_US // (60 * SECOND_US)
            due = [step[1] for step in DAY if step[0] <= minute][-1]
            assert pump.ask(GET_STATUS)["rate_nl_day"] == due


def test_flex_goes_on_from_where_it_stood_when_the_clock_is_lost():
    pump = flex()
    pump.advance(7 * HOUR_US + 60 * SECOND_US)
    pump.restart()
    pump.advance(SECOND_US)
    assert pump.ask(GET_STATUS)["wall_s"] == 0
    assert therapy(pump)["clock"] == 2
    assert pump.ask(GET_STATUS)["rate_nl_day"] == 4_800_000
    pump.advance(6 * HOUR_US)
    assert pump.ask(GET_STATUS)["rate_nl_day"] == 960_000


def test_a_wall_clock_that_stands_changes_nothing():
    for make in (flex, periodic, treated):
        moved = []
        for stands in (False, True):
            pump = make()
            begun = pump.steps
            for hour in range(60):
                if stands and hour == 5:
                    wall = pump.app.wall
                    now_s, best_s = wall.now_s(), wall.best_s()
                    wall.now_s = lambda at=now_s: at
                    wall.best_s = lambda at=best_s: at
                    pump.app.ledger.wall_s = wall.best_s
                pump.advance(HOUR_US)
                moved.append((hour, pump.steps - begun))
        half = len(moved) // 2
        assert moved[:half] == moved[half:], make
        assert moved[-1][1] > 100
        assert pump.fault == ""


def test_flex_needs_a_clock():
    pump = treated()
    pump.restart()
    pump.advance(1_000)
    refused("clock_not_set", prepare, pump, PARTS, mode=3, week=WEEK)


def periodic(**values):
    wanted = dict(PERIODIC)
    wanted.update(values)
    return treated(mode=4, rate_nl_day=240_000, **wanted)


def test_periodic_boluses_come_at_their_instants_whatever_the_clock():
    pump = periodic()
    begun = pump.now_us
    steps = pump.steps
    for i in range(1, 7):
        pump.advance(begun + i * 4 * HOUR_US - pump.now_us - SECOND_US)
        assert pump.ask(GET_STATUS)["rate_nl_day"] == 240_000
        pump.advance(2 * SECOND_US)
        assert pump.ask(GET_STATUS)["rate_nl_day"] == 2_400_000
        shift_s = (3_600, -3_600, 86_400 * 365, -86_400, 1_800, 0)[i - 1]
        pump.command(
            SET_CLOCK, wall_s=MONDAY_S + pump.now_us // SECOND_US + shift_s, utc_offset_min=60
        )
    pump.advance(begun + DAY_US + 30 * 60 * SECOND_US - pump.now_us)
    # six boluses of 50 uL, and 0.24 mL/day for the other 21.5 of 24.5 hours
    assert pump.steps - steps == 6 * 500 + 2_150
    assert pump.mode == "periodic_bolus"


def test_a_periodic_bolus_within_a_single_bolus_comes_right_after_it():
    pump = periodic()
    steps = pump.steps
    pump.advance(4 * HOUR_US - 600 * SECOND_US)
    pump.bolus(60_000, 3_600 * SECOND_US)
    pump.advance(3_600 * SECOND_US)
    assert pump.mode == "periodic_bolus"
    assert pump.ask(GET_STATUS)["rate_nl_day"] == 2_400_000
    pump.advance(1_800 * SECOND_US)
    assert pump.ask(GET_STATUS)["rate_nl_day"] == 240_000
    basal = 240_000 * (4 * 3_600 - 600) // 86_400 // 100
    assert pump.steps - steps - 600 - 500 in (basal, basal + 1)


def test_of_several_periodic_boluses_within_another_bolus_the_last_comes():
    pump = treated(mode=4, rate_nl_day=240_000, bolus_nl=10_000, bolus_s=600, interval_s=3_600)
    pump.advance(HOUR_US - 600 * SECOND_US)
    pump.bolus(80_000, 4 * HOUR_US)  # those of 60, 120, 180 and 240 min fall due meanwhile
    pump.advance(4 * HOUR_US)
    before = pump.steps
    pump.advance(599 * SECOND_US)
    assert pump.ask(GET_STATUS)["rate_nl_day"] == 1_440_000
    pump.advance(2 * SECOND_US)  # that of 300 min comes in its time
    assert pump.ask(GET_STATUS)["rate_nl_day"] == 1_440_000
    pump.advance(600 * SECOND_US)
    assert pump.ask(GET_STATUS)["rate_nl_day"] == 240_000
    assert pump.steps - before in (199, 200, 201)


def test_periodic_boluses_that_fall_into_a_bridge_bolus_are_left_out():
    """Those of 38 hours, one after the other at its end, would be days of drug in hours."""
    for cancel in (False, True):
        pump = treated(rate_nl_day=200_000)
        programme = dict(PERIODIC, mode=4, rate_nl_day=240_000, concentration_ng_ml=600_000)
        prescribe(pump, bridge=1, **programme)
        begun = pump.now_us
        assert pump.mode == "bridge_bolus"
        if cancel:
            pump.advance(13 * HOUR_US)
            pump.command(CANCEL_BOLUS)
            due_us = begun + 16 * HOUR_US
        else:
            pump.advance(37 * HOUR_US + HOUR_US)
            due_us = begun + 40 * HOUR_US
        assert pump.mode == "periodic_bolus"
        assert pump.ask(GET_STATUS)["rate_nl_day"] == 240_000
        pump.advance(due_us - pump.now_us - SECOND_US)
        assert pump.ask(GET_STATUS)["rate_nl_day"] == 240_000
        pump.advance(2 * SECOND_US)
        assert pump.ask(GET_STATUS)["rate_nl_day"] == 2_400_000
        pump.advance(1_800 * SECOND_US)
        assert pump.ask(GET_STATUS)["rate_nl_day"] == 240_000


def test_a_bolus_leaves_room_for_a_periodic_bolus_that_it_makes_late():
    """The late one and the next one come into one window, which else holds one of them."""
    for duration_s, fits in ((600, True), (6_000, True), (13_800, False)):
        pump = treated(
            mode=4,
            rate_nl_day=48_000,
            bolus_nl=20_000,
            bolus_s=1_800,
            interval_s=14_400,
            hour_nl=35_000,
        )
        pump.advance(14_340 * SECOND_US)  # a minute before one
        if fits:
            pump.bolus(20_000, duration_s * SECOND_US)
            assert "bolus_cut" in pump.event_names()
        else:
            refused("volume_limit", pump.bolus, 20_000, duration_s * SECOND_US)
        pump.advance(8 * HOUR_US)
        assert "limit_held" not in pump.event_names(), duration_s


def test_periodic_boluses_of_a_stopped_pump_are_left_out():
    pump = periodic()
    pump.advance(3 * HOUR_US)
    pump.command(STOP)
    pump.check_no_more_steps(6 * HOUR_US)
    pump.command(RESUME)
    assert pump.ask(GET_STATUS)["rate_nl_day"] == 240_000
    pump.advance(3 * HOUR_US + SECOND_US)
    assert pump.ask(GET_STATUS)["rate_nl_day"] == 2_400_000


# -- the patient ----------------------------------------------------------------------------------

PATIENT = {"patient_nl": 10_000, "patient_s": 300, "lockout_s": 7_200, "patient_max": 3}


def patients(pump):
    return [event for event in pump.each_event() if event[1].startswith("patient_")]


def test_patient_bolus_is_given_and_logged():
    pump = treated(**PATIENT)
    before = pump.steps
    _, echo = pump.prepare(REQUEST_BOLUS)
    assert (echo["volume_nl"], echo["rate_nl_day"], echo["cut_nl"]) == (10_000, 2_880_000, 0)
    pump.command(REQUEST_BOLUS)
    assert pump.mode == "patient_bolus"
    refused("lockout", pump.command, REQUEST_BOLUS)
    pump.advance(300 * SECOND_US)
    assert pump.mode == "simple_continuous"
    assert pump.steps - before == 100
    assert [event[1] for event in patients(pump)] == ["patient_granted", "patient_refused"]
    assert therapy(pump)["patient_us"] == 6_900 * SECOND_US
    prescribe(pump)
    refused("not_permitted", pump.command, REQUEST_BOLUS)
    assert patients(pump)[-1][3] == 48


def test_patient_bolus_keeps_lockout_and_maximum_also_over_a_restart():
    pump = treated(**PATIENT)
    starts = []
    world_us = 0
    for i in range(200):
        try:
            pump.command(REQUEST_BOLUS)
            starts.append(world_us + pump.now_us)
        except Exception as refusal:
            assert refusal.code in (16, 40, 41), refusal.code
        pump.advance(20 * 60 * SECOND_US)
        if i % 17 == 16:
            world_us += pump.now_us
            pump.restart()
            pump.advance(1_000)
    assert len(starts) > 4
    for i in range(1, len(starts)):
        assert starts[i] - starts[i - 1] >= 7_200 * SECOND_US
    for i in range(3, len(starts)):
        assert starts[i] - starts[i - 3] >= DAY_US
    asked = sum(event[1].startswith("patient_") for event in pump.each_event())
    assert asked == 200


def test_the_patients_button_does_not_bounce():
    pump = treated(**PATIENT)
    pump.advance(SECOND_US)
    button = pump.board.patient_button
    before = pump.steps
    for _ in range(5):  # 5 ms each: no press
        button.press(True)
        pump.advance(5_000)
        button.press(False)
        pump.advance(100_000)
    assert patients(pump) == []
    for held in (True, False, True, False, True):  # one press
        button.press(held)
        pump.advance(3_000)
    pump.advance(10 * SECOND_US)
    for held in (False, True, False):
        button.press(held)
        pump.advance(3_000)
    pump.advance(HOUR_US)
    assert [event[1] for event in patients(pump)] == ["patient_granted"]
    assert 100 <= pump.steps - before <= 100 + 417
    button.press(True)
    pump.advance(HOUR_US)
    assert [event[1] for event in patients(pump)][1:] == ["patient_refused"]
    assert pump.fault == ""


# -- priming and bridge bolus ---------------------------------------------------------------------


def test_priming_fills_tubing_and_catheter_also_when_stopped():
    pump = treated(mode=0)
    refusal = refused(
        "above_limit", pump.prepare, START_PRIME, volume_nl=316_001, duration_us=HOUR_US
    )
    assert refusal.limit == 316_000
    before = pump.steps
    pump.command(START_PRIME, volume_nl=316_000, duration_us=HOUR_US)
    assert pump.mode == "priming_bolus"
    pump.advance(HOUR_US)
    assert pump.mode == "stopped"
    assert pump.steps - before == 3_160
    pump.check_no_more_steps()


def changed(pump, **values):
    """Another concentration."""
    return prescribe(pump, **values)


def test_a_concentration_is_not_changed_without_a_bridge_or_a_reason():
    pump = treated()
    wanted = {"concentration_ng_ml": 2_000_000, "rate_nl_day": 250_000}
    assert prepare(pump, **wanted)[1]["asks"] == 16
    refused("bad_text", prepare, pump, bridge=2, why=" ", **wanted)
    assert prepare(pump, bridge=2, why="first day", **wanted)[1]["asks"] == 0
    _, echo = prepare(pump, bridge=1, **wanted)
    assert (echo["asks"], echo["bridge_nl"], echo["bridge_rate_nl_day"]) == (0, 316_000, 1_000_000)
    refused("above_limit", prepare, pump, bridge=1)
    refused("below_limit", prepare, pump, bridge=1, tubing_nl=0, catheter_nl=0, **wanted)
    prescribe(pump, bridge=2, why="first day", **wanted)
    assert therapy(pump)["why"] == "first day"
    assert "bridge_refused" in pump.event_names()
    pump.restart()
    assert therapy(pump)["why"] == "first day"


def test_bridge_vectors():
    for old, new, rate, hours, after in (
        (500_000, 2_000_000, 200_000, 37.92, 50_000),
        (2_000_000, 500_000, 50_000, 151.68, 200_000),
    ):
        pump = treated(concentration_ng_ml=old, rate_nl_day=rate)
        pump.advance(5 * HOUR_US)
        before = pump.steps
        changed(pump, concentration_ng_ml=new, rate_nl_day=after, bridge=1)
        assert pump.mode == "bridge_bolus"
        refused("bridge_running", pump.bolus, 1_000, 60 * SECOND_US)
        end_us = int(hours * 100) * HOUR_US // 100
        pump.advance(end_us - SECOND_US)
        assert pump.mode == "bridge_bolus"
        pump.advance(2 * SECOND_US)
        assert pump.mode == "simple_continuous"
        assert pump.ask(GET_STATUS)["rate_nl_day"] == after
        assert pump.steps - before in (3_160, 3_161)
        assert therapy(pump)["bridge"] == 0
        pump.restart()
        pump.advance(SECOND_US)
        assert pump.mode == "simple_continuous"


def bridged_over_resets(pause_us):
    """(steps that a bridge bolus of 3,160 truly takes over 100 resets, the account's surplus in
    steps at its end). ``pause_us(pump)``: how long a start lives."""
    pump = treated(concentration_ng_ml=500_000, rate_nl_day=200_000)
    changed(pump, concentration_ng_ml=2_000_000, rate_nl_day=50_000, bridge=1)
    before = pump.steps
    surplus = 0
    for _ in range(100):
        pump.advance(pause_us(pump))
        pump.restart()
        pump.advance(1_000)
        assert pump.mode == "bridge_bolus"
        more = pump.app.ledger.steps() - pump.steps
        assert 0 <= more - surplus <= 1  # ACC-2: never too few
        surplus = more
    moved = pump.steps - before
    while pump.mode == "bridge_bolus":
        pump.advance(max(10 * SECOND_US, (3_040 - moved) * 43_200_000))
        moved = pump.steps - before
    assert pump.fault == ""
    assert pump.mode == "simple_continuous"
    return moved, surplus


def test_bridge_goes_on_after_resets_and_changes_over():
    chance = Random(1)

    def at_random(pump):
        return chance.below(21 * 60 * SECOND_US)

    def while_a_step_is_reserved(pump):
        due_us = pump.app.schedule.next_us() + chance.below(20) * 43_200_000
        return due_us - pump.now_us - 1 - chance.below(SECOND_US - 10_000)

    def when_a_step_is_out(pump):
        return pump.app.schedule.next_us() - pump.now_us + 20_000

    for pause_us in (at_random, while_a_step_is_reserved, when_a_step_is_out):
        moved, surplus = bridged_over_resets(pause_us)
        # what truly came out of the old drug is what was in tubing and catheter, within 0.1 %
        assert abs(moved - 3_160) <= 3, (pause_us, moved, surplus)


def test_bridge_is_cancelled_and_resumed():
    pump = treated(concentration_ng_ml=500_000, rate_nl_day=200_000)
    refused("no_bridge", pump.command, RESUME_BRIDGE)
    changed(pump, concentration_ng_ml=2_000_000, rate_nl_day=50_000, bridge=1)
    pump.advance(12 * HOUR_US)  # 1,000 steps
    pump.command(CANCEL_BOLUS)
    assert pump.mode == "simple_continuous"
    assert (therapy(pump)["bridge"], therapy(pump)["bridge_left_nl"]) == (2, 216_000)
    pump.restart()
    pump.advance(12 * HOUR_US)  # 250 steps of the new programme, and up to 5 that a cut costs
    left = therapy(pump)["bridge_left_nl"]
    assert 190_500 <= left <= 191_000
    pump.command(RESUME_BRIDGE)
    assert pump.mode == "bridge_bolus"
    pump.command(STOP)
    pump.check_no_more_steps(HOUR_US)
    pump.command(RESUME)
    assert pump.mode == "bridge_bolus"
    pump.advance(left * DAY_US // 200_000 + 100 * SECOND_US)
    assert pump.mode == "simple_continuous"


def test_bridge_is_not_resumed_where_a_limit_has_no_room_for_it():
    """It is given at a rate of its own, which limits that came after it was cancelled do not
    know."""
    new = {"concentration_ng_ml": 2_000_000, "rate_nl_day": 50_000}
    pump = treated(concentration_ng_ml=500_000, rate_nl_day=480_000)
    changed(pump, bridge=1, **new)
    refused("volume_limit", changed, pump, hour_nl=20_000, **new)  # 23,334 nL in 70 min
    pump.command(CANCEL_BOLUS)
    changed(pump, hour_nl=20_000, **new)
    for command in (None, STOP):
        if command:
            pump.command(command)
        before = therapy(pump)
        refusal = refused("volume_limit", pump.command, RESUME_BRIDGE)
        assert (refusal.field, refusal.value) == ("hour_nl", 20_000)
        assert 25_400 < refusal.limit < 25_600  # 70 min at the rate of the bridge, and 21 steps
        assert therapy(pump) == before
        least_nl = refusal.limit
    pump.command(RESUME)
    changed(pump, hour_nl=least_nl, **new)
    pump.command(RESUME_BRIDGE)
    pump.advance(DAY_US // 4)
    assert "limit_held" not in pump.event_names()
    assert pump.mode == "bridge_bolus"


def test_no_bridge_before_the_old_drug_of_the_change_before_is_out():
    """The rate of a bridge bolus is right for one concentration in tubing and catheter."""
    second = {"concentration_ng_ml": 2_000_000, "rate_nl_day": 50_000}
    third = {"concentration_ng_ml": 1_000_000, "rate_nl_day": 100_000}
    for cancelled in (True, False):
        pump = treated(concentration_ng_ml=500_000, rate_nl_day=200_000)
        if cancelled:
            changed(pump, bridge=1, **second)
            pump.advance(12 * HOUR_US)  # 1,000 of 3,160 steps
            pump.command(CANCEL_BOLUS)
        else:
            changed(pump, bridge=2, why="bench", **second)
            pump.advance(48 * HOUR_US)  # the same
        before = therapy(pump)
        for restarted in (False, True):
            refusal = refused("above_limit", prepare, pump, bridge=1, **third)
            assert refusal.field == "bridge_nl"
            assert (
                refusal.value == 216_000 if not restarted else 215_000 < refusal.value <= 216_000
            )
            pump.restart()
        assert therapy(pump)["bridge"] == before["bridge"]
        assert prepare(pump, bridge=2, why="bench", **third)[1]["asks"] & 48 == 0
        pump.advance(216 * DAY_US // 50)  # and it is out
        echo = prepare(pump, bridge=1, **third)[1]
        assert (echo["bridge_nl"], echo["bridge_rate_nl_day"]) == (316_000, 50_000)
        changed(pump, bridge=1, **third)
        assert pump.mode == "bridge_bolus"


# -- limits ---------------------------------------------------------------------------------------


def test_limits_without_room_for_the_basal_rate_are_refused():
    pump = treated()
    least = refused("below_limit", prepare, pump, day_nl=1_000_000).limit
    assert 1_083_000 < least < 1_090_000  # 26 h
    prepare(pump, day_nl=least)
    least = refused("below_limit", prepare, pump, hour_nl=40_000).limit
    assert 55_000 < least < 60_000
    prepare(pump, hour_nl=least)


def test_a_bolus_across_a_limit_is_cut():
    pump = treated(hour_nl=100_000, day_nl=1_500_000)
    pump.advance(2 * DAY_US)
    _, echo = pump.prepare_bolus(200_000, 1_200 * SECOND_US)
    assert echo["volume_nl"] + echo["cut_nl"] == 200_000
    assert 30_000 < echo["volume_nl"] < 58_400
    pump.bolus(200_000, 1_200 * SECOND_US)
    assert "bolus_cut" in pump.event_names()
    before = pump.steps
    pump.advance(HOUR_US // 2)
    pump.advance(HOUR_US // 2)
    assert pump.steps - before <= 1_000
    for _ in range(60):
        pump.advance(HOUR_US)
        try:
            pump.bolus(200_000, 1_200 * SECOND_US)
        except Exception as refusal:
            assert refusal.code == 42
    assert "limit_held" not in pump.event_names()


def test_the_past_still_counts_after_a_restart():
    pump = treated(hour_nl=100_000)
    pump.advance(2 * HOUR_US)
    pump.bolus(50_000, 600 * SECOND_US)
    pump.advance(1_200 * SECOND_US)
    pump.restart()
    pump.advance(1_000)
    refused("volume_limit", pump.bolus, 40_000, 600 * SECOND_US)
    assert therapy(pump)["hour_pl"] >= 5_000_000
    pump.advance(2 * HOUR_US)
    assert pump.mode == "simple_continuous"
    pump.bolus(40_000, 600 * SECOND_US)


def test_limits_count_what_moved_in_a_stall_too():
    pump = treated(hour_nl=100_000, day_nl=1_500_000)
    pump.advance(2 * HOUR_US)
    pump.plant.inject("stall")
    pump.advance(5 * HOUR_US)
    slack_pl = 40 * pump.plant.step_pl
    for restart in (False, True):
        if restart:
            pump.restart()
            pump.advance(1_000)
        told = therapy(pump)
        moved_pl = pump.plant.steps * pump.plant.step_pl  # all of it less than a day ago
        assert moved_pl > 80_000_000
        assert 0 <= told["hour_pl"] <= slack_pl, restart
        assert moved_pl <= told["day_pl"] <= moved_pl + slack_pl, restart
    pump.plant.clear("stall")
    steps = pump.plant.steps
    pump.bolus(40_000, 600 * SECOND_US)
    pump.advance(HOUR_US)
    assert 700 <= pump.plant.steps - steps <= 1_000
    assert pump.fault == ""


# -- refill and forecast --------------------------------------------------------------------------


def test_a_fill_of_another_concentration_mixes_with_what_was_left():
    pump = treated()
    crc = stage(pump, {10: drug("saline", 2_000_000), 11: drug("other", 400)})
    values = {"measured_nl": 0, "fill_nl": 15_000_000, "rest_nl": 5_000_000, "reason": "new"}
    _, echo = pump.prepare(RECORD_REFILL, fill_crc=crc, **values)
    assert (echo["drug_ng_ml"], echo["drug2_ng_ml"]) == (1_625_000, 300)
    pump.command(RECORD_REFILL, fill_crc=crc, **values)
    assert pump.ask(GET_PART, part=20)["octets"] == drug("saline", 1_625_000)
    assert pump.ask(GET_PART, part=21)["octets"] == drug("other", 300)
    pump.restart()
    assert pump.ask(GET_PART, part=21)["octets"] == drug("other", 300)
    assert prepare(pump)[1]["asks"] == 32
    refused("parts_differ", pump.prepare, RECORD_REFILL, fill_crc=crc, **values)


def test_what_was_left_in_counts_as_measured():
    pump = treated(rate_nl_day=6_000_000)
    pump.advance(2 * DAY_US)
    for measured_nl, rest_nl, flagged in (
        (8_000_000, 0, 0),
        (6_000_000, 2_000_000, 0),
        (8_000_000, 2_000_000, 1),  # 10 mL of 8: ratio 0.833
        (0, 8_000_000, 0),
    ):
        _, echo = pump.prepare(
            RECORD_REFILL,
            measured_nl=measured_nl,
            fill_nl=12_000_000,
            rest_nl=rest_nl,
            reason="scheduled",
        )
        there_pl = (measured_nl + rest_nl) * 1000
        assert echo["discrepancy_pl"] == there_pl - echo["expected_pl"]
        assert echo["true_pl"] == 20_000_000_000 - there_pl
        assert echo["flagged"] == flagged
    values = {"fill_nl": 1_000_000, "rest_nl": 19_000_000, "reason": "scheduled"}
    refusal = refused("above_limit", pump.prepare, RECORD_REFILL, measured_nl=1_000_001, **values)
    assert (refusal.field, refusal.limit) == ("measured_nl", 1_000_000)
    pump.command(
        RECORD_REFILL, measured_nl=7_000_000, fill_nl=12_000_000, rest_nl=1_000_000, reason="x"
    )
    account = pump.ask(GET_ACCOUNT)
    assert account["measured_pl"] == 8_000_000_000
    assert account["fill_pl"] == 13_000_000_000


def test_forecast_at_a_constant_rate_is_what_comes():
    pump = treated(rate_nl_day=6_000_000)
    told = therapy(pump)
    assert told["low_us"] == 3 * DAY_US
    pump.advance(told["low_us"] - HOUR_US)
    assert "low_reservoir" not in pump.event_names()
    pump.advance(HOUR_US + SECOND_US)
    assert "low_reservoir" in pump.event_names()
    told = therapy(pump)
    assert told["low_us"] == 0
    assert told["refill_us"] == 0


def test_forecast_takes_the_earlier_of_low_mark_and_stability():
    pump = treated(stable_until_s=MONDAY_S + 86_400)
    told = therapy(pump)
    assert told["refill_us"] == DAY_US
    assert told["low_us"] == 18 * DAY_US
