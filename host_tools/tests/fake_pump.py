"""What may be on a port in place of a pump: a pseudo-terminal served by a thread."""

from __future__ import annotations

import os
import select
import threading
import tty
from collections.abc import Callable

from pump_wire.frame import MAX_STUFFED, FrameReader, write_frame
from pump_wire.session import HEADER, REPLY, REQUEST, OpenSession

BODY_ROOM = 256


class Something:
    """A port at ``path`` whose other end answers what it hears with ``react(octets)``."""

    def __init__(self, react: Callable[[bytes], bytes]) -> None:
        self._react = react
        self._ours, theirs = os.openpty()
        tty.setraw(theirs)
        self.path = os.ttyname(theirs)
        self._theirs = theirs
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Something:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        os.close(self._ours)
        os.close(self._theirs)

    def _serve(self) -> None:
        while not self._over.is_set():
            if select.select([self._ours], [], [], 0.02)[0]:
                answer = self._react(os.read(self._ours, 4096))
                if answer:
                    os.write(self._ours, answer)


class FakePump(Something):
    """Answers each message number in ``answers`` with the octets of a reply's body, or with what a
    function makes of the request's body; to others it is silent. ``heard``: the numbers it got."""

    def __init__(self, answers: dict[int, bytes | Callable[[bytes], bytes | None]]) -> None:
        self._answers = answers
        self._reader = FrameReader()
        self.heard: list[int] = []
        super().__init__(self._answer)

    def _answer(self, octets: bytes) -> bytes:
        said = b""
        for octet in octets:
            if self._reader.feed(octet):
                said += self._reply(bytes(self._reader.packet[: self._reader.length]))
        return said

    def _reply(self, packet: bytes) -> bytes:
        layer = OpenSession()
        opened = layer.unwrap(memoryview(packet))
        if opened is None or opened[0] != REQUEST:
            return b""
        _, sequence, number, body = opened
        self.heard.append(number)
        answer = self._answers.get(number)
        if callable(answer):
            answer = answer(bytes(body))
        if answer is None:
            return b""
        out = bytearray(HEADER + BODY_ROOM)
        out[HEADER : HEADER + len(answer)] = answer
        length = layer.wrap(out, REPLY, sequence, number, HEADER + len(answer))
        frame = bytearray(MAX_STUFFED)
        return bytes(frame[: write_frame(frame, out, length)])
