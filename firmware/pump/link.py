"""The telemetry link: octets from the port to frames, packets and commands, and replies back.

One request is answered before the next octet is looked at, so the work per frame is bounded by one
command. A request that comes again (same octets) gets the reply it got, and is not carried out
again. Telemetry never touches delivery except through ``Commands``.
"""

import asyncio

from pump.commands import refusal_values
from pump.prescription import Refusal
from pump_wire.codec import encode
from pump_wire.frame import MAX_PACKET, MAX_STUFFED, FrameReader, write_frame
from pump_wire.messages import ERROR, HELLO
from pump_wire.session import HEADER, REFUSAL, REPLY, REQUEST

_SILENCE_US = 400_000  # a frame that pauses this long is dropped (INP-2: within 500 ms)
_LOOK_MS = 20
_CHUNK = 64


class Link:
    """Serves ``port`` until cancelled. ``frames``: the FrameReader, for its counters."""

    def __init__(self, port, session, commands, clock):
        self._port = port
        self._session = session
        self._commands = commands
        self._clock = clock
        self.frames = FrameReader()
        self._chunk = bytearray(_CHUNK)
        self._packet = bytearray(MAX_PACKET)
        self._frame = bytearray(MAX_STUFFED)
        self._frame_view = memoryview(self._frame)
        self._frame_size = 0
        self._last_request = b""  # packet that ``_frame`` answers

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
                for at in range(count):
                    if frames.feed(chunk[at]):
                        self._serve()
                await asyncio.sleep_ms(0)  # whoever floods the link does not starve motion
            elif frames.partial:
                if self._clock.now_us() - heard_us >= _SILENCE_US:
                    frames.drop_partial()
                else:
                    await asyncio.sleep_ms(_LOOK_MS)
            else:
                await port.wait_readable()

    def _serve(self):
        packet = self.frames.packet[: self.frames.length]
        opened = self._session.unwrap(packet)
        if opened is None or opened[0] != REQUEST:
            return
        if packet != self._last_request or opened[2] == HELLO.number:
            self._answer(opened)
            self._last_request = bytes(packet)
        self._port.write(self._frame_view[: self._frame_size])

    def _answer(self, opened):
        _, sequence, number, body = opened
        if number == HELLO.number:
            self._commands.forget_prepared()
        packet = self._packet
        kind = REPLY
        try:
            end = self._commands.answer(number, body, packet, HEADER)
        except Refusal as refusal:
            kind = REFUSAL
            end = encode(ERROR, refusal_values(refusal), packet, HEADER)
        length = self._session.wrap(packet, kind, sequence, number, end)
        self._frame_size = write_frame(self._frame, packet, length)
