"""``cisterna alarms`` on a virtual pump: listed, silenced, acknowledged; its sounder is heard."""

from __future__ import annotations

import struct

import pytest

from cisterna.bench_virtual import VirtualBench
from host_tools.tests.conftest import Cisterna, Lie
from pump_wire import messages

ANNOUNCED = messages.TONES[messages.ANNOUNCEMENT][0][0]  # Hz
LOW = messages.ALARMS[messages.ALARM["low_reservoir"]]


def low(cisterna: Cisterna, bench: VirtualBench) -> int:
    """Bring a new pump below its low mark; returns the instance."""
    assert cisterna("program", "baclofen", "--yes").code == 0
    filled = cisterna("refill", "--measured", "0 mL", "--fill", "1.9 mL", "--yes")
    assert filled.code == 0
    bench.advance(seconds=30)
    (alarm,) = cisterna("alarms", "--json").json["alarms"]
    assert (alarm["name"], alarm["critical"], alarm["state"]) == (LOW[0], False, "pending")
    return alarm["instance"]


@pytest.fixture
def heard(bench: VirtualBench) -> list[int]:
    """What sounds for alarms, in Hz, each from when on it does; 0 for silence. The tone that
    announces a command, 1,500 Hz, and the silence after it are left out."""
    tones: list[int] = []
    announced = False

    def listen(_: int, hz: int) -> None:
        nonlocal announced
        if hz != ANNOUNCED and not (announced and hz == 0):
            tones.append(hz)
        announced = hz == ANNOUNCED

    bench.listen(listen)
    return tones


def test_a_new_pump_has_none(cisterna: Cisterna, bench: VirtualBench) -> None:
    assert not bench.truth()["pulses"]
    shown = cisterna("alarms")
    assert shown.code == 0
    assert "Alarms" in shown.out
    assert "none" in shown.out
    assert "critical every 10 min, others every 1 h" in shown.out


def test_an_alarm_is_listed_and_shown_in_status_and_heard(
    cisterna: Cisterna, bench: VirtualBench, heard: list[int]
) -> None:
    number = low(cisterna, bench)
    for shown in (cisterna("alarms"), cisterna("status")):
        assert shown.code == 0
        assert f"Alarm {number}" in shown.out
        assert LOW[3] in shown.out
    assert f"to do: {LOW[4]}" in cisterna("alarms").out
    assert cisterna("status", "--json").json["status"]["alarm"] == messages.ALARM[LOW[0]]
    assert f"ALARM (non-critical): {LOW[3]}" in cisterna("log").out
    assert heard == [2000, 0]


def test_acknowledged_by_its_instance(
    cisterna: Cisterna, bench: VirtualBench, heard: list[int]
) -> None:
    number = low(cisterna, bench)
    refused = cisterna("alarms", "--ack", "9999")
    assert refused.code == 1
    assert "no such alarm" in refused.err
    shown = cisterna("alarms", "--ack", str(number))
    assert shown.code == 0
    assert f"alarm {number} acknowledged" in shown.out
    bench.advance(hours=3)
    assert heard == [2000, 0]
    assert cisterna("alarms", "--json").json["alarms"][0]["state"] == "acknowledged"


def test_of_one_whose_cause_is_gone_nothing_is_left_to_do_but_to_acknowledge_it(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    number = low(cisterna, bench)
    assert f"to do: {LOW[4]}" in cisterna("alarms").out
    assert cisterna("refill", "--measured", "1.9 mL", "--fill", "20 mL", "--yes").code == 0
    bench.advance(seconds=30)
    shown = cisterna("alarms").out
    assert "cured, raised" in shown
    assert f"to do: nothing; its cause is gone: cisterna alarms --ack {number}" in shown
    assert LOW[4] not in shown
    assert cisterna("alarms", "--ack", str(number)).code == 0
    assert cisterna("alarms", "--json").json["alarms"] == []
    assert bench.truth()["steps"] < 5


def test_silenced_for_a_while(cisterna: Cisterna, bench: VirtualBench, heard: list[int]) -> None:
    low(cisterna, bench)
    shown = cisterna("alarms", "--silence", "2 h")
    assert shown.code == 0
    assert "silenced 1 for 2 h" in shown.out
    bench.advance(hours=1, minutes=59)
    assert heard == [2000, 0]
    bench.advance(minutes=2)
    assert heard == [2000, 0] * 2


def test_a_test_is_heard(cisterna: Cisterna, bench: VirtualBench) -> None:
    heard: list[int] = []
    bench.listen(lambda _, hz: heard.append(hz))
    for name in ("other", "critical", "announcement"):
        assert cisterna("alarms", "--test", name).code == 0
        bench.advance(seconds=5)
    assert heard == [2000, 0, *([2600, 2000] * 3), 0, 1500, 0]


def test_intervals_are_set(cisterna: Cisterna, bench: VirtualBench) -> None:
    assert bench.powered
    shown = cisterna("alarms", "--critical-every", "5 min")
    assert shown.code == 0
    assert "critical every 5 min, others every 1 h" in shown.out
    shown = cisterna("alarms", "--others-every", "2 h", "--json")
    assert (shown.json["critical_s"], shown.json["other_s"]) == (300, 7200)


@pytest.mark.parametrize(
    "words",
    [
        ("--silence", "10 s"),
        ("--silence", "25 h"),
        ("--silence", "10"),
        ("--ack", "x"),
        ("--test", "loud"),
        ("--critical-every", "59 s"),
        ("--others-every", "2 days"),
        ("--silence", "1 h", "--ack", "1"),
    ],
)
def test_bad_input_is_refused(cisterna: Cisterna, words: tuple[str, ...]) -> None:
    refused = cisterna("alarms", *words)
    assert refused.code == 2
    assert words[0] in refused.err or words[0][2:] in refused.err or "more than one" in refused.err


@pytest.mark.usefixtures("bench")
def test_alarms_that_the_message_table_does_not_have(cisterna: Cisterna, lie: Lie) -> None:
    records = struct.pack(messages.ALARM_FORMAT, 3, 1, 9, 0)
    lie(messages.GET_ALARMS, {"records": records})
    assert "unknown state 9" in cisterna("alarms").out
    assert cisterna("status", "--json").json["alarms"][0]["state"] == "unknown state 9"
    lie(messages.GET_ALARMS, {"records": records[:7]})
    for words in (("alarms",), ("status",)):
        shown = cisterna(*words)
        assert shown.code == 1
        assert "7 octets are no whole number of alarms" in shown.err
