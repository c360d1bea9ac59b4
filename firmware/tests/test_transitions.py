"""Every mode with every command: the mode it leads to, or the refusal, is that of the pump's
table (``planning.TRANSITIONS``) and of the one written down here; judged by what then runs.
Random sequences of commands against the volume limits are ``cisterna bench limits``.
"""

from therapy_pump import HOUR_US, PERIODIC, drug, pattern, prescribe, treated
from virtual_pump import SECOND_US

from pump.planning import COMMANDS as COLUMNS
from pump.planning import TRANSITIONS
from pump.prescription import Refusal
from pump_wire.messages import (
    CANCEL_BOLUS,
    MODES,
    REFUSALS,
    REQUEST_BOLUS,
    RESUME,
    RESUME_BRIDGE,
    SET_CLOCK,
    START_BOLUS,
    START_PRIME,
    STOP,
    STOP_ALL,
)

TIMEOUT_S = 300
REQUIREMENTS = {
    "test_every_mode_with_every_command": ["THE-1"],
    "test_a_bridge_that_was_cancelled_goes_on_from_every_mode": ["THE-1"],
    "test_every_bolus_ends_in_the_mode_it_came_from": ["THE-1"],
    "test_a_limit_holds_without_a_plan": ["DEL-5"],
    "test_boluses_are_as_large_as_they_should_be": ["DEL-4"],
}
PATIENT = {"patient_nl": 5_000, "patient_s": 300, "lockout_s": 3_600, "patient_max": 6}
PARTS = {0: pattern((0, 480_000), (60, 960_000), (120, 2_400_000), (180, 480_000))}
BASAL = {
    "stopped": {"mode": 0},
    "minimum_rate": {"mode": 1},
    "simple_continuous": {"mode": 2},
    "flex": {"mode": 3},
    "periodic_bolus": dict(PERIODIC, mode=4, rate_nl_day=240_000),
}
BOLUSES = ("single_bolus", "patient_bolus", "priming_bolus")


def basal(pump, name, **values):
    """Run a basal mode."""
    wanted = dict(PATIENT)
    wanted.update(BASAL[name])
    wanted.update(values)
    prescribe(pump, PARTS if name == "flex" else None, **wanted)


def single(pump):
    pump.command(START_BOLUS, volume_nl=20_000, duration_us=600 * SECOND_US)


def prime(pump):
    pump.command(START_PRIME, volume_nl=300_000, duration_us=HOUR_US)


def into(pump, mode, under="simple_continuous"):
    """Bring a pump into ``mode``, a bolus on top of basal mode ``under``."""
    if mode in BASAL:
        basal(pump, mode)
    elif mode == "empty":
        basal(pump, under)
        pump.app.ledger.fill_pl = 1_400_100_000
        pump.advance(3 * HOUR_US)
        assert (pump.mode, pump.stop_reason) == ("stopped", "empty reservoir")
    elif mode == "alarmed":
        basal(pump, under)
        pump.app.delivery.held = STOP_ALL
        pump.app.delivery.obey()
    elif mode == "halted":
        basal(pump, under)
        pump.command(STOP)
    elif mode == "bridge_bolus":
        basal(pump, "simple_continuous")
        basal(pump, under, concentration_ng_ml=600_000, bridge=1)
    else:
        basal(pump, under)
        if mode == "single_bolus":
            single(pump)
        elif mode == "patient_bolus":
            pump.command(REQUEST_BOLUS)
        else:
            prime(pump)
    pump.advance(SECOND_US)


RUNS = ("minimum_rate", "simple_continuous", "flex", "periodic_bolus")
COMMANDS = {
    "single": single,
    "patient": lambda pump: pump.command(REQUEST_BOLUS),
    "prime": prime,
    "cancel": lambda pump: pump.command(CANCEL_BOLUS),
    "stop": lambda pump: pump.command(STOP),
    "resume": lambda pump: pump.command(RESUME),
    "resume_bridge": lambda pump: pump.command(RESUME_BRIDGE),
    "prescribe": lambda pump: prescribe(
        pump,
        mode=1,
        concentration_ng_ml=pump.app.store.current["concentration_ng_ml"],
    ),
    "stronger": lambda pump: prescribe(
        pump, mode=1, concentration_ng_ml=2_000_000, bridge=2, why="bench"
    ),
    "clock": lambda pump: pump.command(SET_CLOCK, wall_s=1_900_000_000, utc_offset_min=60),
}
ORDER = (  # as in COLUMNS
    "single",
    "patient",
    "prime",
    "cancel",
    "stop",
    "resume",
    "resume_bridge",
    "prescribe",
    "stronger",
)
NAMED = {"w": "wrong_mode", "b": "bolus_running", "g": "bridge_running", "n": "no_bridge"}
BEGUN = ("single_bolus", "patient_bolus", "priming_bolus")


def tabled(mode, command, under):
    """The same as ``wanted``, from the pump's own table."""
    if mode in MODES:
        row = MODES.index(mode)
    else:
        row = len(MODES) + (mode != "halted")
    column = ORDER.index(command)
    told = chr(TRANSITIONS[row * len(COLUMNS) + column])
    if told == "+":
        return BEGUN[column]
    if told == "<":
        return "minimum_rate" if command in ("prescribe", "stronger") else under
    if told == "0":
        return "stopped"
    return NAMED.get(told) or "bridge_bolus"


def wanted(mode, command, under):
    """Mode that ``command`` leads to from ``mode``, or the name of the refusal: THE table."""
    stays = mode in ("halted", "empty", "alarmed")
    now = "stopped" if stays else mode
    if command == "clock":
        return now
    if command == "stop":
        return "stopped"
    if command == "resume":
        return under if mode == "halted" else "wrong_mode"
    if command == "resume_bridge":
        return "no_bridge"
    if command in ("prescribe", "stronger"):
        if mode == "bridge_bolus":
            return "bridge_running" if command == "stronger" else mode
        return "stopped" if stays else "minimum_rate"
    if command == "cancel":
        return under if mode in BOLUSES or mode == "bridge_bolus" else "wrong_mode"
    if mode == "bridge_bolus":
        return "bridge_running"
    if mode == "patient_bolus" and command == "patient":
        return "lockout"  # what the patient is told first
    if mode in BOLUSES:
        return "bolus_running"
    if mode in ("alarmed", "empty"):
        return "alarm_stands"  # what is told first
    if now == "stopped" and command != "prime":
        return "wrong_mode"
    return {"single": "single_bolus", "patient": "patient_bolus", "prime": "priming_bolus"}[
        command
    ]


def found(pump, command):
    try:
        COMMANDS[command](pump)
    except Refusal as refusal:
        return REFUSALS[refusal.code][0]
    return pump.mode


def check_column(command):
    """``command`` in every mode: what it leads to, what is refused, that nothing else moves."""
    tried = 0
    for mode in tuple(BASAL) + ("halted", "empty", "alarmed", "bridge_bolus") + BOLUSES:
        for under in ("simple_continuous", "flex") if mode not in BASAL else ("",):
            pump = treated()
            into(pump, mode, under or mode)
            before = pump.mode
            told = wanted(mode, command, under or mode)
            result = found(pump, command)
            assert result == told, (mode, under, command, result, told)
            if command != "clock" and told not in ("lockout", "alarm_stands", "no_bridge"):
                assert told == tabled(mode, command, under or mode), (mode, command, told)
            if told not in MODES:
                assert pump.mode == before
            steps = pump.steps
            pump.advance(60 * SECOND_US)
            moves = pump.steps > steps
            assert not (moves and pump.mode == "stopped")
            assert pump.fault == ""
            tried += 1
    assert tried == 5 + 2 * 7


def test_every_mode_with_every_command():
    assert len(TRANSITIONS) == len(COLUMNS) * (len(MODES) + 2)
    assert len(COMMANDS) == len(ORDER) + 1 == len(COLUMNS) + 1
    for command in COMMANDS:
        check_column(command)


def test_a_bridge_that_was_cancelled_goes_on_from_every_mode():
    for mode in tuple(BASAL) + ("halted",) + BOLUSES:
        pump = treated()
        into(pump, "bridge_bolus", mode if mode in BASAL else "simple_continuous")
        pump.command(CANCEL_BOLUS)
        assert pump.mode == (mode if mode in BASAL else "simple_continuous")
        if mode == "halted":
            pump.command(STOP)
        elif mode in BOLUSES:
            COMMANDS[("single", "patient", "prime")[BOLUSES.index(mode)]](pump)
        told = tabled(mode, "resume_bridge", mode)
        if mode == "halted":
            told = "stopped"  # until it is resumed
        assert found(pump, "resume_bridge") == told, mode
        if mode == "halted":
            pump.command(RESUME)
            assert pump.mode == "bridge_bolus"


def test_every_bolus_ends_in_the_mode_it_came_from():
    for under in BASAL:
        for bolus, command, span_us in (
            ("single_bolus", "single", 600 * SECOND_US),
            ("patient_bolus", "patient", 300 * SECOND_US),
            ("priming_bolus", "prime", HOUR_US),
        ):
            if under == "stopped" and command != "prime":
                continue
            pump = treated()
            basal(pump, under)
            COMMANDS[command](pump)
            assert pump.mode == bolus
            pump.advance(span_us - SECOND_US)
            assert pump.mode == bolus
            pump.advance(2 * SECOND_US)
            assert pump.mode == under


def test_boluses_are_as_large_as_they_should_be():
    for volume_nl, duration_us in ((100, 5 * SECOND_US), (50_000, HOUR_US), (380_000, HOUR_US)):
        pump = treated()
        total = 0
        for _ in range(25):
            pump.advance(7_654_321)
            before = pump.steps
            pump.bolus(volume_nl, duration_us)
            pump.advance(duration_us)
            while pump.mode == "single_bolus":
                pump.advance(1_000)
            moved = pump.steps - before
            assert abs(moved * 100 - volume_nl) <= max(100, volume_nl // 100), (volume_nl, moved)
            total += moved * 100
        assert abs(total - 25 * volume_nl) <= max(100, 25 * volume_nl // 200)


# -- limits ---------------------------------------------------------------------------------------


def test_a_limit_holds_without_a_plan():
    pump = treated()
    basal(pump, "simple_continuous", hour_nl=100_000)
    pump.advance(2 * HOUR_US)
    pump.app.limits.spare_nl = lambda *_: 1 << 62  # boluses are planned as if there were no limit
    before = pump.steps
    begun_us = pump.now_us
    single(pump)
    pump.advance(1_200 * SECOND_US)
    pump.command(START_BOLUS, volume_nl=200_000, duration_us=1_200 * SECOND_US)
    pump.advance(1_200 * SECOND_US)
    assert pump.mode == "simple_continuous"
    assert "bolus_cut" in pump.event_names()
    # the basal rate is held until a window has moved on, and goes on then
    assert "limit_held" in pump.event_names()
    pump.advance(begun_us + HOUR_US - pump.now_us)
    assert pump.steps - before <= 1_000
    still = pump.steps
    pump.advance(HOUR_US)
    assert "limit_over" in pump.event_names()
    assert still < pump.steps <= still + 1_000
    assert pump.fault == ""


def test_drugs_of_a_mixture_are_read_back():
    pump = treated()
    prescribe(pump, {7: drug("bupivacaine", 20_000_000)}, bridge=2, why="bench")
    assert pump.app.store.current["parts"][:2] == b"\x07\x13"
