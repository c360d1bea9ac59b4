"""Rotor sensor on a pulse counter of the chip (``machine.Counter``): no interrupt a pulse.

Fulfils the rotor contract of ``drivers/README.md``. On an ESP32 a pin's interrupt is scheduled and
may be dropped; its counter misses no pulse that is longer than ``filter_ns``.
"""

from machine import Counter


class RotorSensorCounter:
    """``pin``: an input, pull set by the board. ``unit``: which counter of the chip.
    ``filter_ns``: pulses and gaps shorter than this are noise."""

    def __init__(self, pin, unit, filter_ns):
        self._counter = Counter(unit, pin, edge=Counter.RISING, filter_ns=filter_ns)

    def count(self):
        """Rotor pulses since construction. Allocates when they are many."""
        return self._counter.value()
