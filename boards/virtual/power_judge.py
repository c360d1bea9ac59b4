"""Is a pump that got its power back right? Compared with what was known outside it at the cut.

Bounds (ACC-2): the account may say up to 0.5 uL too much after a cut at basal rates, 2 uL after
one in a bolus, and at least a step; never too little.
"""

from binascii import crc32
from struct import unpack, unpack_from

from nor_flash import PowerCut
from virtual_pump import SECOND_US, STEP_PL

from pump.prescription import Refusal
from pump_wire.messages import (
    BY_COMMAND,
    EVENT_FORMAT,
    EVENT_SIZE,
    EVENTS,
    FAULTS,
    GET_ACCOUNT,
    GET_EVENTS,
    GET_PRESCRIPTION,
    GET_STATUS,
    GET_THERAPY,
    SIMPLE_CONTINUOUS,
    STOPPED,
)

BACK_US = 5 * SECOND_US  # PWR-5: as long as it may take until it delivers again
_BASAL_STEPS = max(1, 500_000 // STEP_PL)
_BOLUS_STEPS = max(1, 2_000_000 // STEP_PL)
_LAST_RECORDS = 18  # that are read after every cut
_UNITS_A_STEP = STEP_PL * 86_400_000  # nL/day x us


class Wrong(Exception):
    """What is wrong, in words."""


def expect(holds, text, *values):
    if not holds:
        raise Wrong(text % values)


class Found:
    """What the pump said, for whoever goes on with it."""

    def __init__(self):
        self.settings = None
        self.refill = (0, 0)
        self.over_steps = 0  # reported - true, of all starts
        self.added_steps = 0  # part of it that came with this cut
        self.next_event = 0
        self.events = []  # names of the events since the cut


def records(bed, first):
    """(number, octets) of every record from ``first`` on."""
    while True:
        reply = bed.ask(GET_EVENTS, first=first)
        raw = reply["records"]
        number = max(first, reply["oldest"])
        for at in range(0, len(raw), EVENT_SIZE):
            yield number, raw[at : at + EVENT_SIZE]
            number += 1
        first = number
        if first >= reply["next"]:
            return


def record_number(record):
    """Sequence number of a whole record, -1 of a damaged one."""
    if len(record) != EVENT_SIZE or unpack_from("<I", record, EVENT_SIZE - 4)[0] != crc32(
        record[:-4]
    ):
        return -1
    return unpack(EVENT_FORMAT, record[:-4])[0]


def judge(bed, frame, known, all_records=False):
    """Power ``bed`` on and compare with ``frame`` (``Life.frame``) and ``known`` records. Returns
    Found; raises Wrong, or PowerCut when the power was cut again meanwhile.

    ``all_records``: read the whole log. The pump has lived BACK_US afterwards.
    """
    settings, refills, in_bolus, next_event, over_before, pulses, _, started = frame[:8]
    known_below, used = frame[9:]
    found = Found()
    try:
        bed.power_on()
    except PowerCut:
        raise
    except Exception as error:
        expect(bed.flash.dead, "it does not start: %r", error)
        raise PowerCut()
    status = bed.ask(GET_STATUS)
    expect(
        not status["fault"],
        "it starts with fault %s: %s",
        FAULTS.get(status["fault"], ("?",))[0],
        status["fault_text"],
    )
    _judge_account(bed, found, refills, in_bolus, over_before, pulses)
    _judge_settings(bed, found, status, settings)
    _judge_limits(bed, used)
    _judge_delivery(bed, found)
    _judge_log(bed, found, next_event, known, known_below, all_records)
    if started:
        expect("pump_started" in found.events, "no record of the start")
        expect("power_lost" in found.events, "no record that power was lost")
    return found


def _judge_account(bed, found, refills, in_bolus, over_before, pulses):
    account = bed.ask(GET_ACCOUNT)
    expect(bed.plant.pulses == pulses, "steps moved before the pump was asked")
    found.over_steps = account["lifetime_pl"] // STEP_PL - pulses
    found.added_steps = found.over_steps - over_before
    expect(
        found.added_steps >= 0,
        "the account says %d steps too few (%d pulses)",
        -found.added_steps,
        pulses,
    )
    most = _BOLUS_STEPS if in_bolus else _BASAL_STEPS
    expect(
        found.added_steps <= most,
        "the account says %d steps too many, %d may be",
        found.added_steps,
        most,
    )
    expect(
        account["fill_pl"] - account["delivered_pl"] == account["residual_pl"],
        "fill - delivered is not the residual",
    )
    found.refill = (account["refills"], account["fill_pl"])
    expect(found.refill in refills, "refill %r is neither old nor new: %r", found.refill, refills)


def _stored_settings(bed, status):
    try:
        stored = bed.ask(GET_PRESCRIPTION)
    except Refusal:
        if bed.flash.dead:
            raise PowerCut()
        return None
    halted = bed.app.store.halted
    return stored["rate_nl_day"], stored["low_mark_nl"], halted


def _judge_settings(bed, found, status, settings):
    found.settings = _stored_settings(bed, status)
    expect(
        found.settings in settings,
        "settings %r are neither old nor new: %r",
        found.settings,
        settings,
    )


def _judge_limits(bed, used):
    """What counts in the last hour, and of the patient's boluses, is never less than there was."""
    steps, grants = used
    told = bed.ask(GET_THERAPY)
    counted = told["hour_pl"] // STEP_PL
    expect(counted >= steps, "%d steps count in the last hour, there were %d", counted, steps)
    counted = told["patient_used"]
    expect(counted >= grants, "%d boluses of the patient count, there were %d", counted, grants)


def _judge_delivery(bed, found):
    """The plant sees what the stored settings ask for, within BACK_US, and nothing of a bolus."""
    account = bed.ask(GET_ACCOUNT)
    usable = max(0, (account["residual_pl"] - account["unusable_pl"]) // STEP_PL)
    before = bed.plant.pulses
    bed.advance(BACK_US)
    pulses = bed.plant.pulses - before
    status = bed.ask(GET_STATUS)
    expect(not status["fault"], "fault %d: %s", status["fault"], status["fault_text"])
    settings = found.settings
    rate = 0 if settings is None or settings[2] or not usable else settings[0]
    mode = SIMPLE_CONTINUOUS if rate else STOPPED
    if usable <= rate * BACK_US // _UNITS_A_STEP:  # it may have run empty meanwhile
        expect(pulses <= usable, "%d pulses, %d steps were left", pulses, usable)
    else:
        expect(status["mode"] == mode, "mode %d after the start, not %d", status["mode"], mode)
        due = rate * BACK_US // _UNITS_A_STEP
        expect(
            due <= pulses <= due + 1,
            "%d pulses in %d s, %d are due",
            pulses,
            BACK_US // 10**6,
            due,
        )
        if settings is not None and settings[2]:
            expect(status["stop_reason"] == BY_COMMAND, "a stop by command is forgotten")
    after = bed.ask(GET_ACCOUNT)["lifetime_pl"] // STEP_PL - bed.plant.pulses
    expect(
        after == found.over_steps,
        "the account drifts from %d to %d steps too many",
        found.over_steps,
        after,
    )


def _judge_log(bed, found, next_event, known, known_below, all_records):
    """Numbers without gap or repeat, records unchanged, only the one in flight damaged."""
    expected = None
    first = 0 if all_records else max(0, next_event - _LAST_RECORDS)
    for number, record in records(bed, first):
        if expected is not None:
            expect(number == expected, "record %d follows %d", number, expected - 1)
        expected = number + 1
        told = record_number(record)
        if number < next_event:
            expect(told == number, "record %d reads as %d", number, told)
            if number < known_below and number in known:
                expect(record == known[number], "record %d has changed", number)
            continue
        if told == -1 and number == next_event:
            continue
        expect(told == number, "record %d reads as %d", number, told)
        found.events.append(EVENTS[record[4]][0])
    found.next_event = expected or 0
    expect(
        found.next_event >= next_event,
        "the log ends at %d, %d were written",
        found.next_event,
        next_event,
    )
