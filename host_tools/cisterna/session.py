"""Requests and replies over a link: frames, sequence numbers, retries.

A request that gets no reply is sent again with the same octets; the pump answers a repeated
request without carrying it out again.
"""

from __future__ import annotations

import secrets
from typing import Any, TypeAlias

from cisterna import frame_trace
from cisterna.amounts import field_label, format_field
from cisterna.errors import CisternaError, NoPump, Refused, UsageError
from cisterna.transport import Link
from pump_wire.codec import MAX_BODY, FieldError, decode, encode
from pump_wire.frame import MAX_STUFFED, FrameReader, write_frame
from pump_wire.messages import ERROR, REFUSALS, Message
from pump_wire.session import HEADER, REPLY, REQUEST, OpenSession

Values: TypeAlias = dict[str, Any]

REPLY_S = 1.0
TRIES = 4


class NoReply(NoPump):
    """The port is open and nothing that answers is on it."""


class BadReply(CisternaError):
    """A reply came whole and is not what the message table says. ``body``: its octets."""

    def __init__(self, message: Message, body: bytes, problem: object) -> None:
        super().__init__(
            f"the pump's answer to {message.name} does not fit the message table: {problem}",
            remedy="install the cisterna that matches the pump, or flash this one's firmware",
        )
        self.body = body


class Session:
    """One conversation with the pump at the end of ``link``.

    ``reply_s``: how long a reply may take.
    """

    def __init__(self, link: Link, reply_s: float = REPLY_S) -> None:
        self.link = link
        self._reply_s = reply_s
        self._layer = OpenSession()
        self._trace = frame_trace.active()
        self._reader = FrameReader()
        self._sequence = secrets.randbelow(1 << 16)
        self._packet = bytearray(HEADER + MAX_BODY)
        self._frame = bytearray(MAX_STUFFED)
        self.noise = False  # octets came, but no frame
        self.echo = False  # a request came back

    def request(self, message: Message, values: Values, tries: int = TRIES) -> Values:
        """Send ``message`` and return its reply.

        Raises UsageError when a value does not fit the message, Refused when the pump refuses,
        BadReply when the reply does not decode, NoReply when nothing answered ``tries`` times.
        """
        end = encode_request(message, values, self._packet, HEADER)
        self._sequence = (self._sequence + 1) & 0xFFFF
        length = self._layer.wrap(self._packet, REQUEST, self._sequence, message.number, end)
        size = write_frame(self._frame, self._packet, length)
        octets = bytes(self._frame[:size])
        body = bytes(self._packet[HEADER:end])
        for count in range(tries):
            self._tell_sent(message, body, octets, count + 1)
            self.link.write(octets)
            reply = self._await_reply(message)
            if reply is not None:
                return reply
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

    def _await_reply(self, message: Message) -> Values | None:
        """The reply to the request just sent; None when it did not come in time."""
        until = self.link.now_s() + self._reply_s
        while (left := until - self.link.now_s()) > 0:
            octets = self.link.read(left)
            bad = self._reader.noise + self._reader.damaged + self._reader.oversize
            for octet in octets:
                if not self._reader.feed(octet):
                    continue
                packet = memoryview(self._reader.packet)[: self._reader.length]
                opened = self._layer.unwrap(packet)
                self._tell_received(opened, bytes(packet))
                if opened is None:
                    continue
                kind, sequence, number, body = opened
                self.echo = self.echo or kind == REQUEST
                if sequence != self._sequence or number != message.number or kind == REQUEST:
                    continue  # a late reply to an earlier request
                if kind == REPLY:
                    return decode_reply(message, body)
                raise _refused(message, body)
            self.noise = self._reader.noise + self._reader.damaged > 0
            bad -= self._reader.noise + self._reader.damaged + self._reader.oversize
            if self._trace is not None and bad:
                self._trace.problem(self.link.name, "host", "damage or noise in", octets)
        return None

    # -- the frame trace ----------------------------------------------------------------------

    def _tell_sent(self, message: Message, body: bytes, frame: bytes, count: int) -> None:
        if self._trace is not None:
            self._trace.packet(
                self.link.name,
                "pump",
                REQUEST,
                self._sequence,
                message.number,
                body,
                frame,
                **{"try": count},
            )

    def _tell_received(self, opened: Any, packet: bytes) -> None:
        if self._trace is None:
            return
        out = bytearray(MAX_STUFFED)
        frame = bytes(out[: write_frame(out, packet, len(packet))])
        if opened is None:
            self._trace.problem(self.link.name, "host", "a frame that does not open", frame)
        else:
            kind, sequence, number, body = opened
            late = {} if sequence == self._sequence else {"note": "late"}
            self._trace.packet(self.link.name, "host", kind, sequence, number, body, frame, **late)


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
