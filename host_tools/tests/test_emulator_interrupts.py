"""How long interrupts are off, as the emulated bench tells it, against a script that keeps them
off for a known time and shows it on a pin."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cisterna.emulator import EmulatedPico, NoPicoImage, find_pico_image
from cisterna.emulator_interrupts import SAMPLE_NS

_LINE = 2
_CLOCK_HZ = 125_000_000
_LOOP_CYCLES = 3  # SUBS, and BNE that is taken

# ``off(loops, SIO's GPIO_OUT_SET, mask)``: interrupts off, the pin high meanwhile.
_SCRIPT = f"""
import micropython, rp2, time
from machine import Pin

@micropython.asm_thumb
def off(r0, r1, r2):
    cpsid(i)
    str(r2, [r1, 0])
    label(LOOP)
    sub(r0, r0, 1)
    bne(LOOP)
    str(r2, [r1, 4])
    cpsie(i)

Pin({_LINE}, Pin.OUT, value=0)
time.sleep_ms(300)
"""


@pytest.fixture(autouse=True)
def image() -> None:
    try:
        find_pico_image()
    except NoPicoImage as error:
        pytest.skip(str(error))


def started(what: str) -> EmulatedPico:
    """A Pico that does ``what`` 0.3 s after its start, and is watched from 0.25 s on."""
    pico = EmulatedPico({"/main.py": (_SCRIPT + what).encode()})
    pico.watch("off", _LINE, undriven=0)
    pico.power_on()
    assert pico.run_until(lambda: pico.driven_ns("off") is not None, 1e6)
    pico.run(250_000)
    assert pico.edges == []
    return pico


@pytest.mark.parametrize("us", [20, 100, 1_000, 10_000])
def test_a_known_time_without_interrupts_is_told(us: int) -> None:
    loops = us * _CLOCK_HZ // 1_000_000 // _LOOP_CYCLES
    pico = started(f"for _ in range(4):\n off({loops}, 0xD0000014, 1 << {_LINE})\n")
    watch = pico.watch_interrupts()
    pico.run(200_000 + 6 * us)
    times = [edge.t_ns for edge in pico.edges]
    assert len(times) == 8
    high = list(pairwise(times))[::2]
    for (rise, fall), span in zip(high, (s for s in watch.spans if _meets(s, high)), strict=True):
        assert abs(fall - rise - us * 1000) < 100  # the script is what it says
        assert rise - 2 * SAMPLE_NS < span.from_ns <= rise
        assert fall <= span.until_ns < fall + 2 * SAMPLE_NS
        assert (span.erases, span.programs) == (0, 0)


def _meets(span: tuple[int, int, int, int], high: list[tuple[int, int]]) -> bool:
    return any(span[0] < fall and span[1] > rise for rise, fall in high)


def test_work_that_octets_from_the_host_bring_is_told() -> None:
    """The processor waits for USB then, and no alarm is near."""
    loops = 1_000 * _CLOCK_HZ // 1_000_000 // _LOOP_CYCLES
    pico = started(
        f"import sys\nfor _ in range(3):\n"
        f" sys.stdin.read(1)\n off({loops}, 0xD0000014, 1 << {_LINE})\n"
    )
    pico.wait_connected()
    watch = pico.watch_interrupts()
    for _ in range(3):
        pico.run(300_000)
        pico.send(b"x")
        pico.run(50_000)
    times = [edge.t_ns for edge in pico.edges]
    assert len(times) == 6
    long = [span for span in watch.spans if span.until_ns - span.from_ns > 900_000]
    for (rise, fall), span in zip(list(pairwise(times))[::2], long, strict=True):
        assert span.from_ns <= rise
        assert span.until_ns >= fall


def test_what_is_shorter_than_ten_microseconds_is_not_told() -> None:
    pico = started(f"for _ in range(20):\n off(100, 0xD0000014, 1 << {_LINE})\n")
    watch = pico.watch_interrupts()
    pico.run(200_000)
    times = [edge.t_ns for edge in pico.edges]
    assert len(times) == 40
    high = list(pairwise(times))[::2]
    assert all(fall - rise < 3_000 for rise, fall in high)
    assert not [span for span in watch.spans if _meets(span, high)]


def test_flash_operations_are_told_with_their_span() -> None:
    pico = started(
        "f = rp2.Flash()\nb = bytes(256)\nf.ioctl(6, 351)\ntime.sleep_ms(5)\n"
        "f.writeblocks(351, b, 0)\ntime.sleep_ms(5)\nf.writeblocks(351, b, 256)\n"
    )
    watch = pico.watch_interrupts()
    pico.run(300_000)
    assert (pico.flash.erases, pico.flash.programs) == (1, 2)
    long = [(s.erases, s.programs) for s in watch.spans if s.until_ns - s.from_ns > 300_000]
    assert long == [(1, 0), (0, 1), (0, 1)]
    erase, *programs = [s.until_ns - s.from_ns for s in watch.spans if s.erases or s.programs]
    assert pico.flash.SECTOR_ERASE_NS < erase < pico.flash.SECTOR_ERASE_NS + 500_000
    for program in programs:
        assert pico.flash.PAGE_PROGRAM_NS < program < pico.flash.PAGE_PROGRAM_NS + 500_000
