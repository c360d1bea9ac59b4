"""Power cuts and the USB cable of the emulated Pico."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cisterna.emulator import EmulatedPico, NoPicoImage, find_pico_image
from cisterna.emulator_flash import TORN_ERASES, TORN_PROGRAMS
from cisterna.emulator_port import EmulatedLink
from cisterna.errors import NoPump

_SECTOR = slice(2 * 1024 * 1024 - 4096, None)  # the last of the flash
_PAGE = slice(2 * 1024 * 1024 - 4096, 2 * 1024 * 1024 - 4096 + 256)

# Fills the last sector with 55; then programs its first page to 0 or erases it, when asked.
_FLASHER = """
import rp2, sys
f = rp2.Flash()
f.ioctl(6, 351)
for at in range(0, 4096, 256): f.writeblocks(351, b"U" * 256, at)
print("ready")
while True:
    what = sys.stdin.read(1)
    if what == "p": f.writeblocks(351, bytes(256), 0)
    if what == "e": f.ioctl(6, 351)
"""
_COUNTER = "x = 0\nwhile True: x += 1\n"
_SLEEPER = "import time\nwhile True: time.sleep_ms(100)\n"


@pytest.fixture
def start() -> Callable[..., EmulatedPico]:
    """Makes a Pico, its power on, that runs a main.py. Skips without an image."""
    try:
        find_pico_image()
    except NoPicoImage as error:
        pytest.skip(str(error))

    def started(script: str, **kwargs: Any) -> EmulatedPico:
        pico = EmulatedPico({"/main.py": script.encode()}, **kwargs)
        pico.power_on()
        return pico

    return started


def _until_off(pico: EmulatedPico) -> None:
    assert not pico.run_until(lambda: False, 5_000_000)
    assert not pico.powered


def _flasher(pico: EmulatedPico) -> bytes:
    """Run to where _FLASHER waits; the flash as it then is."""
    pico.wait_connected()
    assert pico.run_until(lambda: b"ready" in pico.receive(), 2_000_000)
    assert pico.flash_image()[_SECTOR] == b"U" * 4096
    return pico.flash_image()


# -- cuts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [_COUNTER, _SLEEPER])
def test_cut_at_any_cycle(start: Callable[..., EmulatedPico], script: str) -> None:
    pico = start(script)
    pico.run(60_000)
    for cycles in (1, 54_321):
        before = pico.awake_cycles
        pico.cut_power_at(cycle=cycles)
        _until_off(pico)
        assert 0 <= pico.awake_cycles - before - cycles < 20  # the rest of one instruction
        pico.power_on()
        pico.run(60_000)


def test_cut_while_it_starts_several_times(start: Callable[..., EmulatedPico]) -> None:
    pico = start(_SLEEPER)
    for cycles in (300_000, 800_000, 54_321):
        pico.cut_power()
        before = pico.awake_cycles
        pico.cut_power_at(cycle=cycles)  # counts from power on
        pico.run(10_000)
        pico.power_on()
        pico.run(500_000)
        assert not pico.powered
        assert 0 <= pico.awake_cycles - before - cycles < 20
    pico.power_on()
    pico.wait_connected()


def test_cut_after_a_time_and_a_cut_that_is_taken_back(
    start: Callable[..., EmulatedPico],
) -> None:
    pico = start(_SLEEPER)
    pico.run(400_000)
    now_ns = pico.now_ns
    pico.cut_power_at(us=1_234_567)
    pico.run(1_234_566)
    assert pico.powered
    pico.run(1_000_000)
    assert not pico.powered
    assert pico.now_ns - now_ns == pytest.approx(2_234_566_000, abs=300)
    pico.power_on()
    pico.run(400_000)
    pico.cut_power_at(us=1_000)
    pico.disarm_cut()
    pico.run(100_000)
    assert pico.powered


def test_same_seed_same_cut(start: Callable[..., EmulatedPico]) -> None:
    left: list[bytes] = []
    for seed in (5, 5, 6):
        pico = start(_FLASHER, seed=seed)
        _flasher(pico)
        pico.send(b"e")
        pico.cut_power_at(flash_op=1, torn="weak_erase")
        _until_off(pico)
        left.append(pico.flash_image()[_SECTOR])
    assert left[0] == left[1] != left[2]


def test_what_a_cut_would_leave_is_seen_without_one(start: Callable[..., EmulatedPico]) -> None:
    """Looked at once a millisecond while a sector is erased: what the cut at that cycle leaves."""
    pico = start(_FLASHER)
    before = _flasher(pico)
    seen: list[bytes] = []
    at: list[int] = []

    def look(flash: bytes) -> None:
        seen.append(flash)
        at.append(pico.awake_cycles)

    begun = pico.awake_cycles
    cycles = range(125_000, 60 * 125_000, 125_000)
    pico.watch_cuts(cycles, look)
    pico.send(b"e")
    pico.run(100_000)
    assert pico.powered
    assert len(at) > 40
    assert all(0 <= now - begun - asked < 20 for now, asked in zip(at, cycles, strict=False))
    risen = [sum(octet.bit_count() for octet in flash[_SECTOR]) for flash in seen]
    assert 4096 * 4 <= risen[0] < 4096 * 5  # nearly all 55 still
    assert len(set(risen)) > 20
    assert max(risen) <= 4096 * 8
    assert pico.flash_image()[_SECTOR] == b"\xff" * 4096
    assert all(flash[: _SECTOR.start] == before[: _SECTOR.start] for flash in seen)


@pytest.mark.timeout(60)
def test_time_goes_on_while_a_cut_and_a_look_are_waited_for(
    start: Callable[..., EmulatedPico],
) -> None:
    """Both count cycles of a processor that sleeps."""
    pico = start(_SLEEPER)
    pico.run(400_000)
    seen: list[bytes] = []
    begun = pico.awake_cycles
    pico.watch_cuts([100_000], seen.append)
    pico.cut_power_at(cycle=150_000)
    pico.run_until(lambda: False, 60_000_000)
    assert len(seen) == 1
    assert not pico.powered
    assert 150_000 <= pico.awake_cycles - begun < 150_100


def test_cut_before_a_flash_operation(start: Callable[..., EmulatedPico]) -> None:
    pico = start(_FLASHER)
    before = _flasher(pico)
    for ask, torn in ((b"p", None), (b"e", None), (b"e", "half_program"), (b"p", "half_erase")):
        operations = pico.flash.programs + pico.flash.erases
        pico.send(ask)
        pico.cut_power_at(flash_op=1, torn=torn)
        _until_off(pico)
        assert pico.flash_image() == before
        assert pico.flash.programs + pico.flash.erases == operations
        pico.power_on()
        _flasher(pico)


def test_cut_counts_flash_operations(start: Callable[..., EmulatedPico]) -> None:
    pico = start(_FLASHER)
    _flasher(pico)
    pico.cut_power_at(flash_op=3)
    pico.send(b"p")
    pico.send(b"e")
    pico.run(500_000)
    assert pico.powered
    assert pico.flash_image()[_SECTOR] == b"\xff" * 4096
    pico.send(b"p")
    _until_off(pico)
    assert pico.flash_image()[_SECTOR] == b"\xff" * 4096


def test_shapes_of_torn_operations(start: Callable[..., EmulatedPico]) -> None:
    pico = start(_FLASHER)
    _flasher(pico)
    page, sector = b"U" * 256, b"U" * 4096
    left: dict[str, bytes] = {}
    for torn in TORN_PROGRAMS + TORN_ERASES:
        program = torn in TORN_PROGRAMS
        pico.send(b"p" if program else b"e")
        pico.cut_power_at(flash_op=1, torn=torn)
        _until_off(pico)
        left[torn] = pico.flash_image()[_PAGE if program else _SECTOR]
        pico.power_on()
        _flasher(pico)
    assert len(set(left.values())) == len(left)
    assert left["half_program"] == bytes(128) + page[128:]
    assert left["last_program"] == page[:128] + bytes(128)
    assert left["half_erase"] == b"\xff" * 2048 + sector[2048:]
    assert left["last_erase"] == sector[2048:] + b"\xff" * 2048
    assert left["zero_erase"] == bytes(4096)
    weak = int.from_bytes(left["weak_program"], "big")
    assert weak & int.from_bytes(page, "big") == weak  # bits only fell
    assert 0.3 < weak.bit_count() / 1024 < 0.7
    risen = int.from_bytes(left["weak_erase"], "big")
    assert risen | int.from_bytes(sector, "big") == risen  # bits only rose
    assert 0.3 < (risen.bit_count() - 16384) / 16384 < 0.7


@pytest.mark.parametrize(
    "arguments",
    [{}, {"cycle": 1, "us": 1}, {"cycle": 0}, {"flash_op": 0}, {"us": -1}, {"us": 1, "torn": "x"}],
)
def test_cut_that_makes_no_sense(arguments: dict[str, Any]) -> None:
    pico = EmulatedPico(flash=b"\xff" * 2 * 1024 * 1024)
    with pytest.raises(ValueError, match=r"power cut|torn"):
        pico.cut_power_at(**arguments)
    with pytest.raises(ValueError, match="half_program, last_program"):
        pico.cut_power_at(flash_op=1, torn="round_program")


# -- the cable ----------------------------------------------------------------------------------


def test_unplugged_board_goes_on_and_is_found_again(start: Callable[..., EmulatedPico]) -> None:
    pico = start(
        "import time, machine\n"
        "p = machine.Pin(2, machine.Pin.OUT)\n"
        "while True:\n"
        "    time.sleep_ms(50)\n"
        "    p.toggle()\n"
        "    print('xxx')\n"
    )
    pico.watch("step", 2, undriven=0)
    pico.wait_connected()
    pico.run(300_000)
    link = EmulatedLink(pico)
    assert b"xxx" in link.read(1.0)
    pico.unplug()
    for act in (lambda: link.read(1.0), lambda: link.write(b"x")):
        with pytest.raises(NoPump, match="unplugged"):
            act()
    pico.run(10_000)
    seen = len(pico.edges)
    pico.run(2_000_000)  # nobody takes what it prints
    assert len(pico.edges) - seen == pytest.approx(40, abs=4)
    assert not pico.connected
    assert not pico.receive()
    pico.replug()
    pico.wait_connected()
    with pytest.raises(NoPump, match="went off USB"):
        link.read(1.0)
    assert b"xxx" in EmulatedLink(pico).read(1.0)
    assert pico.usb_losses == 1


def test_board_that_starts_unplugged(start: Callable[..., EmulatedPico]) -> None:
    pico = start("print('hello')\n")
    pico.unplug()
    pico.unplug()
    pico.run(1_000_000)
    assert not pico.connected
    pico.replug()
    pico.replug()
    pico.wait_connected()
    pico.send(b"print(6 * 7)\r")
    pico.run(50_000)
    assert b"42" in pico.receive()
