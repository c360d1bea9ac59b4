"""Drivers on the emulated chip: what their contracts promise, measured on pins and port."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from cisterna.boards import board_data
from cisterna.emulator import EmulatedPico, NoPicoImage, find_pico_image
from cisterna.firmware_files import firmware_files

_DATA = board_data("rpi_pico")
_PINS = _DATA["pins"]
_DAY_UNITS_PER_PL = 86_400_000
_SPACING = _DATA["plant"]["step_pl"] * _DAY_UNITS_PER_PL
_LATE_NS = 1_000_000  # the contract's bound where nothing keeps interrupts off

_STEPPER = f"""
import time
from board_data import BOARD
from drivers.stepper_timer import StepperTimer
from machine import Pin
from pump.clock import Clock
c = Clock(time.ticks_us, 1 << 30)
began = c._last
p = BOARD['pins']
n = BOARD['stepper']
s = StepperTimer(Pin(p['step'], Pin.OUT), Pin(p['dir'], Pin.OUT), Pin(p['enable'], Pin.OUT),
    n['enable_active'], n['forward'], n['pulse_us'], n['gap_us'])
s.attach(c)
print('began', began)
SPACING = {_SPACING}
"""


@pytest.fixture(scope="module")
def firmware() -> dict[str, bytes]:
    """The firmware as deployed, without its main.py. Skips without an image."""
    try:
        find_pico_image()
    except NoPicoImage as error:
        pytest.skip(str(error))
    return {path: data for path, data in firmware_files("rpi_pico").items() if path != "/main.py"}


@pytest.fixture
def start(firmware: dict[str, bytes]) -> Callable[[str], EmulatedPico]:
    """Makes a powered Pico that has the firmware and runs a script as main.py."""

    def started(script: str) -> EmulatedPico:
        pico = EmulatedPico({**firmware, "/main.py": script.encode()})
        pico.watch("step", _PINS["step"], undriven=0)
        pico.watch("dir", _PINS["dir"], undriven=0)
        pico.watch("enable", _PINS["enable"], undriven=1)
        pico.power_on()
        pico.wait_connected()
        return pico

    return started


def said(pico: EmulatedPico) -> dict[str, int]:
    """Its lines of a word and a number."""
    pico.send(b"\n")
    pico.run(5_000)
    text = pico.receive().decode()
    assert "Error" not in text, text
    assert "Uncaught" not in text, text
    pairs = [line.split() for line in text.splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def rises(pico: EmulatedPico) -> list[int]:
    """Instants of the rising STEP edges, ns. The emulated ticks_us is this time over 1000."""
    return [edge.t_ns for edge in pico.edges if edge.line == "step" and edge.level]


def dues(first_us: int, slack: int, rate: int, count: int) -> list[int]:
    """The contract's instants, us of the pump's clock."""
    return [first_us - (slack - i * _SPACING) // rate for i in range(count)]


def lateness(pico: EmulatedPico, began: int, due: list[int]) -> list[int]:
    """How much after its due instant each pulse rose, ns."""
    risen = rises(pico)
    assert len(risen) == len(due)
    return [t - (began + us) * 1000 for t, us in zip(risen, due, strict=True)]


def test_pulses_come_at_their_instants(start: Callable[[str], EmulatedPico]) -> None:
    rate = 23_999_000  # nL/day: 360 ms apart, and no whole number of microseconds
    pico = start(
        _STEPPER
        + f"s.queue(1_000_000, 12345678, SPACING, {rate}, 20)\n"
        + f"s.queue(9_000_000, 0, SPACING, {rate}, 20)\n"
        + "time.sleep(20)\n"
        + "print('emitted', s.emitted())\n"
    )
    pico.run(21_000_000)
    out = said(pico)
    assert out["emitted"] == 40
    due = dues(1_000_000, 12_345_678, rate, 20) + dues(9_000_000, 0, rate, 20)
    late = lateness(pico, out["began"], due)
    assert min(late) > -20_000  # where attach found the clock within its own execution time
    assert max(late) < 100_000
    widths = [
        low.t_ns - high.t_ns
        for high, low in pairwise(edge for edge in pico.edges if edge.line == "step")
        if high.level
    ]
    assert len(widths) == 40
    assert min(widths) >= _DATA["stepper"]["pulse_us"] * 1000


def test_driver_chip_is_set_up_before_the_first_pulse(
    start: Callable[[str], EmulatedPico],
) -> None:
    pico = start(
        _STEPPER
        + "s.queue(0, 0, SPACING, 24_000_000, 1)\n"  # long due
        + "time.sleep(1)\ns.halt()\n"
    )
    pico.run(2_000_000)
    enables = [edge for edge in pico.edges if edge.line == "enable"]
    assert [edge.level for edge in enables] == [0, 1]
    assert len(rises(pico)) == 1
    set_up_ns = _DATA["stepper"]["gap_us"] * 1000
    assert rises(pico)[0] - enables[0].t_ns >= set_up_ns
    directions = [edge for edge in pico.edges if edge.line == "dir"]
    assert directions[-1].level == _DATA["stepper"]["forward"]
    assert rises(pico)[0] - directions[-1].t_ns >= set_up_ns


def test_long_waits_cross_the_wrap_of_the_ticks(start: Callable[[str], EmulatedPico]) -> None:
    rate = 6_000  # minimum rate: 1440 s a step, longer than the ticks' 1074 s
    pico = start(_STEPPER + f"s.queue(100_000_000, 0, SPACING, {rate}, 5)\ntime.sleep(7000)\n")
    pico.run(1_000_000)
    began = said(pico)["began"]
    pico.run(6_500_000_000)
    late = lateness(pico, began, dues(100_000_000, 0, rate, 5))
    assert min(late) > -20_000
    assert max(late) < 100_000
    assert pico.awake_ns < 0.001 * pico.now_ns


def test_overdue_pulses_are_none_lost_and_none_too_close(
    start: Callable[[str], EmulatedPico],
) -> None:
    pico = start(
        _STEPPER
        + "time.sleep(1)\n"
        + "s.queue(c.now_us() - 2_000_000, 0, SPACING, 24_000_000, 7)\n"
        + "time.sleep(3)\n"
        + "print('emitted', s.emitted())\n"
    )
    pico.run(5_000_000)
    assert said(pico)["emitted"] == 7
    found = [b - a for a, b in pairwise(rises(pico))]
    assert min(found) >= _DATA["stepper"]["gap_us"] * 1000
    assert rises(pico)[5] - rises(pico)[0] < 10_000_000  # six were due at once
    assert rises(pico)[6] - rises(pico)[0] == pytest.approx(160_000_000, abs=2_000_000)


def test_halt_stops_for_good_and_counts(start: Callable[[str], EmulatedPico]) -> None:
    pico = start(
        _STEPPER
        + "for i in range(50):\n"
        + "    s.queue(c.now_us() + i * 37, 0, SPACING, 24_000_000, 20)\n"
        + "    time.sleep_us(900 + i * 11)\n"
        + "    n = s.halt()\n"
        + "    if n != s.emitted(): print('Error: moved')\n"
        + "s.halt()\n"
        + "print('emitted', s.emitted())\n"
        + "time.sleep(2)\n"
        + "print('after', s.emitted())\n"
    )
    pico.run(6_000_000)
    out = said(pico)
    assert out["emitted"] == out["after"] == len(rises(pico))
    assert 10 < len(rises(pico)) <= 50
    assert pico.level("enable") == 1
    on = False
    for edge in pico.edges:  # no pulse with the driver chip off
        if edge.line == "enable":
            on = edge.level == 0
        elif edge.line == "step" and edge.level:
            assert on


def test_count_carries_beyond_a_small_integers_half(
    start: Callable[[str], EmulatedPico],
) -> None:
    pico = start(
        _STEPPER
        + "s._high = 1023\ns._low = (1 << 20) - 2\n"  # 2**30 - 2 pulses
        + "s.queue(c.now_us(), 0, SPACING, 24_000_000, 5)\n"
        + "time.sleep(3)\n"
        + "print('emitted', s.emitted())\n"
    )
    pico.run(4_000_000)
    assert said(pico)["emitted"] == (1 << 30) + 3
    assert len(rises(pico)) == 5


def test_queue_that_is_full_says_so(start: Callable[[str], EmulatedPico]) -> None:
    pico = start(
        _STEPPER
        + "s.queue(10_000_000, 0, SPACING, 24_000_000, 20)\n"
        + "s.queue(20_000_000, 0, SPACING, 24_000_000, 20)\n"
        + "try:\n"
        + "    s.queue(30_000_000, 0, SPACING, 24_000_000, 30)\n"
        + "except ValueError:\n"
        + "    print('refused', 1)\n"
        + "s.halt()\n"
    )
    pico.run(1_000_000)
    assert said(pico)["refused"] == 1
    assert rises(pico) == []


def test_pulses_come_while_the_main_thread_allocates_and_collects(
    start: Callable[[str], EmulatedPico],
) -> None:
    pico = start(
        _STEPPER
        + "import gc\n"
        + "s.queue(c.now_us() + 20_000, 0, SPACING // 18, 24_000_000, 4)\n"  # 20 ms apart
        + "x = 0\n"
        + "while s.emitted() < 4:\n"
        + "    x = [str(i) for i in range(30)]\n"
        + "    gc.collect()\n"
        + "print('emitted', s.emitted())\n"
    )
    pico.run(1_500_000)
    assert said(pico)["emitted"] == 4
    found = [b - a for a, b in pairwise(rises(pico))]
    assert max(abs(gap - 20_000_000) for gap in found) < _LATE_NS


def test_outputs_are_safe_before_main_runs(start: Callable[[str], EmulatedPico]) -> None:
    pico = start("import time\ntime.sleep(100)")
    pico.run(500_000)
    assert pico.level("enable") == 1
    assert pico.level("step") == 0
    assert [edge for edge in pico.edges if edge.line != "dir"] == []


# -- the console as a port --------------------------------------------------------------------

_PORT = """
import asyncio, gc, micropython, time
from drivers.serial_stdio import SerialStdio
port = SerialStdio()
chunk = bytearray(64)
view = memoryview(chunk)
"""


def test_port_passes_every_octet_but_ctrl_c(start: Callable[[str], EmulatedPico]) -> None:
    pico = start(
        _PORT
        + "async def main():\n"
        + "    while True:\n"
        + "        await port.wait_readable()\n"
        + "        n = port.read_into(chunk)\n"
        + "        port.write(view[:n])\n"
        + "asyncio.run(main())\n"
    )
    pico.run(500_000)
    pico.receive()
    octets = bytes(octet for octet in range(256) if octet != 3) * 3
    pico.send(octets)
    back = b""
    while piece := pico.receive(200_000):
        back += piece
    assert back == octets
    pico.send(b"\x03")
    pico.run(100_000)
    assert b"KeyboardInterrupt" in pico.receive()


def test_port_reads_and_writes_without_allocating(start: Callable[[str], EmulatedPico]) -> None:
    pico = start(
        _PORT
        + "none = count = 0\n"
        + "time.sleep_ms(200)\n"
        + "micropython.heap_lock()\n"
        + "none = port.read_into(chunk)\n"
        + "micropython.heap_unlock()\n"
        + "time.sleep_ms(400)\n"
        + "some = view[:1]\n"
        + "micropython.heap_lock()\n"
        + "count = port.read_into(chunk)\n"
        + "port.write(some)\n"
        + "micropython.heap_unlock()\n"
        + "print()\nprint('none', none)\nprint('count', count)\n"
    )
    pico.run(500_000)
    pico.send(b"abcdefgh")
    pico.run(500_000)
    out = said(pico)
    assert (out["none"], out["count"]) == (0, 8)


def test_host_that_does_not_read_delays_by_no_more_than_a_tenth_of_a_second(
    start: Callable[[str], EmulatedPico],
) -> None:
    script = (
        _PORT
        + "open('/ready', 'w').close()\n"
        + "time.sleep(1)\n"
        + "data = memoryview(bytes(100))\n"
        + "worst = 0\n"
        + "for _ in range(20):\n"
        + "    t = time.ticks_us()\n"
        + "    port.write(data)\n"
        + "    worst = max(worst, time.ticks_diff(time.ticks_us(), t))\n"
        + "with open('/worst', 'w') as f: f.write(str(worst))\n"
    )
    pico = start(script)
    pico.run(800_000)
    _hold_in_transfers(pico)
    pico.run(8_000_000)
    worst_us = int(pico.files()["/worst"])
    assert 90_000 < worst_us < 130_000


def _hold_in_transfers(pico: EmulatedPico) -> None:
    """From now on the host has the port open and takes nothing."""
    usb: Any = pico._cdc.usb
    usb._indicate_buffer_ready = lambda *_: None
