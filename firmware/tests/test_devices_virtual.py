"""The virtual twins of rotor sensor, sounder, battery, watchdog and button."""

import asyncio

from devices_virtual import (
    BatteryVirtual,
    ButtonVirtual,
    RotorVirtual,
    SounderVirtual,
    WatchdogVirtual,
)
from virtual_pump import Pump, running
from world import FREE

SECOND_US = 1_000_000


class _Reset(Exception):
    pass


def _reset():
    raise _Reset()


def refused(play, hz):
    try:
        play(hz)
    except ValueError as error:
        return str(hz) in str(error)
    return False


def test_three_counts_part_where_the_rotor_stalls():
    pump = running()  # a step a second
    rotor = RotorVirtual(pump.stepper, pump.plant)
    pump.advance(20_500_000)
    steps = pump.stepper.emitted()
    assert steps >= 20
    assert pump.stepper.commanded() == steps == pump.plant.steps
    assert steps - 2 < rotor.count() * 2 <= steps
    pump.plant.inject("stall")
    before = rotor.count()
    pump.advance(10 * SECOND_US)
    assert pump.stepper.commanded() == pump.stepper.emitted() == steps + 10
    assert rotor.count() == before
    pump.plant.clear("stall")
    pump.advance(10 * SECOND_US)
    assert rotor.count() == before + 5
    assert RotorVirtual(pump.stepper, pump.plant).count() == 0


def test_commanded_leaves_out_what_waits_and_what_halt_dropped():
    pump = Pump()
    stepper = pump.stepper
    now = pump.now_us
    stepper.queue(now + 1000, 0, 1000, 1, 20)
    stepper.queue(now + 21_000, 0, 1000, 1, 20)
    assert (stepper.commanded(), stepper.emitted()) == (0, 0)
    pump.world.now_us = now + 25_500
    assert (stepper.commanded(), stepper.emitted()) == (25, 25)
    stepper.halt()
    assert (stepper.commanded(), stepper.emitted()) == (25, 25)
    stepper.queue(now + 30_000, 0, 1000, 1, 3)
    pump.world.now_us = now + 40_000
    assert (stepper.commanded(), stepper.emitted()) == (28, 28)


def test_sounder_tells_what_changes():
    with open("tones.txt", "w") as trace:
        now = [5]
        sounder = SounderVirtual(lambda: now[0], trace)
        sounder.off()
        sounder.play(2000)
        now[0] = 9
        sounder.play(2000)
        sounder.play(2700)
        now[0] = 12
        sounder.off()
        sounder.off()
        assert refused(sounder.play, 99)
        assert refused(sounder.play, 10_001)
    with open("tones.txt") as trace:
        assert trace.read() == "tone 5 2000\ntone 9 2700\ntone 12 0\n"
    SounderVirtual(lambda: 0, None).play(100)


def test_battery_has_the_plants_voltage():
    pump = Pump(powered=False)
    battery = BatteryVirtual(pump.plant)
    assert battery.read_mv() == 3000
    pump.plant.set_battery(2_345)
    assert battery.read_mv() == 2_345
    for wrong in (-1, 20_001):
        try:
            pump.plant.set_battery(wrong)
        except ValueError as error:
            assert str(wrong) in str(error)
        else:
            raise AssertionError("%d mV was taken" % wrong)
    assert battery.read_mv() == 2_345


def test_watchdog_ends_the_world_at_its_instant():
    pump = Pump()
    world = pump.world
    world.on_deadline = _reset
    watchdog = WatchdogVirtual(5000, world)
    watchdog.feed()  # not armed
    assert world.deadline_us == FREE
    pump.advance(60 * SECOND_US)
    watchdog.start()
    for _ in range(3):
        pump.advance(4_999_999)
        watchdog.feed()
    fed_us = pump.now_us
    try:
        pump.advance(2 * SECOND_US)
        watchdog.start()  # a second time does nothing
        pump.advance(3600 * SECOND_US)
    except _Reset:
        pass
    else:
        raise AssertionError("it did not run out")
    assert pump.now_us == fed_us + 5 * SECOND_US


def test_watchdog_that_a_task_feeds_never_runs_out():
    pump = Pump()
    pump.world.on_deadline = _reset
    watchdog = WatchdogVirtual(5000, pump.world)

    async def feed():
        while True:
            watchdog.feed()
            await asyncio.sleep_ms(4000)

    watchdog.start()
    task = asyncio.create_task(feed())
    pump.advance(86_400 * SECOND_US)
    assert not task.done()


def test_button_is_where_the_bench_holds_it():
    button = ButtonVirtual(True)
    assert button.pressed()
    button.held = False
    assert not button.pressed()
