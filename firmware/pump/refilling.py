"""Refills: what the ledger reads of the last one, how one is judged, and the account it begins. A
part of ``ledger.Ledger``, on whose fields it works; the ledger lends it for one use.

Discrepancy limits (PRODUCT.md): true/programmed outside 0.855 to 1.145, or more than 1 mL
(reservoirs to 20 mL) / 2 mL (larger) unexplained.
"""

from struct import calcsize, pack, unpack

from pump.journal import Damaged

RATIO_LOW_PPM = 855_000
RATIO_HIGH_PPM = 1_145_000
# Less than this programmed, and a residual that is measured to 0.01 mL tells no ratio to 14.5 %.
_JUDGED_PL = 69_000_000
_SMALL_RESERVOIR_PL = 20_000_000_000
_UNEXPLAINED_SMALL_PL = 1_000_000_000
_UNEXPLAINED_LARGE_PL = 2_000_000_000

# fill_pl, steps and bolus steps at the refill, refills, wall_s, expected_pl, measured_pl,
# delivered_pl of the interval before it; true and programmed volume of all refill intervals so
# far. Texts follow, each a length octet and UTF-8: the reason, then the drugs' names, each with
# its concentration behind it.
_REFILL_LAYOUT = "<qQQIQqqqqq"


def is_discrepancy(ratio_ppm, discrepancy_pl, capacity_pl):
    """True if a refill's ratio (ppm, 0: too little was programmed) or unexplained volume is
    outside."""
    limit = _UNEXPLAINED_SMALL_PL if capacity_pl <= _SMALL_RESERVOIR_PL else _UNEXPLAINED_LARGE_PL
    if abs(discrepancy_pl) > limit:
        return True
    return ratio_ppm != 0 and not RATIO_LOW_PPM <= ratio_ppm <= RATIO_HIGH_PPM


def load(ledger):
    """Read the last refill. Raises Damaged."""
    raw = ledger._copies.load()
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
        ledger.reason = texts[0].decode()
        ledger.drugs = tuple(
            (texts[i].decode(), unpack("<Q", texts[i + 1])[0]) for i in range(1, len(texts) - 1, 2)
        )
        (
            ledger.fill_pl,
            ledger._refill_steps,
            ledger._refill_bolus,
            ledger.refills,
            ledger.refill_wall_s,
            ledger.expected_pl,
            ledger.measured_pl,
            ledger.before_delivered_pl,
            ledger.life_true_pl,
            ledger.life_programmed_pl,
        ) = unpack(_REFILL_LAYOUT, raw[:size])


def assess(ledger, measured_pl, programmed_pl, capacity_pl):
    """See ``Ledger.assess``."""
    expected = ledger.residual_pl()
    discrepancy = measured_pl - expected
    true = ledger.fill_pl - measured_pl
    ratio = life = 0
    if ledger.refills == 0:  # nothing was put in before: nothing to compare
        discrepancy = true = 0
    elif programmed_pl >= _JUDGED_PL and true > 0:
        ratio = (true * 1_000_000 + programmed_pl // 2) // programmed_pl
    all_true = ledger.life_true_pl + true
    all_programmed = ledger.life_programmed_pl + programmed_pl
    if ledger.refills and all_programmed >= _JUDGED_PL and all_true > 0:
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
            or (ledger.refills > 0 and true <= 0 and programmed_pl >= _JUDGED_PL)  # 0 or less
        ),
    }


def refill(ledger, measured_pl, fill_pl, now_us, wall_s, reason, programmed_pl, drugs):
    """See ``Ledger.refill``."""
    expected = ledger.residual_pl()
    before = ledger.delivered_pl()
    steps = ledger.moved()
    bolus = ledger.bolus_steps()
    life_true = ledger.life_true_pl
    life_programmed = ledger.life_programmed_pl
    if ledger.refills:
        life_true += ledger.fill_pl - measured_pl
        life_programmed += programmed_pl
    texts = [reason.encode()]
    for name, ng_ml in drugs:
        texts += [name.encode(), pack("<Q", ng_ml)]
    ledger._copies.commit(
        pack(
            _REFILL_LAYOUT,
            fill_pl,
            steps,
            bolus,
            ledger.refills + 1,
            wall_s,
            expected,
            measured_pl,
            before,
            life_true,
            life_programmed,
        )
        + b"".join(bytes((len(text),)) + text for text in texts)
    )
    ledger.fill_pl = fill_pl
    ledger._refill_steps = steps
    ledger._refill_bolus = bolus
    ledger.refills += 1
    ledger.refill_us = now_us
    ledger.refill_wall_s = wall_s
    ledger.expected_pl = expected
    ledger.measured_pl = measured_pl
    ledger.before_delivered_pl = before
    ledger.reason = reason
    ledger.life_true_pl = life_true
    ledger.life_programmed_pl = life_programmed
    ledger.drugs = tuple(drugs)
    if not ledger._known:
        ledger._store(steps, bolus)
        ledger._known = True
