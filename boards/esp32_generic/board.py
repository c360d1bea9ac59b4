"""An ESP32 module (MicroPython ESP32_GENERIC) with a STEP/DIR/EN driver. Wiring in README.md,
numbers in board.toml."""

import os
from time import ticks_us

import machine
from board_data import BOARD
from machine import ADC, Pin

from drivers.adc_calibrated import AdcCalibrated
from drivers.battery_adc import BatteryAdc
from drivers.button_pin import ButtonPin
from drivers.rotor_sensor_counter import RotorSensorCounter
from drivers.serial_stdio import SerialStdio
from drivers.sounder_pwm import SounderPwm
from drivers.stepper_timer import StepperTimer
from drivers.timer_esp32 import TimerEsp32
from drivers.watchdog_machine import WatchdogMachine

# Index of messages.RESET_CAUSES. The port tells a brown-out and the EN pin as power on, and a
# crash of the chip's own software as machine.reset().
_CAUSES = {
    machine.PWRON_RESET: 1,
    machine.WDT_RESET: 2,
    machine.HARD_RESET: 4,
    machine.SOFT_RESET: 4,
}


def _unique_id():
    """The chip's 48-bit MAC address as its EUI-64."""
    mac = machine.unique_id()
    return mac[:3] + b"\xff\xfe" + mac[3:]


class Board:
    """See the boards' contract in ``drivers/README.md``."""

    def __init__(self):
        pins = BOARD["pins"]
        stepper = BOARD["stepper"]
        battery = BOARD["battery"]
        rotor = BOARD["rotor"]
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
            TimerEsp32(stepper["timer"]),
        )
        self.rotor = RotorSensorCounter(
            Pin(pins["rotor"], Pin.IN, Pin.PULL_UP), rotor["counter"], rotor["filter_ns"]
        )
        self.sounder = SounderPwm(Pin(pins["sounder"]))
        self.battery = BatteryAdc(
            AdcCalibrated(ADC(Pin(pins["battery"]), atten=ADC.ATTN_11DB), battery["full_mv"]),
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
