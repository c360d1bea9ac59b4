"""firmware/manifest.py freezes what ``make flash`` would put on a board, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cisterna.boards import board_data
from cisterna.firmware_files import firmware_files

FIRMWARE = Path(__file__).parents[2] / "firmware"
BOARDS = FIRMWARE.parent / "boards"


class Manifest:
    """As much of MicroPython's ``tools/manifestfile.py`` as the manifest uses, and strict."""

    def __init__(self) -> None:
        self.files: dict[str, int | None] = {}
        self.about: dict[str, str] | None = None

    def metadata(self, *, description: str, version: str, license: str, author: str) -> None:
        assert self.about is None
        assert not self.files, "metadata comes first"
        self.about = {"version": version, "description": description, "license": license}
        assert author

    def package(self, package_path: str, *, opt: int | None = None) -> None:
        folder = FIRMWARE / package_path
        assert folder.is_dir(), f"there is no firmware/{package_path}"
        for path in folder.rglob("*.py"):
            self.files[path.relative_to(FIRMWARE).as_posix()] = opt


def run(text: str) -> Manifest:
    manifest = Manifest()
    names: dict[str, Any] = {"metadata": manifest.metadata, "package": manifest.package}
    exec(compile(text, "manifest.py", "exec"), names)  # noqa: S102
    return manifest


@pytest.fixture
def manifest() -> Manifest:
    return run((FIRMWARE / "manifest.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("board", sorted(path.parent.name for path in BOARDS.glob("*/board.toml")))
def test_frozen_and_the_boards_own_are_all_that_is_deployed(manifest, board) -> None:
    own = {"board_data.py", "board.py", "boot.py", "main.py", "drivers/__init__.py", "sums"}
    own |= {f"{module}.py" for module in board_data(board)["firmware"].get("modules", ())}
    deployed = {name.lstrip("/") for name in firmware_files(board, compiled=False)}
    assert deployed - own <= manifest.files.keys()
    assert not manifest.files.keys() & own
    unused = {name for name in manifest.files if name not in deployed}
    assert all(name.startswith("drivers/") for name in unused)


def test_it_is_compiled_as_for_the_file_system(manifest) -> None:
    assert set(manifest.files.values()) == {2}  # firmware_files: mpy-cross -O2


def test_versions_agree(manifest) -> None:
    source = (FIRMWARE / "pump" / "starting.py").read_text(encoding="utf-8")
    assert manifest.about is not None
    assert f'FIRMWARE = "{manifest.about["version"]}"' in source
    assert "Not a medical device" in manifest.about["description"]


def test_a_package_that_is_not_there_is_found() -> None:
    with pytest.raises(AssertionError, match="firmware/pumps"):
        run('package("pumps")')
