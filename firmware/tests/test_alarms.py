"""Alarms: which cause does what, who may quieten it, and what is heard."""

from struct import unpack

from virtual_pump import DAY_US, HOUR_US, ROOT, SECOND_US, Pump, damage, refused, running

from pump.alarms import Alarms
from pump_wire.messages import (
    ACKNOWLEDGE,
    ALARM,
    ALARM_AGAIN_S,
    ALARM_FORMAT,
    ALARM_SIZE,
    ALARM_STATES,
    ALARM_TEST,
    ALARMS,
    ANNOUNCEMENT,
    CLEAR_LOGS,
    CRITICAL,
    GET_ALARMS,
    GET_STATUS,
    OTHER,
    RESUME,
    SET_ALARM_INTERVALS,
    SILENCE,
    STOP,
    TONES,
)

REQUIREMENTS = {
    "test_a_change_is_announced_and_a_reading_is_not": ["SEC-8"],
    "test_the_most_restrictive_action_wins": ["ALM-1"],
    "test_every_alarm_has_its_class_action_tone_text_and_remedy": ["ALM-1"],
    "test_low_is_raised_once_at_the_exact_step": ["ALM-2"],
    "test_empty_is_raised_once_and_nothing_moves_after": ["ALM-2"],
    "test_a_restart_below_the_mark_alarms_again": ["ALM-2", "ALM-5"],
    "test_tones_and_intervals": ["ALM-5"],
    "test_tone_within_a_second_and_on_telemetry": ["ALM-5"],
    "test_silence_ends_and_a_new_alarm_is_heard_all_the_same": ["ALM-5"],
    "test_acknowledge_names_the_instance": ["ALM-5"],
    "test_a_standing_cause_alarms_again_after_acknowledgement": ["ALM-5"],
    "test_a_fault_alarms_again_after_a_restart_while_its_cause_stands": ["ALM-5"],
    "test_intervals_are_kept": ["ALM-5"],
    "test_a_damaged_log_alarms_until_it_is_cleared": ["ACC-5"],
}
TIMEOUT_S = 120
MINUTE_US = 60 * SECOND_US


class _Log:
    def __init__(self):
        self.next = 0

    def note(self, name, value=0):
        self.next += 1
        return self.next - 1

    asked = note


class _Clock:
    us = 0

    def now_us(self):
        return self.us


def listed(pump):
    """[(number, name, state)] of the alarms that telemetry lists."""
    raw = pump.ask(GET_ALARMS)["records"]
    found = []
    for at in range(0, len(raw), ALARM_SIZE):
        number, code, state, _ = unpack(ALARM_FORMAT, raw[at : at + ALARM_SIZE])
        found.append((number, ALARMS[code][0], ALARM_STATES[state]))
    return found


def names(pump):
    return [each[1] for each in listed(pump)]


def begins(pump, hz):
    """Instants at which a tone pattern begins, known by its first frequency."""
    found = []
    before = 0
    for us, now in pump.tones():
        if now == hz and not before:
            found.append(us)
        before = now
    return found


def test_every_alarm_has_its_class_action_tone_text_and_remedy():
    for row in ALARMS.values():
        name, urgent, action, text, remedy = row
        assert 0 <= urgent <= 1 and 0 <= action <= 2, name
        assert TONES[urgent] and text and remedy, name
        assert urgent == CRITICAL or action == 0, name  # what acts on delivery is critical
    assert sum(ms for _, ms in TONES[CRITICAL]) == 3_000
    assert len({hz for hz, _ in TONES[CRITICAL]}) == 2
    assert len(TONES[OTHER]) == 1 and TONES[OTHER][0][1] == 1_000


def test_the_most_restrictive_action_wins():
    for one in ALARM:
        for two in ALARM:
            alarms = Alarms(_Clock(), _Log())
            told = [0]
            alarms.on_action = told.append
            alarms.begin(one)
            alarms.begin(two)
            wanted = 0
            for each in (one, two):
                if alarms._find(ALARM[each]).stands:
                    wanted = max(wanted, ALARMS[ALARM[each]][2])
            assert alarms.action == told[-1] == wanted, (one, two)
            if one != two:
                alarms.end(one)
                left = ALARMS[ALARM[two]][2] if alarms._find(ALARM[two]).stands else 0
                assert alarms.action == told[-1] == left, (one, two)


def test_a_cause_is_one_instance_until_it_is_over():
    alarms = Alarms(_Clock(), _Log())
    alarms.begin("stall")
    alarms.begin("stall")
    assert len(alarms.active) == 1
    first = alarms.active[0].number
    alarms.end("stall")
    assert ALARM_STATES[alarms.active[0].state] == "cured"
    alarms.begin("stall")
    assert len(alarms.active) == 1 and alarms.active[0].number > first


def test_low_is_raised_once_at_the_exact_step():
    pump = Pump()
    pump.advance(1_000)
    pump.refill(2_000_500)
    pump.program(8_640_000)  # a step a second, the mark at 5 steps
    pump.advance(4 * SECOND_US + 999_000)
    assert "low_reservoir" not in names(pump)
    pump.advance(1_000 + 2_000)
    assert names(pump) == ["low_reservoir"]
    assert pump.steps == 5
    pump.advance(HOUR_US // 2)
    assert pump.event_names().count("low_reservoir") == 1
    assert pump.event_names().count("alarm_raised") == 1
    assert pump.mode == "simple_continuous"


def test_empty_is_raised_once_and_nothing_moves_after():
    pump = Pump()
    pump.advance(1_000)
    pump.refill(1_401_000)
    pump.program(8_640_000)
    pump.advance(MINUTE_US)
    assert pump.steps == 10
    assert names(pump) == ["low_reservoir", "empty_reservoir"]
    assert pump.event_names().count("empty_reservoir") == 1
    pump.check_no_more_steps()
    assert pump.stop_reason == "empty reservoir"
    pump.refill(20_000_000, measured_nl=1_400_000)
    assert [each[2] for each in listed(pump)] == ["cured", "cured"]
    pump.advance(MINUTE_US)
    assert pump.steps > 60


def test_a_restart_below_the_mark_alarms_again():
    pump = Pump()
    pump.advance(1_000)
    pump.refill(1_401_000)
    pump.program(8_640_000)
    pump.advance(MINUTE_US)
    for number, _, _ in listed(pump):
        pump.ask(ACKNOWLEDGE, instance=number)
    pump.restart()
    pump.advance(SECOND_US)
    assert "empty_reservoir" in names(pump)
    assert begins(pump, TONES[CRITICAL][0][0])


def test_tone_within_a_second_and_on_telemetry():
    pump = Pump()
    pump.advance(1_000)
    pump.refill(2_000_500)
    pump.program(8_640_000)
    due_us = pump.now_us + 5 * SECOND_US
    pump.advance(5 * SECOND_US + 900_000)
    heard = begins(pump, TONES[OTHER][0][0])
    assert len(heard) == 1 and -2_000 <= heard[0] - due_us <= SECOND_US, (heard, due_us)
    status = pump.ask(GET_STATUS)
    assert status["alarms"] == 1 and status["alarm"] == ALARM["low_reservoir"]


def quiet():
    """A pump that runs, and has no command to announce."""
    pump = running()
    pump.restart()
    pump.advance(1_000)
    return pump


def check_pattern(pump, pattern):
    """What sounds is ``pattern``, once and again, each tone within 2 %."""
    tones = pump.tones()
    at = 0
    while at < len(tones):
        for hz, ms in TONES[pattern]:
            assert tones[at][1] == hz
            length = tones[at + 1][0] - tones[at][0]
            assert abs(length - ms * 1000) <= ms * 20, length
            at += 1
        assert tones[at][1] == 0
        at += 1


def check_interval(starts, seconds, count):
    assert len(starts) == count, starts
    for at in range(1, count):
        late_us = starts[at] - starts[at - 1] - seconds * SECOND_US
        assert abs(late_us) <= seconds * SECOND_US // 50, late_us


def test_tones_and_intervals():
    pump = quiet()
    pump.app.alarms.begin("low_reservoir")
    pump.advance(6 * HOUR_US + MINUTE_US)
    check_pattern(pump, OTHER)
    check_interval(begins(pump, 2_000), 3_600, 7)
    pump.restart()
    pump.app.alarms.begin("stall")
    pump.advance(HOUR_US + MINUTE_US)
    check_pattern(pump, CRITICAL)
    check_interval(begins(pump, 2_600), 600, 7)


def test_a_change_is_announced_and_a_reading_is_not():
    pump = quiet()
    pump.ask(GET_STATUS)
    pump.prepare(STOP)
    pump.advance(5 * SECOND_US)
    assert list(pump.tones()) == []
    pump.command(STOP)
    pump.advance(5 * SECOND_US)
    check_pattern(pump, ANNOUNCEMENT)
    assert len(begins(pump, TONES[ANNOUNCEMENT][0][0])) == 1
    pump.app.sessions.on_keys()  # a key was given out, or revoked
    pump.advance(5 * SECOND_US)
    assert len(begins(pump, TONES[ANNOUNCEMENT][0][0])) == 2


def test_a_critical_tone_breaks_off_another():
    pump = quiet()
    pump.app.alarms.begin("low_reservoir")
    pump.advance(300_000)
    pump.app.alarms.begin("stall")
    pump.advance(5 * SECOND_US)
    assert [hz for _, hz in pump.tones()] == [2_000, 0] + [2_600, 2_000] * 3 + [0]
    assert begins(pump, 2_600)[0] <= pump.now_us - 5 * SECOND_US + 100_000


def test_silence_ends_and_a_new_alarm_is_heard_all_the_same():
    pump = running()
    pump.app.alarms.begin("stall")
    pump.advance(MINUTE_US)
    assert pump.ask(SILENCE, silence_s=1_800)["alarms"] == 1
    silent_us = pump.now_us
    pump.advance(HOUR_US // 4)
    assert len(begins(pump, 2_600)) == 1
    assert listed(pump)[0][2] == "silenced"
    pump.app.alarms.begin("battery_eri")
    pump.advance(2 * SECOND_US)
    assert len(begins(pump, 2_600)) == 1 and pump.tones()[-1][1] == 0
    pump.advance(HOUR_US // 4)
    heard = begins(pump, 2_600)
    assert len(heard) == 2 and abs(heard[1] - silent_us - 1_800 * SECOND_US) <= 36 * SECOND_US
    assert listed(pump)[0][2] == "pending"


def test_silence_stops_a_tone_that_sounds():
    pump = running()
    pump.app.alarms.begin("stall")
    pump.advance(700_000)
    pump.ask(SILENCE, silence_s=60)
    pump.advance(100_000)
    assert pump.tones()[-1][1] == 0


def test_acknowledge_names_the_instance():
    pump = running()
    pump.app.alarms.begin("stall")
    pump.app.alarms.begin("battery_eri")
    stall, eri = [each[0] for each in listed(pump)]
    assert stall != eri
    refused("no_such_alarm", pump.ask, ACKNOWLEDGE, instance=9_999)
    assert pump.ask(ACKNOWLEDGE, instance=eri) == {"alarm": ALARM["battery_eri"], "stands": 1}
    assert [each[2] for each in listed(pump)] == ["pending", "acknowledged"]
    assert ("alarm_acknowledged", eri) in [(e[1], e[3]) for e in pump.events()]
    pump.app.alarms.end("battery_eri")
    assert [each[0] for each in listed(pump)] == [stall]
    pump.app.alarms.end("stall")
    assert [each[2] for each in listed(pump)] == ["cured"]
    pump.ask(ACKNOWLEDGE, instance=stall)
    assert listed(pump) == []


def test_a_standing_cause_alarms_again_after_acknowledgement():
    pump = running(1_000_000)
    pump.app.alarms.begin("stall")
    number = listed(pump)[0][0]
    pump.advance(MINUTE_US)
    pump.ask(ACKNOWLEDGE, instance=number)
    pump.advance((ALARM_AGAIN_S - 1) * SECOND_US)
    assert len(begins(pump, 2_600)) == 1
    pump.advance(2 * SECOND_US)
    assert len(begins(pump, 2_600)) == 2
    again = listed(pump)[0]
    assert again[0] > number and again[2] == "pending"


def test_a_fault_alarms_again_after_a_restart_while_its_cause_stands():
    pump = running()
    pump.advance(MINUTE_US)
    for copy in ("0", "1"):
        with open("/flash/prescription." + copy, "rb") as file:
            octets = bytearray(file.read())
        octets[9] ^= 1
        with open("/flash/prescription." + copy, "wb") as file:
            file.write(octets)
    for _ in range(2):
        pump.restart()
        pump.advance(5 * SECOND_US)
        assert pump.fault == "settings_damaged"
        assert names(pump) == ["memory_critical"]
        assert len(begins(pump, 2_600)) == 1
        pump.ask(ACKNOWLEDGE, instance=listed(pump)[0][0])


def test_stopped_for_48_h():
    pump = running(1_000_000)
    pump.command(STOP)
    pump.advance(2 * DAY_US - SECOND_US)
    assert names(pump) == []
    pump.advance(2 * SECOND_US)
    assert names(pump) == ["stopped_48_h"]
    pump.command(RESUME)
    assert listed(pump)[0][2] == "cured"


def test_an_alarm_that_stops_delivery_stops_it_and_lets_it_go_on():
    pump = running()
    pump.bolus(100_000, 600 * SECOND_US)
    pump.advance(SECOND_US)
    pump.app.alarms.begin("stall")
    pump.advance(10_000)
    assert pump.mode == "simple_continuous"
    refused("alarm_stands", pump.bolus, 100_000, 600 * SECOND_US)
    pump.app.alarms.begin("battery_eos")
    pump.advance(10_000)
    assert pump.mode == "stopped" and pump.stop_reason == "alarm"
    pump.check_no_more_steps(HOUR_US)
    pump.app.alarms.end("stall")
    pump.advance(10_000)
    assert pump.mode == "stopped"
    pump.app.alarms.end("battery_eos")
    before = pump.steps
    pump.advance(10 * SECOND_US)
    assert 9 <= pump.steps - before <= 10


def test_the_test_plays_each_pattern_once():
    pump = running()
    for pattern in range(len(TONES)):
        before = len(pump.tones())
        took = pump.ask(ALARM_TEST, pattern=pattern)["duration_ms"]
        assert took == sum(ms for _, ms in TONES[pattern])
        pump.advance(5 * SECOND_US)
        heard = [hz for _, hz in pump.tones()[before:]]
        assert heard == [hz for hz, _ in TONES[pattern]] + [0]


def test_intervals_are_kept():
    pump = running()
    pump.command(SET_ALARM_INTERVALS, critical_s=120, other_s=900)
    pump.restart()
    pump.app.alarms.begin("stall")
    pump.advance(10 * MINUTE_US + SECOND_US)
    check_interval(begins(pump, 2_600), 120, 6)
    replied = pump.ask(GET_ALARMS)
    assert (replied["critical_s"], replied["other_s"]) == (120, 900)


def test_a_damaged_log_alarms_until_it_is_cleared():
    for place in ("/log/s0/now", "/faults/s0/now"):
        pump = running()
        pump.app.faults.on_latch(1, "a test", "")
        pump.cut_power()
        damage(ROOT + place, 20)
        pump.power_on()
        pump.advance(SECOND_US)
        assert "log_damaged" in names(pump), place
        pump.command(CLEAR_LOGS)
        pump.advance(SECOND_US)
        (found,) = [each for each in listed(pump) if each[1] == "log_damaged"]
        assert found[2] == "cured"
