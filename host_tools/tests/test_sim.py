"""``cisterna sim``: a virtual pump that other programs find, that keeps its state, and whose
prompt is a bench."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cisterna import bench_virtual, finding, vm
from cisterna.bench_virtual import VirtualBench
from cisterna.prescription import NOTICE
from cisterna.programmer import Programmer, connect
from cisterna.transport import SerialLink
from host_tools.tests.conftest import ROOT, Cisterna, Other
from pump_wire import messages

Started = tuple["subprocess.Popen[str]", dict[str, Any]]
Start = Callable[..., Started]


@pytest.fixture
def start(alone: Path) -> Iterator[Start]:  # noqa: ARG001
    """Starts ``cisterna sim --json``; gives the process and what it printed."""
    processes: list[subprocess.Popen[str]] = []

    def run(*words: str) -> Started:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = f"{ROOT / 'host_tools'}{os.pathsep}{ROOT / 'firmware'}"
        process = subprocess.Popen(
            [sys.executable, "-m", "cisterna.cli", "sim", "--json", "--pair", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        processes.append(process)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline() or "null")

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def programmer(port: str) -> Programmer:
    return connect(SerialLink(port))


def ended(process: subprocess.Popen[str], how: signal.Signals) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process sent ``how``."""
    process.send_signal(how)
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_is_found_and_ends_when_told(
    cisterna: Cisterna, start: Start, how: signal.Signals
) -> None:
    process, said = start()
    assert set(said) == {"port", "board", "pid"}
    shown = cisterna("ports", "--json").json["ports"]
    assert [(each["port"], each["state"]) for each in shown] == [(said["port"], "pump")]
    assert cisterna("status", "--json").json["port"] == said["port"]
    assert ended(process, how) == (0, "", "")
    assert list(finding.run_folder().iterdir()) == []
    assert cisterna("status").code == 3


def test_time_runs_by_itself(start: Start) -> None:
    _, said = start()
    with programmer(said["port"]) as pump:
        before, began = pump.status().uptime_us, time.monotonic()
        time.sleep(0.5)
        passed_us = pump.status().uptime_us - before
        took_us = (time.monotonic() - began) * 1e6
    assert 400_000 <= passed_us <= took_us + 100_000


def test_a_fast_pump_waits_while_it_is_talked_to(start: Start) -> None:
    _, said = start("--speed", "max")
    with programmer(said["port"]) as pump:
        talked = 0
        for _ in range(20):
            began, before_us = time.monotonic(), pump.status().uptime_us
            passed_us = pump.status().uptime_us - before_us
            took_us = (time.monotonic() - began) * 1e6
            if took_us < 200_000:  # the pump waits for a quarter of a second
                talked += 1
                assert passed_us <= took_us
        before_us = pump.status().uptime_us
        time.sleep(1)
        assert pump.status().uptime_us - before_us > 100 * 1_000_000
    assert talked


def test_commands_are_confirmed_in_time_at_any_speed(cisterna: Cisterna, start: Start) -> None:
    start("--speed", "10000")
    assert cisterna("program", "baclofen", "--yes").code == 0
    assert cisterna("refill", "--measured", "0 mL", "--fill", "20 mL", "--yes").code == 0
    shown = cisterna("bolus", "10 ug", "--over", "10 min", "--yes", "--json")
    assert shown.code == 0
    assert shown.json["echo"]["volume_nl"] == 20_000


def test_state_is_kept(cisterna: Cisterna, start: Start, tmp_path: Path) -> None:
    state = str(tmp_path / "pump")
    process, said = start("--state", state, "--speed", "1000")
    assert cisterna("program", "baclofen", "--yes").code == 0
    assert cisterna("refill", "--measured", "0 mL", "--fill", "20 mL", "--yes").code == 0
    before = cisterna("status", "--json").json
    assert ended(process, signal.SIGINT)[0] == 0
    start("--state", state)
    after = cisterna("status", "--json").json
    assert after["identity"]["serial"] == before["identity"]["serial"]
    assert after["identity"]["boots"] == before["identity"]["boots"] + 1
    assert after["prescription"] == before["prescription"]
    assert after["account"]["fill_pl"] == 20_000_000_000
    assert 0 <= after["account"]["delivered_pl"] - before["account"]["delivered_pl"] < 10**9
    assert said["port"].startswith("/dev/")


def test_two_pumps_cannot_live_in_one_folder(
    cisterna: Cisterna, start: Start, tmp_path: Path
) -> None:
    start("--state", str(tmp_path / "pump"))
    shown = cisterna("sim", "--json", "--state", str(tmp_path / "pump"))
    assert shown.code == 1
    assert f"another virtual pump lives in {tmp_path / 'pump'}" in shown.err
    assert shown.json["exit_code"] == 1


def test_killed_it_leaves_nothing_behind(cisterna: Cisterna, start: Start) -> None:
    process, _ = start()
    machines = _children(process.pid)
    assert machines
    process.kill()
    process.wait()
    assert len(list(finding.run_folder().iterdir())) == 1
    assert cisterna("status").code == 3
    assert list(finding.run_folder().iterdir()) == []
    until = time.monotonic() + 5
    while any(Path(f"/proc/{machine}").exists() for machine in machines):
        assert time.monotonic() < until, "the pump's machine outlives the bench"
        time.sleep(0.05)


def _children(parent: int) -> list[int]:
    """Processes that ``parent`` started, as Linux tells; skips the test elsewhere."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc")
    stats: list[str] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            stats.append(path.read_text())
    found = [(int(stat.split()[0]), stat.rsplit(")", 1)[1].split()) for stat in stats]
    return [number for number, fields in found if int(fields[1]) == parent]


def test_a_port_of_a_name_of_its_own(cisterna: Cisterna, start: Start, tmp_path: Path) -> None:
    link = tmp_path / "pump"
    link.symlink_to("/dev/nowhere")  # left over
    process, said = start("--port", str(link))
    assert said["port"] == str(link)
    assert cisterna("status", "--port", str(link), "--json").json["port"] == str(link)
    assert ended(process, signal.SIGINT)[0] == 0
    assert not link.is_symlink()
    (tmp_path / "file").touch()
    shown = cisterna("sim", "--port", str(tmp_path / "file"))
    assert shown.code == 1
    assert f"cannot make the port {tmp_path / 'file'}: File exists" in shown.err


def test_windows_says_why_not(cisterna: Cisterna, monkeypatch: pytest.MonkeyPatch) -> None:
    vm.find_vm.cache_clear()
    monkeypatch.setattr(vm.sys, "platform", "win32")
    shown = cisterna("sim")
    monkeypatch.undo()
    vm.find_vm.cache_clear()
    assert shown.code == 1
    assert "Windows has no pseudo-terminals" in shown.err


def test_the_prompt_is_a_bench(cisterna: Cisterna, in_terminal: Callable[..., Other]) -> None:
    other = in_terminal("sim", "--pair", "--speed", "0.001")
    other.wait_for("bench> ")
    assert NOTICE in other.shown
    assert "cisterna program baclofen" in other.shown
    assert cisterna("program", "baclofen", "--yes").code == 0
    assert cisterna("refill", "--measured", "0 mL", "--fill", "20 mL", "--yes").code == 0

    def told(order: str, answer: str) -> None:
        other.shown = ""
        other.type(order + "\n")
        assert answer in other.wait_for("bench> ")

    told("advance 30 days", "30 days passed")
    told("truth", "6 mL")
    told('fill "20 mL"', "aspirated 14 mL, put in 20 mL")
    assert cisterna("alarms", "--test", "critical").code == 0
    other.shown = ""
    other.type("advance 5 s\n")
    other.wait_for("2,600 and 2,000 Hz, 6 in 3.0 s")
    other.wait_for("bench> ")
    told("stall", "the rotor stalls")
    told("advance 1 day", "1 day passed")
    told("truth", "60,000 steps of 0.1 uL for 62,000 pulses, 0 backwards, STALLED")
    told("clear", "the rotor follows the steps")
    told("inject slip 60000", "slip begins")
    told("clear slip", "slip is over")
    told("inject slip much", "a whole number")
    told("inject gremlin", "no such fault")
    told("inject memory_pressure", "clear memory_pressure ends it")
    told("clear memory_pressure", "memory_pressure is over")
    told("cut", "the pump has no power")
    told("truth", "In the reservoir    20 mL")
    told("on", "the pump has power")
    told("speed 2", "at 2 times real time")
    told("speed 0", "no number above 0")
    told("advance 3", "has no unit")
    told("fill 20", "has no unit")
    told("fill 20 mL 500 ug/mL", "put in 20 mL of 500 ug/mL")
    told("fill 20 mL 500 ug", "fill")
    told("advance 30 days", "30 days passed")
    told("truth", "of drug")
    told("stall soon", "stall soon")
    told("dance", "dance: not known here; try help")
    told('fill "', "No closing quotation")
    told("help", "advance 30 days")
    boots = cisterna("status", "--json").json["identity"]["boots"]
    assert boots == 2
    other.type("quit\n")
    assert other.end() == 0
    assert "The pump ended." in other.shown


def test_ctrl_c_at_the_prompt_saves_the_state(
    in_terminal: Callable[..., Other], tmp_path: Path
) -> None:
    state = tmp_path / "pump"
    other = in_terminal("sim", "--pair", "--state", str(state))
    other.wait_for("bench> ")
    other.type("advance 2 days\n")
    other.wait_for("2 days passed")
    other.type("\x03")
    assert other.end() == 0
    assert f"The pump ended; its state is in {state}." in " ".join(other.shown.split())
    assert json.loads((state / "bench.json").read_text())["time_us"] >= 2 * 86_400_000_000


def test_a_pump_that_ends_by_itself_is_told(in_terminal: Callable[..., Other]) -> None:
    other = in_terminal("sim", "--pair")
    other.wait_for("bench> ")
    children = Path(f"/proc/{other.process.pid}/task/{other.process.pid}/children")
    if not children.exists():
        pytest.skip("only Linux lists the children of a process")
    for child in children.read_text().split():
        os.kill(int(child), signal.SIGKILL)
    assert other.end() == 1
    assert "the pump's VM ended by itself" in other.shown


def test_without_a_seed_nobody_can_foretell_keys_and_tokens(tmp_path: Path) -> None:
    drawn: list[tuple[bytes, bytes]] = []
    for number, secret in enumerate((True, True, False, False)):
        state = tmp_path / str(number)
        with VirtualBench(seed=7, trace=False, state=state, secret=secret) as bench:
            key = bench.keys.get(bench.pump_id, "clinician")
            assert key is not None
            with bench.programmer() as pump:
                wanted = {"wall_s": 1_800_000_000, "utc_offset_min": 0}
                drawn.append((key.key, pump.prepare(messages.SET_CLOCK, wanted).token))
    assert drawn[2] == drawn[3]
    for place in (0, 1):
        assert len({each[place] for each in drawn}) == 3


def modes_in(folder: Path, names: tuple[str, ...]) -> set[int]:
    """What others may do with these files, and with a folder."""
    return {path.stat().st_mode & 0o777 for path in (folder / name for name in names)}


WITH_KEYS = ("flash.bin", "board.json")


def test_the_state_has_keys_in_it_and_is_its_owners_alone(tmp_path: Path) -> None:
    state = tmp_path / "pump"
    before = os.umask(0)
    try:
        with VirtualBench(trace=False, state=state):
            assert modes_in(state, ("",)) == {0o700}
            assert modes_in(state, WITH_KEYS) == {0o600}
        state.chmod(0o755)  # as an older version left it
        for name in WITH_KEYS:
            (state / name).chmod(0o644)
        with VirtualBench(trace=False, state=state) as bench:
            assert modes_in(state, WITH_KEYS) == {0o600}
            bench.cut_power()
            bench.write_flash_file("note", b"kept")
            assert modes_in(state, WITH_KEYS) == {0o600}
        assert modes_in(state, ("",)) == {0o755}
    finally:
        os.umask(before)


def test_sim_makes_a_state_folder_for_its_owner_alone(start: Start, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        start("--state", str(tmp_path / "pump"))
    finally:
        os.umask(before)
    assert modes_in(tmp_path / "pump", ("",)) == {0o700}
    assert modes_in(tmp_path / "pump", WITH_KEYS) == {0o600}


def test_a_vm_that_is_stuck_is_told_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_virtual, "_ANSWER_S", 0.2)
    with VirtualBench(trace=False) as bench:
        steps = bench.truth()["steps"]
        process = bench._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(bench_virtual.PumpStopped, match="did not answer within"):
            bench.truth()
        assert process.poll() is not None
        bench.power_on()
        monkeypatch.undo()
        assert bench.truth()["steps"] == steps
