"""First thing MicroPython runs: outputs to the safe state, nothing else."""

from board_data import BOARD
from machine import Pin

Pin(BOARD["pins"]["enable"], Pin.OUT, value=1 - BOARD["stepper"]["enable_active"])
Pin(BOARD["pins"]["step"], Pin.OUT, value=0)
