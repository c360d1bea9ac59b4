"""Drivers on the emulated chip: what their contracts promise, measured on pins and port."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from cisterna.boards import board_data, project_root
from cisterna.emulator import EmulatedPico, NoPicoImage, find_pico_image
from cisterna.firmware_files import firmware_files

_DATA = board_data("rpi_pico")
_PINS = _DATA["pins"]
_DAY_UNITS_PER_PL = 86_400_000
_SPACING = _DATA["plant"]["step_pl"] * _DAY_UNITS_PER_PL
_LATE_NS = 1_000_000  # the contract's bound where nothing keeps interrupts off
_EMULATED_NS = 300  # the emulator's own PIO edges are as exact as this
_EVEN_NS = 10_000  # DEL-2, of a train
# What each driver's docstring says of how late a pulse may be.
_STEPPERS = {"stepper_timer.StepperTimer": 100_000, "stepper_pio.StepperPio": 25_000}

_STEPPER = f"""
from stepper import Stepper
import time
from board_data import BOARD
from machine import Pin
from pump.clock import Clock
c = Clock(time.ticks_us, 1 << 30)
began = c._last
p = BOARD['pins']
n = BOARD['stepper']
s = Stepper(Pin(p['step'], Pin.OUT), Pin(p['dir'], Pin.OUT), Pin(p['enable'], Pin.OUT),
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


class Stepper(NamedTuple):
    """A step driver on trial: makes a powered Pico on which the script finds it as ``s``."""

    name: str
    start: Callable[[str], EmulatedPico]
    late_ns: int


@pytest.fixture(
    params=[
        "stepper_pio.StepperPio",
        pytest.param("stepper_timer.StepperTimer", marks=pytest.mark.long),
    ]
)
def stepper(
    firmware: dict[str, bytes],
    start: Callable[[str], EmulatedPico],
    request: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Stepper:
    """Each of the step drivers in turn."""
    module, _, name = request.param.partition(".")
    if f"/drivers/{module}.mpy" not in firmware:
        source = project_root() / "firmware" / "drivers" / f"{module}.py"
        monkeypatch.setitem(firmware, f"/drivers/{module}.py", source.read_bytes())
    text = f"from drivers.{module} import {name} as Stepper\n"
    monkeypatch.setitem(firmware, "/stepper.py", text.encode())
    return Stepper(module, start, _STEPPERS[request.param])


@pytest.fixture
def pio(
    firmware: dict[str, bytes],
    start: Callable[[str], EmulatedPico],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], EmulatedPico]:
    """The PIO driver alone: what it promises beyond the contract."""
    text = b"from drivers.stepper_pio import StepperPio as Stepper\n"
    monkeypatch.setitem(firmware, "/stepper.py", text)
    return start


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


def test_pulses_come_at_their_instants(stepper: Stepper) -> None:
    rate = 23_999_000  # nL/day: 360 ms apart, and no whole number of microseconds
    pico = stepper.start(
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
    assert max(late) < stepper.late_ns
    widths = [
        low.t_ns - high.t_ns
        for high, low in pairwise(edge for edge in pico.edges if edge.line == "step")
        if high.level
    ]
    assert len(widths) == 40
    assert min(widths) >= _DATA["stepper"]["pulse_us"] * 1000 - _EMULATED_NS


def test_driver_chip_is_set_up_before_the_first_pulse(stepper: Stepper) -> None:
    pico = stepper.start(
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


def test_long_waits_cross_the_wrap_of_the_ticks(stepper: Stepper) -> None:
    rate = 6_000  # minimum rate: 1440 s a step, longer than the ticks' 1074 s
    pico = stepper.start(
        _STEPPER + f"s.queue(100_000_000, 0, SPACING, {rate}, 5)\ntime.sleep(7000)\n"
    )
    pico.run(1_000_000)
    began = said(pico)["began"]
    pico.run(6_500_000_000)
    late = lateness(pico, began, dues(100_000_000, 0, rate, 5))
    assert min(late) > -20_000
    assert max(late) < stepper.late_ns
    assert pico.awake_ns < 0.001 * pico.now_ns


def test_overdue_pulses_are_none_lost_and_none_too_close(stepper: Stepper) -> None:
    pico = stepper.start(
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


def test_halt_stops_for_good_and_counts(stepper: Stepper) -> None:
    pico = stepper.start(
        _STEPPER
        + "for i in range(50):\n"
        + "    s.queue(c.now_us() + i * 37, 0, SPACING, 24_000_000, 20)\n"
        + "    time.sleep_us(900 + i * 11)\n"
        + "    n = s.halt()\n"
        + "    if n != s.emitted(): print('Error: moved')\n"
        + "    if n != s.commanded(): print('Error: books say', s.commanded(), n)\n"
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


def test_books_and_count_agree_between_pulses(stepper: Stepper) -> None:
    """Also with a wait longer than one word holds, in hand and queued."""
    pico = stepper.start(
        _STEPPER
        + "now = c.now_us() + 14_000\n"
        + "s.queue(now, 0, 10_000, 1, 20)\n"
        + "s.queue(now + 200_000, 0, 10_000, 1, 10)\n"
        + "s.queue(now + 1_400_000_000, 0, 10_000, 1, 2)\n"
        + "for i in range(33):\n"
        + "    time.sleep_us(now + i * 10_000 - 5_000 - c.now_us())\n"
        + "    n = s.commanded(), s.emitted()\n"
        + "    if n != (min(i, 30),) * 2: print('Error:', i, n)\n"
        + "s.halt()\n"
        + "print('dropped', s.commanded())\n"
        + "s.queue(c.now_us() + 1_400_000_000, 0, 10_000, 1, 2)\n"
        + "time.sleep_ms(20)\n"
        + "print('waiting', s.commanded())\n"
        + "s.halt()\n"
        + "print('again', s.commanded())\n"
        + "s.queue(c.now_us(), 0, 10_000, 1, 2)\n"
        + "time.sleep_ms(50)\n"
        + "print('commanded', s.commanded())\n"
        + "print('emitted', s.emitted())\n"
    )
    pico.run(1_500_000)
    out = said(pico)
    assert out["dropped"] == out["waiting"] == out["again"] == 30
    assert out["commanded"] == out["emitted"] == len(rises(pico)) == 32


# What makes each driver believe that it has emitted 2**30 - 2 pulses.
_MANY = {
    "stepper_timer": "s._high = 1023\ns._low = (1 << 20) - 2\n",
    "stepper_pio": "s._counted = (1 << 30) - 2\n",
}


def test_count_carries_beyond_a_small_integers_half(stepper: Stepper) -> None:
    pico = stepper.start(
        _STEPPER
        + _MANY[stepper.name]
        + "s.queue(c.now_us(), 0, SPACING, 24_000_000, 5)\n"
        + "time.sleep(3)\n"
        + "print('emitted', s.emitted())\n"
    )
    pico.run(4_000_000)
    assert said(pico)["emitted"] == (1 << 30) + 3
    assert len(rises(pico)) == 5


def test_counter_itself_wraps(pio: Callable[[str], EmulatedPico]) -> None:
    pico = pio(
        _STEPPER
        + "s._counter.active(0)\n"
        + "s._counter.exec('set(x, 2)')\n"  # two pulses before its end
        + "s._counter.active(1)\n"
        + "s._raw = (1 << 32) - 2\n"
        + "s.queue(c.now_us(), 0, 20_000, 1, 5)\n"
        + "time.sleep_ms(50)\n"
        + "print('some', s.emitted())\n"
        + "time.sleep_ms(150)\n"
        + "print('all', s.emitted())\n"
    )
    pico.run(1_000_000)
    out = said(pico)
    assert 2 <= out["some"] <= 3
    assert out["all"] == 5


def test_queue_that_is_full_says_so(stepper: Stepper) -> None:
    pico = stepper.start(
        _STEPPER
        + "fitted = 0\n"
        + "try:\n"
        + "    while fitted < 1000:\n"
        + "        s.queue(10_000_000 + fitted * 400_000, 0, SPACING, 24_000_000, 20)\n"
        + "        fitted += 20\n"
        + "except ValueError:\n"
        + "    print('fitted', fitted)\n"
        + "time.sleep(11 + fitted * 2 // 5)\n"
        + "print('emitted', s.emitted())\n"
    )
    pico.run(65_000_000)
    out = said(pico)
    assert 40 <= out["fitted"] < 1000
    assert out["emitted"] == out["fitted"] == len(rises(pico))


def test_pulses_come_while_the_main_thread_allocates_and_collects(stepper: Stepper) -> None:
    pico = stepper.start(
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


def test_train_is_even_while_flash_is_erased(
    pio: Callable[[str], EmulatedPico], capsys: pytest.CaptureFixture[str]
) -> None:
    pico = pio(
        _STEPPER
        + "import rp2\n"
        + "f = rp2.Flash()\n"
        + "page = bytes(256)\n"
        + "now = c.now_us()\n"
        + "for part in range(5):\n"  # of 20 pulses, each handed over in the course of the last
        + "    s.queue(now + 20_000 + part * 200_000, 0, 10_000, 1, 20)\n"
        + "    f.ioctl(6, 351)\n"
        + "    f.writeblocks(351, page, 0)\n"
        + "    f.ioctl(6, 351)\n"
        + "    time.sleep_us(now + part * 200_000 + 120_000 - c.now_us())\n"
        + "time.sleep_ms(300)\n"
        + "print('emitted', s.emitted())\n"
    )
    erases = pico.flash.erases
    pico.run(2_000_000)
    assert said(pico)["emitted"] == len(rises(pico)) == 100
    assert pico.flash.erases - erases >= 10
    found = [b - a for a, b in pairwise(rises(pico))]
    off = max(abs(gap - 10_000_000) for gap in found)
    with capsys.disabled():
        print(f"\n10 ms train over {pico.flash.erases - erases} erases: off by {off / 1000} us")
    assert off < _EVEN_NS
    assert rises(pico)[-1] - rises(pico)[0] == pytest.approx(99 * 10_000_000, abs=1_000)


def test_remainder_is_carried(pio: Callable[[str], EmulatedPico]) -> None:
    pico = pio(
        _STEPPER
        + "now = c.now_us() + 20_000\n"
        + "print('now', now)\n"
        + "s.queue(now, 6, 70_003, 7, 20)\n"  # 10,000 3/7 us apart
        + "s.queue(now + 200_009, 3, 70_003, 7, 20)\n"
        + "time.sleep_ms(500)\n"
    )
    pico.run(1_500_000)
    out = said(pico)
    due = [
        first - (slack - i * 70_003) // 7
        for first, slack in ((out["now"], 6), (out["now"] + 200_009, 3))
        for i in range(20)
    ]
    late = lateness(pico, out["began"], due)
    assert min(late) >= 0
    assert max(late) < 25_000
    assert max(late) - min(late) < 2 * _EMULATED_NS


def test_instants_stay_true_for_hours_of_appending(pio: Callable[[str], EmulatedPico]) -> None:
    """1440 s apart, three waits of it queued at a time and never run empty: over two wraps."""
    pico = pio(
        _STEPPER
        + "for i in range(3): s.queue(5_000_000 + i * 1_440_000_000, 0, SPACING, 6000, 1)\n"
        + "for i in range(3, 6):\n"
        + "    while s.emitted() < i - 2:\n"
        + "        time.sleep(100)\n"
        + "        c.now_us()\n"
        + "    s.queue(5_000_000 + i * 1_440_000_000, 0, SPACING, 6000, 1)\n"
    )
    pico.run(1_000_000)
    began = said(pico)["began"]
    pico.run(7_300_000_000)
    late = lateness(pico, began, dues(5_000_000, 0, 6_000, 6))
    assert min(late) >= 0
    assert max(late) < 25_000
    assert max(late) - min(late) < 2 * _EMULATED_NS


def test_wait_longer_than_a_word_holds(pio: Callable[[str], EmulatedPico]) -> None:
    pico = pio(_STEPPER + "s.queue(10_000_000_000, 0, SPACING, 2_000, 2)\ntime.sleep(15_000)\n")
    pico.run(1_000_000)
    began = said(pico)["began"]
    pico.run(14_400_000_000)
    late = lateness(pico, began, dues(10_000_000_000, 0, 2_000, 2))
    assert min(late) >= 0
    assert max(late) < 25_000


def test_halt_in_a_pulse_lets_it_have_its_width(pio: Callable[[str], EmulatedPico]) -> None:
    pico = pio(
        _STEPPER
        + "for i in range(40):\n"
        + "    at = c.now_us() + 3_000\n"
        + "    s.queue(at, 0, 5_000, 1, 20)\n"
        + "    time.sleep_ms(12)\n"
        + "    time.sleep_us(at + 9_940 + 2 * i - c.now_us())\n"
        + "    n = s.halt()\n"
        + "    time.sleep_ms(6)\n"
        + "    if n != s.emitted(): print('Error: moved')\n"
        + "    if n != s.commanded(): print('Error: books say', s.commanded(), n)\n"
        + "print('emitted', s.emitted())\n"
    )
    pico.run(2_000_000)
    steps = [edge for edge in pico.edges if edge.line == "step"]
    assert said(pico)["emitted"] == len(rises(pico)) == len(steps) // 2
    assert 80 < len(rises(pico)) < 120  # some halts came before the third pulse, some behind it
    widths = [low.t_ns - high.t_ns for high, low in zip(steps[::2], steps[1::2], strict=True)]
    assert min(widths) >= _DATA["stepper"]["pulse_us"] * 1000 - _EMULATED_NS
    assert max(widths) > 6_000  # one of them at least was cut short and made whole
    on = False
    for edge in pico.edges:
        if edge.line == "enable":
            on = edge.level == 0
        elif edge.line == "step":
            assert on


def test_counter_counts_what_others_put_on_the_pin(pio: Callable[[str], EmulatedPico]) -> None:
    pico = pio(
        _STEPPER
        + "import rp2\n"
        + "for _ in range(3):\n"
        + "    s._emitter.exec('set(pins, 1)')\n"
        + "    s._emitter.exec('set(pins, 0)')\n"
        + "print('emitted', s.emitted())\n"
        + "print('commanded', s.commanded())\n"
    )
    pico.run(500_000)
    out = said(pico)
    assert out["emitted"] == len(rises(pico)) == 3
    assert out["commanded"] == 0


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
