"""The schedule's step instants against a model that works every one out from the beginning."""

from exact_programme import ExactProgramme
from random_numbers import Random

from pump.schedule import DAY_US, UNITS_PER_NL, UNITS_PER_PL, Schedule, ceil_div

PURE = True
REQUIREMENTS = {
    "test_every_instant_is_the_ideal_one": ["DEL-1"],
    "test_no_drift_after_a_hundred_thousand_segments": ["DEL-1"],
    "test_random_rate_changes_lose_and_add_nothing": ["DEL-1", "DEL-6"],
    "test_random_boluses_between_rates_lose_and_add_nothing": ["DEL-1", "DEL-6"],
}

STEP_PL = 100_000
RATES = (1, 6_000, 48_000, 100_000, 333_000, 999_000, 1_000_000, 7_919_000, 23_999_999, 24_000_000)


class Feeder:
    """Does with a schedule what motion does, and holds every step against ``programme``.

    ``emitted``: steps whose instant has come; it comes ``late_us`` after they are due.
    """

    def __init__(self, schedule, random, programme=None, late_us=0):
        self._schedule = schedule
        self._random = random
        self._programme = programme
        self._late_us = late_us
        self._queued = []
        self.emitted = 0

    def feed_until(self, until_us):
        """Take segments of random size as they begin, until ``until_us``."""
        schedule = self._schedule
        while True:
            while self._queued and self._queued[0] + self._late_us <= until_us:
                at_us = self._queued.pop(0)
                self.emitted += 1
                if self._programme:
                    assert self._programme.is_due(self.emitted, at_us), (self.emitted, at_us)
            if self._queued:
                return
            count = schedule.segment(self._random.between(1, 20))
            if count == 0:
                return
            first, slack = schedule.first_us, schedule.slack
            assert 0 <= slack < schedule.rate
            for i in range(count):
                self._queued.append(first + ceil_div(i * schedule.spacing - slack, schedule.rate))
            assert self._queued[-1] == schedule.last_us

    def settle(self, now_us):
        """Halt at ``now_us``."""
        self.feed_until(now_us)
        self._schedule.give_back(len(self._queued))
        self._queued = []
        self._schedule.settle(now_us)
        assert self._schedule.issued == self.emitted


def check_steps_asked_for(steps, programme, now_us):
    units = programme.units(now_us)
    assert 0 <= units - steps * programme.step_units < programme.step_units, (now_us, steps)


def test_every_instant_is_the_ideal_one():
    for rate in RATES:
        random = Random(rate)
        schedule = Schedule(STEP_PL)
        from_us = random.below(DAY_US)
        schedule.settle(from_us)
        schedule.run_rate(rate)
        k = 0
        for _ in range(200):
            count = schedule.segment(random.between(1, 20))
            assert 1 <= count <= 20
            for i in range(count):
                k += 1
                due_us = schedule.first_us + ceil_div(i * schedule.spacing - schedule.slack, rate)
                # The first whole microsecond by which k steps are asked for, by cross
                # multiplication.
                elapsed = due_us - from_us
                assert elapsed * rate >= k * STEP_PL * UNITS_PER_PL > (elapsed - 1) * rate
            assert schedule.last_us == due_us
            assert schedule.issued == k


def test_no_drift_after_a_hundred_thousand_segments():
    for rate in (1_000_000, 7_919_000):
        random = Random(rate)
        schedule = Schedule(STEP_PL)
        schedule.run_rate(rate)
        for _ in range(50_000):
            schedule.segment(random.between(1, 20))
        k = schedule.issued
        assert k > 400_000
        assert schedule.last_us == ceil_div(k * STEP_PL * UNITS_PER_PL, rate)
        before = schedule.last_us
        schedule.segment(1)
        assert schedule.last_us == ceil_div((k + 1) * STEP_PL * UNITS_PER_PL, rate) > before


def test_random_rate_changes_lose_and_add_nothing():
    for seed in range(8):
        random = Random(seed)
        step_pl = (STEP_PL, 10_000, 250_000, 333_333)[seed % 4]
        schedule = Schedule(step_pl)
        programme = ExactProgramme(step_pl)
        feeder = Feeder(schedule, random, programme)
        now_us = 0
        for _ in range(125):
            now_us += random.below(60_000_000)
            feeder.settle(now_us)
            check_steps_asked_for(feeder.emitted, programme, now_us)
            rate = (0, 6_000, random.between(1, 24_000_000), 24_000_000)[random.below(4)]
            schedule.run_rate(rate)
            programme.rate_from(now_us, rate)
            assert schedule.programmed_pl(now_us) == programme.picolitres(now_us)
        now_us += DAY_US // 24
        feeder.feed_until(now_us)
        check_steps_asked_for(feeder.emitted, programme, now_us)


def test_random_boluses_between_rates_lose_and_add_nothing():
    for seed in range(8):
        random = Random(seed + 100)
        schedule = Schedule(STEP_PL)
        programme = ExactProgramme(STEP_PL)
        feeder = Feeder(schedule, random, programme)
        now_us = 0
        for _ in range(40):
            volume_nl = random.between(1, 20_000)
            rate = random.between(100_000, 24_000_000)
            schedule.run_volume(volume_nl, rate)
            end_us = programme.volume_from(now_us, volume_nl, rate)
            assert schedule.end_us() == end_us
            at_us = now_us + random.below(2 * (end_us - now_us))
            if at_us < end_us and random.below(2):  # cancelled on the way
                now_us = at_us
            else:
                now_us = end_us
            feeder.settle(now_us)
            basal = (0, 1_000_000, 48_000)[random.below(3)]
            schedule.run_rate(basal)
            programme.rate_from(now_us, basal)
            now_us += random.below(60_000_000)
            feeder.settle(now_us)
            check_steps_asked_for(feeder.emitted, programme, now_us)
            assert schedule.programmed_pl(now_us) == programme.picolitres(now_us)


def test_commanded_is_never_a_step_off_at_any_instant():
    random = Random(7)
    schedule = Schedule(STEP_PL)
    schedule.run_rate(1_234_000)
    programme = ExactProgramme(STEP_PL)
    feeder = Feeder(schedule, random, programme)
    programme.rate_from(0, 1_234_000)
    now_us = 0
    while now_us < DAY_US // 24:
        now_us += random.below(5_000_000)
        feeder.feed_until(now_us)
        check_steps_asked_for(feeder.emitted, programme, now_us)


def test_bolus_ends_exactly_and_gives_its_whole_steps():
    for volume_nl, rate in ((100, 24_000_000), (1_000, 1), (12_345, 7_777_777), (10_000_000, 864)):
        schedule = Schedule(STEP_PL)
        schedule.settle(1_000)
        schedule.run_volume(volume_nl, rate)
        end_us = schedule.end_us()
        elapsed = end_us - 1_000
        assert elapsed * rate >= volume_nl * UNITS_PER_NL > (elapsed - 1) * rate
        steps = 0
        while True:
            count = schedule.segment(20)
            if count == 0:
                break
            steps += count
            assert schedule.last_us <= end_us
            assert schedule.end_us() == end_us
        assert steps == volume_nl * 1000 // STEP_PL
        assert schedule.segment(20) == 0
        schedule.settle(end_us)
        assert schedule.left_pl(end_us) == 0
        assert schedule.programmed_pl(end_us) == volume_nl * 1000


def test_parts_of_a_step_are_carried_from_piece_to_piece():
    schedule = Schedule(STEP_PL)
    now_us = 0
    steps = 0
    for _ in range(30):  # 30 x 0.7 step
        schedule.run_volume(70, 70 * 86_400)
        assert schedule.end_us() == now_us + 1_000_000
        steps += schedule.segment(20)
        now_us += 1_000_000
        schedule.settle(now_us)
    assert steps == 21
    assert schedule.programmed_pl(now_us) == 2_100_000


def test_a_stop_keeps_the_part_of_a_step_that_was_due():
    schedule = Schedule(STEP_PL)
    schedule.run_rate(8_640_000)  # a step a second
    assert schedule.segment(1) == 1
    assert schedule.first_us == 1_000_000
    schedule.settle(1_750_000)
    schedule.run_rate(0)
    assert schedule.segment(20) == 0
    assert schedule.end_us() is None
    schedule.settle(DAY_US)
    assert schedule.programmed_pl(DAY_US) == 175_000
    schedule.run_rate(8_640_000)
    schedule.segment(1)
    assert schedule.first_us == DAY_US + 250_000


def test_left_and_programmed_at_random_instants():
    random = Random(3)
    for _ in range(40):
        schedule = Schedule(STEP_PL)
        volume_nl = random.between(1, 50_000)
        rate = random.between(1, 24_000_000)
        schedule.run_volume(volume_nl, rate)
        end_us = schedule.end_us()
        for _ in range(5):
            schedule.segment(random.between(1, 20))
            at_us = random.below(min(2 * end_us, 1 << 40))
            asked = min(at_us * rate, volume_nl * UNITS_PER_NL)
            left = volume_nl * UNITS_PER_NL - asked
            assert schedule.programmed_pl(at_us) == asked // UNITS_PER_PL
            assert schedule.left_pl(at_us) == ceil_div(left, UNITS_PER_PL)
            assert (schedule.left_pl(at_us) == 0) == (at_us >= end_us)


def test_a_rate_without_end_has_nothing_left():
    schedule = Schedule(STEP_PL)
    schedule.run_rate(1_000_000)
    assert schedule.left_pl(12_345) == 0
    assert schedule.end_us() is None


def test_steps_that_came_late_stay_owed_and_are_due_at_once():
    random = Random(11)
    for _ in range(200):
        schedule = Schedule(STEP_PL)
        feeder = Feeder(schedule, random, late_us=1 + random.below(50_000))
        rate = random.between(1_000_000, 24_000_000)
        schedule.run_rate(rate)
        now_us = random.between(20_000_000, 60_000_000)
        feeder.settle(now_us)
        asked = now_us * rate // schedule.spacing
        owed = asked - feeder.emitted
        assert owed in (0, 1)
        schedule.run_rate(6_000)
        schedule.segment(1)
        assert (schedule.first_us <= now_us) == (owed == 1)
        assert schedule.programmed_pl(now_us) == now_us * rate // UNITS_PER_PL


def test_numbers_stay_small_integers_in_a_64_bit_vm():
    # Largest bolus at the slowest rate that a day allows, longest segment, smallest rate.
    biggest = 0
    for volume_nl, rate in ((10_000_000, 10_000_000), (None, 1), (None, 24_000_000)):
        schedule = Schedule(STEP_PL)
        schedule.settle(1 << 50)
        if volume_nl:
            schedule.run_volume(volume_nl, rate)
        else:
            schedule.run_rate(rate)
        for _ in range(100):
            schedule.segment(20)
            for value in schedule.__dict__.values():
                biggest = max(biggest, abs(value or 0))
            biggest = max(biggest, 20 * schedule.spacing)
    assert biggest < 1 << 62
