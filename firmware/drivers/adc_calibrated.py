"""Analogue input that is calibrated, on ports whose raw one is not: the ESP32's full scale differs
from chip to chip and its curve is bent. Takes the place of a ``machine.ADC`` for
``battery_adc``."""


class AdcCalibrated:
    """``adc``: has ``read_uv``. ``full_mv``: what 65,535 stands for."""

    def __init__(self, adc, full_mv):
        self._adc = adc
        self._full_mv = full_mv

    def read_u16(self):
        """0 to 65,535 for 0 to ``full_mv``. Allocates."""
        raw = self._adc.read_uv() * 65_535 // (self._full_mv * 1_000)
        return raw if raw < 65_535 else 65_535
