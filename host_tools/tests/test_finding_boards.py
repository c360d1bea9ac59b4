"""Boards found by their USB id."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cisterna import finding
from cisterna.errors import NoPump, UsageError
from cisterna.finding import find_board
from host_tools.tests.conftest import Cisterna

PICO = (0x2E8A, 0x0005)
OTHER = (0x1A86, 0x7523)

Ports = Callable[..., None]


@pytest.fixture
def on_usb(alone: object, monkeypatch: pytest.MonkeyPatch) -> Ports:  # noqa: ARG001
    """Puts ports with these ids on this machine."""

    def put(**ids: tuple[int, int]) -> None:
        monkeypatch.setattr(finding, "usb_ids", lambda: {f"/dev/{k}": v for k, v in ids.items()})
        monkeypatch.setattr(finding, "serial_ports", lambda: [(f"/dev/{k}", "") for k in ids])

    return put


def test_the_only_one_is_found(on_usb: Ports) -> None:
    on_usb(ttyACM7=PICO, ttyUSB0=OTHER)
    assert find_board("rpi_pico") == "/dev/ttyACM7"


def test_none_says_what_is_there_and_what_to_do(on_usb: Ports) -> None:
    on_usb(ttyUSB0=OTHER)
    with pytest.raises(NoPump) as told:
        find_board("rpi_pico")
    assert "no port has USB id 2e8a:0005; on USB: /dev/ttyUSB0 (1a86:7523)" in str(told.value)
    assert "hold BOOTSEL" in str(told.value.remedy)


def test_several_are_named(on_usb: Ports) -> None:
    on_usb(ttyACM0=PICO, ttyACM1=PICO)
    with pytest.raises(UsageError, match="2 boards with USB id 2e8a:0005") as told:
        find_board("rpi_pico")
    assert "PORT=/dev/ttyACM0" in str(told.value.remedy)


def test_board_without_an_id_must_be_named(on_usb: Ports) -> None:
    on_usb(ttyACM0=PICO)
    with pytest.raises(UsageError, match="names no USB id") as told:
        find_board("virtual")
    assert "PORT=" in str(told.value.remedy)


def test_ports_tells_which_board_it_may_be(cisterna: Cisterna, on_usb: Ports) -> None:
    on_usb(ttyACM7=PICO)
    shown = cisterna("ports", "--json")
    assert shown.code == 3
    (port,) = shown.json["ports"]
    assert "rpi_pico" in port["boards"]
    assert cisterna("flash").code == 3  # it is found, and there is no such file


def test_flash_with_no_board_says_so(cisterna: Cisterna, on_usb: Ports) -> None:
    on_usb()
    shown = cisterna("flash")
    assert shown.code == 3
    assert "no rpi_pico was found" in shown.err
    assert "on USB: none" in shown.err
    assert cisterna("flash", "--port", "/dev/none", "--profile", "open").code == 2
