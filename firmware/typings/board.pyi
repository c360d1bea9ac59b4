# What every boards/<name>/board.py gives to firmware/main.py. For the type check only.

from typing import Any

def build() -> Any: ...
