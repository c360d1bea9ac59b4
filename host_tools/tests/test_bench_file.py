"""Benches of a file: what it may say, that they prove themselves, and that nobody shares a board.
A virtual pump at real time stands for the board; its switch and counter are commands."""

from __future__ import annotations

import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cisterna import bench_file, keys, open_bench
from cisterna.bench_file import BenchTaken, BrokenBench, FileBench
from cisterna.bench_virtual import VirtualBench
from cisterna.errors import NoPump, UsageError
from host_tools.tests.conftest import ROOT
from host_tools.tests.test_balance import SimulatedBalance

_ASK = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20) as to:
    to.sendall(sys.argv[2].encode() + b"\\n")
    print(to.makefile().readline().strip())
"""


class Desk:
    """A virtual pump with a switch and a counter that commands work. ``broken``: what does not
    do what it is there for."""

    def __init__(self, folder: Path, broken: str = "") -> None:
        self.folder = folder
        self.broken = broken
        self.board = VirtualBench(seed=1, speed=1, trace=False)
        desk = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                word = self.rfile.readline().decode().strip()
                self.wfile.write(f"{desk.act(word)}\n".encode())

        self.server = socketserver.TCPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        (folder / "ask.py").write_text(_ASK)

    def act(self, word: str) -> str:
        if word == "off" and self.broken != "switch":
            self.board.cut_power()
        if word == "on":
            self.board.power_on()
        if word == "count":
            return "0" if self.broken == "counter" else str(self.board.truth()["pulses"])
        return ""

    def write(self, **more: Any) -> Path:
        """The bench's file; ``more`` replaces text."""
        number = self.server.server_address[1]
        ask = [sys.executable, "ask.py", str(number)]
        text = (
            f'format = 1\nname = "desk"\nboard = "{more.get("board", "virtual")}"\n'
            f'[pump]\nport = "{self.board.port}"\n'
            f"[power]\noff = {[*ask, 'off']!r}\non = {[*ask, 'on']!r}\n"
            f"[counter]\nread = {[*ask, 'count']!r}\n{more.get('text', '')}"
        )
        path = self.folder / "bench.toml"
        path.write_text(text.replace("'", '"'))
        return path

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.board.close()


@pytest.fixture
def desk(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    alone: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Desk]:
    assert alone
    made = Desk(tmp_path, getattr(request, "param", ""))
    monkeypatch.setenv(keys.VARIABLE, str(made.board.keys.folder))
    yield made
    made.close()


def test_a_bench_proves_itself_and_uses_its_instruments(desk: Desk) -> None:
    with SimulatedBalance("sbi", lambda: 1_500_000_000) as simulated:
        balance = (
            f'[balance]\nport = "{simulated.port}"\nprotocol = "sbi"\nwater = "20 C"\n'
            'tolerance_percent = 2.0\ntolerance_source = "a test"\n'
        )
        with open_bench(str(desk.write(text=balance))) as bench:
            assert isinstance(bench, FileBench)
            assert bench.name == "desk"
            assert bench.offers == {"advance", "power", "counter", "scale"}
            assert bench.weigh().mass_ng == 1_500_000_000
            before = bench.count()
            assert before > 0  # what the proof of the counter moved
            bench.cut_power()
            assert not desk.board.powered
            bench.power_on()
            with bench.programmer() as pump:
                assert pump.status().stopped_because == "command"
            assert bench.count() == before


@pytest.mark.parametrize(
    ("desk", "told"),
    [
        ("switch", "still answers with its power off"),
        ("counter", "the counter counted 0"),
    ],
    indirect=["desk"],
)
def test_a_broken_instrument_is_named(desk: Desk, told: str) -> None:
    with pytest.raises(BrokenBench, match=told):
        open_bench(str(desk.write()))
    with pytest.raises(BrokenBench, match=told):  # and nothing is left locked
        open_bench(str(desk.write()))


def test_another_board_than_the_file_says_is_broken(desk: Desk) -> None:
    with pytest.raises(BrokenBench, match="says board rpi_pico, there answers a virtual"):
        open_bench(str(desk.write(board="rpi_pico")))


def test_hil_tests_fail_once_on_a_broken_bench_and_then_skip(desk: Desk) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "hil_tests/test_smoke.py", "-p", "no:cacheprovider"),
            *("--bench", str(desk.write(board="rpi_pico")), "-rs", "--color=no"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "1 error" in done.stdout
    assert "bench is broken: BrokenBench: bench desk: the file says board rpi_pico" in " ".join(
        done.stdout.split()
    )


# -- locks -------------------------------------------------------------------------------------

_TAKE = """
import sys, time
from cisterna import bench_file
bench_file.take(sys.argv[1])
print("taken", flush=True)
time.sleep(60)
"""


def test_two_processes_never_share_a_board_and_a_dead_one_holds_nothing(alone: Path) -> None:
    assert alone
    with subprocess.Popen(
        [sys.executable, "-c", _TAKE, "/dev/board"], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        with pytest.raises(BenchTaken, match=f"/dev/board is in use by process {other.pid}"):
            bench_file.take("/dev/board")
        bench_file.let_go(bench_file.take("/dev/other"))
        other.kill()
        other.wait()
    name = bench_file.take("/dev/board")
    again = bench_file.take("/dev/board")  # in one process as often as it likes
    bench_file.let_go(name)
    bench_file.let_go(again)


# -- files -------------------------------------------------------------------------------------

GOOD = 'format = 1\nname = "x"\nboard = "virtual"\n[pump]\nport = "/dev/null"\n'
BALANCE = GOOD + '[balance]\nport = "/dev/null"\nprotocol = "sics"\nwater = "20 C"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "format is missing"),
        ("= 1", "no TOML"),
        (GOOD.replace("format = 1", "format = 2"), "reads format 1"),
        (GOOD.replace("virtual", "abacus"), "no board"),
        (GOOD.replace('port = "/dev/null"', ""), "either port or usb_serial"),
        (GOOD + 'usb_serial = "1"\n', "either port or usb_serial"),
        (GOOD + '[power]\non = ["a"]\n', "off is missing"),
        (GOOD + '[power]\non = "a"\noff = ["b"]\n', "must be a command"),
        (GOOD + "[laser]\n", 'no entry "laser"'),
        (BALANCE, "tolerance_percent is missing"),
        (BALANCE + 'tolerance_percent = 1\ntolerance_source = " "\n', "tolerance_source is empty"),
        (BALANCE + 'tolerance_percent = 40\ntolerance_source = "x"\n', "0 to 20"),
        (BALANCE.replace('water = "20 C"', "") + 'tolerance_percent = 1\ntolerance_source = "x"\n',
         "either water"),
        (BALANCE.replace("sics", "morse") + 'tolerance_percent = 1\ntolerance_source = "x"\n',
         "protocol must be"),
    ],
)  # fmt: skip
def test_a_file_that_describes_no_bench_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=told) as caught:
        bench_file.read(path)
    assert str(path) in str(caught.value)


def test_no_file_and_no_board_are_told(tmp_path: Path, alone: Path) -> None:
    assert alone
    with pytest.raises(UsageError, match="no such file"):
        open_bench(str(tmp_path / "bench.toml"))
    path = tmp_path / "bench.toml"
    path.write_text(GOOD.replace('port = "/dev/null"', 'usb_serial = "not there"'))
    with pytest.raises(NoPump, match="serial number not there"):
        open_bench(str(path))


def test_the_example_is_a_bench_file() -> None:
    found = bench_file.read(ROOT / "hil_tests" / "bench.example.toml")
    assert found.power
    assert found.counter
    assert found.balance is not None
