"""Drivers on the emulated chip that need no step driver beside them: four coils, rotor sensor."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from cisterna.boards import board_data, project_root
from cisterna.emulator import EmulatedPico, NoPicoImage, find_pico_image
from cisterna.firmware_files import board_data_module, firmware_files
from host_tools.tests.test_chip_drivers import said


def started(
    script: str,
    drivers: tuple[str, ...] = (),
    watched: dict[str, int] | None = None,
    board: dict[str, Any] | None = None,
) -> EmulatedPico:
    """A powered Pico with the firmware, and ``drivers`` that its board may not name, on which
    ``script`` is main.py. ``watched``: line -> pin. ``board``: data in place of board.toml's."""
    try:
        find_pico_image()
    except NoPicoImage as error:
        pytest.skip(str(error))
    files = {**firmware_files("rpi_pico"), "/main.py": script.encode()}
    if board is not None:
        del files["/board_data.mpy"]
        files["/board_data.py"] = board_data_module(board)
    for module in drivers:
        if f"/drivers/{module}.mpy" not in files:
            source = project_root() / "firmware" / "drivers" / f"{module}.py"
            files[f"/drivers/{module}.py"] = source.read_bytes()
    pico = EmulatedPico(files)
    for name, pin in (watched or {}).items():
        pico.watch(name, pin, undriven=0)
    pico.power_on()
    pico.wait_connected()
    return pico


# -- four coils -------------------------------------------------------------------------------

_COILS = (10, 11, 12, 13)
_FOUR_PHASE = {
    "stepper_fourphase_timer": (
        "StepperFourPhaseTimer(None, [Pin(n, Pin.OUT) for n in coils], 2000)"
    ),
    "stepper_fourphase_pio": "StepperFourPhasePio(Pin(2, Pin.OUT), Pin(coils[0]), 5, 2000)",
}
_FULL_STEPS = [0b0011, 0b0110, 0b1100, 0b1001]


@pytest.mark.long
@pytest.mark.parametrize("module", sorted(_FOUR_PHASE))
def test_four_coils_take_turns(module: str) -> None:
    """Every step goes to the neighbouring phase, at its instant; without current when halted."""
    pico = started(
        f"from drivers.{module} import *\n"
        + "from machine import Pin\nfrom pump.clock import Clock\nimport time\n"
        + f"coils = {_COILS}\nc = Clock(time.ticks_us, 1 << 30)\nprint('began', c._last)\n"
        + f"s = {_FOUR_PHASE[module]}\ns.attach(c)\n"
        + "now = c.now_us() + 400_000\nprint('now', now)\ntime.sleep_ms(100)\n"
        + "s.queue(now, 0, 10_000, 1, 7)\n"
        + "time.sleep_us(now + 65_000 - c.now_us())\n"
        + "print('first', s.halt())\n"
        + "time.sleep_ms(100)\n"
        + "s.queue(c.now_us(), 0, 1_000, 1, 8)\n"  # faster than the motor can
        + "time.sleep_ms(200)\n"
        + "print('commanded', s.commanded())\n"
        + "print('emitted', s.halt())\n",
        drivers=("stepper_timer", module),
        watched={f"coil{index}": pin for index, pin in enumerate(_COILS)},
    )
    pico.run(1_500_000)
    out = said(pico)
    assert (out["first"], out["commanded"], out["emitted"]) == (7, 15, 15)
    level = 0
    changes: list[tuple[int, int]] = []  # (instant, coils with current)
    for edge in pico.edges:
        if edge.line.startswith("coil"):
            bit = 1 << int(edge.line[-1])
            level = level | bit if edge.level else level & ~bit
            if changes and edge.t_ns - changes[-1][0] < 200_000:
                assert level.bit_count() <= 2  # on the way to the next phase
                changes[-1] = (changes[-1][0], level)
            else:
                changes.append((edge.t_ns, level))
    phases = [level for _, level in changes]
    turns = [_FULL_STEPS[step & 3] for step in range(16)]
    assert phases == [*turns[:8], 0, *turns[7:], 0]
    late = [
        t_ns - (out["began"] + out["now"] + i * 10_000) * 1000
        for i, (t_ns, _) in enumerate(changes[1:8])
    ]
    assert min(late) > -20_000
    assert max(late) < 200_000
    gaps = [b - a for (a, _), (b, _) in pairwise(changes[9:18])]
    assert min(gaps) >= 2_000_000 - 100_000  # the contract's gap, but for an interrupt's lateness


@pytest.mark.long
def test_board_is_built_for_four_coils_when_its_data_says_so() -> None:
    data = board_data("rpi_pico")
    data["stepper"]["kind"] = "four_phase"
    coil = data["pins"]["coils"]
    pico = started(
        "import board, time\nb = board.build()\nfrom pump.clock import Clock\n"
        + "c = Clock(b.ticks_us, b.ticks_period)\nb.stepper.attach(c)\n"
        + "b.stepper.queue(c.now_us(), 0, 10_000, 1, 5)\ntime.sleep_ms(100)\n"
        + "print('emitted', b.stepper.halt())\n",
        watched={f"coil{index}": coil + index for index in range(4)},
        board=data,
    )
    pico.run(1_000_000)
    assert said(pico)["emitted"] == 5
    risen = [edge.line for edge in pico.edges if edge.level]
    assert risen == [f"coil{index % 4}" for index in range(7)]


# -- the rotor sensor -------------------------------------------------------------------------

_ROTORS = {
    "rotor_sensor_irq": ("RotorSensorIrq(pin)", "r._high = 1023\nr._low = (1 << 20) - 2\n"),
    "rotor_sensor_pio": ("RotorSensorPio(pin, 2)", "r._counted = (1 << 30) - 2\n"),
}
_ROTOR_PIN = board_data("rpi_pico")["pins"]["rotor"]


@pytest.mark.parametrize("module", sorted(_ROTORS))
def test_rotor_sensor_counts_each_line_once(module: str) -> None:
    """1,000 a second with the heap locked, and on across 2**30."""
    made, many = _ROTORS[module]
    pico = started(
        f"from drivers.{module} import *\n"
        + f"from machine import Pin\nimport micropython, time\npin = Pin({_ROTOR_PIN}, Pin.IN)\n"
        + f"r = {made}\nprint('start', r.count())\n{many}"
        + "micropython.heap_lock()\ntime.sleep_ms(300)\nmicropython.heap_unlock()\n"
        + "print('crossed', r.count())\ntime.sleep_ms(300)\nprint('later', r.count())\n",
        drivers=(module,),
    )
    pico.drive(_ROTOR_PIN, 0)
    pico.run(150_000)
    for _ in range(50):
        pico.drive(_ROTOR_PIN, 1)
        pico.run(500)
        pico.drive(_ROTOR_PIN, 0)
        pico.run(500)
    pico.run(300_000)
    pico.drive(_ROTOR_PIN, 1)
    pico.run(500_000)
    out = said(pico)
    assert out["start"] == 0
    assert out["crossed"] == (1 << 30) + 48
    assert out["later"] == (1 << 30) + 49


def test_rotor_sensor_takes_a_spike_for_nothing() -> None:
    pico = started(
        "from drivers.rotor_sensor_pio import *\n"
        + "from machine import Pin\nimport time\n"
        + f"r = RotorSensorPio(Pin({_ROTOR_PIN}, Pin.IN), 2)\n"
        + "time.sleep_ms(300)\nprint('spikes', r.count())\n"
        + "time.sleep_ms(300)\nprint('pulses', r.count())\n"
    )
    pico.drive(_ROTOR_PIN, 0)
    pico.run(150_000)
    for us in (2, 5, 10):
        pico.drive(_ROTOR_PIN, 1)
        pico.run(us)
        pico.drive(_ROTOR_PIN, 0)
        pico.run(1_000)
    pico.run(250_000)
    for us in (2, 5, 10, 1_000):  # one pulse, in which the level drops three times
        pico.drive(_ROTOR_PIN, 1)
        pico.run(1_000)
        pico.drive(_ROTOR_PIN, 0)
        pico.run(us)
    pico.run(500_000)
    out = said(pico)
    assert (out["spikes"], out["pulses"]) == (0, 1)
