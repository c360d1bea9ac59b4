"""Modes and bridge bolus in two minutes of a pump's life, so that every bench can show them: what
each command does is the pump's table, what runs is what the plant saw (THE-1, THE-4)."""

from __future__ import annotations

import pytest

from cisterna import Bench, Programmer
from cisterna.errors import Refused
from hil_tests.evidence import Measured
from hil_tests.test_therapy_truth import PATIENT, prescribe, prescription
from pump import planning
from pump_wire import messages

DEAD_NL = 10_000  # a catheter of a few centimetres: the bridge is over in 36 s at 24 mL/day
FAST = {"rate_nl_day": 24_000_000, "tubing_nl": DEAD_NL, "catheter_nl": 0}
NAMES = {"w": "wrong_mode", "b": "bolus_running", "g": "bridge_running", "n": "no_bridge"}
BOLUSES = (messages.SINGLE_BOLUS, messages.PATIENT_BOLUS, messages.PRIMING_BOLUS)
COMMANDS: tuple[tuple[messages.Message, dict[str, int]], ...] = (
    (messages.START_BOLUS, {"volume_nl": 20_000, "duration_us": 120_000_000, "agreed": 0}),
    (messages.REQUEST_BOLUS, {}),
    (messages.START_PRIME, {"volume_nl": DEAD_NL, "duration_us": 60_000_000}),
    (messages.CANCEL_BOLUS, {}),
    (messages.STOP, {}),
    (messages.RESUME, {}),
    (messages.RESUME_BRIDGE, {}),
)


def told(row: int, column: int, basal: int) -> int | str:
    """The mode that a command leads to, or the refusal, from the pump's table."""
    entry = chr(planning.TRANSITIONS[row * len(planning.COMMANDS) + column])
    if entry in NAMES:
        return NAMES[entry]
    if entry == "+":
        return BOLUSES[column]
    return {"<": basal, "0": messages.STOPPED, "=": messages.BRIDGE_BOLUS}[entry]


def walk(pump: Programmer, row: int, basal: int, columns: str, kept: bool = False) -> int:
    """Send commands by the digits of ``columns``, each in the mode that the one before led to,
    from the mode of ``row``; each does what the table says. ``kept``: there is a bridge bolus to
    go on with. Returns the mode at the end."""
    mode = row
    for column in map(int, columns):
        message, values = COMMANDS[column]
        wanted = told(row, column, basal)
        if message is messages.RESUME_BRIDGE and not kept:
            wanted = "no_bridge"
        try:
            pump.confirm(pump.prepare(message, values))
        except Refused as refusal:
            assert refusal.name == wanted, (mode, message.name)
        else:
            mode = pump.status().mode
            assert mode == wanted, message.name
            row = mode
            if mode == messages.STOPPED and message is messages.STOP:
                row = len(messages.MODES)
    return mode


def steps(bench: Bench, seconds: float) -> int:
    before = bench.truth()["steps"]
    bench.advance(us=round(seconds * 1_000_000))
    return bench.truth()["steps"] - before


@pytest.mark.requirement("THE-1", "THE-4")
@pytest.mark.needs("advance", "truth", "refill", "power")
def test_every_command_does_what_the_table_says(
    bench: Bench, pump: Programmer, measured: Measured
) -> None:
    bench.refill_reservoir(20_000_000, 500_000)
    slow = {**FAST, "rate_nl_day": 8_640_000, **PATIENT, "patient_nl": 100_000, "patient_s": 600}
    prescribe(pump, **slow)
    first = {"measured_nl": 0, "fill_nl": 20_000_000, "reason": "first"}
    pump.confirm(pump.prepare(messages.RECORD_REFILL, first))
    simple = messages.SIMPLE_CONTINUOUS
    # illegal ones first, then bolus and back, prime and back; a patient has a session of its own
    assert walk(pump, simple, simple, "35600256320563") == simple
    assert walk(pump, simple, simple, "403") == messages.STOPPED
    assert steps(bench, 5) == 0
    assert walk(pump, len(messages.MODES), simple, "25") == messages.PRIMING_BOLUS
    assert walk(pump, messages.PRIMING_BOLUS, messages.STOPPED, "34") == messages.STOPPED
    assert walk(pump, len(messages.MODES), simple, "5") == simple
    assert 4 <= steps(bench, 5) <= 6  # 8.64 mL/day: a step a second

    prescribe(pump, **FAST)
    begun = bench.truth()
    new = {**FAST, "concentration_ng_ml": 2_000_000, "rate_nl_day": 8_640_000}
    with pytest.raises(Refused, match="agreed"):  # neither a bridge nor a reason for none
        prescribe_without_bridge(pump, new)
    prescribe(pump, **new, bridge=1)
    assert walk(pump, messages.BRIDGE_BOLUS, simple, "0256") == messages.BRIDGE_BOLUS
    bench.advance(seconds=2)
    assert walk(pump, messages.BRIDGE_BOLUS, simple, "3") == simple
    beside = steps(bench, 3)  # of the new programme, while the bridge waits
    assert walk(pump, simple, simple, "6", kept=True) == messages.BRIDGE_BOLUS
    bench.advance(seconds=3)
    pump.close()
    bench.cut_power()
    bench.power_on()
    with bench.programmer() as pump:
        assert pump.status().mode == messages.BRIDGE_BOLUS
        while pump.status().mode == messages.BRIDGE_BOLUS:
            bench.advance(us=200_000)
        moved = bench.truth()["steps"] - begun["steps"] - beside
        measured("THE-4", moved, "steps of 100 of the old drug, over a cancelled bridge and a cut")
        assert abs(moved - DEAD_NL * 1000 // begun["step_pl"]) <= 3
        assert pump.status().rate_nl_day == new["rate_nl_day"]
        assert 4 <= steps(bench, 5) <= 6


def prescribe_without_bridge(pump: Programmer, values: dict[str, int]) -> None:
    """Commit another concentration, all else agreed to."""
    wanted = prescription(**values)
    echo = pump.prepare(messages.SET_PRESCRIPTION, wanted).echo
    wanted["total_nl"] = echo["new_total_nl"]
    wanted["agreed"] = 46
    pump.confirm(pump.prepare(messages.SET_PRESCRIPTION, wanted))
