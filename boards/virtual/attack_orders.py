"""Attacks on commands: tokens (SEC-5), floods (SEC-7), a line that is cut (INP-5); what tells of
them (SEC-8); and an honest day, which must hold.
"""

from struct import unpack

from attack_bed import (
    CLINICIAN,
    PATIENT,
    SERVICE,
    Bed,
    Programmer,
    Wrong,
    difference,
    encoded,
    framed,
    lowest,
    open_packet,
    packets,
    seal,
)
from attack_session import each
from virtual_pump import SECOND_US, STEP_PL

from pump_wire.messages import (
    CANCEL_BOLUS,
    CLEAR_LOGS,
    CLOSE_SESSION,
    CONFIRM,
    EVENT_FORMAT,
    GET_STATUS,
    HELLO,
    OPEN_SESSION,
    PREPARE,
    RECORD_REFILL,
    REQUEST_BOLUS,
    RESUME,
    RESUME_BRIDGE,
    SET_ALARM_INTERVALS,
    SET_CLOCK,
    SET_PRESCRIPTION,
    START_BOLUS,
    START_PRIME,
    STOP,
    TABLE,
)
from pump_wire.session import REPLY

_TOKEN_US = 30 * SECOND_US
_OLD_RATE = 8_640_000  # a step a second
_NEW_RATE = 17_280_000
_HALF_RATE = 4_320_000
_OLD_NG_ML = 500_000
_WATCHED_US = 20 * SECOND_US


# -- what is ordered ---------------------------------------------------------------------------


def _prescription(bed, rate):
    values = dict(bed.pump.app.store.current)
    values["rate_nl_day"] = values["total_nl"] = rate
    values["agreed"] = 1  # a change of more than 20 %, its total typed
    names = [field[0] for field in SET_PRESCRIPTION.request]
    for name in list(values):
        if name not in names:
            del values[name]
    return values


def _nothing(bed, honest):
    pass


def _with_bolus(bed, honest):
    honest.command(START_BOLUS, volume_nl=10_000, duration_us=50 * SECOND_US)


def _with_stop(bed, honest):
    honest.command(STOP)


def _prescribed(bed, **values):
    """The prescription is changed by ``values``, behind the link."""
    whole = _prescription(bed, values.get("rate_nl_day", _OLD_RATE))
    whole.update(values)
    bed.pump.command(SET_PRESCRIPTION, **whole)


def _for_patient(bed, honest):
    if not bed.pump.app.store.current["patient_nl"]:
        _prescribed(bed, patient_nl=10_000, patient_s=50, lockout_s=51, patient_max=24)


def _with_tubing(bed, honest):
    if not bed.pump.app.store.current["tubing_nl"]:
        _prescribed(bed, tubing_nl=140_000, catheter_nl=176_000)


def _with_bridge_cancelled(bed, honest):
    """Twice the concentration at half the rate, of which the bridge bolus was cancelled."""
    _with_tubing(bed, honest)
    if bed.pump.app.store.current["concentration_ng_ml"] == _OLD_NG_ML:
        _prescribed(bed, concentration_ng_ml=2 * _OLD_NG_ML, rate_nl_day=_HALF_RATE, bridge=1)
    if bed.pump.mode == "bridge_bolus":
        honest.command(CANCEL_BOLUS)


def _back_to_basal(bed, honest, rate):
    """The programme of ``rate`` runs again."""
    if bed.pump.app.delivery.bolus_pl:
        honest.command(CANCEL_BOLUS)
    if bed.pump.app.store.halted:
        honest.command(RESUME)
    if bed.pump.app.store.current["rate_nl_day"] != rate:
        honest.command(SET_PRESCRIPTION, **_prescription(bed, rate))


_BOLUS = {"volume_nl": 10_000, "duration_us": 50 * SECOND_US}
# message, role, what comes before, values, event that tells of it, steps in _WATCHED_US if it is
# not carried out and if it is
_WAYS = (
    (
        SET_PRESCRIPTION,
        CLINICIAN,
        _nothing,
        lambda bed: _prescription(bed, _NEW_RATE),
        "prescription_committed",
        20,
        40,
    ),
    (
        START_BOLUS,
        CLINICIAN,
        _nothing,
        lambda bed: _BOLUS,
        "bolus_started",
        20,
        40,
    ),
    (CANCEL_BOLUS, CLINICIAN, _with_bolus, lambda bed: {}, "bolus_ended_early", 40, 20),
    (STOP, CLINICIAN, _nothing, lambda bed: {}, "delivery_stopped", 20, 0),
    (RESUME, CLINICIAN, _with_stop, lambda bed: {}, "delivery_resumed", 0, 20),
    (
        RECORD_REFILL,
        CLINICIAN,
        _nothing,
        lambda bed: {"measured_nl": 0, "fill_nl": 19_000_000, "reason": "attack"},
        "refill_recorded",
        20,
        20,
    ),
    (
        SET_CLOCK,
        CLINICIAN,
        _nothing,
        lambda bed: {"wall_s": 1_800_000_000},
        "clock_set",
        20,
        20,
    ),
    (CLEAR_LOGS, SERVICE, _nothing, lambda bed: {}, "logs_cleared", 20, 20),
    (REQUEST_BOLUS, PATIENT, _for_patient, lambda bed: {}, "patient_granted", 20, 40),
    (START_PRIME, CLINICIAN, _with_tubing, lambda bed: _BOLUS, "prime_started", 20, 40),
    (RESUME_BRIDGE, CLINICIAN, _with_bridge_cancelled, lambda bed: {}, "bridge_resumed", 10, 20),
    (
        SET_ALARM_INTERVALS,
        CLINICIAN,
        _nothing,
        lambda bed: {"critical_s": 300, "other_s": 1_800},
        "alarm_intervals_set",
        20,
        20,
    ),
)


def _orders():
    """The way of every message of the table that moves drug or settings."""
    ways = {way[0].number: way for way in _WAYS}
    found = []
    for message in TABLE:
        if message.prepared:
            if message.number not in ways:
                raise Wrong("%s moves drug or settings: say in _WAYS how" % message.name)
            found.append(ways[message.number])
    return found


ORDERS = _orders()


class Order:
    """Order ``number`` on a new pump, up to where it would be prepared."""

    def __init__(self, number, seed):
        row = ORDERS[number % len(ORDERS)]
        self.message, self.role, lead, values, self.event, self.old_steps, self.new_steps = row
        self.bed = Bed(seed)
        honest = Programmer(self.bed, CLINICIAN)
        honest.open()
        lead(self.bed, honest)
        self.lead = lead
        self.basal = self.bed.pump.app.store.current["rate_nl_day"]
        self.values = values(self.bed)
        self.begin()

    def begin(self):
        """A new session in the order's role."""
        self.honest = Programmer(self.bed, self.role)
        self.honest.open()
        self.first = self.bed.pump.app.log.coming

    def prepare(self):
        return self.honest.prepare(self.message, **self.values)

    def times(self):
        """How often the log tells that it was carried out."""
        self.bed.pump.app.log.flush()
        return self.bed.pump.event_names(self.first).count(self.event)

    def watch(self, carried_out, what):
        """The plant sees the old or the new delivery for a while, with no pause."""
        bed = self.bed
        before = bed.pump.steps
        bed.live(_WATCHED_US)
        moved = bed.pump.steps - before
        due = self.new_steps if carried_out else self.old_steps
        if abs(moved - due) > (1 if carried_out or self.lead is not _nothing else 0):
            raise Wrong("%s, %s: %d steps, not %d" % (self.message.name, what, moved, due))


def honest(request, tell):
    """No attack: orders ``first`` to ``last`` are carried out, once each."""

    def day(number, seed):
        order = Order(number, seed)
        order.honest.ask(CONFIRM, token=order.prepare())
        if order.times() != 1:
            raise Wrong("%s was carried out %d times" % (order.message.name, order.times()))
        order.watch(True, "carried out")
        return 1

    each(request, tell, day)


# -- SEC-8 -------------------------------------------------------------------------------------


def announced(request, tell):
    """SEC-8: orders ``first`` to ``last``: a tone within a second of what is carried out, and none
    for what is only prepared; the log has whose command it was."""

    def attack(number, seed):
        order = Order(number, seed)
        bed = order.bed
        bed.live(10 * SECOND_US)  # what led here was announced too
        quiet = len(bed.pump.tones())
        token = order.prepare()
        bed.live(SECOND_US)
        name = order.message.name
        if len(bed.pump.tones()) != quiet:
            raise Wrong("%s sounds when it is prepared" % name)
        at_us = bed.pump.now_us
        kind, reply = order.honest.ask(CONFIRM, token=token)
        if kind != REPLY:
            raise Wrong("%s is refused as %s" % (name, reply["name"]))
        bed.live(SECOND_US)
        heard = [us for us, hz in bed.pump.tones()[quiet:] if hz]
        if not heard or heard[0] - at_us > SECOND_US:
            raise Wrong("%s is carried out in silence" % name)
        row = unpack(EVENT_FORMAT, bed.pump.app.log.read(reply["event"], 1)[:-4])
        if (row[2] >> 1, row[3]) != (order.role, token[0] | token[1] << 8):
            raise Wrong("%s: its record is of role %d, cause %d" % (name, row[2] >> 1, row[3]))
        return 1

    each(request, tell, attack)


# -- SEC-5 -------------------------------------------------------------------------------------


def tokens(request, tell):
    """SEC-5: order ``number`` modulo how many there are, with the attack of TOKENS that is
    ``number`` divided by that, between prepare and confirm. It is not carried out, or with those
    that leave it whole once and exactly."""

    def attack(number, seed):
        order = Order(number, seed)
        what, act, times = TOKENS[number // len(ORDERS) % len(TOKENS)]
        before = order.bed.state()
        runs = act(order)
        if order.times() != times:
            raise Wrong(
                "%s, %s: carried out %d times, not %d"
                % (order.message.name, what, order.times(), times)
            )
        if not times and what not in _TIME_PASSES:
            order.bed.must_be(before)
        return runs

    each(request, tell, attack)


def _refused_token(programmer, token, what):
    kind, values = programmer.ask(CONFIRM, token=token)
    if kind == REPLY:
        raise Wrong("%s: the token is taken" % what)
    return values["name"]


def _changed_token(order):
    token = bytearray(order.prepare())
    for bit in range(64):
        token[bit >> 3] ^= 1 << (bit & 7)
        _refused_token(order.honest, bytes(token), "bit %d flipped" % bit)
        token[bit >> 3] ^= 1 << (bit & 7)
    for count in range(8):
        try:
            body = bytes(token[:count])
            order.honest.counter += 1
            packet = seal(
                order.honest.key, order.honest.id, order.honest.counter, CONFIRM.number, body
            )
            order.honest.answer(order.bed.exchange(packet))
        except Wrong:
            pass
    return 72


def _late(order):
    token = order.prepare()
    order.bed.live(_TOKEN_US + 1)
    name = _refused_token(order.honest, token, "late")
    if name != "token_expired":
        raise Wrong("late, and refused as %s" % name)
    return 1


def _in_time(order):
    token = order.prepare()
    order.bed.live(_TOKEN_US)
    kind, values = order.honest.ask(CONFIRM, token=token)
    if kind != REPLY:
        raise Wrong("in time, and refused as %s" % values["name"])
    return 1


def _twice(order):
    token = order.prepare()
    first = order.honest.ask(CONFIRM, token=token)
    for _ in range(3):
        again = order.honest.ask(CONFIRM, token=token)
        if again[0] == REPLY and again != first:
            raise Wrong("the same token is answered as another command")
    _refused_token(order.honest, order.bed.octets(8), "another token")
    order.watch(True, "confirmed twice")
    return 4


def _other_session(order):
    token = order.prepare()
    order.begin()
    _refused_token(order.honest, token, "another session")
    return 1


def _other_role(order):
    token = order.prepare()
    first = order.first
    for role in (PATIENT, SERVICE, CLINICIAN):
        other = Programmer(order.bed, role)
        other.open()
        _refused_token(other, token, "role %d" % role)
    order.first = first
    return 3


def _closed_session(order):
    token = order.prepare()
    order.honest.ask(CLOSE_SESSION)
    order.begin()
    _refused_token(order.honest, token, "a session that was closed and opened")
    return 1


def _after_restart(order):
    token = order.prepare()
    order.bed.reboot()
    honest = Programmer(order.bed, order.role)
    honest.open()
    _refused_token(honest, token, "a restart")
    return 1


def _prepared_over(order):
    """Another command is prepared in between: the first token is worth nothing."""
    token = order.prepare()
    other = SET_CLOCK if order.message is not SET_CLOCK else STOP
    values = {"wall_s": 1_900_000_000} if other is SET_CLOCK else {}
    if order.role == CLINICIAN:
        order.honest.prepare(other, **values)
    else:
        order.prepare()
    _refused_token(order.honest, token, "something else was prepared")
    return 1


def _prepared_badly(order):
    """A prepare that is refused in between leaves nothing of the first to an attacker's choice:
    the token still means the first command's octets, or nothing."""
    order.prepare()
    for message in (START_BOLUS, SET_PRESCRIPTION, SET_CLOCK):
        body = b"\xff" * 17
        order.honest.ask(PREPARE, command=message.number, body=body)
    token = order.prepare()
    order.honest.ask(CONFIRM, token=token)
    order.watch(True, "confirmed")
    return 1


def _bare(order):
    """The command itself, not prepared."""
    honest = order.honest
    honest.counter += 1
    body = encoded(order.message, order.values)
    honest.answer(
        order.bed.exchange(seal(honest.key, honest.id, honest.counter, order.message.number, body))
    )
    order.bed.exchange(open_packet(order.message.number, body))
    return 2


def _open_confirm(order):
    """The token is right, and whoever sends it is not authenticated."""
    token = order.prepare()
    order.bed.exchange(open_packet(CONFIRM.number, token))
    order.bed.exchange(open_packet(CONFIRM.number, token, kind=REPLY))
    return 2


def _hello_between(order):
    """Whoever is not authenticated talks in between; the promise holds, and is kept once."""
    token = order.prepare()
    order.bed.exchange(open_packet(HELLO.number, b""))
    asked = lowest(OPEN_SESSION)
    for who in ("attacker", "honest"):
        asked["who"] = who
        asked["role"] = CLINICIAN
        order.bed.exchange(open_packet(OPEN_SESSION.number, encoded(OPEN_SESSION, asked)))
    order.honest.ask(GET_STATUS)
    kind, values = order.honest.ask(CONFIRM, token=token)
    if kind != REPLY:
        raise Wrong("an attacker's hello has it refused as %s" % values["name"])
    return 1


_TIME_PASSES = ("too late", "after a restart")
# what, the attack, how often the order is carried out
TOKENS = (
    ("changed token", _changed_token, 0),
    ("too late", _late, 0),
    ("in time", _in_time, 1),
    ("twice", _twice, 1),
    ("in another session", _other_session, 0),
    ("in another role", _other_role, 0),
    ("in a session closed meanwhile", _closed_session, 0),
    ("after a restart", _after_restart, 0),
    ("prepared over", _prepared_over, 0),
    ("prepared badly in between", _prepared_badly, 1),
    ("not prepared", _bare, 0),
    ("confirmed by nobody", _open_confirm, 0),
    ("an attacker's hello in between", _hello_between, 1),
)


# -- SEC-7 -------------------------------------------------------------------------------------

_OCTETS_A_S = 11_520  # 115,200 baud, ten bits an octet
_SLICE_US = 20_000
_RECOVERED_US = SECOND_US
_TRY_EVERY_US = 50_000
_HONEST_EVERY = 10  # s
_LOW_MARK_NL = 2_000_000  # of ``virtual_pump.running``
_TOLD_OF_A_FLOOD = ("auth_failed", "low_reservoir", "alarm_raised")


def _noise(bed, honest, number):
    return bed.octets(64) if number % 32 == 0 else None


def _flags(bed, honest, number):
    return b"\x7e" * 64


def _escapes(bed, honest, number):
    return b"\x7e" + b"\x7d" * 30 + b"\x7e\x7d\x7e"


def _endless(bed, honest, number):
    return b"U" * 300


def _good_frames(bed, honest, number):
    return framed(bed.octets(12)) if number % 16 == 0 else None


def _hellos(bed, honest, number):
    return framed(open_packet(HELLO.number, b"", number & 0xFFFF))


def _handshakes(bed, honest, number):
    asked = {"role": CLINICIAN, "who": "attacker", "nonce": bed.octets(16)}
    return framed(open_packet(OPEN_SESSION.number, encoded(OPEN_SESSION, asked), number & 0xFFFF))


def _failures(bed, honest, number):
    """Sessions begun as the honest programmer, and then proved wrongly."""
    if number & 1:
        waiting = bed.pump.app.sessions._waiting
        session = waiting.id if waiting else bytes(8)
        return framed(seal(bytes(16), session, 1, GET_STATUS.number, b""))
    asked = {"role": CLINICIAN, "who": "honest", "nonce": bed.octets(16)}
    return framed(open_packet(OPEN_SESSION.number, encoded(OPEN_SESSION, asked), number & 0xFFFF))


def _forgeries(bed, honest, number):
    """The right session and counter, a wrong tag: all that is checked before the cipher."""
    return framed(seal(bytes(16), honest.id, honest.counter + 1, GET_STATUS.number, b""))


FLOODS = (
    ("noise", _noise),
    ("flags", _flags),
    ("escapes", _escapes),
    ("a frame without an end", _endless),
    ("good frames of noise", _good_frames),
    ("hello", _hellos),
    ("open_session", _handshakes),
    ("failed authentication", _failures),
    ("forged packets", _forgeries),
)


def flood(request, tell):
    """SEC-7: flood ``first`` to ``last`` of FLOODS for ``seconds`` at line rate. Every pulse comes
    in its microsecond; half-way the reservoir gets low, which is heard within a second (ALM-5);
    the session that is open goes on meanwhile; a second after the end a new one can be had."""

    def attack(number, seed):
        return _flood(FLOODS[number % len(FLOODS)], seed, request["seconds"])

    each(request, tell, attack)


def _flood(kind, seed, seconds):
    what, make = kind
    bed = Bed(seed)
    honest = Programmer(bed, CLINICIAN)
    honest.open()
    honest.ask(GET_STATUS)
    to_mark = max(1, seconds // 2)
    bed.pump.refill(_LOW_MARK_NL + to_mark * STEP_PL // 1_000)
    before = bed.state()
    bed.live(SECOND_US // 2)
    began_us = bed.pump.now_us
    owed = sent = number = 0
    piece = b""
    for slice_ in range(seconds * SECOND_US // _SLICE_US):
        owed += _OCTETS_A_S * _SLICE_US // SECOND_US
        out = []
        while owed > 0:
            made = make(bed, honest, number)
            piece = piece if made is None else made
            number += 1
            owed -= len(piece)
            sent += len(piece)
            out.append(piece)
        bed.send(b"".join(out), _SLICE_US)
        due = slice_ % (_HONEST_EVERY * SECOND_US // _SLICE_US) == 0
        if due and honest.ask(GET_STATUS)[0] != REPLY:
            raise Wrong("%s: the open session is not answered" % what)
    _check_pulses(bed, began_us, what)
    _check_alarm(bed, began_us, to_mark, what)
    why = difference(before, bed.state(), bed.pump.steps - before[1])
    odd = [name for name in bed.pump.event_names(before[3]) if name not in _TOLD_OF_A_FLOOD]
    if why or odd:
        raise Wrong("%s: %s; the log tells of %r" % (what, why, odd))
    waited = 0
    bed.heard = []
    other = Programmer(bed, CLINICIAN)
    while not other.open(must=False):
        bed.live(_TRY_EVERY_US)
        waited += _TRY_EVERY_US
        if waited > _RECOVERED_US:
            raise Wrong("%s: no session a second after its end" % what)
    if other.ask(GET_STATUS)[1]["fault"]:
        raise Wrong("%s: a fault is latched" % what)
    return sent


def _check_alarm(bed, began_us, to_mark, what):
    """A tone begins within a second of the ``to_mark``-th pulse."""
    pulses = [at for at in bed.pump.pulses() if at > began_us]
    low_us = pulses[to_mark - 1]
    heard = [us for us, hz in bed.pump.tones() if hz and us >= low_us]
    if not heard or heard[0] > low_us + SECOND_US:
        raise Wrong("%s: low at %d us, heard at %r" % (what, low_us, heard[:1]))


def _check_pulses(bed, began_us, what):
    """A pulse every second, to the microsecond."""
    last = None
    count = 0
    for at in bed.pump.pulses():
        if at < began_us:
            continue
        if last is not None and at - last != SECOND_US:
            raise Wrong("%s: %d us between two pulses" % (what, at - last))
        last = at
        count += 1
    due = (bed.pump.now_us - began_us) // SECOND_US
    if not due <= count <= due + 1:
        raise Wrong("%s: %d pulses, %d are due" % (what, count, due))


# -- INP-5 -------------------------------------------------------------------------------------


def cuts(request, tell):
    """INP-5: order ``number`` over a line that is cut at every octet to the pump, or every
    ``stride``-th. It is carried out exactly or not at all, and delivery does not pause."""

    def attack(number, seed):
        order = Order(number, seed)
        runs = 0
        cut = request["seed"] % request["stride"]
        while _cut(order, cut):
            runs += 1
            cut += request["stride"]
        return runs

    each(request, tell, attack)


class _CutLine:
    """Lets ``left`` octets through to the pump."""

    def __init__(self, bed, left):
        self.bed = bed
        self.left = left
        self.whole = True

    def exchange(self, packet):
        frame = framed(packet)
        passed = frame[: self.left]
        self.left -= len(passed)
        self.whole = len(passed) == len(frame)
        return self.bed.send(passed)


class _LineGone(Exception):
    pass


class _OnCutLine(Programmer):
    line = None

    def _exchange(self, packet):
        octets = self.line.exchange(packet)
        if not self.line.whole:
            raise _LineGone()
        return packets(octets)


def _cut(order, cut):
    """One procedure with the line cut at octet ``cut``; False when that lies behind its end."""
    bed = order.bed
    what = "cut at octet %d" % cut
    line = _CutLine(bed, cut)
    honest = _OnCutLine(bed, order.role)
    honest.line = line
    order.first = bed.pump.app.log.coming
    before = bed.state()
    gone = False
    try:
        honest.open()
        honest.ask(GET_STATUS)
        token = honest.prepare(order.message, **order.values)
        honest.ask(CONFIRM, token=token)
    except _LineGone:
        gone = True
    times = order.times()
    if times > 1 or (not gone and times != 1):
        raise Wrong("%s: carried out %d times" % (what, times))
    if not times:
        bed.must_be(before)
    order.watch(times == 1, what)
    if order.times() != times:
        raise Wrong("%s: carried out later" % what)
    fault = bed.pump.fault
    if fault:
        raise Wrong("%s: fault %s" % (what, fault))
    again = Programmer(bed, CLINICIAN)
    again.open()
    _back_to_basal(bed, again, order.basal)
    order.lead(bed, again)
    if order.message is SET_PRESCRIPTION:
        order.values = _prescription(bed, _NEW_RATE)
    bed.live(SECOND_US // 4)
    return gone
