"""The ``cisterna`` command on a virtual pump, through its serial port: what it shows and does,
and its exit codes. The plant, not the pump, tells what was delivered."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from cisterna import bench_speed, cli_therapy, finding, prescription, screens, transport, units
from cisterna.bench_speed_emulated import EmulatedSpeed
from cisterna.bench_speed_emulated import table as emulated_table
from cisterna.bench_virtual import VirtualBench
from cisterna.errors import Refused
from cisterna.prescription import NOTICE
from cisterna.programmer import Programmer, Status
from host_tools.tests.conftest import Cisterna, Other
from pump_wire import messages

BACLOFEN = prescription.load(prescription.shipped()["baclofen"]).therapy
# What is programmed with another drug says its total, and why there is no bridge bolus.
TO_MORPHINE = ("--confirm-total", "0.5 mg/day", "--no-bridge-because", "another drug")
TO_BACLOFEN = ("--confirm-total", "100 ug/day", "--no-bridge-because", "another drug")
MORPHINE = prescription.load(prescription.shipped()["morphine"]).therapy
COMMANDS = (
    *("sim", "demo", "ports", "pair", "status", "monitor", "program", "bolus", "patient", "stop"),
    *("resume", "prime", "bridge", "refill"),
    *("log", "alarms", "clock", "report", "flash", "bench"),
)


def programmed(cisterna: Cisterna, *, filled: bool = True) -> None:
    """Bring a new pump to deliver baclofen."""
    assert cisterna("program", "baclofen", "--yes").code == 0
    if filled:
        assert cisterna("refill", "--measured", "0 mL", "--fill", "20 mL", "--yes").code == 0


# -- help --------------------------------------------------------------------------------------


def test_help_says_what_it_is_not(cisterna: Cisterna) -> None:
    shown = cisterna("--help")
    assert shown.code == 0
    assert NOTICE in " ".join(shown.out.split())
    listed = re.findall(r"^  ([a-z]+)  ", shown.out, re.MULTILINE)
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(cisterna: Cisterna, command: str) -> None:
    shown = cisterna(command, "--help")
    assert shown.code == 0
    assert f"Examples:\n    cisterna {command}" in shown.out
    assert "--json" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100


def test_version(cisterna: Cisterna) -> None:
    shown = cisterna("--version")
    assert shown.code == 0
    assert f"{messages.table_hash():08x}" in shown.out


def test_nothing_asked_shows_the_help_and_is_a_usage_error(cisterna: Cisterna) -> None:
    shown = cisterna()
    assert shown.code == 2
    assert "Usage: cisterna" in shown.out


# -- reading -----------------------------------------------------------------------------------


def test_status_is_one_json_document(cisterna: Cisterna, bench: VirtualBench) -> None:
    programmed(cisterna)
    bench.advance(days=30)
    shown = cisterna("status", "--json")
    assert (shown.code, shown.err) == (0, "")
    status = shown.json
    truth = bench.truth()
    assert status["port"] == bench.port
    assert status["identity"]["board"] == "virtual"
    assert status["identity"]["sealed"] == 1
    assert status["status"]["mode_name"] == "simple continuous"
    assert status["status"]["rate_nl_day"] == 200_000
    assert status["account"]["delivered_pl"] == truth["delivered_pl"] == 6_000_000_000
    assert status["prescription"]["day_mass_ng"] == 100_000
    low_us = status["forecast"]["low_in_us"]
    assert low_us == 60 * 86_400_000_000  # 12 mL more at 0.2 mL/day


def test_the_forecast_is_the_day_the_plant_gets_there(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    programmed(cisterna)
    bench.advance(days=1, hours=1)
    assert cisterna("bolus", "5 mL", "--over", "20 h", "--yes").code == 0
    bench.advance(hours=3)
    low_us = cisterna("status", "--json").json["forecast"]["low_in_us"]
    bench.advance(us=low_us)
    step_pl = bench.truth()["step_pl"]
    assert 0 <= bench.truth()["residual_pl"] - 2_000_000_000 <= step_pl
    assert cisterna("status", "--json").json["forecast"]["low_in_us"] == 0
    assert "2 mL: REACHED, refill now" in cisterna("status").out


def test_status_is_one_screen(cisterna: Cisterna, bench: VirtualBench) -> None:
    programmed(cisterna)
    assert cisterna("clock", "--set").code == 0
    bench.advance(days=30)
    assert cisterna("bolus", "10 ug", "--over", "10 min", "--yes").code == 0
    bench.advance(minutes=5)
    shown = cisterna("status")
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    for text in (
        f"on {bench.port}",
        "single bolus, then back to simple continuous",
        "2.88 mL/day = 1.44 mg/day of baclofen",
        "20 uL (10 ug): 10 uL given, 10 uL to go, done in 5 min",
        "13.99 mL of 20 mL",
        "60,100 steps, 0.01 mL of it by boluses",
        "in 59 days",
        "sealed link",
    ):
        assert text in shown.out


def test_status_of_a_new_pump_says_what_to_do(cisterna: Cisterna, bench: VirtualBench) -> None:
    assert bench.truth()["steps"] == 0
    shown = cisterna("status").out
    assert "STOPPED (no prescription)  program one: cisterna program FILE" in shown
    assert "no refill recorded\n" in shown
    assert 'cisterna refill --measured "0 mL" --fill "20 mL" --reason "first fill"\n' in shown
    assert "not set: cisterna clock --set" in shown


def test_what_only_hello_says_is_told_as_unproved(
    cisterna: Cisterna,
    bench: VirtualBench,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    lines = cisterna("status").out.splitlines()
    for text in ("board virtual, firmware", "cause: power on"):
        assert "unproved" in next(line for line in lines if text in line)
    assert cisterna("report", "--out", str(tmp_path)).code == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "board, firmware, MicroPython, starts" in page
    assert "nothing proves" in " ".join(cisterna("log", "--help").out.split())


def test_status_shows_a_fault_with_its_remedy(cisterna: Cisterna, bench: VirtualBench) -> None:
    programmed(cisterna)
    bench.cut_power()
    for copy in ("/prescription.0", "/prescription.1"):
        bench.write_flash_file(copy, b"not a prescription")
    bench.power_on()
    text, remedy = messages.FAULTS[messages.FAULT["settings_damaged"]][1:]
    shown = cisterna("status")
    assert shown.code == 0
    assert f"FAULT: {text}" in shown.out
    assert f"to do: {remedy}" in shown.out
    refused = cisterna("bolus", "10 uL", "--over", "1 min", "--yes")
    assert refused.code == 1
    assert text in refused.err
    assert f"to do: {remedy}" in refused.err


def test_log_is_oldest_first_with_times(cisterna: Cisterna, bench: VirtualBench) -> None:
    programmed(cisterna)
    bench.advance(days=1, hours=2)
    assert cisterna("clock", "--set").code == 0
    assert cisterna("stop", "--yes").code == 0
    bench.cut_power()
    bench.power_on()
    shown = cisterna("log")
    lines = shown.out.splitlines()
    assert shown.code == 0
    assert "start 1 + 0 d 00:00:00" in lines[0]
    assert lines[0].endswith("pump started, reset cause: power on")
    assert any("refill recorded, fill 20 mL" in line for line in lines)
    stopped = next(line for line in lines if line.endswith("delivery stopped by command"))
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", stopped)
    assert "start 2 + 0 d 00:00:00" in lines[-1]
    events = cisterna("log", "--json").json["events"]
    assert [event["sequence"] for event in events] == list(range(len(lines)))
    assert [event["name"] for event in events[-3:]] == [
        "pump_started",
        "power_lost",
        "alarm_raised",
    ]


def test_log_from_a_number_and_the_last(cisterna: Cisterna, bench: VirtualBench) -> None:
    programmed(cisterna)
    count = len(cisterna("log", "--json").json["events"])
    assert bench.truth()["steps"] == 0
    some = cisterna("log", "--first", "2", "--json").json["events"]
    assert [event["sequence"] for event in some] == list(range(2, count))
    last = cisterna("log", "--last", "2", "--json").json["events"]
    assert [event["sequence"] for event in last] == [count - 2, count - 1]
    assert cisterna("log", "--first", "1", "--last", "1").code == 2
    assert cisterna("log", "--follow", "--json").code == 2


def test_log_shows_a_damaged_record_as_damaged(cisterna: Cisterna, bench: VirtualBench) -> None:
    programmed(cisterna)
    bench.cut_power()
    name = "/log/s0/now"  # the first records: eight octets of head, then they
    records = bytearray(bench.read_flash_file(name))
    records[8 + messages.EVENT_SIZE + 8] ^= 1
    bench.write_flash_file(name, bytes(records))
    bench.power_on()
    lines = cisterna("log").out.splitlines()
    assert "this record is damaged" in lines[1]
    assert "damaged" not in lines[0] + lines[2]
    event = cisterna("log", "--json").json["events"][1]
    assert (event["damaged"], event["name"]) == (True, "damaged_record")


def test_log_follows(
    cisterna: Cisterna, bench: VirtualBench, in_terminal: Callable[..., Other]
) -> None:
    programmed(cisterna)
    other = in_terminal("log", "--follow")
    other.wait_for("refill recorded")
    assert cisterna("stop", "--yes").code == 0  # the pump is free while it is followed
    other.wait_for("delivery stopped by command")
    assert bench.truth()["steps"] == 0
    other.type("\x03")
    assert other.end() == 130
    assert other.shown.endswith("\r\ninterrupted\r\n")


def test_report_is_written(cisterna: Cisterna, bench: VirtualBench, tmp_path: Path) -> None:
    programmed(cisterna)
    bench.advance(days=2)
    shown = cisterna("report", "--out", str(tmp_path / "out"), "--json")
    assert shown.code == 0
    page = Path(shown.json["html"]).read_text()
    for text in (NOTICE, "baclofen", "refill recorded, fill 20 mL", "19.6000", "own words only"):
        assert text in page
    assert all(Path(name).stat().st_size > 1000 for name in shown.json["pngs"])
    names = cisterna("report", "--out", str(tmp_path / "out")).out.splitlines()
    assert [Path(name).name for name in names] == ["report.html", "reservoir.png"]


# -- program -----------------------------------------------------------------------------------


def test_check_needs_no_pump(cisterna: Cisterna) -> None:
    shown = cisterna("program", "baclofen", "--check")
    assert shown.code == 0
    assert re.search(r"24 h drug +100 ug\n", shown.out)
    found = cisterna("program", "baclofen", "--check", "--json").json["prescription"]
    assert (
        found.items()
        >= {
            "drug": "baclofen",
            "concentration_ng_ml": 500_000,
            "mode": messages.SIMPLE_CONTINUOUS,
            "rate_nl_day": 200_000,
            "capacity_nl": 20_000_000,
            "low_mark_nl": 2_000_000,
            "mode_name": "simple continuous",
            "basal_rate_nl_day": 200_000,
            "day_volume_nl": 200_000,
            "day_mass_ng": 100_000,
        }.items()
    )


def test_program_shows_old_and_new_and_verifies(cisterna: Cisterna, bench: VirtualBench) -> None:
    programmed(cisterna)
    shown = cisterna("program", "morphine", "--yes", *TO_MORPHINE)
    assert shown.code == 0
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert "24 h volume 0.2 mL 0.25 mL +25 %" in lines
    assert "24 h drug 100 ug 500 ug +400 %, 5x" in lines
    assert "24-h total, old 100 ug/day of baclofen = 0.2 mL/day" in lines
    assert "24-h total, new 500 ug/day of morphine = 0.25 mL/day" in lines
    assert "Largest change from nothing (morphine)" in lines
    assert "Drug baclofen morphine changed" in lines
    assert "Mode simple continuous simple continuous unchanged" in lines
    assert "Programmed and verified" in shown.out
    assert "Now simple continuous, 0.25 mL/day" in lines
    with bench.programmer() as pump:
        assert pump.prescription() == MORPHINE


def test_program_as_json(cisterna: Cisterna, bench: VirtualBench) -> None:
    first = cisterna("program", "baclofen", "--yes", "--json").json
    assert (first["done"], first["verified"], first["previous"]) == (True, True, None)
    second = cisterna("program", "morphine", "--yes", "--json", *TO_MORPHINE).json
    assert second["previous"]["drug"] == "baclofen"
    assert second["prescription"]["drug"] == "morphine"
    assert second["stop_reason_name"] == "empty reservoir"
    assert second["event"] > first["event"]
    assert bench.truth()["steps"] == 0


def test_programming_does_not_hide_that_the_pump_is_stopped(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    shown = cisterna("program", "baclofen", "--yes").out
    assert bench.truth()["steps"] == 0
    assert "Programmed and verified" in shown
    assert "STOPPED (empty reservoir)" in shown


def test_a_dose_rate_that_is_not_programmable_is_told(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Path
) -> None:
    text = prescription.shipped()["baclofen"].read_text().replace("100 ug/day", "100.3 ug/day")
    file = tmp_path / "rx.toml"
    file.write_text(text)
    shown = cisterna("program", str(file), "--yes")
    assert shown.code == 0
    assert "note: dose rate 100.3 ug/day is not programmable" in shown.out
    assert bench.truth()["steps"] == 0


def test_export_gives_what_the_pump_runs(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Path
) -> None:
    file = tmp_path / "rx.toml"
    assert cisterna("program", "--export", str(file)).code == 1  # there is nothing to export
    programmed(cisterna)
    assert cisterna("program", "--export", str(file)).code == 0
    assert prescription.load(file).therapy == BACLOFEN
    assert cisterna("program", "--export", "-").out == file.read_text()
    assert cisterna("program", "--export", "-", "--json").json["text"] == file.read_text()
    again = cisterna("program", "--export", str(file))
    assert again.code == 1
    assert "was not overwritten" in again.err
    assert bench.truth()["steps"] == 0


# -- bolus, stop, resume -----------------------------------------------------------------------


def test_bolus_echoes_and_the_plant_delivers_it(cisterna: Cisterna, bench: VirtualBench) -> None:
    programmed(cisterna)
    before = bench.truth()["delivered_pl"]
    shown = cisterna("bolus", "10 ug", "--over", "10 min", "--yes")
    assert shown.code == 0
    for text in (
        "10 ug over 10 min",
        "0.02 mL = 10 ug of baclofen",
        "2.88 mL/day, 14.4 times the basal 0.2 mL/day",
        "in place of the basal rate: 20 uL instead of 1.39 uL in this time",
        "Now                 single bolus, 2.88 mL/day, then back to simple continuous",
        "19.98 mL expected",
    ):
        assert text in shown.out
    bench.advance(minutes=10)
    assert bench.truth()["delivered_pl"] - before == 20_000_000
    assert "Bolus               none" in cisterna("status").out


def test_bolus_as_json(cisterna: Cisterna, bench: VirtualBench) -> None:
    programmed(cisterna)
    done = cisterna("bolus", "20 uL", "--over", "10 min", "--yes", "--json").json
    assert bench.truth()["steps"] == 0
    assert done["echo"] == {
        "volume_nl": 20_000,
        "duration_us": 600_000_000,
        "rate_nl_day": 2_880_000,
        "cut_nl": 0,
        "asks": 0,
    }
    assert (done["mass_ng"], done["mode_name"]) == (10_000, "single bolus")


def limited(cisterna: Cisterna, tmp_path: Path, **limits: int) -> None:
    """Bring a new pump to deliver baclofen with ``limits``."""
    file = tmp_path / "limited.toml"
    file.write_text(prescription.dumps(dataclasses.replace(BACLOFEN, **limits)))
    assert cisterna("program", str(file), "--yes").code == 0
    assert cisterna("refill", "--measured", "0 mL", "--fill", "20 mL", "--yes").code == 0


@pytest.mark.requirement("THE-6")
def test_a_bolus_above_the_soft_limit_is_shown_and_must_be_agreed_to(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Path
) -> None:
    limited(cisterna, tmp_path, soft_bolus_nl=10_000)
    above = "the bolus, 0.04 mL = 20 ug, is above the soft limit, 0.01 mL = 5 ug"
    order = ("bolus", "20 ug", "--over", "10 min", "--yes")
    for words in (order, (*order, "--json")):
        refused = cisterna(*words)
        assert refused.code == 2
        assert above in refused.err
        assert "--accept-warnings" in refused.err
    with bench.programmer() as pump:
        with pytest.raises(Refused) as raised:
            pump.bolus("20 ug", "10 min")
        assert raised.value.name == "not_agreed"
        assert pump.prepare_bolus("20 ug", "10 min").echo["asks"] == messages.ASK_SOFT_BOLUS
    assert bench.truth()["steps"] == 0
    done = cisterna(*order, "--accept-warnings")
    assert done.code == 0
    assert f"WARNING: {above}" in done.out
    assert "Started" in done.out
    assert cisterna("bolus", "--cancel", "--yes").code == 0
    with bench.programmer() as pump:
        assert pump.bolus("20 ug", "10 min", accept_warnings=True).event
    assert cisterna("bolus", "--cancel", "--yes").code == 0
    assert cisterna("bolus", "5 ug", "--over", "10 min", "--yes").code == 0  # not above it


def test_a_bolus_above_the_soft_limit_is_agreed_to_on_a_terminal(
    cisterna: Cisterna, bench: VirtualBench, in_terminal: Callable[..., Other], tmp_path: Path
) -> None:
    limited(cisterna, tmp_path, soft_bolus_nl=10_000)
    other = in_terminal("bolus", "20 ug", "--over", "10 min")
    other.wait_for("Give it? [y/N]")
    assert "is above the soft limit, 0.01 mL = 5 ug" in other.shown
    other.type("y\n")
    assert other.end() == 0
    assert "Started" in other.shown
    assert bench.truth()["steps"] == 0


@pytest.mark.requirement("DEL-5")
@pytest.mark.parametrize(
    ("limits", "cut_by", "says"),
    [
        ({"hour_nl": 100_000}, ["hour_nl"], "limit of 0.1 mL in 1 h"),
        ({"hour_nl": 100_000, "day_nl": 900_000}, ["hour_nl"], "limit of 0.1 mL in 1 h"),
        ({"hour_nl": 900_000, "day_nl": 300_000}, ["day_nl"], "limit of 0.3 mL in 24 h"),
        (
            {"hour_nl": 100_000, "day_nl": 300_000},
            ["hour_nl", "day_nl"],
            "limit of 0.1 mL in 1 h or 0.3 mL in 24 h",
        ),
    ],
)
def test_what_a_limit_cuts_off_a_bolus_is_told(
    cisterna: Cisterna,
    bench: VirtualBench,
    tmp_path: Path,
    limits: dict[str, int],
    cut_by: list[str],
    says: str,
) -> None:
    limited(cisterna, tmp_path, **limits)
    order = ("bolus", "0.15 mL", "--over", "1 h", "--yes")
    shown = cisterna(*order)
    assert shown.code == 0
    with bench.programmer() as pump:
        given_nl = pump.status().bolus_pl // 1000
    assert 0 < given_nl < 150_000
    cut = units.format_volume_nl(150_000 - given_nl)
    mass = screens.mass(Fraction(150_000 - given_nl, 2))
    line = next(line for line in shown.out.splitlines() if line.startswith("  Cut "))
    assert line.split(None, 1)[1] == f"{cut} = {mass} of it will not be given: {says}"
    assert f"): {cut} of what was asked for will not be given." in shown.out
    assert cisterna("bolus", "--cancel", "--yes").code == 0
    found = cisterna(*order, "--json").json
    assert found["request"]["volume_nl"] == 150_000
    assert found["echo"]["volume_nl"] + found["echo"]["cut_nl"] == 150_000
    assert found["cut_by"] == cut_by
    assert "Cut" not in cisterna("bolus", "1 uL", "--over", "1 min", "--yes").out


def test_bolus_is_cancelled(cisterna: Cisterna, bench: VirtualBench) -> None:
    programmed(cisterna)
    assert cisterna("bolus", "10 ug", "--over", "10 min", "--yes").code == 0
    second = cisterna("bolus", "1 ug", "--over", "1 min", "--yes")
    assert second.code == 1
    assert "a bolus is running" in second.err
    bench.advance(minutes=2.5)
    shown = cisterna("bolus", "--cancel", "--yes")
    assert shown.code == 0
    assert "15 uL of it will not be given" in shown.out
    bench.advance(minutes=30)
    assert bench.truth()["delivered_pl"] < 10_000_000
    none = cisterna("bolus", "--cancel", "--yes")
    assert none.code == 1
    assert "no bolus is running: it is in mode simple continuous" in none.err
    assert cisterna("bolus", "1 ug", "--cancel").code == 2


def test_watching_a_bolus_ends_with_it(cisterna: Cisterna, bench: VirtualBench) -> None:
    programmed(cisterna)
    bench.pace(1000)
    shown = cisterna("bolus", "10 ug", "--over", "10 min", "--yes", "--watch")
    assert shown.code == 0
    assert bench.truth()["delivered_pl"] >= 20_000_000


def test_stop_and_resume(cisterna: Cisterna, bench: VirtualBench) -> None:
    programmed(cisterna)
    bench.advance(days=1)
    stopped = cisterna("stop", "--yes")
    assert stopped.code == 0
    assert "STOPPED (command)" in stopped.out
    steps = bench.truth()["steps"]
    bench.advance(days=1)
    assert bench.truth()["steps"] == steps
    refused = cisterna("bolus", "1 ug", "--over", "1 min", "--yes")
    assert refused.code == 1
    assert "cisterna resume" in refused.err
    resumed = cisterna("resume", "--yes", "--json").json
    assert resumed["echo"] == {"mode": messages.SIMPLE_CONTINUOUS, "rate_nl_day": 200_000}
    bench.advance(days=1)
    assert bench.truth()["steps"] == steps + 2000
    again = cisterna("resume", "--yes")
    assert again.code == 1
    assert "the pump is not stopped by command: it is in mode simple continuous" in again.err


def test_programming_a_stopped_pump_leaves_it_stopped(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    programmed(cisterna)
    assert cisterna("stop", "--yes").code == 0
    shown = cisterna("program", "morphine", "--yes", *TO_MORPHINE)
    assert shown.code == 0
    words = " ".join(shown.out.split())
    assert "Now stopped by command; stays stopped until cisterna resume" in words
    assert "The pump stays stopped until cisterna resume." in words
    assert "STOPPED (command)" in words
    bench.advance(days=1)
    assert bench.truth()["steps"] == 0


@pytest.mark.parametrize("words", [("program", "morphine", *TO_MORPHINE), ("stop",)])
def test_what_ends_a_bolus_says_so_and_what_was_not_given(
    cisterna: Cisterna, bench: VirtualBench, words: tuple[str, ...]
) -> None:
    programmed(cisterna)
    for how in ("", "--json"):
        assert cisterna("bolus", "10 ug", "--over", "10 min", "--yes").code == 0
        bench.advance(minutes=2.5)
        shown = cisterna(*words, "--yes", *filter(None, [how]))
        assert shown.code == 0
        if how:
            assert shown.json["bolus_not_given_pl"] == 15_000_000
        else:
            will_end = "WILL END: 15 uL (7.5 ug) of 20 uL not given yet"
            # A stop waits for no reading.
            assert (will_end in shown.out) == (words[0] == "program")
            assert "The bolus has ended: 15 uL of it were not given." in shown.out
        if words[0] == "program":
            assert cisterna("program", "baclofen", "--yes", *TO_BACLOFEN).code == 0
        cisterna("resume", "--yes")


def test_a_bolus_that_was_over_is_not_ended_by_a_stop(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    programmed(cisterna)
    assert cisterna("bolus", "10 ug", "--over", "10 min", "--yes").code == 0
    bench.advance(minutes=5)
    assert cisterna("bolus", "--cancel", "--yes").code == 0
    shown = cisterna("program", "baclofen", "--yes", "--json")
    assert shown.json["bolus_not_given_pl"] == 0
    assert "bolus" not in cisterna("stop", "--yes").out


def test_what_a_stopped_pump_needs_depends_on_why(cisterna: Cisterna, bench: VirtualBench) -> None:
    bolus = ("bolus", "10 uL", "--over", "1 min", "--yes")
    never = cisterna(*bolus)
    assert "to do: program one: cisterna program FILE" in never.err
    assert cisterna("program", "baclofen", "--yes").code == 0
    empty = cisterna(*bolus)
    assert "not while the pump is stopped (empty reservoir)" in empty.err
    assert "to do: refill it, then tell the pump: cisterna refill" in empty.err
    resumed = cisterna("resume", "--yes")
    assert "the pump is not stopped by command" in resumed.err
    assert "to do: refill it, then tell the pump: cisterna refill" in resumed.err
    assert bench.truth()["steps"] == 0


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (Fraction(1, 144), "0.00694 times"),
        (Fraction(1), "1 times"),
        (Fraction(123_456, 1000), "123 times"),
        (Fraction(1, 10**9), "0.000000001 times"),
    ],
)
def test_factors_have_significant_digits(times: Fraction, says: str) -> None:
    assert cli_therapy._times(times) == says


# -- refill and clock --------------------------------------------------------------------------


def test_refill_within_the_limits(cisterna: Cisterna, bench: VirtualBench) -> None:
    programmed(cisterna)
    bench.advance(days=30)
    aspirated_nl = bench.refill_reservoir(20_000_000)
    shown = cisterna("refill", "--measured", f"{aspirated_nl} nL", "--fill", "20 mL", "--yes")
    assert shown.code == 0
    for text in (
        "Measured residual   14 mL",
        "Expected residual   14 mL",
        "Discrepancy         0 mL",
        "1 (delivered 6 mL / programmed 6 mL)",
        "within the limits",
        "the account starts at 20 mL",
    ):
        assert text in shown.out
    assert cisterna("status", "--json").json["account"]["residual_pl"] == 20_000_000_000


def test_refill_with_a_discrepancy(cisterna: Cisterna, bench: VirtualBench) -> None:
    programmed(cisterna)
    bench.advance(days=30)
    aspirated_nl = bench.refill_reservoir(20_000_000)
    assert aspirated_nl == 14_000_000
    words = ("refill", "--measured", "20 mL", "--fill", "20 mL", "--reason", "early", "--yes")
    shown = cisterna(*words, "--json").json
    assert shown["echo"]["discrepancy_pl"] == 6_000_000_000
    assert (shown["echo"]["flagged"], shown["first"]) == (1, False)
    assert shown["request"]["reason"] == "early"
    bench.advance(days=30)
    again = cisterna(*words)
    assert "+6 mL (measured - expected)" in again.out
    assert "DISCREPANCY outside the limits" in again.out


def test_what_cannot_be_used_is_told(cisterna: Cisterna, bench: VirtualBench) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    words = ("refill", "--measured", "0 mL", "--reason", "first fill", "--yes")
    refused = cisterna(*words, "--fill", "1.4 mL")
    assert refused.code == 1
    assert "to do: put in more" in refused.err
    assert "empty: 0 mL left, 1.4 mL cannot be used; refill it" in cisterna("status").out
    shown = cisterna(*words, "--fill", "2 mL")
    assert shown.code == 0
    assert "Cannot be used      1.4 mL" in shown.out
    assert "2 mL is not above the low mark, 2 mL: the reservoir is low" in shown.out
    assert "Cannot be used      1.4 mL" in cisterna("status").out
    bench.advance(days=3, hours=1)
    assert "STOPPED (empty reservoir)  empty: 1.4 mL left, 1.4 mL cannot be used" in (
        cisterna("status").out
    )


def test_clock(cisterna: Cisterna, bench: VirtualBench) -> None:
    assert cisterna("clock", "--json").json["pump_s"] is None
    now = time.time()
    assert abs(cisterna("clock", "--set", "--json").json["pump_s"] - now) < 10
    bench.advance(days=1)
    seen = cisterna("clock", "--json").json
    assert abs(seen["pump_s"] - seen["computer_s"] - 86_400) < 10
    assert "1 day ahead of this computer's" in cisterna("clock").out
    assert cisterna("clock", "--set").code == 0
    seen = cisterna("clock", "--json").json
    assert abs(seen["pump_s"] - seen["computer_s"]) < 10


@pytest.mark.parametrize(
    ("off_s", "told"),
    [
        (-1, "as this computer's"),
        (0, "as this computer's"),
        (2, "2 s ahead of this computer's"),
        (-61, "1 min 1 s behind this computer's"),
        (3_599, "1 h ahead of this computer's"),
        (86_399, "1 day ahead of this computer's"),
        (-86_401, "1 day behind this computer's"),
    ],
)
def test_how_far_the_clock_is_off_is_told_to_what_it_was_read(off_s: int, told: str) -> None:
    assert screens.clock_words(1_800_000_000 + off_s, 1_800_000_000).endswith(f", {told}")


# -- agreeing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("program", "baclofen"),
        ("bolus", "10 uL", "--over", "1 min"),
        ("stop",),
        ("resume",),
        ("refill", "--measured", "1 mL", "--fill", "20 mL"),
    ],
)
def test_without_a_terminal_agreement_must_be_given(
    cisterna: Cisterna, bench: VirtualBench, words: tuple[str, ...]
) -> None:
    programmed(cisterna)
    before = cisterna("status", "--json").json["status"]["next_event"]
    shown = cisterna(*words)
    assert shown.code == 2
    assert "--yes" in shown.err
    as_json = cisterna(*words, "--json")
    assert as_json.code == 2
    assert as_json.json["exit_code"] == 2
    assert "--yes" in as_json.json["error"]
    assert as_json.json["error"] in as_json.err
    assert cisterna("status", "--json").json["status"]["next_event"] == before
    assert bench.truth()["steps"] == 0


def test_yes_on_a_terminal(
    cisterna: Cisterna, bench: VirtualBench, in_terminal: Callable[..., Other]
) -> None:
    other = in_terminal("program", "baclofen")
    other.wait_for("Program it? [y/N]")
    assert cisterna("status").code == 0  # the pump is free while the user reads
    other.type("y\n")
    assert other.end() == 0
    assert "Programmed and verified" in other.shown
    lines = re.sub(r"\x1b\[[0-9;]*m", "", other.shown).splitlines()
    assert max(map(len, lines)) <= 100
    with bench.programmer() as pump:
        assert pump.prescription() == BACLOFEN


@pytest.mark.parametrize(
    ("typed", "code", "says"),
    [
        ("\n", 1, "not confirmed: nothing was changed"),
        ("yess\n", 1, "not confirmed: nothing was changed"),
        ("\x04", 1, "not confirmed: nothing was changed"),
        ("\x03", 130, "the pump goes on delivering what it delivered"),
    ],
)
def test_anything_but_yes_changes_nothing(
    cisterna: Cisterna,
    bench: VirtualBench,
    in_terminal: Callable[..., Other],
    typed: str,
    code: int,
    says: str,
) -> None:
    programmed(cisterna)
    before = cisterna("status", "--json").json["status"]["next_event"]
    other = in_terminal("bolus", "10 ug", "--over", "10 min")
    other.wait_for("Give it? [y/N]")
    other.type(typed)
    assert other.end() == code
    assert says in other.shown
    assert "Traceback" not in other.shown
    assert cisterna("status", "--json").json["status"]["next_event"] == before
    bench.advance(days=1)
    assert bench.truth()["steps"] == 2000  # the basal rate, and nothing else


def test_what_changed_while_the_user_read_is_not_confirmed(
    cisterna: Cisterna, bench: VirtualBench, in_terminal: Callable[..., Other]
) -> None:
    programmed(cisterna)
    other = in_terminal("bolus", "10 ug", "--over", "10 min")
    other.wait_for("Give it? [y/N]")
    assert cisterna("program", "morphine", "--yes", *TO_MORPHINE).code == 0
    other.type("y\n")
    assert other.end() == 1
    assert "the pump has changed since you were asked" in other.shown
    assert cisterna("status", "--json").json["status"]["bolus_pl"] == 0
    assert bench.truth()["steps"] == 0


def test_ctrl_c_while_watching_leaves_the_bolus(
    cisterna: Cisterna, bench: VirtualBench, in_terminal: Callable[..., Other]
) -> None:
    programmed(cisterna)
    other = in_terminal("bolus", "10 ug", "--over", "10 min", "--yes", "--watch")
    other.wait_for("Started")
    os.kill(other.process.pid, signal.SIGINT)
    assert other.end() == 130
    assert "the bolus goes on; end it with cisterna bolus --cancel" in other.shown
    bench.advance(minutes=10)
    assert bench.truth()["delivered_pl"] == 20_000_000


def test_ctrl_c_while_it_is_loaded(alone: Path) -> None:
    loading = """
import builtins, sys
from cisterna.cli import main
load = builtins.__import__
def interrupted(name, *rest):
    if name == "typer":
        raise KeyboardInterrupt
    return load(name, *rest)
builtins.__import__ = interrupted
sys.exit(main(["status"]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", loading],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=alone,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "interrupted\n")


def test_ctrl_c_after_the_pump_did_it_changes_no_outcome(
    cisterna: Cisterna, bench: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    programmed(cisterna)
    read_status, sent = Programmer.status, list[int]()

    def interrupted(pump: Programmer) -> Status:
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            os.kill(os.getpid(), signal.SIGINT)
            sent.append(1)
        return read_status(pump)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Programmer, "status", interrupted)
    shown = cisterna("stop", "--yes")
    assert sent
    assert shown.code == 0
    assert "Done (record" in shown.out
    assert signal.getsignal(signal.SIGINT) is before
    assert bench.truth()["steps"] == 0


# -- finding -----------------------------------------------------------------------------------


def test_no_pump(cisterna: Cisterna) -> None:
    for words in (("ports",), ("status",), ("bolus", "1 ug", "--over", "1 min", "--yes")):
        shown = cisterna(*words)
        assert shown.code == 3
        assert "no pump was found: no serial port" in shown.err
        assert "cisterna sim" in shown.err
    as_json = cisterna("ports", "--json")
    assert (as_json.code, as_json.json) == (3, {"ports": []})


def test_the_only_pump_is_found(
    cisterna: Cisterna, bench: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(finding.VARIABLE)
    with finding.registered(bench.port, "virtual"):
        assert cisterna("status", "--json").json["port"] == bench.port
        listed = cisterna("ports")
        assert listed.code == 0
        assert re.search(rf"^{bench.port} +\S+ +virtual +0.1.0 +paired +stopped", listed.out, re.M)
        entry = cisterna("ports", "--json").json["ports"][0]
        assert (entry["state"], entry["virtual"]) == ("pump", True)
    assert cisterna("status").code == 3


def test_of_several_pumps_one_must_be_named(
    cisterna: Cisterna, bench: VirtualBench, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(finding.VARIABLE)
    monkeypatch.setattr(finding, "serial_ports", lambda: [(second.port, "a cable")])
    second = VirtualBench(seed=2, trace=False)
    for held in second.keys.all():
        bench.keys.put(held.pump, held.role, held.key, held.generation)
    with second, finding.registered(bench.port, "virtual"):
        shown = cisterna("status")
        assert shown.code == 2
        for text in (bench.port, second.port, "--port"):
            assert text in shown.err
        assert cisterna("status", "--port", second.port, "--json").json["port"] == second.port
        assert len(cisterna("ports", "--json").json["ports"]) == 2
    assert list(alone.rglob("*.json")) == []


def test_entries_left_over_are_removed(cisterna: Cisterna, alone: Path) -> None:
    folder = finding.run_folder()
    assert alone in folder.parents
    folder.mkdir(parents=True)
    (folder / "1.json").write_text(json.dumps({"port": "/dev/null", "board": "virtual"}))
    (folder / "2.json").write_text("{")
    assert cisterna("ports", "--json").json == {"ports": []}
    assert list(folder.iterdir()) == []


def test_a_port_in_use_says_so(cisterna: Cisterna, bench: VirtualBench) -> None:
    finding._PATIENCE_S, patience_s = 0.1, finding._PATIENCE_S
    try:
        with finding.open_pump(bench.port):
            shown = cisterna("status")
    finally:
        finding._PATIENCE_S = patience_s
    assert shown.code == 3
    assert f"{bench.port} is in use by another program" in shown.err
    assert bench.truth()["steps"] == 0


def test_a_port_without_a_description(cisterna: Cisterna, monkeypatch: pytest.MonkeyPatch) -> None:
    port = types.SimpleNamespace(device="/dev/nowhere", description="n/a")
    monkeypatch.setattr(transport.list_ports, "comports", lambda: [port])
    monkeypatch.setattr(finding, "serial_ports", transport.serial_ports)
    shown = cisterna("ports")
    assert shown.code == 3
    assert "/dev/nowhere: there is no port" in shown.out


def test_the_parts_of_a_segment_and_their_rest_are_all_of_it() -> None:
    speed = bench_speed.Speed(1, 1.0, 500_000, 0, 0, {"one": 4.0, "two": 3.0})
    assert speed.us_a_segment == 10
    assert bench_speed.table(speed)[-1] == ("  rest", "3.0 us, 30%")


def test_figures_of_the_emulated_pico_are_ratios() -> None:
    speed = EmulatedSpeed(2.0, 72.0, 833, 7_200_000, 170, 12, 20.0, 900_000)
    rows = dict(emulated_table(speed))
    assert rows["simulated / real time"] == "100"
    assert rows["measured / required"] == "5.0"
    assert rows["processor awake"] == "0.1000% of the time"
    assert rows["measured / allowed"] == "0.100"
    # 2.6 Ah at 10.4 mA: 250 h
    assert rows["battery at most, waiting as it does"] == "0.03 years (10 days)"
    assert "2.6 Ah" in rows["assumed for that"]
    assert "no motor" in rows["assumed for that"]
    assert rows["start, simulated / real time"] == "0.045"


def test_bench_names(cisterna: Cisterna) -> None:
    shown = cisterna("bench", "speed", "--bench", "nonesuch")
    assert shown.code == 2
    assert "there are: virtual, emulated" in shown.err
    shown = cisterna("bench", "nonesuch")
    assert shown.code == 2
    assert "No such command 'nonesuch'" in shown.err
    listed = re.findall(r"^  ([a-z]+)  ", cisterna("bench", "--help").out, re.MULTILINE)
    assert {"speed", "calibrate", "powercut"} <= set(listed)


def test_names_are_shown_as_they_are(cisterna: Cisterna, bench: VirtualBench) -> None:
    name = "[red]x[/red] :smile:"
    with bench.programmer() as pump:
        pump.program(dataclasses.replace(BACLOFEN, drug=name))
    shown = cisterna("status")
    assert shown.code == 0
    assert f"{name} 500 ug/mL" in shown.out
