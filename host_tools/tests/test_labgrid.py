"""A pump in a labgrid lab as a bench: labgrid's own coordinator and exporter on loopback, a
virtual pump behind a socket as the serial resource."""

from __future__ import annotations

import importlib.util
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cisterna import keys, open_bench
from cisterna.bench_virtual import VirtualBench
from cisterna.errors import UsageError
from host_tools.tests.conftest import ROOT

if importlib.util.find_spec("labgrid") is None:
    pytest.skip("labgrid is not installed: pip install labgrid", allow_module_level=True)

BIN = Path(sys.executable).parent


class Bridge:
    """Serves a serial port on a socket, one connection at a time, as ser2net does."""

    def __init__(self, port: str) -> None:
        self._file = os.open(port, os.O_RDWR | os.O_NOCTTY)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.number = self._server.getsockname()[1]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        peer: socket.socket | None = None
        while not self._over.is_set():
            files = [self._server, self._file, *([peer] if peer else [])]
            for ready in select.select(files, [], [], 0.1)[0]:
                if ready is self._server:
                    if peer:
                        peer.close()
                    peer = self._server.accept()[0]
                elif ready is self._file:
                    data = os.read(self._file, 256)
                    if peer:
                        peer.sendall(data)
                elif peer:
                    try:
                        data = peer.recv(256)
                    except ConnectionError:
                        data = b""
                    if data:
                        os.write(self._file, data)
                    else:
                        peer.close()
                        peer = None
        if peer:
            peer.close()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._server.close()
        os.close(self._file)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Lab:
    """Coordinator, exporter and one place of the name pump."""

    def __init__(self, folder: Path, number: int) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.folder = folder
        self._logs = (folder / "lab.log").open("w")
        resources = folder / "exporter.yaml"
        resources.write_text(
            f"desk:\n  NetworkSerialPort:\n    host: 127.0.0.1\n    port: {number}\n"
            "    protocol: raw\n"
        )
        self._processes = [self._start("labgrid-coordinator", "-l", self.address)]
        self._wait_listening()
        self._processes.append(
            self._start(
                *("labgrid-exporter", "-c", self.address, "-n", "host", "--hostname", "127.0.0.1"),
                str(resources),
            )
        )
        self.client("-p", "pump", "create")
        self.client("-p", "pump", "add-match", "host/desk/NetworkSerialPort")
        end = time.monotonic() + 30
        while "host/desk/NetworkSerialPort" not in self.client("resources"):
            assert time.monotonic() < end, (folder / "lab.log").read_text()
            time.sleep(0.3)

    def _start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(BIN / name), *options], cwd=self.folder, stdout=self._logs, stderr=self._logs
        )

    def _wait_listening(self) -> None:
        host, _, port = self.address.partition(":")
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
                return
            except OSError:
                assert time.monotonic() < end, (self.folder / "lab.log").read_text()
                time.sleep(0.2)

    def client(self, *options: str) -> str:
        done = subprocess.run(
            [str(BIN / "labgrid-client"), "-x", self.address, *options],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def environment(self) -> Path:
        """The example, with this lab's coordinator."""
        text = (ROOT / "hil_tests" / "labgrid.example.yaml").read_text()
        path = self.folder / "labgrid.yaml"
        path.write_text(text.replace("lab.example:20408", self.address))
        return path

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait()
        self._logs.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with VirtualBench(seed=1, speed=1, trace=False) as board:
        bridge = Bridge(board.port)
        made = Lab(tmp_path_factory.mktemp("lab"), bridge.number)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(keys.VARIABLE, str(board.keys.folder))
            yield made
        made.close()
        bridge.close()


def test_a_place_that_is_not_acquired_is_told(lab: Lab) -> None:
    # In a process of its own: labgrid keeps what it once learned of a place.
    script = "import sys; from cisterna import open_bench; open_bench(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", script, f"labgrid:{lab.environment()}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "place pump is not acquired" in done.stderr.splitlines()[-1]


def test_requirement_tests_run_on_an_acquired_place(lab: Lab) -> None:
    path = lab.environment()
    lab.client("-p", "pump", "acquire")
    try:
        with open_bench(f"labgrid:{path}") as bench:
            assert bench.offers == {"advance"}
            with bench.programmer() as pump:
                assert pump.identity.board == "virtual"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "hil_tests/test_smoke.py"),
                *("--bench", f"labgrid:{path}", "-rs", "-p", "no:cacheprovider", "--color=no"),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert " passed" in done.stdout
    finally:
        lab.client("-p", "pump", "release")


def test_no_environment_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no labgrid environment"):
        open_bench(f"labgrid:{tmp_path / 'none.yaml'}")
