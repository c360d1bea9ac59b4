"""The programmer: what a clinician does with a pump, in its words.

Every command that moves drug or settings is prepared (the pump checks it and says what it would
do), then confirmed. ``program``, ``bolus`` and the like do both; ``prepare_...`` and ``confirm``
do them one by one, for whoever wants to look in between. A command has three outcomes: done, not
done (an error), unknown (``OutcomeUnknown``).
"""

from __future__ import annotations

import dataclasses
import struct
import time
from binascii import crc32
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cisterna import units
from cisterna.amounts import wall
from cisterna.dose import volume_of_mass_nl
from cisterna.errors import CisternaError, NoPump, OutcomeUnknown, Refused
from cisterna.guard import guard
from cisterna.keys import ROLE_NAMES, ROLES, BadKeyStore, KeyStore
from cisterna.mixture import MOST_DRUGS, Drug, Mixture
from cisterna.prescription import Therapy, drug_octets, drug_of_octets, parts_crc
from cisterna.session import (
    REPLY_S,
    TRIES,
    BadReply,
    NoReply,
    Session,
    SessionLost,
    Values,
    decode_reply,
    encode_request,
)
from cisterna.transport import Link
from pump_wire import messages
from pump_wire.codec import MAX_BODY
from pump_wire.messages import Message

NEVER = 1 << 62  # of an Outlook: not at all, or no limit
MOST_RECORDS = 8_192  # of a log: twice what a pump keeps, and more

# What whoever programs may accept without typing.
SOFT_ASKS = (
    messages.ASK_SOFT_DAY
    | messages.ASK_SOFT_BOLUS
    | messages.ASK_SOFT_RAISED
    | messages.ASK_MIXTURE
)

ENDS_DELIVERY = (messages.STOP, messages.CANCEL_BOLUS)
# Events with a command's token that do not mean that it was carried out.
_NOT_DONE = ("patient_refused", "command_refused", "fault_latched", "alarm_raised")
_VERSIONS = struct.Struct("<HI")  # what HELLO's reply begins with: wire version, table hash

_STARTED_SINCE = (
    "the pump has started anew since: a bolus that it may have begun is over (cisterna log)"
)

_Row = TypeVar("_Row")


class WrongVersion(CisternaError):
    """The pump speaks another wire version or has another message table."""


class GarbledHello(CisternaError):
    """What came as hello is none of this version, nor of another."""


class LogCannotTell(OutcomeUnknown):
    """The pump's log has lost the records that would tell what became of a command: it never will.
    Whoever has compared settles it by hand."""


class NotCarriedOut(Refused):
    """The answer to a command did not come, and the pump did not carry it out."""

    def __init__(self, name: str) -> None:
        super().__init__("bad_token", "")
        self.args = (f"{name}: its answer did not come, and the pump did not carry it out",)
        self.remedy = "repeat it if it is still wanted"


class ReadBackDiffers(CisternaError):
    """The pump's prescription is not the one that it was sent."""


class NotReadBack(CisternaError):
    """A prescription was committed (``done``) and could not be read back: it was not compared."""

    def __init__(self, done: Done, error: CisternaError) -> None:
        super().__init__(
            f"programmed (record {done.event}), and not read back: {error}",
            remedy="do not repeat it: compare what the pump runs (cisterna status)",
        )
        self.done = done


class EarlierSettled(CisternaError):
    """An earlier command had to be settled first. That is all that was done. ``settled``: what
    became of it."""

    def __init__(self, settled: str) -> None:
        super().__init__(
            f"{settled}; this command was not begun", remedy="repeat it if it is still wanted"
        )
        self.settled = settled


@dataclass(frozen=True)
class Identity:
    """Who is there. Fields as HELLO's reply in the message table."""

    wire_version: int
    table_hash: int
    sealed: int
    board: str
    firmware: str
    vm: str
    serial: bytes
    boots: int
    reset_cause: int


@dataclass(frozen=True)
class Status:
    """What the pump does now. Fields as GET_STATUS's reply; units in the names."""

    uptime_us: int
    wall_s: int
    mode: int
    return_mode: int
    stop_reason: int
    rate_nl_day: int
    steps: int
    step_pl: int
    programmed_pl: int
    bolus_pl: int
    bolus_left_pl: int
    fault: int
    fault_text: str
    next_event: int
    last_token: bytes
    alarms: int
    alarm: int
    battery_mv: int
    service_days: int
    lag_ms: int

    @property
    def mode_name(self) -> str:
        """Mode in words."""
        return messages.MODES[self.mode].replace("_", " ")

    @property
    def stopped_because(self) -> str:
        """Why the pump is stopped, in words; "running" when it is not."""
        return messages.STOP_REASONS[self.stop_reason]


@dataclass(frozen=True)
class Account:
    """The reservoir account. Fields as GET_ACCOUNT's reply, volumes in pL."""

    fill_pl: int
    delivered_pl: int
    residual_pl: int
    lifetime_pl: int
    bolus_pl: int
    capacity_pl: int
    low_mark_pl: int
    unusable_pl: int
    refills: int
    refill_uptime_us: int
    refill_wall_s: int
    missed_pl: int
    expected_pl: int
    measured_pl: int
    before_delivered_pl: int
    reason: str


@dataclass(frozen=True)
class Outlook:
    """The therapy ahead. Fields as GET_THERAPY's reply; NEVER: not at all, or no limit."""

    patient_us: int
    patient_used: int
    hour_pl: int
    day_pl: int
    room_nl: int
    low_us: int
    empty_us: int
    refill_us: int
    total_nl: int
    bridge: int
    bridge_left_nl: int
    why: str
    clock: int
    utc_offset_min: int
    step: int
    next_us: int


@dataclass(frozen=True)
class Event:
    """One event record. ``wall_s`` is 0 when the clock was not set; ``damaged``: its CRC is
    wrong, and nothing but ``sequence`` is to be believed. ``role``: of whoever's command caused
    it, ``cause``: the first octets of that command's token; both 0 where the pump did it."""

    sequence: int
    code: int
    uptime_us: int
    wall_s: int
    value: int
    damaged: bool
    role: int = 0
    cause: int = 0

    @property
    def name(self) -> str:
        """Name of the event in the table."""
        if self.damaged:
            return "damaged_record"
        return messages.EVENTS.get(self.code, ("unknown_event", ""))[0]

    @property
    def text(self) -> str:
        """The record in words."""
        if self.damaged:
            return "this record is damaged"
        if self.name == "mode_entered":
            mode = _word(messages.MODES, self.value)
            return f"{mode} mode entered" if mode else f"unknown mode {self.value} entered"
        if self.name == "pump_started":
            cause = _word(messages.RESET_CAUSES, self.value) or f"unknown cause {self.value}"
            return f"pump started, reset cause: {cause}"
        if self.name == "fault_latched":
            what = messages.FAULTS.get(self.value, ("", f"unknown fault {self.value}"))[1]
            return f"fault latched, motor stopped: {what}"
        if self.name in ("alarm_raised", "alarm_over") and self.value in messages.ALARMS:
            _, urgent, _, text, _ = messages.ALARMS[self.value]
            kind = messages.ALARM_CLASSES[urgent]
            over = self.name == "alarm_over"
            return f"cause is gone: {text}" if over else f"ALARM ({kind}): {text}"
        if self.name == "patient_refused" and self.value in messages.REFUSALS:
            return f"patient bolus refused: {messages.REFUSALS[self.value][1]}"
        if self.name == "command_refused" and self.value in messages.BY_NUMBER:
            return f"command refused: {messages.BY_NUMBER[self.value].name}"
        if self.name in ("paired", "key_revoked") and self.value in ROLE_NAMES:
            done = "given out" if self.name == "paired" else "revoked"
            return f"the {ROLE_NAMES[self.value]}'s key was {done}"
        if self.name == "power_lost" and self.value < 0:
            return "power was lost; the clock cannot tell for how long"
        if self.name == "clock_set":
            before = f", it was {wall(self.value, True)}" if self.value else ""
            return f"wall time set{before}"
        if self.name == "zone_set":
            hours, minutes = divmod(abs(self.value), 60)
            return f"time zone set, UTC{'-' if self.value < 0 else '+'}{hours:02d}:{minutes:02d}"
        if self.name == "flex_moved":
            way = "back" if self.value < 0 else "on"
            moved = units.format_duration(abs(self.value) * 1_000_000)
            return f"flex schedule moved {way} by {moved} with the clock"
        text = messages.EVENTS.get(self.code, ("", f"event {self.code}, value {{a}}"))[1]
        if "{a} pL" in text:
            return text.replace("{a} pL", units.format_volume_pl(self.value))
        return text.format(a=self.value)


@dataclass(frozen=True)
class FaultRecord:
    """One fault record. ``text``: what was seen, and where. Else as Event."""

    sequence: int
    code: int
    uptime_us: int
    wall_s: int
    text: str
    damaged: bool

    @property
    def name(self) -> str:
        """Name of the fault in the table."""
        if self.damaged:
            return "damaged_record"
        return messages.FAULTS.get(self.code, ("unknown_fault", ""))[0]

    @property
    def words(self) -> str:
        """The record in words."""
        if self.damaged:
            return "this record is damaged"
        what = messages.FAULTS.get(self.code, ("", f"fault {self.code}"))[1]
        return f"{what}: {self.text}" if self.text else what


@dataclass(frozen=True)
class Alarm:
    """One instance of an alarm. ``instance``: number of the event that recorded it; ``age_s``:
    seconds since then."""

    instance: int
    code: int
    state: int
    age_s: int

    @property
    def _row(self) -> tuple[str, int, int, str, str]:
        return messages.ALARMS.get(
            self.code, (f"alarm_{self.code}", messages.CRITICAL, 0, f"alarm {self.code}", "")
        )

    @property
    def name(self) -> str:
        """Name in the table."""
        return self._row[0]

    @property
    def critical(self) -> bool:
        """True for a critical one."""
        return self._row[1] == messages.CRITICAL

    @property
    def text(self) -> str:
        """What is wrong."""
        return self._row[3]

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return self._row[4]

    @property
    def state_name(self) -> str:
        """What somebody did about it, or that its cause is gone."""
        return _word(messages.ALARM_STATES, self.state) or f"unknown state {self.state}"


@dataclass(frozen=True)
class Alarms:
    """``listed``: oldest first. ``action``: index in ACTIONS of what they make the pump do.
    ``critical_s``, ``other_s``: from tone to tone."""

    listed: tuple[Alarm, ...]
    action: int
    critical_s: int
    other_s: int


@dataclass(frozen=True)
class Prepared:
    """A command the pump has checked and not carried out. ``echo``: what it would do."""

    message: Message
    request: Values
    echo: Values
    token: bytes
    valid_s: float
    next_event: int


@dataclass(frozen=True)
class Done:
    """A command the pump carried out. ``event``: sequence number of its record; ``uptime_us``:
    pump clock at which it took effect; ``echo`` as in Prepared. ``warning``: what whoever gave it
    must be told besides, empty as a rule."""

    event: int
    uptime_us: int
    echo: Values
    warning: str = ""


@dataclass(frozen=True)
class _Trace:
    """What a pump knows of a command. ``is_last``: it was the last that it carried out; ``event``:
    the first that it caused. ``restarted``: the pump started since; ``whole``: no record since is
    damaged or gone."""

    is_last: bool = False
    event: Event | None = None
    restarted: bool = False
    whole: bool = True


def _row(kind: Callable[..., _Row], values: Values) -> _Row:
    return kind(**{field.name: values[field.name] for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


def _word(words: Sequence[str], number: int) -> str:
    """A number of the message table in words; "" for one that it does not have."""
    return words[number].replace("_", " ") if 0 <= number < len(words) else ""


def parse_events(records: bytes, first: int) -> list[Event]:
    """Event records as stored, the first of them expected to have sequence number ``first``."""
    events: list[Event] = []
    for at in range(0, len(records), messages.EVENT_SIZE):
        raw = records[at : at + messages.EVENT_SIZE]
        body, crc = raw[:-4], raw[-4:]
        whole = len(raw) == messages.EVENT_SIZE and crc32(body) == int.from_bytes(crc, "little")
        if not whole:
            events.append(Event(first + len(events), 0, 0, 0, 0, damaged=True))
            continue
        row = struct.unpack(messages.EVENT_FORMAT, body)
        sequence, code, flags, cause, uptime_us, wall_s, value = row
        role = flags >> 1 & 7
        events.append(Event(sequence, code, uptime_us, wall_s, value, False, role, cause))
    return events


def parse_faults(records: bytes, first: int) -> list[FaultRecord]:
    """Fault records as the pump stores them; the first has sequence number ``first``."""
    faults: list[FaultRecord] = []
    for at in range(0, len(records), messages.FAULT_SIZE):
        raw = records[at : at + messages.FAULT_SIZE]
        body, crc = raw[:-4], raw[-4:]
        whole = len(raw) == messages.FAULT_SIZE and crc32(body) == int.from_bytes(crc, "little")
        if not whole:
            faults.append(FaultRecord(first + len(faults), 0, 0, 0, "", damaged=True))
            continue
        row = struct.unpack(messages.FAULT_FORMAT, body)
        sequence, code, _, size, uptime_us, wall_s, octets = row
        text = octets[:size].decode("utf-8", "replace")
        faults.append(FaultRecord(sequence, code, uptime_us, wall_s, text, damaged=False))
    return faults


class Programmer:
    """A connected programmer. Usable as a context manager; closing ends the session and lets go of
    the port. ``keys``: where its keys are, the user's store by default.

    The first message that needs a session opens one. ``settled``: what became of a command whose
    outcome an earlier programmer did not learn, once this one knows.
    """

    def __init__(
        self,
        link: Link,
        role: str | None = "clinician",
        *,
        keys: KeyStore | None = None,
        who: str | None = None,
        reply_s: float = REPLY_S,
        tries: int = TRIES,
    ) -> None:
        """Say hello and compare versions. ``role`` None: the one that can do most of those there
        is a key of. ``reply_s``: how long a reply may take; ``tries``: how often to say hello.

        Raises NoReply, WrongVersion, or ValueError for a role that does not exist.
        """
        if role is not None and role not in ROLES:
            raise ValueError(f"role {role!r} is none of {', '.join(ROLES)}")
        self.session = Session(link, reply_s, role=role or "clinician", keys=keys, who=who)
        self.settled = ""
        self.identity = self._hello(tries)
        self.session.pump_id = self.identity.serial
        if role is None:
            self.take_role()

    def __enter__(self) -> Programmer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session and let go of the port. The pump goes on as it is."""
        try:
            self.session.close()
        finally:
            self.session.link.close()

    @property
    def role(self) -> str:
        """In which it talks to the pump."""
        return self.session.role

    def take_role(self) -> None:
        """Talk in the role that can do most of those there is a key of. Raises BadKeyStore."""
        held = self.session.keys.roles(self.identity.serial)
        self.session.role = held[0] if held else "clinician"

    def authenticate(self) -> None:
        """Open a session now, and prove to the pump who asks. Raises NotPaired, WrongKey,
        PumpBusy, Refused, NoReply."""
        self.session.request(messages.GET_KEYS, {})

    def _hello(self, tries: int) -> Identity:
        ours = (messages.WIRE_VERSION, messages.table_hash())
        try:
            identity = _row(Identity, self.session.request(messages.HELLO, {}, tries))
            theirs = (identity.wire_version, identity.table_hash)
        except BadReply as reply:
            # Whatever another version's hello holds, it begins with these two.
            theirs = ours
            if len(reply.body) >= _VERSIONS.size:
                theirs = _VERSIONS.unpack_from(reply.body)
            if theirs == ours:
                raise GarbledHello(
                    "the pump's hello was cut short or garbled on the way: it is not understood",
                    remedy="repeat the command; if it stays so, look at the cable, and at what "
                    "else is on the line",
                ) from reply
            identity = None
        if identity is None or ours != theirs:
            raise WrongVersion(
                f"the pump has wire version {theirs[0]}, message table {theirs[1]:08x}; "
                f"this programmer has wire version {ours[0]}, message table {ours[1]:08x}",
                remedy="install the cisterna that matches the pump, or flash this one's firmware",
            )
        return identity

    # -- interrogate --------------------------------------------------------------------------

    def status(self) -> Status:
        """What the pump does now."""
        return _row(Status, self.session.request(messages.GET_STATUS, {}))

    def account(self) -> Account:
        """The reservoir account."""
        return _row(Account, self.session.request(messages.GET_ACCOUNT, {}))

    def heap_free(self) -> int:
        """Free heap of the pump, octets, after it collected its garbage."""
        return self.session.request(messages.GET_MEMORY, {})["heap_free"]

    def prescription(self) -> Therapy | None:
        """The prescription in force, with its parts; None when none was ever committed.

        Raises CisternaError when the parts are not those that it names.
        """
        try:
            values = self.session.request(messages.GET_PRESCRIPTION, {})
        except Refused as refusal:
            if refusal.name == "no_prescription":
                return None
            raise
        numbers = sorted(set(values["week"])) if values["mode"] == messages.FLEX else []
        numbers += range(messages.DRUG_PARTS, messages.DRUG_PARTS + MOST_DRUGS - 1)
        numbers.append(messages.STABILITY_PART)
        wanted = numbers if values["parts_crc"] else []
        parts = {number: self.part(number) for number in wanted}
        if parts_crc(parts) != values["parts_crc"]:
            raise CisternaError(
                "the pump's prescription and its parts do not belong together",
                remedy="somebody programs it now: repeat the command",
            )
        return Therapy.of_values(values, parts)

    def part(self, number: int) -> bytes:
        """A part of the prescription in force, or a drug in the reservoir; empty: none."""
        return self.session.request(messages.GET_PART, {"part": number})["octets"]

    def reservoir(self) -> tuple[Drug, ...]:
        """The drugs in the reservoir, as far as the pump was told; none: it was not."""
        first = messages.RESERVOIR_PARTS
        octets = (self.part(number) for number in range(first, first + MOST_DRUGS))
        return tuple(drug_of_octets(part) for part in octets if part)

    def outlook(self) -> Outlook:
        """What the pump knows of the therapy ahead."""
        return _row(Outlook, self.session.request(messages.GET_THERAPY, {}))

    def events(
        self, first: int = 0, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Event]:
        """Event records from sequence number ``first`` on, oldest first.

        ``progress(done, total)`` is called after every reply. Raises BadReply for a log that no
        pump can hold.
        """
        yield from self._records(messages.GET_EVENTS, parse_events, first, progress)

    def faults(
        self, first: int = 0, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[FaultRecord]:
        """Fault records, as ``events``."""
        yield from self._records(messages.GET_FAULTS, parse_faults, first, progress)

    def _records(
        self,
        message: Message,
        parse: Callable[[bytes, int], list[_Row]],
        first: int,
        progress: Callable[[int, int], None] | None,
    ) -> Iterator[_Row]:
        number = first
        start: int | None = None
        read = 0
        while True:
            reply = self.session.request(message, {"first": number})
            oldest, end = reply["oldest"], reply["next"]
            if not 0 <= end - oldest <= MOST_RECORDS:
                problem = f"no log has records {oldest} to {end}"
                raise BadReply(message, reply["records"], problem)
            number = max(number, oldest)
            if start is None:
                start = number
            found = parse(reply["records"], number)
            read += len(found)
            if (number < end and not found) or read > MOST_RECORDS:
                problem = f"no record {number}" if not found else "the log has no end"
                raise BadReply(message, reply["records"], problem)
            yield from found
            number += len(found)
            if progress is not None and found:
                progress(number - start, end - start)
            if number >= end:
                return

    def log(self, first: int = 0) -> list[Event]:
        """``events`` as a list."""
        return list(self.events(first))

    # -- alarms -------------------------------------------------------------------------------

    def alarms(self) -> Alarms:
        """Alarms that stand or were not acknowledged."""
        reply = self.session.request(messages.GET_ALARMS, {})
        octets = len(reply["records"])
        if octets % messages.ALARM_SIZE:
            problem = f"{octets} octets are no whole number of alarms"
            raise BadReply(messages.GET_ALARMS, reply["records"], problem)
        listed = tuple(
            Alarm(*row) for row in struct.iter_unpack(messages.ALARM_FORMAT, reply["records"])
        )
        return Alarms(listed, reply["action"], reply["critical_s"], reply["other_s"])

    def silence(self, silence: str | int = "10 min") -> int:
        """No tones for so long (seconds, or text) from the alarms there are now; returns how many
        those are."""
        if isinstance(silence, str):
            silence = units.parse_duration(silence, name="silence") // 1_000_000
        reply = self.session.request(messages.SILENCE, {"silence_s": silence})
        return reply["alarms"]

    def acknowledge(self, instance: int) -> bool:
        """Say that somebody sees to alarm ``instance``. True if its cause stands. Raises
        Refused."""
        reply = self.session.request(messages.ACKNOWLEDGE, {"instance": instance})
        return bool(reply["stands"])

    def alarm_test(self, pattern: int = messages.CRITICAL) -> int:
        """Play a pattern of tones (index in TONES) once; returns its length in ms."""
        return self.session.request(messages.ALARM_TEST, {"pattern": pattern})["duration_ms"]

    def prepare_alarm_intervals(self, critical_s: int, other_s: int) -> Prepared:
        """Prepare to change how often alarms sound, seconds from tone to tone."""
        request = {"critical_s": critical_s, "other_s": other_s}
        return self.prepare(messages.SET_ALARM_INTERVALS, request)

    def set_alarm_intervals(self, critical_s: int, other_s: int) -> Done:
        """Change how often alarms sound, seconds from tone to tone."""
        return self.confirm(self.prepare_alarm_intervals(critical_s, other_s))

    # -- prepare and confirm ------------------------------------------------------------------

    def prepare(self, message: Message, request: Values) -> Prepared:
        """Have the pump check a command; nothing changes. Fields that ``request`` leaves out are
        sent as not used. Raises Refused, and what ``settle_first`` raises, but for what ends
        delivery: that never waits for an earlier command."""
        if message not in ENDS_DELIVERY:
            self.settle_first()
        request = completed(message, request)
        body = bytearray(MAX_BODY)
        end = encode_request(message, request, body)
        asked = {"command": message.number, "body": bytes(body[:end])}
        reply = self.session.request(messages.PREPARE, asked)
        echo = decode_reply(message, reply["body"])
        valid_s = reply["valid_ms"] / 1000
        return Prepared(message, request, echo, reply["token"], valid_s, reply["next_event"])

    def confirm(self, prepared: Prepared) -> Done:
        """Carry out what was prepared, once. It is in the key store before it is sent, and out of
        it when its outcome is known; what ends delivery is sent whatever the key store can do.

        Raises Refused or BadKeyStore (not done) or OutcomeUnknown (the link went silent and asking
        the pump again gave no answer, or the pump failed at some point while it carried the
        command out).
        """
        command: Values = {
            "token": prepared.token.hex(),
            "command": prepared.message.name,
            "request": as_json(prepared.request),
            "next_event": prepared.next_event,
            "sent_at": int(time.time()),
        }
        ends = prepared.message in ENDS_DELIVERY
        name = prepared.message.name.replace("_", " ")
        warnings: list[str] = []
        try:
            if ends and self.session.keys.pending(self.session.pump_id):
                return self._confirm_beside(prepared)
            self._keep_pending(command)
        except (BadKeyStore, OSError) as error:
            if ends:
                return self._confirm_beside(prepared)
            raise _not_kept(name, error) from error
        try:
            reply = self.session.request(messages.CONFIRM, {"token": prepared.token})
        except Refused as refusal:
            if refusal.name != "internal":
                self._keep_pending(None)
                raise
            self._keep_pending({**command, "failed": True})
            reply = self._after_failure(prepared, name, refusal)
        except (NoPump, SessionLost, BadReply) as error:
            reply, warning = self._after_silence(prepared, name, error)
            warnings += [warning] if warning else []
        try:
            self._keep_pending(None)
        except (BadKeyStore, OSError) as error:
            warnings.append(f"it is done, which could not be kept and will be told again: {error}")
        return Done(reply["event"], reply["uptime_us"], prepared.echo, "; ".join(warnings))

    def _confirm_beside(self, prepared: Prepared) -> Done:
        """Carry out what ends delivery while an earlier command stays to be settled. Not kept: to
        be told twice does no harm."""
        reply = self.session.request(messages.CONFIRM, {"token": prepared.token})
        return Done(reply["event"], reply["uptime_us"], prepared.echo)

    def _after_silence(
        self, prepared: Prepared, name: str, error: CisternaError
    ) -> tuple[Values, str]:
        """The confirmation of a command that was sent and not answered, with what must be told
        besides; only what the pump says in a session counts. Raises NotCarriedOut,
        OutcomeUnknown."""
        try:
            self.session.open(1)  # what was prepared is void now, and cannot be done later
            found = self._look_up(prepared.token, prepared.next_event, tries=1)
            if found.is_last:
                return self.session.request(messages.CONFIRM, {"token": prepared.token}), ""
        except CisternaError as second:
            raise _unknown(name, error) from second
        if found.event is not None:
            reply = {"event": found.event.sequence, "uptime_us": found.event.uptime_us}
            return reply, _STARTED_SINCE if found.restarted else ""
        if not found.whole:
            raise _cannot_tell(name) from error
        if found.restarted:
            raise _unknown(name, error) from error  # a bolus that it may have begun is over
        self._keep_pending(None)
        raise NotCarriedOut(name) from error

    def _after_failure(self, prepared: Prepared, name: str, refusal: Refused) -> Values:
        """The confirmation of a command that failed inside the pump, perhaps only after it had
        been carried out. Raises OutcomeUnknown where the pump does not say that it was."""
        try:
            if self.status().last_token == prepared.token:
                return self.session.request(messages.CONFIRM, {"token": prepared.token})
        except CisternaError:
            pass
        raise OutcomeUnknown(
            f"{name}: the pump failed while it carried it out: {refusal}",
            remedy="do not repeat it: cisterna status asks the pump what became of it and why",
        ) from refusal

    def _keep_pending(self, command: Values | None) -> None:
        self.session.keys.set_pending(self.session.pump_id, command)

    def _look_up(self, token: bytes, first: int, tries: int = TRIES) -> _Trace:
        """What the pump knows of the command with ``token``, before which event ``first`` was the
        next."""
        status = _row(Status, self.session.request(messages.GET_STATUS, {}, tries))
        if status.last_token == token:
            return _Trace(is_last=True)
        events = list(self.events(first)) if status.next_event > first else []
        cause = token[0] | token[1] << 8
        kept = [event.sequence for event in events if not event.damaged]
        return _Trace(
            event=next(
                (
                    event
                    for event in events
                    if event.role and event.cause == cause and event.name not in _NOT_DONE
                ),
                None,
            ),
            restarted=any(event.name == "pump_started" for event in events),
            whole=kept == list(range(first, first + len(kept)))
            and first + len(kept) >= status.next_event >= first,
        )

    def settle(self) -> bool:
        """Learn what became of a command that was sent and not answered: the pump has its token,
        or an event that it caused. ``settled`` says it. False when there is none.

        Raises OutcomeUnknown when the pump cannot be asked, LogCannotTell when it cannot tell.
        """
        pending = self.session.keys.pending(self.session.pump_id)
        if pending is None:
            return False
        name = str(pending["command"]).replace("_", " ")
        try:
            self.session.open()  # whatever was prepared before is void
            found = self._look_up(bytes.fromhex(pending["token"]), pending["next_event"])
        except CisternaError as error:
            raise _unknown(name, error) from error
        if found.is_last or found.event is not None:
            what = f"was carried out; {_STARTED_SINCE}" if found.restarted else "was carried out"
        elif not found.whole:
            raise _cannot_tell(name)
        elif found.restarted:
            what = f"is not in the pump's log; {_STARTED_SINCE}"
        elif pending.get("failed"):
            what = (
                "is not in the pump's log; the pump failed while it carried it out, and does not "
                "deliver: read its prescription and account (cisterna status) before anything else"
            )
        else:
            what = "was not carried out"
        self.settled = f"{name}, whose answer did not come, {what}"
        self._keep_pending(None)
        return True

    def settle_first(self) -> None:
        """Raise EarlierSettled when ``settle`` had a command to settle: its answer may be why the
        next is given. Raises what ``settle`` raises, too."""
        if self.settle():
            raise EarlierSettled(self.settled)

    def _do(self, message: Message, request: Values) -> Done:
        return self.confirm(self.prepare(message, request))

    def stage(self, parts: Mapping[int, bytes]) -> None:
        """Have the pump hold these parts, and no others, for the next prescription or fill."""
        self.session.request(messages.WRITE_PART, {"part": 255, "octets": b""})
        for number, octets in parts.items():
            reply = self.session.request(messages.WRITE_PART, {"part": number, "octets": octets})
            so_far = {other: parts[other] for other in parts if other <= number}
            if reply["crc"] != parts_crc(so_far):
                raise CisternaError(f"part {number} did not arrive as it was sent")

    def prepare_program(
        self,
        therapy: Therapy,
        *,
        total_nl: int = 0,
        agreed: int = 0,
        bridge: int = messages.NO_BRIDGE,
        why: str = "",
    ) -> Prepared:
        """Prepare to commit ``therapy``; the echo's ``asks`` are what is still to be agreed to.

        ``total_nl``: the new 24-h total as it was typed, 0 not typed; ``agreed``: bits of
        ASK_SOFT_DAY ... ; ``bridge``: BRIDGE, or BRIDGE_REFUSED with ``why``.
        """
        self.settle_first()
        if therapy.parts:
            self.stage(therapy.parts)
        answers = {"total_nl": total_nl, "agreed": agreed, "bridge": bridge, "why": why}
        return self.prepare(messages.SET_PRESCRIPTION, {**therapy.values(), **answers})

    def program(
        self,
        therapy: Therapy,
        *,
        confirm_total: str | None = None,
        accept_warnings: bool = False,
        bridge: bool = False,
        no_bridge: str = "",
    ) -> Done:
        """Commit ``therapy``, read it back and compare. Raises ReadBackDiffers, or NotReadBack
        where it was committed and the link went silent behind that.

        ``confirm_total``: the new 24-h total, "100 ug/day"; a program that calls this without it
        has said the total by the therapy itself. ``accept_warnings``: soft limits that are crossed
        or raised, and concentrations that are not the reservoir's. ``bridge``: a changed
        concentration begins with a bridge bolus; ``no_bridge``: why it does not. Raises Refused
        ("not_agreed") for what was not answered.
        """
        if confirm_total is not None:
            guard(self.prescription(), therapy).check(confirm_total)
        answer = messages.BRIDGE if bridge else messages.BRIDGE_REFUSED
        prepared = self.prepare_program(
            therapy,
            total_nl=therapy.total_nl,
            agreed=SOFT_ASKS if accept_warnings else 0,
            bridge=answer if bridge or no_bridge else messages.NO_BRIDGE,
            why=no_bridge,
        )
        done = self.confirm(prepared)
        try:
            self.verify(therapy)
        except ReadBackDiffers:
            raise
        except CisternaError as error:
            raise NotReadBack(done, error) from error
        return done

    def verify(self, therapy: Therapy) -> None:
        """Raise ReadBackDiffers unless the pump's prescription is ``therapy``."""
        stored = self.prescription()
        if stored != therapy:
            raise ReadBackDiffers(f"read-back differs: sent {therapy}, the pump has {stored}")

    def dose_volume_nl(self, dose: str) -> int:
        """Volume of a dose such as "10 ug" or "20 uL" at the pump's concentration, in nL.

        A mass becomes the nearest whole nL. Raises UsageError for text that is no dose,
        CisternaError for a mass when the pump has no prescription.
        """
        kind, amount = units.parse_dose(dose)
        if kind == "volume":
            return amount
        therapy = self.prescription()
        if therapy is None:
            raise CisternaError(
                f"{dose}: the pump has no prescription, so there is no concentration to turn "
                "it into a volume",
                remedy="program a prescription, or give the dose as a volume such as 20 uL",
            )
        return volume_of_mass_nl(amount, therapy.concentration_ng_ml)

    def prepare_bolus(self, dose: str | int, over: str | int, *, agreed: int = 0) -> Prepared:
        """Prepare a single bolus. ``dose``: nL, or text with a unit; ``over``: us, or text.

        The echo's ``asks`` are what is still to be agreed to, ASK_SOFT_BOLUS; ``agreed``: its
        bits.
        """
        volume_nl = self.dose_volume_nl(dose) if isinstance(dose, str) else dose
        duration_us = units.parse_duration(over) if isinstance(over, str) else over
        request = {"volume_nl": volume_nl, "duration_us": duration_us, "agreed": agreed}
        return self.prepare(messages.START_BOLUS, request)

    def bolus(self, dose: str | int, over: str | int, *, accept_warnings: bool = False) -> Done:
        """Start a single bolus; see ``prepare_bolus``. ``accept_warnings``: above the soft limit,
        too. Raises Refused ("not_agreed") without it."""
        agreed = SOFT_ASKS if accept_warnings else 0
        return self.confirm(self.prepare_bolus(dose, over, agreed=agreed))

    def prepare_prime(self, volume: str | int, over: str | int) -> Prepared:
        """Prepare a priming bolus. ``volume``: nL, or text; ``over``: us, or text."""
        duration_us = units.parse_duration(over) if isinstance(over, str) else over
        request = {"volume_nl": _volume_nl(volume), "duration_us": duration_us}
        return self.prepare(messages.START_PRIME, request)

    def prime(self, volume: str | int, over: str | int) -> Done:
        """Fill tubing and catheter; see ``prepare_prime``."""
        return self.confirm(self.prepare_prime(volume, over))

    def request_bolus(self) -> Done:
        """The patient's bolus, as the prescription permits it. Raises Refused with the reason:
        lockout, patient_max, volume_limit, not_permitted ..."""
        return self._do(messages.REQUEST_BOLUS, {})

    def resume_bridge(self) -> Done:
        """Go on with a cancelled bridge bolus; ``cancel_bolus`` cancels it."""
        return self._do(messages.RESUME_BRIDGE, {})

    def cancel_bolus(self) -> Done:
        """End the running bolus."""
        return self._do(messages.CANCEL_BOLUS, {})

    def stop(self) -> Done:
        """Stop delivery until ``resume``, also across a restart of the pump."""
        return self._do(messages.STOP, {})

    def resume(self) -> Done:
        """Leave stopped and run the prescription."""
        return self._do(messages.RESUME, {})

    def prepare_refill(
        self,
        measured: str | int,
        fill: str | int,
        reason: str = "scheduled",
        *,
        rest: str | int = 0,
        drugs: Mixture | None = None,
    ) -> Prepared:
        """Prepare to record a refill. Volumes: nL, or text with a unit; ``measured``: what was
        aspirated; ``rest``: what was left in, which counts as measured, too, and mixes with the
        fill; ``drugs``: what the fill is, None: what was in it before."""
        self.settle_first()
        request: Values = {
            "measured_nl": _volume_nl(measured),
            "fill_nl": _volume_nl(fill),
            "rest_nl": _volume_nl(rest),
            "reason": reason,
        }
        if drugs is not None:
            parts = {
                number: drug_octets(drug)
                for number, drug in enumerate(drugs.drugs, messages.FILL_PARTS)
            }
            self.stage(parts)
            request["fill_crc"] = parts_crc(parts)
        return self.prepare(messages.RECORD_REFILL, request)

    def refill(
        self,
        measured: str | int,
        fill: str | int,
        reason: str = "scheduled",
        *,
        rest: str | int = 0,
        drugs: Mixture | None = None,
    ) -> Done:
        """Record a refill; ``Done.echo`` tells expected residual, discrepancy, ratio, flag and
        what is in the reservoir then."""
        return self.confirm(self.prepare_refill(measured, fill, reason, rest=rest, drugs=drugs))

    def set_clock(self, wall_s: int | None = None, utc_offset_min: int | None = None) -> Done:
        """Set the pump's wall time, seconds since 1970-01-01 UTC, and its time zone, minutes that
        local time is ahead of UTC; this computer's by default."""
        now = int(time.time()) if wall_s is None else wall_s
        offset = local_offset_min() if utc_offset_min is None else utc_offset_min
        return self._do(messages.SET_CLOCK, {"wall_s": now, "utc_offset_min": offset})


def local_offset_min() -> int:
    """Minutes that this computer's local time is ahead of UTC."""
    return round((time.localtime().tm_gmtoff or 0) / 60)


def completed(message: Message, request: Values) -> Values:
    """``request`` with the fields it leaves out at what means "not used"."""
    values = dict(request)
    for name, kind, low, _, _ in message.request:
        if name not in values:
            if low is not None:
                values[name] = max(low, 0)
            else:
                values[name] = "" if kind[0] == "s" else bytes(int(kind[1:].strip("*") or 0))
    return values


_ASK_AGAIN = "do not repeat it: run cisterna status, which asks the pump what became of it"


def _unknown(name: str, error: CisternaError) -> OutcomeUnknown:
    """``error``: why the pump could not be asked."""
    return OutcomeUnknown(
        f"{name}: the pump was told, and its answer did not come: {error}",
        remedy=f"{_ASK_AGAIN}; first: {error.remedy}" if error.remedy else _ASK_AGAIN,
    )


def _not_kept(name: str, error: BadKeyStore | OSError) -> BadKeyStore:
    """``error``: why a command could not be kept before it was sent."""
    return BadKeyStore(
        f"{name}: {error}: nothing was done, as a command is kept before it is sent",
        remedy=getattr(error, "remedy", None) or "see to that folder, then repeat the command",
    )


def _cannot_tell(name: str) -> LogCannotTell:
    return LogCannotTell(
        f"{name}: the pump was told, its answer did not come, and the records that would tell "
        "what became of it are damaged or no longer in the pump's log",
        remedy="do not repeat it: compare the pump's prescription and account with what it was "
        "told, both of which cisterna status --settle shows, and which settles it by hand",
    )


def _volume_nl(volume: str | int) -> int:
    return units.parse_volume(volume) if isinstance(volume, str) else volume


def connect(link: Link, role: str = "clinician", keys: KeyStore | None = None) -> Programmer:
    """Programmer on ``link`` with a session in ``role``; closes the link if nothing there will
    talk to it. Raises NoReply, and what ``Programmer.authenticate`` raises."""
    try:
        pump = Programmer(link, role, keys=keys)
        pump.authenticate()
        return pump
    except BaseException:
        link.close()
        raise


def as_json(values: Mapping[str, Any]) -> Values:
    """Values as JSON can hold them; octets in hex."""
    return {k: v.hex() if isinstance(v, bytes) else v for k, v in values.items()}


def as_data(row: Any) -> Values:
    """A row (Status, Account ...) as a dict of JSON values; octets in hex."""
    return as_json(dataclasses.asdict(row))


__all__ = [
    "NEVER",
    "SOFT_ASKS",
    "Account",
    "Alarm",
    "Alarms",
    "Done",
    "EarlierSettled",
    "Event",
    "FaultRecord",
    "GarbledHello",
    "Identity",
    "LogCannotTell",
    "NoReply",
    "Outlook",
    "Prepared",
    "Programmer",
    "Status",
    "WrongVersion",
    "as_data",
    "as_json",
    "connect",
    "parse_events",
    "parse_faults",
]
