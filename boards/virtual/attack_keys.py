"""Attacks on keys (SEC-2): pairing without the button, or with a public key that gives the secret
away; a key of one role for another; a session that outlives its counters or its key.
"""

from attack_bed import (
    CLINICIAN,
    PATIENT,
    ROLES,
    SERVICE,
    Bed,
    Programmer,
    Wrong,
    encoded,
    open_packet,
    opened,
    seal,
)
from attack_session import each
from virtual_pump import SECOND_US

from pump_wire.messages import (
    CLEAR_LOGS,
    GET_STATUS,
    OPEN_SESSION,
    PAIR,
    PREPARE,
    REQUEST_BOLUS,
    REVOKE_KEY,
    SET_CLOCK,
    SILENCE,
    STOP,
)
from pump_wire.session import LAST_COUNTER, REFUSAL, REPLY

# X25519 public keys of small order, and what is equal to them modulo p: with one of these the
# shared secret is 0, whatever the pump's own key is. RFC 7748, section 6.1.
_P = (1 << 255) - 19
_SMALL = (
    0,
    1,
    _P - 1,
    _P,
    _P + 1,
    0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
    0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
)


class _Button:
    """Pressed so many times that the pump looks at it."""

    def __init__(self, looks):
        self._looks = looks

    def pressed(self):
        self._looks -= 1
        return self._looks >= 0


def keys(request, tell):
    """SEC-2: attack ``first`` to ``last`` of KEYS. No key is written, given out or worth more
    than its role."""

    def attack(number, seed):
        return KEYS[number % len(KEYS)](Bed(seed))

    each(request, tell, attack)


def _ask(bed, message, **values):
    """(kind, values) of the answer to an open request; None without one."""
    for reply in bed.exchange(open_packet(message.number, encoded(message, values))):
        found = opened(reply)
        if found:
            return found[0], found[2]
    return None


def _must_refuse(bed, message, names, **values):
    found = _ask(bed, message, **values)
    if found is None or found[0] != REFUSAL or found[1]["name"] not in names:
        raise Wrong("%s %r is answered with %r" % (message.name, values, found))


def _no_button(bed):
    before = bed.state()
    for button in (None, _Button(0)):
        bed.pump.app.sessions._button = button
        for role in (0, 1, 2, 3, 4):
            names = ("no_button", "not_paired", "below_limit", "above_limit", "bad_body")
            if role:
                _must_refuse(bed, PAIR, names, role=role, public=bed.octets(32))
                _must_refuse(bed, REVOKE_KEY, names, role=role)
    bed.must_be(before)
    return 16


def _small_order(bed):
    bed.pump.app.sessions._button = _Button(1 << 30)
    before = bed.state()
    for u in _SMALL:
        for high in (0, 1 << 255):  # a bit that does not count
            public = (u | high).to_bytes(32, "little")
            _must_refuse(bed, PAIR, ("bad_body",), role=CLINICIAN, public=public)
    bed.must_be(before)
    return 2 * len(_SMALL)


def _let_go(bed):
    """The button is let go while the keys are agreed on."""
    before = bed.state()
    for looks in (1,):
        bed.pump.app.sessions._button = _Button(looks)
        _must_refuse(bed, PAIR, ("no_button",), role=CLINICIAN, public=bed.octets(32))
    bed.must_be(before)
    return 1


def _paired_again(bed):
    """What one pairing said is nothing to the next, and no key is in it."""
    bed.pump.app.sessions._button = _Button(1 << 30)
    public = bed.octets(32)
    seen = set()
    for _ in range(3):
        kind, values = _ask(bed, PAIR, role=CLINICIAN, public=public)
        if kind != REPLY:
            raise Wrong("pairing is refused: %s" % values["name"])
        for name in ("public", "sealed_key"):
            if values[name] in seen:
                raise Wrong("the same %s in two pairings" % name)
            seen.add(values[name])
        for key in bed.keys.values():
            if key[:8] in values["sealed_key"] or key[:8] in values["public"]:
                raise Wrong("a key in clear")
    bed.pump.app.sessions._button = _Button(0)
    _must_refuse(bed, PAIR, ("no_button",), role=CLINICIAN, public=public)
    return 4


def _other_roles_key(bed):
    """A session asked for in one role and proved with another's key."""
    before = bed.state()
    runs = 0
    for asked in ROLES:
        for held in ROLES:
            if asked == held:
                continue
            thief = Programmer(bed, asked)
            own = bed.keys[asked]
            bed.keys[asked] = bed.keys[held]
            try:
                thief.open(prove=False)
                raise Wrong("the pump proves role %d under the key of %d" % (asked, held))
            except Wrong as wrong:
                if "proof" not in str(wrong):
                    raise
            finally:
                bed.keys[asked] = own
            packet = seal(thief.key, thief.id, 1, STOP.number, b"")
            for reply in bed.exchange(packet):
                found = opened(reply)
                if not found or found[0] != REFUSAL:
                    raise Wrong("role %d with the key of %d is answered" % (asked, held))
            bed.live(SECOND_US)
            runs += 1
    bed.must_be(before, runs)
    return runs


def _revoked(bed):
    """A key that was revoked opens nothing, and its session is over."""
    honest = Programmer(bed, CLINICIAN)
    honest.open()
    bed.pump.app.sessions._button = _Button(1 << 30)
    kind, _ = _ask(bed, REVOKE_KEY, role=CLINICIAN)
    if kind != REPLY:
        raise Wrong("it cannot be revoked")
    for reply in bed.exchange(honest.packet(GET_STATUS)):
        found = opened(reply)
        if not found or found[0] != REFUSAL:
            raise Wrong("the session of a revoked key is answered")
    for _ in range(2):
        _must_refuse(bed, OPEN_SESSION, ("not_paired",), role=CLINICIAN, who="x", nonce=bytes(16))
        bed.reboot()
    other = Programmer(bed, PATIENT)
    other.open()
    return 5


def _last_counter(bed):
    """A session ends before its counter could begin again."""
    honest = Programmer(bed, SERVICE)
    honest.open()
    bed.pump.app.sessions.active.counter = honest.counter = LAST_COUNTER - 2
    honest.ask(GET_STATUS)
    honest.ask(GET_STATUS)
    for counter in (LAST_COUNTER, 0, 1, 2):
        packet = seal(honest.key, honest.id, counter, GET_STATUS.number, b"")
        for reply in bed.exchange(packet):
            found = opened(reply)
            if not found or found[0] != REFUSAL:
                raise Wrong("counter %d is answered behind the last one" % counter)
    return 6


def _same_number(bed):
    """A new session whose number on the wire would be that of the open one, one in 65,536: it can
    be had all the same."""
    sessions = bed.pump.app.sessions
    pump_id = bed.pump.board.unique_id
    entropy = sessions._entropy
    runs = 0
    for role in ROLES:
        honest = Programmer(bed, CLINICIAN)
        honest.open()
        other = Programmer(bed, role)
        mine, theirs = bed.octets(16), bed.octets(16)
        other.derive(bed.keys[role], mine, theirs, pump_id)
        sessions.active.id = theirs[:8]
        sessions.active.number = theirs[0] | theirs[1] << 8
        drawn = [theirs]
        sessions._entropy = lambda count, drawn=drawn: drawn.pop() if drawn else entropy(count)
        bed.octets = lambda count, mine=mine: mine
        try:
            other.open()
        finally:
            del bed.octets
            sessions._entropy = entropy
        if drawn:
            raise Wrong("the pump's nonce comes from elsewhere")
        runs += 1
    return runs


def _who_reads(bed):
    """Nothing that an eavesdropper hears has a key of the pump in it, nor what was asked."""
    for role in ROLES:
        honest = Programmer(bed, role)
        honest.open()
        honest.ask(GET_STATUS)
    known = list(bed.keys.values()) + [honest.key]
    for _, packet in bed.heard:
        for key in known:
            for at in range(0, 9):
                if key[at : at + 8] in packet:
                    raise Wrong("half a key is on the line")
        if b"saline" in packet:
            raise Wrong("the therapy is on the line in clear")
    return len(bed.heard)


_NOISY = 400  # requests
_MOST_RECORDS = 24  # of them that the log takes down: it holds 3,000


def _noisy(bed):
    """Somebody with the patient's key asks again and again for what he may not, for boluses that
    he does not get and for silence while an alarm stands, in many sessions, also of a pump that
    is stopped: the log is not pushed out, and what waits for it stays small."""
    log = bed.pump.app.log
    for stopped in (False, True):
        if stopped:
            Programmer(bed, CLINICIAN).open()
            clinician = Programmer(bed, CLINICIAN)
            clinician.open()
            clinician.command(STOP)
        bed.pump.app.alarms.begin("low_reservoir")
        first = log.coming
        thief = Programmer(bed, PATIENT)
        thief.open()
        for number in range(_NOISY):
            if number % 10 == 9:
                thief = Programmer(bed, PATIENT)
                thief.open()
            message = (STOP, SET_CLOCK, CLEAR_LOGS, REQUEST_BOLUS, SILENCE)[number % 5]
            if message is SILENCE:
                thief.ask(SILENCE, silence_s=60)
                continue
            body = encoded(message, {})
            thief.ask(PREPARE, command=message.number, body=body)
        told = log.coming - first
        if told > _MOST_RECORDS:
            raise Wrong("%d records for %d requests that were refused" % (told, _NOISY))
    return 2 * _NOISY


KEYS = (
    _no_button,
    _small_order,
    _let_go,
    _paired_again,
    _other_roles_key,
    _revoked,
    _last_counter,
    _same_number,
    _who_reads,
    _noisy,
)
