"""The requirement tests on a serial port: a virtual pump behind a pty stands for a board. What
needs an instrument is skipped by name, the rest runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cisterna import keys, open_bench
from cisterna.bench import NotOffered, SerialBench
from cisterna.bench_virtual import VirtualBench
from cisterna.errors import NoPump
from host_tools.tests.conftest import ROOT


def test_hil_tests_run_on_a_port() -> None:
    with VirtualBench(speed=1, trace=False) as board:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "hil_tests/test_smoke.py"),
                *("hil_tests/test_pins.py", "--bench", board.port),
                *("-rs", "-p", "no:cacheprovider", "--color=no"),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, keys.VARIABLE: str(board.keys.folder)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "4 passed, 1 skipped" in done.stdout
        said = " ".join(done.stdout.split())
        assert f"the {board.port} bench does not offer edges, refill, truth" in said


def test_bench_without_a_pump_says_so() -> None:
    with pytest.raises(NoPump, match="no port /dev/not-a-port"):
        open_bench("/dev/not-a-port")


def test_a_port_has_no_instruments() -> None:
    with VirtualBench(speed=1, trace=False) as board, SerialBench(board.port, board.keys) as bench:
        bench.advance(seconds=0.01)
        for instrument in (bench.truth, bench.edges, bench.cut_power, bench.press_service):
            with pytest.raises(NotOffered, match="the serial bench has no"):
                instrument()
