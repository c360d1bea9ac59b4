"""What volume limits and lockout remember, when the record is damaged and when the power goes at
any moment: never less than there was."""

from nor_flash import PowerCut
from therapy_pump import HOUR_US, therapy, treated
from virtual_pump import DAY_US, ROOT, SECOND_US, damage, refused

from pump.prescription import Refusal
from pump_wire.messages import ALARM, REFUSALS, REQUEST_BOLUS

TIMEOUT_S = 240
REQUIREMENTS = {
    "test_a_damaged_record_gives_no_bolus_for_a_day": ["DEL-5", "THE-2", "FLT-4"],
    "test_a_lockout_is_never_shorter_for_a_loss_of_power": ["THE-2"],
}
PATIENT = {"patient_nl": 10_000, "patient_s": 300, "lockout_s": 7_200, "patient_max": 3}
SHAPES = (None, "half_program", "all_but_one_bit_program")


def test_a_damaged_record_gives_no_bolus_for_a_day():
    for at in (0, 40, -1):
        pump = treated(hour_nl=200_000, day_nl=2_000_000, **PATIENT)
        pump.advance(2 * HOUR_US)
        pump.bolus(50_000, 600 * SECOND_US)
        pump.advance(1_200 * SECOND_US)
        pump.cut_power()
        damage(ROOT + "/window/now", at)
        pump.power_on()
        pump.advance(1_000)
        assert pump.fault == ""
        raised = [event[3] for event in pump.each_event() if event[1] == "alarm_raised"]
        assert ALARM["memory_minor"] in raised
        assert pump.mode == "simple_continuous"  # the basal programme goes on
        for _ in range(3):
            refused("volume_limit", pump.bolus, 1_000, 60 * SECOND_US)
            refused("lockout", pump.command, REQUEST_BOLUS)
            pump.advance(7 * HOUR_US)
        assert "limit_held" not in pump.event_names()
        pump.advance(4 * HOUR_US)
        pump.command(REQUEST_BOLUS)


def asked(pump):
    """Name of the refusal of a patient's request, "" when it is granted."""
    try:
        pump.command(REQUEST_BOLUS)
    except Refusal as refusal:
        return REFUSALS[refusal.code][0]
    return ""


def test_a_lockout_is_never_shorter_for_a_loss_of_power():
    given = 0
    cut = 0
    while True:
        cut += 1
        pump = treated(rate_nl_day=100_000, **PATIENT)
        pump.advance(SECOND_US)
        before = pump.steps
        pump.flash.cut_at(cut, SHAPES[cut % len(SHAPES)])
        try:
            pump.command(REQUEST_BOLUS)
            pump.advance(250 * SECOND_US)
        except PowerCut:
            pass
        whole = not pump.flash.dead
        lived_us = pump.now_us
        moved = pump.steps - before
        pump.cut_power()
        pump.power_on()
        pump.advance(1_000)
        if moved > 1:  # a bolus's steps, 3 s apart; the basal rate's are minutes apart
            given += 1
            while lived_us + pump.now_us < 7_200 * SECOND_US:
                assert asked(pump) == "lockout", (cut, pump.now_us)
                pump.advance(600 * SECOND_US)
        pump.advance(2 * HOUR_US)
        assert asked(pump) == ""
        if whole:
            break
    assert cut > 6
    assert given > 2, given


def test_what_is_told_of_the_next_bolus_is_what_comes():
    pump = treated(**PATIENT)
    pump.command(REQUEST_BOLUS)
    pump.advance(HOUR_US)
    pump.restart()
    pump.advance(1_000)
    told_us = therapy(pump)["patient_us"]
    assert HOUR_US <= told_us <= 2 * HOUR_US
    pump.advance(told_us - SECOND_US)
    assert asked(pump) == "lockout"
    pump.advance(2 * SECOND_US)
    assert asked(pump) == ""
    pump.advance(DAY_US)
    assert therapy(pump)["patient_us"] == 0
