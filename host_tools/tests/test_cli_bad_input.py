"""Bad input to the ``cisterna`` command: each a message that names the value, the limit, the unit,
and the file's line where there is one; nothing changed; the right exit code."""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cisterna import finding, prescription
from cisterna.bench_virtual import VirtualBench
from cisterna.keys import KeyStore
from cisterna.programmer import Programmer
from host_tools.tests.conftest import Cisterna, Other
from host_tools.tests.fake_pump import FakePump, Something, paired_with
from pump_wire import messages
from pump_wire.codec import MAX_BODY, decode, encode

BACLOFEN = prescription.shipped()["baclofen"].read_text()
REFILL = ("refill", "--measured", "1 mL", "--fill")


def body(message: messages.Message, **values: object) -> bytes:
    """The octets of a reply."""
    out = bytearray(MAX_BODY)
    return bytes(out[: encode(message.reply, values, out)])


def hello(**changes: object) -> bytes:
    """What a pump of this version says of itself, but for ``changes``."""
    values: dict[str, object] = {
        "wire_version": messages.WIRE_VERSION,
        "table_hash": messages.table_hash(),
        "sealed": 0,
        "board": "fake",
        "firmware": "0.0.0",
        "vm": "0.0.0",
        "serial": bytes(range(8)),
        "boots": 1,
        "reset_cause": 1,
    }
    return body(messages.HELLO, **{**values, **changes})


# -- numbers -----------------------------------------------------------------------------------

BAD_NUMBERS: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("bolus", "10 xg", "--over", "10 min"), ("dose", '"10 xg"', "unknown unit xg", "mg, ug")),
    (("bolus", "10", "--over", "10 min"), ("dose", '"10"', "has no unit")),
    (("bolus", ".5 mL", "--over", "10 min"), ('".5 mL"', "no digit before the decimal point")),
    (("bolus", "5. uL", "--over", "10 min"), ('"5. uL"', "no digit after the decimal point")),
    (("bolus", "0,5 mL", "--over", "10 min"), ('"0,5 mL"', "has a comma")),
    (("bolus", "1e3 uL", "--over", "10 min"), ('"1e3 uL"', "has an exponent")),
    (("bolus", "-5 uL", "--over", "10 min"), ('dose "-5 uL"', "has a sign", "mL")),
    (("bolus", "-.5 uL", "--over", "10 min"), ('"-.5 uL"', "has a sign", "mL")),
    (("bolus", "--over", "10 min", "--", "-5 uL"), ('"-5 uL"', "has a sign", "mL")),
    (("bolus", "", "--over", "10 min"), ("dose", "is empty")),
    (("bolus", "10 mL/day", "--over", "10 min"), ('"10 mL/day"', "is a rate")),
    (("bolus", "10.1 mL", "--over", "10 min"), ('"10.1 mL"', "above the highest allowed, 10 mL")),
    (("bolus", "0 uL", "--over", "10 min"), ('"0 uL"', "below the lowest allowed, 1 nL")),
    (("bolus", "6 mg", "--over", "10 min"), ('"6 mg"', "12 mL", "highest allowed, 10 mL")),
    (("bolus", "0 ug", "--over", "10 min"), ('"0 ug"', "below the lowest allowed, 1 ng")),
    (("bolus", "10 ug", "--over", "10"), ("--over", '"10"', "has no unit")),
    (("bolus", "10 ug", "--over", "0 s"), ('--over "0 s"', "below the lowest allowed, 1 s")),
    (("bolus", "10 ug", "--over", "25 h"), ('--over "25 h"', "highest allowed, 1 day")),
    (("bolus", "10 ug", "--over", "10 ug"), ('--over "10 ug"', "is a mass")),
    (("bolus", "10 ug"), ("over which time", "--over")),
    (("bolus",), ("which dose?",)),
    ((*REFILL, "20"), ('--fill "20"', "has no unit")),
    ((*REFILL, "20 mg"), ('--fill "20 mg"', "is a mass", "mL")),
    ((*REFILL, "0 mL"), ('--fill "0 mL"', "below the lowest allowed, 1 nL")),
    ((*REFILL, "-20 mL"), ('--fill "-20 mL"', "has a sign")),
    ((*REFILL, "501 mL"), ('--fill "501 mL"', "highest allowed, 500 mL")),
    (("refill", "--measured", ".5 mL", "--fill", "20 mL"), ('--measured ".5 mL"', "no digit")),
    (("refill", "--fill", "20 mL"), ("--measured",)),
    ((*REFILL, "20 mL", "--reason", "r" * 33), ("reason", "33 octets, at most 32")),
    (("log", "--first", "-1"), ("--first", "-1")),
    (("sim", "--speed", ".5"), ('".5"', "is no number above 0")),
    (("sim", "--speed", "0"), ('"0"', "is no number above 0")),
    (("sim", "--board", "toaster"), ('"toaster"', "virtual, rpi_pico")),
    (("bolus", "1 ug", "--ovr", "1 min"), ("--ovr", "--over")),
    (("bolsu",), ("bolsu", "cisterna --help")),
    (("program",), ("prescription file",)),
    (("program", "x.toml", "--export", "-"), ("prescription file",)),
]


@pytest.mark.requirement("INP-4")
def test_bad_numbers_change_nothing(cisterna: Cisterna, bench: VirtualBench) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    assert cisterna("refill", "--measured", "0 mL", "--fill", "20 mL", "--yes").code == 0
    before = cisterna("log", "--json").json
    for words, texts in BAD_NUMBERS:
        yes = () if words[0] in ("log", "sim", "bolsu") else ("--yes",)
        shown = cisterna(words[0], *yes, *words[1:])
        assert (shown.code, shown.out) == (2, ""), words
        for text in texts:
            assert text in shown.err, words
        assert "to do: " in shown.err or "octets" in shown.err, words
        if "--" not in words:
            as_json = cisterna(*words, *yes, "--json")
            assert as_json.code == as_json.json["exit_code"] == 2
            assert as_json.json["error"] in as_json.err
    assert cisterna("log", "--json").json == before
    bench.advance(days=1)
    assert bench.truth()["steps"] == 2000


@pytest.mark.requirement("INP-4")
def test_what_was_understood_is_echoed_with_its_unit(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    assert cisterna("refill", "--measured", "0 mL", "--fill", "20 mL", "--yes").code == 0
    assert bench.truth()["steps"] == 0
    for typed, volume, mass in (
        ("10.50 ug", "0.021 mL", "10.5 ug"),
        ("10mcg", "0.02 mL", "10 ug"),
        ("0.5 mg", "1 mL", "0.5 mg"),
        ("15000 nL", "0.015 mL", "7.5 ug"),
    ):
        shown = cisterna("bolus", typed, "--over", "90 min", "--yes")
        assert shown.code == 0
        unit_mass = mass.replace("0.5 mg", "500 ug")
        assert f"Volume              {volume} = {unit_mass} of baclofen" in shown.out
        assert f"Asked for           {typed} over 1.5 h" in shown.out
        assert cisterna("bolus", "--cancel", "--yes").code == 0


def test_what_the_pump_refuses_changes_nothing(cisterna: Cisterna, bench: VirtualBench) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    assert cisterna("refill", "--measured", "0 mL", "--fill", "20 mL", "--yes").code == 0
    before = cisterna("log", "--json").json
    for words, texts in (
        ((*REFILL, "25 mL"), ("above the limit: fill 25 mL, limit 20 mL",)),
        (
            ("refill", "--measured", "21 mL", "--fill", "20 mL"),
            ("above the limit: measured 21 mL, limit 20 mL",),
        ),
        ((*REFILL, "20 mL", "--reason", " "), ("the text is empty", "reason")),
        (
            ("bolus", "9 mL", "--over", "1 h"),
            ("below the limit: duration 1 h, limit 9 h",),
        ),
        (("resume",), ("the pump is not stopped by command", "simple continuous")),
        (("bolus", "10 ug", "--over", "10 h"), ("limit 0.2 mL/day", "less time")),
    ):
        shown = cisterna(*words, "--yes")
        assert shown.code == 1, words
        assert "error: the pump refused: " in shown.err
        for text in texts:
            assert text in shown.err, words
        assert "\nto do: " in shown.err, words
    assert cisterna("log", "--json").json == before
    bench.advance(days=1)
    assert bench.truth()["steps"] == 2000


# -- prescription files ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "texts"),
    [
        ('"100 ug/day"', '".5 mg/day"', ("line 11", '".5 mg/day"', "no digit before")),
        ('"100 ug/day"', '"0,5 mg/day"', ("line 11", '"0,5 mg/day"', "comma")),
        ('"100 ug/day"', '"100"', ("line 11", '"100"', "has no unit")),
        ('"100 ug/day"', '"100 ug/week"', ("line 11", "unknown unit ug/week")),
        ('"100 ug/day"', '"-100 ug/day"', ("line 11", "has a sign")),
        ('"100 ug/day"', '"13 mg/day"', ("line 11", '"13 mg/day"', "26 mL/day", "24 mL/day")),
        ('"100 ug/day"', '"20 ug/day"', ("line 11", "0.04 mL/day", "0.048 mL/day")),
        ('"20 mL"', '"0.5 mL"', ("line 15", '"0.5 mL"', "lowest allowed, 1 mL")),
        ('"2 mL"', '"11 mL"', ("line 14", '"11 mL"', "highest allowed, 10 mL")),
        ("capacity", "capasity", ("line 15", "capasity", "did you mean capacity?")),
        ("format = 1", "format = 3", ("line 3", "format", "reads format 1 and 2")),
    ],
)
def test_bad_prescription_files(
    cisterna: Cisterna,
    bench: VirtualBench,
    tmp_path: Path,
    old: str,
    new: str,
    texts: tuple[str, ...],
) -> None:
    file = tmp_path / "rx.toml"
    file.write_text(BACLOFEN.replace(old, new))
    for shown in (
        cisterna("program", str(file), "--yes"),
        cisterna("program", str(file), "--check"),
    ):
        assert (shown.code, shown.out) == (2, "")
        for text in (str(file), *texts):
            assert text in shown.err
    with bench.programmer() as pump:
        assert pump.prescription() is None


def test_a_truncated_prescription_is_refused(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Path
) -> None:
    file = tmp_path / "rx.toml"
    lines = BACLOFEN.splitlines(keepends=True)
    for number in range(len(lines)):
        file.write_text("".join(lines[:number]))
        shown = cisterna("program", str(file), "--yes", "--json")
        assert shown.code == 2
        assert str(file) in shown.json["error"]
    file.write_text(BACLOFEN.rstrip()[:-1])
    shown = cisterna("program", str(file), "--yes")
    assert shown.code == 2
    assert f"{file}, line 15" in shown.err
    assert "cut short" in shown.err
    with bench.programmer() as pump:
        assert pump.prescription() is None


def test_a_prescription_that_is_not_there(cisterna: Cisterna) -> None:
    shown = cisterna("program", "/nowhere/rx.toml")
    assert shown.code == 2
    assert "/nowhere/rx.toml: cannot be read: No such file or directory" in shown.err
    misspelt = cisterna("program", "baclofn", "--check")
    assert misspelt.code == 2
    assert "to do: shipped: baclofen, baclofen_2000, " in misspelt.err


# -- ports -------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is silence after a tenth of a second."""
    monkeypatch.setattr(finding, "_HELLO_S", 0.1)
    monkeypatch.setitem(Programmer.__init__.__kwdefaults__, "reply_s", 0.1)


@pytest.mark.parametrize(
    ("port", "text"),
    [
        ("/dev/nowhere", "there is no port /dev/nowhere"),
        ("/dev/null", "cannot open /dev/null: it is no serial port"),
        ("/", "cannot open /"),
        ("nonesuch://x", "cannot open nonesuch://x"),
        ("socket://127.0.0.1:9", "cannot open socket://127.0.0.1:9: Connection refused"),
        ("rfc2217://", "cannot open rfc2217://: it needs a host and a port number"),
        ("socket://pump:x", "cannot open socket://pump:x: it needs a host and a port number"),
    ],
)
def test_no_port(cisterna: Cisterna, port: str, text: str) -> None:
    shown = cisterna("status", "--port", port)
    assert shown.code == 3
    assert text in shown.err
    assert "to do: " in shown.err


def paired_fake(answers: Any) -> FakePump:
    """A fake pump that the user's key store has the keys of."""
    serial = decode(messages.HELLO.reply, hello())["serial"]
    paired_with(serial, KeyStore.of_user())
    return FakePump(answers, pump_id=serial)


def silent(_: bytes) -> bytes:
    return b""


def echoing(octets: bytes) -> bytes:
    return octets


def talking(_: bytes) -> bytes:
    return b"login: \x00\xff~~}} garbage ~\x01\x02~ more\r\n" * 3


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("react", "text"),
    [
        (silent, "is the pump powered"),
        (echoing, "sends back what it is sent"),
        (talking, "something else is talking there"),
    ],
)
def test_a_port_that_is_something_else(
    cisterna: Cisterna, react: Callable[[bytes], bytes], text: str
) -> None:
    with Something(react) as something:
        shown = cisterna("stop", "--yes", "--port", something.path)
        listed = cisterna("ports", "--port", something.path)
    assert shown.code == 3
    assert f"no pump answers on {something.path}" in shown.err
    assert text in shown.err
    assert listed.code == 3
    assert f"{something.path} (named): no pump answers" in listed.out


@pytest.mark.requirement("INP-3")
@pytest.mark.parametrize(
    "answer",
    [
        hello(wire_version=messages.WIRE_VERSION + 1),
        hello(table_hash=0x1234ABCD),
        struct.pack("<HI", 7, 0x1234ABCD) + b"another layout",
    ],
    ids=["version", "table", "layout"],
)
def test_a_pump_of_another_wire_version(cisterna: Cisterna, answer: bytes) -> None:
    version, table = struct.unpack_from("<HI", answer)
    with FakePump({messages.HELLO.number: answer}) as pump:
        shown = cisterna("program", "baclofen", "--yes", "--port", pump.path)
        listed = cisterna("ports", "--port", pump.path, "--json")
    assert shown.code == 1
    for text in (
        f"the pump has wire version {version}, message table {table:08x}",
        f"wire version {messages.WIRE_VERSION}, message table {messages.table_hash():08x}",
        "install the cisterna that matches the pump",
    ):
        assert text in shown.err
    assert set(pump.heard) == {messages.HELLO.number}
    assert listed.json["ports"][0]["state"] == "other version"


def test_an_answer_that_does_not_fit_the_table(cisterna: Cisterna) -> None:
    answers = {messages.HELLO.number: hello(), messages.GET_PRESCRIPTION.number: b"\x01"}
    with paired_fake(answers) as pump:
        shown = cisterna("status", "--port", pump.path)
    assert shown.code == 1
    assert "answer to get_prescription does not fit the message table" in shown.err


@pytest.mark.usefixtures("impatient")
def test_a_pump_that_stops_answering(cisterna: Cisterna) -> None:
    with paired_fake({messages.HELLO.number: hello()}) as pump:
        shown = cisterna("status", "--port", pump.path)
    assert shown.code == 3
    assert f"no pump answers on {pump.path}" in shown.err


# -- lost answers and Ctrl-C -------------------------------------------------------------------


def prepared(_: bytes) -> bytes:
    return body(messages.PREPARE, token=b"12345678", valid_ms=30_000, next_event=0, body=b"")


SILENT_AT_CONFIRM = {messages.HELLO.number: hello(), messages.PREPARE.number: prepared}


@pytest.mark.usefixtures("impatient")
def test_a_lost_answer_is_an_unknown_outcome(cisterna: Cisterna) -> None:
    with paired_fake(SILENT_AT_CONFIRM) as pump:
        shown = cisterna("stop", "--yes", "--json", "--port", pump.path)
    assert shown.code == 4
    assert "UNKNOWN OUTCOME: stop delivery" in shown.err
    assert "do not repeat it: run cisterna status, which asks the pump" in shown.err
    assert shown.json["exit_code"] == 4
    assert pump.heard.count(messages.CONFIRM.number) > 1


def test_ctrl_c_before_the_answer_is_an_unknown_outcome(
    in_terminal: Callable[..., Other],
) -> None:
    with paired_fake(SILENT_AT_CONFIRM) as pump:
        other = in_terminal("stop", "--yes", "--json", "--port", pump.path)
        until = time.monotonic() + 20
        while messages.CONFIRM.number not in pump.heard:
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(other.process.pid, signal.SIGINT)
        assert other.end() == 4
    assert "UNKNOWN OUTCOME" in other.shown
    assert "Traceback" not in other.shown


def test_ctrl_c_while_waiting_for_a_reading(in_terminal: Callable[..., Other]) -> None:
    with paired_fake({messages.HELLO.number: hello()}) as pump:
        other = in_terminal("status", "--port", pump.path)
        until = time.monotonic() + 20
        while messages.GET_PRESCRIPTION.number not in pump.heard:
            assert time.monotonic() < until
            time.sleep(0.01)
        other.type("\x03")
        assert other.end() == 130
    assert "interrupted: the pump goes on delivering what it delivered" in other.shown
    assert "Traceback" not in other.shown


@pytest.mark.usefixtures("impatient")
def test_what_the_pump_did_not_do_is_not_unknown(cisterna: Cisterna) -> None:
    asked: list[int] = []

    def ignore(_: bytes) -> bytes | None:
        asked.append(1)
        return None

    status = body(
        messages.GET_STATUS,
        **{
            name: b"" if kind[0] == "b" else "" if kind[0] == "s" else max(low or 0, 0)
            for name, kind, low, _, _ in messages.GET_STATUS.reply
        }
        | {"last_token": bytes(8)},
    )
    answers = {
        **SILENT_AT_CONFIRM,
        messages.CONFIRM.number: ignore,
        messages.GET_STATUS.number: status,
    }
    with paired_fake(answers) as pump:
        shown = cisterna("stop", "--yes", "--json", "--port", pump.path)
    assert asked
    assert shown.code == 1
    assert "stop delivery: its answer did not come, and the pump did not carry it out" in shown.err
