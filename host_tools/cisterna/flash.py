"""Putting the firmware on a board over its serial port, and taking it off again.

Goes through MicroPython's REPL. The order of writes keeps a mix of two firmwares from ever
running: ``main.py`` is removed first; every other file is written and read back; ``main.py`` is
put back last, under another name, read back, and renamed. A board left in the middle (a pulled
cable, a full file system) starts no pump, keeps its outputs safe, and can be flashed again.

``/deployment.json`` on the board lists every file that a deployment put there or was about to. The
pump's own records stay.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from cisterna.board_repl import (
    DeploymentBroken,
    NotABoard,
    Repl,
    SealedPump,
    open_repl,
    try_open,
)
from cisterna.boards import board_data
from cisterna.errors import CisternaError, NoPump
from cisterna.finding import Answer, Candidate, ask
from cisterna.firmware_files import PROFILES, firmware_files
from cisterna.programmer import Identity, Programmer
from cisterna.session import NoReply
from cisterna.transport import SerialLink
from pump_wire.messages import STOPPED

__all__ = [
    "Deployed",
    "DeploymentBroken",
    "NotABoard",
    "PumpDelivers",
    "SealedPump",
    "WrongBoard",
    "deploy",
    "unflash",
]

MANIFEST = "/deployment.json"
_START = "/main.py"
_CHUNK = 2048  # octets in one exec: its source text, escaped, must fit the board's heap many times
_BLOCK = 4096  # a file takes whole blocks of the board's file system at worst
_SPARE = 4 * _BLOCK  # for the list of what is deployed, and a folder or two
_BACK_S = 60.0  # from reset to the first answer; an emulated board is that slow

_NEW = ".new"  # what a file is called until it is whole; a rename takes the old one's place
_BY_NAME = ("/boot.py", _START)  # MicroPython runs these: never there in part

# _mpy >> 10 of sys.implementation for the arch names of mpy-cross (py/persistentcode.h). Each ARM
# runs what those before it run.
_ARM = ("armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp")
_FIRST_ARM = 3
_OTHERS = {9: "xtensa", 10: "xtensawin", 11: "rv32imc"}

Progress = Callable[[str, int, int], None]

_PROBE = """
import sys, os
_s = os.statvfs(os.getcwd())
_probe = (sys.implementation.name, sys.implementation.version[:3], sys.platform,
    getattr(sys.implementation, '_mpy', 0), _s[0] * _s[3],
    getattr(sys.implementation, '_machine', ''))
"""

_HASHES = """
import hashlib
def _hash(path):
    h = hashlib.sha256()
    try:
        with open(path, 'rb') as f:
            while True:
                b = f.read(2048)
                if not b:
                    return h.digest().hex()
                h.update(b)
    except OSError:
        return None
"""

_REMOVE = """
import os
def _remove(path):
    try:
        os.remove(path)
    except OSError as error:
        if error.errno != 2:
            raise
"""


class WrongBoard(CisternaError):
    """MicroPython answers, but this firmware does not run there."""


class PumpDelivers(CisternaError):
    """The pump on the port delivers, and nobody said that it may be stopped for the while."""


@dataclass(frozen=True)
class Deployed:
    """What ``deploy`` did. Paths on the board; ``identity`` is the pump's answer afterwards."""

    copied: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: int
    octets: int
    identity: Identity


def digest(data: bytes) -> str:
    """SHA-256 in hex, as the board computes it."""
    return hashlib.sha256(data).hexdigest()


def changes(
    wanted: dict[str, bytes], on_board: dict[str, str | None], deployed: dict[str, str]
) -> tuple[list[str], list[str]]:
    """(paths to write, paths to remove). ``on_board``: digest of each wanted path as it is there,
    None where there is none; ``deployed``: the manifest of the last deployment."""
    write = [path for path, data in wanted.items() if on_board.get(path) != digest(data)]
    remove = [path for path in deployed if path not in wanted]
    return write, remove


Probe = tuple[str, tuple[int, ...], str, int, int, str]


def check_board(name: str, probe: Probe) -> None:
    """Raise WrongBoard unless what the board says of itself fits ``boards/<name>``.

    ``probe``: implementation, version, platform, sys.implementation._mpy, free octets, machine.
    """
    implementation, version, platform, mpy, _, machine = probe
    wants = board_data(name)["micropython"]
    found = f"{implementation} {'.'.join(map(str, version))} on {platform}"
    if machine:
        found += f" ({machine})"
    oldest = ".".join(map(str, wants["oldest"]))
    get_newer = f"install MicroPython {oldest} or newer for this board from micropython.org"
    other = "is BOARD the right one, and PORT? make flash BOARD=NAME PORT=...; boards: boards/"
    if implementation != "micropython":
        raise WrongBoard(f"the board runs {found}; the firmware needs MicroPython", get_newer)
    if platform != wants["port"]:
        raise WrongBoard(
            f"the board runs {found}; {name} is a board of platform {wants['port']}", other
        )
    chip = wants.get("chip", "")
    if machine and not machine.endswith(chip):
        raise WrongBoard(f"the board runs {found}; {name} is a board with {chip}", other)
    if tuple(version[: len(wants["oldest"])]) < tuple(wants["oldest"]):
        raise WrongBoard(f"the board runs {found}; the firmware needs {oldest}", get_newer)
    if mpy & 0xFF != wants["mpy"]:
        raise WrongBoard(
            f"the board runs {found}, which takes .mpy version {mpy & 0xFF}; mpy-cross makes"
            f" {wants['mpy']}",
            remedy="install the mpy-cross that matches the board's MicroPython",
        )
    if not _runs(mpy >> 10 & 0xF, wants["arch"]):
        raise WrongBoard(
            f"the board runs {found}, whose processor does not run code for {wants['arch']}", other
        )


def _runs(number: int, arch: str) -> bool:
    """True if the architecture of this number runs mpy-cross's ``arch``; 0 says nothing."""
    if arch in _ARM:
        at = number - _FIRST_ARM
        return number == 0 or (at < len(_ARM) and at >= _ARM.index(arch))
    return number == 0 or _OTHERS.get(number, arch) == arch


def _there(path: str) -> str:
    """``path`` from the folder that MicroPython starts in: / on most ports, /flash on stm32."""
    return path.lstrip("/")


def _manifest(repl: Repl) -> dict[str, str]:
    """What was deployed last: path -> digest; empty when nothing was, or the list is damaged."""
    text = repl.run(
        f"try:\n print(open({_there(MANIFEST)!r}).read())\nexcept OSError:\n pass",
        "reading its manifest",
    )
    try:
        files = json.loads(text)["files"]
        return {str(path): str(value) for path, value in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _hashes(repl: Repl, paths: list[str]) -> dict[str, str | None]:
    repl.run(_HASHES, "preparing")
    return {path: repl.value(f"_hash({_there(path)!r})", f"reading {path}") for path in paths}


def _write(repl: Repl, path: str, data: bytes) -> None:
    doing = f"writing {path}"
    folder = str(PurePosixPath(path).parent)
    if folder != "/":
        repl.run(f"import os\ntry:\n os.mkdir({_there(folder)!r})\nexcept OSError:\n pass", doing)
    repl.run(f"_f = open({_there(path)!r}, 'wb')", doing)
    for at in range(0, len(data), _CHUNK):
        repl.run(f"_f.write({data[at : at + _CHUNK]!r})", doing)
    repl.run("_f.close()", doing)


def _replace(repl: Repl, path: str, data: bytes) -> None:
    """Write ``path`` so that it is there whole, as it was or as it becomes, at any moment."""
    _write(repl, path + _NEW, data)
    found = _hashes(repl, [path + _NEW])[path + _NEW]
    if found != digest(data):
        raise _otherwise(path)
    repl.run(
        f"import os\nos.rename({_there(path + _NEW)!r}, {_there(path)!r})",
        f"renaming {path + _NEW}",
    )


def _otherwise(path: str) -> DeploymentBroken:
    return DeploymentBroken(
        f"{path} reads back otherwise than it was written",
        remedy="repeat; if it comes again, the board's flash is worn out",
    )


def _silent(_: str, __: int, ___: int) -> None:
    pass


def _who_answers(port: str) -> Answer:
    """Says hello before anything is interrupted. Raises NoPump when the port cannot be opened."""
    try_open(port)
    return ask(Candidate(port, "", virtual=True))


def _check_idle(port: str, answer: Answer, stop: bool) -> None:
    """Raise PumpDelivers if there is a pump on ``port`` that may deliver, unless ``stop``."""
    if stop or not answer.is_pump:
        return
    remedy = (
        f"stop it first: cisterna stop --port {port}; or flash with --yes (make flash YES=1):"
        " it stops for about a minute and then goes on as it was programmed"
    )
    status = answer.status
    if status is None:
        raise PumpDelivers(f"a pump runs on {port} and does not say whether it delivers", remedy)
    if status.mode != STOPPED:
        raise PumpDelivers(f"the pump on {port} delivers ({status.mode_name})", remedy)


def deploy(
    board: str,
    port: str,
    progress: Progress = _silent,
    *,
    profile: str = PROFILES[0],
    stop: bool = False,
    answer_s: float = _BACK_S,
) -> Deployed:
    """Put ``board``'s firmware on the board at ``port`` and start it.

    ``progress(path, done, total)``: called before each file that is written, in octets. ``stop``:
    also a pump that delivers; it stops for the while. ``answer_s``: how long the pump that starts
    then may take to answer. Raises NoPump (no port, or in use),
    NotABoard, SealedPump, PumpDelivers, WrongBoard (nothing was changed), DeploymentBroken.
    """
    wanted = firmware_files(board, profile=profile)
    answer = _who_answers(port)
    _check_idle(port, answer, stop)
    with open_repl(port, answer.is_pump) as repl:
        repl.run(_PROBE, "asking what it is")
        probe: Probe = repl.value("_probe", "asking what it is")
        check_board(board, probe)
        deployed = _manifest(repl)
        write, remove = changes(wanted, _hashes(repl, list(wanted)), deployed)
        total = sum(len(wanted[path]) for path in write)
        if write or remove:
            if _START not in write:
                write.append(_START)
            _check_room(wanted, write, probe[4])
            _put(repl, board, wanted, write, remove, deployed, progress)
        repl.reset()
    identity = _wait_answer(port, answer_s)
    return Deployed(tuple(write), tuple(remove), len(wanted) - len(write), total, identity)


def _put(
    repl: Repl,
    board: str,
    wanted: dict[str, bytes],
    write: list[str],
    remove: list[str],
    deployed: dict[str, str],
    progress: Progress,
) -> None:
    """Remove and write. The order is the point: see the module's docstring."""
    digests = {path: digest(data) for path, data in wanted.items()}
    total = sum(len(wanted[path]) for path in write)
    repl.run(_REMOVE, "preparing")
    repl.run(f"_remove({_there(_START)!r})", f"removing {_START}")
    # Named before they are there, so that the next deployment can take off what this one left.
    _write_manifest(repl, board, {**deployed, **digests})
    for path in remove:
        repl.run(f"_remove({_there(path)!r})", f"removing {path}")
    done = 0
    for path in write:
        if path == _START:
            continue
        progress(path, done, total)
        if path in _BY_NAME:
            _replace(repl, path, wanted[path])
        else:
            _write(repl, path, wanted[path])
        done += len(wanted[path])
    for path, found in _hashes(repl, [path for path in write if path != _START]).items():
        if found != digests[path]:
            raise _otherwise(path)
    _write_manifest(repl, board, digests)
    progress(_START, done, total)
    _replace(repl, _START, wanted[_START])


def _write_manifest(repl: Repl, board: str, files: dict[str, str]) -> None:
    _replace(repl, MANIFEST, json.dumps({"board": board, "files": files}).encode())


def _check_room(wanted: dict[str, bytes], write: list[str], free: int) -> None:
    need = sum(-(-len(wanted[path]) // _BLOCK) * _BLOCK for path in write) + _SPARE
    if need > free:
        raise CisternaError(
            f"the board's file system has {free} octets free, the firmware needs {need}",
            remedy="remove files from it (mpremote fs rm), then repeat; nothing was changed",
        )


def _wait_answer(port: str, answer_s: float) -> Identity:
    """Hello from the pump that starts now. Pauses grow, so that a slow one can work off the hellos
    that came while it started."""
    until = time.monotonic() + answer_s
    pause_s = 0.2
    while True:
        try:
            with Programmer(SerialLink(port)) as pump:
                return pump.identity
        except NoPump as error:
            if time.monotonic() >= until:
                raise DeploymentBroken(
                    f"the files are on the board, but the pump does not answer on {port}: {error}",
                    remedy=f"look at its console: mpremote connect {port}",
                ) from error
            if isinstance(error, NoReply):
                pause_s *= 2
        time.sleep(pause_s)


def unflash(port: str, *, stop: bool = False) -> list[str]:
    """Take the firmware off the board at ``port``; returns the paths removed. The pump's records
    stay. ``stop``: also off a pump that delivers.

    Raises as ``deploy`` does, and CisternaError when nothing was deployed there.
    """
    answer = _who_answers(port)
    _check_idle(port, answer, stop)
    with open_repl(port, answer.is_pump) as repl:
        deployed = _manifest(repl)
        if not deployed:
            raise CisternaError(
                f"the board on {port} holds no {MANIFEST}: nothing to take off",
                remedy="is PORT the right board's? make flash puts the firmware on",
            )
        repl.run(_REMOVE, "preparing")
        paths = [_START, *(path for path in deployed if path != _START), MANIFEST]
        left_over = [path + _NEW for path in (*_BY_NAME, MANIFEST)]
        for path in (*paths[:-1], *left_over, MANIFEST):
            repl.run(f"_remove({_there(path)!r})", f"removing {path}")
        folders = {str(PurePosixPath(path).parent) for path in deployed} - {"/"}
        for folder in sorted(folders, reverse=True):
            repl.run(
                f"try:\n os.rmdir({_there(folder)!r})\nexcept OSError:\n pass",
                f"removing {folder}",
            )
        repl.reset()
    return paths
