"""Type check of what goes on each board, against the MicroPython stubs of that board.

``python -m cisterna.board_types [BOARD ...]``, which ``make typecheck`` runs; by default all that
name stubs in their ``board.toml``. Ends with 1 when a board has an error or a warning.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from cisterna.boards import board_data, board_names, project_root
from cisterna.firmware_files import source_files

# Drivers that no board names are checked as if this one did.
_FIRST = "rpi_pico"


def stubs_folder(board: str) -> Path:
    """Where ``make setup`` puts the stubs of ``board``."""
    return project_root() / ".venv" / "typings" / board


def boards_with_stubs() -> list[str]:
    """Boards whose chip has stubs: all but the virtual one."""
    return [name for name in board_names() if "stubs" in board_data(name).get("micropython", {})]


def files_to_check(board: str) -> list[Path]:
    """Every source that goes on the board, and for the first board each driver nobody names."""
    files = set(source_files(board).values())
    if board == _FIRST:
        named = {path for name in board_names() for path in source_files(name).values()}
        files |= set((project_root() / "firmware" / "drivers").glob("*.py")) - named
    return sorted(files)


def config(board: str) -> dict[str, object]:
    """basedpyright's configuration for one board."""
    root = project_root()
    stubs = str(stubs_folder(board))
    return {
        "extends": str(root / "firmware" / "pyrightconfig.json"),
        "include": [str(path) for path in files_to_check(board)],
        "extraPaths": [
            str(root / "firmware"),
            str(root / "firmware" / "typings"),
            str(root / "boards" / board),
        ],
        "typeshedPath": stubs,
        "stubPath": stubs,
    }


def check(board: str) -> bool:
    """Run the type check and let it print; True when it found nothing."""
    path = stubs_folder(board) / "pyrightconfig.json"
    path.write_text(json.dumps(config(board), indent=1), encoding="utf-8")
    program = Path(sys.executable).parent / "basedpyright"
    print(f"{board}:", flush=True)
    done = subprocess.run([str(program), "--warnings", "-p", str(path)], check=False)
    return done.returncode == 0


def main(names: list[str]) -> int:
    """Check the boards named, or all; returns the exit code."""
    found_nothing = [check(board) for board in names or boards_with_stubs()]
    return 0 if all(found_nothing) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
