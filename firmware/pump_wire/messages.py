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

WIRE_VERSION = 2

# Roles that may send a message, a bit each; whoever is not named may not. ANYONE is not
# authenticated.
PATIENT = 1
CLINICIAN = 2
SERVICE = 4
ANYONE = 8
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
    ANYONE | _READ,
    False,
    "Who is there, and nothing of the therapy.",
    (),
    (
        ("wire_version", "u16", 0, 65535, "version of framing and session layer"),
        ("table_hash", "u32", 0, _U32, "table_hash() of the pump's message table"),
        ("sealed", "u8", 0, 1, "1: somebody has keys for it; 0: nobody has, it must be paired"),
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
        ("mode", "u8", 0, 8, "number of the mode, see MODES"),
        ("return_mode", "u8", 0, 8, "mode after a bolus; equal to mode when no bolus runs"),
        ("stop_reason", "u8", 0, 6, "why it is stopped, see STOP_REASONS"),
        ("rate_nl_day", "u64", 0, _I62, "rate now"),
        ("steps", "u64", 0, _I62, "motor steps the step generator has emitted since manufacture"),
        ("step_pl", "u64", 1, _I62, "volume of one motor step"),
        ("programmed_pl", "u64", 0, _I62, "volume the programme asked for since the last refill"),
        ("bolus_pl", "u64", 0, _I62, "volume of the running bolus of any kind, 0 when none runs"),
        ("bolus_left_pl", "u64", 0, _I62, "part of it not yet due"),
        ("fault", "u8", 0, 255, "first latched fault, 0 none, see FAULTS"),
        ("fault_text", "s64", None, None, "what was seen when it latched"),
        ("next_event", "u32", 0, _U32, "sequence number the next event will get"),
        ("last_token", "b8", None, None, "token of the last confirmed command, zero if none"),
        ("alarms", "u8", 0, 255, "alarms that stand or were not acknowledged"),
        ("alarm", "u8", 0, 255, "the most urgent of them, 0 none, see ALARMS"),
        ("battery_mv", "u32", 0, _U32, "battery as last measured, 0: never, or there is none"),
        ("service_days", "u32", 0, _U32, "whole days it has served"),
        ("lag_ms", "u32", 0, _U32, "longest that the loop let its supervisor wait too long"),
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
        ("missed_pl", "i64", -_I62, _I62, "asked for since the start and not moved, by the rotor"),
        ("expected_pl", "i64", -_I62, _I62, "expected residual at the last refill"),
        ("measured_pl", "i64", -_I62, _I62, "measured residual at the last refill"),
        ("before_delivered_pl", "i64", 0, _I62, "delivered over the time the last refill ended"),
        ("reason", "s32", None, None, "reason given for the last refill"),
    ),
)

_PRESCRIPTION = (
    ("drug", "s24", None, None, "name of the drug"),
    ("concentration_ng_ml", "u64", 1, 10**12, "drug in one millilitre"),
    ("mode", "u8", 0, 4, "stopped, minimum_rate, simple_continuous, flex or periodic_bolus"),
    (
        "rate_nl_day",
        "u64",
        0,
        24_000_000,
        "basal rate of simple_continuous, or between the boluses of periodic_bolus; else 0",
    ),
    ("capacity_nl", "u64", 1_000_000, 500_000_000, "reservoir capacity"),
    ("low_mark_nl", "u64", 1_000_000, 10_000_000, "low reservoir mark"),
    ("bolus_nl", "u32", 0, 10_000_000, "periodic bolus: volume; 0 unless mode is periodic_bolus"),
    ("bolus_s", "u32", 0, 86_400, "periodic bolus: time to give it in"),
    ("interval_s", "u32", 0, 604_800, "periodic bolus: from start to start"),
    ("patient_nl", "u32", 0, 10_000_000, "patient bolus: volume, 0: not permitted"),
    ("patient_s", "u32", 0, 86_400, "patient bolus: time to give it in"),
    ("lockout_s", "u32", 0, 86_400, "patient bolus: shortest time from start to start"),
    ("patient_max", "u8", 0, 24, "patient bolus: most of them in any 24 h"),
    ("hour_nl", "u32", 0, 500_000_000, "most in any hour from every source, 0: no limit"),
    ("day_nl", "u32", 0, 500_000_000, "most in any 24 h from every source, 0: no limit"),
    ("soft_day_nl", "u32", 0, 500_000_000, "24-h total above which one must agree, 0: none"),
    ("soft_bolus_nl", "u32", 0, 10_000_000, "bolus above which one must agree, 0: none"),
    ("tubing_nl", "u32", 0, 1_000_000, "volume of the pump's tubing, 0: not known"),
    ("catheter_nl", "u32", 0, 1_000_000, "volume of the implanted catheter, 0: not known"),
    ("stable_until_s", "u32", 0, _U32, "wall time at which the drug expires, 0: not known"),
    ("week", "b7", None, None, "flex: number of the pattern of each day, Monday first; else 0"),
    (
        "parts_crc",
        "u32",
        0,
        _U32,
        "CRC-32 of the parts that belong to it, see write_part; 0: none",
    ),
)
# Bits of ``asks`` and ``agreed``: what whoever programs must agree to.
ASK_TOTAL = 1  # the dose in 24 h changes by more than 20 %: total_nl must be the new volume
ASK_SOFT_DAY = 2  # a 24-h total, patient boluses and all, above soft_day_nl
ASK_SOFT_BOLUS = 4  # a bolus above soft_bolus_nl
ASK_SOFT_RAISED = 8  # a soft limit is raised or taken away
ASK_BRIDGE = 16  # a concentration changes: bridge, or no bridge and why
ASK_MIXTURE = 32  # concentrations are not those of what is in the reservoir

NO_BRIDGE = 0
BRIDGE = 1
BRIDGE_REFUSED = 2

# Staged parts: octets of ``write_part`` that a later request names by their CRC-32.
PATTERNS = 7  # parts 0 to 6: flex patterns
STEPS_A_DAY = 13
STEP_FORMAT = "<HH"  # minute of the day it begins at, the first 0; rate in 1,000 nL/day
DRUG_PARTS = 7  # parts 7 to 9: second to fourth drug of a prescription
FILL_PARTS = 10  # parts 10 to 13: drugs of a fill
STABILITY_PART = 14  # of a prescription: whose word it is that the drug is stable so long; text
RESERVOIR_PARTS = 20  # parts 20 to 23: drugs in the reservoir, to read only
DRUG_FORMAT = "<Q"  # concentration in ng/mL, 1 to 10**12; the name follows, 1 to 24 octets

# As it is stored, see pump/prescription.py; not on the wire.
STORED_PRESCRIPTION = (
    (
        ("halted", "u8", 0, 1, "stopped by command until resumed"),
        ("utc_offset_min", "i64", -840, 840, "local time - UTC"),
        ("bridge", "u8", 0, 2, "bridge bolus: 0 none, 1 runs, 2 cancelled"),
        ("bridge_rate", "u32", 0, 24_000_000, "its rate, nL/day"),
        ("bridge_to", "u64", 0, _I62, "steps since manufacture at which it is over"),
        ("why", "s24", None, None, "why there was none"),
    )
    + _PRESCRIPTION
    + (("parts", "b*", None, None, "its parts"),)
)

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
        ("next_event", "u32", 0, _U32, "sequence number the next event will get"),
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
    "Replace the prescription with the parts staged for it; a running bolus ends, a stop by "
    "command stays. It takes over at one instant; delivery does not stop for it. Bits of asks and "
    "agreed: 1 the dose changes by more than 20 %, type total_nl; 2 a 24-h total above "
    "soft_day_nl; 4 a bolus above soft_bolus_nl; 8 a soft limit raised; 16 a concentration "
    "changes, decide on a bridge; 32 concentrations are not the reservoir's.",
    _PRESCRIPTION
    + (
        ("total_nl", "u32", 0, _U32, "the new 24-h total as it was typed, 0: it was not"),
        ("agreed", "u8", 0, 63, "bits of what was agreed to, see set_prescription"),
        ("bridge", "u8", 0, 2, "a concentration changes: 1 bridge bolus first, 2 none; else 0"),
        ("why", "s24", None, None, "bridge is 2: why there is none"),
    ),
    _PRESCRIPTION
    + (
        ("old_total_nl", "u32", 0, _U32, "24-h total of the present prescription, largest day"),
        ("new_total_nl", "u32", 0, _U32, "24-h total of this one, largest day"),
        ("with_patient_nl", "u32", 0, _U32, "the same with every permitted patient bolus"),
        ("change_ppm", "u32", 0, _U32, "largest change of a drug's dose in a day; most: from 0"),
        ("asks", "u8", 0, 63, "bits of what must be agreed to and is not, see set_prescription"),
        ("bridge_nl", "u32", 0, _U32, "bridge bolus: volume, 0: none"),
        ("bridge_rate_nl_day", "u32", 0, _U32, "bridge bolus: rate"),
        ("bridge_us", "u64", 0, _I62, "bridge bolus: time it takes"),
    ),
)

_BOLUS = (
    ("volume_nl", "u64", 1, 10_000_000, "volume that would be given"),
    ("duration_us", "u64", 1, _I62, "time it will take"),
    ("rate_nl_day", "u64", 1, 24_000_000, "rate during the bolus, whole nanolitres a day"),
    ("cut_nl", "u32", 0, _U32, "part of what was asked for that a volume limit takes away"),
    ("asks", "u8", 0, 63, "bits of what must be agreed to and is not, see set_prescription"),
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
        ("agreed", "u8", 0, 63, "bits of what was agreed to, see set_prescription"),
    ),
    _BOLUS,
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
        ("mode", "u8", 0, 8, "mode after resuming"),
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
        ("measured_nl", "u64", 0, 500_000_000, "residual volume that was aspirated and measured"),
        ("fill_nl", "u64", 1, 500_000_000, "volume put in"),
        ("rest_nl", "u64", 0, 500_000_000, "volume that was left in; the fill mixes with it"),
        ("fill_crc", "u32", 0, _U32, "CRC-32 of the staged drugs of the fill, 0: as before"),
        ("reason", "s32", None, None, "why: scheduled, early, explant ..."),
    ),
    (
        ("expected_pl", "i64", -_I62, _I62, "expected residual volume"),
        ("discrepancy_pl", "i64", -_I62, _I62, "measured + what was left in - expected"),
        ("programmed_pl", "i64", 0, _I62, "programmed since the last refill"),
        ("true_pl", "i64", -_I62, _I62, "last fill - measured residual: what really left"),
        ("ratio_ppm", "u64", 0, _I62, "true / programmed, 0: less than 0.069 mL programmed"),
        ("flagged", "u8", 0, 1, "1: outside the ratio or the volume limit"),
        ("life_ppm", "u64", 0, _I62, "true / programmed over all refills, 0: as above"),
        (
            "drug_ng_ml",
            "u64",
            0,
            10**12,
            "then in the reservoir: its first drug, 0: unknown",
        ),
        ("drug2_ng_ml", "u64", 0, 10**12, "the next one: the fill's drugs, then what was left"),
        ("drug3_ng_ml", "u64", 0, 10**12, "the next one"),
        ("drug4_ng_ml", "u64", 0, 10**12, "the next one"),
    ),
)

SET_CLOCK = Message(
    21,
    "set_clock",
    CLINICIAN,
    True,
    "Set wall time and time zone. Of delivery only flex uses them.",
    (
        ("wall_s", "u64", 1_577_836_800, _U32, "seconds since 1970-01-01 UTC"),
        ("utc_offset_min", "i64", -840, 840, "local time - UTC, minutes"),
    ),
    (("wall_s", "u64", 0, _I62, "wall time before, 0 if it was not set"),),
)

CANCEL_BOLUS = Message(
    22,
    "cancel_bolus",
    CLINICIAN,
    True,
    "End the running bolus of any kind, back to the mode it came from. Of a bridge bolus the pump "
    "keeps how much is left.",
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

WRITE_PART = Message(
    40,
    "write_part",
    CLINICIAN,
    False,
    "Stage octets for a prescription (parts 0 to 9, and 14) or a fill (10 to 13), too long for "
    "its request. They do nothing until a request with their CRC-32 is confirmed.",
    (
        ("part", "u8", 0, 255, "number of the part; 255: forget all that is staged"),
        ("octets", "b*", None, None, "its octets; none: forget this part"),
    ),
    (
        (
            "crc",
            "u32",
            0,
            _U32,
            "CRC-32 of the staged parts of a prescription, or of a fill for a part of one: each, "
            "in the order of their numbers, as number, length, octets; 0: none",
        ),
    ),
)

GET_PART = Message(
    41,
    "get_part",
    _READ,
    False,
    "A part of the prescription in force, or a drug in the reservoir (20 to 23).",
    (("part", "u8", 0, 255, "number of the part"),),
    (("octets", "b*", None, None, "its octets; none: there is no such part"),),
)

GET_THERAPY = Message(
    42,
    "get_therapy",
    _READ,
    False,
    "What the pump knows of the therapy ahead: limits, patient, bridge, flex, forecast.",
    (),
    (
        ("patient_us", "u64", 0, _I62, "until a patient bolus is possible, 2**62: not permitted"),
        ("patient_used", "u8", 0, 255, "patient boluses that count in the last 24 h"),
        ("hour_pl", "u64", 0, _I62, "at most delivered in the last hour"),
        ("day_pl", "u64", 0, _I62, "at most delivered in the last 24 h"),
        ("room_nl", "u64", 0, _I62, "largest bolus that the limits allow now, 2**62: no limit"),
        ("low_us", "u64", 0, _I62, "until the low mark, every patient bolus used; 2**62: never"),
        ("empty_us", "u64", 0, _I62, "the same until empty"),
        ("refill_us", "u64", 0, _I62, "until the next refill: low mark or the drug's stability"),
        ("total_nl", "u32", 0, _U32, "24-h total of the prescription, largest day"),
        ("bridge", "u8", 0, 2, "bridge bolus: 0 none, 1 runs, 2 cancelled with some left"),
        ("bridge_left_nl", "u32", 0, _U32, "old drug still before the tip"),
        ("why", "s24", None, None, "why there was no bridge bolus at the last change"),
        ("clock", "u8", 0, 2, "0 wall time unknown, 1 set, 2 assumed: power was away"),
        ("utc_offset_min", "i64", -840, 840, "local time - UTC, minutes"),
        ("step", "u8", 0, 255, "flex: step of the day that runs, from 0; 255: none"),
        ("next_us", "u64", 0, _I62, "until the rate changes by itself, 2**62: never"),
    ),
)

REQUEST_BOLUS = Message(
    43,
    "request_bolus",
    PATIENT,
    True,
    "The patient's bolus, as the prescription permits it. Requests are logged: granted, or "
    "refused and why.",
    (),
    _BOLUS,
)

START_PRIME = Message(
    44,
    "start_prime",
    CLINICIAN,
    True,
    "Priming bolus: fill tubing and catheter; also in a stopped pump. Then back to the mode it "
    "came from.",
    (
        ("volume_nl", "u64", 1, 2_000_000, "volume, at most that of tubing and catheter"),
        ("duration_us", "u64", 1_000_000, 86_400_000_000, "time to deliver it in"),
    ),
    _BOLUS,
)

RESUME_BRIDGE = Message(
    45,
    "resume_bridge",
    CLINICIAN,
    True,
    "Go on with a cancelled bridge bolus; what was delivered since has left the tubing too.",
    (),
    _BOLUS,
)

_INTERVALS = (
    ("critical_s", "u32", 60, 3_600, "from tone to tone of critical alarms"),
    ("other_s", "u32", 600, 86_400, "the same of non-critical ones"),
)

GET_ALARMS = Message(
    64,
    "get_alarms",
    _READ,
    False,
    "Alarms that stand or were not acknowledged, oldest first.",
    (),
    _INTERVALS
    + (
        ("action", "u8", 0, 2, "what they make the pump do, see ACTIONS"),
        ("records", "b*", None, None, "ALARM_SIZE octets each"),
    ),
)

SILENCE = Message(
    65,
    "silence_alarms",
    _READ,
    False,
    "No tones for a while from the alarms there are now. Those that come later sound.",
    (("silence_s", "u32", 60, 86_400, "for how long"),),
    (("alarms", "u8", 0, 255, "alarms silenced"),),
)

ACKNOWLEDGE = Message(
    66,
    "acknowledge_alarm",
    CLINICIAN | SERVICE,
    False,
    "One alarm is seen to. If its cause stands it comes again after ALARM_AGAIN_S.",
    (("instance", "u32", 0, _U32, "number of the instance: of the event that recorded it"),),
    (
        ("alarm", "u8", 1, 255, "what it was, see ALARMS"),
        ("stands", "u8", 0, 1, "1: its cause stands"),
    ),
)

ALARM_TEST = Message(
    67,
    "test_alarm",
    _READ,
    False,
    "Play a pattern of tones once.",
    (("pattern", "u8", 0, 2, "index in TONES"),),
    (("duration_ms", "u32", 0, _U32, "how long it takes"),),
)

SET_ALARM_INTERVALS = Message(
    68,
    "set_alarm_intervals",
    CLINICIAN,
    True,
    "How often standing alarms sound.",
    _INTERVALS,
    _INTERVALS,
)


# -- sessions and keys (96 to 119) ----------------------------------------------------------------

OPEN_SESSION = Message(
    96,
    "open_session",
    ANYONE,
    False,
    "Begin a session in a role. Whoever has its key can read the proof, and goes on sealed.",
    (
        ("role", "u8", 1, 4, "1 patient, 2 clinician, 4 service"),
        ("who", "s24", None, None, "who asks, for others who find the pump busy"),
        ("nonce", "b16", None, None, "random, never used before"),
    ),
    (
        ("nonce", "b16", None, None, "the pump's"),
        ("proof", "b8", None, None, "tag over nothing, of the pump's counter 0"),
    ),
)

CLOSE_SESSION = Message(
    97, "close_session", _READ, False, "End the session; what was prepared in it is void.", (), ()
)

PAIR = Message(
    98,
    "pair",
    ANYONE,
    False,
    "Get a role's key. Only while the service button is held.",
    (
        ("role", "u8", 1, 4, "1 patient, 2 clinician, 4 service"),
        ("public", "b32", None, None, "X25519 public key, made for this"),
    ),
    (
        ("public", "b32", None, None, "the pump's, made for this"),
        ("generation", "u16", 1, 65535, "how many keys this role has had"),
        ("sealed_key", "b24", None, None, "the role's key, sealed under what both agreed on"),
    ),
)

REVOKE_KEY = Message(
    99,
    "revoke_key",
    ANYONE,
    False,
    "Make a role's key worthless. Only while the service button is held.",
    (("role", "u8", 1, 4, "1 patient, 2 clinician, 4 service"),),
    (),
)

GET_KEYS = Message(
    100,
    "get_keys",
    _READ,
    False,
    "Which roles have a key, and the how many-th it is. Never a key.",
    (),
    (
        ("patient", "u16", 0, 65535, "generation of the patient's key, 0: it has none"),
        ("clinician", "u16", 0, 65535, "the clinician's"),
        ("service", "u16", 0, 65535, "the service's"),
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
    WRITE_PART,
    GET_PART,
    GET_THERAPY,
    REQUEST_BOLUS,
    START_PRIME,
    RESUME_BRIDGE,
    GET_ALARMS,
    SILENCE,
    ACKNOWLEDGE,
    ALARM_TEST,
    SET_ALARM_INTERVALS,
    OPEN_SESSION,
    CLOSE_SESSION,
    PAIR,
    REVOKE_KEY,
    GET_KEYS,
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
    40: ("lockout", "the lockout after the last patient bolus is not over"),
    41: ("patient_max", "the most patient boluses of 24 h are used up"),
    42: ("volume_limit", "a volume limit leaves no room"),
    43: ("clock_not_set", "the pump's clock is not set"),
    44: ("bridge_running", "a bridge bolus is running"),
    45: ("not_agreed", "this needs to be agreed to"),
    46: ("total_differs", "the 24-h total that was typed is not the new one"),
    47: ("parts_differ", "the staged parts are not those that the request names"),
    48: ("not_permitted", "the prescription permits no patient bolus"),
    49: ("no_bridge", "there is no bridge bolus to go on with"),
    64: ("no_such_alarm", "there is no such alarm now"),
    65: ("alarm_stands", "an alarm that stands does not allow it"),
    96: ("no_session", "it knows nothing of this session: it ended, or the pump restarted"),
    97: ("backed_off", "too many failed authentications; it listens again in {value} ms"),
    98: ("not_paired", "it has given out no key for this role"),
    99: ("no_button", "its service button is not held"),
}
REFUSAL = {REFUSALS[code][0]: code for code in REFUSALS}

# Infusion modes. Numbers are on the wire and in stored records: never reuse one.
MODES = (
    "stopped",
    "minimum_rate",
    "simple_continuous",
    "flex",
    "periodic_bolus",
    "single_bolus",
    "patient_bolus",
    "priming_bolus",
    "bridge_bolus",
)
STOPPED = 0
MINIMUM_RATE = 1
SIMPLE_CONTINUOUS = 2
FLEX = 3
PERIODIC_BOLUS = 4
SINGLE_BOLUS = 5
PATIENT_BOLUS = 6
PRIMING_BOLUS = 7
BRIDGE_BOLUS = 8

STOP_REASONS = (
    "running",
    "no prescription",
    "prescription",
    "command",
    "empty reservoir",
    "fault",
    "alarm",
)
RUNNING = 0
NO_PRESCRIPTION = 1
BY_PRESCRIPTION = 2
BY_COMMAND = 3
EMPTY_RESERVOIR = 4
BY_FAULT = 5
BY_ALARM = 6

RESET_CAUSES = ("unknown", "power on", "watchdog", "reset pin", "software")

# Event records: sequence u32, code u8, flags u8 (bit 0: wall time is known; bits 1 to 3: role of
# whoever's command caused it), cause u16 (first octets of that command's token, 0: the pump
# itself), uptime_us u64, wall_s u32, value a i64, CRC-32 of the 28 octets before it.
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
    5: ("bolus_done", "bolus done, {a} pL moved"),
    6: ("bolus_ended_early", "bolus ended early, {a} pL not delivered"),
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
    40: ("patient_granted", "patient bolus of {a} pL granted and started"),
    41: ("patient_refused", "patient bolus refused, refusal {a}"),
    42: ("bolus_cut", "bolus cut by a volume limit, {a} pL not given"),
    43: ("prime_started", "priming bolus of {a} pL started"),
    44: ("bridge_started", "bridge bolus of {a} pL started"),
    45: ("bridge_done", "bridge bolus done, the new programme runs"),
    46: ("bridge_cancelled", "bridge bolus cancelled, {a} pL of the old drug left"),
    47: ("bridge_resumed", "bridge bolus resumed, {a} pL left"),
    48: (
        "bridge_refused",
        "concentration changed without a bridge bolus, {a} pL of the old drug left",
    ),
    49: ("limit_held", "basal rate held back by a volume limit"),
    50: ("limit_over", "basal rate no longer held back by a volume limit"),
    51: ("flex_moved", "flex schedule moved by {a} s with the clock"),
    52: ("zone_set", "time zone set, UTC + {a} min"),
    53: ("limit_agreed", "programmed above a soft limit, as agreed; bits {a}"),
    54: ("refused_again", "refused like the record before: {a} more"),
    64: ("alarm_raised", "alarm {a} raised"),
    65: ("alarm_over", "cause of alarm {a} is gone"),
    66: ("alarm_acknowledged", "alarm of record {a} acknowledged"),
    67: ("alarms_silenced", "alarms silenced for {a} s"),
    68: ("alarm_intervals_set", "critical alarms sound every {a} s"),
    69: (
        "rotor_stalled",
        "rotor no longer follows the steps, for at most {a} s before it was seen",
    ),
    70: ("rotor_follows", "rotor follows the steps again, after at most {a} s"),
    71: ("volume_missed", "stalled volume that left the account: {a} pL"),
    96: ("auth_failed", "authentication failed, {a} times since the last record of this"),
    97: ("paired", "a key of role {a} was given out"),
    98: ("key_revoked", "the key of role {a} was revoked"),
    99: ("keys_lost", "the keys cannot be read; whoever talks to the pump must be paired again"),
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
    35: (
        "self_test_failed",
        "a self-test failed",
        "restart the pump; replace it if it fails again",
    ),
    33: ("task_silent", "a task of the firmware no longer runs", "restart the pump"),
    34: ("watchdog_reset", "the watchdog restarted the pump", "read the log before it"),
    32: ("free_run", "the rotor turned without steps", "replace the pump"),
}
FAULT = {FAULTS[code][0]: code for code in FAULTS}

# What an alarm makes the pump do; of several alarms the highest number wins.
ACTIONS = ("nothing", "no bolus", "stop")
NO_BOLUS = 1
STOP_ALL = 2

# Tones by class of alarm, played once: (Hz, ms) one after the other. The last is no alarm: it
# tells of a change from outside.
TONES = (
    ((2_000, 1_000),),
    ((2_600, 500), (2_000, 500)) * 3,
    ((1_500, 100),),
)
OTHER = 0
CRITICAL = 1
ANNOUNCEMENT = 2
ALARM_CLASSES = ("non-critical", "critical")

# An acknowledged alarm whose cause still stands comes again after so long.
ALARM_AGAIN_S = 86_400

# Alarm records: instance u32, alarm u8, state u8, s since it was raised u32.
ALARM_SIZE = 10
ALARM_FORMAT = "<IBBI"
ALARM_STATES = ("pending", "silenced", "acknowledged", "cured")
PENDING = 0
SILENCED = 1
ACKNOWLEDGED = 2
CURED = 3

# code: (name, class, action, text, remedy)
ALARMS = {
    1: (
        "low_reservoir",
        OTHER,
        0,
        "the reservoir is at or below its low mark",
        "plan a refill",
    ),
    2: (
        "empty_reservoir",
        CRITICAL,
        STOP_ALL,
        "the reservoir is empty, delivery has stopped",
        "refill and record it",
    ),
    3: (
        "stall",
        CRITICAL,
        NO_BOLUS,
        "the rotor does not follow the motor's steps",
        "if it stood in a strong magnetic field wait until the rotor turns again, else replace it",
    ),
    4: (
        "over_infusion",
        CRITICAL,
        NO_BOLUS,
        "the rotor turns more than 5 % too far",
        "watch for signs of overdose; stop the pump, compare with what a refill measures",
    ),
    5: (
        "under_infusion",
        CRITICAL,
        0,
        "the rotor turns more than 5 % too little",
        "watch for signs of withdrawal; compare with what a refill measures",
    ),
    6: (
        "free_run",
        CRITICAL,
        STOP_ALL,
        "the rotor turned without steps, delivery has stopped",
        "watch for signs of overdose; replace the pump",
    ),
    7: (
        "stopped_48_h",
        CRITICAL,
        0,
        "delivery has been stopped for 48 h",
        "resume it, or program another mode",
    ),
    8: (
        "battery_eri",
        OTHER,
        0,
        "elective replacement indicator: the battery comes to its end",
        "plan a replacement",
    ),
    9: (
        "battery_eos",
        CRITICAL,
        STOP_ALL,
        "end of service: the battery is at its end, delivery has stopped",
        "replace the pump",
    ),
    10: (
        "low_battery_reset",
        CRITICAL,
        0,
        "the pump restarted because its battery was low",
        "replace the pump; check the account against a refill",
    ),
    11: (
        "memory_minor",
        OTHER,
        0,
        "one of two copies was damaged and made good from the other",
        "none, unless it comes again",
    ),
    12: (
        "memory_critical",
        CRITICAL,
        STOP_ALL,
        "stored settings or the account are damaged, delivery has stopped",
        "see the fault: program again, or refill and record it",
    ),
    13: (
        "self_test",
        CRITICAL,
        STOP_ALL,
        "a self-test failed, delivery has stopped",
        "see the fault; restart the pump, replace it if the fault stays",
    ),
    14: ("clock_lost", OTHER, 0, "wall time was lost", "set the clock"),
    15: (
        "log_damaged",
        OTHER,
        0,
        "a part of the log cannot be read",
        "read what is left; clear the logs",
    ),
    16: (
        "limit_reached",
        OTHER,
        0,
        "a volume limit held delivery back",
        "see the log; check the prescription",
    ),
    17: (
        "attack",
        OTHER,
        0,
        "somebody tried to get in without a key",
        "look who is near the pump, and read the log",
    ),
    18: (
        "pump_fault",
        CRITICAL,
        STOP_ALL,
        "a fault is latched, delivery has stopped",
        "see the fault and its remedy",
    ),
    19: (
        "watchdog_reset",
        CRITICAL,
        0,
        "the pump hung, and its watchdog restarted it",
        "read the log; check the account against a refill",
    ),
}
ALARM = {ALARMS[code][0]: code for code in ALARMS}
# By number of the alarm, from 1 on without a gap: its class, its action.
ALARM_CLASS = bytes([0] + [ALARMS[code + 1][1] for code in range(len(ALARMS))])
ALARM_ACTION = bytes([0] + [ALARMS[code + 1][2] for code in range(len(ALARMS))])


def table_hash():
    """CRC-32 over the wire meaning of all of this: numbers, names, flags, fields, types and
    ranges."""
    total = WIRE_VERSION
    for message in TABLE:
        row = "%d %s %d %d|" % (message.number, message.name, message.roles, message.prepared)
        total = crc32((row + _fields_text(message.request)).encode(), total)
        total = crc32(_fields_text(message.reply).encode(), total)
    total = crc32(_fields_text(ERROR).encode(), total)
    for codes in (REFUSALS, EVENTS, FAULTS, ALARMS):
        for code in sorted(codes):
            total = crc32(("%d %s|" % (code, codes[code][0])).encode(), total)
    for names in (
        MODES,
        STOP_REASONS,
        RESET_CAUSES,
        (EVENT_FORMAT, FAULT_FORMAT, ALARM_FORMAT),
        ACTIONS,
        ALARM_STATES,
    ):
        total = crc32("|".join(names).encode(), total)
    return total & 0xFFFFFFFF


def _fields_text(fields):
    return ";".join("%s %s %s %s" % field[:4] for field in fields) + "#"
