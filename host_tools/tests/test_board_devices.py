"""What a board has beside step driver and port, as it is built by its board.py, on the benches
that have a plant: rotor sensor, sounder, battery, service button, watchdog.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from cisterna.bench import Bench
from cisterna.bench_emulated import EmulatedBench
from cisterna.bench_virtual import VirtualBench, compiled_firmware
from cisterna.boards import board_data
from cisterna.emulator import NoPicoImage, find_pico_image
from cisterna.firmware_files import firmware_files

_BUILD = """
import asyncio
import board
b = board.build()
from pump.clock import Clock
c = Clock(b.ticks_us, b.ticks_period)
b.stepper.attach(c)
"""


class _Virtual(VirtualBench):
    def said(self) -> str:
        return self.console()


class _Emulated(EmulatedBench):
    _text = ""

    def _wait_answer(self) -> None:
        """It runs a script, not the pump."""

    def said(self) -> str:
        """All that the script printed."""
        self._text += self.pico.receive().decode()
        return self._text


Scripted = _Virtual | _Emulated


@pytest.fixture(params=["virtual", pytest.param("emulated", marks=pytest.mark.long)])
def scripted(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[str], Scripted]]:
    """Opens a bench whose board is built and then runs a script in place of the pump."""
    opened: list[Bench] = []

    def on_virtual(script: str) -> Scripted:
        folder = tmp_path / "firmware"
        shutil.copytree(compiled_firmware(), folder)
        (folder / "main.py").write_text(_BUILD + script)
        opened.append(bench := _Virtual(seed=1, firmware=folder))
        return bench

    def on_emulated(script: str) -> Scripted:
        try:
            find_pico_image()
        except NoPicoImage as error:
            pytest.skip(str(error))
        files = {**firmware_files("rpi_pico"), "/main.py": (_BUILD + script).encode()}
        opened.append(bench := _Emulated(seed=1, files=files))
        return bench

    yield on_virtual if request.param == "virtual" else on_emulated
    for bench in opened:
        bench.close()


def numbers(bench: Scripted, word: str) -> list[list[int]]:
    """What the script printed in lines that begin with ``word``."""
    text = bench.said()
    assert "Traceback" not in text, text
    lines = [line.split() for line in text.splitlines()]
    return [[int(each) for each in line[1:]] for line in lines if line[:1] == [word]]


def test_three_counts_of_steps_part_under_a_stall(scripted: Callable[[str], Scripted]) -> None:
    bench = scripted(
        """
async def main():
    while True:
        await asyncio.sleep_ms(1000)
        b.stepper.queue(c.now_us() + 10_000, 0, 10_000, 1, 20)
        await asyncio.sleep_ms(500)
        print('counts', b.stepper.commanded(), b.stepper.emitted(), b.rotor.count())
asyncio.run(main())
"""
    )
    each = board_data("rpi_pico")["rotor"]["steps_per_pulse"]
    bench.advance(seconds=2)
    assert numbers(bench, "counts") == [[20, 20, 20 // each]]
    bench.inject("stall", after_steps=6)
    bench.advance(seconds=3)
    assert numbers(bench, "counts")[1:] == [[40, 40, 26 // each], [60, 60, 26 // each]]
    truth = bench.truth()
    assert (truth["pulses"], truth["steps"], truth["rotor_pulses"]) == (60, 26, 26 // each)
    bench.clear("stall")
    bench.advance(seconds=1.5)
    assert numbers(bench, "counts")[3:] == [[80, 80, 46 // each]]


def test_tones_are_heard_with_their_frequency(scripted: Callable[[str], Scripted]) -> None:
    bench = scripted(
        """
async def main():
    await asyncio.sleep_ms(1000)
    for hz in (2000, 2700, 2000):
        b.sounder.play(hz)
        await asyncio.sleep_ms(100)
    b.sounder.off()
    b.sounder.off()
    await asyncio.sleep_ms(100)
    b.sounder.play(100)
    await asyncio.sleep_ms(100)
    b.sounder.off()
    for hz in (99, 10_001):
        try:
            b.sounder.play(hz)
        except ValueError:
            print('refused', hz)
    await asyncio.sleep_ms(60_000)
asyncio.run(main())
"""
    )
    bench.advance(seconds=2.5)
    assert numbers(bench, "refused") == [[99], [10_001]]
    tones = [edge for edge in bench.edges() if edge.line == "tone"]
    wanted = [2000, 2700, 2000, 0, 100, 0]
    assert [tone.level for tone in tones] == pytest.approx(wanted, rel=0.01)
    gaps = [b.t_ns - a.t_ns for a, b in pairwise(tones)]
    assert gaps == pytest.approx([100_000_000] * 5, abs=11_000_000)  # a period of 100 Hz is 10 ms


def test_battery_and_service_button_are_read(scripted: Callable[[str], Scripted]) -> None:
    bench = scripted(
        """
print('start', b.service_button.pressed() + 0, b.battery.read_mv())
async def main():
    while True:
        print('now', b.service_button.pressed() + 0, b.battery.read_mv())
        await asyncio.sleep_ms(500)
asyncio.run(main())
"""
    )
    bench.advance(seconds=2)
    assert numbers(bench, "start") == [[0, pytest.approx(3000, abs=2)]]
    before = len(numbers(bench, "now"))
    bench.set_battery(2345)
    bench.press_service(seconds=2)
    held = numbers(bench, "now")[before:]
    assert 3 <= len(held) <= 5
    assert held == [[1, pytest.approx(2345, abs=2)]] * len(held)
    bench.advance(seconds=1)
    assert all(not row[0] for row in numbers(bench, "now")[before + len(held) :])
    with bench.hold_service():
        bench.cut_power()
        bench.power_on()
        bench.advance(seconds=2)
    assert numbers(bench, "start")[1:] == [[1, pytest.approx(2345, abs=2)]]
    assert bench.truth()["battery_mv"] == 2345


def test_watchdog_resets_what_does_not_feed_it(scripted: Callable[[str], Scripted]) -> None:
    bench = scripted(
        """
print('cause', b.reset_cause)
timeout_ms = b.watchdog.timeout_ms
print('timeout', timeout_ms)
async def main():
    b.watchdog.feed()
    if b.reset_cause == 2:
        await asyncio.sleep_ms(timeout_ms * 6)
    b.watchdog.start()
    for _ in range(4):
        await asyncio.sleep_ms(timeout_ms * 4 // 5)
        b.watchdog.start()
        b.watchdog.feed()
    print('fed', c.now_us())
    b.stepper.queue(c.now_us(), 0, timeout_ms * 200, 1, 20)
    await asyncio.sleep_ms(timeout_ms * 12)
asyncio.run(main())
"""
    )
    bench.advance(seconds=1)
    timeout_s = numbers(bench, "timeout")[0][0] / 1000
    timeout_ns = int(timeout_s * 1e9)
    bench.advance(seconds=4.1 * timeout_s - 1)
    assert bench.truth()["resets"] == 0
    assert bench.truth()["pulses"] > 0
    bench.advance(seconds=1.9 * timeout_s)
    truth = bench.truth()
    assert truth["resets"] == 1
    assert numbers(bench, "cause") == [[1], [2]]
    enables = [edge for edge in bench.edges() if edge.line == "enable" and edge.t_ns > 15_000_000]
    switched_on = next(edge for edge in enables if edge.level)
    switched_off = enables[enables.index(switched_on) + 1]
    assert switched_off.level == 0
    assert switched_off.t_ns - switched_on.t_ns == pytest.approx(timeout_ns, abs=20_000_000)
    assert truth["pulses"] in (5, 6)
    assert not [edge for edge in bench.edges() if edge.t_ns > switched_off.t_ns and edge.level]
    bench.advance(seconds=2 * timeout_s)
    assert bench.truth()["resets"] == 1
