"""One-shot timer of microseconds on a 32-bit timer of an STM32, through ``pyb``.

Fulfils the timer contract of ``drivers/README.md``, which on this port takes a wrapper:
``machine.Timer`` counts in milliseconds.

The counter runs through at 1 MHz and a compare channel, which drives no pin, interrupts. The
callback runs in that interrupt. It also comes, once more, each time the counter has gone round
(2**30 us); whoever waits must expect that. The chip fetches nothing from its flash while that is
erased or programmed, not even an interrupt handler: a callback due then comes after it.
"""

from machine import disable_irq, enable_irq
from micropython import const
from pyb import Timer

_HZ = const(1_000_000)
_MASK = const((1 << 30) - 1)  # longest period that MicroPython gives a 32-bit timer
_CHANNEL = const(1)


class TimerPyb:
    """``number``: 2 or 5, the timers of 32 bits; ``pyb.Servo`` uses 5."""

    def __init__(self, number):
        self._timer = timer = Timer(number)
        timer.init(prescaler=timer.source_freq() // _HZ - 1, period=_MASK)
        self._channel = timer.channel(_CHANNEL, Timer.OC_TIMING)

    def init(self, mode, period, tick_hz, callback, hard):
        """Call ``callback`` ``period`` us (10 to 2**30 - 1) from now. A wait under way is dropped.
        Allocates nothing."""
        channel = self._channel
        state = disable_irq()
        channel.compare((self._timer.counter() + period) & _MASK)
        channel.callback(callback)  # pyright: ignore[reportAttributeAccessIssue]
        enable_irq(state)

    def deinit(self):
        """Drop the wait: the callback does not come."""
        self._channel.callback(None)  # pyright: ignore[reportAttributeAccessIssue]
