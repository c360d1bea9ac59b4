"""What may be on a port in place of a pump: a pseudo-terminal served by a thread."""

from __future__ import annotations

import os
import select
import threading
import tty
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from cisterna.keys import KeyStore
from pump_wire import messages
from pump_wire.codec import decode
from pump_wire.frame import MAX_STUFFED, FrameReader, write_frame
from pump_wire.session import (
    BODY,
    FROM_PUMP,
    HEADER,
    KEY,
    REPLY,
    REQUEST,
    SEALED,
    SEALED_REPLY,
    SEALED_REQUEST,
    TAG,
    TO_PUMP,
    hkdf,
    nonce,
    sealed_header,
    session_info,
    unwrap,
    wrap,
    wrap_sealed,
)

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
    function makes of the request's body; to others it is silent. ``heard``: the numbers it got.

    With a ``pump_id`` it has sessions under KEY_OF_ALL in any role, and is what ``paired_with``
    makes keys for; it then answers open_session by itself.
    """

    def __init__(
        self,
        answers: dict[int, bytes | Callable[[bytes], bytes | None]],
        pump_id: bytes = b"",
    ) -> None:
        self._answers = answers
        self._pump_id = pump_id
        self._okm = b""
        self._id = b""
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
        if packet[0] == SEALED_REQUEST and self._okm:
            return self._sealed_reply(packet)
        opened = unwrap(packet)
        if opened is None or opened[0] != REQUEST:
            return b""
        _, sequence, number, body = opened
        if number == messages.OPEN_SESSION.number and self._pump_id:
            answer: bytes | None = self._open_session(bytes(body))
        else:
            answer = self._made(number, bytes(body))
        if answer is None:
            return b""
        out = bytearray(HEADER + BODY_ROOM)
        out[HEADER : HEADER + len(answer)] = answer
        return _frame(bytes(out[: wrap(out, REPLY, sequence, number, HEADER + len(answer))]))

    def _made(self, number: int, body: bytes) -> bytes | None:
        self.heard.append(number)
        answer = self._answers.get(number)
        return answer(body) if callable(answer) else answer

    def _open_session(self, body: bytes) -> bytes:
        asked = decode(messages.OPEN_SESSION.request, body)
        ours = os.urandom(16)
        info = session_info(
            messages.WIRE_VERSION,
            messages.table_hash(),
            self._pump_id,
            asked["role"],
            asked["who"].encode(),
        )
        self._okm = hkdf(KEY_OF_ALL, asked["nonce"] + ours, info)
        self._id = ours[:8]
        return ours + self._ccm().encrypt(nonce(self._id, FROM_PUMP, 0), b"", None)

    def _ccm(self) -> AESCCM:
        return AESCCM(self._okm[:KEY], tag_length=TAG)

    def _sealed_reply(self, packet: bytes) -> bytes:
        header = sealed_header(packet)
        assert header is not None
        counter = header[2]
        session = self._id
        front = packet[:SEALED]
        inner = self._ccm().decrypt(nonce(session, TO_PUMP, counter), packet[SEALED:], front)
        answer = self._made(inner[1], inner[2:])
        if answer is None:
            return b""
        head = bytearray(BODY)
        wrap_sealed(head, SEALED_REPLY, session, counter, REPLY, inner[1])
        front = bytes(head[:SEALED])
        text = bytes(head[SEALED:]) + answer
        return _frame(front + self._ccm().encrypt(nonce(session, FROM_PUMP, counter), text, front))


KEY_OF_ALL = b"fake pump's key."


def paired_with(pump_id: bytes, keys: KeyStore) -> None:
    """``keys`` has the key of the fake pump of this id, in every role."""
    for role in ("clinician", "patient", "service"):
        keys.put(pump_id, role, KEY_OF_ALL, 1)


def _frame(packet: bytes) -> bytes:
    frame = bytearray(MAX_STUFFED)
    return bytes(frame[: write_frame(frame, packet, len(packet))])
