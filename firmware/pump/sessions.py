"""Who may talk to the pump: its keys, the session that is open, and who waits for one.

A role's key is 16 random octets, made when the role is first paired and kept on flash. Nothing
reads one back. One session is open at a time. It ends when its programmer closes it, when it has
been silent for three minutes, when another begins, and when its role's key is revoked. Another
begins when it has been silent for half a minute, or at once for who has it in a role that may no
less.
"""

import sys
from struct import pack, unpack

from pump.ccm import Ccm
from pump.journal import Damaged
from pump.prescription import Refusal
from pump_wire.messages import CLINICIAN, PATIENT, SERVICE, WIRE_VERSION
from pump_wire.session import FROM_PUMP, KEY, TAG, hkdf, nonce, session_info

_ROLES = (PATIENT, CLINICIAN, SERVICE)
_NONE = bytes(KEY)
_LAYOUT = "<" + "H16s" * len(_ROLES)  # generation and key of each
_NONCE_SIZE = 16

_END_US = 180_000_000  # of silence, and the session is over (SEC-8)
_YIELD_US = 30_000_000  # of silence, and another may have the pump
_WAIT_US = 10_000_000  # from open_session to the first sealed request
# After a failed authentication. No longer: a back-off is a way to lock others out (SEC-7).
_FIRST_US = 100_000
_MOST_US = 800_000
_RECORD_US = 600_000_000  # at most one record of failures in this time: flash wears


class Session:
    """``counter`` of the last request; ``heard_us``: when it came. ``asked``: what open_session
    carried. ``ccm``, ``id``: how its packets are sealed. ``closing``: it ends with this reply."""

    def __init__(self, asked, ours, key, now_us):
        self.role, self.who, _ = asked
        self.asked = asked
        self.ccm = Ccm(key[:KEY])
        self.id = ours[:8]
        self.number = self.id[0] | self.id[1] << 8
        self.counter = 0
        self.heard_us = now_us
        self.reply = {}
        self.closing = False


class Sessions:
    """One per pump. ``active``: the Session that is open, or None. ``button``: the board's, or
    None. ``on_end()``: called when a session begins or ends; ``on_keys()``, when a key was given
    out or revoked."""

    def __init__(self, pump_id, hashed, store, clock, entropy, button, log):
        self._pump_id = pump_id
        self._hash = hashed
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._button = button
        self._log = log
        self._keys = [(0, _NONE)] * len(_ROLES)
        self.active = None
        self._waiting = None  # a Session that has not proved itself
        self._streak = 0
        self._failures = 0
        self._barred_us = 0
        self._record_us = 0
        self.on_end = int  # nothing
        self.on_keys = int

    def load(self):
        """Read the keys. What is damaged is told, and nobody has one. Raises OSError."""
        try:
            raw = self._store.load()
            if raw:
                row = unpack(_LAYOUT, raw)
                self._keys = [row[at : at + 2] for at in range(0, len(row), 2)]
        except (Damaged, ValueError):
            self._log.note("keys_lost")

    def paired(self):
        """True if any role has a key."""
        return any(key != _NONE for _, key in self._keys)

    # -- the session that is open ---------------------------------------------------------------

    def find(self, number):
        """The Session of this number that a sealed request may be of, None if there is none."""
        now_us = self._clock.now_us()
        active = self.active
        if active and now_us - active.heard_us >= _END_US:
            self.end()
            active = None
        if active and active.number == number:
            return active
        waiting = self._waiting
        if waiting and now_us - waiting.heard_us < _WAIT_US and waiting.number == number:
            # The session that is open may have come to life again since this one was begun.
            if self._busy_us(waiting.role, waiting.who, now_us) <= 0:
                return waiting
        return None

    def _busy_us(self, role, who, now_us):
        """How long the session that is open still keeps ``who`` out, 0 and less: no more."""
        active = self.active
        if not active or (active.who == who and active.role <= role):
            return 0
        return active.heard_us + _YIELD_US - now_us

    def heard(self, session):
        """A request of ``session`` was authentic: if it waited, it is the one now."""
        session.counter += 1
        session.heard_us = self._clock.now_us()
        if session is not self.active:
            self.end()
            self._waiting = None
            self._streak = 0
            self.active = session

    def failed(self, session):
        """The tag of a request was wrong: logged, and for a while no other session is begun. One
        that is open or waits takes no harm from it: anybody can send a wrong tag."""
        now_us = self._clock.now_us()
        if session is not self.active:
            self._barred_us = now_us + min(_FIRST_US << min(self._streak, 8), _MOST_US)
            self._streak += 1
        self._failures += 1
        if now_us >= self._record_us:
            self._log.note("auth_failed", self._failures)
            self._failures = 0
            self._record_us = now_us + _RECORD_US

    def end(self):
        """No session is open, and what was prepared is void."""
        self.active = None
        self.on_end()

    # -- messages -------------------------------------------------------------------------------

    def open_session(self, values):
        asked = (values["role"], values["who"], values["nonce"])
        key = self._key(asked[0])
        now_us = self._clock.now_us()
        if now_us < self._barred_us:
            raise Refusal("backed_off", "", (self._barred_us - now_us + 999) // 1000)
        active = self.active
        left_us = self._busy_us(asked[0], asked[1], now_us)
        if left_us > 0:
            raise Refusal("busy", active.who, active.role, (left_us + 999) // 1000)
        waiting = self._waiting
        if waiting and waiting.asked == asked and now_us - waiting.heard_us < _WAIT_US:
            return waiting.reply  # sent again: the same session
        ours = self._entropy(_NONCE_SIZE)
        if active and ours[:2] == active.id[:2]:  # a number is one session's
            ours = self._entropy(_NONCE_SIZE)
        info = session_info(WIRE_VERSION, self._hash, self._pump_id, asked[0], asked[1].encode())
        session = Session(asked, ours, hkdf(key, asked[2] + ours, info), now_us)
        proof = bytearray(TAG)
        session.ccm.seal(nonce(session.id, FROM_PUMP, 0), proof, 0, 0)
        session.reply = {"nonce": ours, "proof": bytes(proof)}
        self._waiting = session
        return session.reply

    def close_session(self, _):
        if self.active:
            self.active.closing = True
        return {}

    def _key(self, role):
        key = self._keys[role >> 1][1] if role in _ROLES else _NONE
        if key == _NONE:
            raise Refusal("not_paired", "role", role)
        return key

    def get_keys(self, _):
        found = [generation if key != _NONE else 0 for generation, key in self._keys]
        return {"patient": found[0], "clinician": found[1], "service": found[2]}

    def revoke_key(self, values):
        role = values["role"]
        self._key(role)
        self._check_button()
        self._keep(role, self._keys[role >> 1][0], _NONE)
        self._log.append("key_revoked", role)
        self.on_keys()
        self._waiting = None
        if self.active and self.active.role == role:
            self.end()
        return {}

    async def pair(self, values):
        """The reply to PAIR. Takes a second on a Pico, and lets other tasks run meanwhile."""
        role = values["role"]
        if role not in _ROLES:
            raise Refusal("not_paired", "role", role)
        self._check_button()
        from pump import pairing

        try:
            public, agreed = await pairing.agree(self._entropy(32), values["public"])
        finally:
            del sys.modules["pump.pairing"]  # it is needed once in a pump's life
            del sys.modules["pump"].pairing  # pyright: ignore[reportAttributeAccessIssue]
        self._check_button()
        generation, key = self._keys[role >> 1]
        if key == _NONE:
            generation = min(generation + 1, 0xFFFF)
            key = self._entropy(KEY)
            self._keep(role, generation, key)
        self._log.append("paired", role)
        self.on_keys()
        return pairing.reply(
            role, generation, key, public, values["public"], agreed, self._pump_id, self._hash
        )

    def _keep(self, role, generation, key):
        keys = list(self._keys)
        keys[role >> 1] = (generation, key)
        row = []
        for pair in keys:
            row.extend(pair)
        self._store.commit(pack(_LAYOUT, *row))
        self._keys = keys

    def _check_button(self):
        if self._button is None or not self._button.pressed():
            raise Refusal("no_button")
