"""Who gets from the console to MicroPython's REPL: the profile in ``board_data`` decides.

``development``: whoever sends a Ctrl-C. Anything else is ``sealed``: nobody, unless the service
button is held when ``run`` is called; then it is as in development until the next start.

``main.py`` has shut the REPL before it calls ``run``. On the stock images boot.py runs before USB
is switched on, and nothing that a host sends is looked at earlier than in main.py.
"""

import sys
from time import sleep_ms

from board_data import BOARD
from micropython import const, kbd_intr

_CTRL_C = const(3)
_STEADY_MS = const(20)  # the button must read the same before and after: it bounces
_RESTART_MS = const(5_000)  # a start writes to flash: a pump that cannot start must not wear it


def _held():
    """True if the board has a service button and it is held now."""
    number = BOARD.get("pins", {}).get("service")
    if number is None:
        return False
    from machine import Pin

    active = BOARD["service"]["active"]
    pin = Pin(number, Pin.IN, Pin.PULL_DOWN if active else Pin.PULL_UP)
    for _ in range(2):
        sleep_ms(_STEADY_MS)
        if pin.value() != active:
            return False
    return True


def run(start):
    """Run ``start()``. Open: it may be interrupted, and what it raises is the caller's. Sealed:
    never returns and never raises; when ``start`` ends, however it ends, the board restarts."""
    try:
        if BOARD.get("profile") == "development" or _held():
            kbd_intr(_CTRL_C)
            BOARD["profile"] = "development"  # nobody arms what would reset whoever works there
            sealed = False
        else:
            sealed = True
    except Exception as error:
        sys.print_exception(error)
        sealed = True
    if not sealed:
        start()
        return
    try:
        start()
    except BaseException as error:
        sys.print_exception(error)
    _restart()


def _restart():
    import machine

    while True:
        try:
            sleep_ms(_RESTART_MS)
            machine.reset()
        except BaseException:
            pass
