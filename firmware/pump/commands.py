"""What each message of the table does. Reads answer at once; what moves drug or settings is
prepared, echoed, and carried out once when its token is confirmed.

A handler takes the decoded request and returns the reply's values; it raises Refusal for what the
pump will not do. ``_check_NAME`` changes nothing; ``_apply_NAME`` carries a prepared command out
and returns (sequence of the event that recorded it, instant it took effect).
"""

import gc

from pump.prescription import Refusal, check
from pump.schedule import ceil_div
from pump_wire.codec import MAX_BODY, FieldError, decode, encode
from pump_wire.messages import (
    BY_NUMBER,
    ERROR,
    EVENT_SIZE,
    FAULT,
    FAULT_SIZE,
    WIRE_VERSION,
    table_hash,
)

TOKEN_VALID_US = 30_000_000  # SEC-5: 30 s
_TOKEN_SIZE = 8
_NO_TOKEN = bytes(_TOKEN_SIZE)
_LOWEST, _HIGHEST = ERROR[2][2:4]
_EVENTS_A_FRAME = (MAX_BODY - 8) // EVENT_SIZE
_FAULTS_A_FRAME = (MAX_BODY - 8) // FAULT_SIZE


def _heap_free():
    gc.collect()  # what is free, not what has not been collected yet
    return gc.mem_free()


class Commands:
    """One per pump. ``identity``: dict of HELLO's board, firmware, vm, serial, boots,
    reset_cause."""

    def __init__(
        self, identity, sealed, clock, wall, delivery, ledger, store, log, fault_log, faults, rng
    ):
        self._identity = identity
        self._sealed = sealed
        self._clock = clock
        self._wall = wall
        self._delivery = delivery
        self._ledger = ledger
        self._store = store
        self._log = log
        self._fault_log = fault_log
        self._faults = faults
        self._entropy = rng
        self._schedule = delivery.schedule
        self._table_hash = table_hash()  # 50 ms on a Pico: once
        self._reply = bytearray(MAX_BODY)
        self._prepared = None  # (token, message, request values, valid until us)
        self._confirmed = None  # (token, confirm's reply) of the last command carried out

    def answer(self, number, body, out, at):
        """Carry out message ``number`` with request octets ``body``; write the reply's body into
        ``out`` from ``at`` and return its end.

        Raises Refusal. Any other exception latches a fault and becomes a refusal.
        """
        message = BY_NUMBER.get(number)
        if message is None:
            raise Refusal("unknown_message", "", number)
        if message.prepared:
            raise Refusal("not_prepared", "", number)
        values = self._decoded(message, body)
        try:
            reply = getattr(self, "_" + message.name)(values)
            return encode(message.reply, reply, out, at)
        except Refusal:
            raise
        except Exception as error:
            self._faults.latch_error(error, message.name)
            raise Refusal("internal", "", number)

    def _decoded(self, message, body):
        try:
            return decode(message.request, body)
        except FieldError as error:
            if error.limit is None:
                raise Refusal("bad_body", error.field, error.value)
            name = "below_limit" if error.value < error.limit else "above_limit"
            raise Refusal(name, error.field, error.value, error.limit)

    # -- reads --------------------------------------------------------------------------------

    def _hello(self, _):
        reply = dict(self._identity)
        reply["wire_version"] = WIRE_VERSION
        reply["table_hash"] = self._table_hash
        reply["sealed"] = int(self._sealed)
        return reply

    def _get_status(self, _):
        delivery = self._delivery
        now_us = self._clock.now_us()
        return {
            "uptime_us": now_us,
            "wall_s": self._wall.now_s(),
            "mode": delivery.mode,
            "return_mode": delivery.return_mode,
            "stop_reason": delivery.stop_reason,
            "rate_nl_day": self._schedule.rate,
            "steps": self._ledger.steps(),
            "step_pl": self._ledger.step_pl,
            "programmed_pl": delivery.programmed_pl(now_us),
            "bolus_pl": delivery.bolus_pl,
            "bolus_left_pl": delivery.bolus_left_pl(now_us),
            "fault": self._faults.code,
            "fault_text": self._faults.text,
            "next_event": self._log.next,
            "last_token": self._confirmed[0] if self._confirmed else _NO_TOKEN,
            "heap_free": _heap_free(),
        }

    def _get_account(self, _):
        ledger = self._ledger
        return {
            "fill_pl": ledger.fill_pl,
            "delivered_pl": ledger.delivered_pl(),
            "residual_pl": ledger.residual_pl(),
            "lifetime_pl": ledger.steps() * ledger.step_pl,
            "bolus_pl": ledger.bolus_delivered_pl(),
            "capacity_pl": self._delivery.capacity_pl(),
            "low_mark_pl": self._delivery.low_mark_pl(),
            "unusable_pl": self._delivery.unusable_pl(),
            "refills": ledger.refills,
            "refill_uptime_us": ledger.refill_us,
            "refill_wall_s": ledger.refill_wall_s,
            "expected_pl": ledger.expected_pl,
            "measured_pl": ledger.measured_pl,
            "before_delivered_pl": ledger.before_delivered_pl,
            "reason": ledger.reason,
        }

    def _get_prescription(self, _):
        if self._store.current is None:
            raise Refusal("no_prescription")
        self._store.check()
        reply = dict(self._store.current)
        reply["sequence"] = self._store.sequence
        return reply

    def _get_events(self, values):
        return {
            "oldest": self._log.oldest,
            "next": self._log.next,
            "records": self._log.read(values["first"], _EVENTS_A_FRAME),
        }

    def _get_faults(self, values):
        return {
            "oldest": self._fault_log.oldest,
            "next": self._fault_log.next,
            "records": self._fault_log.read(values["first"], _FAULTS_A_FRAME),
        }

    # -- prepare and confirm ------------------------------------------------------------------

    def _prepare(self, values):
        message = BY_NUMBER.get(values["command"])
        if message is None or not message.prepared:
            raise Refusal("unknown_message", "command", values["command"])
        request = self._decoded(message, values["body"])
        echo = getattr(self, "_check_" + message.name)(request)
        end = encode(message.reply, echo, self._reply)
        token = self._entropy(_TOKEN_SIZE)
        self._prepared = (token, message, request, self._clock.now_us() + TOKEN_VALID_US)
        return {
            "token": token,
            "valid_ms": TOKEN_VALID_US // 1000,
            "body": bytes(self._reply[:end]),
        }

    def _confirm(self, values):
        token = values["token"]
        if self._confirmed and token == self._confirmed[0]:
            return self._confirmed[1]  # asked again: done once, same answer
        prepared = self._prepared
        if prepared is None or token != prepared[0]:
            raise Refusal("bad_token")
        self._prepared = None
        if self._clock.now_us() > prepared[3]:
            raise Refusal("token_expired", "token", 0, TOKEN_VALID_US // 1000)
        event, uptime_us = getattr(self, "_apply_" + prepared[1].name)(prepared[2])
        reply = {"event": event, "uptime_us": uptime_us}
        self._confirmed = (token, reply)
        self._log.flush()
        return reply

    def forget_prepared(self):
        """A session began or ended: what was prepared in it is void."""
        self._prepared = None

    # -- prescription -------------------------------------------------------------------------

    def _check_set_prescription(self, request):
        check(request)
        residual_nl = ceil_div(self._ledger.residual_pl(), 1000)
        if request["capacity_nl"] < residual_nl:
            raise Refusal("below_limit", "capacity_nl", request["capacity_nl"], residual_nl)
        if self._faults.code not in (0, FAULT["settings_damaged"]):  # its remedy is this command
            raise Refusal("fault_latched", "fault", self._faults.code)
        return request

    def _apply_set_prescription(self, request):
        self._check_set_prescription(request)
        return self._delivery.prescribe(request)

    # -- bolus --------------------------------------------------------------------------------

    def _check_start_bolus(self, request):
        rate, duration_us = self._delivery.plan_bolus(request["volume_nl"], request["duration_us"])
        return {
            "volume_nl": request["volume_nl"],
            "duration_us": duration_us,
            "rate_nl_day": rate,
        }

    def _apply_start_bolus(self, request):
        return self._delivery.start_bolus(request["volume_nl"], request["duration_us"])

    def _check_cancel_bolus(self, _):
        left_pl = self._delivery.bolus_left_pl(self._clock.now_us())
        if not self._delivery.bolus_pl:
            raise Refusal("wrong_mode", "mode", self._delivery.mode)
        return {"left_pl": left_pl}

    def _apply_cancel_bolus(self, _):
        return self._delivery.cancel_bolus()

    # -- stop and resume ----------------------------------------------------------------------

    def _check_stop_delivery(self, _):
        if self._store.current is None:
            raise Refusal("no_prescription")
        return {}

    def _apply_stop_delivery(self, _):
        return self._delivery.stop()

    def _check_resume_delivery(self, _):
        mode, rate = self._delivery.plan_resume()
        return {"mode": mode, "rate_nl_day": rate}

    def _apply_resume_delivery(self, _):
        return self._delivery.resume()

    # -- refill -------------------------------------------------------------------------------

    def _check_record_refill(self, request):
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

    def _apply_record_refill(self, request):
        found = self._check_record_refill(request)
        done = self._delivery.refill(
            request["measured_nl"] * 1000,
            request["fill_nl"] * 1000,
            self._wall.now_s(),
            request["reason"],
        )
        if found["flagged"]:
            self._log.note("discrepancy", found["discrepancy_pl"])
        return done

    # -- clock --------------------------------------------------------------------------------

    def _check_set_clock(self, _):
        return {"wall_s": self._wall.now_s()}

    def _apply_set_clock(self, request):
        before = self._wall.now_s()
        self._wall.set(request["wall_s"])
        event = self._log.note("clock_set", before)
        away_s = self._wall.away_s()
        if away_s >= 0:
            self._log.note("power_was_away", away_s)
        return event, self._clock.now_us()

    # -- logs ---------------------------------------------------------------------------------

    def _check_clear_logs(self, _):
        return {
            "events": self._log.next - self._log.oldest,
            "faults": self._fault_log.next - self._fault_log.oldest,
        }

    def _apply_clear_logs(self, _):
        hidden = self._log.next - self._log.oldest
        self._log.clear()
        self._fault_log.clear()
        return self._log.note("logs_cleared", hidden), self._clock.now_us()


def refusal_values(refusal):
    """A Refusal as the values of the ERROR body, numbers it cannot carry cut to those it can."""
    return {
        "code": refusal.code,
        "field": refusal.field,
        "value": max(_LOWEST, min(refusal.value, _HIGHEST)),
        "limit": max(_LOWEST, min(refusal.limit, _HIGHEST)),
    }
