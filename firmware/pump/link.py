"""The telemetry link: octets from the port to frames, packets and commands, and replies back.

One request is answered before the next octet is looked at, so the work per frame is bounded by one
command. A sealed request is taken when its counter is the next and its tag is right. The last one,
come again in the same octets, gets the reply it got, and is not carried out again. Telemetry never
touches delivery except through ``Commands``.
"""

import asyncio

from pump.commands import refusal_values
from pump.prescription import Refusal
from pump_wire.codec import encode
from pump_wire.frame import MAX_PACKET, MAX_STUFFED, FrameReader, write_frame
from pump_wire.messages import ANYONE, ERROR, PAIR
from pump_wire.session import (
    BODY,
    FROM_PUMP,
    HEADER,
    LAST_COUNTER,
    REFUSAL,
    REPLY,
    REQUEST,
    SEALED,
    SEALED_REPLY,
    SEALED_REQUEST,
    TAG,
    TO_PUMP,
    nonce,
    sealed_header,
    unwrap,
    wrap,
    wrap_sealed,
)

_SILENCE_US = 400_000  # a frame that pauses this long is dropped (INP-2: within 500 ms)
_LOOK_MS = 20
_CHUNK = 64
_OPEN_SIZE = 128  # octets of the longest open reply, and some


class Link:
    """Serves ``port`` until cancelled. ``frames``: the FrameReader, for its counters."""

    def __init__(self, port, sessions, commands, clock):
        self._port = port
        self._sessions = sessions
        self._commands = commands
        self._clock = clock
        self.frames = FrameReader()
        self._chunk = bytearray(_CHUNK)
        self._open = bytearray(_OPEN_SIZE)
        self._reply = bytearray(MAX_PACKET)
        self._room = memoryview(self._reply)[: MAX_PACKET - TAG]
        self._reply_size = 0
        self._request = b""  # sealed packet that ``_reply`` answers
        self._frame = bytearray(MAX_STUFFED)
        self._frame_view = memoryview(self._frame)

    async def run(self):
        """Read, answer, repeat."""
        port = self._port
        frames = self.frames
        chunk = self._chunk
        heard_us = 0
        while True:
            count = port.read_into(chunk)
            if count:
                heard_us = self._clock.now_us()
                at = 0
                while at < count:
                    at = frames.take(chunk, at, count)
                    if at < 0:
                        at = -at - 1
                        await self._serve(frames.packet[: frames.length])
                await asyncio.sleep_ms(0)  # whoever floods the link does not starve motion
            elif frames.partial:
                if self._clock.now_us() - heard_us >= _SILENCE_US:
                    frames.drop_partial()
                else:
                    await asyncio.sleep_ms(_LOOK_MS)
            else:
                await port.wait_readable()

    async def _serve(self, packet):
        if packet[0] == SEALED_REQUEST:
            self._serve_sealed(packet)
            return
        opened = unwrap(packet)
        if opened is None or opened[0] != REQUEST:
            return
        _, sequence, number, body = opened
        out = self._open
        kind = REPLY
        try:
            if number == PAIR.number:
                values = self._commands.decoded(PAIR, body)
                end = encode(PAIR.reply, await self._sessions.pair(values), out, HEADER)
            else:
                end = self._commands.answer(ANYONE, number, body, out, HEADER)
        except Refusal as refusal:
            kind = REFUSAL
            end = encode(ERROR, refusal_values(refusal), out, HEADER)
        self._send(out, wrap(out, kind, sequence, number, end))

    def _serve_sealed(self, packet):
        header = sealed_header(packet)
        if header is None:
            return
        sessions = self._sessions
        session = sessions.find(header[1])
        if session is None:
            out = self._open
            end = encode(ERROR, refusal_values(Refusal("no_session")), out, HEADER)
            self._send(out, wrap(out, REFUSAL, header[1], 0, end))
            return
        if session is sessions.active and packet == self._request:
            self._send(self._reply, self._reply_size)
            return
        counter = header[2]
        if counter != session.counter + 1:
            return
        request = bytes(packet)
        end = len(packet) - TAG
        if not session.ccm.open(nonce(session.id, TO_PUMP, counter), packet, SEALED, end):
            sessions.failed(session)
            return
        sessions.heard(session)
        self._request = request
        self._reply_size = 0  # until it is sealed: what fails half-way must not go out
        if packet[SEALED] == REQUEST:
            self._answer(session, counter, packet[SEALED + 1], packet[BODY:end])
        if session.closing or counter == LAST_COUNTER:
            sessions.end()

    def _answer(self, session, counter, number, body):
        out = self._reply
        kind = REPLY
        try:
            end = self._commands.answer(session.role, number, body, self._room, BODY)
        except Refusal as refusal:
            kind = REFUSAL
            end = encode(ERROR, refusal_values(refusal), out, BODY)
        wrap_sealed(out, SEALED_REPLY, session.id, counter, kind, number)
        used = nonce(session.id, FROM_PUMP, counter)
        self._reply_size = session.ccm.seal(used, out, SEALED, end)
        self._send(out, self._reply_size)

    def _send(self, packet, length):
        if length:
            size = write_frame(self._frame, packet, length)
            self._port.write(self._frame_view[:size])
