"""A pump that lives for weeks or months of simulated time with random traffic (FLT-5). Run by
``cisterna bench soak``.

On stdin: one JSON object with ``seed``, ``number``, ``days``, and with ``told`` what is done step
by step. Prints a JSON object {"why", ...}, then {"end"}. The working directory is the runner's
own.

Traffic comes over the link as from programmers of every role, a few times a day at random
instants: whole interrogations, programmes, boluses, stops, refills, alarms that are silenced and
acknowledged, clocks, logs that are read and cleared, sessions that are left open or closed, and
noise, cut frames and forged packets between them. The motor stalls now and then for hours.

Judged from outside: the watchdog never bites, no fault latches, every request is answered, the
account is what the plant moved, and the heap in use, looked at while nobody talks and no alarm is
listed, is no larger in the second half of the life than it was in the first.
"""

import gc
import json
import sys
from array import array

from attack_bed import Bed, Programmer, Wire, Wrong
from devices_virtual import BatteryVirtual, WatchdogVirtual
from random_numbers import Random
from stepper_virtual import StepperVirtual
from therapy_pump import prescribe
from virtual_pump import DAY_US, HOUR_US, SECOND_US, STEP_PL, Pump

from pump.prescription import Refusal
from pump_wire.messages import (
    ACKNOWLEDGE,
    ALARM_SIZE,
    ALARM_TEST,
    BY_NUMBER,
    CANCEL_BOLUS,
    CLEAR_LOGS,
    CLINICIAN,
    CLOSE_SESSION,
    EVENT_SIZE,
    GET_ACCOUNT,
    GET_ALARMS,
    GET_EVENTS,
    GET_FAULTS,
    GET_PRESCRIPTION,
    GET_STATUS,
    PATIENT,
    REFUSALS,
    REQUEST_BOLUS,
    RESUME,
    SERVICE,
    SET_CLOCK,
    SILENCE,
    START_BOLUS,
    STOP,
)
from pump_wire.session import REPLY

TIMEOUT_MS = 300_000  # as boards/virtual/board.toml has it
_PATIENT = {"patient_nl": 5_000, "patient_s": 300, "lockout_s": 3_600, "patient_max": 6}
_MONDAY_S = 1_735_516_800
_CAPACITY_PL = 20_000_000_000
_LOW_PL = 4_000_000_000  # refilled below
_KEY = 16
_GAP_US = 4 * HOUR_US  # longest between two exchanges
_MOST_LOOKS = 400
_MORE = 128  # octets that a heap may differ by from one look to another: a list that was grown
_STALL_STEPS = 3  # what a stall may leave unknown in the account: it is one after three steps
_SEGMENT_STEPS = 20  # between two looks of the pump at its rotor


class _Bitten(Exception):
    pass


def nothing(_):
    """Nobody wants to be told."""


class Life(Bed):
    """``tell(text)``: what is done."""

    def __init__(self, seed, tell=nothing):
        self.random = Random(seed)
        self.tell = tell
        self.heard = []
        self.wire = Wire()
        self.stalls = self.exchanges = self.refused = self.resets = 0
        self.heaps = array("I", bytes(4 * _MOST_LOOKS))  # in octets; it must not grow itself
        self.looks = 0
        self.stalled_until_us = 0
        pump = self.pump = Pump(
            port=self.wire,
            powered=False,
            stepper=lambda plant, us, trace: StepperVirtual(plant, us, None),
        )
        pump.breaking = self._with_devices
        pump.power_on()
        pump.advance(1_000)
        pump.refill()
        prescribe(pump, **_PATIENT)
        pump.command(SET_CLOCK, wall_s=_MONDAY_S, utc_offset_min=0)
        self.wire.take()
        self.keys = {role: self.octets(_KEY) for role in (PATIENT, CLINICIAN, SERVICE)}
        for role in self.keys:
            pump.app.sessions._keep(role, 1, self.keys[role])

    def _with_devices(self, board):
        board.battery = BatteryVirtual(self.pump.plant)
        board.watchdog = WatchdogVirtual(TIMEOUT_MS, self.pump.world)
        self.pump.world.on_deadline = self._bitten

    def _bitten(self):
        self.resets += 1
        raise _Bitten

    # -- what is done -------------------------------------------------------------------------

    def talk(self, role=CLINICIAN):
        programmer = Programmer(self, role)
        programmer.open()
        return programmer

    def ask(self, programmer, message, **values):
        """The reply's values; None for a refusal."""
        kind, reply = programmer.ask(message, **values)
        if kind == REPLY:
            return reply
        self.refused += 1
        return None

    def command(self, message, **values):
        """As the link would hand it over; counts a refusal."""
        try:
            return self.pump.command(message, **values)
        except Refusal as refusal:
            self.refused += 1
            self.tell("  refused: %s" % REFUSALS[refusal.code][0])
            return None

    def interrogate(self):
        programmer = self.talk((PATIENT, CLINICIAN, SERVICE)[self.random.below(3)])
        for message in (GET_STATUS, GET_ACCOUNT, GET_PRESCRIPTION, GET_ALARMS):
            self.ask(programmer, message)
        if programmer.role == CLINICIAN:
            status = self.ask(programmer, GET_STATUS)
            first = max(0, status["next_event"] - self.random.below(40))
            while True:
                found = self.ask(programmer, GET_EVENTS, first=first)
                if not found["records"]:
                    break
                first = max(first, found["oldest"]) + len(found["records"]) // EVENT_SIZE
            self.ask(programmer, GET_FAULTS, first=0)
        if self.random.below(2):
            self.ask(programmer, CLOSE_SESSION)

    def programme(self):
        rate = 1_000 * (48 + self.random.below(2_000))
        prescribe(self.pump, rate_nl_day=rate, **_PATIENT)

    def bolus(self):
        below = self.random.below
        self.command(
            START_BOLUS,
            volume_nl=1_000 * (1 + below(100)),
            duration_us=SECOND_US * (60 + below(3_600)),
        )

    def cancel(self):
        self.command(CANCEL_BOLUS)

    def ask_bolus(self):
        self.command(REQUEST_BOLUS)

    def stop(self):
        self.command(STOP)
        self.pump.advance(self.random.below(HOUR_US))
        self.command(RESUME)

    def clock(self):
        below = self.random.below
        self.command(
            SET_CLOCK,
            wall_s=_MONDAY_S + self.pump.now_us // SECOND_US + below(7_200) - 3_600,
            utc_offset_min=60 * (below(3) - 1),
        )

    def alarms(self):
        programmer = self.talk()
        if self.random.below(3) == 0:
            self.ask(programmer, SILENCE, silence_s=60 + self.random.below(600))
        if self.random.below(3) == 0:
            self.ask(programmer, ALARM_TEST, pattern=self.random.below(2))
        self.acknowledge(programmer)

    def acknowledge(self, programmer):
        records = self.ask(programmer, GET_ALARMS)["records"]
        for at in range(0, len(records), ALARM_SIZE):
            number = int.from_bytes(records[at : at + 4], "little")
            self.ask(programmer, ACKNOWLEDGE, instance=number)

    def clear(self):
        self.command(CLEAR_LOGS)

    def noise(self):
        self.send(self.octets(1 + self.random.below(400)), 1_000)
        self.pump.advance(SECOND_US)
        self.wire.take()

    def forge(self):
        programmer = self.talk()
        message = list(BY_NUMBER.values())[self.random.below(len(BY_NUMBER))]
        if message is CLOSE_SESSION:
            return
        try:
            packet = bytearray(programmer.packet(message))
        except ValueError:  # its request has no values that are all the lowest
            return
        packet[self.random.below(len(packet))] ^= 1 << self.random.below(8)
        self.exchange(packet)

    def stall(self):
        if not self.pump.plant.stalled:
            self.stalls += 1
            self.stalled_until_us = self.pump.now_us + self.random.below(12 * HOUR_US)
            self.pump.plant.inject("stall", self.random.below(5))

    def refill(self):
        pump = self.pump
        pump.stepper.emitted()
        left = pump.plant.residual_pl
        pump.app.motion.halt()
        pump.app.motion.kick()
        pump.refill(_CAPACITY_PL // 1000, left // 1000)

    # -- the life -----------------------------------------------------------------------------

    def look(self):
        """Heap in use while nobody talks and nothing is listed."""
        programmer = self.talk()
        self.acknowledge(programmer)
        self.ask(programmer, CLOSE_SESSION)
        programmer = None
        self.heard = []
        self.pump.advance(10 * SECOND_US)
        self.wire.take()
        if self.pump.app.alarms.active:
            return
        gc.collect()
        self.heaps[self.looks] = gc.mem_alloc()
        self.looks += 1

    def off_steps(self):
        """Steps that the account has too many."""
        self.pump.stepper.emitted()
        moved = self.pump.ask(GET_ACCOUNT)["lifetime_pl"] // STEP_PL
        return moved - self.pump.plant.steps

    def why(self):
        pump = self.pump
        if self.resets:
            return "the watchdog bit at %d us" % pump.now_us
        if pump.fault:
            return "fault %s at %d us: %s" % (pump.fault, pump.now_us, pump.app.faults.text)
        if not pump.plant.stalled:
            off = self.off_steps()
            if not 0 <= off <= _STALL_STEPS * self.stalls + _SEGMENT_STEPS:
                return "the account is off by %d steps, %d stalls" % (off, self.stalls)
        return ""

    def run(self, days):
        below = self.random.below
        pump = self.pump
        day = 0
        while pump.now_us < days * DAY_US:
            what = ACTIONS[below(len(ACTIONS))]
            self.tell("%d us: %s" % (pump.now_us, what))
            getattr(self, what)()
            self.exchanges += 1
            self.heard = []
            pump.advance(below(_GAP_US))
            if pump.plant.stalled and pump.now_us >= self.stalled_until_us:
                pump.plant.clear("stall")
            if pump.plant.residual_pl < _LOW_PL:
                self.refill()
            if pump.now_us // DAY_US > day:
                day = pump.now_us // DAY_US
                if not pump.plant.stalled and self.looks < _MOST_LOOKS:
                    self.look()
            why = self.why()
            if why:
                return why
        return ""

    def heap(self):
        """Octets in use that were never undercut in the first half and in the second; 0 where too
        few were looked at."""
        middle = self.looks // 2
        if middle < 3:
            return 0, 0
        return min(self.heaps[1:middle]), min(self.heaps[middle : self.looks])


ACTIONS = (
    ("interrogate",) * 6
    + ("noise", "forge") * 2
    + ("bolus", "ask_bolus", "cancel", "alarms") * 2
    + ("programme", "stop", "clock", "clear", "stall")
)


def main():
    request = json.loads(sys.stdin.read())

    def tell(text):
        if request.get("told"):
            print(json.dumps({"text": text}))

    life = Life(request["seed"] * 1_000_003 + request["number"], tell)
    try:
        why = life.run(request["days"])
    except _Bitten:
        why = life.why()
    except Wrong as error:
        why = "%s at %d us" % (error, life.pump.now_us)
    first, last = life.heap()
    if not why and last - first > _MORE:
        why = "%d octets in use, %d in the first half" % (last, first)
    print(
        json.dumps(
            {
                "why": why,
                "days": life.pump.now_us // DAY_US,
                "resets": life.resets,
                "exchanges": life.exchanges,
                "refused": life.refused,
                "stalls": life.stalls,
                "steps": life.pump.plant.pulses,
                "off_steps": life.off_steps(),
                "first": first,
                "last": last,
                "events": life.pump.app.log.next,
            }
        )
    )
    print(json.dumps({"end": True}))


if __name__ == "__main__":
    main()
