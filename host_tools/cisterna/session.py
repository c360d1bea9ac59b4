"""Requests and replies over a link: frames, a session that both ends have proved, retries.

A request that gets no reply is sent again with the same octets; the pump answers a repeated
request without carrying it out again. A session is opened by itself with the first message that
needs one, and again when the pump has forgotten it; a ``confirm`` is never sent in another session
than its ``prepare``.
"""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Callable
from typing import Any, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cisterna import frame_trace
from cisterna.amounts import field_label, format_field
from cisterna.errors import CisternaError, NoPump, Refused, UsageError
from cisterna.keys import ROLE_NAMES, ROLES, BadKeyStore, KeyStore, who_asks
from cisterna.transport import Link
from pump_wire import messages
from pump_wire.codec import MAX_BODY, FieldError, decode, encode
from pump_wire.frame import MAX_PACKET, MAX_STUFFED, FrameReader, write_frame
from pump_wire.messages import ERROR, REFUSALS, WIRE_VERSION, Message
from pump_wire.session import (
    BODY,
    FROM_PUMP,
    HEADER,
    KEY,
    REFUSAL,
    REPLY,
    REQUEST,
    SEALED,
    SEALED_REPLY,
    SEALED_REQUEST,
    TAG,
    TO_PUMP,
    nonce,
    pairing_info,
    sealed_header,
    session_info,
    unwrap,
    wrap,
    wrap_sealed,
)

Values: TypeAlias = dict[str, Any]

REPLY_S = 1.0
TRIES = 4
PAIR_S = 20.0  # the key agreement takes a Pico seconds
_GOODBYE_S = 0.25  # a pump that does not say goodbye in this time gives the session up later
_BACKED_OFF_S = 5.0  # how long to wait for a pump that has backed off or is busy
_MOST_REFUSED = 50  # tries at a session in that time
_LEAST_WAIT_S = 0.1
_LONGEST_BACK_OFF_S = 0.8  # what a pump asks for at most: see PROTOCOL.md
_LONGEST_BUSY_S = 30.0
_HANDSHAKES = 3  # tries at a session when the pump does not know the one it just opened

_PAIR = "hold its service button and run cisterna pair"
# What comes before a session is proved may be forged, so that somebody pairs on a tapped line.
_PAIR_ANEW = (
    "nothing proves this answer, and whoever is on the line while you pair can take the new key: "
    "unless you know who revoked the key or paired the pump anew, look first at what else is on "
    f"the line; then pair again: {_PAIR}"
)

# Told of every packet: sent by us, its octets, and what was sealed in it (None in an open one).
FrameWatch = Callable[[bool, bytes, bytes | None], None]


class NoReply(NoPump):
    """The port is open and nothing that answers is on it."""


class NotPaired(CisternaError):
    """This programmer has no key for the pump, or the pump none for the role."""


class WrongKey(CisternaError):
    """Whoever answers does not prove the key that this programmer has for the pump."""


class PumpBusy(CisternaError):
    """Another programmer has a session with the pump."""


class SessionLost(CisternaError):
    """The session in which a request was sent is over. Whether it was carried out is not told."""


class BadReply(CisternaError):
    """A reply came whole and is not what the message table says. ``body``: its octets."""

    def __init__(self, message: Message, body: bytes, problem: object) -> None:
        super().__init__(
            f"the pump's answer to {message.name} does not fit the message table: {problem}",
            remedy="install the cisterna that matches the pump, or flash this one's firmware",
        )
        self.body = body


class _Sealed:
    """A session's key, id and counter. Counts up with every request; never used twice."""

    def __init__(self, okm: bytes, pumps_nonce: bytes) -> None:
        self._ccm = AESCCM(okm[:KEY], tag_length=TAG)
        self.id = pumps_nonce[:8]
        self.number = self.id[0] | self.id[1] << 8
        self.counter = 0

    def seal(self, message: Message, body: bytes) -> bytes:
        """The next request's packet."""
        self.counter += 1
        head = bytearray(BODY)
        wrap_sealed(head, SEALED_REQUEST, self.id, self.counter, REQUEST, message.number)
        used = nonce(self.id, TO_PUMP, self.counter)
        front = bytes(head[:SEALED])
        return front + self._ccm.encrypt(used, bytes(head[SEALED:]) + body, front)

    def open(self, packet: bytes, counter: int) -> bytes | None:
        """What is sealed in the pump's packet of that counter; None if it is not authentic."""
        with contextlib.suppress(InvalidTag):
            used = nonce(self.id, FROM_PUMP, counter)
            return self._ccm.decrypt(used, packet[SEALED:], packet[:SEALED])
        return None

    def proves(self, proof: bytes) -> bool:
        """True if the pump that sent ``proof`` knows this session's key."""
        with contextlib.suppress(InvalidTag):
            return self._ccm.decrypt(nonce(self.id, FROM_PUMP, 0), proof, None) == b""
        return False


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(secret)


class Session:
    """One conversation with the pump at the end of ``link``, in ``role``.

    ``keys``: where the role's key is. ``pump_id``: the pump's, as hello has it; set before the
    first message that needs a session. ``reply_s``: how long a reply may take. ``who``: the name
    that others see while this programmer has the pump. ``waits_for_patients`` False: a patient's
    session is taken over, under its own name, as what ends delivery may not wait for one.
    """

    def __init__(
        self,
        link: Link,
        reply_s: float = REPLY_S,
        *,
        role: str = "clinician",
        keys: KeyStore | None = None,
        who: str | None = None,
    ) -> None:
        self.link = link
        self.role = role
        self.keys = keys if keys is not None else KeyStore.of_user()
        self.who = who if who is not None else who_asks()
        self.waits_for_patients = True
        self.pump_id = b""
        self.on_frame: FrameWatch = lambda _sent, _packet, _inner: None
        self._reply_s = reply_s
        self._trace = frame_trace.active()
        self._reader = FrameReader()
        self._sequence = secrets.randbelow(1 << 16)
        self._sealed: _Sealed | None = None
        self.noise = False  # octets came, but no frame
        self.echo = False  # a request came back

    @property
    def is_open(self) -> bool:
        """A session is open, as far as this end knows."""
        return self._sealed is not None

    def request(self, message: Message, values: Values, tries: int = TRIES) -> Values:
        """Send ``message`` and return its reply.

        Raises UsageError when a value does not fit the message, Refused when the pump refuses,
        BadReply when the reply does not decode, NoReply when nothing answered ``tries`` times;
        and what ``open`` raises.
        """
        body = bytearray(MAX_BODY)
        octets = bytes(body[: encode_request(message, values, body)])
        if message.roles & messages.ANYONE:
            return self._request_open(message, octets, tries)
        for _ in range(_HANDSHAKES):
            fresh = self._sealed is None
            if fresh:
                self.open(tries)
            try:
                return self._request_sealed(message, octets, tries)
            except SessionLost:
                if message is messages.CONFIRM and not fresh:
                    raise
        raise NoReply(
            f"the pump on {self.link.name} ends every session at once",
            remedy="something else may be talking to it; unplug what else is on the line",
        )

    # -- a session ------------------------------------------------------------------------------

    def open(self, tries: int = TRIES) -> None:
        """Open a session; the pump proves that it has the role's key.

        Raises NotPaired, WrongKey, PumpBusy, Refused (backed off), NoReply.
        """
        self._sealed = None
        held = self.keys.get(self.pump_id, self.role)
        if held is None:
            raise self._no_key()
        until = self.link.now_s() + _BACKED_OFF_S
        for count in range(1, _MOST_REFUSED + 1):
            try:
                self._sealed = self._handshake(held.key, tries)
                return
            except Refused as refusal:
                if refusal.name == "not_paired":
                    raise NotPaired(
                        f"pump {self.pump_id.hex()} says that it has given out no {self.role}'s "
                        "key since it was revoked or lost",
                        remedy=_PAIR_ANEW,
                    ) from refusal
                if refusal.name not in ("busy", "backed_off"):
                    raise
                patients = refusal.name == "busy" and refusal.value == messages.PATIENT
                if patients and not self.waits_for_patients and self.who != refusal.field:
                    self.who = refusal.field
                    continue
                wait_s = _wait_s(refusal)
                late = self.link.now_s() + wait_s > until or count == _MOST_REFUSED
                if late and refusal.name == "busy":
                    raise self._busy(refusal) from refusal
                if late:
                    raise _barred(refusal) from refusal
            self._wait(wait_s)

    def _no_key(self) -> NotPaired:
        """That the role's key is not here. Which pump answers is what it says, and not proved."""
        others: set[bytes] = set()
        with contextlib.suppress(BadKeyStore):
            others = {each.pump for each in self.keys.all()}
        text = f"there is no {self.role}'s key for pump {self.pump_id.hex()} here"
        if not others or self.pump_id in others:
            return NotPaired(text, remedy=f"pair it: {_PAIR}")
        count = f"{len(others)} other pump{'s' * (len(others) > 1)}"
        return NotPaired(
            f"{text}, but there are keys of {count} (cisterna pair --list)",
            remedy="if this was to be a pump of those, somebody on the line may forge its "
            f"answers: look at what else is there; if it is a new one, pair it: {_PAIR}",
        )

    def _wait(self, seconds: float) -> None:
        """Let that much of the link's time pass; what comes meanwhile answers nothing."""
        until = self.link.now_s() + seconds
        while (left := until - self.link.now_s()) > 0:
            self.link.read(left)

    def _busy(self, refusal: Refused) -> PumpBusy:
        other = f"{refusal.field} as {ROLE_NAMES.get(refusal.value, 'somebody')}"
        return PumpBusy(
            f"the pump is busy with {other}; you are {self.who} as {self.role}",
            remedy="wait until they are done; after "
            f"{math.ceil(_wait_s(refusal))} s of their silence it is yours",
        )

    def _handshake(self, key: bytes, tries: int) -> _Sealed:
        ours = secrets.token_bytes(16)
        role = ROLES[self.role]
        asked = {"role": role, "who": self.who, "nonce": ours}
        reply = self.request(messages.OPEN_SESSION, asked, tries)
        info = session_info(
            WIRE_VERSION, messages.table_hash(), self.pump_id, role, self.who.encode()
        )
        sealed = _Sealed(_hkdf(key, ours + reply["nonce"], info), reply["nonce"])
        if not sealed.proves(reply["proof"]):
            raise WrongKey(
                f"what answers as pump {self.pump_id.hex()} does not prove the {self.role}'s key "
                "that is here: the pump gave out another since, it is another pump, or somebody "
                "on the line changes or forges its answers",
                remedy=_PAIR_ANEW,
            )
        return sealed

    def close(self) -> None:
        """End the session, if one is open and the pump answers at once."""
        if self._sealed is not None:
            self._reply_s = _GOODBYE_S
            with contextlib.suppress(CisternaError):
                self._request_sealed(messages.CLOSE_SESSION, b"", 1)
        self._sealed = None

    def forget(self) -> None:
        """The next message that needs a session opens a new one."""
        self._sealed = None

    def pair(self) -> None:
        """Get the role's key from the pump, whose service button must be held, and keep it.

        Raises Refused, NoReply, WrongKey when what came was not sealed for us.
        """
        ours = X25519PrivateKey.generate()
        public = ours.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        role = ROLES[self.role]
        asked = {"role": role, "public": public}
        reply_s, self._reply_s = self._reply_s, PAIR_S
        try:
            reply = self.request(messages.PAIR, asked, 1)
        finally:
            self._reply_s = reply_s
        try:
            agreed = ours.exchange(X25519PublicKey.from_public_bytes(reply["public"]))
            info = pairing_info(WIRE_VERSION, messages.table_hash(), self.pump_id, role)
            carrier = _hkdf(agreed, public + reply["public"], info)
            ccm = AESCCM(carrier[:KEY], tag_length=TAG)
            used = nonce(bytes(8), FROM_PUMP, reply["generation"])
            key = ccm.decrypt(used, reply["sealed_key"], None)
        except (InvalidTag, ValueError) as error:
            raise WrongKey("the key that came was not sealed for this programmer") from error
        self.keys.put(self.pump_id, self.role, key, reply["generation"])

    # -- packets --------------------------------------------------------------------------------

    def _request_open(self, message: Message, body: bytes, tries: int) -> Values:
        self._sequence = (self._sequence + 1) & 0xFFFF
        out = bytearray(MAX_PACKET)
        end = HEADER + len(body)
        out[HEADER:end] = body
        packet = bytes(out[: wrap(out, REQUEST, self._sequence, message.number, end)])
        self.on_frame(True, packet, None)
        return self._exchange(message, body, packet, tries, self._take_open)

    def _request_sealed(self, message: Message, body: bytes, tries: int) -> Values:
        sealed = self._sealed
        assert sealed is not None
        packet = sealed.seal(message, body)
        self.on_frame(True, packet, bytes((REQUEST, message.number)) + body)
        try:
            return self._exchange(message, body, packet, tries, self._take_sealed)
        except (NoPump, SessionLost):
            self._sealed = None  # the pump may be one request behind
            raise

    def _exchange(
        self,
        message: Message,
        body: bytes,
        packet: bytes,
        tries: int,
        take: Callable[[Message, bytes], tuple[int, bytes] | None],
    ) -> Values:
        """Send ``packet`` until ``take`` finds its reply; returns that, or raises what it is."""
        octets = _frame_of(packet)
        for count in range(tries):
            self._tell_sent(message, body, octets, packet, count + 1)
            self.link.write(octets)
            taken = self._await_reply(message, take)
            if taken is not None:
                kind, answer = taken
                if kind == REPLY:
                    return decode_reply(message, answer)
                raise _refused(message, answer)
        raise NoReply(
            f"no pump answers on {self.link.name}",
            remedy=self._silence(),
        )

    def _silence(self) -> str:
        """What the silence may mean."""
        if self.echo:
            return "what is there sends back what it is sent: it is no pump"
        if self.noise:
            return "something else is talking there: is this the pump's port?"
        return "is the pump powered, and is this its port?"

    def _await_reply(
        self, message: Message, take: Callable[[Message, bytes], tuple[int, bytes] | None]
    ) -> tuple[int, bytes] | None:
        """The reply to the request just sent; None when it did not come in time."""
        until = self.link.now_s() + self._reply_s
        while (left := until - self.link.now_s()) > 0:
            octets = self.link.read(left)
            bad = self._reader.noise + self._reader.damaged + self._reader.oversize
            for octet in octets:
                if self._reader.feed(octet):
                    packet = bytes(self._reader.packet[: self._reader.length])
                    taken = take(message, packet)
                    if taken is not None:
                        return taken
            self.noise = self._reader.noise + self._reader.damaged > 0
            bad -= self._reader.noise + self._reader.damaged + self._reader.oversize
            if self._trace is not None and bad:
                self._trace.problem(self.link.name, "host", "damage or noise in", octets)
        return None

    def _take_open(self, message: Message, packet: bytes) -> tuple[int, bytes] | None:
        """(kind, body) of an open reply to the request just sent; None for anything else."""
        opened = unwrap(packet)
        self.echo = self.echo or packet[0] in (REQUEST, SEALED_REQUEST)
        if opened is None:
            self._tell_unopened(packet)
            return None
        kind, sequence, number, body = opened
        wanted = sequence == self._sequence and number == message.number and kind != REQUEST
        self._tell_received(packet, kind, sequence, number, bytes(body), late=not wanted)
        self.on_frame(False, packet, None)
        return (kind, bytes(body)) if wanted else None

    def _take_sealed(self, message: Message, packet: bytes) -> tuple[int, bytes] | None:
        """The same for a sealed one. Raises SessionLost when somebody says that the session is
        over: it is not proved, so nothing may follow from it but asking in a new one."""
        sealed = self._sealed
        assert sealed is not None
        self.echo = self.echo or packet[0] in (REQUEST, SEALED_REQUEST)
        opened = unwrap(packet)
        if opened is not None:
            kind, sequence, number, body = opened
            lost = (kind, sequence, number) == (REFUSAL, sealed.number, 0)
            self._tell_received(packet, kind, sequence, number, bytes(body), late=not lost)
            self.on_frame(False, packet, None)
            if lost:
                raise SessionLost("the pump no longer knows this session")
            return None
        inner = None
        if sealed_header(packet) == (SEALED_REPLY, sealed.number, sealed.counter):
            inner = sealed.open(packet, sealed.counter)
        if inner is None or inner[0] not in (REPLY, REFUSAL) or inner[1] != message.number:
            self._tell_unopened(packet)
            return None
        self._tell_received(packet, inner[0], sealed.counter, inner[1], inner[2:], late=False)
        self.on_frame(False, packet, inner)
        return inner[0], inner[2:]

    # -- the frame trace ------------------------------------------------------------------------

    def _tell_sent(
        self, message: Message, body: bytes, frame: bytes, packet: bytes, count: int
    ) -> None:
        """``sequence`` in the trace is an open packet's sequence, a sealed one's counter."""
        if self._trace is None:
            return
        is_sealed = packet[0] == SEALED_REQUEST and self._sealed is not None
        sequence = self._sealed.counter if is_sealed and self._sealed else self._sequence
        more: dict[str, Any] = {"try": count, "sealed": is_sealed}
        self._trace.packet(
            self.link.name, "pump", REQUEST, sequence, message.number, body, frame, **more
        )

    def _tell_received(
        self, packet: bytes, kind: int, sequence: int, number: int, body: bytes, *, late: bool
    ) -> None:
        if self._trace is None:
            return
        more: dict[str, Any] = {"note": "late"} if late else {}
        more["sealed"] = packet[0] == SEALED_REPLY
        self._trace.packet(
            self.link.name, "host", kind, sequence, number, body, _frame_of(packet), **more
        )

    def _tell_unopened(self, packet: bytes) -> None:
        if self._trace is not None:
            what = "a frame that does not open"
            self._trace.problem(self.link.name, "host", what, _frame_of(packet))


def _frame_of(packet: bytes) -> bytes:
    out = bytearray(MAX_STUFFED)
    return bytes(out[: write_frame(out, packet, len(packet))])


def _wait_s(refusal: Refused) -> float:
    """How long a pump that is busy, or has backed off, is to be left alone. Nothing proves who
    said so: no more than a pump may ask for."""
    asked_ms, most_s = refusal.value, _LONGEST_BACK_OFF_S
    if refusal.name == "busy":
        asked_ms, most_s = refusal.limit, _LONGEST_BUSY_S
    return min(max(asked_ms / 1000, _LEAST_WAIT_S), most_s)


def _barred(refusal: Refused) -> Refused:
    return Refused(
        refusal.name,
        "too many failed authentications, and it still listens to nobody",
        remedy="somebody tries keys that are not the pump's, or forges its answers: look at what "
        "else is on the line, then repeat",
    )


def encode_request(message: Message, values: Values, out: bytearray, at: int = 0) -> int:
    """Write ``message``'s request into ``out`` from ``at``; returns its end.

    Raises UsageError for a value that does not fit.
    """
    try:
        return encode(message.request, values, out, at)
    except FieldError as error:
        raise _misfit(message, error) from error


def decode_reply(message: Message, body: bytes | memoryview) -> Values:
    """The values of ``message``'s reply. Raises BadReply."""
    return _decoded(message, message.reply, body)


def _decoded(message: Message, fields: tuple[Any, ...], body: bytes | memoryview) -> Values:
    try:
        return decode(fields, body)
    except FieldError as error:
        raise BadReply(message, bytes(body), error) from error


def _misfit(message: Message, error: FieldError) -> UsageError:
    """A value that a request cannot carry, in the units that its field's name ends in."""
    field: str = error.field
    value: int = error.value
    limit: int | None = error.limit
    numbers: list[str] = [name for name, kind, *_ in message.request if kind[0] in "ui"]
    if field not in numbers or limit is None:
        return UsageError(str(error))
    beyond = "below the lowest" if value < limit else "above the highest"
    return UsageError(
        f"{field_label(field)} {format_field(field, value)} is {beyond} allowed, "
        f"{format_field(field, limit)}"
    )


def _refused(message: Message, body: bytes | memoryview) -> Refused:
    values = _decoded(message, ERROR, body)
    name, text = REFUSALS.get(values["code"], ("unknown", f"refusal {values['code']}"))
    return Refused(name, text, values["field"], values["value"], values["limit"])
