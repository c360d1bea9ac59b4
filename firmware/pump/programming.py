"""What is checked and worked out before a prescription is committed: hard limits, 24-h totals,
what must be agreed to. Imported when a prescription comes, and let go again: it would cost heap.

All in whole numbers. A *day's volume* is the basal programme's with its periodic boluses, without
patient boluses, to the nearest nL.
"""

from struct import unpack_from

from pump.prescription import (
    MINIMUM_RATE_NL_DAY,
    NONE,
    RATE_HIGH_NL_DAY,
    RATE_LOW_NL_DAY,
    RATE_STEP_NL_DAY,
    Refusal,
    basal_rate,
    find_part,
)
from pump.schedule import ceil_div
from pump_wire.messages import (
    ASK_BRIDGE,
    ASK_MIXTURE,
    ASK_SOFT_BOLUS,
    ASK_SOFT_DAY,
    ASK_SOFT_RAISED,
    ASK_TOTAL,
    BRIDGE,
    BRIDGE_REFUSED,
    DRUG_FORMAT,
    DRUG_PARTS,
    FILL_PARTS,
    FLEX,
    PATTERNS,
    PERIODIC_BOLUS,
    SIMPLE_CONTINUOUS,
    STABILITY_PART,
    STEP_FORMAT,
    STEPS_A_DAY,
)

_DAY_S = 86_400
_DAY_MIN = 1_440
_MOST_NG_ML = 10**12
_MOST_NAME = 24
_U32 = (1 << 32) - 1
# How much longer than an hour and a day the pump's counting of volume may look back: see limits.
HOUR_LOOK_S = 3_600 + 2 * 600
DAY_LOOK_S = 86_400 + 2 * 3_600
_ROUND_NL = 4_000  # and steps written ahead, at most those of a bolus twice over


def drug_of(octets):
    """(name, ng/mL) that a part of drug form tells. Raises Refusal."""
    if not 9 <= len(octets) <= 8 + _MOST_NAME:
        raise Refusal("bad_body", "octets", len(octets))
    ng_ml = unpack_from(DRUG_FORMAT, octets)[0]
    try:
        name = str(octets[8:], "utf-8")
    except UnicodeError:
        raise Refusal("bad_text", "octets")
    if not name.strip():
        raise Refusal("bad_text", "octets")
    if not 1 <= ng_ml <= _MOST_NG_ML:
        limit = 1 if ng_ml < 1 else _MOST_NG_ML
        code = "below_limit" if ng_ml < 1 else "above_limit"
        raise Refusal(code, "concentration_ng_ml", min(ng_ml, 1 << 62), limit)
    return name, ng_ml


def drugs_of(prescription):
    """[(name, ng/mL)] of a prescription. Raises Refusal for what is no drug, or twice the same."""
    name = prescription["drug"]
    if not name.strip():
        raise Refusal("bad_text", "drug")
    drugs = [(name, prescription["concentration_ng_ml"])]
    for number in range(DRUG_PARTS, DRUG_PARTS + 3):
        octets = find_part(prescription["parts"], number)
        if octets:
            drugs.append(drug_of(octets))
    if len(set(drug[0] for drug in drugs)) != len(drugs):
        raise Refusal("bad_text", "drug")
    return drugs


def mixture(parts, fill_nl, before, rest_nl):
    """[(name, ng/mL)] of a fill with the drugs in ``parts`` on a rest of ``before``; nearest
    ng/mL. Raises Refusal."""
    fill = []
    for number in range(FILL_PARTS, FILL_PARTS + 4):
        octets = find_part(parts, number)
        if octets:
            fill.append(drug_of(octets))
    added = dict(fill)
    left = dict(before) if rest_nl else {}
    if len(added) != len(fill):
        raise Refusal("bad_text", "fill_crc")
    total = fill_nl + rest_nl
    drugs = []
    for name, _ in fill + list(before):
        if name not in [drug[0] for drug in drugs]:
            mass = added.get(name, 0) * fill_nl + left.get(name, 0) * rest_nl
            ng_ml = (mass + total // 2) // total
            if ng_ml:
                drugs.append((name, ng_ml))
    if len(drugs) > 4:
        raise Refusal("above_limit", "fill_crc", len(drugs), 4)
    return drugs


def _check_rate(field, rate, low):
    if rate != low:
        if rate < RATE_LOW_NL_DAY:
            raise Refusal("below_limit", field, rate, low)
        if rate > RATE_HIGH_NL_DAY:
            raise Refusal("above_limit", field, rate, RATE_HIGH_NL_DAY)
        if rate % RATE_STEP_NL_DAY:
            raise Refusal("not_multiple", field, rate, RATE_STEP_NL_DAY)


def bolus_rate(volume_nl, duration_s):
    """Rate of a bolus, the nearest whole nL/day."""
    return (volume_nl * _DAY_S + duration_s // 2) // duration_s


def _check_bolus(p, volume, duration, floor):
    """A bolus in two fields of ``p`` can be given, at least as fast as ``floor``."""
    if p[volume] < 1:
        raise Refusal("below_limit", volume, p[volume], 1)
    if p[duration] < 1:
        raise Refusal("below_limit", duration, p[duration], 1)
    rate = bolus_rate(p[volume], p[duration])
    if rate > RATE_HIGH_NL_DAY:
        shortest_s = ceil_div(p[volume] * _DAY_S, RATE_HIGH_NL_DAY)
        raise Refusal("below_limit", duration, p[duration], shortest_s)
    if rate < floor:
        raise Refusal("above_limit", duration, p[duration], p[volume] * _DAY_S // floor)


def _unused(p, names):
    for name in names:
        if p[name]:
            raise Refusal("above_limit", name, p[name], 0)


def steps_of(prescription, weekday):
    """[(minute, rate in nL/day)] of a day of flex."""
    octets = find_part(prescription["parts"], prescription["week"][weekday])
    return [
        (unpack_from(STEP_FORMAT, octets, at)[0], unpack_from(STEP_FORMAT, octets, at)[1] * 1000)
        for at in range(0, len(octets), 4)
    ]


def flex_steps(prescription, weekday):
    """``steps_of``, empty when the mode is not flex."""
    return steps_of(prescription, weekday) if prescription["mode"] == FLEX else []


def _check_pattern(octets):
    if not octets or len(octets) % 4 or len(octets) > 4 * STEPS_A_DAY:
        raise Refusal("bad_body", "octets", len(octets), 4 * STEPS_A_DAY)
    before = -1
    for at in range(0, len(octets), 4):
        minute, rate = unpack_from(STEP_FORMAT, octets, at)
        low = 0 if at == 0 else before + 1
        high = 0 if at == 0 else _DAY_MIN - 1
        if not low <= minute <= high:
            name = "below_limit" if minute < low else "above_limit"
            raise Refusal(name, "minute", minute, low if minute < low else high)
        _check_rate("rate_nl_day", rate * 1000, MINIMUM_RATE_NL_DAY)
        before = minute


def check(p):
    """Raise Refusal naming the field, its value and the limit if prescription ``p`` cannot be
    run."""
    drugs_of(p)
    try:
        str(find_part(p["parts"], STABILITY_PART), "utf-8")
    except UnicodeError:
        raise Refusal("bad_text", "part")
    mode = p["mode"]
    rate = p["rate_nl_day"]
    if mode == SIMPLE_CONTINUOUS:
        if rate < RATE_LOW_NL_DAY:
            raise Refusal("below_limit", "rate_nl_day", rate, RATE_LOW_NL_DAY)
        _check_rate("rate_nl_day", rate, RATE_LOW_NL_DAY)
    elif mode == PERIODIC_BOLUS:
        _check_rate("rate_nl_day", rate, MINIMUM_RATE_NL_DAY)
        _check_bolus(p, "bolus_nl", "bolus_s", rate)
        if p["interval_s"] <= p["bolus_s"]:
            raise Refusal("below_limit", "interval_s", p["interval_s"], p["bolus_s"] + 1)
    else:
        _unused(p, ("rate_nl_day",))
    if mode != PERIODIC_BOLUS:
        _unused(p, ("bolus_nl", "bolus_s", "interval_s"))
    if mode == FLEX:
        for number in p["week"]:
            if number >= PATTERNS:
                raise Refusal("above_limit", "week", number, PATTERNS - 1)
            _check_pattern(find_part(p["parts"], number))
    elif p["week"] != b"\0\0\0\0\0\0\0":
        raise Refusal("bad_body", "week")
    if p["patient_nl"]:
        _check_bolus(p, "patient_nl", "patient_s", 1)
        if p["lockout_s"] <= p["patient_s"]:
            raise Refusal("below_limit", "lockout_s", p["lockout_s"], p["patient_s"] + 1)
        if not p["patient_max"]:
            raise Refusal("below_limit", "patient_max", 0, 1)
    else:
        _unused(p, ("patient_s", "lockout_s", "patient_max"))
    if p["low_mark_nl"] >= p["capacity_nl"]:
        raise Refusal("above_limit", "low_mark_nl", p["low_mark_nl"], p["capacity_nl"])
    for name, look_s in (("hour_nl", HOUR_LOOK_S), ("day_nl", DAY_LOOK_S)):
        if p[name]:
            least = most_nl(p, look_s) + _ROUND_NL
            if p[name] < least:
                raise Refusal("below_limit", name, p[name], least)


# -- volumes --------------------------------------------------------------------------------------


def day_nl(p, weekday):
    """Volume of a day, 0 Monday; nearest nL."""
    mode = p["mode"]
    if mode == PERIODIC_BOLUS:
        gap_s = p["interval_s"] - p["bolus_s"]
        units = p["bolus_nl"] * _DAY_S + p["rate_nl_day"] * gap_s
        return (units + p["interval_s"] // 2) // p["interval_s"]
    if mode != FLEX:
        return basal_rate(p)
    units = 0
    end = _DAY_MIN
    for minute, rate in reversed(steps_of(p, weekday)):
        units += rate * (end - minute)
        end = minute
    return (units + _DAY_MIN // 2) // _DAY_MIN


def largest_day_nl(p):
    """Volume of the largest day."""
    if p["mode"] != FLEX:
        return day_nl(p, 0)
    return max(day_nl(p, weekday) for weekday in range(7))


def mean_day_nl(p):
    """Mean volume a day over a week, nearest nL."""
    if p["mode"] != FLEX:
        return day_nl(p, 0)
    return (sum(day_nl(p, weekday) for weekday in range(7)) + 3) // 7


def patients_nl(p):
    """Most that patient boluses can add in 24 h."""
    if not p["patient_nl"]:
        return 0
    return p["patient_nl"] * min(p["patient_max"], ceil_div(_DAY_S, p["lockout_s"]))


def most_nl(p, span_s):
    """Most that the basal programme gives in any ``span_s`` seconds, rounded up."""
    mode = p["mode"]
    if mode == PERIODIC_BOLUS:
        whole, rest = divmod(span_s, p["interval_s"])
        rate = bolus_rate(p["bolus_nl"], p["bolus_s"])
        part = min(p["bolus_nl"], ceil_div(rest * rate, _DAY_S))
        return whole * p["bolus_nl"] + part + ceil_div(p["rate_nl_day"] * span_s, _DAY_S)
    if mode != FLEX:
        return ceil_div(basal_rate(p) * span_s, _DAY_S)
    edges = []  # (second of two weeks, rate from there on)
    for day in range(14):
        for minute, rate in steps_of(p, day % 7):
            edges.append(((day * _DAY_MIN + minute) * 60, rate))
    most = 0
    ends = [edge[0] for edge in edges]
    starts = [at for at in ends if at < 7 * _DAY_S]
    starts += [at - span_s for at in ends if 0 <= at - span_s]
    for start in starts:
        total = 0
        at = start + span_s
        if at > 14 * _DAY_S:
            continue
        for begin, rate in reversed(edges):
            if begin < at:
                total += rate * (at - max(begin, start))
                at = begin
                if begin <= start:
                    break
        most = max(most, total)
    return ceil_div(most, _DAY_S)


# -- what would change ----------------------------------------------------------------------------


def _changes(old, new):
    """(largest change of a drug's dose in a day in ppm, whether one is above 20 %): of the basal
    programme's, and of that with all boluses that the patient may ask for."""
    ppm = 0
    above = False
    before = dict(drugs_of(old))
    after = dict(drugs_of(new))
    days = 7 if FLEX in (old["mode"], new["mode"]) else 1
    for case in range(2 * days):
        old_nl = day_nl(old, case // 2)
        new_nl = day_nl(new, case // 2)
        if case % 2:
            old_nl += patients_nl(old)
            new_nl += patients_nl(new)
        for name in set(before) | set(after):
            was = old_nl * before.get(name, 0)
            will = new_nl * after.get(name, 0)
            change = abs(will - was)
            if not change:
                continue
            above = above or change * 5 > was
            ppm = max(ppm, min(_U32, ceil_div(change * 1_000_000, was)) if was else _U32)
    return ppm, above


def _differ(drugs, others):
    """True if concentrations differ by more than one in a thousand, or drugs."""
    others = dict(others)
    if len(drugs) != len(others):
        return True
    for name, ng_ml in drugs:
        if name not in others or abs(others[name] - ng_ml) * 1000 > ng_ml:
            return True
    return False


def plan(p, order, old, reservoir, bridge, steps, step_pl):
    """(echo of SET_PRESCRIPTION, what the store's ``bridge`` would be) for prescription ``p``.

    ``order``: the request. ``old``: the prescription in force or None. ``reservoir``: [(name,
    ng/mL)] of what is in it, empty if unknown. ``bridge``: the store's. ``steps``: since
    manufacture. Raises Refusal.
    """
    check(p)
    drugs = drugs_of(p)
    total = largest_day_nl(p)
    echo = {
        "old_total_nl": 0,
        "new_total_nl": total,
        "with_patient_nl": min(total + patients_nl(p), _U32),
        "change_ppm": _U32 if total else 0,
        "bridge_nl": 0,
        "bridge_rate_nl_day": 0,
        "bridge_us": 0,
    }
    asks = 0
    if order["total_nl"] and order["total_nl"] != total:
        raise Refusal("total_differs", "total_nl", order["total_nl"], total)
    if p["soft_day_nl"] and echo["with_patient_nl"] > p["soft_day_nl"]:
        asks |= ASK_SOFT_DAY
    soft = p["soft_bolus_nl"]
    if soft and (p["bolus_nl"] > soft or p["patient_nl"] > soft):
        asks |= ASK_SOFT_BOLUS
    if reservoir and _differ(drugs, reservoir):
        asks |= ASK_MIXTURE
    changed = False
    if old is not None:
        echo["old_total_nl"] = largest_day_nl(old)
        echo["change_ppm"], above = _changes(old, p)
        if above and total and not order["total_nl"]:
            asks |= ASK_TOTAL
        for name in ("soft_day_nl", "soft_bolus_nl"):
            if old[name] and (p[name] == 0 or p[name] > old[name]):
                asks |= ASK_SOFT_RAISED
        changed = dict(drugs) != dict(drugs_of(old))
    echo["asks"] = asks & ~(order["agreed"] & ~(ASK_TOTAL | ASK_BRIDGE))
    if not changed:
        if order["bridge"]:
            raise Refusal("above_limit", "bridge", order["bridge"], 0)
        return echo, None
    if bridge[0] == BRIDGE:
        raise Refusal("bridge_running", "bridge", order["bridge"])
    volume = p["tubing_nl"] + p["catheter_nl"]
    until = steps + ceil_div(volume * 1000, step_pl)  # till then the old drug comes
    if order["bridge"] == BRIDGE_REFUSED:
        if not order["why"].strip():
            raise Refusal("bad_text", "why")
        return echo, (0, 0, until, order["why"])
    if not order["bridge"]:
        echo["asks"] |= ASK_BRIDGE
        return echo, NONE
    if steps < bridge[2]:  # what is in the path is of more than one concentration
        raise Refusal("above_limit", "bridge_nl", ceil_div((bridge[2] - steps) * step_pl, 1000))
    if not volume:
        raise Refusal("below_limit", "catheter_nl", 0, 1)
    rate = mean_day_nl(old)
    if not rate:
        raise Refusal("below_limit", "bridge_rate_nl_day", 0, MINIMUM_RATE_NL_DAY)
    echo["bridge_nl"] = volume
    echo["bridge_rate_nl_day"] = rate
    echo["bridge_us"] = ceil_div(volume * 86_400_000_000, rate)
    return echo, (BRIDGE, rate, until, "")
