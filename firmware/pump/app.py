"""Wires the pump's objects and runs its tasks. The only place that knows them all."""

import asyncio
import gc
import sys

from pump.alarms import Alarms
from pump.annunciator import Annunciator
from pump.attention import AttentionCommands
from pump.basal import Basal
from pump.battery import Battery
from pump.clock import Clock, WallClock
from pump.commands import Commands
from pump.delivery import Delivery
from pump.eventlog import EventLog
from pump.faultlog import FaultLog
from pump.faults import Faults
from pump.flow import Flow
from pump.journal import Damaged, HotRecord, TwoCopies
from pump.ledger import HOT_LAYOUT, Ledger
from pump.lending import LentGroup, lent, return_module
from pump.limits import LAYOUT as LIMITS_LAYOUT
from pump.limits import Limits
from pump.link import Link
from pump.motion import Motion
from pump.prescription import PrescriptionStore
from pump.reading import Reading
from pump.schedule import Schedule
from pump.sessions import Sessions
from pump.supervisor import Supervisor
from pump.upkeep import UpkeepCommands, local_us
from pump_wire.messages import EVENT, FAULT, STOPPED, table_hash

FIRMWARE = "0.1.0"
_HAD_POWER_CUT = (0, 1)  # indices in messages.RESET_CAUSES: unknown, power on
_BY_WATCHDOG = 2
_BOLUS_ENDS = tuple(
    EVENT[name] for name in ("bolus_done", "bolus_ended_early", "bolus_interrupted")
)
_FAULT_ALARMS = {
    FAULT["settings_damaged"]: "memory_critical",
    FAULT["account_damaged"]: "memory_critical",
    FAULT["free_run"]: "free_run",
    FAULT["self_test_failed"]: "self_test",
}
_RESTART_MS = 100  # pause before a failed link task runs again, so that the fault can be read


class App:
    """One pump on one board. See the boards' contract in ``drivers/README.md``."""

    def __init__(self, board):
        root = board.root
        self.clock = Clock(board.ticks_us, board.ticks_period)
        self.wall = WallClock(self.clock)
        self.faults = Faults()
        board.stepper.attach(self.clock)
        self.schedule = Schedule(board.step_pl)
        self.log = EventLog(root + "/log", self.clock, self.wall)
        self.fault_log = FaultLog(root + "/faults", self.clock, self.wall)
        self.ledger = Ledger(
            board.step_pl,
            board.stepper.emitted,
            HotRecord(root + "/steps", HOT_LAYOUT),
            TwoCopies(root + "/refill"),
        )
        settings = TwoCopies(root + "/prescription")
        self.store = PrescriptionStore(settings)
        self.motion = Motion(self.clock, board.stepper, self.schedule, self.ledger, self.faults)
        self.basal = Basal(self.clock, self.store)
        self.limits = Limits(self.clock, self.ledger, HotRecord(root + "/window", LIMITS_LAYOUT))
        self.limits.since = self.basal.since_us  # pyright: ignore
        self.delivery = Delivery(
            self.schedule,
            self.motion,
            self.ledger,
            self.store,
            self.faults,
            self.log,
            self.basal,
            self.limits,
        )
        self.alarms = Alarms(self.clock, self.log)
        self.annunciator = Annunciator(
            self.clock,
            getattr(board, "sounder", None),
            self.alarms,
            TwoCopies(root + "/alarms"),
        )
        self.flow = self._turned = None
        rotor = getattr(board, "rotor", None)
        if rotor is not None:
            self.flow = Flow(
                self.clock,
                board.stepper,
                rotor,
                board.steps_per_pulse,
                self.ledger,
                self.alarms,
                self.log,
                self.faults,
            )
            self.ledger.before_store = self.flow.look
            self._turned = getattr(rotor, "turned", None)
        self.supervisor = Supervisor(
            self.clock, getattr(board, "watchdog", None), self.motion, self.faults
        )
        self.battery = None
        battery = getattr(board, "battery", None)
        if battery is not None:
            self.battery = Battery(
                self.clock, battery.read_mv, self.alarms, TwoCopies(root + "/service")
            )
            self.supervisor.looks.append(self.battery.look)
        if self.flow is not None:
            self.supervisor.looks.append(self.flow.pulsed)
        self.supervisor.looks.append(self._write_log)
        self.alarms.on_action = self._hold
        self.annunciator.on_time = self._write_log
        self.log.on_noted = self._noted
        self.ledger.next_event = lambda: self.log.coming  # pyright: ignore
        self.ledger.wall_s = self.wall.best_s
        self.log.on_written = self.ledger.events_written
        self.motion.check_settings = self.store.check_doses
        self.faults.stops.append(board.stepper.halt)
        self.faults.stops.append(self.delivery.fault_stop)
        self.faults.on_latch = self._log_fault
        wall_s = getattr(board, "wall_s", None)
        if wall_s is not None:
            self.wall.set(wall_s())
        hashed = table_hash()  # 50 ms on a Pico: once
        self.sessions = Sessions(
            board.unique_id,
            hashed,
            TwoCopies(root + "/keys"),
            self.clock,
            board.entropy,
            getattr(board, "service_button", None),
            self.log,
        )
        boots = self._load(TwoCopies(root + "/boots"), board.reset_cause)
        self._test_itself(board, settings)
        identity = {
            "board": board.name,
            "firmware": FIRMWARE,
            "vm": ".".join(str(part) for part in sys.implementation.version[:3]),
            "serial": board.unique_id,
            "boots": boots,
            "reset_cause": board.reset_cause,
        }
        self.reading = Reading(
            identity,
            hashed,
            self.sessions.paired,
            self.clock,
            self.wall,
            self.delivery,
            self.ledger,
            self.store,
            self.log,
            self.fault_log,
            self.faults,
            self.alarms,
        )
        staged = {}  # parts of a prescription or fill that are to come
        prescribing = LentGroup(
            "prescribing",
            "Prescribing",
            ("write_part", "get_part", "set_prescription"),
            (self.wall, self.delivery, self.ledger, self.store, self.faults, staged),
        )
        therapy = LentGroup(
            "therapy",
            "TherapyCommands",
            (
                "start_bolus",
                "cancel_bolus",
                "start_prime",
                "resume_bridge",
                "stop_delivery",
                "resume_delivery",
                "record_refill",
            ),
            (self.clock, self.wall, self.delivery, self.ledger, self.store, self.log, staged),
        )
        patient = LentGroup(
            "patient",
            "Patient",
            ("request_bolus", "get_therapy"),
            (self.clock, self.wall, self.delivery, self.ledger, self.store, self.log),
        )
        upkeep = UpkeepCommands(
            self.clock, self.wall, self.log, self.fault_log, self.store, self.delivery
        )
        attention = AttentionCommands(self.clock, self.log, self.alarms, self.annunciator)
        self.commands = Commands(
            (
                self.reading,
                prescribing,
                therapy,
                patient,
                upkeep,
                attention,
                self.sessions,
            ),
            self.clock,
            self.log,
            self.faults,
            board.entropy,
        )
        self.commands.on_change = lambda role, message: self.annunciator.announce()
        self.sessions.on_end = self.commands.forget_prepared  # pyright: ignore
        self.reading.battery = self.battery  # pyright: ignore
        self.reading.lag_ms = lambda: self.supervisor.lag_us // 1000  # pyright: ignore
        self.reading.last_token = self.commands.last_token  # pyright: ignore
        self.link = Link(board.port, self.sessions, self.commands, self.clock)

    def _log_fault(self, code, text, place):
        self.alarms.begin(_FAULT_ALARMS.get(code, "pump_fault"))
        self.alarms.stopped(True)
        self.fault_log.append(code, "%s at %s" % (text, place) if place else text)
        self.log.append("fault_latched", code)

    def _noted(self, name, value):
        self.alarms.noted(name, value)
        if name == "refill_recorded" and self.flow is not None:
            self.flow.refilled()

    async def _watch_rotor(self):
        while True:
            await self._turned()
            self.flow.pulsed()

    def _hold(self, action):
        self.delivery.held = action
        self.start_task(self._obey)

    async def _obey(self):
        self.delivery.obey()
        self.log.flush()

    def _write_log(self):
        try:
            self.log.flush()
        except Exception as error:
            self.faults.latch_error(error, "log")

    def _load(self, boot_count, reset_cause):
        """Read everything durable; what is damaged latches a fault. Returns the boot count."""
        damaged = []
        boots = 0
        before_s = 0
        try:
            self.log.load()
            self.fault_log.load()
            before_s = self.log.last_wall_s()
            try:
                boot_count.load()
            finally:  # damage is told once: the count starts again
                boot_count.commit(b"")
            boots = boot_count.sequence
        except (OSError, Damaged, ValueError) as error:
            damaged.append(("storage_failed", "start: %r" % error))
        try:
            self.sessions.load()
        except OSError:  # nobody gets in until it can be read; delivery goes on
            pass
        try:
            self.ledger.load()
        except (OSError, Damaged) as error:
            damaged.append(("account_damaged", repr(error)))
        try:
            self.store.load()
            self.limits.load()
        except (OSError, Damaged, ValueError) as error:
            damaged.append(("settings_damaged", repr(error)))
        try:
            self.log.note("pump_started", reset_cause)
            self._load_intervals()
            if reset_cause == _BY_WATCHDOG:
                self.fault_log.append(FAULT["watchdog_reset"], "see the log before it")
                self.alarms.begin("watchdog_reset")
            self._load_battery(boots > 1 and reset_cause in _HAD_POWER_CUT)
            self._tell_what_was_lost(boots, reset_cause, before_s)
        except OSError as error:
            damaged.append(("storage_failed", "start: %r" % error))
        self.wall.assumed_s = self.ledger.alive_s
        self.basal.set_time(local_us(self.wall, self.store))
        for name, text in damaged:
            self.faults.latch(FAULT[name], text)
        return boots

    def _load_intervals(self):
        try:
            self.annunciator.load()
        except (OSError, Damaged):  # the usual ones are in force
            self.alarms.begin("memory_minor")

    def _test_itself(self, board, settings):
        """Before the first motion; the module is needed once."""
        failed = lent("selftest").run(board, settings)
        return_module("selftest")
        if failed and not self.faults.code:
            self.faults.latch(FAULT["self_test_failed"], failed)

    def _load_battery(self, was_cut):
        if self.battery is None:
            return
        try:
            self.battery.begin(was_cut)
        except (OSError, Damaged):  # its days begin again
            self.alarms.begin("memory_minor")

    def _tell_what_was_lost(self, boots, reset_cause, before_s):
        """Put into the log what this start took away. Raises OSError."""
        log = self.log
        ledger = self.ledger
        if boots > 1 and reset_cause in _HAD_POWER_CUT:
            self.wall.before_s = max(before_s, ledger.alive_s)
            log.note("power_lost", self.wall.away_s() if self.wall.now_s() else -1)
        if ledger.interrupted:
            event, steps = ledger.interrupted
            if not log.find(event, _BOLUS_ENDS):
                log.note("bolus_interrupted", steps * ledger.step_pl)
        if self.store.mended:
            log.note("copy_damaged", 1)
        if self.wall.before_s and not self.wall.now_s():
            self.alarms.begin("clock_lost")
        log.flush()

    def start_task(self, work):
        """Task running ``work`` (a coroutine function); an exception in it latches a fault."""
        return asyncio.create_task(self._guarded(work))

    async def _guarded(self, work):
        try:
            await work()
        except Exception as error:
            self._task_failed("a task", error)

    def _task_failed(self, where, error, name=None):
        self.faults.latch_error(error, where, name)
        sys.print_exception(error)

    async def _serve_link(self):
        while True:
            try:
                await self.link.run()
            except Exception as error:
                self._task_failed("link", error, "task_failed")
            await asyncio.sleep_ms(_RESTART_MS)

    async def main(self):
        """Run until the power goes."""
        try:
            if not self.faults.code:
                self.delivery.begin()
        except Exception as error:
            self._task_failed("begin", error)
        self.alarms.stopped(self.store.current is not None and self.delivery.mode == STOPPED)
        self.annunciator.start(self.start_task)
        self.motion.start(self.start_task)
        tasks = self.supervisor.tasks
        if self._turned is not None:
            tasks.append(("rotor", self.start_task(self._watch_rotor)))
        tasks.append(("link", self.start_task(self._serve_link)))
        await self.supervisor.run()


def run(board):
    """Run the pump on ``board``; returns only if the board's main loop is stopped."""
    try:
        app = App(board)
        gc.collect()  # what importing left behind
        asyncio.run(app.main())
    except KeyboardInterrupt:  # somebody wants the REPL, and the profile lets them
        stop = getattr(getattr(board, "watchdog", None), "stop", None)
        if stop is not None:
            stop()
        raise
    finally:
        board.stepper.halt()
