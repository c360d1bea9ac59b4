"""Attacks on the programmer itself: a real one, over a virtual bench's port, whose line somebody
else owns (SEC-3, SEC-6, INP-5). Run by ``cisterna.attack``; what is true comes from the plant.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

from cisterna.bench import Bench
from cisterna.bench_virtual import VirtualBench
from cisterna.errors import CisternaError, OutcomeUnknown
from cisterna.impairment import GOOD, ImpairedLink, Impairment
from cisterna.prescription import Therapy
from cisterna.programmer import Programmer
from cisterna.transport import Link
from cisterna.wire_fuzz import framed
from pump_wire import messages
from pump_wire.frame import FrameReader
from pump_wire.session import SEALED_REPLY

BAD = Impairment(loss=0.3, duplication=0.3, delay=0.3, delay_s=2.5)  # SEC-6
_BOLUS_STEPS = 5
_STEP_NL = 100
_BOLUS_US = 2_000_000  # 0.25 uL a second; 24 mL/day is 0.278
_AFTER_S = 10  # of a bolus, all is moved
_THERAPY = Therapy.simple_continuous("saline", "0.5 mg/mL", rate="0.048 mL/day", capacity="20 mL")
_OTHER = Therapy.simple_continuous("saline", "0.5 mg/mL", rate="0.06 mL/day", capacity="20 mL")


class _Wrong(Exception):
    """An attack did something, in words."""


def _commission(bench: Bench) -> None:
    """A step in three minutes, and nothing else."""
    with bench.programmer() as pump:
        pump.program(_THERAPY)
        bench.refill_reservoir(20_000_000)
        pump.refill(measured="0 mL", fill="20 mL", reason="first fill")


def _steps(bench: Bench) -> int:
    return bench.truth()["steps"]


def _boluses(moved: int) -> int:
    """How many boluses so many steps are; the basal rate adds one at most."""
    return moved // _BOLUS_STEPS


def run(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the attack ``request["do"]`` finds for numbers ``first`` to ``last``."""
    attack = _ATTACKS[request["do"]]
    for number in range(request["first"], request["last"] + 1):
        seed = request["seed"] * 1_000_003 + number
        runs, why = 0, ""
        with VirtualBench(seed=seed, trace=False) as bench:
            try:
                _commission(bench)
                runs = attack(bench, seed, {**request, "number": number})
            except _Wrong as wrong:
                why = str(wrong)
            except CisternaError as error:
                why = f"{type(error).__name__}: {error}"
        yield {"n": str(number), "runs": max(1, runs), "why": why}


# -- SEC-6 -------------------------------------------------------------------------------------


def _try(act: Callable[[], Any]) -> str:
    """How the programmer says that a command ended: done, not done, unknown."""
    try:
        act()
    except OutcomeUnknown:
        return "unknown"
    except CisternaError:
        return "not done"
    return "done"


def _lossy(bench: Bench, seed: int, request: dict[str, Any]) -> int:
    """Boluses over a bad line: what the programmer says is what the plant saw, and while it does
    not know it gives no other."""

    def pass_time(seconds: float) -> None:
        bench.advance(us=round(seconds * 1_000_000))

    link = ImpairedLink(bench.link(), BAD, BAD, seed=seed, pass_time=pass_time)
    pump = _persistent(lambda: Programmer(link, "clinician", keys=bench.keys))
    for number in range(request["commands"]):
        before = _steps(bench)
        told = _try(lambda: pump.bolus(_BOLUS_STEPS * _STEP_NL, _BOLUS_US))
        link.let_pass(_AFTER_S)
        given = _boluses(_steps(bench) - before)
        if told == "unknown":
            told = _settled(pump, link)
        if given != {"done": 1, "not done": 0}[told]:
            raise _Wrong(f"command {number}: the programmer says {told}, the plant saw {given}")
        link.let_pass(_AFTER_S)
        late = _boluses(_steps(bench) - before)
        if late != given:
            raise _Wrong(f"command {number}: {late} boluses a while later, {given} before")
    link.close()
    return request["commands"]


def _persistent(make: Callable[[], Programmer]) -> Programmer:
    """A programmer on a line that fails often."""
    for _ in range(50):
        with contextlib.suppress(CisternaError):
            return make()
    raise _Wrong("no programmer gets through in fifty tries")


def _settled(pump: Programmer, link: ImpairedLink) -> str:
    """What an unknown outcome turns out to be; dosing is refused meanwhile."""
    for _ in range(50):
        try:
            pump.settle()
        except OutcomeUnknown:
            link.let_pass(1)
            continue
        return _outcome(pump)
    raise _Wrong("an outcome stays unknown for fifty tries")


def _outcome(pump: Programmer) -> str:
    return "not done" if "not" in pump.settled.partition("did not come")[2] else "done"


# -- SEC-3, SEC-4: the pump's packets ----------------------------------------------------------


class _Meddler:
    """A link whose owner sends whatever ``forge(packet)`` makes of each packet of the pump before
    that packet itself."""

    def __init__(self, link: Link, forge: Callable[[bytes], list[bytes]]) -> None:
        self._link = link
        self._forge = forge
        self._reader = FrameReader()
        self.name = link.name
        self.forged = 0

    def write(self, data: bytes) -> None:
        self._link.write(data)

    def read(self, timeout_s: float) -> bytes:
        out = bytearray()
        for octet in self._link.read(timeout_s):
            if self._reader.feed(octet):
                packet = bytes(self._reader.packet[: self._reader.length])
                for forged in self._forge(packet):
                    self.forged += 1
                    out += framed(forged)
                out += framed(packet)
        return bytes(out)

    def now_s(self) -> float:
        return self._link.now_s()

    def close(self) -> None:
        self._link.close()


def _flipped(packet: bytes) -> list[bytes]:
    found: list[bytes] = []
    for bit in range(len(packet) * 8):
        forged = bytearray(packet)
        forged[bit >> 3] ^= 1 << (bit & 7)
        found.append(bytes(forged))
    return found


def _replies(bench: Bench, seed: int, request: dict[str, Any]) -> int:  # noqa: ARG001
    """Every bit of the pump's sealed packets flipped, and all its old packets, before each."""
    old: list[bytes] = []
    cut = random.Random(seed)

    def forge(packet: bytes) -> list[bytes]:
        forged = [each for each in old if each != packet]
        if packet[0] == SEALED_REPLY:
            forged += _flipped(packet)
            forged += [packet[: cut.randrange(1, len(packet))], packet + b"\0"]
        old.append(packet)
        return forged

    link = _Meddler(bench.link(), forge)
    pump = Programmer(link, "clinician", keys=bench.keys)
    with bench.programmer("clinician") as honest:
        wanted = honest.prescription(), honest.account()
    for _ in range(2):
        if (pump.prescription(), pump.account()) != wanted:
            raise _Wrong("the programmer takes a forged packet for the pump's")
        if pump.session.request(messages.GET_STATUS, {})["fault"]:
            raise _Wrong("a fault is latched")
        bench.advance(seconds=1)
        with bench.programmer("clinician") as honest:
            wanted = honest.prescription(), honest.account()
    return link.forged + _forged_handshakes(bench)


def _forged_handshakes(bench: Bench) -> int:
    """Every bit of the pump's answer to open_session flipped: no session comes of it."""
    count = 0
    for bit in range((4 + 24) * 8):
        seen: list[bool] = []

        def forge(packet: bytes, bit: int = bit, seen: list[bool] = seen) -> list[bytes]:
            if packet[0] != 2 or packet[3] != messages.OPEN_SESSION.number or seen:
                return []
            seen.append(True)
            forged = bytearray(packet)
            forged[bit >> 3] ^= 1 << (bit & 7)
            return [bytes(forged)]

        with contextlib.suppress(CisternaError):
            pump = Programmer(_Meddler(bench.link(), forge), keys=bench.keys)
            pump.session.open(1)
            if bit >= 32:
                raise _Wrong(f"a session with bit {bit} of the pump's answer flipped")
        count += 1
    return count


# -- INP-5: the programmer's line is cut -------------------------------------------------------


def _hangups(bench: Bench, seed: int, request: dict[str, Any]) -> int:
    """A bolus (even numbers) or a programme (odd ones) over a line that is cut at every octet to
    (0, 1) or from the pump (2, 3). What the programmer says in the end is what is true."""
    number = request["number"]
    runs = 0
    octet = random.Random(seed).randrange(request["stride"])
    while _hangup(bench, number % 2 == 0, number % 4 < 2, octet):
        runs += 1
        octet += request["stride"]
    return runs


def _hangup(bench: Bench, bolus: bool, there: bool, octet: int) -> bool:
    """One procedure; False when the cut lay behind its end."""

    def pass_time(seconds: float) -> None:
        bench.advance(us=round(seconds * 1_000_000))

    line = Impairment(cut_at=octet)
    ways = (line, GOOD) if there else (GOOD, line)
    link = ImpairedLink(bench.link(), *ways, pass_time=pass_time)
    with bench.programmer() as honest:
        old = honest.prescription()
    new = _OTHER if old == _THERAPY else _THERAPY
    before = _steps(bench)
    pumps: list[Programmer] = []

    def act() -> None:
        pump = Programmer(link, "clinician", keys=bench.keys)
        pumps.append(pump)
        if bolus:
            pump.bolus(_BOLUS_STEPS * _STEP_NL, _BOLUS_US)
        else:
            pump.program(new)

    told = _try(act)
    cut = link.there.cut or link.back.cut
    link.let_pass(_AFTER_S)
    link.close()
    what = f"{'bolus' if bolus else 'programme'} cut at octet {octet}"
    with bench.programmer() as honest:
        stored = honest.prescription()
        given = _boluses(_steps(bench) - before) if bolus else int(stored == new)
        if stored not in (old, new):
            raise _Wrong(f"{what}: the prescription is neither old nor new")
        honest.settle()
        told_then = told
        if told == "unknown":
            told_then = _outcome(honest)
    true = "done" if given == 1 else "not done"
    verified = (
        bolus or told != "not done"
    )  # a programme that is committed may fail to be read back
    if told_then != true and verified:
        raise _Wrong(f"{what}: the programmer says {told}, then {told_then}; {true} is true")
    return cut


_ATTACKS = {"lossy": _lossy, "replies": _replies, "hangups": _hangups}
