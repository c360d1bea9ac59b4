"""boards/README.md tells every field that a board.toml has, and every board that there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cisterna.boards import board_data

BOARDS = Path(__file__).parents[2] / "boards"
NAMES = sorted(path.parent.name for path in BOARDS.glob("*/board.toml"))


def fields(data: dict[str, Any], table: str = "") -> set[str]:
    """Dotted names of the fields, without those that tell sources."""
    found: set[str] = set()
    for key, value in data.items():
        if isinstance(value, dict):
            found |= fields(value, f"{table}{key}.")
        elif key != "source" and not key.endswith("_source"):
            found.add(table + key)
    return found


def told() -> set[str]:
    text = (BOARDS / "README.md").read_text(encoding="utf-8")
    table = text[text.index("## The fields of board.toml") :]
    first_cells = re.findall(r"(?m)^\| (`[^|]+) \|", table)
    return {name for cell in first_cells for name in re.findall(r"`([\w.]+)`", cell)}


def test_every_field_is_told_of_and_no_other() -> None:
    assert told() == set().union(*(fields(board_data(name)) for name in NAMES))


def test_an_untold_field_is_found() -> None:
    data = {"stepper": {"hold_ma": 5, "hold_source": "a guess"}}
    assert fields(data) - told() == {"stepper.hold_ma"}


@pytest.mark.parametrize("name", NAMES)
def test_every_board_is_listed_and_has_its_readme(name: str) -> None:
    listed = (BOARDS / "README.md").read_text(encoding="utf-8")
    own = (BOARDS / name / "README.md").read_text(encoding="utf-8")
    assert f"({name}/README.md)" in listed
    assert "Not a medical device; never for use on people or animals." in own
    assert board_data(name)["name"] == name
    assert len(name.encode()) <= 16
