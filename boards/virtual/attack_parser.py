"""Octets that no programmer sends: every flipped bit of a frame (INP-2), fuzz (INP-1). Pure."""

from random_numbers import Random

from pump_wire.frame import (
    ESCAPE,
    FLAG,
    MAX_FRAME,
    MAX_PACKET,
    MAX_STUFFED,
    FrameReader,
    write_frame,
)


def framed(packet):
    """The frame of a packet, as octets."""
    out = bytearray(MAX_STUFFED)
    return bytes(out[: write_frame(out, packet, len(packet))])


def some_packet(random, number):
    """The ``number``-th of the packets whose frames are damaged: short and long, and rich in
    octets that must be escaped."""
    length = 1 + number % 24 if number % 5 else 1 + random.below(48)
    packet = bytearray(length)
    for at in range(length):
        hot = random.below(3) == 0
        packet[at] = (FLAG, ESCAPE, 0x7F, 3)[random.below(4)] if hot else random.below(256)
    return bytes(packet)


def feed(reader, octets):
    """True if ``reader`` takes a frame in ``octets`` for a good one."""
    accepted = False
    at = 0
    end = len(octets)
    while at < end:
        at = reader.take(octets, at, end)
        if at < 0:
            at = -at - 1
            accepted = True
    return accepted


class Damage:
    """One frame, and a reader that must refuse whatever is made of it and then take a good one."""

    def __init__(self, random, number):
        self.frame = framed(some_packet(random, number))
        self.reader = FrameReader()
        self.next = framed(b"next")
        self.tried = 0
        self.why = ""

    def check(self, octets, what):
        self.tried += 1
        reader = self.reader
        accepted = feed(reader, octets)
        if accepted:
            self.why = self.why or "accepted with %s" % what
        elif not feed(reader, self.next) or bytes(reader.packet[: reader.length]) != b"next":
            self.why = self.why or "the next good frame is not accepted after %s" % what
            self.reader = FrameReader()

    def flips(self, pairs, random=None):
        """Every bit, then every two bits: all of them, or ``pairs`` that ``random`` draws."""
        frame = bytearray(self.frame)
        bits = len(frame) * 8
        for one in range(bits):
            frame[one >> 3] ^= 1 << (one & 7)
            self.check(frame, "bit %d flipped" % one)
            if random is None:
                for two in range(one + 1, bits):
                    frame[two >> 3] ^= 1 << (two & 7)
                    self._pair(frame, one, two)
                    frame[two >> 3] ^= 1 << (two & 7)
            frame[one >> 3] ^= 1 << (one & 7)
        for _ in range(pairs if random is not None else 0):
            one = random.below(bits)
            two = random.below(bits)
            if one != two:
                frame[one >> 3] ^= 1 << (one & 7)
                frame[two >> 3] ^= 1 << (two & 7)
                self._pair(frame, one, two)
                frame[one >> 3] ^= 1 << (one & 7)
                frame[two >> 3] ^= 1 << (two & 7)

    def _pair(self, frame, one, two):
        """As ``check``, but the next good frame only now and then: that halves the time."""
        if one + two & 31 == 0:
            self.check(frame, "bits %d and %d flipped" % (one, two))
            return
        self.tried += 1
        if feed(self.reader, frame):
            self.why = self.why or "accepted with bits %d and %d flipped" % (one, two)

    def cuts(self, random):
        """Cut at every octet, each octet dropped, one inserted before each."""
        frame = self.frame
        for at in range(1, len(frame)):
            self.check(frame[:at], "all from octet %d cut" % at)
        for at in range(1, len(frame) - 1):
            self.check(frame[:at] + frame[at + 1 :], "octet %d dropped" % at)
            for octet in (random.below(256), ESCAPE, 3):
                if octet != FLAG:
                    self.check(
                        frame[:at] + bytes((octet,)) + frame[at:],
                        "%02x inserted before octet %d" % (octet, at),
                    )


def damaged(seed, number, pairs):
    """(damaged frames tried, why it is wrong) for frame ``number``. ``pairs``: how many random
    two-bit flips, 0 for all there are."""
    random = Random(seed * 1_000_003 + number)
    damage = Damage(random, number)
    damage.flips(pairs, random if pairs else None)
    damage.cuts(random)
    return damage.tried, damage.why


class Quick:
    """Random numbers for fuzz, four times as fast as ``random_numbers``: Lehmer's generator with
    the constants of C++'s ``minstd_rand``."""

    def __init__(self, seed):
        self._state = seed % 2_147_483_646 + 1
        self.below(1)

    def below(self, limit):
        """A whole number from 0 to ``limit`` - 1, ``limit`` well below 2**31."""
        state = self._state = self._state * 48_271 % 2_147_483_647
        return state % limit


class Fuzzer:
    """Octets that no programmer sends, made from ``recordings``, packets that one did send.

    What it does follows from ``random`` alone."""

    def __init__(self, random, recordings):
        self._random = random
        self._recordings = recordings
        self._frames = [framed(packet) for packet in recordings]

    def mutated(self, octets):
        """``octets`` with one to four small changes."""
        below = self._random.below
        out = bytearray(octets)
        for _ in range(1 + below(4)):
            choice = below(7)
            at = below(len(out)) if out else 0
            if choice < 2 and out:
                out[at] ^= 1 << below(8)
            elif choice == 2 and out:
                out[at] = (0, 1, 0x7F, 0x80, 0xFF, FLAG, ESCAPE, 3)[below(8)]
            elif choice == 3 and out:
                out = out[:at] + out[at + 1 + below(4) :]
            elif choice == 4:
                out = out[:at] + bytes((below(256),)) * (1 + below(8)) + out[at:]
            elif choice == 5:
                other = self._recordings[below(len(self._recordings))]
                out = out[:at] + other[below(len(other)) :]
            elif out:
                out[at] = below(256)
        return bytes(out)

    def noise(self):
        below = self._random.below
        return bytes([below(256) for _ in range(below(40))])

    def frame(self):
        """A frame, or what may be taken for one."""
        below = self._random.below
        number = below(len(self._recordings))
        choice = below(8)
        if choice < 3:  # the frame is damaged
            return self.mutated(self._frames[number])
        if choice < 7:  # the frame is good, what is in it is not
            packet = self.mutated(self._recordings[number])[:MAX_PACKET]
            return framed(packet if packet else b"\x00")
        if below(64) == 0:
            return b"\x7e" + bytes((0x20 + below(80),)) * (MAX_FRAME + below(300)) + b"\x7e"
        return self.noise()
