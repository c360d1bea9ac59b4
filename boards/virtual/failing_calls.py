"""Calls that fail (FLT-3): in one short story of a pump the k-th call of a kind fails, once or it
and all after it. Run by ``cisterna bench faults``.

On stdin: one JSON object with ``seed``, ``kind``, ``for_ever``, ``first``, ``every``, and with
``told`` what happens step by step: the k-th call fails for k = first, first + every, ... until a
story makes no k-th call. With ``only``: that k alone. Prints a JSON object {"k", "why", "end"} for
each k, ``end`` being what became of the pump, and then {"end": true}. The working directory is the
runner's own.

Kinds: ``flash``, a program or erase of the chip; ``file``, a call of the file system or of an open
file; ``serial``, a call of the port; ``memory``, where k - 1 blocks of the heap are free when a
request or a segment comes, so that the k-th allocation that must be kept fails. Once: what was in
the way is taken away after that step.

The story: a programme, a bolus, the rotor stalls, the alarm is acknowledged, a refill, logs and
clock, and then the power goes and comes again. Judged by the plant and over the link, never by
the pump's own word alone: it runs on as programmed, answers and can be heard, or its motor is off
and a fault says why, or it starts anew, and where what fails stays so again and again, with its
motor off. What was answered with success is there after the next start, the account is never too
low.
"""

import gc
import json
import sys

import vfs
from attack_bed import Bed, Programmer, Wire, Wrong
from devices_virtual import BatteryVirtual, WatchdogVirtual
from nor_flash import PAGE
from random_numbers import Random
from stepper_virtual import StepperVirtual
from virtual_pump import ROOT, SECOND_US, STEP_PL, Pump

from pump.prescription import Refusal
from pump.recordlog import is_whole
from pump_wire.messages import (
    ACKNOWLEDGE,
    ALARM,
    ALARM_SIZE,
    ALARM_TEST,
    CLINICIAN,
    CONFIRM,
    EVENT_SIZE,
    EVENTS,
    GET_ACCOUNT,
    GET_ALARMS,
    GET_EVENTS,
    GET_STATUS,
    PREPARE,
    RECORD_REFILL,
    SET_CLOCK,
    SET_PRESCRIPTION,
    START_BOLUS,
)
from pump_wire.session import REPLY

KINDS = ("flash", "file", "serial", "memory")
TIMEOUT_MS = 60_000
_RATE = 8_640_000  # a step a second
_NEW_RATE = 4_320_000
_MINUTE_US = 60 * SECOND_US
_KEY = 16
_OVER_STEPS = 60  # what cuts, halts and a stall may leave too much in the account
_ONE = 1
_FILL_NL = 19_000_000
_STEPS = 40  # of a story, and a few more
_CLEAN = 150  # as many blocks more that change nothing: memory suffices
_BALLAST = 3_000  # blocks of the heap, the last that are taken


class Bitten(Exception):
    """The watchdog has reset the pump."""


_BITTEN = Bitten()  # there may be no memory for another


class Calls:
    """Counts calls; ``at``: the call that fails, 0 for none, ``for_ever``: all after it too."""

    def __init__(self):
        self.count = 0
        self.at = 0
        self.for_ever = False

    def arm(self, at, for_ever):
        self.count = 0
        self.at = at
        self.for_ever = for_ever

    def one(self):
        """A call is made. Raises OSError."""
        if not self.at:
            return
        self.count += 1
        if self.count == self.at or (self.for_ever and self.count > self.at):
            raise OSError(5)


class FailingFile:
    """An open file whose calls are counted."""

    def __init__(self, file, calls):
        self._file = file
        self._calls = calls

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def read(self, *arguments):
        self._calls.one()
        return self._file.read(*arguments)

    def readinto(self, *arguments):
        self._calls.one()
        return self._file.readinto(*arguments)

    def write(self, octets):
        self._calls.one()
        return self._file.write(octets)

    def seek(self, *arguments):
        self._calls.one()
        return self._file.seek(*arguments)

    def flush(self):
        self._calls.one()
        self._file.flush()

    def close(self):
        self._file.close()
        self._calls.one()


class FailingFiles:
    """A file system whose calls are counted."""

    def __init__(self, under, calls):
        self._under = under
        self._calls = calls

    def mount(self, readonly, mkfs):
        pass

    def umount(self):
        self._under.umount()

    def open(self, path, mode):
        self._calls.one()
        return FailingFile(self._under.open(path, mode), self._calls)

    def __getattr__(self, name):
        self._calls.one()
        return getattr(self._under, name)


class FailingPort(Wire):
    """A port whose calls are counted."""

    def __init__(self, calls):
        super().__init__()
        self._calls = calls

    def read_into(self, buffer):
        self._calls.one()
        return super().read_into(buffer)

    def write(self, view):
        self._calls.one()
        super().write(view)


class Ballast:
    """Takes all of the heap but some blocks."""

    def __init__(self):
        self._large = [None] * 64
        self._small = [None] * _BALLAST

    def take(self, free):
        """All but ``free`` blocks."""
        gc.collect()
        large = self._large
        small = self._small
        for at in range(len(small)):
            small[at] = (at,)
        size = 1 << 18
        at = 0
        while size >= 64 and at < len(large):
            try:
                large[at] = bytearray(size)
                at += 1
            except MemoryError:
                size >>= 1
        for at in range(min(free, len(small))):
            small[at] = None
        gc.collect()

    def give_back(self):
        for at in range(len(self._large)):
            self._large[at] = None
        for at in range(len(self._small)):
            self._small[at] = None
        gc.collect()


def nothing(_):
    """Nobody wants to be told."""


class Story(Bed):
    """One pump and one call that fails. ``done``: names of what was answered with success."""

    def __init__(self, seed, kind, at, for_ever, tell=nothing, ballast=None):
        self.kind = kind
        self.at = at
        self.for_ever = for_ever
        self.tell = tell
        self.random = Random(seed)
        self.heard = []
        self.calls = Calls()
        self.ballast = ballast
        self.steps_made = 0  # of the story
        self.tight = -1  # the one step in which memory is out; -1: in all of them
        self.met = False  # the k-th call was made
        self.ended = 0  # how often the main loop did, by itself or by the watchdog
        self.done = []
        self.armed = False
        self.wire = FailingPort(self.calls)
        self.stall_steps = 0
        pump = self.pump = Pump(
            port=self.wire,
            powered=False,
            stepper=lambda plant, us, trace: StepperVirtual(plant, us, None),
        )
        self._count_files()
        pump.breaking = self._with_devices
        pump.power_on()
        pump.advance(1_000)
        pump.refill()
        pump.program(_RATE)
        pump.advance(30 * SECOND_US)
        self.wire.take()
        self.keys = {CLINICIAN: self.octets(_KEY)}
        pump.app.sessions._keep(CLINICIAN, 1, self.keys[CLINICIAN])
        self.programmer = None

    def _count_files(self):
        if self.kind == "file":
            vfs.umount(ROOT)
            under = vfs.VfsLfs2(self.pump.flash, progsize=PAGE)
            vfs.mount(FailingFiles(under, self.calls), ROOT)

    def _with_devices(self, board):
        board.battery = BatteryVirtual(self.pump.plant)
        board.watchdog = WatchdogVirtual(TIMEOUT_MS, self.pump.world)
        self.pump.world.on_deadline = self._bite

    def _bite(self):
        raise _BITTEN

    # -- what fails ---------------------------------------------------------------------------

    def arm(self):
        self.armed = True
        if not self.for_ever:
            self.tight = self.at % _STEPS
        if self.kind == "flash":
            self.pump.flash.fail_at(self.at, self.for_ever)
        elif self.kind != "memory":
            self.calls.arm(self.at, self.for_ever)

    def look(self):
        """Whether the k-th call has been made."""
        if not self.armed:
            return
        if self.kind == "flash":
            if self.for_ever:
                self.met = self.met or self.pump.flash.ops >= self.pump.flash._fail_at
            else:
                self.met = self.met or not self.pump.flash.armed
        elif self.kind != "memory":
            self.met = self.met or self.calls.count >= self.at

    def disarm(self):
        self.look()
        self.armed = False
        self.calls.arm(0, False)
        self.pump.flash.heal()

    def live(self, us):
        """Time passes, with little memory where that is what fails. What the main loop raises
        ends the pump, as it ends in main.py: the motor is off, and it starts anew."""
        squeezed = self.armed and self.ballast and self.tight in (-1, self.steps_made)
        self.steps_made += 1
        if squeezed:
            self.ballast.take(self.at - 1)
        cause = 0
        try:
            self.pump.advance(us)
        except Bitten:
            cause = 2
        except (MemoryError, OSError):
            cause = 4
        if squeezed:
            self.ballast.give_back()
        if cause:
            self.tell("  it ended, reset cause %d" % cause)
            self.ended += 1
            self.met = True
            self.pump.stepper.halt()
            self.begin_anew(cause)

    def begin_anew(self, cause):
        """The chip was reset."""
        pump = self.pump
        self.look()
        left = 0  # operations to the one that fails
        if not self.met or self.for_ever:
            left = max(1, pump.flash._fail_at - pump.flash.ops)
        pump.cut_power()
        self._count_files()
        if self.kind == "flash" and left:
            pump.flash.fail_at(left, self.for_ever)
        self.wire.__init__(self.calls)
        try:
            pump.power_on(cause)
        except (MemoryError, OSError) as error:  # main.py tries again; here it is whole then
            self.tell("  start: %r" % error)
            self.disarm()
            pump.cut_power()
            pump.power_on(cause)
        self.programmer = None

    # -- what is done -------------------------------------------------------------------------

    def ask(self, message, **values):
        """The reply's values; None where there is none, or a refusal."""
        try:
            if self.programmer is None:
                programmer = Programmer(self)
                programmer.open()
                self.programmer = programmer
            octets = self.programmer.packet(message, **values)
            kind, reply = self.programmer.answer(self.exchange(octets))
        except (Wrong, TypeError):  # no answer, or no session
            self.programmer = None
            return None
        return reply if kind == REPLY else None

    def exchange(self, packet):
        from attack_bed import framed, packets

        octets = framed(packet)
        self.wire.put(octets)
        self.live(0)
        return packets(self.wire.take())

    def command(self, name, message, **values):
        body = body_of(message, **values)
        reply = self.ask(PREPARE, command=message.number, body=body)
        if reply is None:
            self.tell("  %s was not prepared" % name)
            return
        if self.ask(CONFIRM, token=reply["token"]) is not None:
            self.done.append(name)
        else:
            self.tell("  %s was not confirmed" % name)

    def minutes(self, count):
        self.live(count * _MINUTE_US)

    def run(self):
        """``verdict``."""
        pump = self.pump
        self.arm()
        self.ask(GET_STATUS)
        self.minutes(2)
        self.command("programme", SET_PRESCRIPTION, **PROGRAMME)
        self.minutes(2)
        self.command("bolus", START_BOLUS, volume_nl=5_000, duration_us=100 * SECOND_US)
        self.minutes(4)
        pump.plant.inject("stall")
        self.minutes(2)
        pump.plant.clear("stall")
        self.minutes(2)
        found = self.ask(GET_ALARMS)
        if found and len(found["records"]) >= ALARM_SIZE:
            self.ask(ACKNOWLEDGE, instance=int.from_bytes(found["records"][:4], "little"))
        pump.stepper.emitted()
        left_nl = pump.plant.residual_pl // 1000
        self.command(
            "refill", RECORD_REFILL, measured_nl=left_nl, fill_nl=_FILL_NL, reason="scheduled"
        )
        if "refill" in self.done:
            pump.plant.refill(_FILL_NL * 1000)
        self.command("clock", SET_CLOCK, wall_s=1_735_516_800, utc_offset_min=60)
        self.ask(GET_EVENTS, first=0)
        self.minutes(3)
        self.look()
        end, why = self.state()
        if why:
            return end, why
        self.begin_anew(1)
        self.minutes(2)
        self.look()
        return self.verdict(end)

    # -- what is judged -----------------------------------------------------------------------

    def verdict(self, before):
        """(what became of the pump before the power went and after it, what is wrong or "")."""
        if not self.for_ever:
            self.disarm()
        end, why = self.state()
        self.disarm()
        return "%s, %s" % (before, end), why or self.afterwards()

    def state(self):
        pump = self.pump
        ended = self.ended
        self.live(2 * _MINUTE_US)  # what is owed is given, or the watchdog bites
        if self.ended > ended:
            self.live(_MINUTE_US)
        if self.ended > ended + 1:
            steps = pump.steps
            self.live(5 * _MINUTE_US)
            if not self.for_ever or pump.steps != steps or pump.stepper.enabled:
                return "restarts", "it starts again and again"
            return "restarts", ""
        if pump.fault:
            steps = pump.steps
            self.live(5 * _MINUTE_US)
            if pump.steps != steps or pump.stepper.enabled:
                return "latched", "fault %s, and the motor runs" % pump.fault
            return "latched", ""
        rate = pump.app.schedule.rate
        if rate not in (_RATE, _NEW_RATE):
            return "runs", "it runs at %d nL/day, mode %s, no fault" % (rate, pump.mode)
        ended = self.ended
        steps = pump.steps
        self.live(10 * _MINUTE_US)
        if self.ended > ended:
            return "restarts", "it ran, and then it did not"
        if pump.fault:
            return "latched", ""
        moved = pump.steps - steps
        due = 600 * rate // _RATE
        if not due - 1 <= moved <= due + 1:
            return "runs", "%d steps in 10 min, %d are due" % (moved, due)
        lost = pump.app.supervisor.lost(pump.now_us)
        if lost:
            return "runs", "%s is gone, and nobody knows" % lost
        if self.kind != "serial" or not self.for_ever:
            for _ in range(4):  # the call may fail in one of these
                if self.ask(GET_STATUS) is not None:
                    break
                self.live(SECOND_US)
            else:
                if pump.fault:
                    return "latched", ""
                return "runs", "it does not answer"
            sounded = pump.app.annunciator.sounded_ms
            self.ask(ALARM_TEST, pattern=0)
            self.live(5 * SECOND_US)
            if pump.fault:
                return "latched", ""
            if pump.app.annunciator.sounded_ms == sounded:
                return "runs", "it is not heard"
        return "runs", ""

    def afterwards(self):
        """What a start on whole hardware finds."""
        pump = self.pump
        truth = pump.steps
        pump.cut_power()
        self._count_files()
        self.wire.__init__(self.calls)
        pump.power_on(1)
        pump.advance(SECOND_US)
        if pump.fault not in ("", "account_damaged", "settings_damaged"):
            return "a start after it has fault %s: %s" % (pump.fault, pump.app.faults.text)
        account = pump.ask(GET_ACCOUNT)
        over = account["lifetime_pl"] // STEP_PL - truth
        if not -self.stalled() <= over <= _OVER_STEPS:
            return "the account is off by %d steps of %d" % (over, truth)
        if pump.fault:
            return "a start after it has fault %s: %s" % (pump.fault, pump.app.faults.text)
        rate = pump.app.store.current["rate_nl_day"]
        if rate not in (_RATE, _NEW_RATE) or ("programme" in self.done and rate == _RATE):
            return "the programme of %d nL/day is not there" % _NEW_RATE
        if "refill" in self.done and account["refills"] != 2:
            return "the refill is not there"
        names, damaged = self.events()
        if damaged and ALARM["log_damaged"] not in [each.code for each in pump.app.alarms.active]:
            return "%d records are damaged, and no alarm tells it" % damaged
        for name, event in (("bolus", "bolus_started"), ("clock", "clock_set")):
            if name in self.done and event not in names and not damaged:
                return "%s was done, and no event tells it" % name
        steps = pump.steps
        pump.advance(_MINUTE_US)
        if abs(pump.steps - steps - 60 * rate // _RATE) > 1:
            return "it does not go on after a start"
        return ""

    def events(self):
        """(names of the events in the log, how many of its records are damaged)."""
        log = self.pump.app.log
        first = log.oldest
        names = []
        damaged = 0
        while first < log.next:
            raw = log.read(first, 6)
            for at in range(0, len(raw), EVENT_SIZE):
                if is_whole(raw[at : at + EVENT_SIZE]):
                    names.append(EVENTS[raw[at + 4]][0])
                else:
                    damaged += 1
                first += 1
        return names, damaged

    def stalled(self):
        return self.pump.plant.pulses - self.pump.plant.steps


def body_of(message, **values):
    from attack_bed import encoded

    return encoded(message, values)


PROGRAMME = {
    "drug": "saline",
    "concentration_ng_ml": 500_000,
    "mode": 2,
    "rate_nl_day": _NEW_RATE,
    "capacity_nl": 20_000_000,
    "low_mark_nl": 2_000_000,
    "total_nl": _NEW_RATE,
    "agreed": 46,
}


def main():
    request = json.loads(sys.stdin.read())

    def tell(text):
        if request.get("told"):
            print(json.dumps({"text": text}))

    kind = request["kind"]
    ballast = Ballast() if kind == "memory" else None
    k = request.get("only") or request["first"]
    clean = 0
    while True:
        story = Story(request["seed"], kind, k, request["for_ever"], tell, ballast)
        try:
            end, why = story.run()
            met = story.met
        except Refusal as error:
            end, why, met = "", "harness: %r" % error, True
        print(json.dumps({"k": k, "end": end, "why": why, "met": met, "done": story.done}))
        clean = 0 if met or end != "runs, runs" or len(story.done) < 4 else clean + 1
        enough = clean > 1 and clean * request["every"] >= _CLEAN
        if request.get("only") or (clean and kind != "memory") or enough:
            break
        story = None
        k += request["every"]
    print(json.dumps({"end": True, "k": 0}))


if __name__ == "__main__":
    main()
