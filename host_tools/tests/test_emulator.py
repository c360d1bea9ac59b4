"""The emulated Pico against theory: time, power, pins, flash, and the defects that
``emulator_fixes`` puts right, each with and without its fix."""

from __future__ import annotations

import binascii
import random
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import serial

from cisterna import emulator, emulator_fixes
from cisterna.emulator import (
    FLASH_SIZE,
    EmulatedPico,
    NoPicoImage,
    file_system_image,
    files_of,
    find_pico_image,
)
from cisterna.emulator_port import EmulatedLink, EmulatedPort
from cisterna.errors import NoPump

_STEP = 2


@pytest.fixture
def start() -> Callable[..., EmulatedPico]:
    """Makes a powered Pico that runs a main.py, STEP (GP2) watched. Skips without an image."""
    try:
        find_pico_image()
    except NoPicoImage as error:
        pytest.skip(str(error))

    def started(script: str, **kwargs: Any) -> EmulatedPico:
        pico = EmulatedPico({"/main.py": script.encode()}, **kwargs)
        pico.watch("step", _STEP, undriven=0)
        pico.power_on()
        return pico

    return started


def said(pico: EmulatedPico, us: float = 0) -> str:
    """What it printed within ``us``. The octet sent makes the board's USB stack send what it
    holds: the emulated host has no start-of-frame packets, which do that on a real one."""
    if us:
        pico.run(us)
    pico.send(b"\n")
    pico.run(5_000)
    return pico.receive().decode()


def gaps(pico: EmulatedPico, level: int | None = None) -> list[int]:
    """Nanoseconds between the edges (to ``level``) of STEP."""
    times = [edge.t_ns for edge in pico.edges if level is None or edge.level == level]
    return [later - earlier for earlier, later in pairwise(times)]


# -- the image --------------------------------------------------------------------------------


def test_no_image_names_all_three_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    def unresolved(_: Any, family: str, version: str) -> Any:
        assert (family, version) == ("micropython", "1.28.0")
        raise OSError("no network")

    monkeypatch.delenv("CISTERNA_PICO_UF2", raising=False)
    monkeypatch.setattr(emulator, "IMAGE_FILE", tmp_path / "RPI_PICO.uf2")
    monkeypatch.setattr(emulator, "resolve_firmware", unresolved)
    with pytest.raises(NoPicoImage) as caught:
        find_pico_image()
    for part in ("CISTERNA_PICO_UF2", str(tmp_path / "RPI_PICO.uf2"), "downloaded", "no network"):
        assert part in str(caught.value)


def test_named_image_wins_and_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    image = tmp_path / "other.uf2"
    monkeypatch.setenv("CISTERNA_PICO_UF2", str(image))
    with pytest.raises(NoPicoImage, match=r"other\.uf2, which is no file"):
        find_pico_image()
    image.write_bytes(b"")
    assert find_pico_image() == image


def test_file_system_image_holds_its_files() -> None:
    rng = random.Random(3)
    files = {"/main.py": b"", "/a/b/c.bin": rng.randbytes(20_000), "/x": b"y" * 255}
    assert files_of(file_system_image(files)) == files


# -- time, power, files -----------------------------------------------------------------------


def test_time_moves_only_when_it_is_run(start: Callable[..., EmulatedPico]) -> None:
    pico = start("")
    pico.wait_connected()
    before = pico.now_ns
    time.sleep(0.05)
    assert pico.now_ns == before
    pico.run(1_234_567)
    assert pico.now_ns - before == pytest.approx(1_234_567_000, abs=300)
    pico.cut_power()
    pico.run(1_000)
    assert pico.now_ns - before == pytest.approx(1_235_567_000, abs=300)


def test_read_waits_in_simulated_time(start: Callable[..., EmulatedPico]) -> None:
    pico = start("import time\ntime.sleep(10)\nprint('late')\ntime.sleep(60)")
    pico.wait_connected()
    link = EmulatedLink(pico)
    began = link.now_s()
    assert link.read(2.0) == b""
    assert link.now_s() - began == pytest.approx(2.0, abs=1e-6)
    assert link.read(20.0) == b"late\r\n"
    assert link.now_s() - began < 10.1
    pico.cut_power()
    with pytest.raises(NoPump, match="no power"):
        link.read(1.0)


def test_power_cut_keeps_flash_and_loses_ram(start: Callable[..., EmulatedPico]) -> None:
    pico = start(
        "import os, machine\n"
        "with open('/starts', 'ab') as f: f.write(b'x')\n"
        "print(os.stat('/starts')[6], machine.reset_cause() == machine.PWRON_RESET)\n"
    )
    for starts in (1, 2, 3):
        pico.wait_connected()
        assert f"{starts} True" in said(pico, 300_000)
        pico.cut_power()
        pico.run(1_000)
        pico.power_on()
    assert pico.files()["/starts"] == b"xxx"
    image = pico.flash_image()
    assert len(image) == FLASH_SIZE
    again = EmulatedPico(flash=image)
    again.power_on()
    again.wait_connected()
    assert "4 True" in said(again, 300_000)


def test_machine_reset_comes_back_on_usb(start: Callable[..., EmulatedPico]) -> None:
    pico = start("import machine\nprint('cause', machine.reset_cause())\n")
    pico.wait_connected()
    assert "cause 1" in said(pico, 100_000)
    pico.send(b"machine.reset()\r")
    pico.run(20_000)
    assert pico.resets == 1
    pico.wait_connected()
    assert "cause 3" in said(pico, 100_000)


# -- pins against theory ----------------------------------------------------------------------


def test_pwm_edges(start: Callable[..., EmulatedPico]) -> None:
    pico = start("from machine import Pin, PWM\nPWM(Pin(2), freq=1_000, duty_u16=16384)")
    pico.run(1_000_000)
    high = [edge for edge in pico.edges if edge.level][1:]
    low = [edge for edge in pico.edges if not edge.level and edge.t_ns > high[0].t_ns]
    assert len(high) > 900
    assert all(abs(gap - 1_000_000) <= 8 for gap in gaps(pico, 1)[1:])
    widths = {b.t_ns - a.t_ns for a, b in zip(high, low, strict=False)}
    assert all(abs(width - 250_000) <= 100 for width in widths)


def test_ten_millisecond_train(start: Callable[..., EmulatedPico]) -> None:
    pico = start(
        "from machine import Pin, Timer\n"
        "p = Pin(2, Pin.OUT)\n"
        "t = Timer(period=10, mode=Timer.PERIODIC, hard=True, callback=lambda t: p.toggle())\n"
    )
    pico.run(10_000_000)
    found = gaps(pico)
    assert len(found) > 950
    assert sum(found) == pytest.approx(len(found) * 10_000_000, abs=50_000)  # no drift
    assert max(abs(gap - 10_000_000) for gap in found) < 50_000


# -- the defects and their fixes --------------------------------------------------------------


class _NoNak:
    """Host side as rp2040py has it."""

    def __init__(self, cdc: Any) -> None:
        self.write = lambda data: [cdc.send_serial_byte(octet) for octet in data]


class _NoPacing:
    """PIO as rp2040py has it."""

    def __init__(self, mcu: Any) -> None:
        pass

    def processor_of(self, simulator: Any) -> Any:
        return simulator

    def attend(self) -> None:
        pass

    def catch_up(self) -> None:
        pass


class _NoTimes:
    """Flash as rp2040py has it."""

    polled_cycles = 0

    def __init__(self, *_: Any) -> None:
        pass

    def cut_power(self, rng: random.Random) -> None:
        pass


def test_idle_board_sleeps_only_with_nak(
    start: Callable[..., EmulatedPico], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import time\ntime.sleep(1000)"
    pico = start(script)
    pico.wait_connected()
    pico.run(100_000)
    before = pico.awake_ns
    pico.run(10_000_000)
    assert pico.awake_ns - before < 0.001 * 10_000_000_000
    monkeypatch.setattr(emulator, "NakingHost", _NoNak)
    pico = start(script)
    pico.wait_connected()
    pico.run(20_000)
    before = pico.awake_ns
    pico.run(20_000)
    assert pico.awake_ns - before > 0.5 * 20_000_000


def test_many_octets_reach_the_board(start: Callable[..., EmulatedPico]) -> None:
    pico = start(
        "import sys, binascii, micropython\n"
        "micropython.kbd_intr(-1)\n"
        "d = sys.stdin.buffer.read(3000)\n"
        "print(len(d), binascii.crc32(d))\n"
    )
    pico.wait_connected()
    pico.run(100_000)
    data = random.Random(1).randbytes(3000)
    pico.send(data[:1])
    pico.send(data[1:])
    assert f"3000 {binascii.crc32(data)}" in said(pico, 2_000_000)


_SQUARE = """
import rp2, time
from machine import Pin
@rp2.asm_pio(set_init=rp2.PIO.OUT_LOW)
def square():
    set(pins, 1) [31]
    set(pins, 0) [31]
rp2.StateMachine(0, square, freq=640_000, set_base=Pin(2)).active(1)
"""


def test_pio_keeps_its_rate_only_with_pacing(
    start: Callable[..., EmulatedPico], monkeypatch: pytest.MonkeyPatch
) -> None:
    pico = start(_SQUARE + "time.sleep(1000)")
    pico.run(1_000_000)
    found = gaps(pico)[2:]
    assert len(found) > 19_000
    assert set(found) == {50_000}
    monkeypatch.setattr(emulator, "PioPacer", _NoPacing)
    pico = start(_SQUARE + "time.sleep(1000)")
    pico.run(1_000_000)
    assert len(pico.edges) < 2_000


def test_pio_keeps_its_rate_while_the_processor_works(start: Callable[..., EmulatedPico]) -> None:
    pico = start(_SQUARE + "x = 0\nwhile True: x += 1")
    pico.run(120_000)
    found = gaps(pico)[2:]
    assert len(found) > 1_000
    assert sum(found) == pytest.approx(len(found) * 50_000, abs=300)
    assert max(abs(gap - 50_000) for gap in found) < 300


_COUNTDOWN = """
import rp2, time
from machine import Pin
@rp2.asm_pio(set_init=rp2.PIO.OUT_LOW)
def countdown():
    pull()
    out(x, 32)
    set(pins, 1)
    label("wait")
    jmp(x_dec, "wait") [2]
    set(pins, 0)
m = rp2.StateMachine(0, countdown, freq=1_000_000, set_base=Pin(2))
m.active(1)
"""


def test_loops_of_one_instruction_are_passed_over_exactly(
    start: Callable[..., EmulatedPico], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = _COUNTDOWN + "m.put(%d)\ntime.sleep(1000)"
    found: dict[int, list[int]] = {}
    for shortest in (8, 1 << 32):  # the second: none is passed over
        monkeypatch.setattr(emulator_fixes, "_SHORTEST_LOOP", shortest)
        pico = start(script % 3_000)
        pico.run(400_000)
        found[shortest] = gaps(pico)
    assert found[8] == pytest.approx([(1 + 3 * 3_001) * 1_000], abs=100)
    assert found[1 << 32] == pytest.approx(found[8], abs=100)
    monkeypatch.setattr(emulator_fixes, "_SHORTEST_LOOP", 8)
    pico = start(script % 400_000_000)
    began = time.monotonic()
    pico.run(1_300_000_000)
    assert time.monotonic() - began < 60
    assert gaps(pico) == pytest.approx([1_200_000_004_000], abs=100)


def test_loop_that_is_passed_over_can_be_looked_into(start: Callable[..., EmulatedPico]) -> None:
    pico = start(
        _COUNTDOWN
        + "m.put(1_000_000)\n"
        + "held = 0\n"
        + "for _ in range(3):\n"
        + "    time.sleep_ms(300)\n"
        + "    m.active(0)\n"
        + "    began = time.ticks_us()\n"
        + "    m.exec('mov(isr, x)')\n"
        + "    m.exec('push()')\n"
        + "    left = m.get()\n"
        + "    held += time.ticks_diff(time.ticks_us(), began)\n"
        + "    m.active(1)\n"
        + "    print('left', left)\n"
        + "print('held', held)\n"
    )
    pico.run(3_500_000)
    told = [line.split() for line in said(pico).splitlines() if line[:5] in ("left ", "held ")]
    *left, held_us = (int(words[1]) for words in told)
    assert left == pytest.approx([900_000, 800_000, 700_000], abs=4_000)
    assert gaps(pico)[0] == pytest.approx(3_000_004_000 + held_us * 1000, abs=60_000)


_LOOPED = """
import rp2, time
from machine import Pin
@rp2.asm_pio(set_init=rp2.PIO.OUT_LOW)
def high():
    set(pins, 1)
    pull()
@rp2.asm_pio()
def heard():
    wait(1, pin, 0)
    push()
rp2.StateMachine(0, high, set_base=Pin(2)).active(1)
m = rp2.StateMachine(1, heard, in_base=Pin(2))
m.active(1)
time.sleep_ms(1)
print('reads', Pin(2).value(), 'hears', min(m.rx_fifo(), 1))
"""


class _NoLoopback:
    """Pads as rp2040py has them."""

    def __init__(self, *_: Any) -> None:
        pass

    def look(self) -> None:
        pass


def test_outputs_can_be_read_only_with_the_fix(
    start: Callable[..., EmulatedPico], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "reads 1 hears 1" in said(start(_LOOPED), 400_000)
    monkeypatch.setattr(emulator, "OutputsAreInputs", _NoLoopback)
    assert "reads 0 hears 0" in said(start(_LOOPED), 400_000)


def test_pins_follow_what_the_processor_has_a_state_machine_do(
    start: Callable[..., EmulatedPico],
) -> None:
    pico = start(_COUNTDOWN + "m.active(0)\nm.exec('set(pins, 1)')\n")
    pico.run(400_000)
    assert [edge.level for edge in pico.edges] == [1]


def test_pin_that_the_chip_lets_go_of_follows_its_resistor(
    start: Callable[..., EmulatedPico],
) -> None:
    pico = start(
        "from machine import Pin\n"
        "p = Pin(2, Pin.OUT, value=1)\n"
        "a = p.value()\n"
        "p.init(Pin.IN, Pin.PULL_DOWN)\n"
        "print('was', a, 'is', p.value())\n"
    )
    pico.wait_connected()
    assert "was 1 is 0" in said(pico, 300_000)


def test_pin_that_a_reset_lets_go_of_follows_its_resistor(
    start: Callable[..., EmulatedPico],
) -> None:
    pico = start(
        "import machine\n"
        "p = machine.Pin(2, machine.Pin.IN, machine.Pin.PULL_DOWN)\n"
        "print('is', p.value())\n"
        "if machine.reset_cause() == machine.PWRON_RESET:\n"
        "    machine.Pin(2, machine.Pin.OUT, value=1)\n"
        "    machine.reset()\n"
    )
    assert pico.run_until(lambda: pico.resets == 1, 2_000_000)
    pico.wait_connected()
    assert "is 0" in said(pico, 300_000)


_ERASER = """
f = rp2.Flash()
page = bytes(256)
while True:
    a = time.ticks_us()
    f.ioctl(6, 351)
    b = time.ticks_us()
    f.writeblocks(351, page, 0)
    print('took', time.ticks_diff(b, a), time.ticks_diff(time.ticks_us(), b))
    time.sleep_ms(5)
"""


def test_flash_takes_its_time_and_pio_goes_on(
    start: Callable[..., EmulatedPico], monkeypatch: pytest.MonkeyPatch
) -> None:
    pico = start(_SQUARE + _ERASER)
    pico.run(700_000)
    times = [line.split() for line in said(pico).splitlines() if line.startswith("took ")]
    assert len(times) > 10
    assert all(45_000 <= int(erase) < 45_500 for _, erase, _ in times)
    assert all(600 <= int(program) < 800 for _, _, program in times)
    found = gaps(pico)[2:]
    assert sum(found) == pytest.approx(len(found) * 50_000, abs=500)
    assert max(abs(gap - 50_000) for gap in found) < 500  # no hole, no burst
    assert pico.flash.erases >= len(times)
    assert pico.flash.programs >= len(times)
    assert pico.flash.sector_erases[FLASH_SIZE // 4096 - 1] >= len(times)
    monkeypatch.setattr(emulator, "FlashChip", _NoTimes)
    pico = start("import rp2, time\n" + _ERASER)
    times = [line.split() for line in said(pico, 100_000).splitlines() if line.startswith("took ")]
    assert times
    assert all(int(erase) < 1_000 for _, erase, _ in times)


def test_unique_id_is_the_flash_chips(start: Callable[..., EmulatedPico]) -> None:
    identity = bytes(range(8))
    pico = start("import machine\nprint(machine.unique_id().hex())", unique_id=identity)
    pico.wait_connected()
    assert identity.hex() in said(pico, 100_000)


def test_program_wraps_round_inside_its_page(start: Callable[..., EmulatedPico]) -> None:
    pico = start(
        "import rp2\n"
        "f = rp2.Flash()\n"
        "f.ioctl(6, 351)\n"
        "f.writeblocks(351, bytes(range(256)), 16)\n"
        "b = bytearray(512)\n"
        "f.readblocks(351, b, 0)\n"
        "print(b[:16] == bytes(range(240, 256)), b[16:32] == bytes(range(16)))\n"
        "print(b[256:] == b'\\xff' * 256)\n"
    )
    assert "True True\r\nTrue" in said(pico, 300_000)


def test_cut_in_an_erase_leaves_it_half_done(start: Callable[..., EmulatedPico]) -> None:
    pico = start(
        "import rp2, time\n"
        "f = rp2.Flash()\n"
        "f.ioctl(6, 351)\n"
        "for at in range(0, 4096, 256): f.writeblocks(351, bytes(256), at)\n"
        "time.sleep_ms(500)\n"
        "f.ioctl(6, 351)\n"
    )
    pico.run(400_000)
    sector = slice(FLASH_SIZE - 4096, FLASH_SIZE)
    assert pico.flash_image()[sector] == bytes(4096)
    erases = pico.flash.erases
    assert pico.run_until(lambda: pico.flash.erases > erases, 1_000_000)
    pico.run(20_000)
    pico.cut_power()
    ones = sum(octet.bit_count() for octet in pico.flash_image()[sector])
    assert 0.3 * 32768 < ones < 0.7 * 32768


# -- a real port ------------------------------------------------------------------------------


def test_port_is_a_serial_port(start: Callable[..., EmulatedPico]) -> None:
    pico = start("")
    pico.wait_connected()
    port = EmulatedPort(pico)
    try:
        with serial.Serial(port.path, timeout=5) as opened:
            opened.write(b"print(6 * 7)\r")
            assert opened.read_until(b"42\r\n").endswith(b"42\r\n")
    finally:
        port.close()
    assert port.error is None
