"""A whole pump in this VM, for tests: the firmware's App on the virtual board's parts, with time
that only the test moves and a flash whose power can be cut.

Between two calls of ``advance`` no task runs: a test looks at the App's objects and sends commands
there, as the link's task would.
"""

import asyncio
import gc
import os
from asyncio import core

import compiled_first  # noqa: F401
import nor_flash
import vfs
import world
from devices_virtual import RotorVirtual, SounderVirtual, WaitedButtonVirtual
from plant import Plant
from random_numbers import Random
from stepper_virtual import StepperVirtual

from pump.app import App
from pump.prescription import Refusal
from pump_wire.codec import MAX_BODY, decode, encode
from pump_wire.messages import (
    ANYONE,
    BY_NUMBER,
    CLINICIAN,
    CONFIRM,
    EVENT_FORMAT,
    EVENT_SIZE,
    EVENTS,
    FAULTS,
    GET_ACCOUNT,
    GET_PRESCRIPTION,
    GET_STATUS,
    MODES,
    PATIENT,
    PREPARE,
    RECORD_REFILL,
    REFUSALS,
    SERVICE,
    SET_PRESCRIPTION,
    START_BOLUS,
    STOP_REASONS,
)

ALL_ROLES = PATIENT | CLINICIAN | SERVICE | ANYONE
ROOT = "/flash"
STEP_PL = 100_000
DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
SECOND_US = 1_000_000
_IMAGE = "flash.bin"
_TRACE = "trace.txt"


def filled(fields, **values):
    """``values`` with all other fields of a body at what means "not used"."""
    for name, kind, low, high, _ in fields:
        if name not in values:
            if low is not None:
                values[name] = 0 if low <= 0 <= high else low
            else:
                values[name] = "" if kind[0] == "s" else bytes(int(kind[1:]))
    return values


def new_flash():
    """A new file system on a flash, mounted at ROOT. The flash may hold what was there before."""
    if _IMAGE not in os.listdir():
        nor_flash.make(_IMAGE)
    return _mounted(True)


def same_flash(flash):
    """Power off and on: what is not on ``flash`` is lost. Returns the flash, mounted again."""
    flash.leave()
    return _mounted(False)


def _mounted(fresh):
    try:
        vfs.umount(ROOT)
    except OSError:  # nothing was mounted
        pass
    gc.collect()
    flash = nor_flash.NorFlash(_IMAGE)
    if fresh:
        flash.heal()
        vfs.VfsLfs2.mkfs(flash, progsize=nor_flash.PAGE)
    vfs.mount(vfs.VfsLfs2(flash, progsize=nor_flash.PAGE), ROOT)
    return flash


def damage(path, at=-1, bit=1):
    """Flip a bit of octet ``at`` of a file."""
    with open(path, "rb") as file:
        octets = bytearray(file.read())
    octets[at] ^= bit
    with open(path, "wb") as file:
        file.write(octets)


class SilentPort:
    """Nobody talks to the pump."""

    def read_into(self, buffer):
        return 0

    async def wait_readable(self):
        await asyncio.Event().wait()

    def write(self, view):
        pass


class _LimitReached(Exception):
    pass


_SPARE = _LimitReached()  # where memory is out


class _Board:
    name = "virtual"
    ticks_period = 1 << 30
    root = ROOT
    unique_id = b"testpump"
    reset_cause = 1
    steps_per_pulse = 2
    ticks_stand = True

    def __init__(self, step_pl, stepper, port, the_world, ticks_from):
        self.service_button = None
        self.step_pl = step_pl
        self.stepper = stepper
        self.port = port
        self._world = the_world
        self._ticks_from = ticks_from
        self._random = Random(ticks_from)

    def ticks_us(self):
        return (self._ticks_from + self._world.now_us) % self.ticks_period

    def entropy(self, count):
        return bytes(self._random.below(256) for _ in range(count))


class Pump:
    """``app``: the pump's App, new at every ``power_on``. ``plant``: the truth. ``world``: its
    time.

    ``stepper(plant, world_us, trace)`` makes the step generator. One pump lives at a time: making
    it ends the one before, whose memory this VM's small heap needs.
    """

    _living = None
    breaking = None  # called with the next start's board
    battery = watchdog = None  # what the next start has of them

    def __init__(
        self,
        step_pl=STEP_PL,
        reservoir_pl=20_000_000_000,
        stepper=StepperVirtual,
        port=None,
        powered=True,
    ):
        if Pump._living:
            Pump._living.flash.leave()
            for name in Pump._living.__dict__:
                setattr(Pump._living, name, None)
        Pump._living = self
        self.flash = new_flash()
        self.flash.on_cut = self._power_gone
        self.stepper = None
        self.plant = Plant(step_pl, reservoir_pl)
        self.app = self._main = None
        self._make_stepper = stepper
        self._port = port or SilentPort()
        self._starts = 0
        self._trace = None
        if powered:
            self.power_on()

    def power_on(self, reset_cause=1, wall_s=0):
        """Start the firmware on what the flash holds; tasks run with the first ``advance``.
        ``wall_s``: what a clock on the board says that kept going, 0: there is none."""
        asyncio.new_event_loop()
        if self._trace:
            self._trace.close()
        self._trace = open(_TRACE, "w")
        self.world = world.World(0)
        world.install(self.world)
        self.world.on_limit = self._at_limit
        self.stepper = self._make_stepper(self.plant, 0, self._trace)
        self._starts += 1
        self.board = _Board(
            self.plant.step_pl,
            self.stepper,
            self._port,
            self.world,
            (1 << 30) - 5_000_000 * self._starts,
        )
        self.board.reset_cause = reset_cause
        self.board.rotor = RotorVirtual(self.stepper, self.plant)
        self.board.battery = self.battery
        self.board.watchdog = self.watchdog
        self.battery = self.watchdog = None
        self.board.patient_button = WaitedButtonVirtual()
        self.board.sounder = SounderVirtual(lambda: self.world.now_us, self._trace)
        if self.breaking:
            self.breaking(self.board)
        if wall_s:
            self.board.wall_s = lambda: wall_s
        self.app = App(self.board)
        self._main = core.create_task(self.app.main())
        core.cur_task = self._main

    def cut_power(self):
        """Everything stops now (or has, with a PowerCut); ``power_on`` starts again from the
        flash."""
        if self.stepper:
            self.stepper.halt()
        self.app = self._main = core.cur_task = None
        self.flash = same_flash(self.flash)
        self.flash.on_cut = self._power_gone

    def _power_gone(self):
        if self.stepper:
            self.stepper.halt()

    def restart(self):
        self.cut_power()
        self.power_on()

    def _at_limit(self):
        try:
            reached = _LimitReached()
        except MemoryError:
            reached = _SPARE
        raise reached

    @property
    def now_us(self):
        return self.world.now_us

    def advance(self, us=0):
        """Let the pump live ``us`` microseconds."""
        self.world.limit_us = self.world.now_us + us
        try:
            core.run_until_complete(self._main)
        except _LimitReached:
            pass
        core.cur_task = self._main
        self.stepper.emitted()

    # -- messages -----------------------------------------------------------------------------

    def ask(self, message, role=ALL_ROLES, **values):
        """The reply to a request that needs no confirmation, as a dict. Raises Refusal.

        Goes to Commands as the link would hand it over for a session of ``role``, here one that
        may send everything: for tests that are not about the link.
        """
        out = bytearray(MAX_BODY)
        end = encode(message.request, values, out)
        reply = bytearray(MAX_BODY)
        size = self.app.commands.answer(role, message.number, bytes(out[:end]), reply, 0)
        return decode(message.reply, reply[:size])

    def prepare(self, message, **values):
        """(token, echo) of a prepared command; fields left out are not used. Raises Refusal."""
        body = bytearray(MAX_BODY)
        end = encode(message.request, filled(message.request, **values), body)
        reply = self.ask(PREPARE, command=message.number, body=bytes(body[:end]))
        return reply["token"], decode(BY_NUMBER[message.number].reply, reply["body"])

    def command(self, message, **values):
        """Prepare and confirm at once, a prescription as one who types the total and agrees to
        all; returns the confirmation. Raises Refusal."""
        token, echo = self.prepare(message, **values)
        if message is SET_PRESCRIPTION and echo["asks"]:
            values["total_nl"] = echo["new_total_nl"]
            values["agreed"] = 46
            if echo["asks"] & 16 and not values.get("bridge"):
                values["bridge"] = 2
                values["why"] = "a test"
            token, _ = self.prepare(message, **values)
        return self.ask(CONFIRM, token=token)

    def program(self, rate_nl_day=1_000_000, mode=2, low_mark_nl=2_000_000):
        return self.command(
            SET_PRESCRIPTION,
            drug="saline",
            concentration_ng_ml=500_000,
            mode=mode,
            rate_nl_day=rate_nl_day if mode == 2 else 0,
            capacity_nl=20_000_000,
            low_mark_nl=low_mark_nl,
        )

    def refill(self, fill_nl=20_000_000, measured_nl=0):
        self.stepper.emitted()
        self.plant.refill(fill_nl * 1000)
        return self.command(
            RECORD_REFILL, measured_nl=measured_nl, fill_nl=fill_nl, reason="scheduled"
        )

    def bolus(self, volume_nl, duration_us):
        return self.command(START_BOLUS, volume_nl=volume_nl, duration_us=duration_us)

    def prepare_bolus(self, volume_nl, duration_us):
        return self.prepare(START_BOLUS, volume_nl=volume_nl, duration_us=duration_us)

    # -- what is there to see -----------------------------------------------------------------

    @property
    def steps(self):
        """Pulses that reached the motor, of all starts."""
        self.stepper.emitted()
        return self.plant.pulses

    def pulses(self):
        """Instants of all pulses of this start, in order."""
        self.stepper.emitted()
        self.stepper.flush_trace()
        self._trace.flush()
        with open(_TRACE) as file:
            for line in file:
                words = line.split()
                if words[0] == "step":
                    first, slack, spacing, rate, count = [int(word) for word in words[1:]]
                    for i in range(count):
                        yield first - (slack - i * spacing) // rate

    def tones(self):
        """[(us, Hz)] of this start: what sounds from when on, 0 for silence."""
        self.stepper.flush_trace()
        self._trace.flush()
        with open(_TRACE) as file:
            lines = [line.split() for line in file]
        return [(int(words[1]), int(words[2])) for words in lines if words[0] == "tone"]

    @property
    def mode(self):
        return MODES[self.app.delivery.mode]

    @property
    def stop_reason(self):
        return STOP_REASONS[self.app.delivery.stop_reason]

    def check_no_more_steps(self, us=DAY_US):
        """Nothing moves from here on for ``us``."""
        before = self.steps
        self.advance(us)
        assert self.steps == before, self.steps - before

    @property
    def fault(self):
        """Name of the latched fault, "" when none is."""
        code = self.app.faults.code
        return FAULTS[code][0] if code else ""

    def events(self, first=0):
        """[(number, name, uptime_us, value)] of all records from ``first`` on."""
        return list(self.each_event(first))

    def each_event(self, first=0):
        """The same, one at a time."""
        from binascii import crc32
        from struct import unpack, unpack_from

        log = self.app.log
        while first < log.next:
            raw = log.read(first, 6)
            for at in range(0, len(raw), EVENT_SIZE):
                record = raw[at : at + EVENT_SIZE]
                assert unpack_from("<I", record, EVENT_SIZE - 4)[0] == crc32(record[:-4])
                number, code, _, _, uptime_us, _, value = unpack(EVENT_FORMAT, record[:-4])
                yield number, EVENTS[code][0], uptime_us, value
            first = number + 1

    def event_names(self, first=0):
        return [event[1] for event in self.events(first)]


def running(rate_nl_day=8_640_000, stepper=StepperVirtual, step_pl=STEP_PL, port=None):
    """A pump that was filled and programmed (a step a second unless said otherwise)."""
    pump = Pump(step_pl=step_pl, stepper=stepper, port=port)
    pump.advance(1_000)
    pump.refill()
    pump.program(rate_nl_day)
    return pump


def check_balance(pump):
    """Fill - delivered = residual, and the account is what the plant says."""
    account = pump.ask(GET_ACCOUNT)
    assert account["fill_pl"] - account["delivered_pl"] == account["residual_pl"]
    assert account["lifetime_pl"] == pump.plant.pulses * pump.plant.step_pl
    assert account["residual_pl"] == pump.plant.residual_pl


def state(pump):
    """All that a command could change, for comparison at one instant."""
    app = pump.app
    found = pump.ask(GET_STATUS)
    found.update(pump.ask(GET_ACCOUNT))
    found.update(pump.ask(GET_PRESCRIPTION))
    found["events"] = app.log.next
    found["halted"] = app.store.halted
    found["flash"] = pump.flash.programs
    return found


def refused(name, call, *arguments, **values):
    """The Refusal, called ``name``, that ``call`` ends with; nothing has changed."""
    try:
        call(*arguments, **values)
    except Refusal as refusal:
        assert REFUSALS[refusal.code][0] == name, REFUSALS[refusal.code]
        return refusal
    raise AssertionError("not refused: %s" % name)
