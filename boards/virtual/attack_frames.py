"""Attacks on what takes frames in (INP-1, INP-2), with ``attack_parser``'s octets."""

from attack_bed import (
    BY_NUMBER,
    CLINICIAN,
    ROLES,
    SECOND_US,
    TO_PUMP,
    Bed,
    Programmer,
    Wrong,
    encoded,
    framed,
    lowest,
    seal,
)
from attack_parser import Fuzzer, Quick, damaged

from pump_wire.codec import MAX_BODY
from pump_wire.messages import GET_STATUS, PREPARE
from pump_wire.session import REQUEST

_GROWTH = 2_048  # octets of heap that a pump may hold more in the second half of its frames
_INSIDE_EVERY = 20  # frames: one is sealed with a key that the pump gave out
_A_PUT = 40  # frames on the wire at once
_LIVE_EVERY = 1_000  # frames
_HEAP_EVERY = 2_000
_SILENCE_US = 500_000  # INP-2: a partial frame is dropped within


def damaged_frames(request, tell):
    """``first`` to ``last``: numbers of frames; ``pairs``: two-bit flips of each, 0 for all."""
    for number in range(request["first"], request["last"] + 1):
        tried, why = damaged(request["seed"], number, request["pairs"])
        tell(n=str(number), runs=tried, why=why)


def fuzz(request, tell):
    """``first`` to ``last``: numbers of cases of ``frames`` frames each."""
    for number in range(request["first"], request["last"] + 1):
        frames, why = fuzz_case(request["seed"] * 1_000_003 + number, request["frames"])
        tell(n=str(number), runs=frames, why=why)


class Insider:
    """An attacker who has the key of a role: what is in his packets is fuzz, and they are sealed
    as they should be."""

    def __init__(self, bed, fuzzer, random):
        self._bed = bed
        self._fuzzer = fuzzer
        self._random = random
        self._session = None
        bodies = []
        for message in BY_NUMBER.values():
            bodies.append((message.number, encoded(message, lowest(message))))
            if message.prepared:
                inside = encoded(message, lowest(message))
                bodies.append((PREPARE.number, bytes((message.number,)) + inside))
        self._bodies = bodies

    def packet(self):
        below = self._random.below
        session = self._session
        if session is None or self._bed.pump.app.sessions.active is not session.of_pump:
            session = self._session = Programmer(self._bed, ROLES[below(3)])
            session.open()
            self._bed.heard = []
            session.of_pump = self._bed.pump.app.sessions.active
        number, body = self._bodies[below(len(self._bodies))]
        body = self._fuzzer.mutated(body)[:MAX_BODY]
        if below(8) == 0:
            number = below(256)
        inner = below(256) if below(16) == 0 else REQUEST
        session.counter += 1
        return seal(session.key, session.id, session.counter, number, body, TO_PUMP, inner)


def fuzz_case(seed, frames):
    """(frames sent, why it is wrong) of one pump under ``frames`` fuzzed frames, one in
    ``_INSIDE_EVERY`` from somebody who has a key."""
    random = Quick(seed)
    bed = Bed(seed)
    fuzzer = Fuzzer(random, bed.recordings())
    insider = Insider(bed, fuzzer, random)
    before = bed.state()
    heaps = []
    done = 0
    while done < frames:
        sent = [fuzzer.frame() for _ in range(_A_PUT)]
        for at in range(0, _A_PUT, _INSIDE_EVERY):
            sent[at] = framed(insider.packet())
        sent.append(b"\x7e")  # for what is left of a frame the pump would wait
        bed.send(b"".join(sent))
        done += _A_PUT
        if done % _LIVE_EVERY == 0:
            bed.live(SECOND_US)
            bed.wire.take()
            after = bed.state()
            why = bed.told(before, after, 1)
            if why:
                return done, "after %d frames: %s" % (done, why)
            before = after
        if done % _HEAP_EVERY == 0:
            heaps.append(bed.heap())
    half = len(heaps) // 2
    if half:  # the lowest of several: what lies about on the stack counts as in use
        grown = min(heaps[half:]) - min(heaps[:half])
        if grown > _GROWTH:
            return done, "the heap grew by %d octets" % grown
    return done, bed.link_good()


def pauses(request, tell):
    """INP-2: a frame of request ``first`` to ``last`` breaks off at every octet; the pump forgets
    it within half a second, its rest is nothing, and the next frame is answered."""
    for number in range(request["first"], request["last"] + 1):
        bed = Bed(request["seed"] * 1_000_003 + number)
        honest = Programmer(bed, CLINICIAN)
        honest.open()
        before = bed.state()
        why = ""
        runs = 1  # a flag alone is no part of a frame
        for _ in range(number % 7):
            honest.ask(GET_STATUS)
        while not why:
            frame = framed(honest.packet(GET_STATUS))
            runs += 1
            if runs >= len(frame):
                break
            why = _pause(bed, honest, frame, runs)
            before = before[:1] + (before[1] + 1,) + before[2:]
        tell(n=str(number), runs=runs, why=why or bed.changed(before))


def _pause(bed, honest, frame, keep):
    """A frame whose first ``keep`` octets come, and then nothing for half a second."""
    bed.send(frame[:keep])
    bed.live(_SILENCE_US)
    if bed.pump.app.link.frames.partial:
        return "%d octets of a frame are kept for half a second" % keep
    if bed.send(frame[keep:], SECOND_US - _SILENCE_US):
        return "what came half a second after octet %d is taken for its rest" % keep
    try:
        honest.counter -= 1
        honest.ask(GET_STATUS)
    except Wrong as wrong:
        return "after a frame that broke off at octet %d: %s" % (keep, wrong)
    return ""
