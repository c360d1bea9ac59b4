"""``cisterna monitor``: what it shows, on a terminal and elsewhere; it disturbs nobody."""

from __future__ import annotations

from collections.abc import Callable

from cisterna.bench_virtual import VirtualBench
from host_tools.tests.conftest import Cisterna, Other


def running(cisterna: Cisterna) -> None:
    """A pump that runs baclofen, filled."""
    assert cisterna("program", "baclofen_flex", "--yes").code in (0, 1)  # flex may be refused
    assert cisterna("program", "baclofen", "--yes", "--confirm-total", "100 ug/day").code == 0
    words = ("refill", "--measured", "0 mL", "--fill", "20 mL", "--reason", "first fill", "--yes")
    assert cisterna(*words).code == 0


def test_one_look_where_there_is_no_terminal(cisterna: Cisterna, bench: VirtualBench) -> None:
    running(cisterna)
    bench.advance(days=2)
    shown = cisterna("monitor")
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert max(map(len, lines)) <= 100
    for words in (
        "simple continuous",
        "0.2 mL/day = 100 ug/day of baclofen",
        "19.6 mL of 20 mL",
        "no alarm, no fault",
        "refill recorded",
        "Not a medical device",
    ):
        assert words in " ".join(shown.out.split()), words
    assert bench.truth()["steps"] == 4000


def test_as_json_it_is_the_status_with_events(cisterna: Cisterna, bench: VirtualBench) -> None:
    running(cisterna)
    found = cisterna("monitor", "--json").json
    status = cisterna("status", "--json").json
    assert found["account"] == status["account"]
    assert found["prescription"] == status["prescription"]
    assert found["outlook"].keys() == status["outlook"].keys()
    assert found["events"][-1]["sequence"] == status["status"]["next_event"] - 1
    assert bench.truth()["steps"] == 0


def test_it_lives_on_a_terminal_and_others_use_the_pump_meanwhile(
    cisterna: Cisterna, bench: VirtualBench, in_terminal: Callable[..., Other]
) -> None:
    running(cisterna)
    other = in_terminal("monitor", "--every", "200 ms")
    other.wait_for("Last events")
    for _ in range(3):
        assert cisterna("status").code == 0
    assert cisterna("bolus", "10 ug", "--over", "10 min", "--yes").code == 0
    assert "single bolus" in other.wait_for("single bolus")
    assert "20 uL" in other.wait_for("20 uL")
    bench.advance(minutes=10)
    other.wait_for("bolus done")
    other.type("\x03")
    assert other.end() == 130
    assert "the pump goes on as it is" in other.shown
    assert "Traceback" not in other.shown
    assert bench.truth()["steps"] == 200


def test_what_is_stopped_and_low_is_loud(cisterna: Cisterna, bench: VirtualBench) -> None:
    running(cisterna)
    assert cisterna("stop", "--yes").code == 0
    shown = cisterna("monitor", "--once")
    assert "STOPPED (command)" in shown.out
    assert bench.truth()["steps"] == 0


def test_how_often_has_limits(cisterna: Cisterna) -> None:
    shown = cisterna("monitor", "--every", "1 ms")
    assert shown.code == 2
    assert "--every" in shown.err
