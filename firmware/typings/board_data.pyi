# What the host makes of boards/<name>/board.toml when it deploys. For the type check only.

from typing import Any

BOARD: dict[str, Any]
