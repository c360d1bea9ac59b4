"""Ways into the emulated Pico's USB serial port: a link whose waits move simulated time, and a
pseudo-terminal for programs that want a real port.
"""

from __future__ import annotations

import os
import select
import threading
import time
import tty

from cisterna.emulator import EmulatedPico
from cisterna.errors import CisternaError, NoPump

_GAP_US = 1_000  # octets that follow each other within this belong to one read


class EmulatedLink:
    """A ``Link``. Time-outs are in simulated time, which stands still between calls. It ends when
    the board goes off USB (power, reset, cable), as a port of the operating system does."""

    name = "the emulated Pico"

    def __init__(self, pico: EmulatedPico) -> None:
        self._pico = pico
        self._open = True
        self._losses = pico.usb_losses

    def now_s(self) -> float:
        """Simulated time, seconds."""
        return self._pico.now_ns / 1e9

    def write(self, data: bytes) -> None:
        self._check()
        self._pico.send(data)

    def read(self, timeout_s: float) -> bytes:
        self._check()
        data = self._pico.receive(timeout_s * 1e6)
        if not data:
            self._check()
        piece = data
        while piece:
            piece = self._pico.receive(_GAP_US)
            data += piece
        return data

    def close(self) -> None:
        self._open = False

    def _check(self) -> None:
        if not self._open:
            raise NoPump(f"the link to {self.name} is closed")
        if not self._pico.powered:
            raise NoPump(f"{self.name} has no power")
        if not self._pico.plugged:
            raise NoPump(f"{self.name} is unplugged", remedy="plug it in and connect again")
        if self._pico.usb_losses != self._losses:
            raise NoPump(f"{self.name} went off USB", remedy="connect again")


class EmulatedPort:
    """A pseudo-terminal at ``path`` that is the emulated Pico's serial port, for any program.

    A thread runs the emulator: simulated time keeps up with ``speed`` times real time, or falls
    behind when the board is busy (a working core runs at about a twentieth of real time) and does
    not catch up. Hold ``lock`` (the emulator's) to keep time still meanwhile.
    """

    def __init__(self, pico: EmulatedPico, speed: float = 1.0) -> None:
        if not hasattr(os, "openpty"):
            raise CisternaError("the emulated port needs Linux or macOS: there are no ptys here")
        self._pico = pico
        self._speed = speed
        self.lock = pico.lock
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._outgoing = bytearray()
        self._over = threading.Event()
        self.error: BaseException | None = None  # what ended the thread
        self._thread = threading.Thread(target=self._serve, name="emulated port", daemon=True)
        self._thread.start()

    def pace(self, speed: float) -> None:
        """From now on, ``speed`` simulated seconds a real second."""
        self._speed = speed

    def close(self) -> None:
        """Stop the thread and remove the port. May be called twice."""
        if self._over.is_set():
            return
        self._over.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def _serve(self) -> None:
        slice_s = 0.005
        try:
            while not self._over.is_set():
                began = time.monotonic()
                self._take()
                with self.lock:
                    self._pico.run(slice_s * self._speed * 1e6)
                    self._outgoing += self._pico.receive()
                self._flush()
                left = slice_s - (time.monotonic() - began)
                if left > 0 and not self._outgoing:
                    select.select([self._master], [], [], left)
        except BaseException as error:  # kept for whoever closes the port
            self.error = error

    def _take(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except BlockingIOError:
            return
        except OSError:  # nobody has the other end open
            return
        self._pico.send(data)

    def _flush(self) -> None:
        try:
            while self._outgoing:
                sent = os.write(self._master, self._outgoing)
                del self._outgoing[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._outgoing.clear()
