"""Numbers with units: what is read, what is refused and how, and the echo."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cisterna import units
from cisterna.errors import CisternaError, NoPump, OutcomeUnknown, Refused, UsageError, quoted
from cisterna.units import QuantityError

PARSERS = {
    "volume": units.parse_volume,
    "rate": units.parse_rate,
    "mass": units.parse_mass,
    "dose rate": units.parse_dose_rate,
    "concentration": units.parse_concentration,
    "duration": units.parse_duration,
}
WRITERS = {
    "volume": units.format_volume_nl,
    "rate": units.format_rate,
    "mass": units.format_mass,
    "dose rate": units.format_dose_rate,
    "concentration": units.format_concentration,
    "duration": units.format_duration,
}

# The units by hand, apart from the module's own tables: base units in one of each.
LISTED = {
    "volume": {"L": 10**9, "mL": 10**6, "uL": 10**3, "nL": 1},
    "rate": {
        "mL/day": 10**6,
        "uL/day": 10**3,
        "nL/day": 1,
        "mL/h": 24 * 10**6,
        "uL/h": 24 * 10**3,
        "nL/h": 24,
    },
    "mass": {"g": 10**9, "mg": 10**6, "ug": 10**3, "ng": 1},
    "dose rate": {
        "mg/day": 10**6,
        "ug/day": 10**3,
        "ng/day": 1,
        "mg/h": 24 * 10**6,
        "ug/h": 24 * 10**3,
        "ng/h": 24,
    },
    "concentration": {"mg/mL": 10**6, "ug/mL": 10**3, "ng/mL": 1},
    "duration": {
        "days": 86_400 * 10**6,
        "day": 86_400 * 10**6,
        "h": 3_600 * 10**6,
        "min": 60 * 10**6,
        "s": 10**6,
        "ms": 10**3,
    },
}
ALIASES = {
    "volume": {"ml": 10**6, "ul": 10**3, "µL": 10**3, "μL": 10**3, "µl": 10**3, "l": 10**9},
    "rate": {"ml/day": 10**6, "µL/day": 10**3, "μl/h": 24 * 10**3},
    "mass": {"mcg": 10**3, "µg": 10**3, "μg": 10**3},
    "dose rate": {"mcg/day": 10**3, "µg/day": 10**3, "μg/h": 24 * 10**3},
    "concentration": {"mcg/mL": 10**3, "µg/mL": 10**3, "mg/ml": 10**6, "mcg/ml": 10**3},
    "duration": {},
}

# quantity, text, value in the base unit
GOOD = [
    ("volume", "0 mL", 0),
    ("volume", "0.0 mL", 0),
    ("volume", "20 mL", 20_000_000),
    ("volume", "20mL", 20_000_000),
    ("volume", "20.0 mL", 20_000_000),
    ("volume", "3.2 mL", 3_200_000),
    ("volume", "0.5 mL", 500_000),
    ("volume", "0.50 mL", 500_000),
    ("volume", "0.000001 mL", 1),
    ("volume", "0.0000010 mL", 1),
    ("volume", "0.1 uL", 100),
    ("volume", "1 nL", 1),
    ("volume", "0.02 L", 20_000_000),
    ("volume", "0.1 mL", 100_000),
    ("volume", "0.3 mL", 300_000),
    ("volume", "123456789.123456 mL", 123_456_789_123_456),
    ("rate", "0.048 mL/day", 48_000),
    ("rate", "24 mL/day", 24_000_000),
    ("rate", "1 mL/h", 24_000_000),
    ("rate", "200 uL/day", 200_000),
    ("rate", "0.006 mL/day", 6_000),
    ("rate", "0.25mL/day", 250_000),
    ("mass", "10 ug", 10_000),
    ("mass", "10mcg", 10_000),
    ("mass", "0.5 mg", 500_000),
    ("mass", "1 g", 1_000_000_000),
    ("dose rate", "100 ug/day", 100_000),
    ("dose rate", "0.5 mg/day", 500_000),
    ("dose rate", "60 ug/h", 1_440_000),
    ("dose rate", "0.1 mg/day", 100_000),
    ("concentration", "500 ug/mL", 500_000),
    ("concentration", "2 mg/mL", 2_000_000),
    ("concentration", "2000 ug/mL", 2_000_000),
    ("concentration", "0.001 ug/mL", 1),
    ("duration", "10 min", 600_000_000),
    ("duration", "1 day", 86_400_000_000),
    ("duration", "30 days", 2_592_000_000_000),
    ("duration", "1.5 h", 5_400_000_000),
    ("duration", "0.001 ms", 1),
    ("duration", "37.92 h", 136_512_000_000),
]
GOOD += [
    (quantity, f"{number}{blank}{unit}", number * scale)
    for quantity, known in LISTED.items()
    for unit, scale in {**known, **ALIASES[quantity]}.items()
    for number, blank in ((6, " "), (705, ""))
]

# What stands before a unit and is no number, and a word the message must have.
BAD_NUMBERS = [
    (".5", "before the decimal point"),
    ("5.", "after the decimal point"),
    (".", "before the decimal point"),
    ("0,5", "comma"),
    ("1,000", "comma"),
    ("1,000.5", "comma"),
    ("1.000,5", "comma"),
    (",5", "comma"),
    ("1e3", "exponent"),
    ("1E3", "exponent"),
    ("1e-3", "exponent"),
    ("1.5e+3", "exponent"),
    ("+5", "sign"),
    ("-5", "sign"),
    ("\N{MINUS SIGN}5", "sign"),
    ("+-", "sign"),
    ("-0", "sign"),
    ("--5", "sign"),
    ("05", "leading zero"),
    ("00", "leading zero"),
    ("007.5", "leading zero"),
    ("1_000", "underscore"),
    ("1 000", "more than one number"),
    ("1.2.3", "more than one decimal point"),
    ("1..2", "after the decimal point"),
    ("5 .", "not a number and a unit"),
    ("5 5", "more than one number"),
    ("1/2", "not a number and a unit"),
    ("5*2", "not a number and a unit"),
    ("5-6", "not a number and a unit"),
    ("~5", "digits 0 to 9"),
    ("<5", "digits 0 to 9"),
    ("$5", "digits 0 to 9"),
    ("(5)", "digits 0 to 9"),
    ("five", "digits 0 to 9"),
    ("O.5", "digits 0 to 9"),
    ("l", "digits 0 to 9"),
    ("nan", "digits 0 to 9"),
    ("NaN", "digits 0 to 9"),
    ("inf", "digits 0 to 9"),
    ("Infinity", "digits 0 to 9"),
    ("None", "digits 0 to 9"),
    ("0x10", "more than one number"),
    ("½", "digits 0 to 9"),
    ("٣", "digits other than 0 to 9"),
    ("５", "digits other than 0 to 9"),
    ("1٣", "digits other than 0 to 9"),
    ("0.٣", "digits other than 0 to 9"),
    ("0.1５", "digits other than 0 to 9"),
    ("²", "digits 0 to 9"),
    ("5'", "not a number and a unit"),
]

# quantity, text, words the message must have
BAD = [
    (quantity, f"{number} {unit}", [words])
    for quantity, unit in (("volume", "mL"), ("rate", "mL/day"), ("dose rate", "ug/day"))
    for number, words in BAD_NUMBERS
]
# Blanks, nothing, and no unit: the same for every quantity.
BAD += [
    (quantity, text, [words, "expected, in ", *LISTED[quantity]])
    for quantity in PARSERS
    for text, words in (
        ("", "empty"),
        (" ", "empty"),
        ("5", "no unit"),
        ("0.5", "no unit"),
        ("5 kg", "unknown unit kg"),
        ("5 units", "unknown unit units"),
        ("mL", "digits 0 to 9"),
        ("5 mL mL", "more than one number or unit"),
        ("5 mg 3 ug", "more than one number or unit"),
        ("5 mL ug/day", "more than one number or unit"),
        ("5 mLug", "unknown unit"),
    )
]
BAD += [
    # the right number with a unit of something else
    ("volume", "5 mL/day", ["is a rate", "a volume is expected"]),
    ("volume", "5 ug", ["is a mass", "a volume is expected"]),
    ("volume", "5 min", ["is a duration", "a volume is expected"]),
    ("rate", "5 mL", ["is a volume", "a rate is expected", "mL/day"]),
    ("rate", "100 ug/day", ["is a dose rate", "a rate is expected", "mL/day"]),
    ("rate", "5 mg/mL", ["is a concentration", "a rate is expected"]),
    ("mass", "5 mL", ["is a volume", "a mass is expected", "ug"]),
    ("mass", "100 ug/day", ["is a dose rate", "a mass is expected"]),
    ("dose rate", "100 ug", ["is a mass", "a dose rate is expected", "ug/day"]),
    ("dose rate", "0.5 mL/day", ["is a rate", "a dose rate is expected"]),
    ("dose rate", "500 ug/mL", ["is a concentration", "a dose rate is expected"]),
    ("concentration", "500 ug/day", ["is a dose rate", "a concentration is expected"]),
    ("concentration", "500 ug", ["is a mass", "a concentration is expected", "ug/mL"]),
    ("duration", "10 mL", ["is a volume", "a duration is expected", "min"]),
    ("duration", "10 ug/h", ["is a dose rate", "a duration is expected"]),
    # units nearly right: a capital can be a factor of a thousand million
    ("volume", "5 ML", ["unknown unit ML"]),
    ("volume", "5 cc", ["unknown unit cc"]),
    ("volume", "5 dL", ["unknown unit dL"]),
    ("volume", "5 pL", ["unknown unit pL"]),
    ("volume", "5 UL", ["unknown unit UL"]),
    ("mass", "5 Mg", ["unknown unit Mg"]),
    ("mass", "5 MG", ["unknown unit MG"]),
    ("mass", "5 U", ["unknown unit U"]),
    ("mass", "5 IU", ["unknown unit IU"]),
    ("rate", "5 mL/d", ["unknown unit mL/d"]),
    ("rate", "5 mL/hr", ["unknown unit mL/hr"]),
    ("rate", "5 mL/min", ["unknown unit mL/min"]),
    ("rate", "5 mL/day/day", ["not a number and a unit"]),
    ("rate", "5 mL / day", ["more than one number or unit"]),
    ("rate", "5 mL per day", ["more than one number or unit"]),
    ("rate", "5 /day", ["not a number and a unit"]),
    ("rate", "5 mL/", ["not a number and a unit"]),
    ("duration", "10 m", ["unknown unit m"]),
    ("duration", "10 M", ["unknown unit M"]),
    ("duration", "1 H", ["unknown unit H"]),
    ("duration", "1:30", ["not a number and a unit"]),
    ("duration", "1 h 30 min", ["more than one number or unit"]),
    ("duration", "1h30min", ["more than one number or unit"]),
    ("concentration", "2 %", ["not a number and a unit"]),
    ("concentration", "2 mg/L", ["unknown unit mg/L"]),
    # blanks
    ("volume", " 5 mL", ["begins or ends with a blank"]),
    ("volume", "5 mL ", ["begins or ends with a blank"]),
    ("volume", "5 mL\n", ["begins or ends with a blank", r"5 mL\n"]),
    ("volume", "\t5 mL", ["begins or ends with a blank", r"\t5 mL"]),
    ("volume", "5  mL", ["another blank than one space"]),
    ("volume", "5\tmL", ["another blank than one space", r"5\tmL"]),
    ("volume", "5\nmL", ["another blank than one space", r"5\nmL"]),
    ("volume", "5\N{NO-BREAK SPACE}mL", ["another blank than one space", r"5\xa0mL"]),
    ("volume", "5\N{THIN SPACE}mL", ["another blank than one space"]),
    ("volume", "5 m L", ["more than one number or unit"]),
    ("volume", "5\0mL", [r"5\x00mL"]),
    ("volume", "5 mL\0", [r"5 mL\x00"]),
    ("volume", "\N{RIGHT-TO-LEFT OVERRIDE}5 mL", [r"\u202e5 mL"]),
    ("volume", "5 mL.", ["not a number and a unit"]),
    ("volume", "5 mL;", ["not a number and a unit"]),
    ("volume", "5-mL", ["not a number and a unit"]),
    ("volume", "mL 5", ["digits 0 to 9"]),
    ("volume", "9" * 38 + " mL", ["longer than 40 characters"]),
    ("volume", "9" * 100_000 + " mL", ["longer than 40 characters"]),
    # finer than the base unit: named, never rounded
    ("volume", "0.5 nL", ["finer than the resolution, 1 nL"]),
    ("volume", "0.0000001 mL", ["finer than the resolution, 1 nL"]),
    ("volume", "1.0000000001 mL", ["finer than the resolution, 1 nL"]),
    ("rate", "0.0000001 mL/day", ["finer than the resolution, 1 nL/day"]),
    ("rate", "0.01 nL/h", ["finer than the resolution, 1 nL/day"]),
    ("mass", "0.1 ng", ["finer than the resolution, 1 ng"]),
    ("dose rate", "0.0001 ug/day", ["finer than the resolution, 1 ng/day"]),
    ("concentration", "0.0001 ug/mL", ["finer than the resolution, 1 ng/mL"]),
    ("duration", "0.0001 ms", ["finer than the resolution, 1 us"]),
]


def refusal(parse, text, *args, **kwargs) -> QuantityError:
    """The error that ``parse`` raises."""
    with pytest.raises(QuantityError) as caught:
        parse(text, *args, **kwargs)
    return caught.value


def test_the_table_has_two_hundred_cases_and_none_twice():
    cases = [(quantity, text) for quantity, text, _ in GOOD + BAD]
    assert len(BAD) >= 200
    assert len(cases) == len(set(cases))


@pytest.mark.requirement("INP-4")
@pytest.mark.parametrize(("quantity", "text", "value"), GOOD)
def test_good_text_is_read_exactly_and_echoed_with_its_unit(quantity, text, value):
    parsed = PARSERS[quantity](text)
    assert type(parsed) is int
    assert parsed == value
    echo = WRITERS[quantity](parsed)
    number, unit = echo.split(" ")
    assert Fraction(number) * LISTED[quantity][unit] == value
    assert PARSERS[quantity](echo) == value


@pytest.mark.requirement("INP-4")
@pytest.mark.parametrize(("quantity", "text", "words"), BAD)
def test_bad_text_is_refused_naming_value_and_reason(quantity, text, words):
    error = refusal(PARSERS[quantity], text)
    assert error.exit_code == 2
    assert error.text == text
    assert set(error.units) == set(LISTED[quantity])
    assert str(error).startswith(f"{quantity} {quoted(text)} ")
    for word in words:
        assert word in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 250
    if "finer" not in str(error):
        assert all(unit in str(error) for unit in LISTED[quantity])
        assert error.remedy is not None
        assert error.remedy.startswith("write it like ")


@pytest.mark.requirement("INP-4")
@pytest.mark.parametrize("value", [5, 0.5, True, None, ["5 mL"]])
def test_what_is_no_text_is_refused(value):
    error = refusal(units.parse_volume, value)
    assert str(value) in str(error)
    assert "is not text with a unit; a volume is expected, in L, mL, uL or nL" in str(error)


def plain_reading(quantity: str, text: str) -> Fraction | None:
    """What ``text`` means in base units, by another road than the parser's; None if nothing."""
    for unit, scale in sorted(
        {**LISTED[quantity], **ALIASES[quantity]}.items(), key=lambda u: -len(u[0])
    ):
        if not text.endswith(unit):
            continue
        number = text[: -len(unit)].removesuffix(" ")
        whole, point, part = number.partition(".")
        digits = set("0123456789")
        if not whole or set(whole + part) - digits or (point and not part):
            return None
        if len(whole) > 1 and whole.startswith("0"):
            return None
        return Fraction(number) * scale
    return None


quantities = st.sampled_from(sorted(PARSERS))
SPELLINGS = sorted(
    {unit for listed in (LISTED, ALIASES) for known in listed.values() for unit in known}
)
fragments = st.sampled_from([*"01259.,+-eE_/ \t", *SPELLINGS, "٣", "inf", "0x", "day/"])


@pytest.mark.requirement("INP-4")
@given(quantities, st.lists(fragments, max_size=7).map("".join))
def test_random_text_is_read_as_it_is_written_or_refused(quantity, text):
    meaning = plain_reading(quantity, text)
    if meaning is None or meaning.denominator != 1:
        assert refusal(PARSERS[quantity], text).text == text
    else:
        assert PARSERS[quantity](text) == meaning


@pytest.mark.requirement("INP-4")
@given(
    quantities,
    st.integers(0, 10**12),
    st.text("0123456789", max_size=9),
    st.sampled_from(["", " "]),
    st.data(),
)
def test_any_number_is_read_as_its_fraction(quantity, whole, part, blank, data):
    unit, scale = data.draw(st.sampled_from(sorted(LISTED[quantity].items())))
    number = f"{whole}.{part}" if part else str(whole)
    exact = Fraction(number) * scale
    if exact.denominator == 1:
        assert PARSERS[quantity](number + blank + unit) == exact
    else:
        assert "finer than the resolution" in str(
            refusal(PARSERS[quantity], number + blank + unit)
        )


@pytest.mark.requirement("INP-4")
@given(quantities, st.integers(0, 10**20))
def test_what_is_written_reads_back(quantity, value):
    echo = WRITERS[quantity](value)
    assert PARSERS[quantity](echo) == value
    number, unit = echo.split(" ")
    assert Fraction(number) * LISTED[quantity][unit] == value
    assert not re.search(r"\.[0-9]*0$", number)


@pytest.mark.requirement("INP-4")
@pytest.mark.parametrize(
    ("parse", "low", "high", "below", "above", "lowest", "highest"),
    [
        (
            units.parse_volume,
            1_000_000,
            10_000_000,
            "0.999999 mL",
            "10.000001 mL",
            "1 mL",
            "10 mL",
        ),
        (
            units.parse_rate,
            48_000,
            24_000_000,
            "0.047 mL/day",
            "24.001 mL/day",
            "0.048 mL/day",
            "24 mL/day",
        ),
        (units.parse_mass, 1_000, 5_000_000, "999 ng", "5.1 mg", "1 ug", "5 mg"),
        (units.parse_dose_rate, 10_000, 10**6, "9 ug/day", "50 ug/h", "10 ug/day", "1 mg/day"),
        (units.parse_concentration, 1_000, 10**7, "0.9 ug/mL", "11 mg/mL", "1 ug/mL", "10 mg/mL"),
        (units.parse_duration, 1_000_000, 86_400_000_000, "999 ms", "24.1 h", "1 s", "1 day"),
    ],
)
def test_a_range_is_inclusive_and_named(parse, low, high, below, above, lowest, highest):
    assert parse(lowest, low, high) == low
    assert parse(highest, low, high) == high
    too_low = refusal(parse, below, low, high, name="fill")
    assert str(too_low) == f'fill "{below}" is below the lowest allowed, {lowest}'
    assert too_low.remedy == f"allowed: from {lowest} up to {highest}"
    too_high = refusal(parse, above, low, high, name="fill")
    assert str(too_high) == f'fill "{above}" is above the highest allowed, {highest}'
    assert too_high.remedy == too_low.remedy


@pytest.mark.requirement("INP-4")
def test_a_range_may_be_open_at_one_side():
    assert units.parse_volume("0 nL", high_nl=1) == 0
    assert units.parse_volume("5 L", low_nl=1) == 5_000_000_000
    assert refusal(units.parse_volume, "0 mL", low_nl=1).remedy == "allowed: from 1 nL"
    assert refusal(units.parse_volume, "2 nL", high_nl=1).remedy == "allowed: up to 1 nL"


@pytest.mark.requirement("INP-4")
@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("10 ug", "mass", 10_000),
        ("10 mcg", "mass", 10_000),
        ("0.5 mg", "mass", 500_000),
        ("20 uL", "volume", 20_000),
        ("0.02 mL", "volume", 20_000),
        ("1 g", "mass", 10**9),
        ("1 L", "volume", 10**9),
    ],
)
def test_a_dose_is_a_mass_or_a_volume_by_its_unit(text, kind, amount):
    assert units.parse_dose(text) == (kind, amount)
    assert units.parse_dose(text).kind == kind


@pytest.mark.requirement("INP-4")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10", "no unit"),
        (".5 ug", "before the decimal point"),
        ("10 min", "is a duration"),
        ("10 ug/day", "is a dose rate"),
        ("10 kg", "unknown unit kg"),
        ("", "empty"),
    ],
)
def test_what_is_no_dose_is_refused_with_the_units_of_both(text, words):
    error = refusal(units.parse_dose, text)
    assert words in str(error)
    assert "a mass or a volume is expected, in g, mg, ug, ng, L, mL, uL or nL" in str(error)
    assert error.remedy == "write it like 10 ug or 20 uL"


def test_a_dose_finer_than_its_base_unit_is_refused():
    assert "finer than the resolution, 1 ng" in str(refusal(units.parse_dose, "0.5 ng"))
    assert "finer than the resolution, 1 nL" in str(refusal(units.parse_dose, "0.5 nL"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.format_volume_nl(0), "0 mL"),
        (units.format_volume_nl(20_000_000), "20 mL"),
        (units.format_volume_nl(10_000), "0.01 mL"),
        (units.format_volume_nl(9_999), "9.999 uL"),
        (units.format_volume_nl(999), "999 nL"),
        (units.format_volume_nl(-300_001), "-0.300001 mL"),
        (units.format_volume_nl(100, unit="mL"), "0.0001 mL"),
        (units.format_volume_pl(100_000), "100 nL"),
        (units.format_volume_pl(13_999_999_901), "13.999999901 mL"),
        (units.format_volume_pl(13_999_999_901, digits=3), "14 mL"),
        (units.format_volume_pl(-1), "-0.001 nL"),
        (units.format_volume_pl(-1, digits=2), "0 nL"),
        (units.format_rate(200_000), "0.2 mL/day"),
        (units.format_rate(6_000), "0.006 mL/day"),
        (units.format_rate(0), "0 mL/day"),
        (units.format_mass(100_000), "100 ug"),
        (units.format_mass(158_000_000, unit="ug"), "158000 ug"),
        (units.format_mass(Fraction(1, 4)), "0.25 ng"),
        (units.format_dose_rate(500_000), "500 ug/day"),
        (units.format_dose_rate(1_440_000), "1.44 mg/day"),
        (units.format_concentration(500_000), "500 ug/mL"),
        (units.format_concentration(2_000_000), "2 mg/mL"),
        (units.format_duration(0), "0 s"),
        (units.format_duration(0, digits=1), "0 s"),
        (units.format_duration(600_000_000), "10 min"),
        (units.format_duration(136_512_000_000), "37.92 h"),
        (units.format_duration(86_400_000_000), "1 day"),
        (units.format_duration(2_592_000_000_000), "30 days"),
        (units.format_duration(1_000_000_000_000), "1000000 s"),
        (units.format_duration(1_000_000_000_000, digits=1), "11.6 days"),
        (units.format_duration(1), "0.001 ms"),
        (units.exact_decimal(Fraction(5, 2), digits=0), "2"),
        (units.exact_decimal(Fraction(1, 3), digits=4), "0.3333"),
        (units.exact_decimal(Fraction(-1, 8)), "-0.125"),
        (units.format_field("rate_nl_day", 25_000_000), "25 mL/day"),
        (units.format_field("capacity_nl", 20_000_000), "20 mL"),
        (units.format_field("bolus_left_pl", 1_500_000), "1.5 uL"),
        (units.format_field("concentration_ng_ml", 500_000), "500 ug/mL"),
        (units.format_field("duration_us", 60_000_000), "1 min"),
        (units.format_field("mode", 2), "2"),
    ],
)
def test_amounts_are_written_in_a_unit_people_use(text, expected):
    assert text == expected


@given(st.integers(-(10**20), 10**20))
def test_a_volume_in_picolitres_loses_no_digit(volume_pl):
    number, unit = units.format_volume_pl(volume_pl).split(" ")
    assert Fraction(number) * LISTED["volume"][unit] * 1_000 == volume_pl


@given(st.fractions(), st.integers(0, 9))
def test_rounding_is_asked_for_and_within_half_a_digit(value, digits):
    rounded = units.exact_decimal(value, digits)
    assert abs(Fraction(rounded) - value) <= Fraction(1, 2 * 10**digits)


def test_what_has_no_finite_decimal_is_not_rounded_unasked():
    with pytest.raises(ValueError, match=r"1/3 has no finite decimal"):
        units.format_mass(Fraction(1, 3))
    assert units.format_mass(Fraction(1, 3), digits=2) == "0.33 ng"


def test_a_unit_of_something_else_is_no_unit_to_write():
    with pytest.raises(ValueError, match="ug is none of mL, uL, nL"):
        units.format_volume_nl(1, unit="ug")


def test_every_error_has_the_exit_code_of_the_command():
    codes = {CisternaError: 1, UsageError: 2, NoPump: 3, OutcomeUnknown: 4, Refused: 1}
    assert {kind: kind.exit_code for kind in codes} == codes
    assert all(issubclass(kind, CisternaError) for kind in codes)
    error = NoPump("no pump on /dev/null", remedy="name its port")
    assert (str(error), error.remedy) == ("no pump on /dev/null", "name its port")
    assert UsageError("wrong").remedy is None


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            Refused("above_limit", "above the limit", "rate_nl_day", 25_000_000, 24_000_000),
            "the pump refused: above the limit: rate 25 mL/day, limit 24 mL/day",
        ),
        (
            Refused("below_limit", "below the limit", "fill_nl", 0, 1),
            "the pump refused: below the limit: fill 0 mL, limit 1 nL",
        ),
        (
            Refused("bad_text", "the text is empty or too long", "drug"),
            "the pump refused: the text is empty or too long: drug",
        ),
        (
            Refused("busy", "another procedure is running"),
            "the pump refused: another procedure is running",
        ),
        (
            Refused("wrong_mode", "not in this mode", "mode", -1),
            "the pump refused: not in this mode",
        ),
    ],
)
def test_a_refusal_names_field_value_limit_and_unit(error, text):
    assert str(error) == text
    assert error.exit_code == 1
