"""The Raspberry Pi Pico 2 (RP2350, ARM cores) with a STEP/DIR/EN driver. Wiring in README.md,
numbers in board.toml."""

import os
from time import ticks_us

import machine
from board_data import BOARD
from machine import ADC, Pin
from micropython import const

from drivers.battery_adc import BatteryAdc
from drivers.button_pin import ButtonPin
from drivers.rotor_sensor_pio import RotorSensorPio
from drivers.serial_stdio import SerialStdio
from drivers.sounder_pwm import SounderPwm
from drivers.stepper_pio import StepperPio
from drivers.watchdog_machine import WatchdogMachine

# Why the chip was reset, as index of messages.RESET_CAUSES. machine.reset_cause() of the rp2 port
# tells neither the reset pin from power on nor machine.reset() from a watchdog that ran out; two
# registers do (WATCHDOG: REASON and POWMAN: CHIP_RESET, as pico-sdk has them for the RP2350 in
# hardware/regs/watchdog.h and powman.h).
_WATCHDOG = const(0x400D8000)
_WATCHDOG_REASON = const(0x400D8008)
_RAN_OUT = const(1 << 0)
_FORCED = const(1 << 1)
_CHIP_RESET = const(0x4010002C)
_HAD_POWER = const(3 << 16)  # power on, brown-out
_HAD_RUN_PIN = const(1 << 18)


def _reset_cause():
    reason = machine.mem32[_WATCHDOG_REASON]
    if reason & _FORCED:
        return 4
    if reason & _RAN_OUT:
        return 2
    chip = machine.mem32[_CHIP_RESET]
    if chip & _HAD_RUN_PIN:
        return 3
    return 1 if chip & _HAD_POWER else 0


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
        self.unique_id = machine.unique_id()
        self.reset_cause = _reset_cause()
        self.entropy = os.urandom
        self.stepper = StepperPio(
            Pin(pins["step"], Pin.OUT, value=0),
            Pin(pins["dir"], Pin.OUT, value=stepper["forward"]),
            Pin(pins["enable"], Pin.OUT, value=1 - stepper["enable_active"]),
            stepper["enable_active"],
            stepper["forward"],
            stepper["pulse_us"],
            stepper["gap_us"],
            stepper["emitter"],
            stepper["counter"],
        )
        self.rotor = RotorSensorPio(
            Pin(pins["rotor"], Pin.IN, Pin.PULL_UP), BOARD["rotor"]["machine"]
        )
        self.sounder = SounderPwm(Pin(pins["sounder"]))
        self.battery = BatteryAdc(
            ADC(Pin(pins["battery"])),
            battery["full_mv"],
            battery["num"],
            battery["den"],
        )
        self.watchdog = WatchdogMachine(BOARD["watchdog"]["timeout_ms"], _WATCHDOG)
        self.service_button = ButtonPin(
            Pin(pins["service"], Pin.IN, Pin.PULL_UP), BOARD["service"]["active"]
        )
        if "patient" in pins:
            from drivers.button_wait import ButtonWait  # takes memory only if used

            self.patient_button = ButtonWait(
                Pin(pins["patient"], Pin.IN, Pin.PULL_UP), BOARD["service"]["active"]
            )
        self.port = SerialStdio()


def build():
    """The board, outputs in the safe state."""
    return Board()
