"""The prescription: what the pump is to deliver, with its limits, and its stored form.

Ranges, in the units of the names: concentration_ng_ml 1 to 1e12; rate_nl_day 48,000 to 24,000,000
in multiples of 1,000 (0.048 to 24 mL/day in 0.001 mL/day, the range of implantable pumps in
PRODUCT.md), 0 unless the mode is simple continuous; capacity_nl 1e6 to 5e8; low_mark_nl 1e6 to
1e7.
"""

from binascii import crc32

from pump.journal import Damaged
from pump_wire.codec import MAX_BODY, decode, encode
from pump_wire.messages import (
    MINIMUM_RATE,
    REFUSAL,
    SET_PRESCRIPTION,
    SIMPLE_CONTINUOUS,
    STOPPED,
    STORED_PRESCRIPTION,
)

RATE_LOW_NL_DAY = 48_000
RATE_HIGH_NL_DAY = 24_000_000
RATE_STEP_NL_DAY = 1_000
MINIMUM_RATE_NL_DAY = 6_000  # PRODUCT.md: "a minimum rate near 0.006 mL/day"

_FIELDS = SET_PRESCRIPTION.request
# Numbers of a prescription with an odd weight each, no two alike: whatever one or two bits flip in
# them changes the weighted sum.
_WEIGHTS = tuple(
    (field[0], 2 * i + 3) for i, field in enumerate(_FIELDS) if field[1][0] in ("u", "i")
)


class Refusal(Exception):
    """A command the pump will not carry out. ``code`` is a key of REFUSALS."""

    def __init__(self, name, field="", value=0, limit=0):
        super().__init__(name)
        self.code = REFUSAL[name]
        self.field = field
        self.value = value
        self.limit = limit


def check(prescription):
    """Raise Refusal naming the field, its value and the limit if ``prescription`` cannot be
    run."""
    if not prescription["drug"].strip():
        raise Refusal("bad_text", "drug")
    rate = prescription["rate_nl_day"]
    if prescription["mode"] == SIMPLE_CONTINUOUS:
        if rate < RATE_LOW_NL_DAY:
            raise Refusal("below_limit", "rate_nl_day", rate, RATE_LOW_NL_DAY)
        if rate > RATE_HIGH_NL_DAY:
            raise Refusal("above_limit", "rate_nl_day", rate, RATE_HIGH_NL_DAY)
        if rate % RATE_STEP_NL_DAY:
            raise Refusal("not_multiple", "rate_nl_day", rate, RATE_STEP_NL_DAY)
    elif rate:
        raise Refusal("above_limit", "rate_nl_day", rate, 0)
    if prescription["low_mark_nl"] >= prescription["capacity_nl"]:
        raise Refusal(
            "above_limit", "low_mark_nl", prescription["low_mark_nl"], prescription["capacity_nl"]
        )


def basal_rate(prescription):
    """Basal rate in nL/day that the prescription asks for."""
    mode = prescription["mode"]
    if mode == STOPPED:
        return 0
    if mode == MINIMUM_RATE:
        return MINIMUM_RATE_NL_DAY
    return prescription["rate_nl_day"]


class PrescriptionStore:
    """The prescription in force and whether a command has halted it, in two durable copies.

    ``current``: dict of SET_PRESCRIPTION's fields, None before the first; nobody changes it.
    ``halted``: True after stop until resume, also across a restart. Both are in memory under a
    CRC, and their numbers under a sum that costs less: ``check`` comes before they are used,
    ``check_doses`` before each segment.
    """

    def __init__(self, copies):
        self._copies = copies
        self.current = None
        self.halted = False
        self._seal()

    @property
    def sequence(self):
        return self._copies.sequence

    @property
    def mended(self):
        """True if one stored copy had to be written anew at the start."""
        return self._copies.mended

    def _seal(self):
        self._crc = crc32(str((self.current, self.halted)))
        self._sum = self._doses()

    def _doses(self):
        current = self.current
        total = 1 if self.halted is True else 0 if self.halted is False else -1
        if current is not None:
            for name, weight in _WEIGHTS:
                total += weight * current[name]
        return total

    def check_doses(self):
        """Raise Damaged when a number in memory is not what was committed or read."""
        if self._doses() != self._sum:
            raise Damaged("prescription in memory")

    def is_whole(self):
        """False when what is in memory is not what was committed or read."""
        if self._doses() != self._sum:
            return False
        return crc32(str((self.current, self.halted))) == self._crc

    def check(self):
        """Raise Damaged when what is in memory is not what was committed or read."""
        if not self.is_whole():
            raise Damaged("prescription in memory")

    def load(self):
        """Read what is stored. Raises Damaged when neither copy is whole, ValueError when it does
        not decode; ``halted`` is True then, as it may have been."""
        self.halted = True
        self._seal()
        raw = self._copies.load()
        if raw is None:
            self.halted = False
        else:
            values = decode(STORED_PRESCRIPTION, raw)
            self.halted = bool(values.pop("halted"))
            self.current = values
        self._seal()

    def commit(self, prescription, halted):
        """Make ``prescription`` and ``halted`` durable, then current. Raises OSError if it fails,
        Damaged when it is the present one and no longer whole. Where ``halted`` may be damaged
        it counts as True."""
        if prescription is self.current:
            self.check()
        elif not self.is_whole():
            halted = True
        stored = dict(prescription)
        stored["halted"] = int(halted)
        buffer = bytearray(MAX_BODY)
        end = encode(STORED_PRESCRIPTION, stored, buffer)
        self._copies.commit(bytes(buffer[:end]))
        self.current = prescription
        self.halted = halted
        self._seal()
