"""stepper_timer on the timers of ports that have no emulator: on their recording fake, with a
clock that the test moves and callbacks that the test makes late, stale or lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cisterna.boards import board_data
from host_tools.tests.test_boards import fake_of

_MASK = (1 << 30) - 1
_BOARDS = ("esp32_generic", "pybv11")


def ticks_diff(a: int, b: int) -> int:
    return ((a - b + (1 << 29)) & _MASK) - (1 << 29)


class Bench:
    """A board's stepper; ``now_us`` is the chip's time, ``pulses`` when STEP rose."""

    def __init__(self, name: str) -> None:
        self.now_us = 5_000
        self.pulses: list[int] = []
        self.due_us: int | None = None  # when the timer's interrupt comes
        self.callback: Any = None
        fake = fake_of(
            name,
            **{
                "time.ticks_us": lambda: self.now_us & _MASK,
                "time.ticks_diff": ticks_diff,
                "time.ticks_add": lambda a, b: (a + b) & _MASK,
                "machine.Timer.init": self._init,
                "machine.Timer.deinit": self._off,
                "pyb.Timer.counter": lambda: self.now_us & _MASK,
                "pyb.timerchannel.compare": self._compare,
                "pyb.timerchannel.callback": self._callback,
            },
        )
        self.fake = fake
        self.stepper = fake.module("board").build().stepper
        step = board_data(name)["pins"]["step"]
        made = (call for call in fake.calls if call.name == "machine.Pin")
        self._step = next(call.on for call in made if call.args[0] == step)
        self.gap_us = board_data(name)["stepper"]["gap_us"]
        self.stepper.attach(SimpleNamespace(now_us=lambda: self.now_us))

    def _init(self, *, mode: int, period: int, tick_hz: int, callback: Any) -> None:
        assert tick_hz == 1_000_000
        assert period < 1 << 30
        self.due_us, self.callback = self.now_us + period, callback

    def _off(self) -> None:
        self.due_us = None

    def _compare(self, value: int) -> None:
        self.due_us = self.now_us + ((value - self.now_us) & _MASK)

    def _callback(self, callback: Any) -> None:
        if callback is None:
            self.due_us = None
        self.callback = callback

    def fire(self, late_us: int = 0) -> None:
        """Let the timer's interrupt come."""
        assert self.due_us is not None
        self.now_us = max(self.now_us, self.due_us + late_us)
        self.due_us = None
        self.call()

    def call(self) -> None:
        """The callback, whether it is due or not."""
        if self.callback is None:
            return
        before = len(self.fake.calls)
        self.callback(None)
        levels = [c.args[0] for c in self.fake.calls[before:] if c.on is self._step and c.args]
        assert levels in ([], [1, 0])
        if levels:
            self.pulses.append(self.now_us)

    def run(self, late_us: int = 0) -> None:
        while self.due_us is not None:
            self.fire(late_us)


@pytest.fixture(params=_BOARDS)
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


def due(first_us: int, slack: int, spacing: int, rate: int, count: int) -> list[int]:
    return [first_us - (slack - i * spacing) // rate for i in range(count)]


def test_pulses_come_when_they_are_due_over_the_wrap_of_the_ticks(bench: Bench) -> None:
    spacing, rate = 8_640_000_000_000, 6_000  # 1440 s, longer than the ticks' 1074 s
    bench.stepper.queue(100_000_000, 7, spacing, rate, 5)
    bench.run()
    assert bench.pulses == due(100_000_000, 7, spacing, rate, 5)
    assert bench.stepper.emitted() == 5


def test_late_callbacks_do_not_add_up(bench: Bench) -> None:
    bench.stepper.queue(1_000_000, 0, 10_000, 1, 20)
    bench.run(late_us=700)
    assert bench.pulses == [at + 700 for at in due(1_000_000, 0, 10_000, 1, 20)]


def test_pulses_due_together_keep_their_gap(bench: Bench) -> None:
    bench.now_us = 1_000_000
    bench.stepper.queue(0, 0, 10, 1, 6)
    bench.run()
    gaps = [b - a for a, b in zip(bench.pulses, bench.pulses[1:], strict=False)]
    assert gaps == [bench.gap_us] * 5


def test_a_stale_callback_does_nothing(bench: Bench) -> None:
    bench.stepper.queue(1_000_000_000, 0, 10_000, 1, 2)  # three hops ahead
    for _ in range(10):  # scheduled before a halt, say
        bench.call()
    assert bench.pulses == []
    bench.run()
    assert bench.pulses == due(1_000_000_000, 0, 10_000, 1, 2)


def test_a_callback_after_halt_does_nothing(bench: Bench) -> None:
    bench.stepper.queue(1_000_000, 0, 10_000, 1, 2)
    assert bench.stepper.halt() == 0
    bench.now_us = 2_000_000
    bench.call()
    assert bench.pulses == []
    assert bench.due_us is None
    assert bench.stepper.emitted() == 0


def test_a_lost_callback_is_made_up_for(bench: Bench) -> None:
    bench.stepper.queue(1_000_000, 0, 10_000, 1, 3)
    bench.fire()
    bench.now_us, bench.due_us = 1_500_000, None  # the scheduler was full
    assert bench.stepper.emitted() == 1
    bench.run()
    assert bench.stepper.emitted() == 3
    assert bench.pulses[1] == 1_500_000 + bench.gap_us
