"""Two bits flip in what sets a dose, in memory or in the stored copies (FLT-4). Run by
``cisterna bench flips``.

On stdin: one JSON object with ``seed``, ``first``, ``last``: numbers of flips, each random by seed
and number alone. Prints a JSON object a line: {"n", "why", "where"}, then {"end"}. The working
directory is the runner's own. Every ``_WHOLE_EVERY``-th flip in memory is given to a whole pump,
which must stop before its next segment and say why; the others ask the checks that come before
each segment.
"""

import json
import sys

from random_numbers import Random
from virtual_pump import HOUR_US, ROOT, SECOND_US, running

from pump.journal import Damaged, TwoCopies
from pump.prescription import PrescriptionStore

_RATE = 7_654_000
_WHOLE_EVERY = 50
_FIELDS = ("rate_nl_day", "concentration_ng_ml", "mode", "capacity_nl", "low_mark_nl")
_NUMBERS = ("rate", "spacing", "_left", "_guard", "_left_guard")
_FIELD_BITS = 40
_NUMBER_BITS = 62
_PATHS = (ROOT + "/prescription.0", ROOT + "/prescription.1")


def tell(**values):
    print(json.dumps(values))


class Flips:
    """A pump in a bolus, and flips in it that are taken back."""

    def __init__(self):
        self.pump = running(_RATE)
        with open(_PATHS[0], "rb") as file:
            self.good = file.read()
        self._in_bolus()
        self.wanted = dict(self.pump.app.store.current)

    def _in_bolus(self):
        self.pump.advance(SECOND_US)
        self.pump.bolus(10_000, 50 * SECOND_US)
        self.pump.advance(SECOND_US)

    def place(self, random):
        """(kind, name, bit) of a random bit in memory."""
        if random.below(2):
            return "field", _FIELDS[random.below(len(_FIELDS))], random.below(_FIELD_BITS)
        return "number", _NUMBERS[random.below(len(_NUMBERS))], random.below(_NUMBER_BITS)

    def flip(self, kind, name, bit):
        app = self.pump.app
        if kind == "field":
            app.store.current[name] ^= 1 << bit
        else:
            setattr(app.schedule, name, getattr(app.schedule, name) ^ 1 << bit)

    def in_memory(self, places):
        """Why it is wrong, "" when the checks see it and see nothing once it is taken back."""
        app = self.pump.app
        for place in places:
            self.flip(*place)
        seen = not (app.store.is_whole() and app.schedule.is_whole())
        for place in places:
            self.flip(*place)
        if not (app.store.is_whole() and app.schedule.is_whole()):
            return "seen where there is none"
        return "" if seen else "not seen"

    def in_pump(self, places):
        """The same for a pump that runs on: it stops, and says why."""
        pump = self.pump
        for place in places:
            self.flip(*place)
        queued = pump.app.schedule.issued - pump.stepper.emitted()
        before = pump.steps
        pump.advance(HOUR_US)
        moved = pump.steps - before
        fault = pump.fault
        pump.restart()
        restored = pump.app.store.current == self.wanted
        self._in_bolus()
        if moved > queued:
            return "%d steps, %d were queued" % (moved, queued)
        if fault != "settings_damaged":
            return "fault %r" % fault
        return "" if restored else "a restart does not bring the prescription back"

    def in_store(self, bits):
        """Both copies with ``bits`` (copy, octet, bit) flipped: all of it is read, or nothing."""
        octets = [bytearray(self.good), bytearray(self.good)]
        for copy, at, bit in bits:
            octets[copy][at] ^= 1 << bit
        self._store(octets)
        settings = PrescriptionStore(TwoCopies(ROOT + "/prescription"))
        try:
            settings.load()
            whole = settings.current == self.wanted and not settings.halted
            why = "" if whole else "reads %r" % settings.current
        except Damaged:
            both = bits[0][0] != bits[1][0]
            why = "" if both and settings.current is None else "refused, one copy being whole"
        self._store((self.good, self.good))
        return why

    def _store(self, octets):
        for path, content in zip(_PATHS, octets):
            with open(path, "wb") as file:
                file.write(content)


def two(random, draw):
    """Two different things that ``draw(random)`` gives."""
    first = draw(random)
    while True:
        second = draw(random)
        if second != first:
            return first, second


def main():
    request = json.loads(sys.stdin.read())
    flips = Flips()
    size = len(flips.good)
    for number in range(request["first"], request["last"] + 1):
        random = Random(request["seed"] * 1_000_003 + number)
        if random.below(3) == 0:
            where = two(random, lambda r: (r.below(2), r.below(size), r.below(8)))
            why = flips.in_store(where)
        else:
            where = two(random, flips.place)
            check = flips.in_pump if number % _WHOLE_EVERY == 0 else flips.in_memory
            why = check(where)
        tell(n=number, why=why, where=repr(where))
    tell(end=True)


if __name__ == "__main__":
    main()
