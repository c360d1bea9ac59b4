"""Boards are data: ``boards/<name>/board.toml`` and the folders the firmware comes from."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from cisterna.errors import CisternaError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VARIABLE = "CISTERNA_ROOT"


def project_root() -> Path:
    """The checkout that ``firmware/`` and ``boards/`` are in.

    ``CISTERNA_ROOT`` if set, else the folder this package was installed from. Raises
    CisternaError.
    """
    named = os.environ.get(VARIABLE)
    root = Path(named) if named else Path(__file__).resolve().parents[2]
    if not (root / "firmware" / "main.py").is_file():
        raise CisternaError(
            f"no firmware found in {root}",
            remedy=f"run from a checkout (make setup), or name one in {VARIABLE}",
        )
    return root


def board_names() -> list[str]:
    """Every folder of ``boards/`` with a ``board.toml``."""
    return sorted(path.parent.name for path in project_root().glob("boards/*/board.toml"))


def board_data(name: str) -> dict[str, Any]:
    """Contents of a board's ``board.toml``. Raises CisternaError naming the boards there are."""
    path = project_root() / "boards" / name / "board.toml"
    if not path.is_file():
        raise CisternaError(f"there is no board {name!r}; there are: {', '.join(board_names())}")
    with path.open("rb") as file:
        return tomllib.load(file)
