"""What ``board_data.py`` holds: generated from the board's board.toml when it is deployed."""

from typing import Any

BOARD: dict[str, Any]
