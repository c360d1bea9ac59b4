"""The whole firmware through mpremote onto the emulated Pico: what a pump's owner goes through.

One board for all tests, in this order: a deployment takes half a minute.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from cisterna import board_repl, flash, keys
from cisterna.bench_emulated import BOARD, EmulatedBench
from cisterna.emulator import NoPicoImage, file_system_image, files_of, find_pico_image
from cisterna.emulator_port import EmulatedPort
from cisterna.firmware_files import firmware_files
from hil_tests.pulses import commission
from hil_tests.test_delivery import BIG

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedBench]:
    """A Pico that got the firmware through mpremote, its keys where the programmer looks for
    them. Skips without an image."""
    try:
        find_pico_image()
    except NoPicoImage as error:
        pytest.skip(str(error))
    state = tmp_path_factory.mktemp("pico")
    with (
        EmulatedBench(deploy="mpremote", profile="sealed", state=state) as opened,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv(keys.VARIABLE, str(opened.keys.folder))
        yield opened


@contextlib.contextmanager
def served(bench: EmulatedBench) -> Iterator[str]:
    """A serial port to the board; inside, time moves by itself."""
    port = EmulatedPort(bench.pico)
    try:
        yield port.path
    finally:
        port.close()
        bench.pico.receive()


def test_mpremote_puts_there_what_the_image_has(bench: EmulatedBench) -> None:
    wanted = firmware_files(BOARD, profile="sealed")
    there = bench.pico.files()
    deployed = {path: data for path, data in there.items() if path in wanted}
    assert deployed == wanted == files_of(file_system_image(wanted))
    others = set(there) - set(wanted) - {flash.MANIFEST}
    assert all(path.removesuffix(".0").removesuffix(".1").count(".") == 0 for path in others)
    with bench.programmer() as pump:
        assert pump.identity.board == BOARD


def test_sealed_pump_says_so_and_opens_for_the_button_at_power_on(
    bench: EmulatedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_repl, "_REPL_S", 2)
    with served(bench) as port, pytest.raises(flash.SealedPump, match="is sealed") as told:
        flash.deploy(BOARD, port)
    assert "service button" in str(told.value.remedy)
    monkeypatch.undo()
    bench.cut_power()
    with bench.hold_service():
        bench.power_on()
    with bench.programmer() as pump:
        commission(bench, pump, BIG)
    with served(bench) as port:
        with pytest.raises(flash.PumpDelivers, match="delivers"):
            flash.deploy(BOARD, port)
        assert flash.deploy(BOARD, port, stop=True, answer_s=600).copied == (
            "/board_data.mpy",
            "/sums",
            "/main.py",
        )
    with bench.programmer() as pump:  # it goes on where it was
        assert pump.prescription() == BIG
        before = bench.truth()["steps"]
        bench.advance(seconds=10)
        assert bench.truth()["steps"] > before
