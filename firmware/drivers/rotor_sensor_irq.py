"""Rotor sensor on a pin's interrupt, for chips without PIO.

Fulfils the rotor sensor contract of ``drivers/README.md``, as long as no two rising edges fall
into a time in which interrupts are off: a flash erase keeps them off for about 45 ms.

``_rise`` runs in the interrupt (a hard one where the port has them) and alone writes the two
halves of the count, which stay below 2**30, so that none of them becomes a heap object. It
allocates nothing.
"""

from machine import Pin
from micropython import const

_LOW_COUNT = const(1 << 20)


class RotorSensorIrq:
    """``pin``: an input, pulled as the sensor needs it."""

    def __init__(self, pin):
        self._high = 0
        self._low = 0
        self._pin = pin
        try:
            pin.irq(self._rise, Pin.IRQ_RISING, hard=True)
        except TypeError:  # a port whose pins have no hard interrupts
            pin.irq(self._rise, Pin.IRQ_RISING)

    def count(self):
        """Pulses of the rotor since construction."""
        while True:
            high = self._high
            low = self._low
            if high == self._high:
                return high * _LOW_COUNT + low

    def _rise(self, pin):
        if not pin():  # a spike, over before this ran
            return
        low = self._low + 1
        if low == _LOW_COUNT:
            self._low = 0
            self._high += 1
        else:
            self._low = low
