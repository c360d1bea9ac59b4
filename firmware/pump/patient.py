"""The patient's bolus, by message or button, and what lies ahead."""

from pump.lending import lent, return_module
from pump.prescription import Refusal
from pump.schedule import DAY_US, ceil_div
from pump_wire.messages import PATIENT_BOLUS


class Patient:
    """Handlers of the patient's messages. Requests are logged, granted or refused (of those, as
    many as ``EventLog.asked`` takes)."""

    def __init__(self, clock, wall, delivery, ledger, store, log):
        self._clock = clock
        self._wall = wall
        self._delivery = delivery
        self._ledger = ledger
        self._store = store
        self._log = log

    def check_request_bolus(self, _):
        try:
            return self.plan_patient()
        except Refusal as refusal:
            self._log.asked("patient_refused", refusal.code)
            self._log.flush()
            raise

    def apply_request_bolus(self, _):
        """The patient's bolus, by message or button. Raises Refusal, which is logged."""
        self.check_request_bolus(None)
        limits = self._delivery.limits
        limits.grants.append(self._clock.now_us())
        limits.store()  # it counts before it begins
        p = self._store.current
        return self._delivery.start_bolus(
            p["patient_nl"], p["patient_s"] * 1_000_000, PATIENT_BOLUS
        )

    def plan_patient(self):
        """REQUEST_BOLUS's reply; raises Refusal when the patient may not have a bolus now."""
        p = self._store.current
        if p is None or not p["patient_nl"]:
            raise Refusal("not_permitted")
        self._store.check()
        wait_us, used = self.patient_wait()
        if wait_us:
            wait_s = ceil_div(wait_us, 1_000_000)
            if used >= p["patient_max"]:
                raise Refusal("patient_max", "patient_max", used, p["patient_max"])
            raise Refusal("lockout", "lockout_s", wait_s, p["lockout_s"])
        return self._delivery.plan(
            "bolus", p["patient_nl"], p["patient_s"] * 1_000_000, PATIENT_BOLUS
        )

    def patient_wait(self):
        """(time in us until lockout and maximum allow the next patient bolus, those used)."""
        p = self._store.current
        limits = self._delivery.limits
        now_us = self._clock.now_us()
        used = limits.used()
        grants = limits.grants
        free_us = limits.unknown_us
        if grants:
            free_us = max(free_us, grants[-1] + p["lockout_s"] * 1_000_000)
        if used >= p["patient_max"]:
            free_us = max(free_us, grants[-p["patient_max"]] + DAY_US)
        return max(0, free_us - now_us), used

    def get_therapy(self, _):
        try:
            return lent("outlook").told(
                self, self._delivery, self._store, self._ledger, self._wall, self._clock
            )
        finally:
            return_module("outlook")
