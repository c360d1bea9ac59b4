"""Sounder on a PWM output that stays connected: a square wave for a passive buzzer.

Fulfils the sounder contract of ``drivers/README.md`` on ports whose PWM does not take its pin back
once it was another output (stm32: ports/stm32/machine_pwm.c selects the pin's function on
construction only). Between tones the duty is nought, so the pin is low and the timer goes on.
"""

from machine import PWM
from micropython import const

_LEAST_HZ = const(100)
_MOST_HZ = const(10_000)
_HALF = const(32_768)  # of 65,535


class SounderDuty:
    """``pin``: the buzzer's, not shared with another PWM output of the same timer."""

    def __init__(self, pin):
        self._pwm = PWM(pin, freq=_LEAST_HZ, duty_u16=0)

    def play(self, hz):
        """Sound ``hz`` until the next ``play`` or ``off``. Raises ValueError beyond 100 to
        10,000."""
        if not _LEAST_HZ <= hz <= _MOST_HZ:
            raise ValueError("tone of %d Hz: 100 to 10000" % hz)
        self._pwm.init(freq=hz, duty_u16=_HALF)

    def off(self):
        """Silence."""
        self._pwm.duty_u16(0)
