"""Octets to and from a pump: a ``Link`` and its usual form, a serial port through pyserial."""

from __future__ import annotations

import errno
import os
import re
import time
from typing import Protocol
from urllib.parse import urlsplit

import serial
from serial.tools import list_ports

from cisterna.errors import NoPump

BAUD = 115200  # means nothing on USB and ptys; what a UART bridge is set to


_LOOK_AGAIN_S = 0.05  # between two tries at a port that another program has

_REASONS = {
    errno.ENOENT: ("there is no port {}", "cisterna ports lists the pumps here"),
    errno.EACCES: (
        "no permission to open {}",
        "on Linux, join the group that owns it (often dialout) and log in again",
    ),
}


class PortTaken(NoPump):
    """Another program has the port for itself."""


class Link(Protocol):
    """A byte stream to one pump."""

    @property
    def name(self) -> str:
        """What people call the port."""
        ...

    def write(self, data: bytes) -> None:
        """Send all of ``data``. Raises NoPump when the port is gone."""
        ...

    def read(self, timeout_s: float) -> bytes:
        """Whatever has arrived, waiting up to ``timeout_s`` for the first octet; b"" if none came.
        Raises NoPump when the port is gone."""
        ...

    def now_s(self) -> float:
        """Seconds of the clock that time-outs on this link are counted by."""
        ...

    def close(self) -> None:
        """Let go of the port."""
        ...


class SerialLink:
    """A pyserial port or URL (``/dev/ttyACM0``, ``socket://host:port``, ``rfc2217://`` ...).

    ``alone_s``: None shares the port with whoever else opens it; a number takes it for this
    program alone, waiting up to so many seconds for another that has it so. ``framing``: data
    bits, parity and stop bits of a UART, such as 8N1 or 7O1. Raises NoPump; ValueError for a
    framing that no UART has.
    """

    def __init__(
        self,
        url: str,
        alone_s: float | None = None,
        baud: int = BAUD,
        framing: str = "8N1",
    ) -> None:
        self.name = url
        _check_url(url)
        if not re.fullmatch("[78][NEO][12]", framing):
            raise ValueError(f"framing {framing!r}: 7 or 8, then N, E or O, then 1 or 2")
        until = time.monotonic() + (alone_s or 0)
        alone = None if alone_s is None else True
        while True:
            try:
                self._port = serial.serial_for_url(
                    url,
                    baudrate=baud,
                    bytesize=int(framing[0]),
                    parity=framing[1],
                    stopbits=int(framing[2]),
                    timeout=0,
                    write_timeout=2,
                    exclusive=alone,
                )
                return
            except (serial.SerialException, ValueError, OSError) as error:
                if _is_taken(error) and time.monotonic() < until:
                    time.sleep(_LOOK_AGAIN_S)
                    continue
                raise _cannot_open(url, error) from error

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except (serial.SerialException, OSError) as error:
            raise NoPump(f"{self.name} is gone: {error}") from error

    def read(self, timeout_s: float) -> bytes:
        try:
            self._port.timeout = timeout_s
            first = self._port.read(1)
            if not first:
                return b""
            return first + self._port.read(self._port.in_waiting)
        except (serial.SerialException, OSError) as error:
            raise NoPump(f"{self.name} is gone: {error}") from error

    def now_s(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        self._port.close()


def _check_url(url: str) -> None:
    """Raise NoPump for a network port's URL without host and port: pyserial stumbles over it."""
    scheme = url.partition("://")[0].lower()
    if scheme not in ("socket", "rfc2217"):
        return
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname and parts.port)
    except ValueError:
        whole = False
    if not whole:
        raise NoPump(
            f"cannot open {url}: it needs a host and a port number",
            remedy=f"write it like {scheme}://192.168.1.5:4000",
        )


def _is_taken(error: Exception) -> bool:
    number = error.errno if isinstance(error, OSError) else None
    return number in (errno.EBUSY, errno.EAGAIN)


def _cannot_open(url: str, error: Exception) -> NoPump:
    if _is_taken(error):
        return PortTaken(
            f"{url} is in use by another program",
            remedy="end that program, or wait until it is done, then repeat",
        )
    number = error.errno if isinstance(error, OSError) else None
    if number in _REASONS:
        text, remedy = _REASONS[number]
        return NoPump(text.format(url), remedy)
    reason = os.strerror(number) if number else str(error)
    reason = reason.removeprefix(f"Could not open port {url}: ")
    reason = re.sub(r"^\[Errno -?\d+\] ", "", reason)
    if "Could not configure port" in reason:  # pyserial's words for what a terminal can do
        reason = "it is no serial port"
    return NoPump(
        f"cannot open {url}: {reason}",
        remedy="cisterna ports lists the pumps here; cisterna sim starts a virtual one",
    )


def usb_ids() -> dict[str, tuple[int, int]]:
    """Vendor and product of each serial port of this machine that is on USB."""
    found: dict[str, tuple[int, int]] = {}
    for port in list_ports.comports():
        if port.vid is not None and port.pid is not None:
            found[port.device] = (port.vid, port.pid)
    return found


def serial_ports() -> list[tuple[str, str]]:
    """(device, description) of the serial ports of this machine; "" where there is none."""
    ports = [(port.device, port.description or "") for port in list_ports.comports()]
    return [(device, "" if text == "n/a" else text) for device, text in ports]
