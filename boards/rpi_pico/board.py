"""The Raspberry Pi Pico (RP2040) with a STEP/DIR/EN driver. Wiring in README.md, numbers in
board.toml."""

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
# registers do (RP2040 data sheet, WATCHDOG: REASON and VREG_AND_CHIP_RESET: CHIP_RESET).
_WATCHDOG = const(0x40058000)
_WATCHDOG_REASON = const(0x40058008)
_RAN_OUT = const(1 << 0)
_FORCED = const(1 << 1)
_CHIP_RESET = const(0x40064008)
_HAD_POWER_ON = const(1 << 8)
_HAD_RUN_PIN = const(1 << 16)


def _reset_cause():
    reason = machine.mem32[_WATCHDOG_REASON]
    if reason & _FORCED:
        return 4
    if reason & _RAN_OUT:
        return 2
    chip = machine.mem32[_CHIP_RESET]
    if chip & _HAD_RUN_PIN:
        return 3
    return 1 if chip & _HAD_POWER_ON else 0


def _step_dir():
    pins = BOARD["pins"]
    stepper = BOARD["stepper"]
    return StepperPio(
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


def _four_phase():
    from drivers.stepper_fourphase_pio import StepperFourPhasePio  # takes memory only if used

    pins = BOARD["pins"]
    stepper = BOARD["stepper"]
    return StepperFourPhasePio(
        Pin(pins["step"], Pin.OUT, value=0),
        Pin(pins["coils"], Pin.OUT, value=0),
        stepper["pulse_us"],
        stepper["four_phase_gap_us"],
        stepper["emitter"],
        stepper["counter"],
        stepper["phases"],
    )


class Board:
    """See the boards' contract in ``drivers/README.md``."""

    def __init__(self):
        pins = BOARD["pins"]
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
        self.stepper = _four_phase() if BOARD["stepper"]["kind"] == "four_phase" else _step_dir()
        self.rotor = RotorSensorPio(
            Pin(pins["rotor"], Pin.IN, Pin.PULL_UP), BOARD["rotor"]["machine"]
        )
        self.sounder = SounderPwm(Pin(pins["sounder"]))
        self.battery = BatteryAdc(
            ADC(Pin(pins["battery"])), battery["full_mv"], battery["num"], battery["den"]
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
