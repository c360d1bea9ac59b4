"""The committed wiring pictures are those that board.toml gives, and their pins are its pins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cisterna import wiring_picture
from cisterna.boards import board_data, project_root

PICTURES = sorted((project_root() / "boards").glob("*/wiring_*.svg"))


def texts(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", path.read_text(encoding="utf-8"))


def test_the_pico_has_both_pictures() -> None:
    names = {path.name for path in PICTURES if path.parent.name == "rpi_pico"}
    assert names == {f"wiring_{name}.svg" for name in wiring_picture.PICTURES}


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_picture_is_fresh(path: Path, tmp_path: Path) -> None:
    wiring_picture.write(path.parent.name, tmp_path)
    fresh = texts(tmp_path / path.name)
    assert len(fresh) > 40
    assert texts(path) == fresh, "run: python -m cisterna.wiring_picture"


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_marked_pins_are_those_of_board_toml(path: Path) -> None:
    pins = board_data(path.parent.name)["pins"]
    gpios = [pins[name] for name in ("rotor", "service", "sounder", "battery")]
    if path.stem == "wiring_step_dir":
        gpios += [pins[name] for name in ("step", "dir", "enable")]
    else:
        gpios += range(pins["coils"], pins["coils"] + 4)
    marked = {int(text[4:]) for text in texts(path) if re.fullmatch(r"pin \d+", text)}
    power = {pin for pin in marked if not wiring_picture.PINOUT[pin].startswith("GP")}
    assert marked - power == {wiring_picture.pin_of(gpio) for gpio in gpios}
    assert {wiring_picture.PINOUT[pin] for pin in power} == {"GND", "3V3"}
    assert any("not a medical device" in text for text in texts(path))


def test_pinout() -> None:
    assert len(wiring_picture.PINOUT) == 40
    gpios = [name for name in wiring_picture.PINOUT.values() if name.startswith("GP")]
    assert len(set(gpios)) == len(gpios) == 26  # GP0 to GP22, GP26 to GP28
    assert [wiring_picture.pin_of(gpio) for gpio in (0, 2, 15, 16, 26)] == [1, 4, 20, 21, 31]
