"""Fixtures for tests of the ``cisterna`` command: it, run in this process or another one, where it
finds no pump but the test's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cisterna import finding, keys
from cisterna.bench_virtual import VirtualBench
from cisterna.cli import main
from cisterna.session import TRIES, Session
from pump_wire.messages import Message

ROOT = Path(__file__).parents[2]

# A shell that runs the tests in the background has them ignore Ctrl-C, and whatever they start
# inherits that. A program that is to be interrupted must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Ran:
    """What a run of the command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as one JSON document."""
        return json.loads(self.out)


Cisterna = Callable[..., Ran]

_LONGEST = ("test_flash_whole.py", "test_sim_pico.py", "test_chip_drivers.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take minutes begin first, so that no worker waits for them at the end."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without serial ports and with no pumps but those that register now."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    for variable in (finding.VARIABLE, "COLUMNS", "LINES"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(keys.VARIABLE, str(tmp_path / "keys"))
    monkeypatch.setattr(finding, "serial_ports", list[tuple[str, str]])
    monkeypatch.setattr(finding, "usb_ids", dict[str, tuple[int, int]])
    return runtime


@pytest.fixture
def cisterna(alone: Path, capsys: pytest.CaptureFixture[str]) -> Cisterna:  # noqa: ARG001
    """Runs the command in this process."""

    def run(*words: str) -> Ran:
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def bench(alone: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualBench]:  # noqa: ARG001
    """A new virtual pump, whose port the command uses. Only ``advance`` moves its time."""
    bench = VirtualBench(seed=1, trace=False)
    with bench:
        monkeypatch.setenv(finding.VARIABLE, bench.port)
        monkeypatch.setenv(keys.VARIABLE, str(bench.keys.folder))
        yield bench


Lie = Callable[[Message, dict[str, Any]], None]


@pytest.fixture
def lie(monkeypatch: pytest.MonkeyPatch) -> Lie:
    """A pump that has the keys and lies: replies to a message have these fields from then on."""

    def begin(lied: Message, fields: dict[str, Any]) -> None:
        honest = Session.request

        def request(
            self: Session, message: Message, values: dict[str, Any], tries: int = TRIES
        ) -> dict[str, Any]:
            reply = honest(self, message, values, tries)
            return {**reply, **fields} if message is lied else reply

        monkeypatch.setattr(Session, "request", request)

    return begin


@dataclass
class Other:
    """The command in a process of its own, its terminal in ``fd`` if it has one."""

    process: subprocess.Popen[bytes]
    fd: int = -1
    shown: str = ""

    def wait_for(self, text: str, timeout_s: float = 20) -> str:
        """Read the terminal until ``text`` was written; returns all of it so far."""
        until = time.monotonic() + timeout_s
        while text not in self.shown:
            if time.monotonic() > until:
                raise AssertionError(f"{text!r} did not come; there is:\n{self.shown}")
            try:
                self.shown += os.read(self.fd, 4096).decode("utf-8", "replace")
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:  # the other end was closed
                if text not in self.shown:
                    raise AssertionError(f"{text!r} did not come:\n{self.shown}") from None
        return self.shown

    def type(self, text: str) -> None:
        """Write to the terminal."""
        os.write(self.fd, text.encode())

    def end(self, timeout_s: float = 20) -> int:
        """Its exit code, once it has ended."""
        until = time.monotonic() + timeout_s
        while self.process.poll() is None:
            if time.monotonic() > until:
                raise AssertionError(f"it does not end:\n{self.shown}")
            self._drain()
            time.sleep(0.01)
        self._drain()
        return self.process.returncode

    def _drain(self) -> None:
        try:
            while self.fd >= 0 and (got := os.read(self.fd, 4096)):
                self.shown += got.decode("utf-8", "replace")
        except OSError:
            pass


@pytest.fixture
def in_terminal(alone: Path) -> Iterator[Callable[..., Other]]:  # noqa: ARG001
    """Starts the command in a process of its own, with a terminal of 100 columns."""
    started: list[Other] = []

    def start(*words: str, **variables: str) -> Other:
        import fcntl
        import struct
        import termios

        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        os.set_blocking(ours, False)
        environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", **variables}
        environment["PYTHONPATH"] = f"{ROOT / 'host_tools'}{os.pathsep}{ROOT / 'firmware'}"
        process = subprocess.Popen(
            [sys.executable, "-c", _IN_TERMINAL, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        started.append(Other(process, ours))
        return started[-1]

    yield start
    for other in started:
        if other.process.poll() is None:
            other.process.kill()
            other.process.wait()
        os.close(other.fd)


# A new session has no terminal until it opens one; Ctrl-C and the foreground come with it.
_IN_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from cisterna import finding, keys
from cisterna.cli import main
finding.serial_ports = list
sys.exit(main(sys.argv[1:]))
"""
