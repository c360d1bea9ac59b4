"""Every settable number of every command, at and beyond its limits, as octets on the wire (THE-6):
the right refusal with field, value and limit, and nothing has changed.
"""

from therapy_pump import PERIODIC, fields, pattern, stage, treated
from virtual_pump import filled, refused, state

from pump.prescription import Refusal
from pump_wire.codec import MAX_BODY, encode
from pump_wire.messages import (
    PREPARE,
    RECORD_REFILL,
    REFUSALS,
    SET_CLOCK,
    SET_PRESCRIPTION,
    START_BOLUS,
    START_PRIME,
    TABLE,
)

TIMEOUT_S = 240
REQUIREMENTS = {
    "test_every_number_of_every_command_keeps_its_range": ["THE-6"],
    "test_every_parameter_of_a_prescription_keeps_its_limits": ["THE-6"],
    "test_every_parameter_of_a_flex_step_keeps_its_limits": ["THE-6"],
    "test_a_refill_and_a_prime_keep_the_pumps_limits": ["THE-6", "ACC-3"],
}
BITS = {"u8": 8, "u16": 16, "u32": 32, "u64": 62, "i64": 63}
PATIENT = {"patient_nl": 5_000, "patient_s": 300, "lockout_s": 3_600, "patient_max": 6}


def body(message, values):
    """Octets of a request whose numbers may be out of range."""
    wide = tuple(
        (name, kind, None if low is None else -(1 << 63), 1 << 64, text)
        for name, kind, low, high, text in message.request
    )
    out = bytearray(MAX_BODY)
    return bytes(out[: encode(wide, values, out)])


def prepared(pump, message, values):
    """What a command comes to, (name, field, value, limit) of the refusal or None."""
    try:
        pump.ask(PREPARE, command=message.number, body=body(message, values))
    except Refusal as refusal:
        name = REFUSALS[refusal.code][0]
        return name, refusal.field, refusal.value, refusal.limit
    return None


def beyond(kind, low, high):
    """[(value, name of the refusal)]: one beyond each end, zero, what a negative number and a
    huge one are on the wire."""
    most = (1 << BITS[kind]) - 1
    found = [(low - 1, "below_limit"), (high + 1, "above_limit"), (most, "above_limit")]
    if kind == "i64":
        found.append((-most, "below_limit"))
    else:
        found.append((most - 41, "above_limit"))  # -42 in as many bits
    return [
        (value, name)
        for value, name in found
        if (value >= 0 or kind == "i64") and value <= most and not low <= value <= high
    ]


def test_every_number_of_every_command_keeps_its_range():
    pump = treated(**PATIENT)
    before = state(pump)
    tried = 0
    for message in TABLE:
        if not message.prepared:
            continue
        usual = filled(message.request)
        if message is SET_PRESCRIPTION:
            usual.update(fields(**PATIENT))
        for name, kind, low, high, _ in message.request:
            if kind not in BITS:
                continue
            for value, told in beyond(kind, low, high):
                values = dict(usual)
                values[name] = value
                limit = low if told == "below_limit" else high
                found = prepared(pump, message, values)
                assert found == (told, name, value, limit), (message.name, name, value, found)
                tried += 1
            for value in (low, high):  # nothing is wrong with the number itself
                values = dict(usual)
                values[name] = value
                found = prepared(pump, message, values)
                wrong = found and found[0] in ("below_limit", "above_limit")
                assert not (wrong and found[1:] in ((name, value, low), (name, value, high))) or (
                    message is SET_PRESCRIPTION  # whose fields depend on each other, see below
                ), (message.name, name, value, found)
    assert state(pump) == before
    assert pump.fault == ""
    assert tried > 100, tried


# (field, the rest of the prescription, lowest, highest; the field told where that is another one:
# the time in which a volume cannot be given, the lockout that is shorter than a bolus)
LIMITS = (
    ("rate_nl_day", {}, 48_000, 24_000_000),
    ("concentration_ng_ml", {}, 1, 10**12),
    ("low_mark_nl", {}, 1_000_000, 10_000_000),
    ("bolus_nl", dict(PERIODIC, mode=4), 20_834, 500_000, "bolus_s"),  # in 1,800 s: 1 to 24 mL/day
    ("bolus_s", dict(PERIODIC, mode=4), 180, 4_320),  # 50 uL at 24 mL/day, and at 1 mL/day
    ("interval_s", dict(PERIODIC, mode=4), 1_801, 604_800),
    ("patient_nl", PATIENT, 1, 83_333, "patient_s"),  # in 300 s at 24 mL/day
    ("patient_s", PATIENT, 18, 3_599, "lockout_s"),
    ("lockout_s", PATIENT, 301, 86_400),
    ("patient_max", PATIENT, 1, 24),
    ("hour_nl", {}, None, 500_000_000),
    ("day_nl", {}, None, 500_000_000),
    ("tubing_nl", {}, 0, 1_000_000),
    ("catheter_nl", {}, 0, 1_000_000),
    ("soft_day_nl", {}, 0, 500_000_000),
    ("soft_bolus_nl", {}, 0, 10_000_000),
    ("capacity_nl", {}, 20_000_000, 500_000_000),  # what is in it
)


def test_every_parameter_of_a_prescription_keeps_its_limits():
    pump = treated()
    before = state(pump)
    ranges = {}
    for name, kind, _, high, _ in SET_PRESCRIPTION.request:
        ranges[name] = kind, high
    for row in LIMITS:
        name, others, low, high = row[:4]
        kind, table_high = ranges[name]
        usual = filled(SET_PRESCRIPTION.request)
        usual.update(fields(**others))
        if name in ("hour_nl", "day_nl"):  # the least that the basal rate needs, told by the pump
            values = dict(usual)
            values[name] = 1
            low = prepared(pump, SET_PRESCRIPTION, values)[3]
            assert low > (41_667 if name == "hour_nl" else 1_000_000)
        most = (1 << BITS[kind]) - 1
        for value in (low, high):
            values = dict(usual)
            values[name] = value
            found = prepared(pump, SET_PRESCRIPTION, values)
            assert found is None, (name, value, found)
        for value in (low - 1, high + 1, most, most - 41):
            if not 0 <= value <= most:
                continue
            values = dict(usual)
            values[name] = value
            found = prepared(pump, SET_PRESCRIPTION, values)
            assert found is not None, (name, value)
            assert found[0] in ("below_limit", "above_limit"), (name, value, found)
            assert found[1] in (name, row[-1]), (name, value, found)
            if found[1] == name:
                beyond_low = value == low - 1
                assert found[0] == ("below_limit" if beyond_low else "above_limit"), found
                assert found[2] == value
                assert found[3] in ((low,) if beyond_low else (high, table_high)), (found, row)
    for rate in (48_001, 48_999, 23_999_999):
        values = filled(SET_PRESCRIPTION.request)
        values.update(fields(rate_nl_day=rate))
        assert prepared(pump, SET_PRESCRIPTION, values) == (
            "not_multiple",
            "rate_nl_day",
            rate,
            1_000,
        )
    assert state(pump) == before


def test_every_parameter_of_a_flex_step_keeps_its_limits():
    pump = treated()
    before = state(pump)

    def told(*steps):
        crc = stage(pump, {0: pattern(*steps)})
        values = filled(SET_PRESCRIPTION.request)
        values.update(fields(mode=3, parts_crc=crc))
        return prepared(pump, SET_PRESCRIPTION, values)

    for rate, wrong in (
        (5_000, "below_limit"),
        (6_000, None),  # the minimum rate
        (7_000, "below_limit"),
        (47_000, "below_limit"),
        (48_000, None),
        (24_000_000, None),
        (24_001_000, "above_limit"),
        (65_535_000, "above_limit"),
    ):
        found = told((0, rate))
        assert (found and found[0]) == wrong, (rate, found)
        if wrong:
            assert (found[1], found[2]) == ("rate_nl_day", rate)
    for minute, wrong in ((0, "below_limit"), (1, None), (1_439, None), (1_440, "above_limit"),
                          (65_535, "above_limit")):  # fmt: skip
        found = told((0, 48_000), (minute, 96_000))
        assert (found and found[0]) == wrong, (minute, found)
    assert told(*[(i, 48_000) for i in range(13)]) is None
    assert state(pump) == before


def test_a_refill_and_a_prime_keep_the_pumps_limits():
    pump = treated(low_mark_nl=2_000_000)
    before = state(pump)
    hundredth = 10_000  # nL: 0.01 mL
    usual = {"measured_nl": 0, "fill_nl": 20_000_000, "rest_nl": 0, "fill_crc": 0, "reason": "x"}
    for name, value, wrong in (
        ("fill_nl", 20_000_000 - hundredth, None),
        ("fill_nl", 20_000_000, None),
        ("fill_nl", 20_000_001, "above_limit"),
        ("fill_nl", 20_000_000 + hundredth, "above_limit"),
        ("fill_nl", 1_400_001, None),
        ("fill_nl", 1_400_000, "below_limit"),
        ("measured_nl", 20_000_000, None),
        ("measured_nl", 20_000_000 + hundredth, "above_limit"),
        ("rest_nl", 1, "above_limit"),
    ):
        values = dict(usual)
        values[name] = value
        found = prepared(pump, RECORD_REFILL, values)
        assert (found and found[:3]) == (wrong and (wrong, name, value)), (name, value, found)
    for volume_nl, wrong in ((99, "below_limit"), (100, None), (316_000, None),
                             (316_001, "above_limit")):  # fmt: skip
        values = {"volume_nl": volume_nl, "duration_us": 3_600_000_000 if volume_nl > 100 else
                  5_000_000, "agreed": 0}  # fmt: skip
        found = prepared(pump, START_PRIME, values)
        assert (found and found[0]) == wrong, (volume_nl, found)
    refused("bad_text", pump.prepare, RECORD_REFILL, measured_nl=0, fill_nl=20_000_000, reason=" ")
    assert prepared(pump, START_BOLUS, {"volume_nl": 100, "duration_us": 0, "agreed": 0}) == (
        "below_limit",
        "duration_us",
        0,
        1_000_000,
    )
    assert prepared(pump, SET_CLOCK, {"wall_s": 0, "utc_offset_min": 0})[0] == "below_limit"
    assert state(pump) == before
