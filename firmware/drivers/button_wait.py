"""A button that is waited for, by the pin's interrupt: the patient's.

Fulfils the contract of a button that is waited for, in ``drivers/README.md``.
"""

from asyncio import ThreadSafeFlag, sleep_ms

from machine import Pin
from micropython import const

from drivers.button_pin import ButtonPin

_BOUNCE_MS = const(30)


class ButtonWait(ButtonPin):
    """``pin`` and ``active`` as of ``ButtonPin``."""

    def __init__(self, pin, active):
        super().__init__(pin, active)
        self._flag = flag = ThreadSafeFlag()
        pin.irq(lambda _: flag.set(), Pin.IRQ_RISING if active else Pin.IRQ_FALLING)

    async def wait_press(self):
        """Return when the button has been pressed and is still down 30 ms later."""
        while True:
            await self._flag.wait()
            await sleep_ms(_BOUNCE_MS)
            self._flag.clear()
            if self.pressed():
                return
