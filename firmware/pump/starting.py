"""Starts the pump: makes its objects and hooks them to each other, reads what is durable, tells
the log what was lost, and tries each part. ``app.App`` lends it for a start, and lets go of it
then: nothing that stays may be defined here.
"""

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
from pump_wire.messages import EVENT, FAULT, table_hash

FIRMWARE = "0.1.0"
_HAD_POWER_CUT = (0, 1)  # indices in messages.RESET_CAUSES: unknown, power on
_BY_WATCHDOG = 2
_BOLUS_ENDS = tuple(
    EVENT[name] for name in ("bolus_done", "bolus_ended_early", "bolus_interrupted")
)


def make(app, board):
    """Make ``app``'s objects on ``board``, hook them to each other, read what is durable and try
    each part. What fails latches a fault."""
    root = board.root
    app.clock = Clock(board.ticks_us, board.ticks_period)
    app.wall = WallClock(app.clock)
    app.faults = Faults()
    board.stepper.attach(app.clock)
    app.schedule = Schedule(board.step_pl)
    app.log = EventLog(root + "/log", app.clock, app.wall)
    app.fault_log = FaultLog(root + "/faults", app.clock, app.wall)
    app.ledger = Ledger(
        board.step_pl,
        board.stepper.emitted,
        HotRecord(root + "/steps", HOT_LAYOUT),
        TwoCopies(root + "/refill"),
    )
    settings = TwoCopies(root + "/prescription")
    app.store = PrescriptionStore(settings)
    app.motion = Motion(app.clock, board.stepper, app.schedule, app.ledger, app.faults)
    app.basal = Basal(app.clock, app.store)
    app.limits = Limits(app.clock, app.ledger, HotRecord(root + "/window", LIMITS_LAYOUT))
    app.limits.since = app.basal.since_us  # pyright: ignore
    app.delivery = Delivery(
        app.schedule,
        app.motion,
        app.ledger,
        app.store,
        app.faults,
        app.log,
        app.basal,
        app.limits,
    )
    app.alarms = Alarms(app.clock, app.log)
    app.annunciator = Annunciator(
        app.clock,
        getattr(board, "sounder", None),
        app.alarms,
        TwoCopies(root + "/alarms"),
    )
    app.flow = app.turned = None
    rotor = getattr(board, "rotor", None)
    if rotor is not None:
        app.flow = Flow(
            app.clock,
            board.stepper,
            rotor,
            board.steps_per_pulse,
            app.ledger,
            app.alarms,
            app.log,
            app.faults,
        )
        app.ledger.before_store = app.flow.look  # pyright: ignore
        app.turned = getattr(rotor, "turned", None)
    app.supervisor = Supervisor(
        app.clock, getattr(board, "watchdog", None), app.motion, app.faults
    )
    app.battery = None
    battery = getattr(board, "battery", None)
    if battery is not None:
        app.battery = Battery(app.clock, battery.read_mv, app.alarms, TwoCopies(root + "/service"))
        app.supervisor.looks.append(app.battery.look)
    if app.flow is not None:
        app.supervisor.looks.append(app.flow.pulsed)
    app.supervisor.looks.append(app.write_log)
    app.alarms.on_action = app.hold
    app.annunciator.on_time = app.write_log
    app.log.on_noted = app.noted
    app.ledger.next_event = app.next_event
    app.ledger.wall_s = app.wall.best_s  # pyright: ignore
    app.log.on_written = app.ledger.events_written  # pyright: ignore
    app.motion.check_settings = app.store.check_doses  # pyright: ignore
    app.faults.stops.append(board.stepper.halt)
    app.faults.stops.append(app.delivery.fault_stop)
    app.faults.on_latch = app.log_fault
    wall_s = getattr(board, "wall_s", None)
    if wall_s is not None:
        app.wall.set(wall_s())
    hashed = table_hash()  # 50 ms on a Pico: once
    app.sessions = Sessions(
        board.unique_id,
        hashed,
        TwoCopies(root + "/keys"),
        app.clock,
        board.entropy,
        getattr(board, "service_button", None),
        app.log,
    )
    boots = _load(app, TwoCopies(root + "/boots"), board.reset_cause)
    _test_itself(app, board, settings)
    identity = {
        "board": board.name,
        "firmware": FIRMWARE,
        "vm": ".".join(str(part) for part in sys.implementation.version[:3]),
        "serial": board.unique_id,
        "boots": boots,
        "reset_cause": board.reset_cause,
    }
    app.reading = Reading(
        identity,
        hashed,
        app.sessions.paired,
        app.clock,
        app.wall,
        app.delivery,
        app.ledger,
        app.store,
        app.log,
        app.fault_log,
        app.faults,
        app.alarms,
    )
    staged = {}  # parts of a prescription or fill that are to come
    prescribing = LentGroup(
        "prescribing",
        "Prescribing",
        ("write_part", "get_part", "set_prescription"),
        (app.wall, app.delivery, app.ledger, app.store, app.faults, staged),
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
        (app.clock, app.wall, app.delivery, app.ledger, app.store, app.log, staged),
    )
    patient = LentGroup(
        "patient",
        "Patient",
        ("request_bolus", "get_therapy"),
        (app.clock, app.wall, app.delivery, app.ledger, app.store, app.log),
    )
    button = getattr(board, "patient_button", None)
    if button is not None:
        from pump.pressing import Pressing

        app.start_task(Pressing(button, patient, app.annunciator).hear)
    upkeep = LentGroup(
        "upkeep",
        "UpkeepCommands",
        ("set_clock", "clear_logs"),
        (app.clock, app.wall, app.log, app.fault_log, app.store, app.delivery),
    )
    attention = AttentionCommands(app.clock, app.log, app.alarms, app.annunciator)
    app.commands = Commands(
        (
            app.reading,
            prescribing,
            therapy,
            patient,
            upkeep,
            attention,
            app.sessions,
        ),
        app.clock,
        app.log,
        app.faults,
        board.entropy,
    )
    app.commands.on_change = app.changed
    app.sessions.on_end = app.commands.forget_prepared  # pyright: ignore
    app.sessions.on_keys = app.annunciator.announce  # pyright: ignore
    app.reading.battery = app.battery  # pyright: ignore
    app.reading.lag_ms = app.lag_ms
    app.reading.last_token = app.commands.last_token  # pyright: ignore
    app.link = Link(board.port, app.sessions, app.commands, app.clock)


def _load(app, boot_count, reset_cause):
    """Read everything durable; what is damaged latches a fault. Returns the boot count."""
    damaged = []
    boots = 0
    before_s = 0
    damaged_log = False
    try:
        damaged_log = app.log.load()
        damaged_log = app.fault_log.load() or damaged_log
        before_s = app.log.last_wall_s()
        try:
            boot_count.load()
        finally:  # damage is told once: the count starts again
            boot_count.commit(b"")
        boots = boot_count.sequence
    except (OSError, Damaged, ValueError) as error:
        damaged.append(("storage_failed", "start: %r" % error))
    try:
        app.sessions.load()
    except OSError:  # nobody gets in until it can be read; delivery goes on
        pass
    try:
        app.ledger.load()
    except (OSError, Damaged) as error:
        damaged.append(("account_damaged", repr(error)))
    try:
        app.store.load()
        app.limits.load()
    except (OSError, Damaged, ValueError) as error:
        damaged.append(("settings_damaged", repr(error)))
    try:
        app.log.note("pump_started", reset_cause)
        if damaged_log:
            app.alarms.begin("log_damaged")
        _load_intervals(app)
        if reset_cause == _BY_WATCHDOG:
            app.fault_log.append(FAULT["watchdog_reset"], "see the log before it")
            app.alarms.begin("watchdog_reset")
        _load_battery(app, boots > 1 and reset_cause in _HAD_POWER_CUT)
        _tell_what_was_lost(app, boots, reset_cause, before_s)
    except OSError as error:
        damaged.append(("storage_failed", "start: %r" % error))
    app.wall.assumed_s = app.ledger.alive_s
    app.basal.set_time(app.wall.local_us(app.store.utc_offset_min))
    for name, text in damaged:
        app.faults.latch(FAULT[name], text)
    return boots


def _load_intervals(app):
    try:
        app.annunciator.load()
    except (OSError, Damaged):  # the usual ones are in force
        app.alarms.begin("memory_minor")


def _test_itself(app, board, settings):
    """Before the first motion; the module is needed once."""
    failed = lent("selftest").run(board, settings)
    return_module("selftest")
    if failed and not app.faults.code:
        app.faults.latch(FAULT["self_test_failed"], failed)


def _load_battery(app, was_cut):
    if app.battery is None:
        return
    try:
        app.battery.begin(was_cut)
    except (OSError, Damaged):  # its days begin again
        app.alarms.begin("memory_minor")


def _tell_what_was_lost(app, boots, reset_cause, before_s):
    """Put into the log what this start took away. Raises OSError."""
    log = app.log
    ledger = app.ledger
    if boots > 1 and reset_cause in _HAD_POWER_CUT:
        app.wall.before_s = max(before_s, ledger.alive_s)
        log.note("power_lost", app.wall.away_s() if app.wall.now_s() else -1)
    if ledger.interrupted:
        event, steps = ledger.interrupted
        if not log.find(event, _BOLUS_ENDS):
            log.note("bolus_interrupted", steps * ledger.step_pl)
    if app.store.mended:
        log.note("copy_damaged", 1)
    if app.limits.unknown_us:
        app.alarms.begin("memory_minor")
    if app.wall.before_s and not app.wall.now_s():
        app.alarms.begin("clock_lost")
    log.flush()
