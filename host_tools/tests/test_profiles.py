"""The profiles on the emulated Pico: in development a Ctrl-C leads to the REPL; sealed, nothing
that a host sends does, and only the service button held at power on opens it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cisterna.boards import board_data, project_root
from cisterna.emulator import EmulatedPico, NoPicoImage, find_pico_image
from cisterna.errors import UsageError
from cisterna.firmware_files import board_data_module, firmware_files

_DATA = board_data("rpi_pico")
BUTTON = _DATA["pins"]["service"]
HELD = _DATA["service"]["active"]
ENABLE = _DATA["pins"]["enable"]
OFF = 1 - _DATA["stepper"]["enable_active"]
REPL = b">>> "
FLOODS = {"Ctrl-C": b"\x03", "all control characters": bytes(range(32)) + b"\x03\r\n"}

_BOARD = "def build():\n    return None\n"
_SERVES = """
import sys
from time import sleep_ms

def run(board):
    print("up")
    while True:
        sleep_ms(1)
"""
_ENDS = {
    "returns": "def run(board):\n    print('up')\n",
    "raises": "def run(board):\n    print('up')\n    raise ValueError('of all things')\n",
    "exits": "import sys\ndef run(board):\n    print('up')\n    sys.exit()\n",
    "does not even compile": "def run(board)\n",
}


def small(profile: str | None, app: str = _SERVES) -> dict[str, bytes]:
    """boot.py, main.py and the gate as they are, before an application of a few lines."""
    root = project_root() / "firmware"
    data = board_data("rpi_pico")
    if profile is not None:
        data["profile"] = profile
    return {
        "/boot.py": (root / "boot.py").read_bytes(),
        "/main.py": (root / "main.py").read_bytes(),
        "/drivers/repl_gate.py": (root / "drivers" / "repl_gate.py").read_bytes(),
        "/board_data.py": board_data_module(data),
        "/board.py": _BOARD.encode(),
        "/pump/app.py": app.encode(),
    }


Plug = Callable[..., EmulatedPico]


@pytest.fixture
def plug() -> Iterator[Plug]:
    """Makes a Pico whose button is up or held, and gives it power. Skips without an image."""
    try:
        find_pico_image()
    except NoPicoImage as error:
        pytest.skip(str(error))
    picos: list[EmulatedPico] = []

    def plugged(files: dict[str, bytes], held: bool = False) -> EmulatedPico:
        pico = EmulatedPico(files)
        pico.watch("enable", ENABLE, undriven=OFF)
        pico.drive(BUTTON, HELD if held else 1 - HELD)
        pico.power_on()
        picos.append(pico)
        return pico

    yield plugged
    for pico in picos:
        pico.cut_power()


def flooded(pico: EmulatedPico, octets: bytes, ms: int = 400) -> bytes:
    """What the board says while ``octets`` come again and again, from power on."""
    said = b""
    end_ns = pico.now_ns + ms * 1_000_000
    while pico.now_ns < end_ns:
        pico.send(octets)
        pico.run(100)
        said += pico.receive()
    return said


def answers_as_repl(pico: EmulatedPico) -> bool:
    """True if it carries out what is typed."""
    pico.run(100_000)
    pico.receive()
    pico.send(b"\r\n40+2\r\n")
    pico.run(100_000)
    return b"42" in pico.receive()


@pytest.mark.parametrize("octets", FLOODS.values(), ids=FLOODS)
def test_sealed_shuts_the_repl_from_power_on(plug: Plug, octets: bytes) -> None:
    pico = plug(small("sealed"))
    said = flooded(pico, octets)
    assert said.startswith(b"up")
    assert REPL not in said
    assert not answers_as_repl(pico)
    assert pico.resets == 0


@pytest.mark.long
def test_a_gate_shut_late_is_found_open(plug: Plug) -> None:
    """The flood is quick enough to tell: shut after the first import, it gets through."""
    files = small("sealed")
    shut = b"kbd_intr(-1)"
    assert files["/main.py"].count(shut) == 1
    files["/main.py"] = files["/main.py"].replace(shut, b"")
    files["/drivers/repl_gate.py"] = files["/drivers/repl_gate.py"].replace(
        b"            sealed = True\n", b"            sealed = True\n            kbd_intr(-1)\n", 1
    )
    assert REPL in flooded(plug(files), b"\x03", ms=200)


@pytest.mark.long
def test_development_leaves_ctrl_c_alive(plug: Plug) -> None:
    pico = plug(small("development"))
    assert REPL in flooded(pico, FLOODS["Ctrl-C"])
    assert answers_as_repl(pico)


def test_board_data_without_a_profile_is_sealed(plug: Plug) -> None:
    pico = plug(small(None))
    assert REPL not in flooded(pico, b"\x03", ms=200)


def test_service_button_at_power_on_opens_a_sealed_pump(plug: Plug) -> None:
    pico = plug(small("sealed"), held=True)
    pico.run(150_000)
    assert pico.receive().startswith(b"up")  # the pump runs all the same
    pico.drive(BUTTON, 1 - HELD)
    pico.send(b"\x03")
    pico.run(50_000)
    assert REPL in pico.receive()
    assert answers_as_repl(pico)
    pico.cut_power()
    pico.power_on()  # without it, it is shut again
    assert REPL not in flooded(pico, b"\x03", ms=200)


@pytest.mark.long
def test_button_pressed_later_opens_nothing(plug: Plug) -> None:
    pico = plug(small("sealed"))
    pico.run(200_000)
    pico.drive(BUTTON, HELD)
    assert REPL not in flooded(pico, b"\x03", ms=100)


@pytest.mark.long
def test_button_released_too_early_opens_nothing(plug: Plug) -> None:
    pico = plug(small("sealed"), held=True)
    pico.wait_connected()
    pico.drive(BUTTON, 1 - HELD)
    assert REPL not in flooded(pico, b"\x03", ms=200)


@pytest.mark.long
@pytest.mark.parametrize("app", _ENDS.values(), ids=_ENDS)
def test_sealed_pump_that_ends_restarts_with_the_driver_off(plug: Plug, app: str) -> None:
    pico = plug(small("sealed", app))
    said = flooded(pico, b"\x03", ms=200)
    assert REPL not in said
    assert (b"up" in said) == ("'up'" in app)
    pico.run(4_000_000)
    assert pico.resets == 0  # not at once: a start writes to flash
    assert pico.level("enable") == OFF
    pico.run(1_500_000)
    assert pico.resets == 1
    assert REPL not in flooded(pico, b"\x03", ms=100)
    assert not [edge for edge in pico.edges if edge.line == "enable" and edge.level != OFF]


def test_profile_goes_into_board_data_and_nowhere_else() -> None:
    development = firmware_files("rpi_pico")
    sealed = firmware_files("rpi_pico", profile="sealed")
    assert [path for path in sealed if sealed[path] != development[path]] == [
        "/board_data.mpy",
        "/sums",
    ]
    assert "/drivers/repl_gate.mpy" in sealed
    with pytest.raises(UsageError, match='no profile "open"'):
        firmware_files("rpi_pico", profile="open")
