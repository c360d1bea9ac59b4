"""Sounder on a PWM output: a square wave for a passive buzzer.

Fulfils the sounder contract of ``drivers/README.md``. Between tones the PWM is off and the pin is
low, so that nothing flows through the buzzer. ``off`` allocates nothing.
"""

from machine import PWM, Pin
from micropython import const

_LEAST_HZ = const(100)
_MOST_HZ = const(10_000)
_HALF = const(32_768)  # of 65,535


class SounderPwm:
    """``pin``: the buzzer's, not shared with another PWM output of the same slice or timer."""

    def __init__(self, pin):
        self._pin = pin
        self._pwm = None
        pin.init(Pin.OUT, value=0)

    def play(self, hz):
        """Sound ``hz`` until the next ``play`` or ``off``. Raises ValueError beyond 100 to
        10,000."""
        if not _LEAST_HZ <= hz <= _MOST_HZ:
            raise ValueError("tone of %d Hz: 100 to 10000" % hz)
        self._pwm = PWM(self._pin, freq=hz, duty_u16=_HALF)  # also makes the pin its output

    def off(self):
        """Silence."""
        if self._pwm is not None:
            self._pwm.deinit()
            self._pwm = None
        self._pin.init(Pin.OUT, value=0)
