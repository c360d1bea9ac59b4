"""What lies ahead: limits, patient, bridge, flex, forecast. Imported when asked for and let go
again: it would cost heap.

The forecast takes every patient bolus that is permitted, as early as it may be, and the basal
programme as it runs; it is never later than what then comes.
"""

from pump.lending import lent, return_module
from pump.limits import NO_LIMIT
from pump.schedule import DAY_US, ceil_div
from pump_wire.messages import BRIDGE_BOLUS, FLEX, STOPPED

_NEVER = 1 << 62
_NO_STEP = 255


def _time_to(pl, rate_nl_day):
    """Time in us that ``rate_nl_day`` takes for ``pl`` (more than 0), rounded down."""
    return pl * (DAY_US // 1000) // rate_nl_day if rate_nl_day else _NEVER


class _Ahead:
    """The basal programme and the permitted patient boluses from now on."""

    def __init__(self, programming, p, delivery, bridge_rate, local_us):
        self.p = p
        self.bridge_us = 0
        self.bridge_rate = 0
        self.local_us = local_us
        self.days = [programming.day_nl(p, day) for day in range(7)]
        self.steps = list(map(programming.flex_steps, [p] * 7, range(7)))
        if delivery.mode == BRIDGE_BOLUS:
            self.bridge_rate = bridge_rate
            self.bridge_us = _time_to(delivery.bridge_left_pl(), self.bridge_rate)

    def _most_of_a_day(self):
        """Most in any 24 h that boluses of the patient add, pL."""
        p = self.p
        if not p["patient_nl"]:
            return 0
        return p["patient_nl"] * 1000 * min(p["patient_max"], ceil_div(86_400, p["lockout_s"]))

    def until(self, pl):
        """Earliest time in us after which ``pl`` may be gone."""
        if pl <= 0:
            return 0
        us = 0
        if self.bridge_us:
            spent = ceil_div(self.bridge_us * self.bridge_rate * 1000, DAY_US)
            if spent >= pl:
                return _time_to(pl, self.bridge_rate)
            us = self.bridge_us
            pl -= spent
        patient = self._most_of_a_day()
        week = 1000 * sum(self.days) + 7 * patient
        if not week:
            return _NEVER
        p = self.p
        if p["mode"] != FLEX and not patient:
            if p["interval_s"]:  # boluses come at once, so up to one of them early
                pl = max(0, pl - p["bolus_nl"] * 1000)
            return us + _time_to(pl, self.days[0])
        weeks = max(0, pl // week - 1)
        us += weeks * 7 * DAY_US
        pl -= weeks * week
        if p["mode"] != FLEX:
            return us + self._days(pl, patient)
        return us + self._flex(pl, patient, self.local_us + us)

    def _days(self, pl, patient):
        """Days of the same rate, each begun with all its patient boluses."""
        us = 0
        rate = self.days[0]
        if self.p["interval_s"]:
            pl -= self.p["bolus_nl"] * 1000
        while True:
            pl -= patient
            if pl <= 0:
                return us
            if pl <= rate * 1000:
                return us + _time_to(pl, rate)
            pl -= rate * 1000
            us += DAY_US

    def _flex(self, pl, patient, local):
        us = 0
        due = 0
        while True:
            if us >= due:
                pl -= patient
                due += DAY_US
                if pl <= 0:
                    return us
            day = (local + us) // DAY_US
            at = (local + us) % DAY_US
            end = DAY_US
            rate = 0
            for minute, step_rate in reversed(self.steps[(day + 3) % 7]):
                if minute * 60_000_000 <= at:
                    rate = step_rate
                    break
                end = minute * 60_000_000
            span = min(end - at, due - us)
            spent = rate * span * 1000 // DAY_US + 1
            if spent >= pl:
                return us + _time_to(pl, rate)
            pl -= spent
            us += span


def told(commands, delivery, store, ledger, wall, clock):
    """GET_THERAPY's reply."""
    now_us = clock.now_us()
    limits = delivery.limits
    basal = delivery.basal
    p = store.current
    reply = {
        "patient_us": _NEVER,
        "patient_used": limits.used(),
        "hour_pl": limits.used_steps(1) * ledger.step_pl,
        "day_pl": limits.used_steps(24) * ledger.step_pl,
        "room_nl": _NEVER,
        "low_us": _NEVER,
        "empty_us": _NEVER,
        "refill_us": _NEVER,
        "total_nl": 0,
        "bridge": store.bridge[0] if delivery.bridge_left_pl() else 0,
        "bridge_left_nl": delivery.bridge_left_pl() // 1000,
        "why": store.bridge[3],
        "clock": 1 if wall.now_s() else 2 if wall.best_s() else 0,
        "utc_offset_min": store.utc_offset_min,
        "step": _NO_STEP if basal.step is None else basal.step,
        "next_us": _NEVER if basal.next_us is None else max(0, basal.next_us - now_us),
    }
    if p is None:
        return reply
    room = delivery.spare_nl(0)
    reply["room_nl"] = _NEVER if room >= NO_LIMIT else max(0, room)
    if p["patient_nl"]:
        reply["patient_us"] = commands.patient_wait()[0]
    try:
        programming = lent("programming")
        reply["total_nl"] = programming.largest_day_nl(p)
        ahead = _Ahead(programming, p, delivery, store.bridge[1], now_us + basal.local_us)
    finally:
        return_module("programming")
    residual = ledger.residual_pl()
    running = delivery.mode != STOPPED or (p["mode"] != STOPPED and not store.halted)
    if running or p["patient_nl"]:
        left_pl = delivery.bolus_left_pl(now_us)
        reply["low_us"] = ahead.until(residual - delivery.low_mark_pl() - left_pl)
        reply["empty_us"] = ahead.until(residual - delivery.unusable_pl() - left_pl)
    stable_us = _NEVER
    if p["stable_until_s"] and wall.best_s():
        stable_us = max(0, p["stable_until_s"] - wall.best_s()) * 1_000_000
    reply["refill_us"] = min(reply["low_us"], stable_us)
    return reply
