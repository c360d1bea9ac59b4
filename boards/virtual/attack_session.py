"""Attacks on sessions: who may ask for what (SEC-1), keys and nonces (SEC-2), forged, spliced
(SEC-3) and replayed (SEC-4) packets.
"""

from attack_bed import (
    BY_NUMBER,
    CLINICIAN,
    FROM_PUMP,
    PATIENT,
    ROLES,
    SERVICE,
    TO_PUMP,
    Bed,
    Programmer,
    Wrong,
    encoded,
    lowest,
    open_packet,
    opened,
    seal,
)
from random_numbers import Random
from virtual_pump import SECOND_US

from pump_wire.messages import (
    ANYONE,
    CLOSE_SESSION,
    CONFIRM,
    GET_ACCOUNT,
    GET_STATUS,
    HELLO,
    OPEN_SESSION,
    PREPARE,
    SET_CLOCK,
    START_BOLUS,
    STOP,
)
from pump_wire.session import (
    REFUSAL,
    REPLY,
    REQUEST,
    SEALED,
    SEALED_REPLY,
    SEALED_REQUEST,
    TAG,
    sealed_header,
)

_SESSION_US = 180 * SECOND_US
_ENDS = (OPEN_SESSION.number, CLOSE_SESSION.number)


def each(request, tell, attack):
    """Tell what ``attack(number, seed)`` finds for numbers ``first`` to ``last``: how many runs;
    Wrong is why it is wrong."""
    for number in range(request["first"], request["last"] + 1):
        runs, why = 0, ""
        try:
            runs = attack(number, request["seed"] * 1_000_003 + number)
        except Wrong as wrong:
            why = str(wrong)
        tell(n=str(number), runs=max(1, runs), why=why)


def bodies(number):
    """Request bodies for a message: one that decodes, and others."""
    message = BY_NUMBER.get(number)
    if message is None:
        return (b"", bytes(8))
    good = encoded(message, lowest(message))
    return (good, b"", good + b"\x01", bytes(len(good)), b"\xff" * min(224, len(good) + 9))


# -- SEC-1 -------------------------------------------------------------------------------------


def _nobody(bed):
    return None


def _in_role(role):
    def ready(bed):
        honest = Programmer(bed, role)
        honest.open()
        return honest

    return ready


def _ended(bed):
    """A session that has been silent for too long."""
    honest = _in_role(CLINICIAN)(bed)
    honest.ask(GET_STATUS)
    bed.live(_SESSION_US)
    return honest


def _closed(bed):
    honest = _in_role(CLINICIAN)(bed)
    honest.ask(CLOSE_SESSION)
    return honest


def _rebooted(bed):
    honest = _in_role(CLINICIAN)(bed)
    honest.ask(GET_STATUS)
    bed.reboot()
    return honest


def _stopped(bed):
    honest = _in_role(CLINICIAN)(bed)
    honest.command(STOP)
    honest.ask(CLOSE_SESSION)
    return


def _in_bolus(bed):
    honest = _in_role(CLINICIAN)(bed)
    honest.command(START_BOLUS, volume_nl=5_000, duration_us=25 * SECOND_US)
    return honest


# name, what leads there, what the pump then owes him: 0 nothing, else the role's messages
STATES = (
    ("nobody has a key", _nobody, 0),
    ("not authenticated", _nobody, 0),
    ("patient", _in_role(PATIENT), PATIENT),
    ("clinician", _in_role(CLINICIAN), CLINICIAN),
    ("service", _in_role(SERVICE), SERVICE),
    ("session silent for 3 min", _ended, 0),
    ("session closed", _closed, 0),
    ("restarted", _rebooted, 0),
    ("stopped, not authenticated", _stopped, 0),
    ("clinician in a bolus", _in_bolus, CLINICIAN),
)


def roles(request, tell):
    """SEC-1: every message id, open and sealed, in state ``first`` to ``last`` of STATES; of ids
    that are no message every ``every``-th. Nothing changes, and only what the table allows is
    answered with a reply."""

    def attack(number, seed):
        name, lead, allowed = STATES[number]
        bed = Bed(seed, paired=number > 0)
        honest = lead(bed)
        before = bed.state()
        every = request["every"]
        numbers = [n for n in range(256) if n in BY_NUMBER or n % every == seed % every]
        return _every_message(bed, honest, name, allowed, before, numbers)

    each(request, tell, attack)


def _every_message(bed, honest, name, allowed, before, numbers):
    runs = 0
    for number in numbers:
        for body in bodies(number):
            for kind in (REQUEST, REPLY, REFUSAL):
                _check_open(bed, name, number, body, kind)
                runs += 1
        bed.must_be(before)
    if honest is None:
        return runs
    for number in numbers:
        if number in _ENDS:
            continue
        for body in bodies(number):
            honest.counter += 1
            packet = seal(honest.key, honest.id, honest.counter, number, body)
            _check_sealed(honest, bed.exchange(packet), name, number, body, allowed)
            runs += 1
        if allowed:
            runs += _check_prepare(honest, name, number, allowed)
        try:
            bed.must_be(before)
        except Wrong as wrong:
            raise Wrong("%s: message %d: %s" % (name, number, wrong))
    if allowed:
        for token in (bytes(8), b"\xff" * 8, bed.octets(8)):
            kind, _ = honest.ask(CONFIRM, token=token)
            if kind != REFUSAL:
                raise Wrong("%s: token %s was taken" % (name, token.hex()))
    bed.must_be(before)
    return runs


def _check_open(bed, name, number, body, kind):
    replies = bed.exchange(open_packet(number, body, 7, kind))
    message = BY_NUMBER.get(number)
    free = message is not None and message.roles & ANYONE
    for reply in replies:
        found = opened(reply)
        if found is None or kind != REQUEST:
            raise Wrong("%s: message %d of kind %d got %s" % (name, number, kind, reply.hex()))
        if found[0] == REPLY and not free:
            raise Wrong("%s: message %d is answered unauthenticated" % (name, number))
        if found[0] == REPLY and number not in (HELLO.number, OPEN_SESSION.number):
            raise Wrong("%s: %s without the button" % (name, message.name))


def _check_sealed(honest, replies, name, number, body, allowed):
    answer = honest.answer(replies)
    if not allowed:
        for reply in replies:
            found = opened(reply)
            if found is None or found[0] != REFUSAL:
                raise Wrong("%s: sealed message %d is answered" % (name, number))
        return
    if answer is None:
        raise Wrong("%s: sealed message %d got no answer" % (name, number))
    message = BY_NUMBER.get(number)
    may = message is not None and message.roles & allowed and not message.prepared
    if answer[0] == REPLY and not may:
        raise Wrong("%s: message %d is carried out for role %d" % (name, number, allowed))


def _check_prepare(honest, name, number, allowed):
    """A prepare of message ``number``: refused unless the role may send it."""
    message = BY_NUMBER.get(number)
    may = message is not None and message.prepared and message.roles & allowed
    if not 1 <= number <= 127:
        return 0
    for body in bodies(number):
        kind, values = honest.ask(PREPARE, command=number, body=body)
        if kind == REPLY and not may:
            raise Wrong("%s: message %d is prepared for role %d" % (name, number, allowed))
        told = values.get("name")
        if message is not None and not message.roles & allowed and told != "not_allowed":
            if message.prepared:
                raise Wrong("%s: preparing message %d is refused as %r" % (name, number, told))
    return len(bodies(number))


# -- SEC-2 -------------------------------------------------------------------------------------


def fresh(request, tell):
    """SEC-2: ``sessions`` sessions, over restarts. No key, session or nonce of the pump
    comes twice, and no key seals two texts under one nonce; no octet of a key goes over the line
    in clear."""
    bed = Bed(request["seed"])
    random = Random(request["seed"])
    seen = set()
    used = set()
    count = request["sessions"]
    why = ""
    try:
        for number in range(count):
            honest = Programmer(bed, ROLES[number % 3])
            bed.heard = []
            honest.open()
            for _ in range(random.below(3)):
                honest.ask(GET_STATUS)
            if random.below(3) == 0:
                honest.ask(CLOSE_SESSION)
            _once(seen, honest.key, "session key")
            _once(seen, honest.id, "session")
            for sender, packet in bed.heard:
                for key in (honest.key, bed.keys[honest.role]):
                    if key in packet or key[:8] in packet:
                        raise Wrong("a key went over the line")
                if packet[0] in (SEALED_REQUEST, SEALED_REPLY):
                    _once(used, (honest.id, sender, sealed_header(packet)[2]), "nonce of a packet")
                found = opened(packet) if sender == FROM_PUMP else None
                if found and found[1] == OPEN_SESSION.number and found[0] == REPLY:
                    _once(seen, found[2]["nonce"], "nonce of the pump")
            used.clear()
            if number % 50 == 49:
                bed.reboot()
            if number % 7 == 0:
                bed.live(random.below(SECOND_US))
    except Wrong as wrong:
        why = "session %d: %s" % (number, wrong)
    tell(n="0", runs=count, why=why)


def _once(seen, value, what):
    if isinstance(value, bytes):  # a whole number has the better hash in this VM
        value = int.from_bytes(value, "little")
    if value in seen:
        raise Wrong("the same %s twice" % what)
    seen.add(value)


# -- SEC-3 -------------------------------------------------------------------------------------


def a_request(honest, number):
    """The honest programmer's ``number``-th request of some kind, as a packet."""
    choice = number % 5
    if choice == 0:
        return honest.packet(GET_STATUS)
    if choice == 1:
        return honest.packet(GET_ACCOUNT)
    if choice == 2:
        body = encoded(START_BOLUS, {"volume_nl": 1_000, "duration_us": 10_000_000})
        return honest.packet(PREPARE, command=START_BOLUS.number, body=body)
    if choice == 3:
        token = honest.prepare(SET_CLOCK, wall_s=1_800_000_000 + number)
        return honest.packet(CONFIRM, token=token)
    return honest.packet(PREPARE, command=STOP.number, body=b"")


def refused(bed, packet, what, known=()):
    """Send what must not be accepted: the pump is silent, says openly that it knows no such
    session, or repeats itself (``known`` packets)."""
    for reply in bed.exchange(packet):
        found = opened(reply)
        if reply in known or (found and found[0] == REFUSAL and found[2]["name"] == "no_session"):
            continue
        raise Wrong("%s is answered with %s" % (what, reply.hex()))


def flips(request, tell):
    """SEC-3: every bit of packet ``first`` to ``last`` flipped, its frame made good again, before
    the packet itself comes. None is accepted; the packet itself then is."""

    def attack(number, seed):
        bed = Bed(seed)
        honest = Programmer(bed, CLINICIAN)
        proved = number % 10 != 9  # else the packet that would have proved it is the forged one
        honest.open(prove=proved)
        bed.live(bed.random.below(3 * SECOND_US))
        packet = a_request(honest, number) if proved else honest.packet(GET_STATUS)
        before = bed.state()
        forged = bytearray(packet)
        bits = len(packet) * 8
        for bit in range(bits):
            forged[bit >> 3] ^= 1 << (bit & 7)
            refused(bed, bytes(forged), "bit %d flipped" % bit)
            forged[bit >> 3] ^= 1 << (bit & 7)
            if bit % 64 == 0:
                bed.must_be(before)
        bed.must_be(before)
        if not proved:
            bed.live(SECOND_US)
            honest.open()
        elif honest.answer(bed.exchange(packet)) is None:
            raise Wrong("the packet itself is no longer accepted")
        return bits

    each(request, tell, attack)


def splices(request, tell):
    """SEC-3: packets put together from pieces of others, of both directions and of two sessions,
    and sealed under the keys an attacker may have: another role's, another pump's, none."""

    def attack(number, seed):
        bed = Bed(seed)
        first = Programmer(bed, CLINICIAN)
        first.open()
        first.ask(GET_STATUS)
        old = [packet for sender, packet in bed.heard if packet[0] >= SEALED_REQUEST]
        bed.heard = []
        other = Programmer(bed, (PATIENT, SERVICE)[number & 1], "honest")
        other.open()  # the first session is over with this
        other.ask(GET_ACCOUNT)
        honest = Programmer(bed, CLINICIAN)
        honest.open()
        for at in range(3):
            honest.ask((GET_STATUS, GET_ACCOUNT, HELLO)[(number + at) % 3])
        known = [packet for sender, packet in bed.heard if sender == FROM_PUMP][-1:]
        seen = old + [packet for _, packet in bed.heard if packet[0] >= SEALED_REQUEST]
        packet = a_request(honest, number)
        before = bed.state()
        runs = 0
        for what, forged in _spliced(honest, other, first, packet, seen, number):
            if forged != packet:
                refused(bed, forged, what, known)
                runs += 1
        bed.must_be(before)
        if honest.answer(bed.exchange(packet)) is None:
            raise Wrong("the packet itself is no longer accepted")
        return runs

    each(request, tell, attack)


def _spliced(honest, other, first, packet, seen, number):
    """(what it is, packet) of forgeries around the honest ``packet``, which has not come yet."""
    head, text, tag = packet[:SEALED], packet[SEALED:-TAG], packet[-TAG:]
    for old in seen:
        yield "head of the next packet before an old text", head + old[SEALED:]
        yield "old head before the next text", old[:SEALED] + text + tag
        yield "an old tag", head + text + old[-TAG:]
        yield "a packet from the other direction", bytes((SEALED_REQUEST,)) + old[1:]
        yield "head and text of an old packet", head + old[SEALED:-TAG] + tag
        same = bytes((SEALED_REQUEST,)) + old[1:3] + head[3:7]
        yield "an old packet with the next counter", same + old[SEALED:]
        yield "an old packet of this session", head[:3] + old[3:]
    yield "the tag cut off", head + text
    for cut in range(1, TAG):
        yield "a tag of %d octets" % cut, packet[:-cut]
        yield "a tag of %d octets, filled up" % cut, packet[:-cut] + bytes(cut)
    yield "no tag but zeros", head + text + bytes(TAG)
    yield "an octet more", packet + b"\x00"
    yield "a text twice", head + text + text + tag
    yield "no text", head + tag
    counter = honest.counter
    key, session = honest.key, honest.id
    for size in (0, 1, 8):
        body = bytes(size)
        stop = STOP.number
        yield "another session's key", seal(other.key, session, counter, stop, body)
        yield "an old session's key", seal(first.key, session, counter, stop, body)
        yield "no key", seal(bytes(16), session, counter, stop, body)
        yield "the other direction", seal(key, session, counter, stop, body, FROM_PUMP)
        reflected = seal(key, session, counter, stop, body, FROM_PUMP, REQUEST, SEALED_REQUEST)
        yield "the other direction, as a request", reflected
        yield "an old session", seal(other.key, other.id, other.counter + 1, stop, body)
        yield "the first session", seal(first.key, first.id, first.counter + 1, stop, body)
        for skip in (-2, -1, 1, 2, 255, 256, 65_536):
            other_counter = counter + skip
            if other_counter > 0:
                wanted = seal(key, session, other_counter, GET_STATUS.number, body)
                if other_counter != counter - 1 or body:
                    yield "a counter %+d from the next" % skip, wanted
        yield "counter 0", seal(key, session, 0, stop, body)
        mixed = session[:2] + other.id[2:]
        yield "a session of the same number", seal(key, mixed, counter, stop, body)
    random = Random(number)
    for _ in range(64):
        noise = bytes([random.below(256) for _ in range(len(text) + TAG)])
        yield "noise behind the right head", head + noise


# -- SEC-4 -------------------------------------------------------------------------------------


def a_day(honest):
    """An honest conversation with something of everything in it."""
    honest.open()
    honest.ask(GET_STATUS)
    honest.command(START_BOLUS, volume_nl=1_000, duration_us=5 * SECOND_US)
    honest.bed.live(7 * SECOND_US)
    honest.command(SET_CLOCK, wall_s=1_800_000_000)
    honest.command(STOP)
    honest.ask(GET_ACCOUNT)


def replays(request, tell):
    """SEC-4: every packet of recorded sessions once more: at once, later in the session, in the
    next session, while that is being opened, and after a restart. ``first`` to ``last``: which of
    these, and of which conversation."""

    def attack(number, seed):
        bed = Bed(seed)
        return _REPLAYS[number % len(_REPLAYS)](bed)

    each(request, tell, attack)


def _replay_all(bed, recorded, what, known=()):
    before = bed.state()
    for at, packet in enumerate(recorded):
        for reply in bed.exchange(packet):
            found = opened(reply)
            if reply in known:
                continue
            if found and (found[0] == REFUSAL or found[1] in (HELLO.number, OPEN_SESSION.number)):
                continue  # open, and nothing is granted by it
            raise Wrong("packet %d %s is answered with %s" % (at, what, reply.hex()))
    bed.must_be(before)
    return len(recorded)


def _sent(bed):
    return [packet for sender, packet in bed.heard if sender == TO_PUMP]


def _both(bed):
    return [packet for _, packet in bed.heard]


class _Twice(Programmer):
    """Every packet goes over the line twice, and the pump's own come back to it."""

    runs = 0

    def _exchange(self, packet):
        bed = self.bed
        replies = super()._exchange(packet)
        before = bed.state()
        for _ in range(2):
            for reply in bed.exchange(packet):
                found = opened(reply)
                if reply not in replies and not (found and packet[0] == REQUEST):
                    raise Wrong("a packet that comes twice is answered twice")
            for reply in replies:
                if bed.exchange(reply):
                    raise Wrong("the pump answers its own packet")
            self.runs += 1 + len(replies)
        bed.must_be(before)
        return replies


def _at_once(bed):
    honest = _Twice(bed, CLINICIAN)
    log = bed.pump.app.log
    began = log.coming
    a_day(honest)
    bolus = [name for name in bed.pump.event_names(began) if name == "bolus_started"]
    if len(bolus) != 1:
        raise Wrong("%d boluses for one command" % len(bolus))
    return honest.runs


def _later(bed):
    honest = Programmer(bed, CLINICIAN)
    a_day(honest)
    last = bed.heard[-1:][0][1]
    runs = _replay_all(bed, _both(bed)[:-2], "later", (last,))
    bed.live(31 * SECOND_US)
    runs += _replay_all(bed, _both(bed), "half a minute later", (last,))
    if honest.ask(GET_STATUS)[0] != REPLY:
        raise Wrong("the session did not live through it")
    return runs


def _next_session(bed):
    a_day(Programmer(bed, CLINICIAN))
    recorded = _both(bed)
    honest = Programmer(bed, CLINICIAN)
    honest.open()
    runs = _replay_all(bed, recorded, "in the next session")
    if honest.ask(GET_STATUS)[0] != REPLY:
        raise Wrong("the session did not live through it")
    return runs + _replay_all(bed, recorded, "in the next session")


def _before_it_proves_itself(bed):
    """Recorded packets behind a recorded open_session, for the session that it begins."""
    honest = Programmer(bed, CLINICIAN)
    a_day(honest)
    honest.ask(CLOSE_SESSION)
    recorded = _sent(bed)
    runs = 0
    for packet in recorded:
        found = packet[0] == REQUEST and packet[3] == OPEN_SESSION.number
        if found:
            for each_sealed in recorded:
                if each_sealed[0] == SEALED_REQUEST:
                    bed.exchange(packet)
                    runs += _replay_all(bed, [each_sealed], "after a recorded open_session")
                    bed.live(SECOND_US)
    return runs


def _after_restart(bed):
    a_day(Programmer(bed, CLINICIAN))
    recorded = _both(bed)
    runs = 0
    for restart in range(3):
        bed.reboot()
        runs += _replay_all(bed, recorded, "after restart %d" % (restart + 1))
        bed.live(900_000)
    honest = Programmer(bed, CLINICIAN)
    honest.open()
    return runs + _replay_all(bed, recorded, "in a session after a restart")


def _reordered(bed):
    """The attacker holds requests back and lets later ones through first."""
    honest = Programmer(bed, CLINICIAN)
    honest.open()
    runs = 0
    for gap in (2, 3, 5):
        held = [honest.packet(GET_STATUS) for _ in range(gap)]
        before = bed.state()
        for packet in held[:0:-1]:
            refused(bed, packet, "a packet that skips %d" % gap)
            runs += 1
        for packet in held:
            if len(bed.exchange(packet)) != 1:
                raise Wrong("a packet in its turn is not answered")
        for packet in held[:-1]:
            refused(bed, packet, "an old packet")
            runs += 1
        bed.must_be(before)
    return runs


_REPLAYS = (
    _at_once,
    _later,
    _next_session,
    _before_it_proves_itself,
    _after_restart,
    _reordered,
)
