"""Deploying the firmware: what would be written, what is said when it cannot be, and the whole way
through mpremote to the emulated Pico."""

from __future__ import annotations

import ast
import json
import os
import select
import threading
import time
import tty
from binascii import crc32
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cisterna import board_repl, finding, flash
from cisterna import firmware_files as files_module
from cisterna.boards import board_data
from cisterna.emulator import EmulatedPico, NoPicoImage, find_pico_image
from cisterna.emulator_port import EmulatedPort
from cisterna.errors import CisternaError, NoPump
from cisterna.firmware_files import DoesNotCompile, board_data_module, firmware_files
from cisterna.programmer import Identity

_PICO = "Raspberry Pi Pico with RP2040"
_ARMV6M = 4 << 10 | 6
_GOOD = ("micropython", (1, 28, 0), "rp2", _ARMV6M, 1_000_000, _PICO)


# -- what is written --------------------------------------------------------------------------


def test_firmware_is_compiled_and_main_comes_last() -> None:
    files = firmware_files("rpi_pico")
    assert list(files)[-3:] == ["/sums", "/boot.py", "/main.py"]
    compiled = [path for path in files if path.endswith(".mpy")]
    assert len(compiled) == len(files) - 3
    assert all(files[path][:2] == b"M\x06" for path in compiled)
    assert {"/board.mpy", "/board_data.mpy", "/pump/app.mpy", "/pump_wire/frame.mpy"} <= set(files)
    assert not [path for path in files if "/test" in path or "virtual" in path]
    sources = firmware_files("rpi_pico", compiled=False)
    assert len(sources) == len(files)
    assert sources["/pump/app.py"].startswith(b'"""')
    listed = dict(line.split() for line in files["/sums"].decode().splitlines())
    assert listed == {
        path[1:]: f"{crc32(data):08x}" for path, data in files.items() if path != "/sums"
    }


def test_board_data_has_every_number_and_no_source() -> None:
    data = board_data("rpi_pico")
    module = board_data_module(data).decode()
    board = ast.literal_eval(module.removeprefix("BOARD = "))
    assert "source" not in module
    assert board["pins"] == {
        name: pin for name, pin in data["pins"].items() if not name.endswith("_source")
    }
    assert board["plant"] == {"step_pl": data["plant"]["step_pl"]}
    assert set(data) - set(board) == {"firmware", "micropython", "usb", "energy"}


def test_only_what_differs_is_written() -> None:
    wanted = {"/a.mpy": b"a", "/b.mpy": b"b", "/main.py": b"m"}
    there = {"/a.mpy": flash.digest(b"a"), "/b.mpy": flash.digest(b"old"), "/main.py": None}
    write, remove = flash.changes(wanted, there, {"/a.mpy": "", "/gone.mpy": ""})
    assert write == ["/b.mpy", "/main.py"]
    assert remove == ["/gone.mpy"]


def test_source_that_does_not_compile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "board_data_module", lambda _: b"BOARD = (\n")
    with pytest.raises(DoesNotCompile, match=r"board_data\.py, line 2: SyntaxError"):
        firmware_files("rpi_pico")


def test_unknown_board_is_named() -> None:
    with pytest.raises(CisternaError, match=r"no board 'pico9'.*rpi_pico"):
        firmware_files("pico9")


# -- what it says when it cannot --------------------------------------------------------------


@pytest.mark.parametrize(
    ("probe", "texts"),
    [
        (
            ("circuitpython", (9, 1, 0), "RP2040", 6, 0, _PICO),
            ["circuitpython 9.1.0", "needs MicroPython"],
        ),
        (("micropython", (1, 25, 0), "rp2", 6, 0, _PICO), ["1.25.0", "needs 1.26"]),
        (
            ("micropython", (1, 28, 0), "esp32", 6, 0, "Generic ESP32 module with ESP32"),
            ["esp32 (Generic ESP32 module with ESP32)", "platform rp2"],
        ),
        (
            ("micropython", (1, 28, 0), "rp2", 7 << 10 | 6, 0, "Raspberry Pi Pico2 with RP2350"),
            ["Pico2 with RP2350", "rpi_pico is a board with RP2040"],
        ),
        (("micropython", (1, 28, 0), "rp2", 7, 0, _PICO), [".mpy version 7", "makes 6"]),
        (
            ("micropython", (1, 28, 0), "rp2", 11 << 10 | 6, 0, ""),
            ["does not run code for armv6m"],
        ),
    ],
)
def test_board_that_will_not_do(probe: Any, texts: list[str]) -> None:
    with pytest.raises(flash.WrongBoard) as caught:
        flash.check_board("rpi_pico", probe)
    assert all(text in str(caught.value) for text in texts)
    assert caught.value.remedy


def test_board_that_will_do() -> None:
    flash.check_board("rpi_pico", _GOOD)
    flash.check_board("rpi_pico", ("micropython", (1, 26, 0), "rp2", 6, 0, ""))
    flash.check_board("rpi_pico", ("micropython", (1, 29, 0), "rp2", 7 << 10 | 6, 0, _PICO))


def test_port_that_is_not_there() -> None:
    with pytest.raises(NoPump, match="no port /dev/not-a-port"):
        flash.deploy("rpi_pico", "/dev/not-a-port")


def test_port_that_is_in_use() -> None:
    import serial

    master, slave = os.openpty()
    try:
        with (
            serial.Serial(os.ttyname(slave), exclusive=True),
            pytest.raises(NoPump, match="in use by another program"),
        ):
            flash.deploy("rpi_pico", os.ttyname(slave))
    finally:
        os.close(master)
        os.close(slave)


# -- the whole way ----------------------------------------------------------------------------

_SMALL = {"/part/a.py": b"A = 1\n" * 200, "/boot.py": b"# safe\n", "/main.py": b"import part.a\n"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """In place of the firmware: three files that are written in a moment, and no hello."""
    wanted = dict(_SMALL)
    monkeypatch.setattr(flash, "firmware_files", lambda board, profile: dict(wanted))

    def wait_answer(port: str, _: float) -> Identity:
        time.sleep(1)  # the board resets
        return Identity(0, 0, 0, port, "", "", b"", 0, 0)

    monkeypatch.setattr(flash, "_wait_answer", wait_answer)
    monkeypatch.setattr(finding, "_VIRTUAL_HELLO_S", 0.3)
    monkeypatch.setattr(board_repl, "_REPL_S", 60)  # the emulated board is as fast as this
    monkeypatch.setattr(board_repl, "_SILENT_S", 20.0)  # machine has time for it
    return wanted


@pytest.fixture
def plug_in() -> Iterator[Callable[..., tuple[EmulatedPico, EmulatedPort]]]:
    """Makes a Pico and its port. Skips without an image."""
    try:
        find_pico_image()
    except NoPicoImage as error:
        pytest.skip(str(error))
    ports: list[EmulatedPort] = []

    def plugged(
        files: dict[str, bytes] | None = None, pico: EmulatedPico | None = None
    ) -> tuple[EmulatedPico, EmulatedPort]:
        if pico is None:
            pico = EmulatedPico(files or {})
        pico.power_on()
        pico.wait_connected()
        ports.append(EmulatedPort(pico))
        return pico, ports[-1]

    yield plugged
    for port in ports:
        port.close()


def _firmware_on(pico: EmulatedPico) -> dict[str, bytes]:
    return {path: data for path, data in pico.files().items() if path != flash.MANIFEST}


@pytest.mark.long
def test_deploy_again_and_take_off(
    small: dict[str, bytes], plug_in: Callable[..., tuple[EmulatedPico, EmulatedPort]]
) -> None:
    pico, port = plug_in()
    seen: list[str] = []
    done = flash.deploy("rpi_pico", port.path, lambda path, *_: seen.append(path))
    assert done.copied == ("/part/a.py", "/boot.py", "/main.py")
    assert seen == ["/part/a.py", "/boot.py", "/main.py"]
    assert done.octets == sum(map(len, small.values()))
    with port.lock:
        assert _firmware_on(pico) == small
        manifest = json.loads(pico.files()[flash.MANIFEST])
        assert manifest["files"] == {path: flash.digest(data) for path, data in small.items()}
        assert pico.resets == 1
    again = flash.deploy("rpi_pico", port.path)
    assert (again.copied, again.removed, again.unchanged) == ((), (), 3)
    del small["/part/a.py"]
    small["/part/b.py"] = b"B = 2\n"
    third = flash.deploy("rpi_pico", port.path)
    assert set(third.copied) == {"/part/b.py", "/main.py"}
    assert third.removed == ("/part/a.py",)
    with port.lock:
        assert _firmware_on(pico) == small
    removed = flash.unflash(port.path)
    assert set(removed) == {*small, flash.MANIFEST}
    with port.lock:
        assert pico.files() == {}
    with pytest.raises(CisternaError, match="nothing to take off"):
        flash.unflash(port.path)


def test_pulled_cable_leaves_a_board_that_starts_nothing_and_takes_it_again(
    small: dict[str, bytes], plug_in: Callable[..., tuple[EmulatedPico, EmulatedPort]]
) -> None:
    pico, port = plug_in({**small, "/part/a.py": b"old"})

    def pull(path: str, *_: int) -> None:
        if path == "/part/a.py":
            port.close()
            pico.cut_power()

    with pytest.raises(
        flash.DeploymentBroken, match=r"went away while writing /part/a\.py"
    ) as told:
        flash.deploy("rpi_pico", port.path, pull)
    assert "plug it in again and repeat" in str(told.value.remedy)
    assert "/main.py" not in pico.files()
    pico, port = plug_in(pico=pico)
    assert "/main.py" in flash.deploy("rpi_pico", port.path).copied
    with port.lock:
        assert _firmware_on(pico) == small


def test_full_file_system_changes_nothing(
    small: dict[str, bytes], plug_in: Callable[..., tuple[EmulatedPico, EmulatedPort]]
) -> None:
    full = {"/main.py": b"# old\n", "/ballast": bytes(347 * 4096)}
    pico, port = plug_in(full)
    with pytest.raises(CisternaError, match="octets free, the firmware needs") as caught:
        flash.deploy("rpi_pico", port.path)
    assert "nothing was changed" in str(caught.value.remedy)
    with port.lock:
        assert pico.files() == full
    assert len(small) == 3


def test_port_where_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_repl, "_REPL_S", 1)
    master, slave = os.openpty()
    try:
        with pytest.raises(flash.NotABoard, match=r"nothing answers on .*: neither") as told:
            flash.deploy("rpi_pico", os.ttyname(slave))
        assert "hold BOOTSEL" in str(told.value.remedy)
    finally:
        os.close(master)
        os.close(slave)


def test_port_where_something_else_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_repl, "_REPL_S", 1)
    master, slave = os.openpty()
    tty.setraw(slave)
    over = threading.Event()

    def talk() -> None:
        while not over.wait(0.05):
            if select.select([master], [], [], 0)[0]:
                os.read(master, 4096)
                os.write(master, b"+CME ERROR: 3\r\n")

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        with pytest.raises(
            flash.NotABoard, match=r"is no MicroPython: it said .*CME ERROR"
        ) as told:
            flash.deploy("rpi_pico", os.ttyname(slave))
        assert "is MicroPython on the board" in str(told.value.remedy)
    finally:
        over.set()
        thread.join()
        os.close(master)
        os.close(slave)
