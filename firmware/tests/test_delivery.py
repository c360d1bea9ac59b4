"""Infusion modes in a whole pump: what runs, what follows, and what a restart brings back."""

from random_numbers import Random
from virtual_pump import DAY_US, HOUR_US, ROOT, SECOND_US, Pump, damage, refused, running

from pump.prescription import Refusal
from pump_wire.messages import (
    CANCEL_BOLUS,
    FAULT,
    GET_ACCOUNT,
    GET_PRESCRIPTION,
    GET_STATUS,
    RESUME,
    STOP,
)

TIMEOUT_S = 60
REQUIREMENTS = {
    "test_stop_gives_no_step_until_resume": ["DEL-7"],
    "test_halted_survives_a_restart": ["DEL-7"],
    "test_a_stopped_prescription_gives_no_step": ["DEL-7"],
}

ML = 1_000_000  # nL


def rate_of(pump):
    return pump.ask(GET_STATUS)["rate_nl_day"]


# -- the bolus ----------------------------------------------------------------------------------


def test_bolus_takes_the_place_of_the_basal_rate_and_returns_to_it():
    for mode, name, rate in ((2, "simple_continuous", 8_640_000), (1, "minimum_rate", 6_000)):
        pump = running()
        pump.program(rate, mode=mode)
        first = pump.app.log.next
        done = pump.bolus(2_000, 10 * SECOND_US)  # 20 steps, one each half second
        assert done["event"] == first
        status = pump.ask(GET_STATUS)
        assert pump.mode == "single_bolus"
        assert status["return_mode"] == mode
        assert status["bolus_pl"] == status["bolus_left_pl"] == 2_000_000
        assert status["rate_nl_day"] == 17_280_000
        pump.advance(4 * SECOND_US)
        assert pump.steps == 8
        assert pump.ask(GET_STATUS)["bolus_left_pl"] == 1_200_000
        pump.advance(6 * SECOND_US)
        assert pump.steps == 20
        assert pump.mode == name and rate_of(pump) == rate
        status = pump.ask(GET_STATUS)
        assert status["bolus_pl"] == status["bolus_left_pl"] == 0
        assert status["return_mode"] == mode
        assert pump.ask(GET_ACCOUNT)["bolus_pl"] == 2_000_000
        events = [event[1:] for event in pump.events(first)]
        assert [event[0] for event in events] == ["bolus_started", "bolus_done", "mode_entered"]
        assert events[0][2] == events[1][2] == 2_000_000
        assert -3_000 <= events[1][1] - (done["uptime_us"] + 10 * SECOND_US) <= 0
        pump.advance(60 * SECOND_US)
        assert pump.steps == 20 + (60 if mode == 2 else 0)
        assert pump.ask(GET_ACCOUNT)["bolus_pl"] == 2_000_000


def test_bolus_as_fast_as_the_basal_rate_is_in_place_of_it_too():
    pump = running()
    pump.bolus(10_000, 100 * SECOND_US)
    assert pump.mode == "single_bolus" and rate_of(pump) == 8_640_000
    pump.advance(100 * SECOND_US)
    assert pump.mode == "simple_continuous"
    assert pump.steps == 100
    pump.advance(10 * SECOND_US)
    assert pump.steps == 110
    assert pump.ask(GET_ACCOUNT)["bolus_pl"] == 10_000_000


def test_part_of_a_step_that_a_bolus_leaves_is_carried():
    pump = running()
    pump.program(mode=1)
    for _ in range(3):
        pump.bolus(140, SECOND_US)
        pump.advance(SECOND_US)
        assert pump.mode == "minimum_rate"
    assert pump.steps == 4
    assert pump.ask(GET_STATUS)["programmed_pl"] // 1000 == 420
    assert pump.event_names().count("bolus_done") == 3


def test_bolus_refusals_change_nothing():
    pump = running()
    refusal = refused("below_limit", pump.bolus, 10_000, 36_000_000 - 1)
    assert refusal.field == "duration_us"
    assert (refusal.value, refusal.limit) == (35_999_999, 36_000_000)
    pump.bolus(1_000, 10 * SECOND_US)
    refused("bolus_running", pump.bolus, 1_000, 10 * SECOND_US)
    pump.command(CANCEL_BOLUS)
    pump.command(STOP)
    events = pump.app.log.next
    refused("wrong_mode", pump.bolus, 1_000, 10 * SECOND_US)
    assert pump.mode == "stopped"
    assert pump.app.log.next == events


def test_bolus_that_the_reservoir_does_not_hold_is_refused():
    pump = running(1_000_000)
    pump.refill(5 * ML)
    assert refused("not_enough_drug", pump.bolus, 3_600_001, DAY_US // 2).limit == 3_600_000
    assert pump.mode == "simple_continuous"
    pump.bolus(3_600_000, DAY_US // 2)
    pump.advance(DAY_US // 2 + SECOND_US)
    assert pump.steps == 36_000
    assert pump.plant.residual_pl == 1_400_000_000
    assert pump.stop_reason == "empty reservoir"


def test_shortest_bolus_runs_at_the_highest_rate():
    pump = running()
    pump.bolus(10_000, 36_000_000)
    assert rate_of(pump) == 24_000_000
    pump.advance(36_000_000)
    assert pump.steps == 100
    assert pump.fault == ""


def test_cancel_returns_to_the_basal_rate_at_once():
    pump = running()
    first = pump.app.log.next
    pump.bolus(2_000, 10 * SECOND_US)
    pump.advance(4_250_000)  # half way to the 9th step
    _, echo = pump.prepare(CANCEL_BOLUS)
    assert echo["left_pl"] == 1_150_000
    done = pump.command(CANCEL_BOLUS)
    assert pump.mode == "simple_continuous" and rate_of(pump) == 8_640_000
    assert pump.steps == 8
    names = pump.event_names(first)
    assert names == ["bolus_started", "bolus_ended_early", "mode_entered"]
    assert pump.events(first)[1][3] == 1_200_000  # 12 steps of the bolus that did not move
    assert done["event"] == first + 1
    pump.advance(500_000)  # the half step that was due is carried
    assert pump.steps == 9
    assert refused("wrong_mode", pump.command, CANCEL_BOLUS).value == 2


def test_a_command_in_the_very_instant_the_bolus_ends():
    for off_us in (-3_001, -2_000, -1_000, -1, 0, 1):
        for command in (STOP, CANCEL_BOLUS):
            pump = running()
            pump.bolus(2_000, 10 * SECOND_US)
            pump.advance(10 * SECOND_US + off_us)
            try:
                pump.command(command)
            except Refusal:
                assert command is CANCEL_BOLUS
            assert pump.fault == ""
            assert pump.mode == ("stopped" if command is STOP else "simple_continuous")
            names = pump.event_names()
            assert names.count("bolus_done") + names.count("bolus_ended_early") == 1
            pump.advance(5 * SECOND_US)
            # 20 bolus steps; a millisecond before the end one is not due and only carried.
            expected = 20 if command is STOP else 25
            assert expected - 1 <= pump.steps <= expected, (off_us, pump.steps)


def test_bolus_does_not_come_back_after_a_restart():
    pump = running()
    pump.bolus(800_000, HOUR_US)
    pump.advance(60 * SECOND_US)
    before = pump.steps
    pump.restart()
    pump.advance(100 * SECOND_US)
    assert pump.mode == "simple_continuous"
    assert pump.steps - before == 100
    assert pump.ask(GET_STATUS)["bolus_pl"] == 0


# -- stop and resume ----------------------------------------------------------------------------


def test_stop_gives_no_step_until_resume():
    random = Random(12)
    for in_bolus in (False, True):
        for _ in range(10):
            pump = running(12_000_000)
            pump.advance(random.below(10 * SECOND_US))
            if in_bolus:
                pump.bolus(10_000, 60 * SECOND_US)
                pump.advance(random.below(59 * SECOND_US))
            pump.command(STOP)
            assert (pump.mode, pump.stop_reason) == ("stopped", "command")
            assert rate_of(pump) == 0
            pump.check_no_more_steps()
            pump.command(RESUME)
            assert (pump.mode, pump.stop_reason) == ("simple_continuous", "running")
            before = pump.steps
            pump.advance(72 * SECOND_US)  # basal: the bolus is over for good
            assert 100 <= pump.steps - before <= 101
            assert pump.fault == ""


def test_stop_in_a_bolus_ends_it():
    pump = running()
    first = pump.app.log.next
    pump.bolus(2_000, 10 * SECOND_US)
    pump.advance(4 * SECOND_US)
    pump.command(STOP)
    assert pump.event_names(first) == [
        "bolus_started",
        "bolus_ended_early",
        "mode_entered",
        "delivery_stopped",
    ]
    assert pump.ask(GET_ACCOUNT)["bolus_pl"] == 800_000


def test_stop_in_the_instant_of_a_step():
    for off_us, steps in ((-1, 2), (0, 3), (1, 3)):
        pump = running()
        pump.advance(3 * SECOND_US + off_us)
        pump.command(STOP)
        assert pump.steps == steps
        pump.advance(DAY_US)
        pump.command(RESUME)
        pump.advance(SECOND_US)
        assert pump.steps == steps + 1


def test_halted_survives_a_restart():
    pump = running()
    pump.advance(3 * SECOND_US)
    pump.command(STOP)
    for _ in range(3):
        pump.restart()
        pump.check_no_more_steps()
        assert (pump.mode, pump.stop_reason) == ("stopped", "command")
    refused("wrong_mode", pump.bolus, 1_000, 10 * SECOND_US)
    pump.command(RESUME)
    pump.advance(10 * SECOND_US)
    assert pump.steps == 13
    pump.restart()
    pump.advance(10 * SECOND_US)
    assert pump.steps == 23


def test_halted_survives_damage_to_either_copy():
    for copy in (0, 1):
        pump = running()
        pump.advance(3 * SECOND_US)
        pump.command(STOP)
        pump.cut_power()
        damage("%s/prescription.%d" % (ROOT, copy))
        pump.power_on()
        pump.check_no_more_steps()
        assert (pump.fault, pump.stop_reason) == ("", "command")


def test_a_new_prescription_keeps_a_stop():
    for restarts in (0, 2):
        pump = running()
        pump.advance(3 * SECOND_US)
        pump.command(STOP)
        first = pump.app.log.next
        done = pump.program(17_280_000)
        assert pump.event_names(first) == ["prescription_committed"]
        assert done["event"] == first and done["uptime_us"] == pump.now_us
        for start in range(1 + restarts):
            if start:
                pump.restart()
            pump.check_no_more_steps()
            assert (pump.mode, pump.stop_reason) == ("stopped", "command")
            assert rate_of(pump) == 0
            stored = pump.ask(GET_PRESCRIPTION)
            assert stored["rate_nl_day"] == 17_280_000
            assert stored["sequence"] == pump.events(first)[0][3]
        refused("wrong_mode", pump.bolus, 2_000, 10 * SECOND_US)
        _, echo = pump.prepare(RESUME)
        assert (echo["mode"], echo["rate_nl_day"]) == (2, 17_280_000)
        pump.command(RESUME)
        assert (pump.mode, pump.stop_reason) == ("simple_continuous", "running")
        pump.advance(10 * SECOND_US)
        assert pump.steps == 3 + 20
        pump.program(8_640_000)  # the stop is over: the next one runs at once
        pump.advance(10 * SECOND_US)
        assert pump.steps == 3 + 20 + 10


def test_a_stop_outlasts_prescriptions_of_every_mode():
    pump = running()
    pump.command(STOP)
    for mode in (0, 2, 1, 0):
        first = pump.app.log.next
        pump.program(8_640_000, mode=mode)
        assert pump.event_names(first) == ["prescription_committed"]
        assert (pump.mode, pump.stop_reason) == ("stopped", "command")
        pump.check_no_more_steps()
    pump.refill()
    assert (pump.mode, pump.stop_reason) == ("stopped", "command")
    pump.command(RESUME)
    assert (pump.mode, pump.stop_reason) == ("stopped", "prescription")
    pump.check_no_more_steps()
    pump.program(8_640_000)  # stopped, but not by command
    pump.advance(10 * SECOND_US)
    assert pump.steps == 10


def test_resume_refusals():
    pump = Pump()
    pump.advance(1_000)
    refused("no_prescription", pump.command, RESUME)
    refused("no_prescription", pump.command, STOP)
    assert pump.stop_reason == "no prescription"
    pump = running()
    refused("wrong_mode", pump.command, RESUME)
    pump.app.faults.latch(1, "made by the test")
    refused("fault_latched", pump.command, RESUME)
    refused("fault_latched", pump.program)
    refused("fault_latched", pump.bolus, 1_000, 10 * SECOND_US)
    pump.command(STOP)  # may always be asked for
    pump.check_no_more_steps()


def test_a_stopped_prescription_gives_no_step():
    pump = running()
    pump.advance(3 * SECOND_US)
    pump.program(mode=0)
    assert (pump.mode, pump.stop_reason) == ("stopped", "prescription")
    pump.check_no_more_steps()
    refused("wrong_mode", pump.bolus, 1_000, 10 * SECOND_US)
    pump.restart()
    pump.check_no_more_steps()
    pump.program(8_640_000)
    before = pump.steps
    pump.advance(10 * SECOND_US)
    assert pump.steps == before + 10


# -- prescriptions ------------------------------------------------------------------------------


def test_a_new_prescription_runs_from_its_instant():
    pump = running()
    pump.advance(10_400_000)
    assert pump.steps == 10
    done = pump.program(17_280_000)
    assert done["uptime_us"] == pump.now_us
    pump.advance(299_999)
    assert pump.steps == 10
    pump.advance(1)  # 0.4 step carried, 0.6 step at twice the rate
    assert pump.steps == 11
    assert pump.ask(GET_PRESCRIPTION)["rate_nl_day"] == 17_280_000
    assert pump.ask(GET_PRESCRIPTION)["sequence"] == 2


def test_a_new_prescription_ends_a_running_bolus():
    pump = running()
    first = pump.app.log.next
    pump.bolus(2_000, 10 * SECOND_US)
    pump.advance(4 * SECOND_US)
    pump.program(4_320_000)
    assert pump.mode == "simple_continuous" and rate_of(pump) == 4_320_000
    assert pump.event_names(first) == [
        "bolus_started",
        "bolus_ended_early",
        "mode_entered",
        "prescription_committed",
    ]
    pump.advance(20 * SECOND_US)
    assert pump.steps == 8 + 10
    assert pump.ask(GET_ACCOUNT)["bolus_pl"] == 800_000


def test_programming_before_the_first_refill_waits_for_it():
    pump = Pump()
    pump.advance(1_000)
    pump.program(8_640_000)
    assert (pump.mode, pump.stop_reason) == ("stopped", "empty reservoir")
    pump.check_no_more_steps()
    pump.refill()
    pump.advance(10 * SECOND_US)
    assert pump.steps == 10


def test_prescription_runs_again_after_a_restart():
    pump = running()
    pump.advance(10_500_000)
    pump.restart()
    pump.advance(10 * SECOND_US)
    assert pump.steps == 20  # the half step that was due is lost with the power
    assert pump.ask(GET_PRESCRIPTION)["drug"] == "saline"


def test_settings_both_damaged_deliver_nothing_and_say_why():
    pump = running()
    pump.program(17_280_000)
    pump.cut_power()
    damage(ROOT + "/prescription.0")
    damage(ROOT + "/prescription.1")
    pump.power_on()
    before = pump.steps
    pump.check_no_more_steps()
    assert pump.steps == before
    status = pump.ask(GET_STATUS)
    assert (pump.fault, pump.stop_reason) == ("settings_damaged", "fault")
    assert status["fault"] == 3 and "prescription" in status["fault_text"]
    assert "programme it again" not in status["fault_text"]
    assert pump.app.faults.code == FAULT["settings_damaged"]
    assert pump.event_names()[-1] == "fault_latched"
    refused("no_prescription", pump.ask, GET_PRESCRIPTION)
    # The remedy of the fault table: programme it again, restart, resume.
    pump.program(17_280_000)
    pump.check_no_more_steps()
    assert pump.stop_reason == "fault"
    pump.restart()
    pump.check_no_more_steps()
    assert (pump.fault, pump.stop_reason) == ("", "command")  # it may have been stopped
    pump.command(RESUME)
    pump.advance(10 * SECOND_US)
    assert pump.fault == ""
    assert pump.steps == before + 20


def test_settings_survive_damage_to_either_copy():
    for copy in (0, 1):
        pump = running()
        pump.program(17_280_000)
        pump.cut_power()
        damage("%s/prescription.%d" % (ROOT, copy))
        pump.power_on()
        pump.advance(10 * SECOND_US)
        assert pump.fault == ""
        assert rate_of(pump) == 17_280_000


def test_account_damaged_delivers_nothing_until_a_refill_and_a_restart():
    pump = running()
    pump.advance(100 * SECOND_US)
    pump.cut_power()
    damage(ROOT + "/steps/now", at=0)
    for _ in range(2):
        pump.power_on()
        assert pump.fault == "account_damaged"
        pump.check_no_more_steps()
        pump.command(STOP)  # halts, which would write the account
        pump.command(STOP)
        pump.ask(GET_ACCOUNT)
        pump.cut_power()
    pump.power_on()
    pump.advance(SECOND_US)
    pump.refill()
    assert pump.fault == "account_damaged"
    pump.check_no_more_steps()
    pump.restart()
    pump.advance(1_000)
    assert pump.fault == ""
    pump.command(RESUME)
    before = pump.steps
    pump.advance(10 * SECOND_US)
    assert pump.steps == before + 10
    account = pump.ask(GET_ACCOUNT)
    assert account["residual_pl"] == pump.plant.residual_pl
