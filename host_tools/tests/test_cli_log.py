"""``cisterna log``: filters, the fault log, damaged records."""

from __future__ import annotations

import itertools
import re
import struct
from binascii import crc32

import pytest

from cisterna import programmer
from cisterna.bench_virtual import VirtualBench
from cisterna.boards import project_root
from cisterna.errors import Refused
from cisterna.programmer import Event
from cisterna.session import BadReply
from host_tools.tests.conftest import Cisterna, Lie
from pump_wire import messages

DAY = "2027-01-15"  # what the pump's clock is set to, at 08:00 UTC
WALL_S = 1_800_000_000


def names(cisterna: Cisterna, *words: str) -> list[str]:
    """Names of the records that the command shows."""
    return [event["name"] for event in cisterna("log", *words, "--json").json["events"]]


@pytest.fixture
def lived(cisterna: Cisterna, bench: VirtualBench) -> VirtualBench:
    """A pump with a history: programmed, a day, clock set, two hours, restarted, an hour."""
    assert cisterna("program", "baclofen", "--yes").code == 0
    bench.advance(days=1)
    with bench.programmer() as pump:
        pump.set_clock(WALL_S)
    bench.advance(hours=2)
    assert cisterna("stop", "--yes").code == 0
    bench.cut_power()
    bench.power_on()
    bench.advance(hours=1)
    assert cisterna("resume", "--yes").code == 0
    return bench


@pytest.mark.usefixtures("lived")
def test_events_of_a_name(cisterna: Cisterna) -> None:
    assert names(cisterna, "--event", "pump_started") == ["pump_started"] * 2
    both = names(cisterna, "--event", "delivery_stopped", "--event", "power_lost")
    assert both == ["delivery_stopped", "power_lost"]
    assert names(cisterna, "--event", "pump_started", "--last", "1") == ["pump_started"]
    assert names(cisterna, "--event", "bolus_done") == []


@pytest.mark.usefixtures("lived")
def test_events_since_a_while_ago(cisterna: Cisterna) -> None:
    assert "delivery_resumed" in names(cisterna, "--since", "1 min")
    assert "pump_started" not in names(cisterna, "--since", "59 min")
    hour = names(cisterna, "--since", "61 min")
    assert hour[0] == "pump_started"
    assert "power_lost" in hour


def test_numbers_of_records_are_told_in_words(cisterna: Cisterna, bench: VirtualBench) -> None:
    with bench.programmer("patient") as pump:
        for message in (messages.REQUEST_BOLUS, messages.RESUME):
            with pytest.raises(Refused):
                pump.prepare(message, {})
    bench.advance(minutes=2)  # a refusal is written with what comes next, or soon
    shown = " ".join(cisterna("log").out.split())
    assert "patient bolus refused: the prescription permits no patient bolus" in shown
    assert "command refused: resume_delivery" in shown
    for name, value, text in (
        ("paired", 2, "the clinician's key was given out"),
        ("key_revoked", 1, "the patient's key was revoked"),
        ("refused_again", 7, "refused like the record before: 7 more"),
        ("patient_refused", 250, "patient bolus refused, refusal 250"),  # of another table
        ("clock_set", 0, "wall time set"),
        ("clock_set", 1_800_000_000, "wall time set, it was 2027-01-15 08:00:00 UTC"),
        ("zone_set", -570, "time zone set, UTC-09:30"),
        ("flex_moved", -241_200, "flex schedule moved back by 67 h with the clock"),
    ):
        assert Event(0, messages.EVENT[name], 0, 0, value, damaged=False).text == text


def test_events_since_a_date(cisterna: Cisterna, lived: VirtualBench) -> None:
    shown = cisterna("log", "--since", DAY)
    assert shown.code == 1 or shown.code == 2
    assert "the pump's clock is not set" in shown.err
    with lived.programmer() as pump:
        pump.set_clock(WALL_S + 4 * 3600)
    assert "clock_set" in names(cisterna, "--since", DAY)
    late = names(cisterna, "--since", f"{DAY}T09:30")
    assert "delivery_stopped" in late
    assert late.count("clock_set") == 1
    assert "prescription_committed" not in late
    assert cisterna("log", "--since", "2027-13-01").code == 2


def test_filters_that_make_no_sense_are_refused(cisterna: Cisterna, bench: VirtualBench) -> None:
    assert bench.truth()["steps"] == 0
    shown = cisterna("log", "--event", "power_list")
    assert shown.code == 2
    assert "power_lost" in shown.err
    assert cisterna("log", "--since", "yesterday").code == 2
    assert cisterna("log", "--faults", "--event", "power_lost").code == 2


def test_fault_log(cisterna: Cisterna, bench: VirtualBench) -> None:
    assert cisterna("log", "--faults").out == ""
    assert cisterna("program", "baclofen", "--yes").code == 0
    bench.cut_power()
    for slot in (0, 1):
        path = f"/prescription.{slot}"
        bench.write_flash_file(path, bench.read_flash_file(path)[:-1] + b"?")
    bench.power_on()
    shown = cisterna("log", "--faults")
    assert shown.code == 0
    assert re.match(r" +0  start \+ 0 d 00:00:00.*prescription", shown.out)
    (fault,) = cisterna("log", "--faults", "--json").json["faults"]
    assert (fault["name"], fault["damaged"]) == ("settings_damaged", False)
    assert names(cisterna, "--event", "fault_latched") == ["fault_latched"]


def test_a_damaged_record_is_shown_whatever_is_asked_for(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    bench.cut_power()
    slot = bytearray(bench.read_flash_file("/log/s0/now"))
    slot[8 + messages.EVENT_SIZE + 8] ^= 1
    bench.write_flash_file("/log/s0/now", bytes(slot))
    bench.power_on()
    assert names(cisterna, "--event", "bolus_done") == ["damaged_record"]
    assert "this record is damaged" in cisterna("log", "--since", "1 min").out


def record(name: str, value: int) -> bytes:
    """An event record as a pump stores it."""
    body = struct.pack(messages.EVENT_FORMAT, 0, messages.EVENT[name], 0, 0, 1, 0, value)
    return body + crc32(body).to_bytes(4, "little")


UNKNOWN = (
    ("mode_entered", 99, "unknown mode 99 entered"),
    ("mode_entered", -1, "unknown mode -1 entered"),
    ("pump_started", 77, "pump started, reset cause: unknown cause 77"),
    ("pump_started", -5, "pump started, reset cause: unknown cause -5"),
    ("fault_latched", 200, "fault latched, motor stopped: unknown fault 200"),
    ("alarm_raised", 300, "alarm 300 raised"),
)


@pytest.mark.usefixtures("bench")
def test_numbers_that_the_message_table_does_not_have_are_told(
    cisterna: Cisterna, lie: Lie
) -> None:
    records = b"".join(record(name, value) for name, value, _ in UNKNOWN)
    lie(messages.GET_EVENTS, {"oldest": 0, "next": len(UNKNOWN), "records": records})
    shown = cisterna("log")
    assert shown.code == 0
    for _, _, text in UNKNOWN:
        assert text in shown.out
    told = [each["text"] for each in cisterna("log", "--json").json["events"]]
    assert told == [text for _, _, text in UNKNOWN]


ONE = record("delivery_stopped", 0)
NO_LOGS = (
    ({"oldest": 0, "next": 2**32 - 1, "records": ONE}, "no log has records 0 to 4294967295"),
    ({"oldest": 9, "next": 3, "records": b""}, "no log has records 9 to 3"),
    ({"oldest": 0, "next": 5, "records": b""}, "no record 0"),
)


@pytest.mark.usefixtures("bench")
@pytest.mark.parametrize(("fields", "why"), NO_LOGS)
def test_a_log_that_no_pump_can_hold_is_refused(
    cisterna: Cisterna, lie: Lie, fields: dict[str, object], why: str
) -> None:
    lie(messages.GET_EVENTS, fields)
    lie(messages.GET_FAULTS, fields)
    for words in (("log",), ("log", "--faults")):
        shown = cisterna(*words)
        assert shown.code == 1
        assert why in shown.err


def test_a_log_that_goes_on_as_it_is_read_ends(
    bench: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench.programmer() as pump:

        def request(_: object, values: dict[str, int]) -> dict[str, object]:
            first = values["first"]
            return {"oldest": first, "next": first + 100, "records": ONE * 7}

        monkeypatch.setattr(pump.session, "request", request)
        for source in (pump.events, pump.faults):
            read = itertools.islice(source(), 100_000)
            with pytest.raises(BadReply, match="the log has no end"):
                list(read)


def test_a_log_has_room_for_all_that_a_pump_keeps() -> None:
    for name in ("eventlog", "faultlog"):
        source = (project_root() / "firmware" / "pump" / f"{name}.py").read_text(encoding="utf-8")
        kept = dict(re.findall(r"^(PER_SLOT|SLOTS|FILES) = (\d+)", source, re.MULTILINE))
        batch = int(kept["PER_SLOT"]) * int(kept["SLOTS"])
        assert 2 * (int(kept["FILES"]) + 1) * batch < programmer.MOST_RECORDS
