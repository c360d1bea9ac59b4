"""Attacks through the port of any bench, a whole emulated Pico among them (SEC-3, SEC-4, INP-1).

A real programmer talks, and the attacker sits between it and the pump. What must not change is
asked of the pump by an honest programmer, and of the plant. The attacks are functions of a bench;
they return how many frames they sent and raise ``Wrong``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from cisterna.bench import Bench
from cisterna.prescription import Therapy
from cisterna.programmer import Programmer, connect
from cisterna.transport import Link
from cisterna.wire_fuzz import framed
from pump_wire.frame import ESCAPE, FLAG, MAX_PACKET, FrameReader
from pump_wire.messages import ALARM
from pump_wire.session import REFUSAL, SEALED_REPLY, SEALED_REQUEST

THERAPY = Therapy.simple_continuous(
    "saline", "0.5 mg/mL", rate="8.64 mL/day", capacity="20 mL"
)  # a step a second
_MAY_BE_TOLD = ("auth_failed", "command_refused")
_ALARM = ("alarm_raised", ALARM["attack"])
_AT_A_START = ("pump_started", "power_lost", "power_was_away", "mode_entered")
_LOOKED_AT = 1_000  # frames of fuzz between two looks at all that must not change
_AT_ONCE = 16  # frames, before the pump's answers are read
_ANSWERED_S = 0.03  # simulated: so long after a frame its answer has come
_FLAGS = bytes((FLAG, FLAG))
_CTRL_C = b"\x03"  # stops a pump of the development profile


class Wrong(Exception):
    """An attack did something, in words."""


class Between:
    """A link whose owner sends ``forge(packet)`` before each packet to the pump. ``sent`` and
    ``heard``: the honest packets; ``answers``: what the pump said to the others."""

    def __init__(self, link: Link, forge: Callable[[bytes], list[bytes]] | None = None) -> None:
        self._link = link
        self._forge = forge
        self._there = FrameReader()
        self._back = FrameReader()
        self.name = link.name
        self.sent: list[bytes] = []
        self.heard: list[bytes] = []
        self.answers: list[bytes] = []
        self.forged = 0

    def write(self, data: bytes) -> None:
        for packet in packets(self._there, data):
            self.sent.append(packet)
            if self._forge is not None:
                self.attack([framed(each) for each in self._forge(packet)])
        self._link.write(data)

    def attack(self, frames: list[bytes]) -> None:
        """Send ``frames`` and take in what the pump answers."""
        for at in range(0, len(frames), _AT_ONCE):
            piece = frames[at : at + _AT_ONCE]
            self._link.write(_FLAGS.join(piece) + _FLAGS)
            self.forged += len(piece)
            until = self._link.now_s() + _ANSWERED_S * len(piece)
            while (left := until - self._link.now_s()) > 0:
                octets = self._link.read(min(left, _ANSWERED_S * 2))
                self.answers += packets(self._back, octets)
                if not octets:
                    break

    def read(self, timeout_s: float) -> bytes:
        octets = self._link.read(timeout_s)
        self.heard += packets(self._back, octets)
        return octets

    def now_s(self) -> float:
        return self._link.now_s()

    def close(self) -> None:
        self._link.close()


def packets(reader: FrameReader, octets: bytes) -> list[bytes]:
    """The good packets that ``reader`` finds in ``octets``."""
    return [bytes(reader.packet[: reader.length]) for octet in octets if reader.feed(octet)]


class State(NamedTuple):
    """What an honest programmer reads and what the plant knows, at one instant. ``told``: events
    since the one asked for."""

    settings: tuple[object, ...]
    steps: int
    time_us: int
    next_event: int
    heap_free: int
    told: tuple[tuple[str, int], ...]


def state(bench: Bench, since: int | None = None) -> State:
    """As it is now, with what the log tells from event number ``since`` on."""
    with bench.programmer() as pump:
        status = pump.status()
        account = pump.account()
        settings = (
            (status.mode, status.rate_nl_day, status.fault, status.bolus_pl, status.stop_reason),
            (account.refills, account.fill_pl, account.capacity_pl, account.reason),
            pump.prescription(),
        )
        events = [] if since is None else list(pump.events(since))
        heap_free = pump.heap_free()
    told = tuple((event.name, event.value) for event in events)
    truth = bench.truth()
    return State(settings, truth["steps"], truth["time_us"], status.next_event, heap_free, told)


def must_be(bench: Bench, before: State, *allowed: str) -> State:
    """What is now. Raises Wrong unless all is as it was: a step a second, and no event but
    refusals, the alarm of an attack and those ``allowed``."""
    after = state(bench, before.next_event)
    if after.settings != before.settings:
        raise Wrong(f"the pump has {after.settings}, before {before.settings}")
    moved, due = after.steps - before.steps, (after.time_us - before.time_us) / 1e6
    if abs(moved - due) > 2:
        raise Wrong(f"{moved} steps moved, {due:.1f} were due")
    odd = [
        name
        for name, value in after.told
        if name not in (*_MAY_BE_TOLD, *allowed) and (name, value) != _ALARM
    ]
    if odd:
        raise Wrong(f"the log tells of {', '.join(odd)}")
    return after


def commission(bench: Bench) -> None:
    """A pump that delivers a step a second."""
    with bench.programmer() as pump:
        pump.program(THERAPY)
        bench.refill_reservoir(20_000_000)
        pump.refill(measured="0 mL", fill="20 mL", reason="first fill")


def _only_refusals(line: Between, what: str) -> None:
    """The pump said to forgeries at most that it knows no such session, or repeated itself."""
    for answer in line.answers:
        if answer[0] != REFUSAL and answer not in line.heard:
            raise Wrong(f"{what} is answered with {answer.hex()}")


# -- attacks -----------------------------------------------------------------------------------


def flips(bench: Bench, seed: int, stride: int) -> int:
    """SEC-3: bits of four sealed requests flipped, every ``stride``-th, before each itself."""
    first = random.Random(seed).randrange(stride)
    before = state(bench)

    def forge(packet: bytes) -> list[bytes]:
        if packet[0] != SEALED_REQUEST or len(line.sent) < 4:  # not before the session is proved
            return []
        forged: list[bytes] = []
        for bit in range(first, len(packet) * 8, stride):
            other = bytearray(packet)
            other[bit >> 3] ^= 1 << (bit & 7)
            forged.append(bytes(other))
        return forged

    line = Between(bench.link(), forge)
    with connect(line, "clinician", keys=bench.keys) as pump:
        for ask in (pump.status, pump.status, pump.account, pump.prescription, pump.status):
            ask()
        pump.prepare_bolus(1_000, 10_000_000)
    _only_refusals(line, "a packet with a bit flipped")
    must_be(bench, before)
    return line.forged


_AGAIN = ("later", "in the next session", "after a restart")


def replays(bench: Bench, seed: int, few: bool = False) -> int:  # noqa: ARG001
    """SEC-4: every packet of a conversation again: in its turn, later, in the next session, and
    after the power was away where the bench has a switch. ``few``: a short conversation, in its
    turn and in the next session."""
    kept = 2 if few else 6
    line = Between(bench.link(), lambda _: list(line.sent[:-1][-kept:]))
    with connect(line, "clinician", keys=bench.keys) as pump:
        if not few:
            pump.stop()
            pump.resume()
        pump.bolus(1_000, 10_000_000)
    bench.advance(seconds=12)
    _only_sealed_once(line)
    before = state(bench)
    recorded = line.sent + line.heard
    sent = line.forged
    for what in _AGAIN[1:2] if few else _AGAIN:
        allowed = _AT_A_START if what == "after a restart" else ()
        if what == "after a restart":
            if "power" not in bench.offers:
                break
            bench.cut_power()
            bench.power_on()
            before = before._replace(
                steps=bench.truth()["steps"], time_us=bench.truth()["time_us"]
            )
        again = Between(bench.link())
        pump = Programmer(again, "clinician", keys=bench.keys)
        if what != "later":
            pump.status()
        again.attack([framed(packet) for packet in recorded])
        again.close()
        sent += again.forged
        for answer in again.answers:
            if answer[0] == SEALED_REPLY and answer not in line.heard:
                raise Wrong(f"a packet that is replayed {what} is answered with {answer.hex()}")
        must_be(bench, before, *allowed)
    return sent


def _only_sealed_once(line: Between) -> None:
    for answer in line.answers:
        if answer[0] == SEALED_REPLY and answer not in line.heard:
            raise Wrong(f"a packet that comes twice is answered with {answer.hex()}")


def fuzz(bench: Bench, seed: int, frames: int) -> int:
    """INP-1: ``frames`` mutated and made-up frames. Nothing changes, and no heap is lost."""
    chance = random.Random(seed)
    recorder = Between(bench.link())
    with connect(recorder, "clinician", keys=bench.keys) as pump:
        pump.status()
        pump.prepare_bolus(1_000, 10_000_000)
    recorded = [packet for packet in recorder.sent if len(packet) < 40]
    before = begun = state(bench)
    forged = 0
    while forged < frames:
        line = Between(bench.link())
        while line.forged < min(frames - forged, _LOOKED_AT):
            line.attack([_fuzzed(chance, recorded) for _ in range(_AT_ONCE)])
        line.close()
        forged += line.forged
        bench.advance(seconds=1)
        before = must_be(bench, before)
    lost = begun.heap_free - before.heap_free
    if lost > 2_048:
        raise Wrong(f"{lost} octets of heap are gone after {forged} frames")
    return forged


def _fuzzed(chance: random.Random, recorded: list[bytes]) -> bytes:
    """A frame that no programmer sends, without a Ctrl-C in clear. Most are damaged or noise: one
    that is whole costs an emulated Pico four times as much, for it is answered."""
    kind = chance.randrange(8)
    if kind < 2:
        return chance.randbytes(chance.randrange(1, 12)).replace(_CTRL_C, b"\x04")
    packet = bytearray(chance.choice(recorded))
    damaged = kind < 7
    octets = bytearray(framed(bytes(packet))) if damaged else packet
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(octets))
        octets[at] = chance.choice((octets[at] ^ 1 << chance.randrange(8), 0, 0xFF, FLAG, ESCAPE))
        if chance.randrange(4) == 0:
            octets.insert(at, chance.randrange(256))
        elif chance.randrange(4) == 0 and len(octets) > 2:
            del octets[at]
    if damaged:
        return bytes(octets).replace(_CTRL_C, b"\x04")
    return framed(bytes(octets[:MAX_PACKET]))
