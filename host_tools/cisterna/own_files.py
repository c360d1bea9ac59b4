"""Files that nobody but their owner can use: keys are in them in clear, or somebody's therapy."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_OWNER = 0o600
_OWNERS_FOLDER = 0o700


def open_own(path: Path) -> int:
    """Open ``path`` anew for writing, its owner's alone also where there was a file before.
    Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), _OWNER)
    if os.name == "posix" and stat.S_ISREG(os.fstat(fd).st_mode):
        os.fchmod(fd, _OWNER)
    return fd


def write_own(path: Path, content: bytes) -> None:
    """Write ``path`` anew, as ``open_own``."""
    with os.fdopen(open_own(path), "wb") as file:
        file.write(content)


def narrow(path: Path) -> None:
    """Take from a file that is there what others may do with it. Raises OSError."""
    if os.name == "posix" and path.stat().st_mode & ~_OWNER & 0o777:
        path.chmod(_OWNER)


def make_own_folder(path: Path) -> None:
    """Make a folder, its owner's alone; one that is there stays as it is. Raises OSError."""
    path.mkdir(mode=_OWNERS_FOLDER, parents=True, exist_ok=True)


__all__ = ["make_own_folder", "narrow", "open_own", "write_own"]
