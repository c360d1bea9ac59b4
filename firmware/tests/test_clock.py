"""The 64-bit clock over ticks that wrap, and wall time beside it."""

from random_numbers import Random

from pump.clock import Clock, WallClock

PURE = True

PERIOD = 1 << 30


class Ticks:
    """A counter that wraps. ``us``: what it would be if it did not."""

    def __init__(self, us=0, period=PERIOD):
        self.us = us
        self._period = period

    def __call__(self):
        return self.us % self._period


def test_starts_at_zero_wherever_the_ticks_are():
    for at in (0, 1, 12_345, PERIOD - 1, 7 * PERIOD + 3):
        assert Clock(Ticks(at), PERIOD).now_us() == 0


def test_follows_over_many_wraps_read_at_random_gaps():
    for period in (1 << 16, PERIOD, 1 << 62):
        random = Random(period)
        ticks = Ticks(random.below(1 << 40), period)
        began = ticks.us
        clock = Clock(ticks, period)
        for _ in range(5000):
            ticks.us += random.between(0, min(clock.longest_gap_us, 1 << 39))
            assert clock.now_us() == ticks.us - began
        if period <= PERIOD:
            assert ticks.us - began > 500 * period


def test_follows_at_every_distance_from_a_wrap():
    for before in range(-5, 6):
        for gap in (0, 1, 2, 5, 10, PERIOD // 4, PERIOD // 2, PERIOD - 1):
            ticks = Ticks(PERIOD + before)
            clock = Clock(ticks, PERIOD)
            ticks.us += gap
            assert clock.now_us() == gap, (before, gap)


def test_goes_past_64_bits_of_ticks_without_a_jump():
    ticks = Ticks(0, 1 << 62)
    clock = Clock(ticks, 1 << 62)
    for quarter in range(1, 13):
        ticks.us += 1 << 60
        assert clock.now_us() == quarter << 60


def test_stands_still_with_the_ticks():
    ticks = Ticks(PERIOD - 1)
    clock = Clock(ticks, PERIOD)
    ticks.us += 1
    assert [clock.now_us() for _ in range(3)] == [1, 1, 1]


def test_longest_gap_leaves_room_for_a_late_read():
    for period in (1 << 16, PERIOD, 1 << 62):
        clock = Clock(Ticks(0, period), period)
        assert 0 < clock.longest_gap_us <= period // 2


def test_a_whole_period_unseen_is_lost():
    # Why longest_gap_us is there: nothing can tell this from no time at all.
    ticks = Ticks(5)
    clock = Clock(ticks, PERIOD)
    ticks.us += PERIOD
    assert clock.now_us() == 0


def test_period_that_is_no_power_of_two_is_refused():
    for period in (0, -1, 3, 1_000_000, PERIOD - 1, PERIOD + 1, 3 << 20):
        try:
            Clock(Ticks(), period)
        except ValueError as error:
            assert str(period) in str(error)
        else:
            raise AssertionError("period %d was taken" % period)


def test_wall_time_is_unknown_until_it_is_set():
    ticks = Ticks()
    wall = WallClock(Clock(ticks, PERIOD))
    ticks.us += 1000
    assert wall.now_s() == 0


def test_wall_time_goes_on_from_what_was_set():
    ticks = Ticks(PERIOD - 10)
    clock = Clock(ticks, PERIOD)
    wall = WallClock(clock)
    ticks.us += 1_500_000
    wall.set(1_800_000_000)
    assert wall.now_s() == 1_800_000_000
    ticks.us += 999_999
    assert wall.now_s() == 1_800_000_000
    ticks.us += 1
    assert wall.now_s() == 1_800_000_001
    for _ in range(86_400 * 30 // 200):  # a month, read often enough
        ticks.us += 200_000_000
        clock.now_us()
    assert wall.now_s() == 1_800_000_001 + 86_400 * 30


def test_wall_time_does_not_touch_the_pump_clock():
    ticks = Ticks(17)
    clock = Clock(ticks, PERIOD)
    wall = WallClock(clock)
    expected = 0
    for wall_s in (1_800_000_000, 1_577_836_800, 7_258_118_400, 1_800_003_600, 1_799_996_400):
        ticks.us += 123_456
        expected += 123_456
        wall.set(wall_s)
        assert wall.now_s() == wall_s
        assert clock.now_us() == expected
