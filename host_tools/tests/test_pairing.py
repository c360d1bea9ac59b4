"""Keys on the programmer's side: where they are, who can read them, how a pump gives them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cisterna import finding
from cisterna import keys as key_module
from cisterna import session as session_module
from cisterna.bench_virtual import VirtualBench
from cisterna.errors import OutcomeUnknown, Refused
from cisterna.keys import BadKeyStore, KeyStore, who_asks
from cisterna.programmer import (
    EarlierSettled,
    GarbledHello,
    LogCannotTell,
    Programmer,
    connect,
)
from cisterna.session import NoReply, NotPaired, PumpBusy, Session, SessionLost, WrongKey
from host_tools.tests.conftest import Cisterna, Other
from pump_wire import messages

PUMP = bytes(range(8))


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "deep" / "keys")


@pytest.fixture
def unpaired(
    alone: Path,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[VirtualBench]:
    """A pump that nobody is paired with, whose port the command uses, with a key store of its
    own."""
    monkeypatch.setenv(key_module.VARIABLE, str(tmp_path / "mine"))
    with VirtualBench(seed=3, trace=False, paired=False) as bench:
        monkeypatch.setenv("CISTERNA_PORT", bench.port)
        yield bench


# -- the store -----------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.requirement("SEC-2")
def test_keys_are_readable_by_their_owner_only(store: KeyStore) -> None:
    before = os.umask(0)  # whatever the user lets others do
    try:
        store.put(PUMP, "clinician", b"k" * 16, 1)
        store.set_pending(PUMP, {"token": "00"})
    finally:
        os.umask(before)
    assert mode(store.folder) == 0o700
    files = list(store.folder.iterdir())
    assert [path.name for path in files] == [f"{PUMP.hex()}.json"]
    assert mode(files[0]) == 0o600


@pytest.mark.parametrize("which", ["folder", "file"])
def test_keys_that_others_can_read_are_not_used(store: KeyStore, which: str) -> None:
    store.put(PUMP, "clinician", b"k" * 16, 1)
    path = store.folder if which == "folder" else next(store.folder.iterdir())
    for right in (0o040, 0o004, 0o020, 0o001):
        path.chmod(mode(path) & 0o700 | right)
        with pytest.raises(BadKeyStore, match="others can use") as told:
            store.get(PUMP, "clinician")
        assert str(path) in str(told.value)
        assert "chmod go-rwx" in (told.value.remedy or "")
    path.chmod(0o700 if which == "folder" else 0o600)
    assert store.get(PUMP, "clinician") is not None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"roles": {"patient": {"key": "00"}}}'])
def test_a_damaged_key_file_says_so(store: KeyStore, text: str) -> None:
    store.put(PUMP, "patient", b"k" * 16, 1)
    next(store.folder.iterdir()).write_text(text)
    with pytest.raises(BadKeyStore, match="is damaged"):
        store.get(PUMP, "patient")


def test_a_store_keeps_several_pumps_and_roles(store: KeyStore) -> None:
    other = bytes(8)
    store.put(PUMP, "patient", b"p" * 16, 1)
    store.put(PUMP, "clinician", b"c" * 16, 2)
    store.put(other, "service", b"s" * 16, 3)
    assert store.roles(PUMP) == ["clinician", "patient"]
    found = {(each.pump, each.role): (each.key, each.generation) for each in store.all()}
    assert found == {
        (PUMP, "patient"): (b"p" * 16, 1),
        (PUMP, "clinician"): (b"c" * 16, 2),
        (other, "service"): (b"s" * 16, 3),
    }
    store.drop(PUMP, "clinician")
    assert store.roles(PUMP) == ["patient"]
    held = store.get(PUMP, "patient")
    assert held is not None
    assert "7070" not in repr(held)  # a key is not in what a program prints


def test_a_name_is_cut_to_what_a_message_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_module.getpass, "getuser", lambda: "\u00e9" * 20)
    assert len(who_asks().encode()) <= 24


# -- pairing --------------------------------------------------------------------------------------


@pytest.mark.requirement("SEC-2")
def test_pairing_needs_the_button_and_is_done_once(
    cisterna: Cisterna, unpaired: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cisterna.cli_pairing._WAIT_S", 0.1)
    refused = cisterna("status")
    assert refused.code == 1
    assert "there is no clinician's key" in refused.err
    assert "cisterna pair" in refused.err
    listed = cisterna("ports", "--port", unpaired.port, "--json").json["ports"][0]
    assert listed["identity"]["sealed"] == 0
    assert listed["mode_name"] is None  # nothing of the therapy to who has no key
    without = cisterna("pair")
    assert without.code == 1
    assert "service button" in without.err
    with unpaired.hold_service():
        assert cisterna("pair").code == 0
    shown = cisterna("status", "--json")
    assert shown.code == 0
    assert shown.json["identity"]["sealed"] == 1
    folder = KeyStore.of_user().folder
    key = json.loads(next(folder.iterdir()).read_text())["roles"]["clinician"]["key"]
    unpaired.cut_power()
    assert bytes.fromhex(key) in unpaired.read_flash_file("/keys.0")


def test_keys_outlive_a_restart_and_a_lost_one_is_paired_anew(
    cisterna: Cisterna, unpaired: VirtualBench
) -> None:
    with unpaired.hold_service():
        assert cisterna("pair", "--role", "all", "--json").json["done"][0]["generation"] == 1
    unpaired.cut_power()
    unpaired.power_on()
    assert cisterna("status").code == 0
    path = next(KeyStore.of_user().folder.iterdir())
    path.unlink()
    assert cisterna("status").code == 1
    with unpaired.hold_service():
        assert cisterna("pair").code == 0
    assert cisterna("status").code == 0


def test_a_revoked_key_is_worthless_and_says_so(
    cisterna: Cisterna, unpaired: VirtualBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unpaired.hold_service():
        assert cisterna("pair").code == 0
        other = KeyStore(tmp_path / "other")
        for held in KeyStore.of_user().all():
            other.put(held.pump, held.role, held.key, held.generation)
        assert cisterna("pair", "--role", "patient").code == 0  # proves what it is told next
        assert cisterna("pair", "--revoke").code == 0
        assert cisterna("pair", "--role", "patient", "--revoke").code == 4
    assert [held.role for held in KeyStore.of_user().all()] == ["patient"]
    monkeypatch.setenv(key_module.VARIABLE, str(other.folder))
    shown = cisterna("status")
    assert shown.code == 1
    assert "has given out no clinician's key" in shown.err
    monkeypatch.setenv(key_module.VARIABLE, str(tmp_path / "mine"))
    with unpaired.hold_service():
        assert cisterna("pair").code == 0  # another key
    monkeypatch.setenv(key_module.VARIABLE, str(other.folder))
    shown = cisterna("status")
    assert shown.code == 1
    assert "does not prove the clinician's key that is here" in shown.err
    listed = cisterna("pair", "--list")
    assert listed.code == 0
    assert "clinician" in listed.out


def test_pair_list_tells_what_is_there(cisterna: Cisterna, unpaired: VirtualBench) -> None:
    assert "No keys here" in cisterna("pair", "--list").out
    with unpaired.hold_service():
        cisterna("pair", "--role", "patient")
    said = cisterna("pair", "--list", "--json").json
    assert [(each["role"], each["generation"]) for each in said["keys"]] == [("patient", 1)]
    assert said["pump"]["generations"] == {"patient": 1, "clinician": 0, "service": 0}
    assert "key" not in said["keys"][0]


def test_pair_list_shows_keys_that_somebody_else_has(
    cisterna: Cisterna, unpaired: VirtualBench
) -> None:
    with unpaired.hold_service():
        assert cisterna("pair", "--role", "all").code == 0
    KeyStore.of_user().drop(unpaired.pump_id, "clinician")
    shown = cisterna("pair", "--list")
    assert shown.code == 0
    lines = [line for line in shown.out.splitlines() if "NOT HERE" in line]
    assert len(lines) == 1
    assert "clinician, key 1 of this role" in lines[0]


def test_pair_list_asks_in_a_role_whose_key_is_good(
    cisterna: Cisterna, unpaired: VirtualBench
) -> None:
    with unpaired.hold_service():
        assert cisterna("pair", "--role", "all").code == 0
        with Programmer(unpaired.link(), keys=KeyStore(None)) as pump:
            pump.session.request(messages.REVOKE_KEY, {"role": messages.CLINICIAN})
    shown = cisterna("pair", "--list")
    worthless = [line for line in shown.out.splitlines() if "WORTHLESS: revoked" in line]
    assert len(worthless) == 1
    assert "clinician" in worthless[0]


# -- answers that nothing proves ------------------------------------------------------------------


Answers = Callable[[messages.Message, dict[str, object]], "dict[str, object] | None"]


@pytest.fixture
def tapped(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answers], None]:
    """Puts somebody on the line who answers open requests in the pump's place: with a reply, or
    with a Refused; what is None goes to the pump."""
    request = Session.request

    def tap(answers: Answers) -> None:
        def on_the_line(
            self: Session, message: messages.Message, values: dict[str, object], *more: int
        ) -> dict[str, object]:
            forged = answers(message, values)
            return request(self, message, values, *more) if forged is None else forged

        monkeypatch.setattr(Session, "request", on_the_line)

    return tap


def swallow_revoke(message: messages.Message, _: object) -> dict[str, object] | None:
    return {} if message is messages.REVOKE_KEY else None


def say_none_to_revoke(message: messages.Message, _: object) -> None:
    if message is messages.REVOKE_KEY:
        raise Refused("not_paired", "it has given out no key for this role")


@pytest.mark.requirement("SEC-2")
@pytest.mark.parametrize("forged", [swallow_revoke, say_none_to_revoke])
@pytest.mark.parametrize("held", ["clinician", "all"])
def test_a_forged_answer_to_revoke_is_not_believed(
    cisterna: Cisterna,
    unpaired: VirtualBench,
    tapped: Callable[[Answers], None],
    held: str,
    forged: Answers,
) -> None:
    with unpaired.hold_service():
        assert cisterna("pair", "--role", held).code == 0
        tapped(forged)
        ran = cisterna("pair", "--revoke")
    assert ran.code == 1
    assert "NOT revoked: a clinician's key is still good" in ran.err
    assert "on the line" in ran.err
    assert "revoked, pump" not in ran.out
    assert KeyStore.of_user().get(unpaired.pump_id, "clinician") is not None
    assert cisterna("status").code == 0


@pytest.mark.requirement("SEC-2")
def test_a_revocation_that_nothing_proves_is_unknown(
    cisterna: Cisterna, unpaired: VirtualBench
) -> None:
    with unpaired.hold_service():
        assert cisterna("pair").code == 0
        for _ in range(2):
            ran = cisterna("pair", "--revoke", "--json")
            assert ran.code == ran.json["exit_code"] == 4
            assert "nothing proves" in ran.json["error"]
            assert "cisterna pair --role patient" in ran.json["remedy"]
            assert KeyStore.of_user().get(unpaired.pump_id, "clinician") is not None
        assert cisterna("pair", "--role", "patient").code == 0
        ran = cisterna("pair", "--revoke", "--json")
    assert ran.code == 0
    proved = {"role": "clinician", "revoked": True, "proved_as": "patient"}
    assert ran.json["done"] == [proved]
    assert [each.role for each in KeyStore.of_user().all()] == ["patient"]


def test_of_all_roles_the_last_revocation_is_not_proved(
    cisterna: Cisterna, unpaired: VirtualBench
) -> None:
    with unpaired.hold_service():
        assert cisterna("pair", "--role", "all").code == 0
        ran = cisterna("pair", "--role", "all", "--revoke")
    assert ran.code == 4
    assert "clinician: key revoked" in ran.out
    assert "service: key revoked" in ran.out
    assert "no patient's key any more" in ran.err
    assert [each.role for each in KeyStore.of_user().all()] == ["patient"]


def test_a_revocation_that_cannot_be_asked_about_says_why(
    cisterna: Cisterna, unpaired: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cisterna.session._BACKED_OFF_S", 0.1)
    with unpaired.hold_service():
        assert cisterna("pair", "--role", "all").code == 0
        with Programmer(unpaired.link(), "service", keys=KeyStore.of_user(), who="bob") as bob:
            bob.authenticate()
            ran = cisterna("pair", "--revoke")
    assert ran.code == 4
    assert "busy with bob" in ran.err
    assert KeyStore.of_user().get(unpaired.pump_id, "clinician") is not None


def forged_not_paired(message: messages.Message, _: object) -> None:
    if message is messages.OPEN_SESSION:
        raise Refused("not_paired", "it has given out no key for this role")


def forged_proof(message: messages.Message, _: object) -> dict[str, object] | None:
    return {"nonce": bytes(16), "proof": bytes(8)} if message is messages.OPEN_SESSION else None


@pytest.mark.requirement("SEC-2")
@pytest.mark.parametrize("forged", [forged_not_paired, forged_proof])
def test_nobody_is_sent_to_pair_anew_by_an_answer_that_nothing_proves(
    cisterna: Cisterna, bench: VirtualBench, tapped: Callable[[Answers], None], forged: Answers
) -> None:
    tapped(forged)
    ran = cisterna("status", "--json")
    assert ran.code == 1
    remedy = ran.json["remedy"]
    assert "nothing proves this answer" in remedy
    assert remedy.index("look first at what else is on the line") < remedy.index("cisterna pair")
    assert bench.pump_id.hex() in ran.json["error"]


@pytest.mark.requirement("SEC-2")
def test_another_pump_than_those_there_are_keys_of_may_be_a_forged_hello(
    cisterna: Cisterna, bench: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hello = Session.request

    def other_serial(self: Session, message: messages.Message, *more: object) -> object:
        reply = hello(self, message, *more)  # type: ignore[arg-type]
        return {**reply, "serial": bytes(8)} if message is messages.HELLO else reply

    monkeypatch.setattr(Session, "request", other_serial)
    ran = cisterna("status", "--json")
    assert ran.code == 1
    assert f"no clinician's key for pump {bytes(8).hex()}" in ran.json["error"]
    assert "keys of 1 other pump " in ran.json["error"]
    remedy = ran.json["remedy"]
    assert remedy.index("somebody on the line") < remedy.index("hold its service button")
    assert KeyStore(bench.keys.folder).roles(bench.pump_id)


def test_a_role_that_does_not_exist_is_a_usage_error(cisterna: Cisterna) -> None:
    shown = cisterna("pair", "--role", "surgeon")
    assert shown.code == 2
    assert "clinician, service, patient, all" in shown.err


# -- sessions -------------------------------------------------------------------------------------


def test_a_wrong_key_is_told_before_anything_is_sent_under_it(tmp_path: Path) -> None:
    with VirtualBench(seed=1, trace=False) as bench:
        wrong = KeyStore(tmp_path / "wrong")
        wrong.put(bench.pump_id, "clinician", b"w" * 16, 1)
        with pytest.raises(WrongKey, match="does not prove the clinician's key"):
            connect(bench.link(), keys=wrong)
        with pytest.raises(NotPaired, match="no patient's key"):
            connect(bench.link(), "patient", keys=wrong)


@pytest.mark.requirement("INP-3")
def test_two_programmers_at_once_are_both_named() -> None:
    with VirtualBench(seed=1, trace=False) as bench:
        ann = Programmer(bench.link(), "clinician", keys=bench.keys, who="ann@ward")
        ann.status()
        bob = Programmer(bench.link(), "patient", keys=bench.keys, who="bob@home")
        with pytest.raises(PumpBusy) as told:
            bob.status()
        for text in ("ann@ward as clinician", "bob@home as patient"):
            assert text in str(told.value)
        assert "30 s" in (told.value.remedy or "")
        ann.status()
        bench.advance(seconds=30)
        assert bob.status().fault == 0
        with pytest.raises(PumpBusy, match="bob@home"):
            ann.session.open()
        bob.close()
        assert ann.status().fault == 0  # it opens a new session by itself


@pytest.mark.requirement("SEC-5")
def test_a_confirmation_never_goes_into_another_session() -> None:
    with VirtualBench(seed=1, trace=False) as bench:
        first = bench.programmer()
        prepared = first.prepare(messages.SET_CLOCK, {"wall_s": 1_800_000_000})
        with bench.programmer() as second:
            second.status()
            with pytest.raises(Refused, match="the pump did not carry it out"):
                first.confirm(prepared)
        assert first.status().wall_s == 0


@pytest.mark.requirement("SEC-8")
def test_a_session_that_was_silent_is_opened_anew() -> None:
    with VirtualBench(seed=1, trace=False) as bench, bench.programmer() as pump:
        opened = 0

        def watch(sent: bool, packet: bytes, _inner: bytes | None) -> None:
            nonlocal opened
            opened += sent and packet[0] == 1 and packet[3] == messages.OPEN_SESSION.number

        pump.session.on_frame = watch
        bench.advance(seconds=179)
        pump.status()
        assert opened == 0
        bench.advance(seconds=181)
        pump.status()
        assert opened == 1


# -- a command whose outcome is not known --------------------------------------------------------


class Cut:
    """A link that is silent from ``deaf`` on: what was sent arrives, what is answered does not."""

    def __init__(self, link: object) -> None:
        self._link = link
        self.deaf = False
        self.name = "cut"
        self._passed = 0.0

    def write(self, data: bytes) -> None:
        self._link.write(data)  # type: ignore[attr-defined]

    def read(self, timeout_s: float) -> bytes:
        if self.deaf:
            self._passed += timeout_s
            return b""
        return self._link.read(timeout_s)  # type: ignore[attr-defined]

    def now_s(self) -> float:
        return self._link.now_s() + self._passed  # type: ignore[attr-defined]

    def close(self) -> None:
        self._link.close()  # type: ignore[attr-defined]


@pytest.mark.requirement("SEC-6")
@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("arrives", [True, False])
def test_an_unknown_outcome_is_kept_and_settled_by_the_next_programmer(
    arrives: bool, restart: bool
) -> None:
    with VirtualBench(seed=1, trace=False) as bench:
        link = Cut(bench.link())
        pump = Programmer(link, keys=bench.keys)
        prepared = pump.prepare(messages.SET_CLOCK, {"wall_s": 1_800_000_000})
        link.deaf = True
        if not arrives:
            link.write = lambda data: None  # type: ignore[method-assign]
        with pytest.raises(OutcomeUnknown):
            pump.confirm(prepared)
        assert bench.keys.pending(bench.pump_id) is not None
        with pytest.raises(OutcomeUnknown):
            pump.prepare(messages.SET_CLOCK, {"wall_s": 1_900_000_000})
        if restart:
            bench.cut_power()
            bench.power_on()
        with bench.programmer() as again:
            again.settle()
            wanted = "was carried out" if arrives else "not"
            assert wanted in again.settled
            assert (again.status().wall_s == 0) == (restart or not arrives)
            assert bench.keys.pending(bench.pump_id) is None
            done = again.set_clock(1_900_000_000)
            assert again.log()[done.event].role == messages.CLINICIAN


@pytest.mark.requirement("SEC-6")
@pytest.mark.parametrize("carried_out", [True, False])
def test_a_command_that_failed_inside_the_pump_is_not_taken_for_one_that_was_not_done(
    carried_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with VirtualBench(seed=1, trace=False) as bench:
        pump = bench.programmer()
        prepared = pump.prepare(messages.SET_CLOCK, {"wall_s": 1_800_000_000})
        request = pump.session.request

        def failing(message: messages.Message, values: dict[str, object], **more: int) -> object:
            if message is not messages.CONFIRM:
                return request(message, values, **more)
            monkeypatch.undo()
            if carried_out:
                request(message, values)
            raise Refused("internal", messages.REFUSALS[messages.REFUSAL["internal"]][1])

        monkeypatch.setattr(pump.session, "request", failing)
        if carried_out:
            done = pump.confirm(prepared)
            assert pump.log()[done.event].name == "clock_set"
        else:
            with pytest.raises(OutcomeUnknown, match="failed while it carried it out"):
                pump.confirm(prepared)
            assert bench.keys.pending(bench.pump_id) is not None
            pump.close()
            with bench.programmer() as again:
                again.settle()
                assert "is not in the pump's log; the pump failed" in again.settled
        assert bench.keys.pending(bench.pump_id) is None


@pytest.mark.requirement("SEC-6")
def test_a_refusal_that_is_in_the_log_is_no_command_carried_out() -> None:
    """Between the patient's prepare and confirm, whose answer is lost, so much was given that the
    reservoir has no more than nine tenths of the bolus left."""
    with VirtualBench(seed=1, trace=False) as bench:
        with bench.programmer() as clinician:
            bench.refill_reservoir(20_000_000)
            wanted = {
                "drug": "saline",
                "concentration_ng_ml": 500_000,
                "mode": messages.SIMPLE_CONTINUOUS,
                "rate_nl_day": 12_000_000,
                "capacity_nl": 20_000_000,
                "low_mark_nl": 2_000_000,
                "patient_nl": 10_000,
                "patient_s": 60,
                "lockout_s": 3_600,
                "patient_max": 3,
            }
            echo = clinician.prepare(messages.SET_PRESCRIPTION, wanted).echo
            agreed = {"total_nl": echo["new_total_nl"], "agreed": 46}
            clinician.confirm(clinician.prepare(messages.SET_PRESCRIPTION, {**wanted, **agreed}))
            clinician.refill(measured="0 mL", fill="1.412 mL", reason="first fill")
        link = Cut(bench.link())
        pump = Programmer(link, "patient", keys=bench.keys)
        prepared = pump.prepare(messages.REQUEST_BOLUS, {})
        bench.advance(seconds=25)
        link.deaf = True
        with pytest.raises(OutcomeUnknown):
            pump.confirm(prepared)
        link.deaf = False
        pump.settle()
        assert "was not carried out" in pump.settled
        told = [event for event in pump.log() if event.cause]
        assert told[-1].name == "patient_refused"
        bench.advance(minutes=5)
        assert bench.truth()["steps"] == 120  # all there was, at the basal rate


TOKEN = "0102030405060708"


def keep_pending(bench: VirtualBench, **more: object) -> dict[str, object]:
    """A command that the pump never got, as an older programmer kept it."""
    with bench.programmer() as pump:
        first = pump.status().next_event
    command = {"token": TOKEN, "command": "stop_delivery", "boots": 1, "next_event": first, **more}
    bench.keys.set_pending(bench.pump_id, command)
    return command


def clear_logs(bench: VirtualBench, tmp_path: Path) -> None:
    """As somebody else does, who knows nothing of what this programmer waits for."""
    other = KeyStore(tmp_path / "service")
    held = bench.keys.get(bench.pump_id, "service")
    assert held is not None
    other.put(held.pump, held.role, held.key, held.generation)
    with Programmer(bench.link(), "service", keys=other) as pump:
        pump.confirm(pump.prepare(messages.CLEAR_LOGS, {}))


def test_what_happened_to_it_is_told_by_the_next_command(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    keep_pending(bench)
    shown = cisterna("status")
    assert shown.code == 0
    assert "stop delivery, whose answer did not come, was not carried out" in shown.err
    assert "answer did not come" not in cisterna("status").err


def test_a_session_that_is_lost_says_nothing_of_a_command() -> None:
    with VirtualBench(seed=1, trace=False) as bench, bench.programmer() as pump:
        prepared = pump.prepare(messages.SET_CLOCK, {"wall_s": 1_800_000_000})
        bench.cut_power()
        bench.power_on()
        with pytest.raises(SessionLost):
            pump.session.request(messages.CONFIRM, {"token": prepared.token})


@pytest.mark.requirement("SEC-6")
def test_a_log_that_was_cleared_tells_nothing_and_only_who_compared_settles(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Path
) -> None:
    command = keep_pending(bench, request={"volume_nl": 20_000}, sent_at=1_800_000_000)
    clear_logs(bench, tmp_path)
    clear_logs(bench, tmp_path)  # of the first nothing but what was before the command is gone
    for words in (("status",), ("status", "--json"), ("resume", "--yes"), ("log",)):
        shown = cisterna(*words)
        assert shown.code == 4
        assert "stop delivery" in shown.err
        assert "no longer in the pump's log" in shown.err
        assert "cisterna status --settle" in " ".join(shown.err.split())
    assert bench.keys.pending(bench.pump_id) == command
    shown = cisterna("status", "--settle")
    assert shown.code == 0
    for text in ("Therapy", "Reservoir", "stop delivery", "0.02 mL", "2027-01-15", "by hand"):
        assert text in shown.out
    assert bench.keys.pending(bench.pump_id) is None
    bench.keys.set_pending(bench.pump_id, command)
    found = cisterna("status", "--settle", "--json").json
    assert found["settled_by_hand"] == command
    assert found["account"]
    assert bench.keys.pending(bench.pump_id) is None
    assert cisterna("status", "--settle", "--json").json["settled_by_hand"] is None


def test_settling_by_hand_takes_what_the_pump_can_tell(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    keep_pending(bench)
    found = cisterna("status", "--settle", "--json").json
    assert "was not carried out" in found["settled"]
    assert found["settled_by_hand"] is None
    keep_pending(bench)
    bench.cut_power()
    assert cisterna("status", "--settle").code == 4
    assert bench.keys.pending(bench.pump_id) is not None


def test_on_a_terminal_settling_by_hand_asks(
    in_terminal: Callable[..., Other], bench: VirtualBench, tmp_path: Path
) -> None:
    command = keep_pending(bench)
    clear_logs(bench, tmp_path)
    clear_logs(bench, tmp_path)
    for answer, code, left in (("n", 1, command), ("y", 0, None)):
        other = in_terminal("status", "--settle")
        other.wait_for("Have you compared")
        other.type(f"{answer}\n")
        assert other.end() == code
        assert bench.keys.pending(bench.pump_id) == left


@pytest.mark.requirement("SEC-6")
@pytest.mark.parametrize("what", ["damaged", "gone", "cleared", "last"])
def test_records_that_are_gone_or_damaged_do_not_say_no(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with VirtualBench(seed=1, trace=False) as bench, bench.programmer() as pump:
        done = pump.set_clock(1_800_000_000)
        token = pump.status().last_token.hex()
        if what != "last":
            token = TOKEN
            pump.set_clock(1_800_000_100)
        bench.keys.set_pending(
            bench.pump_id, {"token": token, "command": "set_clock", "next_event": done.event}
        )
        if what in ("cleared", "last"):
            pump.close()
            clear_logs(bench, tmp_path) if what == "cleared" else None
            pump = bench.programmer()
        request = pump.session.request

        def spoilt(message: messages.Message, values: dict[str, object], *more: int) -> object:
            reply = request(message, values, *more)
            if message is messages.GET_EVENTS and what in ("damaged", "gone"):
                records = bytearray(reply["records"])
                if what == "damaged":
                    records[5] ^= 1
                elif values["first"] == done.event:
                    reply["oldest"] = done.event + 1
                    del records[: messages.EVENT_SIZE]
                reply["records"] = bytes(records)
            return reply

        monkeypatch.setattr(pump.session, "request", spoilt)
        if what == "last":
            assert pump.settle()
            assert "was carried out" in pump.settled
            return
        with pytest.raises(LogCannotTell) as told:
            pump.settle()
        assert "cisterna status --settle" in (told.value.remedy or "")
        assert bench.keys.pending(bench.pump_id) is not None


@pytest.mark.requirement("SEC-6")
@pytest.mark.parametrize("arrives", [True, False])
def test_a_forged_hello_does_not_make_a_restart_a_no(
    arrives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pump restarts between a command and the question what became of it; whoever has the line
    has hello say that it did not."""
    with VirtualBench(seed=1, trace=False) as bench:
        pump = bench.programmer()
        prepared = pump.prepare(messages.SET_CLOCK, {"wall_s": 1_800_000_000})
        boots = pump.identity.boots
        request = pump.session.request
        asked: list[bool] = []

        def on_a_bad_line(
            message: messages.Message, values: dict[str, object], *more: int, **named: int
        ) -> object:
            if message is messages.CONFIRM and not asked:
                asked.append(True)
                if arrives:
                    request(message, values)
                bench.cut_power()
                bench.power_on()
                raise NoReply("silence")
            reply = request(message, values, *more, **named)
            return {**reply, "boots": boots} if message is messages.HELLO else reply

        monkeypatch.setattr(pump.session, "request", on_a_bad_line)
        if arrives:
            done = pump.confirm(prepared)
            assert pump.log()[done.event].name == "clock_set"
        else:
            with pytest.raises(OutcomeUnknown):
                pump.confirm(prepared)
            assert bench.keys.pending(bench.pump_id) is not None
            assert pump.settle()
            assert "the pump has started anew since" in pump.settled
        assert bench.keys.pending(bench.pump_id) is None


@pytest.mark.requirement("SEC-6")
def test_a_command_that_settles_an_earlier_one_ends_there(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    with bench.programmer() as pump:
        before = pump.status()
        link = Cut(bench.link())
        lost = Programmer(link, keys=bench.keys)
        prepared = lost.prepare(messages.SET_CLOCK, {"wall_s": 1_800_000_000})
        link.deaf = True
        with pytest.raises(OutcomeUnknown):
            lost.confirm(prepared)
        with pytest.raises(EarlierSettled, match="was carried out") as told:
            pump.set_clock(1_900_000_000)
        assert "repeat it" in (told.value.remedy or "")
        assert "was carried out" in told.value.settled
        assert abs(pump.status().wall_s - 1_800_000_000) < 60
        assert before.wall_s == 0
        pump.set_clock(1_900_000_000)
    for words in (
        ("resume", "--yes"),
        ("clock", "--set"),
        ("alarms", "--critical-every", "5 min"),
        ("refill", "--measured", "0 mL", "--fill", "20 mL", "--reason", "first fill", "--yes"),
    ):
        keep_pending(bench)
        with bench.programmer() as pump:
            first = pump.status().next_event
        ran = cisterna(*words, "--json")
        assert ran.code == 1
        assert "stop delivery, whose answer did not come, was not" in ran.json["settled"]
        assert "was not begun" in ran.json["error"]
        assert "repeat" in ran.json["remedy"]
        assert bench.keys.pending(bench.pump_id) is None
        with bench.programmer() as pump:
            assert pump.status().next_event == first
    assert cisterna("clock", "--set", "--json").json["set"]


def test_what_ends_delivery_waits_for_no_earlier_command(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Path
) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    keep_pending(bench)
    ran = cisterna("stop", "--yes", "--json")
    assert ran.code == 0
    assert "was not carried out" in ran.err
    with bench.programmer() as pump:
        assert pump.status().stop_reason == messages.BY_COMMAND
        pump.resume()
    pending = keep_pending(bench)
    for _ in range(2):  # the record of the first is gone with the second: nothing can tell
        clear_logs(bench, tmp_path)
    assert cisterna("bolus", "10 ug", "--over", "10 min", "--yes").code == 4
    assert cisterna("stop", "--yes").code == 0
    with bench.programmer() as pump:
        assert pump.status().stop_reason == messages.BY_COMMAND
    assert bench.keys.pending(bench.pump_id) == pending


def test_pairing_does_not_wait_for_a_command_that_only_a_new_key_can_ask_for(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    command = keep_pending(bench)
    with bench.hold_service():
        with bench.programmer() as pump:
            pump.session.request(messages.REVOKE_KEY, {"role": messages.CLINICIAN})
        blocked = cisterna("resume", "--yes")
        assert blocked.code == 4
        assert "stop delivery" in blocked.err
        assert "given out no clinician's key" in blocked.err
        assert "cisterna pair" in blocked.err
        assert cisterna("pair", "--list").code == 0
        assert cisterna("pair", "--role", "patient", "--revoke").code == 0
        assert cisterna("pair").code == 0
    assert bench.keys.pending(bench.pump_id) == command
    shown = cisterna("status")
    assert shown.code == 0
    assert "was not carried out" in shown.err


def test_a_pump_that_is_busy_or_off_leaves_an_outcome_unknown(
    cisterna: Cisterna, bench: VirtualBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_pending(bench)
    with Programmer(bench.link(), "patient", keys=KeyStore(bench.keys.folder), who="ann") as ann:
        ann.authenticate()
        monkeypatch.setattr("cisterna.session._BACKED_OFF_S", 0.1)
        shown = cisterna("status", "--json")
    assert shown.code == shown.json["exit_code"] == 4
    for text in ("stop delivery", "busy with ann", "wait until they are done"):
        assert text in shown.json["error"] + shown.json["remedy"]
    bench.cut_power()
    shown = cisterna("status")
    assert shown.code == 4
    assert "stop delivery" in shown.err
    assert bench.pump_id.hex() in shown.err
    monkeypatch.delenv("CISTERNA_PORT")
    shown = cisterna("status")
    assert shown.code == 4
    assert "no pump was found" in shown.err
    assert "stop delivery" in shown.err


# -- what a key file, or the line, may hold -------------------------------------------------------


@pytest.mark.parametrize("wrong", ["mode", "folder", "owner", "short"])
def test_a_key_file_that_is_not_used_is_told_without_a_port_too(
    cisterna: Cisterna, bench: VirtualBench, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CISTERNA_PORT")
    virtual = finding.Candidate(bench.port, "virtual pump", virtual=True)
    monkeypatch.setattr(finding, "virtual_pumps", lambda: [virtual])
    path = next(bench.keys.folder.glob("*.json"))
    if wrong == "mode":
        path.chmod(0o644)
    elif wrong == "folder":
        path.parent.chmod(0o755)
    elif wrong == "owner":
        monkeypatch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
    else:
        path.write_text(path.read_text()[:40])
    shown = cisterna("status")
    assert shown.code == 1
    expected = {"owner": "belongs to another user", "short": "is damaged"}
    assert expected.get(wrong, "others can use") in shown.err
    monkeypatch.undo()


BAD_PENDING = (
    "3",
    '"x"',
    "[]",
    "{}",
    '{"token": "zz", "command": "stop", "next_event": 0}',
    '{"token": "0102030405060708", "command": 5, "next_event": 0}',
    '{"token": "0102030405060708", "command": "stop", "next_event": "1"}',
    '{"token": "0102030405060708", "command": "stop", "next_event": -1}',
)


@pytest.mark.parametrize(
    "changes", [{"roles": 3}, {"roles": []}, *({"pending": json.loads(x)} for x in BAD_PENDING)]
)
def test_a_key_file_of_another_form_is_an_error_in_words(
    cisterna: Cisterna, bench: VirtualBench, changes: dict[str, object]
) -> None:
    path = next(bench.keys.folder.glob("*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    shown = cisterna("status")
    assert shown.code == 1
    assert "is damaged" in shown.err
    assert "cisterna pair" in shown.err


def test_the_folder_is_durable_too(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    fsync = os.fsync

    def watched(fd: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(fd).st_mode))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    store.set_pending(PUMP, {"token": "00"})
    assert synced == [False, True]


class Clock:
    """A link of nobody: time passes while it is read."""

    name = "nobody"

    def __init__(self) -> None:
        self._now_s = 0.0

    def read(self, timeout_s: float) -> bytes:
        self._now_s += timeout_s
        return b""

    def now_s(self) -> float:
        return self._now_s

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.requirement("SEC-7")
@pytest.mark.parametrize("name", ["busy", "backed_off"])
@pytest.mark.parametrize("wait_ms", [-(10**12), 0, 1, 10**12])
def test_a_forged_refusal_holds_nobody_up(
    store: KeyStore, name: str, wait_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(PUMP, "clinician", b"k" * 16, 1)
    link = Clock()
    session = Session(link, keys=store)
    session.pump_id = PUMP
    asked: list[str] = []

    def forged(*_: object) -> object:
        asked.append(name)
        assert len(asked) < 100, "it asks for ever"
        raise Refused(name, "forged", "somebody", wait_ms, wait_ms)

    monkeypatch.setattr(session, "_handshake", forged)
    with pytest.raises((Refused, PumpBusy)) as told:
        session.open()
    assert link.now_s() <= 6
    assert told.value.remedy
    assert str(10**9) not in str(told.value) + (told.value.remedy or "")


@pytest.mark.requirement("INP-3")
@pytest.mark.parametrize("size", [0, 3, 8, 12])
def test_a_hello_that_is_cut_short_is_not_another_version(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with VirtualBench(seed=1, trace=False) as bench:
        whole: list[bytes] = []
        decoded = session_module.decode_reply

        def cut(message: messages.Message, body: bytes | memoryview) -> object:
            whole.append(bytes(body))
            return decoded(message, bytes(body)[:size])

        monkeypatch.setattr(session_module, "decode_reply", cut)
        with pytest.raises(GarbledHello, match="cut short or garbled") as told:
            Programmer(bench.link(), keys=bench.keys)
        assert "wire version" not in str(told.value)
        assert len(whole[0]) > 12
