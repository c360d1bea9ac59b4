"""The supervisor and the battery in a whole pump."""

from devices_virtual import BatteryVirtual, WatchdogVirtual
from test_alarms import names
from virtual_pump import DAY_US, HOUR_US, SECOND_US, running

from pump.prescription import Refusal
from pump_wire.messages import GET_STATUS

REQUIREMENTS = {
    "test_the_watchdog_bites_when_a_task_is_gone": ["FLT-2"],
    "test_the_watchdog_bites_when_motion_does_not_come_back": ["FLT-2"],
    "test_eri_by_voltage_under_load": ["ALM-6"],
    "test_eri_by_calendar": ["ALM-6"],
    "test_eos_stops_delivery": ["ALM-6"],
    "test_low_battery_reset": ["ALM-6"],
}
TIMEOUT_S = 120
TIMEOUT_MS = 5_000
SELDOM_MS = 60_000  # where only days matter: each look takes its time


class _Bitten(Exception):
    pass


def watched(rate=1_000_000, timeout_ms=TIMEOUT_MS):
    """A running pump with watchdog and battery, started anew."""
    pump = running(rate)
    restart(pump, timeout_ms)
    return pump


def restart(pump, timeout_ms=SELDOM_MS):
    """Power off and on, with the devices a board has."""
    pump.cut_power()
    make = pump._make_stepper

    def with_devices(plant, world_us, trace):
        pump.battery = BatteryVirtual(plant)
        pump.watchdog = WatchdogVirtual(timeout_ms, pump.world)
        return make(plant, world_us, trace)

    pump._make_stepper = with_devices
    pump.power_on()
    pump._make_stepper = make

    def bitten():
        raise _Bitten

    pump.world.on_deadline = bitten


def bites(pump, within_us):
    """True if the watchdog resets within so long."""
    try:
        pump.advance(within_us)
    except _Bitten:
        return True
    return False


def test_a_pump_that_lives_feeds_its_watchdog():
    pump = watched()
    assert not bites(pump, DAY_US // 4)
    assert pump.world.deadline_us <= pump.now_us + TIMEOUT_MS * 1000
    assert pump.ask(GET_STATUS)["lag_ms"] == 0


def test_the_watchdog_bites_when_a_task_is_gone():
    pump = watched()
    assert not bites(pump, HOUR_US)
    began_us = pump.now_us
    dict(pump.app.supervisor.tasks)["link"].cancel()
    assert bites(pump, 2 * TIMEOUT_MS * 1000)
    assert pump.now_us - began_us <= 2 * TIMEOUT_MS * 1000
    assert pump.fault == "task_silent" and not pump.stepper.enabled


def test_the_watchdog_bites_when_motion_does_not_come_back():
    pump = watched(8_640_000)
    assert not bites(pump, HOUR_US)
    pump.app.motion._task.cancel()
    assert bites(pump, 60 * SECOND_US)
    assert pump.fault == "task_silent" and not pump.stepper.enabled


def test_a_latched_fault_is_no_hang():
    for command in (False, True):
        pump = watched(8_640_000)
        assert not bites(pump, HOUR_US)
        pump.flash.fail_at(1, True)
        if command:
            try:
                pump.bolus(10_000, 60 * SECOND_US)
            except Refusal:
                pass
        assert not bites(pump, HOUR_US), command
        assert pump.fault == "storage_failed"
        pump.check_no_more_steps()


def test_a_look_that_fails_is_a_fault_and_the_pump_is_still_watched():
    pump = watched()

    def fail():
        raise ValueError("no")

    pump.app.supervisor.looks.append(fail)
    assert not bites(pump, HOUR_US)
    assert pump.fault == "task_failed"


def test_eri_by_voltage_under_load():
    pump = watched(timeout_ms=SELDOM_MS)
    pump.plant.inject("battery_sag", amount=500)
    while not pump.app.battery._low:
        pump.advance(SECOND_US)
    assert names(pump) == []  # once is not enough
    pump.plant.clear("battery_sag")
    pump.advance(HOUR_US)
    assert names(pump) == []
    pump.plant.inject("battery_sag", amount=500)
    pump.advance(HOUR_US)
    assert names(pump) == ["battery_eri"]
    assert pump.mode == "simple_continuous"
    assert pump.ask(GET_STATUS)["battery_mv"] == 2_500


def test_eri_by_calendar():
    pump = watched(48_000, SELDOM_MS)
    pump.app.battery.days = 2_188
    pump.advance(DAY_US + SECOND_US)
    assert names(pump) == []
    pump.advance(DAY_US)
    assert names(pump) == ["battery_eri"]
    restart(pump)
    pump.advance(SECOND_US)
    assert pump.ask(GET_STATUS)["service_days"] == 2_190
    assert names(pump) == ["battery_eri"]


def test_eos_stops_delivery():
    pump = watched(timeout_ms=SELDOM_MS)
    pump.plant.set_battery(2_300)
    pump.advance(HOUR_US)
    assert names(pump) == ["battery_eri", "battery_eos"]
    assert pump.mode == "stopped" and pump.stop_reason == "alarm"
    pump.check_no_more_steps()
    restart(pump)
    steps = pump.steps
    pump.advance(DAY_US)
    assert pump.steps == steps and "battery_eos" in names(pump)


def test_low_battery_reset():
    pump = watched(timeout_ms=SELDOM_MS)
    pump.plant.set_battery(2_500)
    restart(pump)
    pump.advance(SECOND_US)
    assert names(pump) == ["low_battery_reset"]


def test_no_battery_says_nothing():
    pump = watched(timeout_ms=SELDOM_MS)
    pump.plant.set_battery(100)
    restart(pump)
    pump.advance(DAY_US)
    assert names(pump) == []
