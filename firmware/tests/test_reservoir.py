"""The reservoir in a whole pump: its marks, refills, and what a refill refuses."""

from virtual_pump import DAY_US, HOUR_US, SECOND_US, STEP_PL, Pump, refused, running

from pump_wire.messages import GET_ACCOUNT, GET_STATUS, RECORD_REFILL, RESUME, STOP

TIMEOUT_S = 60
REQUIREMENTS = {
    "test_low_and_empty_at_exact_thresholds": ["ALM-2"],
    "test_an_empty_reservoir_stays_empty_over_a_restart": ["ALM-2"],
    "test_refill_over_capacity_or_without_reason_is_refused": ["ACC-3"],
}

ML = 1_000_000  # nL


def low_pump(fill_nl, low_mark_nl=2 * ML, rate=24_000_000):
    pump = Pump()
    pump.advance(1_000)
    pump.refill(fill_nl)
    pump.program(rate, low_mark_nl=low_mark_nl)
    return pump


def marks(pump):
    return [event[1:] for event in pump.events() if event[1].endswith("_reservoir")]


def test_low_and_empty_at_exact_thresholds():
    pump = low_pump(2 * ML + 50_000)  # 500 steps to low, 6,500 to empty, one each 0.36 s
    pump.advance(500 * 360_000 - 1)
    assert pump.steps == 499 and marks(pump) == []
    pump.advance(2_000)
    assert pump.steps == 500
    assert [(name, value) for name, _, value in marks(pump)] == [("low_reservoir", 2_000_000_000)]
    pump.advance(6_000 * 360_000 - 2_000)
    assert pump.steps == 6_499
    assert pump.mode == "simple_continuous"
    pump.advance(2_000)
    assert pump.steps == 6_500
    assert [(name, value) for name, _, value in marks(pump)][1:] == [
        ("empty_reservoir", 1_400_000_000)
    ]
    assert (pump.mode, pump.stop_reason) == ("stopped", "empty reservoir")
    pump.check_no_more_steps()
    assert len(marks(pump)) == 2
    assert pump.plant.residual_pl == 1_400_000_000
    assert pump.plant.delivered_pl == pump.steps * STEP_PL  # not a step without drug
    assert pump.fault == ""


def test_between_two_steps_low_is_told_at_or_below_and_empty_is_not_crossed():
    for low_mark_nl, low_pl in (
        (2 * ML, 1_999_950_000),
        (ML, 1_400_050_000),
        (1_400_049, 1_400_050_000),
        (1_400_050, 1_400_050_000),
        (1_400_051, 1_400_050_000),
    ):
        pump = low_pump(2 * ML + 1_050, low_mark_nl)  # residual is always half a step off
        pump.advance(7_000 * 360_000)
        assert [(name, value) for name, _, value in marks(pump)] == [
            ("low_reservoir", low_pl),
            ("empty_reservoir", 1_400_050_000),
        ]
        pump.check_no_more_steps()
        assert pump.plant.residual_pl == 1_400_050_000


def test_another_low_mark_is_told_when_it_is_reached():
    pump = low_pump(2 * ML + 50_000)
    pump.advance(600 * 360_000)
    pump.program(24_000_000, low_mark_nl=1_600_000)
    pump.advance(6_000 * 360_000)
    assert [(name, value) for name, _, value in marks(pump)] == [
        ("low_reservoir", 2_000_000_000),
        ("low_reservoir", 1_600_000_000),
        ("empty_reservoir", 1_400_000_000),
    ]


def test_low_mark_below_the_unusable_volume_is_told_with_empty():
    pump = low_pump(1_500_000, low_mark_nl=ML)
    pump.advance(1_500 * 360_000)
    assert [(name, value) for name, _, value in marks(pump)] == [
        ("low_reservoir", 1_400_000_000),
        ("empty_reservoir", 1_400_000_000),
    ]
    assert pump.steps == 1_000


def test_a_bolus_into_the_empty_mark_is_cut_and_told():
    pump = low_pump(1_500_000, rate=48_000)
    pump.bolus(100_000, 360 * SECOND_US)  # all that is left
    pump.app.ledger.fill_pl -= 50_000_000  # and half of it is not there after all
    pump.advance(DAY_US)
    assert pump.steps == 500
    assert (pump.mode, pump.stop_reason) == ("stopped", "empty reservoir")
    names = [name for name in pump.event_names() if name != "alarm_raised"]
    assert names[-4:] == [
        "low_reservoir",
        "bolus_ended_early",
        "empty_reservoir",
        "mode_entered",
    ] or names[-3:] == ["bolus_ended_early", "empty_reservoir", "mode_entered"]
    ended = [event for event in pump.events() if event[1] == "bolus_ended_early"]
    assert ended[0][3] == 50_000_000
    pump.check_no_more_steps()


def test_an_empty_reservoir_stays_empty_over_a_restart():
    pump = low_pump(1_450_000)
    pump.advance(HOUR_US)
    assert pump.steps == 500
    told = pump.event_names().count("empty_reservoir")
    pump.restart()
    pump.check_no_more_steps()
    assert (pump.mode, pump.stop_reason) == ("stopped", "empty reservoir")
    assert pump.event_names().count("empty_reservoir") == told + 1
    pump.command(STOP)
    pump.command(RESUME)
    pump.check_no_more_steps()
    pump.program(24_000_000)
    pump.check_no_more_steps()


def test_a_refill_after_empty_delivers_and_tells_again():
    pump = low_pump(1_450_000)
    pump.advance(HOUR_US)
    pump.refill(1_600_000)
    assert pump.mode == "simple_continuous"
    pump.advance(HOUR_US)
    assert pump.steps == 500 + 2_000
    assert [name for name, _, _ in marks(pump)] == ["low_reservoir", "empty_reservoir"] * 2


def test_a_refill_that_cannot_be_delivered_stays_stopped():
    for fill_nl in (1_400_001, 1_400_050, 1_400_099):  # not a step to give
        pump = low_pump(20 * ML)
        pump.advance(10_000_000)
        before = pump.steps
        pump.refill(fill_nl)
        assert (pump.mode, pump.stop_reason) == ("stopped", "empty reservoir")
        pump.check_no_more_steps()
        assert pump.steps == before


def test_refill_in_a_bolus_leaves_the_bolus_whole():
    pump = running()
    pump.bolus(2_000, 10 * SECOND_US)
    pump.advance(4_200_000)
    pump.refill(10 * ML)
    status = pump.ask(GET_STATUS)
    assert pump.mode == "single_bolus"
    assert (status["bolus_pl"], status["bolus_left_pl"]) == (2_000_000, 1_160_000)
    pump.advance(5_800_000)
    assert pump.steps == 20
    assert pump.mode == "simple_continuous"
    account = pump.ask(GET_ACCOUNT)
    assert account["delivered_pl"] == account["bolus_pl"] == 1_200_000
    assert account["before_delivered_pl"] == 800_000
    assert account["fill_pl"] == 10_000_000_000
    assert [event[3] for event in pump.events() if event[1] == "bolus_done"] == [2_000_000]


def test_refill_in_a_bolus_with_less_than_it_needs_cuts_the_bolus():
    for fill_nl, steps in ((1_400_001, 0), (1_400_099, 0), (1_400_300, 3)):
        pump = running()
        pump.bolus(2_000, 10 * SECOND_US)
        pump.advance(4_200_000)
        pump.refill(fill_nl)
        pump.advance(DAY_US)
        assert pump.steps == 8 + steps
        assert (pump.mode, pump.stop_reason) == ("stopped", "empty reservoir")
        ended = [event[3] for event in pump.events() if event[1] == "bolus_ended_early"]
        assert ended == [(12 - steps) * STEP_PL]
        assert pump.fault == ""


def test_refill_keeps_the_part_of_a_step_that_was_due():
    pump = running()
    pump.advance(10_700_000)
    pump.refill(10 * ML)
    assert pump.ask(GET_STATUS)["programmed_pl"] == 0
    pump.advance(300_000)
    assert pump.steps == 11
    assert pump.ask(GET_STATUS)["programmed_pl"] == 30_000


def test_refill_over_capacity_or_without_reason_is_refused():
    pump = running()
    before = pump.ask(GET_ACCOUNT)
    over = 20 * ML + 1
    for field in ("measured_nl", "fill_nl"):
        values = {"measured_nl": 0, "fill_nl": 20 * ML, "reason": "early"}
        values[field] = over
        refusal = refused("above_limit", pump.command, RECORD_REFILL, **values)
        assert (refusal.field, refusal.value, refusal.limit) == (field, over, 20 * ML)
    for reason in ("", "   "):
        refusal = refused(
            "bad_text", pump.command, RECORD_REFILL, measured_nl=0, fill_nl=2 * ML, reason=reason
        )
        assert refusal.field == "reason"
    assert pump.ask(GET_ACCOUNT) == before
    pump.refill(20 * ML, measured_nl=20 * ML)


def test_a_discrepancy_is_logged_with_its_volume():
    pump = running()
    pump.advance(10_000_000)
    pump.refill(20 * ML, measured_nl=20 * ML - 1_000 - 10 * ML)
    assert [event[3] for event in pump.events() if event[1] == "discrepancy"] == [-10_000_000_000]
    assert pump.event_names()[-2:] == ["refill_recorded", "discrepancy"]
    pump.refill(20 * ML, measured_nl=20 * ML)
    assert pump.event_names()[-1] == "refill_recorded"
