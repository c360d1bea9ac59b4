"""A programmer in this VM at the port of a whole pump, for tests of the link: it pairs by writing
the pump's keys as a factory does, and opens sessions as ``cisterna.session`` does."""

import asyncio

from virtual_pump import filled, running

from pump.ccm import Ccm
from pump_wire.codec import MAX_BODY, decode, encode
from pump_wire.frame import MAX_PACKET, MAX_STUFFED, FrameReader, write_frame
from pump_wire.messages import (
    CLINICIAN,
    HELLO,
    OPEN_SESSION,
    PATIENT,
    PREPARE,
    SERVICE,
    WIRE_VERSION,
    table_hash,
)
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

KEYS = {PATIENT: b"p" * KEY, CLINICIAN: b"c" * KEY, SERVICE: b"s" * KEY}
PUMP_ID = b"testpump"


class Button:
    """The service button; ``held`` by the test."""

    held = False

    def pressed(self):
        return self.held


class Wire:
    """The host's end of the port. ``sent``: octets that the pump wrote and nobody took yet."""

    def __init__(self):
        self._incoming = bytearray()
        self._event = asyncio.Event()
        self.sent = bytearray()

    def put(self, octets):
        self._incoming += octets
        self._event.set()

    def forget(self):
        """Nobody waits at the port, and nothing is in it."""
        self.__init__()

    # the port's contract

    def read_into(self, buffer):
        count = min(len(buffer), len(self._incoming))
        buffer[:count] = self._incoming[:count]
        self._incoming = self._incoming[count:]
        return count

    async def wait_readable(self):
        while not self._incoming:
            self._event.clear()
            await self._event.wait()

    def write(self, view):
        self.sent += bytes(view)


def framed(packet, length=None):
    """Octets of a packet's frame."""
    out = bytearray(MAX_STUFFED)
    return bytes(out[: write_frame(out, packet, length or len(packet))])


def provision(pump):
    """The pump has a key for every role, as if all were paired."""
    for role in KEYS:
        pump.app.sessions._keep(role, 1, KEYS[role])


class Talk:
    """One session, after ``Host.open``. Frames are made and opened here, and not sent."""

    def __init__(self, theirs, okm):
        self.id = theirs[:8]
        self.ccm = Ccm(okm[:KEY])
        self.counter = 0

    def packet(self, number, body, counter=None, direction=TO_PUMP, kind=REQUEST):
        """Octets of a sealed request's packet; without ``counter`` the next one's."""
        if counter is None:
            self.counter += 1
            counter = self.counter
        packet = bytearray(MAX_PACKET)
        end = BODY + len(body)
        packet[BODY:end] = body
        wrap_sealed(packet, SEALED_REQUEST, self.id, counter, kind, number)
        end = self.ccm.seal(nonce(self.id, direction, counter), packet, SEALED, end)
        return bytes(packet[:end])

    def opened(self, packet):
        """(kind, counter, message number, body) of a sealed reply."""
        packet = bytearray(packet)
        kind, number, counter = sealed_header(packet)
        assert (kind, number) == (SEALED_REPLY, self.id[0] | self.id[1] << 8)
        end = len(packet) - TAG
        assert self.ccm.open(nonce(self.id, FROM_PUMP, counter), packet, SEALED, end)
        return packet[SEALED], counter, packet[SEALED + 1], bytes(packet[BODY:end])


class Host:
    """Speaks with ``pump`` over ``wire``. ``talk``: its session, opened in ``role``."""

    def __init__(self, role=CLINICIAN):
        self.wire = Wire()
        self.pump = running(port=self.wire)
        self.pump.advance(1_000)
        provision(self.pump)
        self.sequence = 100
        self.drawn = 0
        self.talk = None
        if role:
            self.talk = self.open(role)
            self.ask(HELLO)  # the proof; and no packet of a session is the first of it

    def restart(self, meanwhile=None):
        """Power off and on; ``meanwhile()`` is called in between."""
        self.pump.cut_power()
        if meanwhile:
            meanwhile()
        self.wire.forget()
        self.pump.power_on()
        self.pump.advance(1_000)

    # -- octets -----------------------------------------------------------------------------------

    def send(self, octets, us=1_000):
        """The octets that the pump answers with within ``us``."""
        self.wire.put(octets)
        self.pump.advance(us)
        sent = bytes(self.wire.sent)
        self.wire.sent = bytearray()
        return sent

    def packets(self, octets):
        """All packets in ``octets``, which hold nothing else."""
        reader = FrameReader()
        found = []
        for octet in octets:
            if reader.feed(octet):
                found.append(bytes(reader.packet[: reader.length]))
        assert reader.damaged == reader.noise == 0
        return found

    def packet(self, octets):
        """The one packet in ``octets``; None if they are none."""
        found = self.packets(octets)
        assert len(found) <= 1, found
        return found[0] if found else None

    # -- open packets -----------------------------------------------------------------------------

    def open_frame(self, message, sequence=None, **values):
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        packet = bytearray(MAX_PACKET)
        end = encode(message.request, values, packet, HEADER)
        return framed(packet, wrap(packet, REQUEST, sequence, message.number, end))

    def unwrapped(self, octets):
        """(kind, sequence, message number, body) of the one open packet in ``octets``."""
        packet = self.packet(octets)
        if packet is None:
            return None
        kind, sequence, number, body = unwrap(packet)
        return kind, sequence, number, bytes(body)

    def ask_open(self, message, us=1_000, **values):
        """The reply's values of an open message."""
        kind, _, number, body = self.unwrapped(self.send(self.open_frame(message, **values), us))
        assert (kind, number) == (REPLY, message.number), (kind, body)
        return decode(message.reply, body)

    # -- a session --------------------------------------------------------------------------------

    def nonce(self):
        """16 octets that were not drawn before."""
        self.drawn += 1
        return b"host nonce %5d" % self.drawn

    def open(self, role=CLINICIAN, who="test", key=None):
        """A new Talk. The pump takes it for its session with the first request."""
        ours = self.nonce()
        reply = self.ask_open(OPEN_SESSION, role=role, who=who, nonce=ours)
        info = session_info(WIRE_VERSION, table_hash(), PUMP_ID, role, who.encode())
        talk = Talk(reply["nonce"], hkdf(key or KEYS[role], ours + reply["nonce"], info))
        if key is None:
            proof = bytearray(reply["proof"])
            assert talk.ccm.open(nonce(talk.id, FROM_PUMP, 0), proof, 0, 0)
        return talk

    def frame(self, message, **values):
        """Octets of the session's next request."""
        body = bytearray(MAX_BODY)
        end = encode(message.request, values, body)
        return framed(self.talk.packet(message.number, bytes(body[:end])))

    def opened(self, octets):
        """(kind, counter, message number, body) of the one sealed reply in ``octets``."""
        packet = self.packet(octets)
        return None if packet is None else self.talk.opened(packet)

    def ask(self, message, **values):
        kind, counter, number, body = self.opened(self.send(self.frame(message, **values)))
        assert (kind, number, counter) == (REPLY, message.number, self.talk.counter)
        return decode(message.reply, body)

    def prepare(self, message, **values):
        body = bytearray(MAX_BODY)
        end = encode(message.request, filled(message.request, **values), body)
        return self.ask(PREPARE, command=message.number, body=bytes(body[:end]))["token"]
