"""The chip's watchdog.

Fulfils the watchdog contract of ``drivers/README.md``.
"""

from machine import WDT, mem32
from micropython import const

_CLEAR = const(0x3000)  # writing here clears bits (RP2040 data sheet 2.1.2)
_ENABLE = const(1 << 30)  # of WATCHDOG: CTRL, the first register


class WatchdogMachine:
    """``timeout_ms``: from ``start`` or the last ``feed`` to the reset; at most 8388 on an
    RP2040. ``registers``: where an RP2 chip has its watchdog; without, ``stop`` does nothing."""

    def __init__(self, timeout_ms, registers=0):
        self.timeout_ms = timeout_ms
        self._registers = registers
        self._wdt = None

    def start(self):
        """Arm it. Only a reset ends that."""
        if self._wdt is None:
            self._wdt = WDT(timeout=self.timeout_ms)

    def stop(self):
        """Whoever works at the REPL is not to be reset. Where the chip allows it."""
        if self._wdt is not None and self._registers:
            mem32[self._registers + _CLEAR] = _ENABLE
            self._wdt = None

    def feed(self):
        """Put the reset off by ``timeout_ms``; nothing before ``start``. Allocates nothing."""
        if self._wdt is not None:
            self._wdt.feed()
