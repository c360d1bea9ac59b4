"""Commands that set what is delivered: staged parts and the prescription that names them."""

from binascii import crc32
from struct import pack

from pump.lending import lent, return_module
from pump.prescription import Refusal, find_part
from pump.schedule import ceil_div
from pump_wire.messages import DRUG_FORMAT, FAULT, FILL_PARTS, FLEX, RESERVOIR_PARTS

_FORGET = 255
_LAST_PART = 14
_MOST_OCTETS = 52  # a flex pattern of 13 steps


def of_fill(part):
    """True for the number of a drug of a fill."""
    return FILL_PARTS <= part < FILL_PARTS + 4


def gathered(staged, fill):
    """Octets of the staged parts of a fill or of a prescription."""
    octets = b""
    for part in sorted(staged):
        if of_fill(part) == fill:
            octets += bytes((part, len(staged[part]))) + staged[part]
    return octets


def bound(staged, request, crc, fill):
    """The staged parts that ``request`` names, bound to it from its first check on."""
    parts = request.get("parts")
    if parts is None:
        parts = gathered(staged, fill) if request[crc] else b""
        if crc32(parts) != request[crc]:
            raise Refusal("parts_differ", crc, request[crc], crc32(parts))
        request["parts"] = parts
    return parts


class Prescribing:
    """Handlers of parts and prescription. ``staged``: {part: octets}."""

    def __init__(self, wall, delivery, ledger, store, faults, staged):
        self._wall = wall
        self._delivery = delivery
        self._ledger = ledger
        self._store = store
        self._faults = faults
        self._staged = staged

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
        return {"crc": crc32(gathered(self._staged, of_fill(part)))}

    def get_part(self, request):
        part = request["part"]
        drugs = self._ledger.drugs
        octets = b""
        if RESERVOIR_PARTS <= part < RESERVOIR_PARTS + len(drugs):
            octets = pack(DRUG_FORMAT, drugs[part - RESERVOIR_PARTS][1])
            octets += drugs[part - RESERVOIR_PARTS][0].encode()
        elif self._store.current is not None:
            octets = find_part(self._store.current["parts"], part)
        return {"octets": octets}

    # -- prescription -------------------------------------------------------------------------

    def _plan_prescription(self, request):
        """(prescription, echo, what the store's bridge would be)."""
        bound(self._staged, request, "parts_crc", False)
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
                self._ledger.moved(),
                self._ledger.step_pl,
            )
        finally:
            return_module("programming")
        residual_nl = ceil_div(self._ledger.residual_pl(), 1000)
        if request["capacity_nl"] < residual_nl:
            raise Refusal("below_limit", "capacity_nl", request["capacity_nl"], residual_nl)
        if self._faults.code not in (0, FAULT["settings_damaged"]):  # its remedy is this command
            raise Refusal("fault_latched", "fault", self._faults.code)
        if request["mode"] == FLEX and not self._wall.now_s():
            raise Refusal("clock_not_set", "mode", request["mode"])
        self._delivery.check_room(prescription, echo["bridge_rate_nl_day"])
        echo.update(prescription)
        return prescription, echo, bridge

    def check_set_prescription(self, request):
        return self._plan_prescription(request)[1]

    def apply_set_prescription(self, request):
        prescription, echo, bridge = self._plan_prescription(request)
        if echo["asks"]:
            raise Refusal("not_agreed", "asks", echo["asks"])
        return self._delivery.prescribe(prescription, bridge)
