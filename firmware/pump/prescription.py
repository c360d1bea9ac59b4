"""The prescription: what the pump is to deliver, with its limits, and its stored form.

Fields, units and ranges are those of SET_PRESCRIPTION; rates are 48,000 to 24,000,000 nL/day in
multiples of 1,000 (0.048 to 24 mL/day in 0.001 mL/day, the range of implantable pumps in
PRODUCT.md), or 6,000, the minimum rate. ``parts`` holds what its fields cannot: flex patterns and
further drugs, each as number, length, octets (see write_part).
"""

from binascii import crc32

from pump.journal import Damaged
from pump_wire.codec import decode, encode
from pump_wire.messages import MINIMUM_RATE, REFUSAL, STOPPED, STORED_PRESCRIPTION

RATE_LOW_NL_DAY = 48_000
RATE_HIGH_NL_DAY = 24_000_000
RATE_STEP_NL_DAY = 1_000
MINIMUM_RATE_NL_DAY = 6_000  # PRODUCT.md: "a minimum rate near 0.006 mL/day"

_MOST_STORED = 900  # octets: the fields, 7 patterns of 13 steps and 3 drugs are 770
_STATE = ("halted", "utc_offset_min", "bridge", "bridge_rate", "bridge_to")
# Numbers of a prescription. Each gets an odd weight, no two alike: whatever one or two bits flip
# in them changes the weighted sum.
_NUMBERS = tuple(
    field[0]
    for field in STORED_PRESCRIPTION
    if field[1][0] in ("u", "i") and field[0] not in _STATE
)
NONE = (0, 0, 0, "")  # no bridge bolus


class Refusal(Exception):
    """A command the pump will not carry out. ``code`` is a key of REFUSALS."""

    def __init__(self, name, field="", value=0, limit=0):
        super().__init__(name)
        self.code = REFUSAL[name]
        self.field = field
        self.value = value
        self.limit = limit


def basal_rate(prescription):
    """Basal rate in nL/day that the prescription asks for."""
    mode = prescription["mode"]
    if mode == STOPPED:
        return 0
    if mode == MINIMUM_RATE:
        return MINIMUM_RATE_NL_DAY
    return prescription["rate_nl_day"]


def find_part(parts, number):
    """Octets of part ``number``, b"" when it is not there."""
    at = 0
    while at < len(parts):
        end = at + 2 + parts[at + 1]
        if parts[at] == number:
            return parts[at + 2 : end]
        at = end
    return b""


class PrescriptionStore:
    """The prescription in force and what goes with it, in two durable copies.

    ``current``: dict of GET_PRESCRIPTION's fields and ``parts``, None before the first; nobody
    changes it. ``halted``: True after stop until resume, also across a restart. ``bridge``: (0
    none, 1 runs, 2 cancelled; rate in nL/day; steps since manufacture at which it is over; why
    there was none). ``utc_offset_min``: local time - UTC. All are in memory under a CRC, and their
    numbers under a sum that costs less: ``check`` comes before they are used, ``check_doses``
    before each segment.
    """

    def __init__(self, copies):
        self._copies = copies
        self.current = None
        self.halted = False
        self.bridge = NONE
        self.utc_offset_min = 0
        self._seal()

    @property
    def sequence(self):
        return self._copies.sequence

    @property
    def mended(self):
        """True if one stored copy had to be written anew at the start."""
        return self._copies.mended

    def _all(self):
        return crc32(str((self.current, self.halted, self.bridge, self.utc_offset_min)))

    def _seal(self):
        self._crc = self._all()
        self._sum = self._doses()

    def _doses(self):
        total = 1 if self.halted is True else 0 if self.halted is False else -1
        total += 3 * self.bridge[0] + 5 * self.bridge[1] + 7 * self.bridge[2]
        total += 9 * self.utc_offset_min
        if self.current is not None:
            weight = 11
            for name in _NUMBERS:
                total += self.current[name] * weight
                weight += 2
            if crc32(self.current["parts"]) != self.current["parts_crc"]:
                total = -1
        return total

    def check_doses(self):
        """Raise Damaged when a number in memory is not what was committed or read."""
        if self._doses() != self._sum:
            raise Damaged("prescription in memory")

    def is_whole(self):
        """False when what is in memory is not what was committed or read."""
        return self._doses() == self._sum and self._all() == self._crc

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
            self.utc_offset_min = values.pop("utc_offset_min")
            self.bridge = (
                values.pop("bridge"),
                values.pop("bridge_rate"),
                values.pop("bridge_to"),
                values.pop("why"),
            )
            self.current = values
        self._seal()

    def set_zone(self, utc_offset_min):
        """Keep the time zone, durably once there is a prescription; False when it is as before.
        Raises OSError, Damaged."""
        if utc_offset_min == self.utc_offset_min:
            return False
        if self.current is None:
            self.utc_offset_min = utc_offset_min
            self._seal()
        else:
            self.commit(self.current, self.halted, None, utc_offset_min)
        return True

    def commit(self, prescription, halted, bridge=None, utc_offset_min=None):
        """Make ``prescription``, ``halted`` and, where given, ``bridge`` and ``utc_offset_min``
        durable, then current. Raises OSError if it fails, Damaged when it is the present one and
        no longer whole. Where ``halted`` may be damaged it counts as True."""
        if prescription is self.current:
            self.check()
        elif not self.is_whole():
            halted = True
            bridge = bridge or NONE
        if bridge is None:
            bridge = self.bridge
        if utc_offset_min is None:
            utc_offset_min = self.utc_offset_min
        stored = dict(prescription)
        stored["halted"] = int(halted)
        stored["utc_offset_min"] = utc_offset_min
        stored["bridge"], stored["bridge_rate"], stored["bridge_to"], stored["why"] = bridge
        buffer = bytearray(_MOST_STORED)
        end = encode(STORED_PRESCRIPTION, stored, buffer)
        self._copies.commit(bytes(buffer[:end]))
        self.current = prescription
        self.halted = halted
        self.bridge = bridge
        self.utc_offset_min = utc_offset_min
        self._seal()
