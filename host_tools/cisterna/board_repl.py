"""MicroPython's raw REPL on a board's serial port, through mpremote, and what can be wrong with it
said in words."""

from __future__ import annotations

import ast
import contextlib
import errno
import io
import struct
import time
from collections.abc import Generator
from typing import Any

import serial
from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport

from cisterna.errors import CisternaError, NoPump, quoted
from cisterna.transport import serial_ports

_SILENT_S = 2.0  # how long one read waits; without it mpremote waits for ever on a pty
_REPL_S = 10  # until the REPL answers: an emulated board is slow, and what runs must end first
# What a port raises that is no more; mpremote unpacks what it has not read.
_GONE = (serial.SerialException, OSError, struct.error)


class NotABoard(NoPump):
    """There is a port, and no MicroPython that can be deployed to answers on it."""


class SealedPump(NoPump):
    """A pump answers there, and its REPL is shut."""


class DeploymentBroken(CisternaError):
    """It began and did not end; the board starts no pump until it is flashed again."""


class Repl:
    """The board's raw REPL. Raises CisternaError for all that can go wrong with it.

    ``pump``: a pump answered on the port just now, so that a shut REPL is a sealed one.
    """

    def __init__(self, port: str, pump: bool) -> None:
        self._port = port
        try_open(port)
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):  # mpremote prints what it did not expect
                self._transport: Any = SerialTransport(port, timeout=_SILENT_S)
                try:
                    self._transport.enter_raw_repl(timeout_overall=_REPL_S)
                except BaseException:
                    self._close_quietly()
                    raise
        except TransportError as error:
            raise self._shut(said.getvalue(), pump) from error
        except _GONE as error:
            raise NotABoard(
                f"{port} went away before MicroPython answered: {error}",
                remedy="connect the board again and repeat; nothing was changed",
            ) from error

    def _shut(self, said: str, pump: bool) -> NoPump:
        """Why there is no REPL, as far as it can be told. ``said``: what mpremote printed of what
        it heard, a bytes literal."""
        if pump:
            return SealedPump(
                f"the pump on {self._port} is sealed: its REPL is shut",
                remedy="unplug it, hold its service button while you plug it in and two seconds"
                " longer, then repeat",
            )
        try:
            heard = bytes(ast.literal_eval(said.strip() or "b''"))
        except (ValueError, SyntaxError, TypeError):
            heard = said.encode()
        if not heard.strip():
            return NotABoard(
                f"nothing answers on {self._port}: neither a pump nor MicroPython",
                remedy="is it the board's port? To put MicroPython on a Pico, hold BOOTSEL while"
                " you plug it in and copy the .uf2 from micropython.org to the drive that appears;"
                " a sealed pump that does not start needs its service button held at power on",
            )
        return NotABoard(
            f"what answers on {self._port} is no MicroPython: it said"
            f" {quoted(heard.decode(errors='replace').strip())}",
            remedy="is it the board's port, and is MicroPython on the board? For a Pico, copy the"
            " .uf2 from micropython.org to the drive that appears when BOOTSEL is held at plug-in",
        )

    def close(self) -> None:
        with contextlib.suppress(TransportError, *_GONE):
            self._transport.exit_raw_repl()
        self._close_quietly()

    def _close_quietly(self) -> None:
        with contextlib.suppress(*_GONE):
            self._transport.close()

    def run(self, source: str, doing: str) -> str:
        """Execute ``source``; returns what it printed. ``doing`` is for the error's text."""
        try:
            return self._transport.exec(source).decode()
        except TransportExecError as error:
            raise self._board_error(str(error), doing) from error
        except (*_GONE, TransportError) as error:
            raise DeploymentBroken(
                f"the board went away while {doing}: {error}",
                remedy="plug it in again and repeat; until then it may start no pump",
            ) from error

    def value(self, expression: str, doing: str) -> Any:
        """Value of an expression whose repr is a Python literal."""
        return ast.literal_eval(self.run(f"print(repr({expression}))", doing).strip())

    def _board_error(self, said: str, doing: str) -> CisternaError:
        last = said.strip().splitlines()[-1] if said.strip() else "no reason given"
        if "ENOSPC" in said or f"Errno {errno.ENOSPC}]" in said or "OSError: 28" in said:
            return DeploymentBroken(
                f"the board's file system is full ({doing})",
                remedy="remove files from it (mpremote fs rm), then repeat; until then it starts"
                " no pump",
            )
        if "MemoryError" in said:
            return DeploymentBroken(f"the board ran out of memory while {doing}", remedy="repeat")
        return DeploymentBroken(f"the board refused while {doing}: {last}")

    def reset(self) -> None:
        """Reset the board and let go of its port."""
        with contextlib.suppress(TransportError, *_GONE):
            self._transport.exec_raw_no_follow("import machine; machine.reset()")
        time.sleep(0.2)
        self._close_quietly()


def try_open(port: str) -> None:
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
def open_repl(port: str, pump: bool) -> Generator[Repl]:
    """A Repl, closed at the end."""
    repl = Repl(port, pump)
    try:
        yield repl
    finally:
        repl.close()
