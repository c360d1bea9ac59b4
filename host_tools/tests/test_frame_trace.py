"""The frame trace: what --trace writes, and what ``bench decode`` makes of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cisterna import frame_trace, keys
from cisterna.bench_virtual import VirtualBench
from cisterna.frame_trace import FrameTrace
from cisterna.programmer import Programmer
from host_tools.tests.conftest import Cisterna
from pump_wire import messages
from pump_wire.codec import encode
from pump_wire.messages import BY_NUMBER, Message
from pump_wire.session import REPLY, REQUEST

PRESCRIPTION = "host_tools/cisterna/prescriptions/baclofen.toml"


def test_a_command_is_told_frame_by_frame(
    cisterna: Cisterna, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "session.jsonl"
    with VirtualBench(seed=4, trace=False) as bench:
        monkeypatch.setenv(keys.VARIABLE, str(bench.keys.folder))
        ran = cisterna("program", "baclofen", "--yes", "--port", bench.port, "--trace", str(path))
        assert ran.code == 0, ran.err
        log = tmp_path / "log.jsonl"
        assert cisterna("log", "--port", bench.port, "--trace", str(log)).code == 0
    head, frames = frame_trace.read(path)
    assert head["table_hash"] == f"{messages.table_hash():08x}"
    assert "Not a medical device" in head["notice"]
    requests = [frame for frame in frames if frame["to"] == "pump"]
    names = [frame["message"] for frame in requests]
    assert names[0] == "hello"
    assert names.count("confirm") == 1
    prepare = next(frame for frame in requests if frame["message"] == "prepare")
    assert prepare["fields"]["command"] == "set_prescription"
    assert prepare["fields"]["body"]["drug"] == "baclofen"
    assert prepare["fields"]["body"]["concentration_ng_ml"] == 500_000
    replies = [frame for frame in frames if frame["to"] == "host"]
    echo = next(frame for frame in replies if frame["message"] == "prepare")
    asked, told = prepare["fields"]["body"], echo["fields"]["body"]
    both = asked.keys() & told.keys()
    assert len(both) > 5
    assert {name: asked[name] for name in both} == {name: told[name] for name in both}
    assert {frame["kind"] for frame in replies} <= {"reply", "refusal"}
    assert all(bytes.fromhex(frame["octets"])[0] == 0x7E for frame in frames)
    shown = cisterna("bench", "decode", str(path))
    assert shown.code == 0
    assert "-> prepare" in shown.out
    assert "concentration: 500 ug/mL" in shown.out
    as_json = cisterna("bench", "decode", str(path), "--json")
    assert as_json.json == {"trace": head, "frames": frames}
    assert "pump_started" in cisterna("bench", "decode", str(log)).out


def test_every_subcommand_that_takes_a_port_takes_trace(cisterna: Cisterna) -> None:
    for name in ("ports", "status", "program", "bolus", "stop", "resume", "refill", "log"):
        words = (name, "--help")
        assert "--trace" in cisterna(*words).out, name
    for name in ("report", "clock", "flash"):
        assert "--trace" in cisterna(name, "--help").out, name
    assert "--trace" not in cisterna("demo", "--help").out


def test_sim_says_that_its_trace_is_not_that_of_its_port(cisterna: Cisterna) -> None:
    told = " ".join(cisterna("sim", "--help").out.split())
    assert "not those of whoever uses the pump's port" in told
    assert "Write every frame" not in told
    assert "Write every frame" in " ".join(cisterna("status", "--help").out.split())


def test_repeats_and_damage_are_told(tmp_path: Path) -> None:
    class Deaf:
        """Answers nothing but noise."""

        name = "deaf"
        clock = 0.0

        def write(self, data: bytes) -> None:
            pass

        def read(self, timeout_s: float) -> bytes:
            self.clock += timeout_s
            return b"\x7ehalf a frame\x7e"

        def now_s(self) -> float:
            return self.clock

        def close(self) -> None:
            pass

    path = tmp_path / "trace"
    with frame_trace.recording(path), pytest.raises(Exception, match="no pump answers"):
        Programmer(Deaf(), tries=3)
    assert frame_trace.active() is None
    frames = frame_trace.read(path)[1]
    assert [frame.get("try") for frame in frames if frame["to"] == "pump"] == [1, 2, 3]
    heard = [frame for frame in frames if frame["to"] == "host"]
    assert "damage" in heard[0]["problem"]
    assert bytes.fromhex(heard[0]["octets"]) == b"\x7ehalf a frame\x7e"
    assert any("try 2" in line for line in frame_trace.as_text(frames))


@pytest.mark.requirement("SEC-2")
def test_no_key_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    field = ("role_key", "b16", None, None, "a key")
    give = Message(126, "give_key", 0, False, "made up", (field,), (field,))
    monkeypatch.setitem(BY_NUMBER, 126, give)
    path = tmp_path / "trace"
    trace = FrameTrace(path)
    secret = bytes(range(0xA0, 0xB0))
    for kind in (REQUEST, REPLY):
        trace.packet("p", "pump", kind, 1, 126, secret, b"\x7e" + secret + b"\x7e")
        trace.packet("p", "pump", kind, 1, 126, secret[:9], b"\x7e" + secret[:9] + b"\x7e")
    trace.close()
    text = path.read_text()
    assert secret[:9].hex() not in text
    assert text.count("never written") == 4


def test_a_trace_that_was_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    trace = FrameTrace(path)
    trace.packet("p", "pump", REQUEST, 1, messages.HELLO.number, b"")
    trace.problem("p", "host", "damage", b"\x01")
    trace.close()
    whole = path.read_text()
    path.write_text(whole[:-5])
    assert len(frame_trace.read(path)[1]) == 1


@pytest.mark.parametrize("there_before", [False, True])
def test_a_trace_is_for_its_owners_eyes_only(tmp_path: Path, there_before: bool) -> None:
    path = tmp_path / "trace"
    before = os.umask(0)
    try:
        if there_before:
            path.write_text("old")
            path.chmod(0o644)
        FrameTrace(path).close()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert frame_trace.read(path)[1] == []


def test_what_a_pump_says_is_shown_without_control_characters(
    cisterna: Cisterna, tmp_path: Path
) -> None:
    path = tmp_path / "trace"
    trace = FrameTrace(path)
    body = bytearray(100)
    hello = {"board": "\x1b[31mred\x07", "firmware": "1", "vm": "1", "serial": bytes(8)}
    numbers = {"wire_version": 2, "table_hash": 0x1EE7E4FD, "sealed": 1, "boots": 1}
    end = encode(messages.HELLO.reply, {**hello, **numbers, "reset_cause": 1}, body, 0)
    trace.packet("p", "host", REPLY, 1, messages.HELLO.number, bytes(body[:end]))
    trace.close()
    shown = cisterna("bench", "decode", str(path))
    assert shown.code == 0
    assert "red" in shown.out
    assert not {"\x1b", "\x07"} & set(shown.out)
    assert "table hash: 1ee7e4fd" in shown.out


HEAD = '{"cisterna_trace": 1, "began": "now", "table_hash": "0"}\n'
NO_TRACES = (
    "",
    "hello\n",
    "[1]\n",
    '{"a": 1}\n',
    '{"cisterna_trace": 99}\n',
    '{"cisterna_trace": 1}\n',
    '{"cisterna_trace": 1, "began": "now"}\n',
    HEAD + "{}\n",
    HEAD + '{"t_s": 1, "to": "pump", "problem": "damage"}\n',
    HEAD + '{"t_s": 1, "to": "pump", "message": "hello", "fields": {}}\n',
)
GOOD = {"t_s": 1, "to": "host", "kind": "reply", "sequence": 1, "message": "get_events"}
WRONG: tuple[dict[str, Any], ...] = (
    {"fields": {"records": "no hex"}},
    {"fields": {"records": 7}},
    {"fields": {"boots": None}},
    {"fields": {"boots": 1 << 64}},
    {"fields": {"body": {"body": {"body": {}}}}},
    {"fields": []},
    {"try": "2"},
    {"note": 2},
    {"kind": 1},
    {"message": ["get_events"]},
    {"sequence": "1"},
    {"octets": "7g"},
    {"t_s": 10**400},
    {"t_s": float("nan")},
    {"to": 1},
    {"problem": 3, "octets": ""},
    {"problem": "damage", "octets": "xyz"},
)
DAMAGED = (
    "no JSON",
    "[" * 100_000,
    json.dumps([GOOD]),
    *(json.dumps({**GOOD, "fields": {}, **wrong}) for wrong in WRONG),
)


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_is_named(cisterna: Cisterna, tmp_path: Path, line: str) -> None:
    path = tmp_path / "trace"
    path.write_text(HEAD + json.dumps({**GOOD, "fields": {}}) + "\n" + line + "\n")
    for words in ((), ("--json",)):
        ran = cisterna("bench", "decode", str(path), *words)
        assert ran.code == 2
        assert "is damaged: line 3 is" in " ".join((ran.out + ran.err).split())


@pytest.mark.parametrize("text", NO_TRACES)
def test_what_is_no_trace_is_refused(cisterna: Cisterna, tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    ran = cisterna("bench", "decode", str(path), "--json")
    assert ran.code == 2
    assert "trace" in json.loads(ran.out)["error"]
    assert cisterna("bench", "decode", str(tmp_path / "none")).code == 2
