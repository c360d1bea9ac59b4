"""What a loss of power leaves in the log and in the account: told once, never too little."""

from nor_flash import SHAPES, PowerCut
from virtual_pump import SECOND_US, running

from pump_wire.messages import CANCEL_BOLUS, SET_CLOCK

TIMEOUT_S = 300
REQUIREMENTS = {
    "test_basal_resumes_and_power_lost_is_told": ["PWR-5"],
    "test_a_cut_in_a_bolus_is_told_with_what_it_moved": ["PWR-5", "ACC-2"],
    "test_a_cut_at_any_operation_around_a_bolus_tells_its_end_once": ["PWR-5", "ACC-2"],
}
WALL_S = 1_800_000_000
ENDS = ("bolus_done", "bolus_ended_early", "bolus_interrupted")


def said(pump, name):
    """Values of the events called ``name``."""
    return [value for _, event, _, value in pump.events() if event == name]


def test_basal_resumes_and_power_lost_is_told():
    pump = running()
    pump.advance(10 * SECOND_US)
    assert said(pump, "power_lost") == []  # the first start of a pump loses nothing
    for cuts in range(1, 4):
        pump.restart()
        before = pump.steps
        pump.advance(5 * SECOND_US)
        assert pump.mode == "simple_continuous" and pump.steps - before >= 4
        assert said(pump, "power_lost") == [-1] * cuts
    names = pump.event_names()
    assert names[names.index("power_lost") - 1] == "pump_started"


def test_only_a_loss_of_power_is_called_so():
    pump = running()
    for cause in (2, 3, 4):
        pump.cut_power()
        pump.power_on(reset_cause=cause)
        pump.advance(SECOND_US)
    assert said(pump, "power_lost") == [] and len(said(pump, "pump_started")) == 4


def test_how_long_is_told_when_the_clock_is_set_again():
    pump = running()
    pump.command(SET_CLOCK, wall_s=WALL_S)
    pump.advance(100 * SECOND_US)
    pump.restart()
    pump.advance(7 * SECOND_US)
    pump.command(SET_CLOCK, wall_s=WALL_S + 1_107)
    assert said(pump, "power_lost") == [-1]
    (away,) = said(pump, "power_was_away")
    assert 1_000 <= away <= 1_006  # up to a segment of five steps more
    pump.advance(SECOND_US)
    pump.command(SET_CLOCK, wall_s=WALL_S + 2_000)  # told once
    assert len(said(pump, "power_was_away")) == 1


def test_how_long_is_told_at_once_where_a_clock_kept_going():
    pump = running()
    pump.command(SET_CLOCK, wall_s=WALL_S)
    pump.advance(100 * SECOND_US)
    pump.cut_power()
    pump.power_on(wall_s=WALL_S + 400)
    pump.advance(SECOND_US)
    (away,) = said(pump, "power_lost")
    assert 300 <= away <= 306
    pump.command(SET_CLOCK, wall_s=WALL_S + 900)
    assert said(pump, "power_was_away") == []


def test_each_change_of_the_clock_is_a_reference():
    pump = running()
    pump.advance(3 * SECOND_US)
    pump.command(SET_CLOCK, wall_s=WALL_S)
    pump.advance(10 * SECOND_US)
    pump.command(SET_CLOCK, wall_s=WALL_S - 86_400)
    from struct import unpack

    from pump_wire.messages import EVENT, EVENT_FORMAT

    found = []
    for number in range(pump.app.log.next):
        values = unpack(EVENT_FORMAT, pump.app.log.read(number, 1)[:-4])
        if values[1] == EVENT["clock_set"]:
            found.append(values[4:])
    (first_us, first_s, before), (second_us, second_s, set_before) = found
    assert (first_s, before) == (WALL_S, 0)
    assert (second_s, set_before) == (WALL_S - 86_400, WALL_S + 10)
    assert second_us - first_us == 10 * SECOND_US


def test_a_cut_in_a_bolus_is_told_with_what_it_moved():
    pump = running()
    pump.advance(10 * SECOND_US)
    pump.bolus(20_000, 100 * SECOND_US)
    before = pump.steps
    pump.advance(31 * SECOND_US)
    pump.cut_power()
    moved_pl = (pump.steps - before) * pump.plant.step_pl
    pump.power_on()
    pump.advance(5 * SECOND_US)
    assert pump.mode == "simple_continuous"
    (told_pl,) = said(pump, "bolus_interrupted")
    assert 0 <= told_pl - moved_pl <= 2_000_000
    pump.restart()
    pump.advance(SECOND_US)
    assert len(said(pump, "bolus_interrupted")) == 1
    assert said(pump, "bolus_done") == said(pump, "bolus_ended_early") == []


def lived(pump, cancel):
    """A bolus that ends by itself or by command, and some basal rate after it."""
    pump.bolus(2_500, 12 * SECOND_US)
    pump.advance(6 * SECOND_US)
    if cancel:
        pump.command(CANCEL_BOLUS)
    pump.advance(20 * SECOND_US)


def test_a_cut_at_any_operation_around_a_bolus_tells_its_end_once():
    for cancel in (False, True):
        cut = 0
        while True:
            cut += 1
            pump = running()
            pump.advance(3 * SECOND_US)
            pump.flash.cut_at(cut, SHAPES[cut % len(SHAPES)])
            try:
                lived(pump, cancel)
            except PowerCut:
                pass
            if not pump.flash.dead:
                break
            true_steps = pump.plant.pulses
            for most in (20, 25):  # in a bolus, and at the basal rate after it
                pump.cut_power()
                pump.power_on()
                pump.advance(1_000)
                assert 0 <= pump.app.ledger.steps() - true_steps <= most, cut
            assert pump.fault == "", pump.app.faults.text
            started = len(said(pump, "bolus_started"))
            ended = [name for name in pump.event_names() if name in ENDS]
            assert len(ended) in (started, 1), (cut, cancel, ended)
            assert pump.mode == "simple_continuous"
        assert cut > 8


def test_cuts_during_the_starts_after_a_cut_lose_nothing():
    pump = running()
    pump.advance(10 * SECOND_US)
    pump.bolus(20_000, 100 * SECOND_US)
    pump.advance(20 * SECOND_US)
    cuts = 0
    while True:
        true_steps = pump.plant.pulses
        pump.cut_power()
        pump.flash.cut_at(1 + cuts, SHAPES[cuts % len(SHAPES)])
        try:
            pump.power_on()
            pump.advance(1_000)
        except PowerCut:
            cuts += 1
            continue
        break
    assert cuts >= 4
    assert pump.fault == "" and pump.mode == "simple_continuous"
    assert len(said(pump, "bolus_interrupted")) == 1
    assert 0 <= pump.app.ledger.steps() - true_steps <= 20
