"""Commands of the therapy: boluses, stop, resume, refill."""

from pump.lending import lent, return_module
from pump.prescription import Refusal
from pump_wire.messages import BRIDGE_BOLUS, PRIMING_BOLUS, SINGLE_BOLUS


class TherapyCommands:
    """Handlers of what moves drug or changes the account. ``staged``: {part: octets}."""

    def __init__(self, clock, wall, delivery, ledger, store, log, staged):
        self._clock = clock
        self._wall = wall
        self._delivery = delivery
        self._ledger = ledger
        self._store = store
        self._log = log
        self._staged = staged

    # -- bolus --------------------------------------------------------------------------------

    def check_start_bolus(self, request):
        return self._delivery.plan(
            "bolus", request["volume_nl"], request["duration_us"], SINGLE_BOLUS, request["agreed"]
        )

    def apply_start_bolus(self, request):
        return self._delivery.start_bolus(
            request["volume_nl"], request["duration_us"], SINGLE_BOLUS, request["agreed"]
        )

    def check_cancel_bolus(self, _):
        delivery = self._delivery
        if delivery.mode == BRIDGE_BOLUS:
            return {"left_pl": delivery.bridge_left_pl()}
        left_pl = delivery.bolus_left_pl(self._clock.now_us())
        delivery.plan("permit", "cancel_bolus")
        return {"left_pl": left_pl}

    def apply_cancel_bolus(self, _):
        return self._delivery.cancel_bolus()

    def check_start_prime(self, request):
        return self._delivery.plan(
            "bolus", request["volume_nl"], request["duration_us"], PRIMING_BOLUS
        )

    def apply_start_prime(self, request):
        return self._delivery.start_bolus(
            request["volume_nl"], request["duration_us"], PRIMING_BOLUS
        )

    def check_resume_bridge(self, _):
        return self._delivery.plan("bridge")

    def apply_resume_bridge(self, _):
        return self._delivery.resume_bridge()

    # -- stop and resume ----------------------------------------------------------------------

    def check_stop_delivery(self, _):
        if self._store.current is None:
            raise Refusal("no_prescription")
        return {}

    def apply_stop_delivery(self, _):
        return self._delivery.stop()

    def check_resume_delivery(self, _):
        return self._delivery.plan("resume")

    def apply_resume_delivery(self, _):
        return self._delivery.resume()

    # -- refill -------------------------------------------------------------------------------

    def check_record_refill(self, request):
        capacity_nl = self._delivery.capacity_pl() // 1000
        rest_nl = request["rest_nl"]
        for field in ("measured_nl", "fill_nl"):
            if request[field] > capacity_nl:
                raise Refusal("above_limit", field, request[field], capacity_nl)
        if rest_nl > capacity_nl - request["fill_nl"]:
            raise Refusal("above_limit", "rest_nl", rest_nl, capacity_nl - request["fill_nl"])
        if request["measured_nl"] > capacity_nl - rest_nl:
            most = capacity_nl - rest_nl
            raise Refusal("above_limit", "measured_nl", request["measured_nl"], most)
        unusable_nl = self._delivery.unusable_pl() // 1000
        if request["fill_nl"] + rest_nl <= unusable_nl:
            least = unusable_nl + 1 - rest_nl
            raise Refusal("below_limit", "fill_nl", request["fill_nl"], least)
        if not request["reason"].strip():
            raise Refusal("bad_text", "reason")
        found = self._ledger.assess(
            (request["measured_nl"] + rest_nl) * 1000,
            self._delivery.programmed_pl(self._clock.now_us()),
            capacity_nl * 1000,
        )
        drugs = request["drugs"] = self._mixture(request)
        for i, field in enumerate(("drug_ng_ml", "drug2_ng_ml", "drug3_ng_ml", "drug4_ng_ml")):
            found[field] = drugs[i][1] if i < len(drugs) else 0
        return found

    def _mixture(self, request):
        """[(name, ng/mL)] in the reservoir after a refill, empty when that is not known."""
        try:
            parts = lent("prescribing").bound(self._staged, request, "fill_crc", True)
        finally:
            return_module("prescribing")
        try:
            programming = lent("programming")
            before = self._ledger.drugs
            if not before and self._store.current is not None:
                before = programming.drugs_of(self._store.current)
            if not parts:
                return self._ledger.drugs
            return programming.mixture(parts, request["fill_nl"], before, request["rest_nl"])
        finally:
            return_module("programming")

    def apply_record_refill(self, request):
        found = self.check_record_refill(request)
        done = self._delivery.refill(
            (request["measured_nl"] + request["rest_nl"]) * 1000,
            (request["fill_nl"] + request["rest_nl"]) * 1000,
            self._wall.now_s(),
            request["reason"],
            request["drugs"],
        )
        if found["flagged"]:
            self._log.note("discrepancy", found["discrepancy_pl"])
        return done
