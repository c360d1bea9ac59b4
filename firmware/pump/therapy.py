"""Commands of the therapy: prescription, bolus, stop, resume, refill."""

from pump.prescription import Refusal, check
from pump.schedule import ceil_div
from pump_wire.messages import FAULT


class TherapyCommands:
    """Handlers of what changes delivery or the account."""

    def __init__(self, clock, wall, delivery, ledger, store, log, faults):
        self._clock = clock
        self._wall = wall
        self._delivery = delivery
        self._ledger = ledger
        self._store = store
        self._log = log
        self._faults = faults

    # -- prescription -------------------------------------------------------------------------

    def check_set_prescription(self, request):
        check(request)
        residual_nl = ceil_div(self._ledger.residual_pl(), 1000)
        if request["capacity_nl"] < residual_nl:
            raise Refusal("below_limit", "capacity_nl", request["capacity_nl"], residual_nl)
        if self._faults.code not in (0, FAULT["settings_damaged"]):  # its remedy is this command
            raise Refusal("fault_latched", "fault", self._faults.code)
        return request

    def apply_set_prescription(self, request):
        self.check_set_prescription(request)
        return self._delivery.prescribe(request)

    # -- bolus --------------------------------------------------------------------------------

    def check_start_bolus(self, request):
        rate, duration_us = self._delivery.plan_bolus(request["volume_nl"], request["duration_us"])
        return {
            "volume_nl": request["volume_nl"],
            "duration_us": duration_us,
            "rate_nl_day": rate,
        }

    def apply_start_bolus(self, request):
        return self._delivery.start_bolus(request["volume_nl"], request["duration_us"])

    def check_cancel_bolus(self, _):
        left_pl = self._delivery.bolus_left_pl(self._clock.now_us())
        if not self._delivery.bolus_pl:
            raise Refusal("wrong_mode", "mode", self._delivery.mode)
        return {"left_pl": left_pl}

    def apply_cancel_bolus(self, _):
        return self._delivery.cancel_bolus()

    # -- stop and resume ----------------------------------------------------------------------

    def check_stop_delivery(self, _):
        if self._store.current is None:
            raise Refusal("no_prescription")
        return {}

    def apply_stop_delivery(self, _):
        return self._delivery.stop()

    def check_resume_delivery(self, _):
        mode, rate = self._delivery.plan_resume()
        return {"mode": mode, "rate_nl_day": rate}

    def apply_resume_delivery(self, _):
        return self._delivery.resume()

    # -- refill -------------------------------------------------------------------------------

    def check_record_refill(self, request):
        capacity_nl = self._delivery.capacity_pl() // 1000
        for field in ("measured_nl", "fill_nl"):
            if request[field] > capacity_nl:
                raise Refusal("above_limit", field, request[field], capacity_nl)
        unusable_nl = self._delivery.unusable_pl() // 1000
        if request["fill_nl"] <= unusable_nl:
            raise Refusal("below_limit", "fill_nl", request["fill_nl"], unusable_nl + 1)
        if not request["reason"].strip():
            raise Refusal("bad_text", "reason")
        return self._ledger.assess(
            request["measured_nl"] * 1000,
            self._delivery.programmed_pl(self._clock.now_us()),
            capacity_nl * 1000,
        )

    def apply_record_refill(self, request):
        found = self.check_record_refill(request)
        done = self._delivery.refill(
            request["measured_nl"] * 1000,
            request["fill_nl"] * 1000,
            self._wall.now_s(),
            request["reason"],
        )
        if found["flagged"]:
            self._log.note("discrepancy", found["discrepancy_pl"])
        return done
