"""First thing MicroPython runs: outputs to the safe state; then USB without its drive, which a
host would write to while the pump does."""

from board_data import BOARD
from machine import Pin

Pin(BOARD["pins"]["enable"], Pin.OUT, value=1 - BOARD["stepper"]["enable_active"])
Pin(BOARD["pins"]["step"], Pin.OUT, value=0)

import pyb  # noqa: E402

pyb.usb_mode("VCP")
