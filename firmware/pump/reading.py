"""What the pump tells: who it is, what it does now, its account, prescription and logs."""

import gc

from pump.prescription import Refusal
from pump_wire.codec import MAX_BODY
from pump_wire.messages import EVENT_SIZE, FAULT_SIZE, WIRE_VERSION

_EVENTS_A_FRAME = (MAX_BODY - 8) // EVENT_SIZE
_FAULTS_A_FRAME = (MAX_BODY - 8) // FAULT_SIZE


class Reading:
    """Handlers of the reads. ``identity``: dict of HELLO's board, firmware, vm, serial, boots,
    reset_cause. ``hashed``: of the message table. ``paired()``: somebody has a key.
    ``last_token()``: token of the last confirmed command."""

    def __init__(
        self,
        identity,
        hashed,
        paired,
        clock,
        wall,
        delivery,
        ledger,
        store,
        log,
        fault_log,
        faults,
        alarms,
    ):
        self._identity = identity
        self._table_hash = hashed
        self._paired = paired
        self._clock = clock
        self._wall = wall
        self._delivery = delivery
        self._ledger = ledger
        self._store = store
        self._log = log
        self._fault_log = fault_log
        self._faults = faults
        self._alarms = alarms
        self._schedule = delivery.schedule
        self.battery = None
        self.lag_ms = lambda: 0
        self.last_token = lambda: b""

    def hello(self, _):
        reply = dict(self._identity)
        reply["wire_version"] = WIRE_VERSION
        reply["table_hash"] = self._table_hash
        reply["sealed"] = int(self._paired())
        return reply

    def get_status(self, _):
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
            "last_token": self.last_token(),
            "alarms": len(self._alarms.active),
            "alarm": self._alarms.most_urgent(),
            "battery_mv": self.battery.mv if self.battery else 0,
            "service_days": self.battery.days if self.battery else 0,
            "lag_ms": self.lag_ms(),
        }

    def get_account(self, _):
        ledger = self._ledger
        return {
            "fill_pl": ledger.fill_pl,
            "delivered_pl": ledger.delivered_pl(),
            "residual_pl": ledger.residual_pl(),
            "lifetime_pl": ledger.moved() * ledger.step_pl,
            "bolus_pl": ledger.bolus_delivered_pl(),
            "capacity_pl": self._delivery.capacity_pl(),
            "low_mark_pl": self._delivery.low_mark_pl(),
            "unusable_pl": self._delivery.unusable_pl(),
            "refills": ledger.refills,
            "refill_uptime_us": ledger.refill_us,
            "refill_wall_s": ledger.refill_wall_s,
            "missed_pl": ledger.missed * ledger.step_pl,
            "expected_pl": ledger.expected_pl,
            "measured_pl": ledger.measured_pl,
            "before_delivered_pl": ledger.before_delivered_pl,
            "reason": ledger.reason,
        }

    def get_prescription(self, _):
        if self._store.current is None:
            raise Refusal("no_prescription")
        self._store.check()
        reply = dict(self._store.current)
        reply["sequence"] = self._store.sequence
        return reply

    def get_events(self, values):
        return {
            "oldest": self._log.oldest,
            "next": self._log.next,
            "records": self._log.read(values["first"], _EVENTS_A_FRAME),
        }

    def get_faults(self, values):
        return {
            "oldest": self._fault_log.oldest,
            "next": self._fault_log.next,
            "records": self._fault_log.read(values["first"], _FAULTS_A_FRAME),
        }

    def get_memory(self, _):
        gc.collect()  # what is free, not what has not been collected yet
        return {"heap_free": gc.mem_free()}
