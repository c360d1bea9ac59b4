"""What is wired to the emulated Pico beside the step driver: rotor sensor, battery, service button
and buzzer.
"""

from __future__ import annotations

from typing import Any

from cisterna.bench import Edge
from cisterna.emulator import EmulatedPico

_SILENT_NS = 15_000_000  # longer than a period of the lowest tone, 100 Hz
_SAME_TONE = 0.01  # periods this close are one tone
_ADC_FULL = 4095
_FIRST_ADC_PIN = 26


class Devices:
    """``data``: the board's. ``plant``: turns the rotor and has the battery. Call ``turned`` when
    the rotor may have moved."""

    def __init__(self, pico: EmulatedPico, data: dict[str, Any], plant: Any) -> None:
        self._pico = pico
        self._plant = plant
        pins = data["pins"]
        self._rotor_pin = int(pins["rotor"])
        self._service_pin = int(pins["service"])
        self._service_active = int(data["service"]["active"])
        self._battery_pin = int(pins["battery"])
        battery = data["battery"]
        self._full_mv = battery["full_mv"] * battery["num"] / battery["den"]
        self._rotor_level: int | None = None
        self.turned()
        self.set_battery(plant.battery_mv)
        self.tones = Tones(pico, int(pins["sounder"]))

    def turned(self) -> None:
        """Let the sensor see where the rotor is."""
        level: int = self._plant.rotor_level
        if level != self._rotor_level:
            self._rotor_level = level
            self._pico.drive(self._rotor_pin, level)

    def set_battery(self, battery_mv: int) -> None:
        """The battery's voltage, of which the divider leaves the board a part."""
        self._plant.set_battery(battery_mv)
        octets = round(battery_mv / self._full_mv * _ADC_FULL)
        self._pico.set_analogue(self._battery_pin - _FIRST_ADC_PIN, min(octets, _ADC_FULL))

    def hold_service(self, held: bool) -> None:
        """Press the service button, or let it go."""
        self._pico.drive(self._service_pin, self._service_active if held else None)


class Tones:
    """Hears what sounds on ``pin``: edges whose level is the frequency in Hz, 0 for silence.

    Two periods of the same length make a tone, and it counts from the first of its rising edges.
    It is over when the pin has been still for 15 ms, and counts until its last falling edge.
    """

    def __init__(self, pico: EmulatedPico, pin: int) -> None:
        self._pico = pico
        self._edges: list[Edge] = []
        self._rise_ns = self._fall_ns = 0
        self._period_ns = 0  # between the last two rising edges
        self._tone_ns = 0  # period of what sounds, 0 for silence
        pico.listen(pin, self._on_level)

    def edges(self) -> list[Edge]:
        """Beginnings and ends of tones up to now."""
        if self._pico.now_ns - max(self._rise_ns, self._fall_ns) > _SILENT_NS:
            self._silence()
        return list(self._edges)

    def _on_level(self, level: int) -> None:
        now_ns = self._pico.now_ns
        if not level:
            self._fall_ns = now_ns
            return
        period_ns, before_ns = now_ns - self._rise_ns, self._period_ns
        self._rise_ns = now_ns
        self._period_ns = period_ns
        if period_ns > _SILENT_NS:
            self._silence()
        elif _same(period_ns, before_ns) and not _same(period_ns, self._tone_ns):
            self._tone_ns = period_ns
            began_ns = now_ns - period_ns - before_ns
            self._edges.append(Edge(began_ns, "tone", round(1e9 / period_ns)))

    def _silence(self) -> None:
        if self._tone_ns:
            self._tone_ns = 0
            self._edges.append(Edge(self._fall_ns, "tone", 0))


def _same(a_ns: int, b_ns: int) -> bool:
    return abs(a_ns - b_ns) <= _SAME_TONE * a_ns
