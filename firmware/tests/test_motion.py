"""Motion in a whole pump: every pulse at its instant, and accounted for before it happens."""

from exact_programme import ExactProgramme
from random_numbers import Random
from stepper_virtual import StepperVirtual
from virtual_pump import (
    DAY_US,
    HOUR_US,
    ROOT,
    SECOND_US,
    STEP_PL,
    Pump,
    check_balance,
    refused,
    running,
)

from pump.journal import HotRecord
from pump.ledger import HOT_LAYOUT
from pump_wire.messages import CANCEL_BOLUS, GET_STATUS, RESUME, STOP

TIMEOUT_S = 60
REQUIREMENTS = {
    "test_every_pulse_comes_at_its_ideal_instant": ["DEL-1"],
    "test_random_commands_lose_and_add_nothing": ["DEL-1", "DEL-6", "ACC-1"],
    "test_account_is_never_too_low_after_a_cut_at_a_random_instant": ["ACC-2"],
}


def check_pulses(pump, programme):
    """Every pulse is where the exact programme has it, and none is missing."""
    count = 0
    for at_us in pump.pulses():
        count += 1
        assert programme.is_due(count, at_us), (count, at_us)
    assert count == programme.steps(pump.now_us)


# -- right instants ---------------------------------------------------------------------------


def test_every_pulse_comes_at_its_ideal_instant():
    for step_pl, rate, hours in (
        (STEP_PL, 48_000, 48),
        (STEP_PL, 1_000_000, 6),
        (STEP_PL, 7_919_000, 2),
        (STEP_PL, 24_000_000, 1),
        (250_000, 999_000, 24),
        (10_000, 20_000_000, 1),  # steps 43 ms apart: fed ahead of the last pulse
        (1_000_000, 24_000_000, 12),
    ):
        pump = Pump(step_pl=step_pl)
        pump.advance(777)
        pump.refill()
        from_us = pump.program(rate)["uptime_us"]
        assert from_us == 777
        programme = ExactProgramme(step_pl)
        programme.rate_from(from_us, rate)
        pump.advance(hours * HOUR_US + 123_456)
        assert pump.fault == ""
        check_pulses(pump, programme)
        assert pump.plant.reverse_steps == 0


def test_minimum_rate_mode_runs_at_six_microlitres_a_day():
    pump = Pump()
    pump.advance(1_000)
    pump.refill()
    pump.program(mode=1)
    programme = ExactProgramme(STEP_PL)
    programme.rate_from(1_000, 6_000)
    pump.advance(10 * DAY_US)
    assert pump.mode == "minimum_rate"
    assert pump.steps == 600
    check_pulses(pump, programme)


def test_random_commands_lose_and_add_nothing():
    boluses = too_slow = 0
    for seed in range(6):
        random = Random(seed)
        step_pl = (STEP_PL, STEP_PL, 20_000)[seed % 3]
        pump = running(1_000_000, step_pl=step_pl)
        programme = ExactProgramme(step_pl)
        programme.rate_from(1_000, 1_000_000)
        basal = 1_000_000
        halted = False
        bolus_end_us = 0
        for _ in range(40):
            pump.advance(random.below(40 * SECOND_US))
            now_us = pump.now_us
            if bolus_end_us - 3_000 <= now_us < bolus_end_us:  # about to change over by itself
                pump.advance(bolus_end_us - now_us)
                now_us = bolus_end_us
            in_bolus = now_us < bolus_end_us
            if bolus_end_us and not in_bolus:
                bolus_end_us = 0
            choice = random.below(6)
            if choice == 0:
                basal = random.between(48, 24_000) * 1_000
                done = pump.program(basal)  # keeps a stop
            elif choice == 1 and in_bolus:
                done = pump.command(CANCEL_BOLUS)
            elif choice == 2:
                done = pump.command(STOP)
                halted = True
            elif choice in (3, 5) and halted:
                done = pump.command(RESUME)
                halted = False
            elif choice == 4:
                pump.refill(random.between(5_000, 20_000) * 1_000)
                continue
            elif not in_bolus and not halted:
                duration_us = random.between(15, 90) * SECOND_US
                volume_nl = random.between(step_pl // 1000, 24_000_000 * duration_us // DAY_US)
                rate = (volume_nl * DAY_US + duration_us // 2) // duration_us
                if rate < basal:
                    assert refused("below_limit", pump.bolus, volume_nl, duration_us).value == rate
                    too_slow += 1
                    continue
                pump.bolus(volume_nl, duration_us)
                boluses += 1
                bolus_end_us = programme.volume_from(now_us, volume_nl, rate)
                programme.rate_from(bolus_end_us, basal)
                continue
            else:
                continue
            assert done["uptime_us"] == now_us
            if bolus_end_us > now_us:
                programme.forget_from(bolus_end_us)
                bolus_end_us = 0
            programme.rate_from(now_us, 0 if halted else basal)
            check_balance(pump)
        pump.advance(SECOND_US)
        assert pump.fault == ""
        check_pulses(pump, programme)
        check_balance(pump)
        assert pump.plant.reverse_steps == 0
    assert boluses >= 20 and too_slow >= 5, (boluses, too_slow)


def test_programmed_and_delivered_are_never_a_step_apart():
    random = Random(3)
    pump = running(12_000_000)
    pump.bolus(500, 3 * SECOND_US)
    for _ in range(200):
        pump.advance(random.below(SECOND_US))
        status = pump.ask(GET_STATUS)
        behind = status["programmed_pl"] - status["steps"] * STEP_PL
        assert 0 <= behind < STEP_PL, behind


# -- accounted for before -----------------------------------------------------------------------


class AccountFirst(StepperVirtual):
    """Looks into the flash at every segment: its steps must be there already."""

    segments = 0

    def queue(self, first_us, slack, spacing, rate, count):
        stored = HotRecord(ROOT + "/steps", HOT_LAYOUT).load()
        outstanding = self._count + sum(self._more[4::5])
        assert stored[0] >= self.start_steps + self.emitted() + outstanding + count, stored
        AccountFirst.segments += 1
        super().queue(first_us, slack, spacing, rate, count)

    start_steps = 0


def test_a_segment_is_durable_before_its_first_pulse():
    for step_pl in (STEP_PL, 10_000):
        AccountFirst.segments = 0
        pump = running(20_000_000, stepper=AccountFirst, step_pl=step_pl)
        pump.advance(60 * SECOND_US)
        pump.bolus(15_000, 60 * SECOND_US)
        pump.advance(90 * SECOND_US)
        assert pump.fault == ""
        assert AccountFirst.segments > 30


def test_account_is_never_too_low_after_a_cut_at_a_random_instant():
    random = Random(8)
    pump = running(2_000_000)
    for _ in range(60):
        pump.advance(random.below(60 * SECOND_US))
        most_pl = 500_000
        if random.below(2):
            pump.bolus(random.between(700, 5_000), 30 * SECOND_US)
            pump.advance(random.below(29 * SECOND_US))
            most_pl = 2_000_000
        true_steps = pump.plant.pulses
        lost = pump.app.ledger.steps() - true_steps  # of earlier cuts
        pump.restart()
        excess_pl = (pump.app.ledger.steps() - true_steps - lost) * STEP_PL
        assert 0 <= excess_pl <= most_pl, excess_pl
        pump.advance(1_000)
        assert pump.fault == ""
        assert pump.mode == "simple_continuous"  # the basal rate comes back, a bolus does not
        assert pump.ask(GET_STATUS)["bolus_pl"] == 0
        assert pump.ask(GET_STATUS)["rate_nl_day"] == 2_000_000
