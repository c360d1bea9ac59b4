"""The reservoir account: fill - delivered = residual, in whole motor steps and picolitres.

Steps are written ahead: ``reserve`` makes a segment's steps durable before its first pulse, so
after a power cut the account may count up to one segment that never moved, and never too few.
While the pump runs it counts what the step generator has emitted.
"""

from struct import pack_into

from pump.journal import Damaged
from pump.lending import lent, return_module

# Lifetime steps reserved, those of them that boluses moved; those of a bolus whose end is not in
# the log yet, and 1 + the number of the next event when it began, else ``unsure`` and 0; wall time
# or 0. A record of more than 32 octets, CRC and all, costs littlefs a third more reads. ``_store``
# packs it in two calls, for the reason that ``motion`` gives.
HOT_LAYOUT = "<QQIII"


class Ledger:
    """``emitted``: callable giving steps emitted since this start, from the step generator.

    After ``load``: ``interrupted`` is (event number, steps) of a bolus that the last start did not
    see the end of, None if there is none: the log from that number on may tell of its end all the
    same; at most so many of its steps were moved. ``alive_s``: wall time when the account was last
    written, 0 if unknown. ``next_event()``: number of the event that will be noted next.
    ``unsure``: 1 from when a step of a bridge bolus is reserved until it is known to be out; it
    counts as given, and after a start the bridge bolus goes on as if it was not. Motion sets it.
    ``wall_s()``: wall time or 0. ``before_store()``: called before the account is written: the
    moment to call ``miss``.
    """

    def __init__(self, step_pl, emitted, hot, refill_copies):
        self.step_pl = step_pl
        self.next_event = self.wall_s = int  # 0
        self.interrupted = None
        self.alive_s = 0
        self.unsure = 0
        self._open_event = 0  # the fourth of HOT_LAYOUT
        self._open_from = 0  # bolus steps when that bolus began
        self._emitted = emitted
        self._hot = hot
        self._copies = refill_copies
        self._start_steps = 0  # lifetime steps at this start
        self._bolus_steps = 0  # lifetime bolus steps that are settled
        self._bolus_from = -1  # emitted() when the running bolus started, -1 when none runs
        self.fill_pl = 0
        self._refill_steps = 0
        self._refill_bolus = 0
        self.refills = 0
        self.refill_us = 0
        self.refill_wall_s = 0
        self.expected_pl = 0
        self.measured_pl = 0
        self.before_delivered_pl = 0
        self.reason = ""
        self.life_true_pl = 0
        self.life_programmed_pl = 0
        self.drugs = ()  # (name, ng/mL) in the reservoir, empty when unknown
        self.missed = 0  # steps of this start that the rotor did not follow, less those too many
        self.before_store = int  # nothing
        self._known = True  # False: it could not be read, and stays as it is until a refill

    def load(self):
        """Read the durable account. Raises Damaged; nothing is written then until a refill."""
        self._known = False
        try:
            self._refilling("load")
        finally:
            self._load_steps()
        self._known = True

    def _load_steps(self):
        self._start_steps = self._refill_steps
        self._bolus_steps = self._refill_bolus
        hot = self._hot.load()
        if hot is None:
            if self.refills:
                raise Damaged("a refill and no count of steps")
        elif hot[0] < self._refill_steps:
            raise Damaged("%d steps, %d at the refill" % (hot[0], self._refill_steps))
        else:
            self._start_steps, self._bolus_steps, moved, event, self.alive_s = hot
            if event:
                self.interrupted = event - 1, moved
            else:
                self.unsure = moved

    # -- what was moved -----------------------------------------------------------------------

    def steps(self):
        """Steps since manufacture."""
        return self._start_steps + self._emitted()

    def moved(self):
        """Those of them that moved anything, as far as the rotor tells."""
        return self._start_steps + self._emitted() - self.missed

    def miss(self, count):
        """``count`` of the steps emitted moved nothing (below 0: so many more were made). Never
        more than were made since the last refill."""
        most = self.moved() - self._refill_steps
        if count > most:
            count = most
        self.missed += count
        if self._bolus_from >= 0:
            self._bolus_from += count

    def start_steps(self):
        """Steps since manufacture when the pump last started."""
        return self._start_steps

    def refill_steps(self):
        """Steps since manufacture when the reservoir was last refilled."""
        return self._refill_steps

    def bolus_steps(self):
        """Steps since manufacture that boluses moved."""
        if self._bolus_from < 0:
            return self._bolus_steps
        return self._bolus_steps + self._emitted() - self._bolus_from

    def delivered_pl(self):
        """Volume delivered since the last refill."""
        return (self.moved() - self._refill_steps) * self.step_pl

    def residual_pl(self):
        """Expected residual volume."""
        return self.fill_pl - self.delivered_pl()

    def bolus_delivered_pl(self):
        """Volume that boluses delivered since the last refill."""
        return (self.bolus_steps() - self._refill_bolus) * self.step_pl

    # -- before and after motion --------------------------------------------------------------

    def reserve(self, issued):
        """Make durable that steps up to the ``issued``-th of this start may be emitted."""
        self.before_store()
        bolus = self._bolus_steps
        if self._bolus_from >= 0:
            bolus += issued - self._bolus_from
        self._store(self._start_steps + issued - self.missed, bolus)

    def settle(self):
        """Motion has halted: make the emitted count durable in place of the reservation."""
        self.before_store()
        self.unsure = 0
        if self._known:
            self._store(self.moved(), self.bolus_steps())

    def _store(self, steps, bolus):
        wall_s = self.wall_s()
        if wall_s >> 32:
            wall_s = 0
        pack_into("<QQ", self._hot.buffer, 0, steps, bolus)
        bolus = bolus - self._open_from if self._open_event else self.unsure
        pack_into("<III", self._hot.buffer, 16, bolus, self._open_event, wall_s)
        self._hot.write()

    def bolus_begins(self):
        """Steps from here on are a bolus's, and what is noted next tells so. Motion must be
        halted."""
        self._bolus_from = self._emitted()
        self._open_from = self._bolus_steps
        self._open_event = self.next_event() + 1

    def events_written(self):
        """All that was noted is in the log: the end of a bolus that is over, too."""
        if self._bolus_from < 0:
            self._open_event = 0

    def bolus_ends(self):
        """Steps from here on are no bolus's. Motion must be halted. Returns the bolus's steps."""
        if self._bolus_from < 0:
            return 0
        moved = self._emitted() - self._bolus_from
        self._bolus_steps += moved
        self._bolus_from = -1
        return moved

    # -- refill -------------------------------------------------------------------------------

    def _refilling(self, name, *arguments):
        """Function ``name`` of module ``refilling``, which is lent for one use."""
        try:
            return getattr(lent("refilling"), name)(self, *arguments)
        finally:
            return_module("refilling")

    def assess(self, measured_pl, programmed_pl, capacity_pl):
        """What a refill with ``measured_pl`` left tells: RECORD_REFILL's reply as a dict."""
        return self._refilling("assess", measured_pl, programmed_pl, capacity_pl)

    def refill(self, measured_pl, fill_pl, now_us, wall_s, reason="", programmed_pl=0, drugs=()):
        """Start a new account of ``fill_pl``. Motion must be halted and settled.
        ``programmed_pl``: asked for since the last one; ``drugs``: what is in it now.

        Raises OSError when it could not be made durable; the account is then as before.
        """
        self._refilling(
            "refill", measured_pl, fill_pl, now_us, wall_s, reason, programmed_pl, drugs
        )
