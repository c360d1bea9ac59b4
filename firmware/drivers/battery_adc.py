"""Battery voltage by an analogue input behind a divider.

Fulfils the battery contract of ``drivers/README.md``. ``read_mv`` takes 16 samples one after the
other, well under a millisecond.
"""

from micropython import const

_SAMPLES = const(16)
_FULL = const(65_535)  # what read_u16 gives for full_mv


class BatteryAdc:
    """``adc``: has ``read_u16()``. ``full_mv``: voltage at the input that reads as 65,535.
    ``num``/``den``: voltage of the battery over voltage at the input, the divider."""

    def __init__(self, adc, full_mv, num, den):
        self._read = adc.read_u16
        self._num = full_mv * num
        self._den = _FULL * _SAMPLES * den

    def read_mv(self):
        """Voltage of the battery now, to the nearest mV."""
        total = 0
        for _ in range(_SAMPLES):
            total += self._read()
        return (2 * total * self._num + self._den) // (2 * self._den)
