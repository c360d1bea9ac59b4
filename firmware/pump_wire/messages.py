"""THE message table: every request, its reply, every field with its unit and range.

The pump decodes with it, the programmer encodes with it, ``PROTOCOL.md`` is written from it, and
hello compares ``table_hash()`` on both sides. Change a message here and nowhere else. A board
holds the table packed, see packed.py: fields can be iterated over there and no more, and only the
names that other modules import are there.

A field is ``(name, type, low, high, text)``. Types: u8 u16 u32 u64 i64 (little endian), ``sN``
(UTF-8 of at most N octets after a length octet), ``bN`` (exactly N octets), ``b*`` (all that is
left; last field only). low and high are inclusive and in the unit of the name's suffix; both None
for text and octets. The codec refuses a value outside them on either side, so a number in a
decoded message is in range.
"""

from binascii import crc32

WIRE_VERSION = 1

# Roles that may send a message (a bit each). Enforced once the session layer authenticates.
ANYONE = 0
PATIENT = 1
CLINICIAN = 2
SERVICE = 4
_READ = PATIENT | CLINICIAN | SERVICE

_U32 = (1 << 32) - 1
_I62 = 1 << 62  # stays a small integer in a 64-bit VM


class Message:
    """One row of the table.

    ``number``: message id, 1 to 127. ``roles``: who may send it. ``prepared``: True if it moves
    drug or settings, so it is only carried out through prepare and confirm. ``request`` and
    ``reply``: tuples of fields.
    """

    def __init__(
        self,
        number: int,
        name: str,
        roles: int,
        prepared: bool,
        text: str,
        request: "tuple[tuple[str, str, int | None, int | None, str], ...]",
        reply: "tuple[tuple[str, str, int | None, int | None, str], ...]",
    ):
        self.number = number
        self.name = name
        self.roles = roles
        self.prepared = prepared
        self.text = text
        self.request = request
        self.reply = reply


HELLO = Message(
    1,
    "hello",
    ANYONE,
    False,
    "Who is there. The only message before authentication.",
    (),
    (
        ("wire_version", "u16", 0, 65535, "version of framing and session layer"),
        ("table_hash", "u32", 0, _U32, "table_hash() of the pump's message table"),
        ("sealed", "u8", 0, 1, "1: sessions are authenticated and encrypted; 0: open bench build"),
        ("board", "s16", None, None, "board name, as its folder"),
        ("firmware", "s16", None, None, "firmware version"),
        ("vm", "s16", None, None, "MicroPython version"),
        ("serial", "b8", None, None, "unique id of the board"),
        ("boots", "u32", 0, _U32, "times the pump has started"),
        ("reset_cause", "u8", 0, 4, "0 unknown, 1 power on, 2 watchdog, 3 reset pin, 4 software"),
    ),
)

GET_STATUS = Message(
    2,
    "get_status",
    _READ,
    False,
    "What the pump does now.",
    (),
    (
        ("uptime_us", "u64", 0, _I62, "pump clock: microseconds since it started"),
        ("wall_s", "u64", 0, _I62, "seconds since 1970-01-01 UTC, 0 while the clock is not set"),
        ("mode", "u8", 0, 5, "number of the mode, see MODES"),
        ("return_mode", "u8", 0, 5, "mode after a bolus; equal to mode when no bolus runs"),
        ("stop_reason", "u8", 0, 5, "why it is stopped, see STOP_REASONS"),
        ("rate_nl_day", "u64", 0, _I62, "rate now"),
        ("steps", "u64", 0, _I62, "motor steps the step generator has emitted since manufacture"),
        ("step_pl", "u64", 1, _I62, "volume of one motor step"),
        ("programmed_pl", "u64", 0, _I62, "volume the programme asked for since the last refill"),
        ("bolus_pl", "u64", 0, _I62, "volume of the running bolus, 0 when none runs"),
        ("bolus_left_pl", "u64", 0, _I62, "part of it not yet due"),
        ("fault", "u8", 0, 255, "first latched fault, 0 none, see FAULTS"),
        ("fault_text", "s64", None, None, "what was seen when it latched"),
        ("next_event", "u32", 0, _U32, "sequence number the next event will get"),
        ("last_token", "b8", None, None, "token of the last confirmed command, zero if none"),
    ),
)

GET_ACCOUNT = Message(
    3,
    "get_account",
    _READ,
    False,
    "The reservoir account, in whole picolitres.",
    (),
    (
        ("fill_pl", "i64", 0, _I62, "volume put in at the last refill"),
        ("delivered_pl", "i64", 0, _I62, "delivered since the last refill"),
        ("residual_pl", "i64", -_I62, _I62, "expected residual volume: fill - delivered"),
        ("lifetime_pl", "i64", 0, _I62, "delivered since manufacture"),
        ("bolus_pl", "i64", 0, _I62, "part of delivered that boluses moved"),
        ("capacity_pl", "i64", 0, _I62, "reservoir capacity"),
        ("low_mark_pl", "i64", 0, _I62, "low reservoir mark"),
        ("unusable_pl", "i64", 0, _I62, "volume that cannot be delivered"),
        ("refills", "u32", 0, _U32, "refills recorded"),
        ("refill_uptime_us", "u64", 0, _I62, "pump clock at the last refill, 0: an earlier start"),
        ("refill_wall_s", "u64", 0, _I62, "wall time of the last refill, 0: clock not set"),
        ("expected_pl", "i64", -_I62, _I62, "expected residual at the last refill"),
        ("measured_pl", "i64", -_I62, _I62, "measured residual at the last refill"),
        ("before_delivered_pl", "i64", 0, _I62, "delivered over the time the last refill ended"),
        ("reason", "s32", None, None, "reason given for the last refill"),
    ),
)

_PRESCRIPTION = (
    ("drug", "s24", None, None, "name of the drug"),
    ("concentration_ng_ml", "u64", 1, 10**12, "drug in one millilitre"),
    ("mode", "u8", 0, 2, "stopped, minimum_rate or simple_continuous"),
    ("rate_nl_day", "u64", 0, 24_000_000, "basal rate; 0 unless mode is simple_continuous"),
    ("capacity_nl", "u64", 1_000_000, 500_000_000, "reservoir capacity"),
    ("low_mark_nl", "u64", 1_000_000, 10_000_000, "low reservoir mark"),
)
# As it is stored, see pump/prescription.py; not on the wire.
STORED_PRESCRIPTION = (("halted", "u8", 0, 1, "stopped by command until resumed"),) + _PRESCRIPTION

GET_PRESCRIPTION = Message(
    4,
    "get_prescription",
    _READ,
    False,
    "The prescription the pump runs.",
    (),
    (("sequence", "u32", 0, _U32, "writes of prescription, stop or resume, 0: none"),)
    + _PRESCRIPTION,
)

GET_EVENTS = Message(
    5,
    "get_events",
    _READ,
    False,
    "Event records, oldest first, as many as one frame holds.",
    (("first", "u32", 0, _U32, "sequence number to start at; what is gone is skipped"),),
    (
        ("oldest", "u32", 0, _U32, "oldest sequence number kept"),
        ("next", "u32", 0, _U32, "sequence number the next event will get"),
        ("records", "b*", None, None, "event records of EVENT_SIZE octets"),
    ),
)

PREPARE = Message(
    6,
    "prepare",
    _READ,
    False,
    "Announce a command. The pump checks it, changes nothing, and answers with what it would do.",
    (
        ("command", "u8", 1, 127, "message id of the command"),
        ("body", "b*", None, None, "its request"),
    ),
    (
        ("token", "b8", None, None, "one-time token bound to exactly these octets"),
        ("valid_ms", "u32", 0, _U32, "how long the token may be used"),
        ("body", "b*", None, None, "the command's reply: what would be done"),
    ),
)

CONFIRM = Message(
    7,
    "confirm",
    _READ,
    False,
    "Carry out the command prepared under a token, once.",
    (("token", "b8", None, None, "token from prepare"),),
    (
        ("event", "u32", 0, _U32, "sequence number of the event that recorded it"),
        ("uptime_us", "u64", 0, _I62, "pump clock at which it took effect"),
    ),
)

GET_FAULTS = Message(
    8,
    "get_faults",
    _READ,
    False,
    "Fault records, oldest first, as many as one frame holds.",
    (("first", "u32", 0, _U32, "sequence number to start at; what is gone is skipped"),),
    (
        ("oldest", "u32", 0, _U32, "oldest sequence number kept"),
        ("next", "u32", 0, _U32, "sequence number the next fault record will get"),
        ("records", "b*", None, None, "fault records of FAULT_SIZE octets"),
    ),
)

GET_MEMORY = Message(
    15,
    "get_memory",
    _READ,
    False,
    "Collect garbage and tell what is free: takes some milliseconds.",
    (),
    (("heap_free", "u32", 0, _U32, "free heap, octets"),),
)

SET_PRESCRIPTION = Message(
    16,
    "set_prescription",
    CLINICIAN,
    True,
    "Replace the prescription; a running bolus ends, a stop by command stays.",
    _PRESCRIPTION,
    _PRESCRIPTION,
)

START_BOLUS = Message(
    17,
    "start_bolus",
    CLINICIAN,
    True,
    "Single bolus: in place of the basal rate, then back to the mode it came from.",
    (
        ("volume_nl", "u64", 1, 10_000_000, "volume"),
        ("duration_us", "u64", 1_000_000, 86_400_000_000, "time to deliver it in"),
    ),
    (
        ("volume_nl", "u64", 1, 10_000_000, "volume"),
        ("duration_us", "u64", 1, _I62, "time it will take"),
        ("rate_nl_day", "u64", 1, 24_000_000, "rate during the bolus, whole nanolitres a day"),
    ),
)

STOP = Message(
    18,
    "stop_delivery",
    CLINICIAN,
    True,
    "Stop delivery; a running bolus ends.",
    (),
    (),
)

RESUME = Message(
    19,
    "resume_delivery",
    CLINICIAN,
    True,
    "Leave stopped; run the prescription again.",
    (),
    (
        ("mode", "u8", 0, 5, "mode after resuming"),
        ("rate_nl_day", "u64", 0, 24_000_000, "rate after resuming"),
    ),
)

RECORD_REFILL = Message(
    20,
    "record_refill",
    CLINICIAN,
    True,
    "Record a refill: what was aspirated, what was put in, and why.",
    (
        ("measured_nl", "u64", 0, 500_000_000, "measured residual volume"),
        ("fill_nl", "u64", 1, 500_000_000, "volume put in"),
        ("reason", "s32", None, None, "why: scheduled, early, explant ..."),
    ),
    (
        ("expected_pl", "i64", -_I62, _I62, "expected residual volume"),
        ("discrepancy_pl", "i64", -_I62, _I62, "measured - expected"),
        ("programmed_pl", "i64", 0, _I62, "programmed since the last refill"),
        ("true_pl", "i64", -_I62, _I62, "last fill - measured residual: what really left"),
        ("ratio_ppm", "u64", 0, _I62, "true / programmed, 0 when nothing was programmed"),
        ("flagged", "u8", 0, 1, "1: outside the ratio or the volume limit"),
    ),
)

SET_CLOCK = Message(
    21,
    "set_clock",
    CLINICIAN,
    True,
    "Set wall time. Delivery does not use it.",
    (("wall_s", "u64", 1_577_836_800, _U32, "seconds since 1970-01-01 UTC"),),
    (("wall_s", "u64", 0, _I62, "wall time before, 0 if it was not set"),),
)

CANCEL_BOLUS = Message(
    22,
    "cancel_bolus",
    CLINICIAN,
    True,
    "End the running bolus, back to the mode it came from.",
    (),
    (("left_pl", "u64", 0, _I62, "part of the bolus that will not be delivered"),),
)

CLEAR_LOGS = Message(
    23,
    "clear_logs",
    SERVICE,
    True,
    "Hide the events and faults recorded so far. Their numbers go on and are never used again.",
    (),
    (
        ("events", "u32", 0, _U32, "event records that would be hidden"),
        ("faults", "u32", 0, _U32, "fault records that would be hidden"),
    ),
)

TABLE = (
    HELLO,
    GET_STATUS,
    GET_ACCOUNT,
    GET_PRESCRIPTION,
    GET_EVENTS,
    PREPARE,
    CONFIRM,
    GET_FAULTS,
    GET_MEMORY,
    SET_PRESCRIPTION,
    START_BOLUS,
    STOP,
    RESUME,
    RECORD_REFILL,
    SET_CLOCK,
    CANCEL_BOLUS,
    CLEAR_LOGS,
)
BY_NUMBER = {message.number: message for message in TABLE}

# The body of an error packet, whatever the request was.
ERROR = (
    ("code", "u8", 1, 255, "see REFUSALS"),
    ("field", "s24", None, None, "field that was refused, empty when none"),
    ("value", "i64", -_I62, _I62, "its value"),
    ("limit", "i64", -_I62, _I62, "the limit it broke"),
)

# code: (name, what the programmer says)
REFUSALS = {
    1: ("unknown_message", "the pump does not know this message"),
    2: ("bad_body", "the message does not decode"),
    3: ("below_limit", "below the limit"),
    4: ("above_limit", "above the limit"),
    5: ("not_prepared", "this command must be prepared and confirmed"),
    6: ("bad_token", "the token is unknown, used or another session's"),
    7: ("token_expired", "the confirmation came too late"),
    8: ("fault_latched", "a fault is latched; the motor stays stopped"),
    9: ("no_prescription", "no prescription is stored"),
    10: ("wrong_mode", "not possible in the present mode"),
    11: ("not_enough_drug", "the reservoir does not hold that much"),
    12: ("bad_text", "the text is empty or too long"),
    13: ("busy", "another procedure is running"),
    14: ("not_multiple", "not a multiple of the programmable step"),
    15: ("internal", "the pump met an internal error and stopped the motor"),
    16: ("bolus_running", "a bolus is running"),
    17: ("not_allowed", "this role may not send it"),
}
REFUSAL = {REFUSALS[code][0]: code for code in REFUSALS}

# Infusion modes. Numbers are on the wire and in stored records: never reuse one.
MODES = ("stopped", "minimum_rate", "simple_continuous", "flex", "periodic_bolus", "single_bolus")
STOPPED = 0
MINIMUM_RATE = 1
SIMPLE_CONTINUOUS = 2
SINGLE_BOLUS = 5

STOP_REASONS = (
    "running",
    "no prescription",
    "prescription",
    "command",
    "empty reservoir",
    "fault",
)
RUNNING = 0
NO_PRESCRIPTION = 1
BY_PRESCRIPTION = 2
BY_COMMAND = 3
EMPTY_RESERVOIR = 4
BY_FAULT = 5

RESET_CAUSES = ("unknown", "power on", "watchdog", "reset pin", "software")

# Event records: sequence u32, code u8, flags u8 (bit 0: wall time is known), reserved u16,
# uptime_us u64, wall_s u32, value a i64, CRC-32 of the 28 octets before it.
EVENT_SIZE = 32
EVENT_FORMAT = "<IBBHQIq"  # without the CRC

# Fault records: sequence u32, code u8, flags u8 (bit 0: wall time is known), length of the text
# u16, uptime_us u64, wall_s u32, text (UTF-8, filled up with 00), CRC-32 of the 104 octets before
# it. The text is what was seen, and where in the firmware as far as it fits.
FAULT_SIZE = 108
FAULT_FORMAT = "<IBBHQI84s"  # without the CRC

# code: (name, text with {a} for the record's value)
EVENTS = {
    1: ("pump_started", "pump started, reset cause {a}"),
    2: ("prescription_committed", "prescription committed, record {a}"),
    3: ("mode_entered", "mode {a} entered"),
    4: ("bolus_started", "single bolus of {a} pL started"),
    5: ("bolus_done", "single bolus done, {a} pL moved"),
    6: ("bolus_ended_early", "single bolus ended early, {a} pL not delivered"),
    7: ("delivery_stopped", "delivery stopped by command"),
    8: ("delivery_resumed", "delivery resumed by command"),
    9: ("refill_recorded", "refill recorded, fill {a} pL"),
    10: ("discrepancy", "refill discrepancy of {a} pL"),
    11: ("clock_set", "wall time set, it was {a} s before"),
    12: ("low_reservoir", "reservoir at or below its low mark, residual {a} pL"),
    13: ("empty_reservoir", "reservoir empty, delivery stopped, residual {a} pL"),
    14: ("fault_latched", "fault {a} latched, motor stopped"),
    15: ("command_refused", "command refused, message {a}"),
    16: (
        "power_lost",
        "power was lost for at most {a} s, -1 if the clock cannot tell",
    ),
    17: ("bolus_interrupted", "bolus interrupted by a restart, at most {a} pL of it moved"),
    18: ("power_was_away", "clock set after a loss of power, which was away for at most {a} s"),
    19: ("logs_cleared", "logs cleared, {a} event records hidden"),
    20: ("copy_damaged", "one of two copies was damaged and made good from the other, record {a}"),
}
EVENT = {EVENTS[code][0]: code for code in EVENTS}

# code: (name, text, remedy)
FAULTS = {
    1: ("task_failed", "a task of the firmware failed", "read the log, then restart the pump"),
    2: ("step_late", "a step came later than its limit", "restart the pump"),
    3: (
        "settings_damaged",
        "both copies of the prescription are damaged",
        "programme it again, restart the pump, resume",
    ),
    4: ("account_damaged", "the account cannot be read", "refill and record it"),
    5: ("storage_failed", "a record could not be written", "restart the pump"),
    6: ("step_count", "the step generator counted other steps than given", "restart the pump"),
}
FAULT = {FAULTS[code][0]: code for code in FAULTS}


def table_hash():
    """CRC-32 over the wire meaning of all of this: numbers, names, flags, fields, types and
    ranges."""
    total = WIRE_VERSION
    for message in TABLE:
        row = "%d %s %d %d|" % (message.number, message.name, message.roles, message.prepared)
        total = crc32((row + _fields_text(message.request)).encode(), total)
        total = crc32(_fields_text(message.reply).encode(), total)
    total = crc32(_fields_text(ERROR).encode(), total)
    for codes in (REFUSALS, EVENTS, FAULTS):
        for code in sorted(codes):
            total = crc32(("%d %s|" % (code, codes[code][0])).encode(), total)
    for names in (MODES, STOP_REASONS, RESET_CAUSES, (EVENT_FORMAT, FAULT_FORMAT)):
        total = crc32("|".join(names).encode(), total)
    return total & 0xFFFFFFFF


def _fields_text(fields):
    return ";".join("%s %s %s %s" % field[:4] for field in fields) + "#"
