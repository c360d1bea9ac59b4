"""Commands of the therapy: prescription, bolus, stop, resume, refill."""

import sys
from binascii import crc32
from struct import pack

import pump
from pump.prescription import Refusal, find_part
from pump.schedule import ceil_div
from pump_wire.messages import DRUG_FORMAT, FAULT, FILL_PARTS, RESERVOIR_PARTS, SIMPLE_CONTINUOUS

NEVER = 1 << 62
_FORGET = 255
_LAST_PART = 13
_MOST_OCTETS = 52  # a flex pattern of 13 steps


def lent(name):
    """Module ``pump.NAME`` for one use: what is rarely needed would cost heap. Give it back with
    ``return_module``."""
    return __import__("pump." + name, None, None, (name,))


def return_module(name):
    """Let go of a module that was lent."""
    sys.modules.pop("pump." + name, None)
    if hasattr(pump, name):
        delattr(pump, name)


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
        self._staged = {}  # part: octets

    # -- parts --------------------------------------------------------------------------------

    def write_part(self, request):
        part = request["part"]
        if part == _FORGET:
            self._staged.clear()
            return {"crc": 0}
        if part > _LAST_PART:
            raise Refusal("above_limit", "part", part, _LAST_PART)
        octets = request["octets"]
        if len(octets) > _MOST_OCTETS:
            raise Refusal("above_limit", "octets", len(octets), _MOST_OCTETS)
        if octets:
            self._staged[part] = octets
        else:
            self._staged.pop(part, None)
        return {"crc": crc32(self._gathered(part >= FILL_PARTS))}

    def get_part(self, request):
        part = request["part"]
        drugs = self._ledger.drugs
        octets = b""
        if RESERVOIR_PARTS <= part < RESERVOIR_PARTS + len(drugs):
            octets = part_of_drug(drugs[part - RESERVOIR_PARTS])
        elif self._store.current is not None:
            octets = find_part(self._store.current["parts"], part)
        return {"octets": octets}

    def _gathered(self, fill):
        """Octets of the staged parts of a fill or of a prescription."""
        octets = b""
        for part in sorted(self._staged):
            if (part >= FILL_PARTS) == fill:
                octets += bytes((part, len(self._staged[part]))) + self._staged[part]
        return octets

    def _bound(self, request, crc, fill):
        """The staged parts that ``request`` names, bound to it from its first check on."""
        parts = request.get("parts")
        if parts is None:
            parts = self._gathered(fill) if request[crc] else b""
            if crc32(parts) != request[crc]:
                raise Refusal("parts_differ", crc, request[crc], crc32(parts))
            request["parts"] = parts
        return parts

    # -- prescription -------------------------------------------------------------------------

    def _plan_prescription(self, request):
        """(prescription, echo, what the store's bridge would be)."""
        self._bound(request, "parts_crc", False)
        prescription = dict(request)
        for name in ("total_nl", "agreed", "bridge", "why"):
            prescription.pop(name)
        old = self._store.current if self._store.is_whole() else None
        try:
            echo, bridge = lent("programming").plan(
                prescription,
                request,
                old,
                self._ledger.drugs,
                self._store.bridge,
                self._ledger.steps(),
                self._ledger.step_pl,
            )
        finally:
            return_module("programming")
        residual_nl = ceil_div(self._ledger.residual_pl(), 1000)
        if request["capacity_nl"] < residual_nl:
            raise Refusal("below_limit", "capacity_nl", request["capacity_nl"], residual_nl)
        if self._faults.code not in (0, FAULT["settings_damaged"]):  # its remedy is this command
            raise Refusal("fault_latched", "fault", self._faults.code)
        echo.update(prescription)
        return prescription, echo, bridge

    def check_set_prescription(self, request):
        return self._plan_prescription(request)[1]

    def apply_set_prescription(self, request):
        prescription, _, _ = self._plan_prescription(request)
        if prescription["mode"] > SIMPLE_CONTINUOUS:
            raise Refusal("wrong_mode", "mode", prescription["mode"])
        return self._delivery.prescribe(prescription)

    # -- bolus --------------------------------------------------------------------------------

    def check_start_bolus(self, request):
        rate, duration_us = self._delivery.plan_bolus(request["volume_nl"], request["duration_us"])
        return {
            "volume_nl": request["volume_nl"],
            "duration_us": duration_us,
            "rate_nl_day": rate,
            "cut_nl": 0,
            "asks": 0,
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

    def check_request_bolus(self, _):
        raise Refusal("not_permitted")

    def check_start_prime(self, _):
        raise Refusal("wrong_mode", "mode", self._delivery.mode)

    def check_resume_bridge(self, _):
        raise Refusal("no_bridge")

    def get_therapy(self, _):
        return {
            "patient_us": NEVER,
            "patient_used": 0,
            "hour_pl": 0,
            "day_pl": 0,
            "room_nl": NEVER,
            "low_us": NEVER,
            "empty_us": NEVER,
            "refill_us": NEVER,
            "total_nl": 0,
            "bridge": self._store.bridge[0],
            "bridge_left_nl": 0,
            "why": self._store.bridge[3],
            "clock": int(self._wall.now_s() > 0),
            "utc_offset_min": self._store.utc_offset_min,
            "step": 255,
            "next_us": NEVER,
        }

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
        rest_nl = request["rest_nl"]
        for field in ("measured_nl", "fill_nl"):
            if request[field] > capacity_nl:
                raise Refusal("above_limit", field, request[field], capacity_nl)
        if rest_nl > capacity_nl - request["fill_nl"]:
            raise Refusal("above_limit", "rest_nl", rest_nl, capacity_nl - request["fill_nl"])
        unusable_nl = self._delivery.unusable_pl() // 1000
        if request["fill_nl"] + rest_nl <= unusable_nl:
            least = unusable_nl + 1 - rest_nl
            raise Refusal("below_limit", "fill_nl", request["fill_nl"], least)
        if not request["reason"].strip():
            raise Refusal("bad_text", "reason")
        found = self._ledger.assess(
            request["measured_nl"] * 1000,
            self._delivery.programmed_pl(self._clock.now_us()),
            capacity_nl * 1000,
        )
        drugs = request["drugs"] = self._mixture(request)
        for i, field in enumerate(("drug_ng_ml", "drug2_ng_ml", "drug3_ng_ml", "drug4_ng_ml")):
            found[field] = drugs[i][1] if i < len(drugs) else 0
        return found

    def _mixture(self, request):
        """[(name, ng/mL)] in the reservoir after a refill, empty when that is not known."""
        parts = self._bound(request, "fill_crc", True)
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
            request["measured_nl"] * 1000,
            (request["fill_nl"] + request["rest_nl"]) * 1000,
            self._wall.now_s(),
            request["reason"],
            request["drugs"],
        )
        if found["flagged"]:
            self._log.note("discrepancy", found["discrepancy_pl"])
        return done


def part_of_drug(drug):
    """A drug as the octets of a part."""
    return pack(DRUG_FORMAT, drug[1]) + drug[0].encode()
