"""The reservoir account: fill - delivered = residual, in whole motor steps and picolitres.

Steps are written ahead: ``reserve`` makes a segment's steps durable before its first pulse, so
after a power cut the account may count up to one segment that never moved, and never too few.
While the pump runs it counts what the step generator has emitted.

Discrepancy limits (PRODUCT.md): true/programmed outside 0.855 to 1.145, or more than 1 mL
(reservoirs to 20 mL) / 2 mL (larger) unexplained.
"""

from struct import calcsize, pack, unpack

from pump.journal import Damaged

RATIO_LOW_PPM = 855_000
RATIO_HIGH_PPM = 1_145_000
_SMALL_RESERVOIR_PL = 20_000_000_000
_UNEXPLAINED_SMALL_PL = 1_000_000_000
_UNEXPLAINED_LARGE_PL = 2_000_000_000

# Lifetime steps reserved, those of them that boluses moved; those of a bolus whose end is not in
# the log yet, and 1 + the number of the next event when it began, else 0; wall time or 0. A record
# of more than 32 octets, CRC and all, costs littlefs a third more reads.
HOT_LAYOUT = "<QQIII"
# fill_pl, steps and bolus steps at the refill, refills, wall_s, expected_pl, measured_pl,
# delivered_pl of the interval before it; true and programmed volume of all refill intervals so
# far. Texts follow, each a length octet and UTF-8: the reason, then the drugs' names, each with
# its concentration behind it.
_REFILL_LAYOUT = "<qQQIQqqqqq"


def is_discrepancy(ratio_ppm, discrepancy_pl, capacity_pl):
    """True if a refill's ratio (ppm, 0: nothing was programmed) or unexplained volume is
    outside."""
    limit = _UNEXPLAINED_SMALL_PL if capacity_pl <= _SMALL_RESERVOIR_PL else _UNEXPLAINED_LARGE_PL
    if abs(discrepancy_pl) > limit:
        return True
    return ratio_ppm != 0 and not RATIO_LOW_PPM <= ratio_ppm <= RATIO_HIGH_PPM


class Ledger:
    """``emitted``: callable giving steps emitted since this start, from the step generator.

    After ``load``: ``interrupted`` is (event number, steps) of a bolus that the last start did not
    see the end of, None if there is none: the log from that number on may tell of its end all the
    same; at most so many of its steps were moved. ``alive_s``: wall time when the account was last
    written, 0 if unknown. ``next_event()``: number of the event that will be noted next.
    ``wall_s()``: wall time or 0. ``before_store()``: called before the account is written: the
    moment to call ``miss``.
    """

    def __init__(self, step_pl, emitted, hot, refill_copies):
        self.step_pl = step_pl
        self.next_event = lambda: 0
        self.wall_s = lambda: 0
        self.interrupted = None
        self.alive_s = 0
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
        self.before_store = lambda: None
        self._known = True  # False: it could not be read, and stays as it is until a refill

    def load(self):
        """Read the durable account. Raises Damaged; nothing is written then until a refill."""
        self._known = False
        try:
            self._load_refill()
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

    def _load_refill(self):
        raw = self._copies.load()
        if raw is not None:
            size = calcsize(_REFILL_LAYOUT)
            if len(raw) < size:
                raise Damaged("refill record of %d octets" % len(raw))
            texts = []
            at = size
            while at < len(raw):
                end = at + 1 + raw[at]
                texts.append(raw[at + 1 : end])
                at = end
            self.reason = texts[0].decode()
            self.drugs = tuple(
                (texts[i].decode(), unpack("<Q", texts[i + 1])[0])
                for i in range(1, len(texts) - 1, 2)
            )
            (
                self.fill_pl,
                self._refill_steps,
                self._refill_bolus,
                self.refills,
                self.refill_wall_s,
                self.expected_pl,
                self.measured_pl,
                self.before_delivered_pl,
                self.life_true_pl,
                self.life_programmed_pl,
            ) = unpack(_REFILL_LAYOUT, raw[:size])

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
        if self._known:
            self._store(self.moved(), self.bolus_steps())

    def _store(self, steps, bolus):
        wall_s = self.wall_s()
        if wall_s >> 32:
            wall_s = 0
        event = self._open_event
        moved = bolus - self._open_from if event else 0
        self._hot.store(steps, bolus, moved, event, wall_s)

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

    def assess(self, measured_pl, programmed_pl, capacity_pl):
        """What a refill with ``measured_pl`` aspirated tells: RECORD_REFILL's reply as a dict."""
        expected = self.residual_pl()
        discrepancy = measured_pl - expected
        true = self.fill_pl - measured_pl
        ratio = life = 0
        if self.refills == 0:  # nothing was put in before: nothing to compare
            discrepancy = true = 0
        elif programmed_pl > 0 and true > 0:
            ratio = (true * 1_000_000 + programmed_pl // 2) // programmed_pl
        all_true = self.life_true_pl + true
        all_programmed = self.life_programmed_pl + programmed_pl
        if self.refills and all_programmed > 0 and all_true > 0:
            life = (all_true * 1_000_000 + all_programmed // 2) // all_programmed
        return {
            "expected_pl": expected,
            "discrepancy_pl": discrepancy,
            "programmed_pl": programmed_pl,
            "true_pl": true,
            "ratio_ppm": ratio,
            "life_ppm": life,
            "flagged": int(
                is_discrepancy(ratio, discrepancy, capacity_pl)
                or (self.refills > 0 and true <= 0 < programmed_pl)  # a ratio of 0 or less
            ),
        }

    def refill(self, measured_pl, fill_pl, now_us, wall_s, reason="", programmed_pl=0, drugs=()):
        """Start a new account of ``fill_pl``. Motion must be halted and settled.
        ``programmed_pl``: asked for since the last one; ``drugs``: what is in it now.

        Raises OSError when it could not be made durable; the account is then as before.
        """
        expected = self.residual_pl()
        before = self.delivered_pl()
        steps = self.moved()
        bolus = self.bolus_steps()
        life_true = self.life_true_pl
        life_programmed = self.life_programmed_pl
        if self.refills:
            life_true += self.fill_pl - measured_pl
            life_programmed += programmed_pl
        texts = [reason.encode()]
        for name, ng_ml in drugs:
            texts += [name.encode(), pack("<Q", ng_ml)]
        self._copies.commit(
            pack(
                _REFILL_LAYOUT,
                fill_pl,
                steps,
                bolus,
                self.refills + 1,
                wall_s,
                expected,
                measured_pl,
                before,
                life_true,
                life_programmed,
            )
            + b"".join(bytes((len(text),)) + text for text in texts)
        )
        self.fill_pl = fill_pl
        self._refill_steps = steps
        self._refill_bolus = bolus
        self.refills += 1
        self.refill_us = now_us
        self.refill_wall_s = wall_s
        self.expected_pl = expected
        self.measured_pl = measured_pl
        self.before_delivered_pl = before
        self.reason = reason
        self.life_true_pl = life_true
        self.life_programmed_pl = life_programmed
        self.drugs = tuple(drugs)
        if not self._known:
            self._store(steps, bolus)
            self._known = True
