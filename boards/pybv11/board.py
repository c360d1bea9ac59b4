"""The pyboard v1.1 (STM32F405) with a STEP/DIR/EN driver. Wiring in README.md, numbers in
board.toml."""

import os
from hashlib import sha256
from time import ticks_us

import machine
from board_data import BOARD
from machine import ADC, Pin

from drivers.battery_adc import BatteryAdc
from drivers.button_pin import ButtonPin
from drivers.rotor_sensor_irq import RotorSensorIrq
from drivers.serial_stdio import SerialStdio
from drivers.sounder_duty import SounderDuty
from drivers.stepper_timer import StepperTimer
from drivers.timer_pyb import TimerPyb
from drivers.watchdog_machine import WatchdogMachine

# Index of messages.RESET_CAUSES. The chip pulls its own reset pin for machine.reset(), so that
# HARD_RESET is either, and told as the pin.
_CAUSES = {
    machine.PWRON_RESET: 1,
    machine.WDT_RESET: 2,
    machine.HARD_RESET: 3,
    machine.SOFT_RESET: 4,
}


def _unique_id():
    """Of the chip's 12 octets (place on the wafer, lot) a digest of 8."""
    return sha256(machine.unique_id()).digest()[:8]


class Board:
    """See the boards' contract in ``drivers/README.md``."""

    def __init__(self):
        pins = BOARD["pins"]
        stepper = BOARD["stepper"]
        battery = BOARD["battery"]
        self.name = BOARD["name"]
        self.step_pl = BOARD["plant"]["step_pl"]
        self.steps_per_pulse = BOARD["rotor"]["steps_per_pulse"]
        self.ticks_us = ticks_us
        self.ticks_period = BOARD["clock"]["ticks_period"]
        self.root = BOARD["files"]["root"]
        self.sums = "sums"
        self.unique_id = _unique_id()
        self.reset_cause = _CAUSES.get(machine.reset_cause(), 0)
        self.entropy = os.urandom
        self.stepper = StepperTimer(
            Pin(pins["step"], Pin.OUT, value=0),
            Pin(pins["dir"], Pin.OUT, value=stepper["forward"]),
            Pin(pins["enable"], Pin.OUT, value=1 - stepper["enable_active"]),
            stepper["enable_active"],
            stepper["forward"],
            stepper["pulse_us"],
            stepper["gap_us"],
            TimerPyb(stepper["timer"]),
        )
        self.rotor = RotorSensorIrq(Pin(pins["rotor"], Pin.IN, Pin.PULL_UP))
        self.sounder = SounderDuty(Pin(pins["sounder"]))
        self.battery = BatteryAdc(
            ADC(Pin(pins["battery"])),
            battery["full_mv"],
            battery["num"],
            battery["den"],
        )
        # Once armed nothing stops it here, and whoever works at the REPL would be reset.
        self.watchdog = None
        if BOARD.get("profile") != "development":
            self.watchdog = WatchdogMachine(BOARD["watchdog"]["timeout_ms"])
        self.service_button = ButtonPin(
            Pin(pins["service"], Pin.IN, Pin.PULL_UP), BOARD["service"]["active"]
        )
        self.port = SerialStdio()


def build():
    """The board, outputs in the safe state."""
    return Board()
