"""The chip's watchdog.

Fulfils the watchdog contract of ``drivers/README.md``.
"""

from machine import WDT


class WatchdogMachine:
    """``timeout_ms``: from ``start`` or the last ``feed`` to the reset; at most 8388 on an
    RP2040."""

    def __init__(self, timeout_ms):
        self.timeout_ms = timeout_ms
        self._wdt = None

    def start(self):
        """Arm it. Only a reset ends that."""
        if self._wdt is None:
            self._wdt = WDT(timeout=self.timeout_ms)

    def feed(self):
        """Put the reset off by ``timeout_ms``; nothing before ``start``. Allocates nothing."""
        if self._wdt is not None:
            self._wdt.feed()
