"""The pump's schedule against exact rationals, over programmes that hypothesis makes up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pump.schedule import Schedule

DAY_US = 86_400_000_000
MOST_RATE_NL_DAY = 24_000_000


@dataclass
class Piece:
    """From ``from_us`` on ``rate_nl_day``, until ``volume_nl`` when that is not None."""

    from_us: int
    rate_nl_day: int
    volume_nl: int | None
    before_nl: Fraction

    def asked_nl(self, at_us: int) -> Fraction:
        """Volume asked for by ``at_us`` since the programme began."""
        asked = Fraction((at_us - self.from_us) * self.rate_nl_day, DAY_US)
        if self.volume_nl is not None:
            asked = min(asked, Fraction(self.volume_nl))
        return self.before_nl + asked

    def end_us(self) -> int | None:
        """First whole microsecond at which all of it is asked for."""
        if self.volume_nl is None:
            return None
        return self.from_us + math.ceil(Fraction(self.volume_nl * DAY_US, self.rate_nl_day))


class Pump:
    """A schedule, what motion does with it, and the piece that runs as rationals."""

    def __init__(self, step_pl: int) -> None:
        self.step_nl = Fraction(step_pl, 1000)
        self.schedule = Schedule(step_pl)
        self.piece = Piece(0, 0, None, Fraction(0))
        self.now_us = 0
        self.emitted = 0
        self.queued: list[int] = []

    def asked_nl(self, at_us: int) -> Fraction:
        return self.piece.asked_nl(at_us)

    def emit(self, at_us: int) -> None:
        """The pulse at ``at_us`` happens: it must be the first microsecond by which its volume is
        asked for."""
        self.emitted += 1
        need = self.emitted * self.step_nl
        assert self.asked_nl(at_us) >= need
        assert at_us <= self.piece.from_us or self.asked_nl(at_us - 1) < need

    def live(self, until_us: int, sizes: list[int]) -> None:
        """Feed segments of the ``sizes``, round and round, until ``until_us``."""
        schedule = self.schedule
        turn = 0
        while True:
            while self.queued and self.queued[0] <= until_us:
                self.emit(self.queued.pop(0))
            if self.queued:
                break
            count = schedule.segment(sizes[turn % len(sizes)])
            turn += 1
            if count == 0:
                break
            assert 0 <= schedule.slack < schedule.rate
            for i in range(count):
                lead = Fraction(i * schedule.spacing - schedule.slack, schedule.rate)
                self.queued.append(schedule.first_us + math.ceil(lead))
            assert self.queued[-1] == schedule.last_us
        self.now_us = until_us
        self.check()

    def check(self) -> None:
        asked = self.asked_nl(self.now_us)
        assert 0 <= asked - self.emitted * self.step_nl < self.step_nl
        assert self.schedule.programmed_pl(self.now_us) == math.floor(asked * 1000)
        assert self.schedule.end_us() == self.piece.end_us()
        left = Fraction(0)
        if self.piece.volume_nl is not None:
            left = self.piece.before_nl + self.piece.volume_nl - asked
        assert self.schedule.left_pl(self.now_us) == math.ceil(left * 1000)

    def change(self, rate_nl_day: int, volume_nl: int | None) -> None:
        """Halt now and run another piece, as motion and delivery do."""
        self.schedule.give_back(len(self.queued))
        self.queued.clear()
        self.schedule.settle(self.now_us)
        assert self.schedule.issued == self.emitted
        before = self.asked_nl(self.now_us)
        if volume_nl is None:
            self.schedule.run_rate(rate_nl_day)
        else:
            self.schedule.run_volume(volume_nl, rate_nl_day)
        self.piece = Piece(self.now_us, rate_nl_day, volume_nl, before)
        self.check()


rates = st.one_of(
    st.integers(1, MOST_RATE_NL_DAY),
    st.sampled_from(
        [1, 6_000, 48_000, 100_000, 1_000_000, MOST_RATE_NL_DAY - 1, MOST_RATE_NL_DAY]
    ),
)
step_volumes = st.one_of(st.just(100_000), st.integers(10_000, 2_000_000))
segment_sizes = st.lists(st.integers(1, 20), min_size=1, max_size=5)
changes = st.tuples(
    st.one_of(st.just(0), rates),
    st.one_of(st.none(), st.integers(1, 20_000)),
    st.integers(0, 10**9),  # how long until the next change, in steps' time / 1e8
    segment_sizes,
    st.booleans(),
)


@pytest.mark.requirement("DEL-1", "DEL-6")
@settings(max_examples=300, deadline=None)
@given(step_pl=step_volumes, programme=st.lists(changes, min_size=1, max_size=12))
def test_any_programme_is_followed_to_the_microsecond(
    step_pl: int, programme: list[tuple[int, int | None, int, list[int], bool]]
) -> None:
    pump = Pump(step_pl)
    for rate, volume, steps_e8, sizes, to_the_end in programme:
        if rate == 0:
            volume = None
        pump.change(rate, volume)
        end_us = pump.piece.end_us()
        if end_us is not None and to_the_end:
            if Fraction(volume or 0) / pump.step_nl > 300:
                continue
            pump.live(end_us, sizes)
        else:
            spacing_us = step_pl * 86_400_000 // max(rate, 1)
            pump.live(pump.now_us + steps_e8 * spacing_us // 10**8, sizes)


@pytest.mark.requirement("DEL-1")
@settings(max_examples=200, deadline=None)
@given(rate=rates, from_us=st.integers(0, 10**15), sizes=segment_sizes)
def test_a_constant_rate_does_not_drift(rate: int, from_us: int, sizes: list[int]) -> None:
    schedule = Schedule(100_000)
    schedule.settle(from_us)
    schedule.run_rate(rate)
    steps = 0
    for turn in range(500):
        steps += schedule.segment(sizes[turn % len(sizes)])
    exact = Fraction(steps * 100_000 * 86_400_000, rate)
    assert schedule.last_us == from_us + math.ceil(exact)


@pytest.mark.requirement("DEL-6")
@settings(max_examples=300, deadline=None)
@given(
    rate=st.integers(100_000, MOST_RATE_NL_DAY),
    volume=st.one_of(st.integers(1, 20_000), st.integers(1, 30).map(lambda steps: 100 * steps)),
    part=st.fractions(0, 1),
    sizes=segment_sizes,
)
def test_a_bolus_ended_anywhere_leaves_the_exact_rest(
    rate: int, volume: int, part: Fraction, sizes: list[int]
) -> None:
    pump = Pump(100_000)
    pump.change(rate, volume)
    end_us = pump.piece.end_us()
    assert end_us is not None
    pump.live(math.floor(end_us * part), sizes)
    pump.change(1_000_000, None)
    pump.live(pump.now_us + 60_000_000, sizes)
