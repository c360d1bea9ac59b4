"""An attacker's place beside a whole pump in one VM: the wire, which he owns, an honest programmer
to listen to, and instruments that tell whether anything changed.

What counts as a change is judged from outside the firmware: the files on the flash, less the logs,
which must take refusals down, and what the plant saw; then what the running firmware holds.

A new attack is a function that makes a ``Bed``, lets an honest ``Programmer`` talk, puts octets on
the line with ``Bed.send``, and ends with ``Bed.must_be``. ``attack_example`` is one.
"""

import asyncio
import gc
import os
from hashlib import sha256

from attack_parser import framed
from random_numbers import Random
from virtual_pump import ROOT, SECOND_US, running

from pump.ccm import Ccm
from pump_wire.codec import MAX_BODY, decode, encode
from pump_wire.frame import FrameReader
from pump_wire.messages import (
    ALARM,
    BY_NUMBER,
    CLINICIAN,
    CLOSE_SESSION,
    CONFIRM,
    ERROR,
    GET_STATUS,
    HELLO,
    OPEN_SESSION,
    PATIENT,
    PREPARE,
    REFUSALS,
    SERVICE,
    WIRE_VERSION,
    table_hash,
)
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
    hkdf,
    nonce,
    sealed_header,
    session_info,
    unwrap,
    wrap,
    wrap_sealed,
)

RATE_NL_DAY = 8_640_000  # a step a second
ROLES = (PATIENT, CLINICIAN, SERVICE)
_LOGS = ("log", "faults", "steps")  # the count of steps: the plant tells it
_MAY_BE_TOLD = (
    "auth_failed",
    "command_refused",
    "patient_refused",
    "refused_again",
    "pump_started",
    "power_lost",
)
_ALARM = ("alarm_raised", ALARM["attack"])
_DIRECTORY = 0x4000
_PIECE = 512
_HASH = table_hash()


class Wrong(Exception):
    """An attack did something, in words."""


class Wire:
    """The port's other end. ``sent``: octets that the pump wrote and nobody took yet."""

    def __init__(self):
        self._incoming = b""
        self._at = 0
        self._event = asyncio.Event()
        self.sent = bytearray()

    def put(self, octets):
        self._incoming = self._incoming[self._at :] + bytes(octets)
        self._at = 0
        self._event.set()

    def take(self):
        sent = bytes(self.sent)
        self.sent = bytearray()
        return sent

    # the port's contract

    def read_into(self, buffer):
        count = min(len(buffer), len(self._incoming) - self._at)
        buffer[:count] = self._incoming[self._at : self._at + count]
        self._at += count
        return count

    async def wait_readable(self):
        while self._at == len(self._incoming):
            self._event.clear()
            await self._event.wait()

    def write(self, view):
        self.sent += bytes(view)


def packets(octets):
    """The packets of the good frames in ``octets``."""
    reader = FrameReader()
    found = []
    at = 0
    while at < len(octets):
        at = reader.take(octets, at, len(octets))
        if at < 0:
            at = -at - 1
            found.append(bytes(reader.packet[: reader.length]))
    return found


class Bed:
    """A pump that delivers a step a second, and its wire. Time stands still but in ``live``.

    ``heard``: (sender, packet) of all that went over the line for an honest programmer, sender
    TO_PUMP or FROM_PUMP. ``keys``: role -> key, as pairing gave them out.
    """

    def __init__(self, seed=1, paired=True):
        self.wire = Wire()
        self.pump = running(RATE_NL_DAY, port=self.wire)
        self.pump.advance(1_000)
        self.wire.take()
        self.random = Random(seed)
        self.keys = {}
        self.heard = []
        if paired:
            for role in ROLES:
                self.keys[role] = self.octets(KEY)
                self.pump.app.sessions._keep(role, 1, self.keys[role])

    def octets(self, count):
        """Random octets."""
        return bytes([self.random.below(256) for _ in range(count)])

    def send(self, octets, us=0):
        """Put ``octets`` on the line; what the pump wrote within ``us``."""
        self.wire.put(octets)
        self.pump.advance(us)
        return self.wire.take()

    def exchange(self, packet):
        """The packets that the pump answers a packet with."""
        return packets(self.send(framed(packet)))

    def live(self, us):
        """Time passes."""
        self.pump.advance(us)

    def reboot(self):
        """Power off and on; who held a session must open a new one."""
        self.pump.cut_power()
        self.wire = self.pump._port = Wire()
        self.pump.power_on()
        self.pump.advance(1_000)
        self.wire.take()

    # -- instruments --------------------------------------------------------------------------

    def state(self):
        """All that no attack may change, at one instant: (digest of the flash, pulses that the
        plant saw, what the firmware runs, number of the next event)."""
        pump = self.pump
        app = pump.app
        app.log.flush()
        digest = sha256()
        _digest(ROOT, digest, _LOGS)
        store = app.store.current
        return (
            digest.digest(),
            pump.steps,
            (
                pump.mode,
                pump.stop_reason,
                pump.fault,
                app.schedule.rate,
                app.delivery.bolus_pl,
                app.store.halted,
                sorted(store.items()) if store else None,
                (app.ledger.refills, app.ledger.fill_pl),
                (app.log.oldest, app.fault_log.oldest),
            ),
            app.log.next,
        )

    def changed(self, before, steps=0):
        """What the state differs in from ``before``, in words, but for ``steps`` that were due;
        "" for nothing. A log may tell of refusals and of the alarm of an attack, and of nothing
        else."""
        return self.told(before, self.state(), steps)

    def told(self, before, after, steps=0):
        """The same of two states, ``after`` the present one."""
        why = difference(before, after, steps)
        if not why and after[3] != before[3]:
            for _, name, _, value in self.pump.events(before[3]):
                if name not in _MAY_BE_TOLD and (name, value) != _ALARM:
                    return "the log tells of %s %d" % (name, value)
        return why

    def must_be(self, before, steps=0):
        """Raises Wrong where ``changed`` finds something."""
        why = self.changed(before, steps)
        if why:
            raise Wrong(why)

    def heap(self):
        """Heap in use, octets, its garbage collected."""
        gc.collect()
        return gc.mem_alloc()

    def recordings(self):
        """Packets to the pump of a whole conversation in each role, one of every message."""
        found = []
        for role in ROLES:
            honest = Programmer(self, role)
            honest.open()
            for message in BY_NUMBER.values():
                if message.roles & role and message is not CLOSE_SESSION:
                    honest.ask(message, **lowest(message))
        for sender, packet in self.heard:
            if sender == TO_PUMP:
                found.append(packet)
        return found

    def link_good(self):
        """ "" if an honest programmer gets in and is answered, else why not."""
        try:
            honest = Programmer(self, CLINICIAN)
            honest.open()
            kind, values = honest.ask(GET_STATUS)
        except Wrong as wrong:
            return "afterwards: %s" % wrong
        if kind != REPLY:
            return "afterwards no status: %r" % values
        return "a fault is latched: %s" % values["fault_text"] if values["fault"] else ""


def _digest(path, digest, leave_out=()):
    """Names and contents of the files below ``path``, in order, into ``digest``."""
    for entry in sorted(os.ilistdir(path)):
        name, kind = entry[:2]
        if name in leave_out:
            continue
        full = path + "/" + name
        digest.update(full.encode())
        if kind == _DIRECTORY:
            _digest(full, digest)
            continue
        with open(full, "rb") as file:
            while True:
                piece = file.read(_PIECE)
                if not piece:
                    break
                digest.update(piece)


def difference(before, after, steps=0):
    """What two states differ in, in words; "" for nothing. ``steps`` are due in between."""
    found = []
    if before[0] != after[0]:
        found.append("the files on the flash changed")
    if after[1] - before[1] != steps:
        found.append("%d steps moved, %d were due" % (after[1] - before[1], steps))
    if before[2] != after[2]:
        found.append("the pump runs %r, before %r" % (after[2], before[2]))
    return "; ".join(found)


# -- packets -------------------------------------------------------------------------------------


def lowest(message, text="x"):
    """Values for a request, the lowest of each field, and ``text`` for texts."""
    values = {}
    for name, kind, low, _, _ in message.request:
        if kind[0] == "s":
            values[name] = text
        elif kind == "b*":
            values[name] = b""
        elif kind[0] == "b":
            values[name] = bytes(int(kind[1:]))
        else:
            values[name] = low
    return values


def encoded(message, values):
    """The body of a request; fields without a value have their lowest, texts are empty."""
    whole = lowest(message, "")
    whole.update(values)
    out = bytearray(MAX_BODY)
    return bytes(out[: encode(message.request, whole, out)])


def open_packet(number, body, sequence=1, kind=REQUEST):
    """A packet that nobody sealed."""
    out = bytearray(HEADER + len(body))
    out[HEADER:] = body
    return bytes(out[: wrap(out, kind, sequence, number, len(out))])


def opened(packet):
    """(kind, message number, values) of an open reply or refusal; None for anything else."""
    parts = unwrap(packet)
    if parts is None or parts[0] == REQUEST:
        return None
    return parts[0], parts[2], told(parts[0], parts[2], parts[3])


def told(kind, number, body):
    """The values of a reply, those of a refusal with its ``name``."""
    if kind == REFUSAL:
        values = decode(ERROR, body)
        values["name"] = REFUSALS[values["code"]][0]
        return values
    message = BY_NUMBER.get(number)
    return decode(message.reply, body) if message else {}


def seal(key, session, counter, number, body, direction=TO_PUMP, inner=REQUEST, kind=None):
    """A sealed packet, whatever is asked for."""
    if kind is None:
        kind = SEALED_REQUEST if direction == TO_PUMP else SEALED_REPLY
    end = BODY + len(body)
    out = bytearray(end + TAG)
    wrap_sealed(out, kind, session, counter, inner, number)
    out[BODY:end] = body
    Ccm(key).seal(nonce(session, direction, counter), out, SEALED, end)
    return bytes(out)


class Programmer:
    """An honest one in ``role``, whose every packet an attacker may read in ``bed.heard``. ``key``
    and ``id`` of its session are what he must not learn."""

    def __init__(self, bed, role=CLINICIAN, who="honest"):
        self.bed = bed
        self.role = role
        self.who = who
        self.key = self.id = b""
        self.counter = 0

    def _exchange(self, packet):
        heard = self.bed.heard
        heard.append((TO_PUMP, packet))
        replies = self.bed.exchange(packet)
        for reply in replies:
            heard.append((FROM_PUMP, reply))
        return replies

    def ask_open(self, message, **values):
        """(kind, values) of the answer to an open request. Raises Wrong for none."""
        sequence = self.bed.random.below(1 << 16)
        packet = open_packet(message.number, encoded(message, values), sequence)
        for reply in self._exchange(packet):
            found = opened(reply)
            if found and found[1] == message.number:
                return found[0], found[2]
        raise Wrong("%s got no answer" % message.name)

    def open(self, must=True, prove=True):
        """Open a session. Raises Wrong when that fails; with ``must`` False it returns False.
        ``prove``: show with a first request that the key is known, which makes it the open one.
        Who has a session of a role that may more ends it first."""
        mine = self.bed.octets(16)
        pump_id = self.ask_open(HELLO)[1]["serial"]
        ask = {"role": self.role, "who": self.who, "nonce": mine}
        kind, values = self.ask_open(OPEN_SESSION, **ask)
        if kind != REPLY and (values["name"], values["field"]) == ("busy", self.who):
            self.bed.pump.app.sessions.end()  # as close_session does, and takes no time
            kind, values = self.ask_open(OPEN_SESSION, **ask)
        if kind != REPLY:
            if must:
                raise Wrong("no session: %s" % values["name"])
            return False
        self.derive(self.bed.keys[self.role], mine, values["nonce"], pump_id)
        proof = bytearray(TAG)
        Ccm(self.key).seal(nonce(self.id, FROM_PUMP, 0), proof, 0, 0)
        if bytes(proof) != values["proof"]:
            raise Wrong("the pump's proof is wrong")
        if prove:
            self.ask(GET_STATUS)
        return True

    def derive(self, key, mine, theirs, pump_id):
        """The session's key and id."""
        info = session_info(WIRE_VERSION, _HASH, pump_id, self.role, self.who.encode())
        made = hkdf(key, mine + theirs, info)
        self.key = made[:KEY]
        self.id = theirs[:8]
        self.counter = 0

    def packet(self, message, **values):
        """The next request's packet, which counts as sent."""
        self.counter += 1
        body = encoded(message, values)
        return seal(self.key, self.id, self.counter, message.number, body)

    def answer(self, replies):
        """(kind, values) of the sealed reply to the last request among packets; None without."""
        for reply in replies:
            header = sealed_header(reply)
            number = self.id[0] | self.id[1] << 8
            if header != (SEALED_REPLY, number, self.counter):
                continue
            text = bytearray(reply)
            end = len(reply) - TAG
            if Ccm(self.key).open(nonce(self.id, FROM_PUMP, self.counter), text, SEALED, end):
                return text[SEALED], told(text[SEALED], text[SEALED + 1], bytes(text[BODY:end]))
        return None

    def ask(self, message, **values):
        """(kind, values) of the answer to a sealed request. Raises Wrong for none."""
        found = self.answer(self._exchange(self.packet(message, **values)))
        if found is None:
            raise Wrong("%s got no answer" % message.name)
        return found

    def prepare(self, message, **values):
        """The token of a prepared command. Raises Wrong for a refusal."""
        body = encoded(message, values)
        kind, reply = self.ask(PREPARE, command=message.number, body=body)
        if kind != REPLY:
            raise Wrong("prepare %s: %s" % (message.name, reply["name"]))
        return reply["token"]

    def command(self, message, **values):
        """Prepare and confirm. Raises Wrong for a refusal."""
        kind, reply = self.ask(CONFIRM, token=self.prepare(message, **values))
        if kind != REPLY:
            raise Wrong("confirm %s: %s" % (message.name, reply["name"]))
        return reply


__all__ = [
    "BY_NUMBER",
    "CLINICIAN",
    "FROM_PUMP",
    "PATIENT",
    "RATE_NL_DAY",
    "ROLES",
    "SECOND_US",
    "SERVICE",
    "TO_PUMP",
    "Bed",
    "Programmer",
    "Wire",
    "Wrong",
    "difference",
    "encoded",
    "framed",
    "lowest",
    "open_packet",
    "opened",
    "packets",
    "seal",
]
