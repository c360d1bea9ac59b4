"""What the command says of an outcome when line, store, disk or power fail around it: what the
pump did is never told as not done, and what ends delivery waits for nothing."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cisterna import Therapy, cli_therapy, ordering
from cisterna.bench_virtual import VirtualBench
from cisterna.errors import CisternaError
from cisterna.keys import KeyStore
from cisterna.programmer import NotReadBack, Programmer
from cisterna.session import BadReply, NoReply, PumpBusy, Session
from host_tools.tests.conftest import Cisterna
from pump_wire import messages

BOLUS = ("bolus", "20 uL", "--over", "2 min", "--yes")
NO_ROOM = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "there")


@pytest.fixture
def running(cisterna: Cisterna, bench: VirtualBench) -> VirtualBench:
    """A pump that delivers baclofen."""
    assert cisterna("program", "baclofen", "--yes").code == 0
    assert cisterna("refill", "--measured", "0 mL", "--fill", "20 mL", "--yes").code == 0
    return bench


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[messages.Message]:
    """Every request of a session from now on."""
    return around_requests(monkeypatch, lambda _told, _message, request: request())


def around_requests(
    monkeypatch: pytest.MonkeyPatch,
    do: Callable[[list[messages.Message], messages.Message, Callable[[], Any]], Any],
) -> list[messages.Message]:
    """``do`` in place of each request: gets those before, the message, and the request itself."""
    real = Session.request
    told: list[messages.Message] = []

    def request(session: Session, message: messages.Message, *more: Any, **named: Any) -> Any:
        try:
            return do(told, message, lambda: real(session, message, *more, **named))
        finally:
            told.append(message)

    monkeypatch.setattr(Session, "request", request)
    return told


def dead_behind_the_confirm(monkeypatch: pytest.MonkeyPatch, error: CisternaError) -> None:
    """The answer to a confirm is the last that comes."""

    def do(told: list[messages.Message], _: messages.Message, request: Callable[[], Any]) -> Any:
        if messages.CONFIRM in told:
            raise error
        return request()

    around_requests(monkeypatch, do)


def full_disk(monkeypatch: pytest.MonkeyPatch, when: Callable[[dict[str, Any]], bool]) -> None:
    """Nothing of which ``when`` is true can be written to the key store."""
    real = KeyStore._write

    def write(store: KeyStore, pump: bytes, values: dict[str, Any]) -> None:
        if when(values):
            raise NO_ROOM
        real(store, pump, values)

    monkeypatch.setattr(KeyStore, "_write", write)


@pytest.mark.requirement("SEC-6")
@pytest.mark.parametrize(
    "error", [NoReply("silence"), PumpBusy("busy with another")], ids=["silence", "forged busy"]
)
@pytest.mark.parametrize(
    "words",
    [
        BOLUS,
        ("stop", "--yes"),
        ("program", "baclofen", "--yes"),
        ("refill", "--measured", "20 mL", "--fill", "20 mL", "--yes"),
    ],
    ids=lambda words: str(words[0]),
)
def test_what_the_pump_answered_is_done_though_the_line_dies_behind_it(
    cisterna: Cisterna,
    running: VirtualBench,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    error: CisternaError,
) -> None:
    with running.programmer() as pump:
        before = pump.status().next_event
    with monkeypatch.context() as line:
        dead_behind_the_confirm(line, error)
        shown = cisterna(*words)
    assert shown.code == 0
    said = " ".join(shown.out.split())
    assert f"(record {before}" in said or f"(record {before + 1}" in said
    assert f"WARNING: do not repeat it; what the pump does now could not be read: {error}" in said
    assert running.keys.pending(running.pump_id) is None
    with running.programmer() as pump:
        assert pump.status().next_event > before
    assert "answer did not come" not in cisterna("status").err


@pytest.mark.requirement("SEC-6")
def test_a_script_is_told_that_it_is_done_and_was_not_read_back(
    cisterna: Cisterna, running: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as line:
        dead_behind_the_confirm(line, NoReply("silence"))
        found = cisterna(*BOLUS, "--json").json
    assert found["done"]
    assert found["mode_name"] is None
    assert found["rate_nl_day"] is None
    assert "silence" in found["warnings"][0]
    before = running.truth()["steps"]
    running.advance(minutes=3)
    assert 200 <= running.truth()["steps"] - before <= 204  # 20 uL of 0.1 uL, once
    with monkeypatch.context() as line:
        dead_behind_the_confirm(line, NoReply("silence"))
        found = cisterna("program", "baclofen", "--yes", "--json").json
    assert found["done"]
    assert not found["verified"]
    shown = cisterna(*BOLUS, "--json").json
    assert shown["warnings"] == []
    assert shown["mode_name"] == "single bolus"


def test_a_programme_that_was_not_read_back_is_told_apart(
    running: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    therapy = Therapy.simple_continuous(
        drug="baclofen", concentration="0.5 mg/mL", rate="0.3 mL/day", capacity="20 mL"
    )
    with running.programmer() as pump:
        with monkeypatch.context() as line:
            dead_behind_the_confirm(line, NoReply("silence"))
            with pytest.raises(NotReadBack, match="not read back: silence") as told:
                pump.program(therapy)
        assert pump.log()[told.value.done.event].name == "prescription_committed"
        pump.verify(therapy)


def test_what_fails_behind_a_command_does_not_hide_that_it_is_done(
    cisterna: Cisterna, running: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as line:
        dead_behind_the_confirm(line, NoReply("silence"))
        shown = cisterna("clock", "--set")
    assert shown.code == 4
    assert "set clock: the pump carried it out (record " in shown.err
    assert "then: silence" in shown.err
    assert "do not repeat it" in shown.err
    assert cisterna("clock", "--json").json["pump_s"] is not None
    with monkeypatch.context() as disk:

        def emit(_: object) -> None:
            raise NO_ROOM

        disk.setattr(cli_therapy, "emit", emit)
        shown = cisterna(*BOLUS, "--json")
    assert shown.code == 4
    assert "start bolus: the pump carried it out (record " in shown.err
    assert "No space left" in shown.err
    with running.programmer() as pump:
        assert pump.status().mode_name == "single bolus"


# -- the key store -----------------------------------------------------------------------------


@pytest.mark.requirement("SEC-6")
def test_a_command_that_cannot_be_kept_is_not_sent(
    cisterna: Cisterna, running: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = running.truth()["steps"]
    with monkeypatch.context() as disk:
        full_disk(disk, lambda _: True)
        shown = cisterna(*BOLUS)
    assert shown.code == 1
    assert "No space left" in shown.err
    assert "nothing was done, as a command is kept before it is sent" in shown.err
    running.advance(minutes=3)
    assert running.truth()["steps"] - before <= 5  # the basal rate


@pytest.mark.requirement("SEC-6")
def test_a_command_whose_end_cannot_be_kept_is_told_twice_and_given_once(
    cisterna: Cisterna, running: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = running.truth()["steps"]
    with monkeypatch.context() as disk:
        full_disk(disk, lambda values: values.get("pending") is None)
        shown = cisterna(*BOLUS)
    assert shown.code == 0
    assert "WARNING: it is done, which could not be kept and will be told again" in shown.out
    again = cisterna(*BOLUS)
    assert again.code == 1
    assert "start bolus, whose answer did not come, was carried out" in again.err
    running.advance(minutes=5)
    assert 200 <= running.truth()["steps"] - before <= 206


@pytest.mark.parametrize("what", ["no room", "damaged"])
@pytest.mark.parametrize(
    ("words", "mode"),
    [(("stop",), "stopped"), (("bolus", "--cancel"), "simple continuous")],
    ids=["stop", "cancel"],
)
def test_what_ends_delivery_needs_no_key_store_that_can_be_written(
    cisterna: Cisterna,
    running: VirtualBench,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    mode: str,
    what: str,
) -> None:
    assert cisterna(*BOLUS).code == 0
    if what == "damaged":
        path = running.keys.folder / f"{running.pump_id.hex()}.json"
        values = json.loads(path.read_text())
        path.write_text(json.dumps({**values, "pending": {"token": "zz"}}))
    else:
        full_disk(monkeypatch, lambda _: True)
    shown = cisterna(*words, "--yes")
    assert shown.code == 0
    assert ("outcome is not known" in shown.err) == (what == "damaged")
    with running.programmer() as pump:
        assert pump.status().mode_name == mode


def test_a_write_that_fails_leaves_no_file_behind(
    running: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise NO_ROOM

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(CisternaError, match="No space left"):
        running.keys.set_pending(running.pump_id, {"token": "00"})
    assert [path.suffix for path in running.keys.folder.iterdir()] == [".json"]


# -- what ends delivery -------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("stop",), ("bolus", "--cancel")], ids=["stop", "cancel"])
def test_what_ends_delivery_is_told_before_anything_is_read(
    cisterna: Cisterna,
    running: VirtualBench,
    asked: list[messages.Message],
    words: tuple[str, ...],
) -> None:
    assert cisterna(*BOLUS).code == 0
    with running.programmer() as pump:
        first = pump.status().next_event
    running.keys.set_pending(
        running.pump_id, {"token": "00" * 8, "command": "start_bolus", "next_event": first}
    )
    asked.clear()
    shown = cisterna(*words, "--yes")
    assert shown.code == 0
    assert "start bolus, whose answer did not come, was not carried out" in shown.err
    before = asked[: asked.index(messages.CONFIRM)]
    assert [each.name for each in before] == ["hello", "open_session", "prepare"]


@pytest.mark.parametrize("role", ["patient", "clinician"])
def test_a_stop_waits_for_no_patient(
    cisterna: Cisterna, running: VirtualBench, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """Under its own name a patient's session gives way at once; a clinician's does not."""
    monkeypatch.setattr("cisterna.session._BACKED_OFF_S", 0.1)
    with Programmer(running.link(), role, keys=running.keys, who="bob@home") as bob:
        bob.status()
        assert cisterna("status").code == 1
        shown = cisterna("stop", "--yes")
        assert shown.code == (0 if role == "patient" else 1)
        assert ("busy with bob@home as clinician" in shown.err) == (role == "clinician")
        stopped = bob.status().stop_reason == messages.BY_COMMAND  # in a new session
    assert stopped == (role == "patient")


def test_a_stop_can_be_agreed_to_though_nothing_can_be_read(
    cisterna: Cisterna, running: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def do(
        _: list[messages.Message], message: messages.Message, request: Callable[[], Any]
    ) -> Any:
        if message is messages.GET_ACCOUNT:
            raise BadReply(message, b"", "garbled")
        return request()

    with monkeypatch.context() as line:
        around_requests(line, do)
        line.setattr(ordering, "_terminal", lambda: True)
        line.setattr(ordering, "agreed", lambda _: True)
        shown = cisterna("stop")
    assert shown.code == 0
    assert "What the pump does now could not be read" in shown.err
    with running.programmer() as pump:
        assert pump.status().stop_reason == messages.BY_COMMAND


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_trace_that_cannot_be_written_stops_no_command(
    cisterna: Cisterna, running: VirtualBench
) -> None:
    shown = cisterna("stop", "--yes", "--trace", "/dev/full")
    assert shown.code == 0
    assert shown.err.count("the trace ends here: /dev/full: No space left on device") == 1
    with running.programmer() as pump:
        assert pump.status().stop_reason == messages.BY_COMMAND


# -- the power ---------------------------------------------------------------------------------


@pytest.mark.requirement("SEC-6")
@pytest.mark.parametrize("live", [True, False], ids=["while it waits", "by the next command"])
def test_a_bolus_that_a_restart_ended_is_not_told_as_given(
    cisterna: Cisterna, running: VirtualBench, monkeypatch: pytest.MonkeyPatch, live: bool
) -> None:
    def do(
        told: list[messages.Message], message: messages.Message, request: Callable[[], Any]
    ) -> Any:
        if message is messages.CONFIRM and message not in told:
            request()
            running.cut_power()
            running.power_on()
            raise NoReply("silence") if live else KeyboardInterrupt
        return request()

    with monkeypatch.context() as line:
        around_requests(line, do)
        shown = cisterna(*BOLUS)
    since = "the pump has started anew since: a bolus that it may have begun is over"
    if live:
        assert shown.code == 0
        assert f"WARNING: {since}" in " ".join(shown.out.split())
    else:
        assert shown.code == 4
        again = cisterna(*BOLUS)
        assert again.code == 1
        assert f"start bolus, whose answer did not come, was carried out; {since}" in again.err


@pytest.mark.requirement("SEC-6")
def test_an_answer_that_does_not_decode_is_asked_for_again(
    cisterna: Cisterna, running: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def do(
        told: list[messages.Message], message: messages.Message, request: Callable[[], Any]
    ) -> Any:
        reply = request()
        if message is messages.CONFIRM and message not in told:
            raise BadReply(message, b"", "too short")
        return reply

    around_requests(monkeypatch, do)
    assert cisterna(*BOLUS).code == 0
    assert running.keys.pending(running.pump_id) is None
