"""The virtual board: drivers that live in the plant and the world instead of on pins.

Its configuration is one JSON file named by CISTERNA_VIRTUAL: step_pl, ticks_period, ticks_from,
flash (path), fresh (make a file system), telemetry_fd, request_fd, answer_fd, speed, world_us,
plant (state or null), reservoir_pl, steps_per_pulse, watchdog_ms, service (the button is held),
clock_stands (its counter never moves), trace (path or null), unique_id (hex), reset_cause, seed,
secret (entropy is the machine's, not the seed's), and if wanted flash_faults: a list of what
``flash_fault`` takes, armed before the first access, and files: what is on a new file system,
name -> octets in hex.
"""

import asyncio
import gc
import json
import os
import random
from asyncio import core

import compiled_first  # noqa: F401
import nor_flash
import vfs
import world
from devices_virtual import (
    BatteryVirtual,
    ButtonVirtual,
    RotorVirtual,
    SounderVirtual,
    WaitedButtonVirtual,
    WatchdogVirtual,
)
from plant import Plant
from stepper_virtual import StepperVirtual

_WATCHDOG = 2  # index in messages.RESET_CAUSES
_BALLAST = 512  # octets
_LEAST_LEFT = 1024  # so many the bench's own task needs


class _TelemetryPort:
    """The port contract over a non-blocking file descriptor: our end of a pty."""

    def __init__(self, fd, world):
        self._stream = open(fd, "r+b")
        self._world = world

    def read_into(self, buffer):
        count = self._stream.readinto(buffer) or 0
        if count:
            self._world.heard()
        return count

    def wait_readable(self):
        yield core._io_queue.queue_read(self._stream)

    def write(self, view):
        sent = 0
        while sent < len(view):
            count = self._stream.write(view[sent:])
            if not count:  # nobody reads and the buffer is full: drop the rest
                return
            sent += count


class Board:
    """See the boards' contract in ``drivers/README.md``."""

    def __init__(self, config):
        self.name = "virtual"
        self.step_pl = config["step_pl"]
        self.steps_per_pulse = config["steps_per_pulse"]
        self.ticks_stand = True  # time moves only when nothing is due
        self.ticks_period = config["ticks_period"]
        self._ticks_from = config["ticks_from"]
        if config.get("clock_stands"):
            self.ticks_stand = False
            self.ticks_us = lambda: config["ticks_from"]
        self._left = 0  # octets of heap under pressure, 0: there is none
        self._ballast = None
        self.root = "/flash"
        self.unique_id = bytes.fromhex(config["unique_id"])
        self.reset_cause = config["reset_cause"]
        random.seed(config["seed"])
        self._secret = config["secret"]
        self._world_us = self._passed_us = config["world_us"]
        self.plant = Plant(
            self.step_pl, config["reservoir_pl"], steps_per_pulse=config["steps_per_pulse"]
        )
        if config["plant"]:
            self.plant.restore(config["plant"])
        self.world = world.World(config["speed"])
        world.install(self.world)
        self.world.on_limit = self._at_limit
        self.world.on_deadline = self._watchdog_ran_out
        self._trace = open(config["trace"], "w") if config["trace"] else None
        self.stepper = StepperVirtual(self.plant, self._world_us, self._trace)
        self.rotor = RotorVirtual(self.stepper, self.plant)
        self.sounder = SounderVirtual(self._bench_us, self._trace)
        self.battery = BatteryVirtual(self.plant)
        self.watchdog = WatchdogVirtual(config["watchdog_ms"], self.world)
        self.service_button = ButtonVirtual(config["service"])
        self.patient_button = WaitedButtonVirtual()
        self.port = _TelemetryPort(config["telemetry_fd"], self.world)
        self.flash = nor_flash.NorFlash(config["flash"], config["seed"])
        self.flash.on_cut = self._power_gone
        self._channel = world.ControlChannel(
            config["request_fd"],
            config["answer_fd"],
            {
                "advance": self._advance,
                "truth": lambda request: self._truth(),
                "pace": self._pace,
                "inject": self._inject,
                "clear": self._clear,
                "refill": self._refill,
                "battery": self._battery,
                "service": self._service,
                "patient": self._patient,
                "trace": self._flush_trace,
                "listen": self._listen,
                "hang": self._hang,
                "jump": self._jump,
                "press_memory": self._press_memory,
                "flash_fault": self._flash_fault,
            },
        )
        self._channel.on_request = self._ease_memory
        self._channel.on_served = self._take_memory
        if config["fresh"]:
            vfs.VfsLfs2.mkfs(self.flash, progsize=nor_flash.PAGE)
        for fault in config.get("flash_faults") or ():
            self._flash_fault(fault)
        vfs.mount(vfs.VfsLfs2(self.flash, progsize=nor_flash.PAGE), self.root)
        for name, content in config.get("files", {}).items():
            with open(self.root + "/" + name, "wb") as file:
                file.write(bytes.fromhex(content))
        world.start(self._channel)

    def ticks_us(self):
        return (self._ticks_from + self.world.now_us) % self.ticks_period

    def entropy(self, count):
        if self._secret:
            return os.urandom(count)
        return bytes(random.getrandbits(8) for _ in range(count))

    # -- the bench's operations ---------------------------------------------------------------

    def _truth(self):
        self._plant_now()
        values = self.plant.state()
        values["tip_ng"] = self.plant.tip_mass() // 10**9
        values["tip_mixed_ng"] = self.plant.tip_mixed_ng()
        values["stalled"] = self.plant.stalled
        values["tip_pl"] = self.plant.tip_pl
        values["time_us"] = self._bench_us()
        values["flash_programs"] = self.flash.programs
        values["flash_erases"] = self.flash.erases
        values["flash_ops"] = self.flash.ops
        values["flash_most_erased"] = max(self.flash.wear)
        return values

    def _advance(self, request):
        self.world.limit_us = request["until_us"] - self._world_us
        if self.world.limit_us < self.world.now_us:
            raise ValueError("time cannot go back to %d us" % request["until_us"])

    def _at_limit(self):
        self._ease_memory()
        self._channel.finish({"time_us": self._bench_us()})

    def _bench_us(self):
        return self._world_us + self.world.now_us

    def _watchdog_ran_out(self):
        """The chip is reset: its outputs let go, and this VM ends. The bench starts another."""
        self.stepper.halt()
        self.sounder.off()
        self._flush_trace(None)
        values = self._truth()
        values["reset"] = _WATCHDOG
        self._channel.announce(values)
        raise SystemExit

    def _pace(self, request):
        self.world.pace(request["speed"])
        return {}

    def _inject(self, request):
        self._plant_now()
        self.plant.inject(request["name"], request["after_steps"], request.get("amount"))
        if request["name"] == "free_run":
            self._free_run = asyncio.create_task(self.rotor.run_free())
        return {}

    def _hang(self, request):
        """The firmware hangs: in its "loop", or in the next "handler" or octet of "telemetry"."""
        hang = self.world.hang

        async def in_loop():
            hang()

        def anywhere(*_):
            hang()

        where = request["where"]
        if where == "loop":
            self._hanging = asyncio.create_task(in_loop())
        elif where == "handler":
            from pump.commands import Commands

            Commands._handler = anywhere
        elif where == "telemetry":
            from pump_wire.frame import FrameReader

            FrameReader.take = anywhere
        else:
            raise ValueError("it hangs in loop, handler or telemetry, not in %r" % where)
        return {}

    def _jump(self, request):
        """The counter that the pump's clock is made of jumps."""
        self._ticks_from += request["us"]
        return {}

    def _press_memory(self, request):
        """From the answer on all but ``left`` octets of the heap are taken, whenever it is not the
        bench that needs them; 0: no more."""
        left = request["left"]
        if left and left < _LEAST_LEFT:
            raise ValueError("%d octets left: 0, or %d at least" % (left, _LEAST_LEFT))
        self._left = left
        return {}

    def _ease_memory(self):
        self._ballast = None

    def _take_memory(self):
        if not self._left:
            return
        gc.collect()
        while gc.mem_free() > self._left + _BALLAST:
            piece = [self._ballast]
            piece.append(bytearray(_BALLAST))
            self._ballast = piece

    def _plant_now(self):
        """Bring the plant to this instant."""
        self.stepper.emitted()
        now_us = self._bench_us()
        self.plant.pass_time(now_us - self._passed_us)
        self._passed_us = now_us

    def _clear(self, request):
        self._plant_now()
        self.plant.clear(request["name"])
        return {}

    def _refill(self, request):
        self._plant_now()
        fill = request["fill_pl"], request.get("ng_ml"), request.get("rest_pl", 0)
        return {"aspirated_pl": self.plant.refill(*fill)}

    def _battery(self, request):
        self.plant.set_battery(request["mv"])
        return {}

    def _service(self, request):
        self.service_button.held = request["held"]
        return {}

    def _patient(self, request):
        self.patient_button.press(request["held"])
        return {}

    def _listen(self, request):
        """From now on tell of every tone."""
        self.sounder.on_tone = self._heard
        return {}

    def _heard(self, t_us, hz):
        self._channel.announce({"tone": hz, "time_us": t_us})

    def _flash_fault(self, request):
        flash = self.flash
        fault = request["fault"]
        if fault == "cut":
            flash.cut_at(request["at"], request.get("torn"))
        elif fault == "fail":
            flash.fail_at(request["at"], bool(request.get("for_ever")))
        elif fault == "worn":
            flash.wear_out(request["block"], bool(request.get("fails")))
        elif fault == "unreadable":
            flash.make_unreadable(request["block"])
        elif fault == "heal":
            flash.heal()
        else:
            raise ValueError("flash fault %r: cut, fail, worn, unreadable or heal" % fault)
        return {"flash_ops": flash.ops}

    def _power_gone(self):
        """The flash loses power: the motor with it. Tells the bench, under the number 0, what the
        world is like; the pump's VM then ends with PowerCut."""
        self.stepper.halt()
        self._flush_trace(None)
        self._channel.answer(0, {"power_cut": self._truth()})

    def _flush_trace(self, request):
        self.stepper.emitted()
        if self._trace is not None:
            self.stepper.flush_trace()
            self._trace.flush()
        return {}


def build():
    """The board that CISTERNA_VIRTUAL describes."""
    with open(os.getenv("CISTERNA_VIRTUAL")) as file:
        return Board(json.load(file))
