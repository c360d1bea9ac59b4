"""``cisterna sim --board rpi_pico``: the emulated Pico as a serial port for any host tool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cisterna.bench_emulated import EmulatedBench
from cisterna.emulator import NoPicoImage, find_pico_image
from host_tools.tests.conftest import Cisterna, Other
from host_tools.tests.test_sim import Callable, Start, ended, modes_in, start

__all__ = ["start"]  # the fixture

BOARD = ("--board", "rpi_pico")
BOOTS = "the emulated Pico boots; this takes some seconds\n"  # on stderr
BOOT_S = 120  # of real time, on a machine that has other things to do


@pytest.fixture(autouse=True)
def image() -> None:
    try:
        find_pico_image()
    except NoPicoImage as error:
        pytest.skip(str(error))


def mpremote(port: str, *words: str) -> str:
    """What the real mpremote prints."""
    done = subprocess.run(
        [sys.executable, "-m", "mpremote", "connect", port, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_host_tools_find_it_and_its_state_is_kept(
    cisterna: Cisterna, start: Start, tmp_path: Path
) -> None:
    state = str(tmp_path / "pico")
    process, said = start(*BOARD, "--state", state)
    assert said["board"] == "rpi_pico"
    shown = cisterna("ports", "--json").json["ports"]
    assert [(each["port"], each["state"]) for each in shown] == [(said["port"], "pump")]
    assert cisterna("program", "baclofen", "--yes", "--port", said["port"]).code == 0
    before = cisterna("status", "--json").json

    # mpremote breaks into the REPL, as on a board in the development profile
    assert "main.py" in mpremote(said["port"], "fs", "ls")
    write = "with open('/note', 'w') as note: note.write('kept')"
    mpremote(said["port"], "resume", "exec", write)
    assert cisterna("status").code == 3  # no pump runs now

    assert ended(process, signal.SIGINT) == (0, "", BOOTS)
    _, said = start(*BOARD, "--state", state)
    after = cisterna("status", "--json").json
    assert after["identity"]["boots"] == before["identity"]["boots"] + 1
    assert after["identity"]["serial"] == before["identity"]["serial"]
    assert after["prescription"] == before["prescription"]
    assert mpremote(said["port"], "fs", "cat", ":/note") == "kept"


@pytest.mark.long
def test_its_state_has_keys_in_it_and_is_its_owners_alone(tmp_path: Path) -> None:
    state = tmp_path / "pico"
    before = os.umask(0)
    try:
        with EmulatedBench(state=state) as bench:
            assert modes_in(state, ("",)) == {0o700}
            bench.save()
            assert modes_in(state, ("flash.bin", "bench.json")) == {0o600}
        (state / "flash.bin").chmod(0o644)  # as an older version left it
        with EmulatedBench(state=state):
            assert modes_in(state, ("flash.bin",)) == {0o600}
    finally:
        os.umask(before)


@pytest.mark.long
def test_prompt_and_speed(cisterna: Cisterna, in_terminal: Callable[..., Other]) -> None:
    other = in_terminal("sim", *BOARD, "--pair", "--speed", "0.01")
    other.wait_for("bench> ", BOOT_S)
    assert "A pump on an emulated Pico runs on" in other.shown

    def told(order: str, answer: str) -> None:
        other.shown = ""
        other.type(order + "\n")
        assert answer in other.wait_for("bench> ", BOOT_S)

    told("truth", "In the reservoir    20 mL")
    told("advance 5 s", "5 s passed")
    told("cut", "the pump has no power")
    told("on", "the pump has power")
    told("speed 101", "above the highest for an emulated Pico, 100")
    told("speed 20", "at 20 times real time")
    assert cisterna("status", "--json").json["identity"]["boots"] == 2
    other.type("quit\n")
    assert other.end() == 0


def test_speed_no_emulator_reaches_is_refused(cisterna: Cisterna) -> None:
    shown = cisterna("sim", *BOARD, "--speed", "max")
    assert shown.code == 2
    assert "above the highest for an emulated Pico, 100" in shown.err
    assert "cisterna sim --speed max" in shown.err
