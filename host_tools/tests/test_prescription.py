"""Prescriptions and their files: what loads, what is refused, and where the message points."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cisterna import prescription
from cisterna.dose import RATE_HIGH_NL_DAY, RATE_LOW_NL_DAY, RATE_STEP_NL_DAY
from cisterna.errors import UsageError
from cisterna.prescription import PrescriptionError, Therapy, TherapyError
from cisterna.programmer import completed
from cisterna.units import QuantityError
from pump_wire.codec import decode, encode
from pump_wire.messages import MINIMUM_RATE, SET_PRESCRIPTION, SIMPLE_CONTINUOUS, STOPPED

BACLOFEN = Therapy("baclofen", 500_000, SIMPLE_CONTINUOUS, 200_000, 20_000_000, 2_000_000)
MORPHINE = Therapy("morphine", 2_000_000, SIMPLE_CONTINUOUS, 250_000, 20_000_000, 2_000_000)

GOOD = """\
# line 1
format = 1

[drug]
name = "baclofen"
concentration = "500 ug/mL"

[therapy]
mode = "simple continuous"
dose_rate = "100 ug/day"

[reservoir]
low_mark = "2 mL"
capacity = "20 mL"
"""


def edited(old: str, new: str) -> str:
    """GOOD with one thing changed."""
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def refusal(text: str) -> PrescriptionError:
    """The error that loading ``text`` raises."""
    with pytest.raises(PrescriptionError) as caught:
        prescription.loads(text, "rx.toml")
    return caught.value


def test_therapy_is_what_set_prescription_carries():
    names = [name for name, *_ in SET_PRESCRIPTION.request]
    fields = [field.name for field in dataclasses.fields(Therapy)]
    carried = names[: names.index("parts_crc")]
    assert fields == [*carried, "patterns", "others", "stable_why"]  # the last are parts
    body = bytearray(224)
    for name in prescription.shipped():
        therapy = prescription.load(prescription.shipped()[name]).therapy
        values = completed(SET_PRESCRIPTION, therapy.values())
        end = encode(SET_PRESCRIPTION.request, values, body)
        back = decode(SET_PRESCRIPTION.request, bytes(body[:end]))
        assert Therapy.of_values(back, therapy.parts) == therapy


def test_shipped_prescriptions_load_exactly_and_say_what_they_are_not():
    assert list(prescription.shipped()) == [
        "baclofen",
        "baclofen_2000",
        "baclofen_flex",
        "external_mixture",
        "morphine",
        "morphine_bupivacaine",
        "ziconotide",
    ]
    for name, therapy in (("baclofen", BACLOFEN), ("morphine", MORPHINE)):
        path = prescription.shipped()[name]
        loaded = prescription.load(path)
        assert loaded.therapy == therapy
        assert loaded.notes == ()
        assert path.read_text().startswith(f"# {prescription.NOTICE}\n")


def test_simple_continuous_from_text():
    built = Therapy.simple_continuous(
        drug="baclofen",
        concentration="500 ug/mL",
        dose_rate="100 ug/day",
        capacity="20 mL",
        low_mark="2 mL",
    )
    assert built == BACLOFEN
    by_rate = Therapy.simple_continuous(
        "baclofen", "500 ug/mL", rate="0.2 mL/day", capacity="20 mL"
    )
    assert by_rate == BACLOFEN
    assert built.mode_name == "simple continuous"
    assert built.basal_rate_nl_day == 200_000
    assert built.day_total.mass_ng == 100_000


def test_the_other_modes_from_text():
    minimum = Therapy.minimum_rate("baclofen", "500 ug/mL", capacity="40 mL", low_mark="1 mL")
    assert minimum == Therapy("baclofen", 500_000, MINIMUM_RATE, 0, 40_000_000, 1_000_000)
    assert minimum.basal_rate_nl_day == 6_000
    assert minimum.day_total.mass_ng == 3_000
    stopped = Therapy.stopped("baclofen", "500 ug/mL", capacity="40 mL")
    assert stopped == Therapy("baclofen", 500_000, STOPPED, 0, 40_000_000, 2_000_000)
    assert stopped.basal_rate_nl_day == 0
    assert stopped.day_total.volume_nl == 0


@pytest.mark.parametrize("rates", [{}, {"rate": "1 mL/day", "dose_rate": "1 mg/day"}])
def test_exactly_one_of_rate_and_dose_rate(rates):
    with pytest.raises(TherapyError, match="exactly one of dose_rate and rate"):
        Therapy.simple_continuous("x", "1 mg/mL", capacity="20 mL", **rates)


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"drug": ""}, "drug", 'name "" has 0 octets, allowed are 1 to 24'),
        ({"drug": "x" * 25}, "drug", "has 25 octets, allowed are 1 to 24"),
        ({"drug": "é" * 13}, "drug", "has 26 octets, allowed are 1 to 24"),
        ({"drug": " "}, "drug", "unprintable characters or blanks"),
        ({"drug": "bac\nlofen"}, "drug", r'"bac\nlofen" has unprintable characters'),
        ({"drug": "bac\x1b[2J"}, "drug", r'"bac\x1b[2J" has unprintable characters'),
        (
            {"concentration_ng_ml": 0},
            "concentration_ng_ml",
            "concentration 0 mg/mL is below the lowest allowed, 1 ng/mL",
        ),
        (
            {"concentration_ng_ml": 10**12 + 1},
            "concentration_ng_ml",
            "is above the highest allowed, 1000000 mg/mL",
        ),
        ({"mode": 9}, "mode", 'mode 9 is none of "simple continuous", "minimum rate", "stopped"'),
        ({"mode": -1}, "mode", "mode -1 is none of"),
        (
            {"rate_nl_day": 47_000},
            "rate_nl_day",
            "rate 0.047 mL/day is below the lowest allowed, 0.048 mL/day",
        ),
        ({"rate_nl_day": 0}, "rate_nl_day", "rate 0 mL/day is below the lowest allowed"),
        ({"rate_nl_day": -200_000}, "rate_nl_day", "rate -0.2 mL/day is below the lowest"),
        (
            {"rate_nl_day": 24_001_000},
            "rate_nl_day",
            "rate 24.001 mL/day is above the highest allowed, 24 mL/day",
        ),
        (
            {"rate_nl_day": 200_500},
            "rate_nl_day",
            "rate 0.2005 mL/day is no multiple of the programmable step, 0.001 mL/day",
        ),
        ({"mode": STOPPED}, "rate_nl_day", "rate 0.2 mL/day does not go with the mode stopped"),
        ({"mode": MINIMUM_RATE}, "rate_nl_day", "does not go with the mode minimum rate"),
        (
            {"capacity_nl": 999_999},
            "capacity_nl",
            "capacity 0.999999 mL is below the lowest allowed, 1 mL",
        ),
        (
            {"capacity_nl": 500_000_001},
            "capacity_nl",
            "capacity 500.000001 mL is above the highest allowed, 500 mL",
        ),
        (
            {"low_mark_nl": 999_999},
            "low_mark_nl",
            "low_mark 0.999999 mL is below the lowest allowed, 1 mL",
        ),
        (
            {"low_mark_nl": 10_000_001},
            "low_mark_nl",
            "low_mark 10.000001 mL is above the highest allowed, 10 mL",
        ),
        (
            {"capacity_nl": 2_000_000},
            "low_mark_nl",
            "low_mark 2 mL is not below the capacity, 2 mL",
        ),
    ],
)
def test_a_therapy_no_pump_can_run_is_refused(change, field, words):
    with pytest.raises(TherapyError) as caught:
        dataclasses.replace(BACLOFEN, **change)
    assert caught.value.field == field
    assert caught.value.exit_code == 2
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"rate_nl_day": RATE_LOW_NL_DAY},
        {"rate_nl_day": RATE_HIGH_NL_DAY},
        {"concentration_ng_ml": 1},
        {"concentration_ng_ml": 10**12},
        {"capacity_nl": 500_000_000},
        {"capacity_nl": 2_000_001},
        {"low_mark_nl": 1_000_000},
        {"low_mark_nl": 10_000_000},
        {"drug": "é" * 12},
    ],
)
def test_the_ends_of_every_range_are_allowed(change):
    therapy = dataclasses.replace(BACLOFEN, **change)
    assert prescription.loads(prescription.dumps(therapy)).therapy == therapy


def test_a_rate_off_the_step_names_its_neighbours():
    with pytest.raises(TherapyError) as caught:
        dataclasses.replace(BACLOFEN, rate_nl_day=200_001)
    assert caught.value.remedy == "the nearest are 0.2 mL/day and 0.201 mL/day"


def test_text_quantities_of_a_therapy_are_strict():
    with pytest.raises(QuantityError, match=r'dose_rate ".5 ug/day" has no digit before'):
        Therapy.simple_continuous("x", "1 mg/mL", dose_rate=".5 ug/day", capacity="20 mL")
    with pytest.raises(QuantityError, match='capacity "501 mL" is above the highest allowed, 500'):
        Therapy.stopped("x", "1 mg/mL", capacity="501 mL")


def test_a_good_file_loads():
    loaded = prescription.loads(GOOD)
    assert loaded.therapy == BACLOFEN
    assert loaded.wanted is not None
    assert loaded.wanted.exact
    assert loaded.notes == ()


@pytest.mark.parametrize(
    ("text", "therapy"),
    [
        (edited('low_mark = "2 mL"\n', ""), BACLOFEN),
        (edited('dose_rate = "100 ug/day"', 'rate = "0.2 mL/day"'), BACLOFEN),
        (GOOD.replace("\n", "\r\n"), BACLOFEN),
        (
            edited("simple continuous", "minimum rate").replace('dose_rate = "100 ug/day"\n', ""),
            dataclasses.replace(BACLOFEN, mode=MINIMUM_RATE, rate_nl_day=0),
        ),
        (
            edited("simple continuous", "stopped").replace('dose_rate = "100 ug/day"\n', ""),
            dataclasses.replace(BACLOFEN, mode=STOPPED, rate_nl_day=0),
        ),
        (
            'reservoir = {capacity = "20 mL"}\nformat = 1\ntherapy.rate = "0.2 mL/day"\n'
            'therapy.mode = "simple continuous"\n[drug]\n"name" = \'baclofen\'\n'
            'concentration = "0.5 mg/mL"',
            BACLOFEN,
        ),
    ],
)
def test_other_spellings_of_a_file_load(text, therapy):
    assert prescription.loads(text).therapy == therapy


def test_a_dose_rate_that_is_not_programmable_is_noted():
    loaded = prescription.loads(edited("100 ug/day", "100.3 ug/day"))
    assert loaded.therapy.rate_nl_day == 201_000
    assert loaded.wanted is not None
    assert loaded.wanted.wanted_dose_rate_ng_day == 100_300
    assert loaded.wanted.dose_rate_ng_day == loaded.therapy.day_total.mass_ng == 100_500
    assert loaded.notes == (
        "dose rate 100.3 ug/day is not programmable; the nearest rate, 0.201 mL/day, "
        "gives 100.5 ug/day (+0.199 %)",
    )
    low = prescription.loads(edited("100 ug/day", "100.2 ug/day"))
    assert low.notes[0].endswith("gives 100 ug/day (-0.2 %)")


# text, line, words of the message, words of the remedy
BAD_FILES = [
    # numbers and units
    (edited("500 ug/mL", "500"), 6, ['concentration "500" has no unit', "ug/mL"], "500 ug/mL"),
    (
        edited("500 ug/mL", "500 ug"),
        6,
        ['concentration "500 ug" is a mass', "a concentration is expected, in mg/mL, ug/mL"],
        "500 ug/mL",
    ),
    (edited("500 ug/mL", "0,5 mg/mL"), 6, ['"0,5 mg/mL" has a comma'], "500 ug/mL"),
    (edited("500 ug/mL", "5 IU/mL"), 6, ["unknown unit IU/mL", "mg/mL, ug/mL or ng/mL"], ""),
    (
        edited("500 ug/mL", "2000 g/mL"),
        6,
        ["unknown unit g/mL"],
        "",
    ),
    (
        edited("500 ug/mL", "1000001 mg/mL"),
        6,
        ['"1000001 mg/mL" is above the highest allowed, 1000000 mg/mL'],
        "from 1 ng/mL up to 1000000 mg/mL",
    ),
    (edited("500 ug/mL", "0 mg/mL"), 6, ["is below the lowest allowed, 1 ng/mL"], ""),
    (edited("500 ug/mL", "0.0001 ug/mL"), 6, ["finer than the resolution, 1 ng/mL"], ""),
    (edited('"500 ug/mL"', "500"), 6, ['"500" is not text with a unit'], "500 ug/mL"),
    (edited('"500 ug/mL"', "true"), 6, ['"True" is not text with a unit'], ""),
    (edited("100 ug/day", ".5 ug/day"), 10, ['dose_rate ".5 ug/day" has no digit before'], ""),
    (edited("100 ug/day", "-100 ug/day"), 10, ['"-100 ug/day" has a sign'], ""),
    (edited("100 ug/day", "100 ug"), 10, ["is a mass; a dose rate is expected"], "100 ug/day"),
    (edited("100 ug/day", "0 ug/day"), 10, ["is below the lowest allowed, 1 ng/day"], ""),
    (
        edited("100 ug/day", "20 ug/day"),
        10,
        [
            'dose_rate "20 ug/day" at 500 ug/mL needs 0.04 mL/day',
            "below the lowest rate allowed, 0.048 mL/day (24 ug/day at this concentration)",
        ],
        "",
    ),
    (
        edited("100 ug/day", "23.999 ug/day"),
        10,
        ["needs 0.047998 mL/day, below the lowest rate allowed, 0.048 mL/day"],
        "",
    ),
    (
        edited("100 ug/day", "12.0001 mg/day"),
        10,
        ["needs 24.0002 mL/day, above the highest rate allowed, 24 mL/day (12 mg/day"],
        "",
    ),
    (
        edited('dose_rate = "100 ug/day"', 'rate = "24.001 mL/day"'),
        10,
        ['rate "24.001 mL/day" is above the highest allowed, 24 mL/day'],
        "from 0.048 mL/day up to 24 mL/day",
    ),
    (
        edited('dose_rate = "100 ug/day"', 'rate = "0.047 mL/day"'),
        10,
        ['rate "0.047 mL/day" is below the lowest allowed, 0.048 mL/day'],
        "",
    ),
    (
        edited('dose_rate = "100 ug/day"', 'rate = "0.2005 mL/day"'),
        10,
        ["rate 0.2005 mL/day is no multiple of the programmable step, 0.001 mL/day"],
        "0.2 mL/day and 0.201 mL/day",
    ),
    (edited('dose_rate = "100 ug/day"', "rate = 0.2"), 10, ['rate "0.2" is not text'], ""),
    (edited("20 mL", "501 mL"), 14, ['capacity "501 mL" is above', "500 mL"], "up to 500 mL"),
    (edited("20 mL", "0.5 mL"), 14, ['capacity "0.5 mL" is below', "1 mL"], ""),
    (edited('"2 mL"', '"12 mL"'), 13, ['low_mark "12 mL" is above', "10 mL"], "from 1 mL"),
    (edited('"2 mL"', '"0.9 mL"'), 13, ['low_mark "0.9 mL" is below', "1 mL"], ""),
    (edited("20 mL", "2 mL"), 13, ["low_mark 2 mL is not below the capacity, 2 mL"], ""),
    (
        edited('low_mark = "2 mL"\n', "").replace("20 mL", "1.5 mL"),
        13,
        ["low_mark 2 mL is not below the capacity, 1.5 mL"],
        "",
    ),
    # text
    (edited('"baclofen"', '""'), 5, ['name "" has 0 octets, allowed are 1 to 24'], ""),
    (edited("baclofen", "x" * 25), 5, ["has 25 octets, allowed are 1 to 24"], ""),
    (edited('"baclofen"', "5"), 5, ['name "5" is not text in quotes'], ""),
    (edited("baclofen", r"bac\u001blofen"), 5, [r'"bac\x1blofen" has unprintable'], ""),
    # modes
    (
        edited("simple continuous", "flex"),
        9,
        ['mode "flex" is none of "simple continuous", "minimum rate", "stopped"'],
        "",
    ),
    (edited("simple continuous", "stoped"), 9, ['mode "stoped"'], 'did you mean "stopped"?'),
    (edited('"simple continuous"', "2"), 9, ['mode "2" is none of'], ""),
    (
        edited("simple continuous", "stopped"),
        10,
        ['dose_rate "100 ug/day" does not go with the mode "stopped"'],
        "take it out",
    ),
    (
        edited('dose_rate = "100 ug/day"', 'dose_rate = "100 ug/day"\nrate = "0.2 mL/day"'),
        11,
        ["dose_rate and rate are both given"],
        "exactly one",
    ),
    # keys
    (edited("low_mark", "lowmark"), 13, ['unknown key "lowmark" in [reservoir]'], "low_mark?"),
    (edited("dose_rate", "doserate"), 10, ['unknown key "doserate" in [therapy]'], "dose_rate?"),
    (edited("[reservoir]", "[resevoir]"), 12, ['unknown key "resevoir"'], "reservoir?"),
    (edited("format = 1", "format = 1\nzzz = 3"), 3, ['unknown key "zzz"'], "format, drug"),
    (edited("name =", "colour = 1\nname ="), 5, ['"colour" in [drug]'], "name, concentration"),
    (
        edited("format = 1", 'format = 1\ndrug = "baclofen"').replace("[drug]", "[drag]"),
        5,
        ['"drag"'],
        "drug?",
    ),
    (
        edited("[drug]\n", "")
        .replace("format = 1", 'format = 1\ndrug = "x"')
        .replace('name = "baclofen"\nconcentration = "500 ug/mL"\n', ""),
        3,
        ["drug is a value; it must be a table, [drug]"],
        "",
    ),
    (edited("format = 1\n", ""), 1, ["the file has no format"], "format = 1"),
    (edited("format = 1", "format = 3"), 2, ['format "3" is not known', "format 1 and 2"], ""),
    (edited("format = 1", 'format = "1"'), 2, ['format "1" is not known'], ""),
    (edited("format = 1", "format = true"), 2, ['format "true" is not known'], ""),
    (edited("format = 1", "format = 1.0"), 2, ['format "1.0" is not known'], ""),
    (edited('name = "baclofen"\n', ""), 4, ["[drug] has no name"], "cut short"),
    (edited('concentration = "500 ug/mL"\n', ""), 4, ["[drug] has no concentration"], "cut short"),
    (edited('mode = "simple continuous"\n', ""), 8, ["[therapy] has no mode"], "cut short"),
    (edited('dose_rate = "100 ug/day"\n', ""), 8, ["[therapy] has no dose_rate or rate"], "cut"),
    (edited('capacity = "20 mL"\n', ""), 12, ["[reservoir] has no capacity"], "cut short"),
    (GOOD[: GOOD.index("[reservoir]")], 10, ["the file ends here and has no [reservoir]"], "cut"),
    (GOOD[: GOOD.index("[therapy]")], 6, ["the file ends here and has no [therapy]"], "cut"),
    # no TOML
    (GOOD[: GOOD.index("g/day")], 10, ["the file ends here, incomplete"], "cut short"),
    (GOOD[: GOOD.index("ervoir]")], 12, ["the file ends here, incomplete"], "cut short"),
    (edited('"100 ug/day"', "100 ug/day"), 10, ['"dose_rate = 100 ug/day" is no TOML'], ""),
    (edited('"100 ug/day"', ".5"), 10, ['"dose_rate = .5" is no TOML'], ""),
    (edited('"100 ug/day"', '"100 ug/day'), 10, ["is no TOML"], ""),
    (edited('name = "baclofen"', 'name = "a"\nname = "b"'), 6, ['"name = "b"" is no TOML'], ""),
    (edited("[therapy]", "[drug]"), 8, ['"[drug]" is no TOML'], ""),
    ("\0\0\0\0", 1, ["is no TOML"], ""),
    ("9" * 1001, 1, ["1001 characters; at most 1000 are allowed"], ""),
    (f"format = {'9' * 990}", 1, ["is not known"], ""),
    (f"format = {'[' * 900}", None, [], ""),
]


@pytest.mark.requirement("INP-4")
@pytest.mark.parametrize(("text", "line", "words", "remedy"), BAD_FILES)
def test_a_bad_file_names_file_line_value_limit_and_unit(text, line, words, remedy):
    error = refusal(text)
    assert error.exit_code == 2
    assert str(error).startswith("rx.toml")
    if line is not None:
        assert error.line == line
        assert str(error).startswith(f"rx.toml, line {line}: ")
    for word in words:
        assert word in str(error)
    assert remedy in (error.remedy or "")
    assert "\n" not in str(error)
    assert len(str(error)) < 300


def test_the_line_is_found_whatever_the_layout():
    inline = 'format = 1\n# x\ndrug = {name = "b", concentration = "5"}\n'
    assert (
        refusal(inline + "therapy = {mode = 'stopped'}\nreservoir = {capacity='20 mL'}").line == 3
    )
    decoy = edited("[drug]", "[drug]\n# capacity = 5").replace("20 mL", "5")
    assert refusal(decoy).line == 15
    name = edited('"baclofen"', '"""\\\n  [reservoir]\\\n  capacity = 5"""').replace("20 mL", "7")
    assert refusal(name).line == 16
    assert refusal(edited("500 ug/mL", "7").replace("\n", "\r\n")).line == 6


@pytest.mark.parametrize("name", ["baclofen", "morphine"])
def test_a_shipped_file_cut_anywhere_is_refused_or_the_same(name):
    text = prescription.shipped()[name].read_text()
    whole = prescription.loads(text)
    for end in range(len(text) - 1):
        assert refusal(text[:end]).exit_code == 2
    assert prescription.loads(text[:-1]) == whole


def test_a_written_file_cut_anywhere_is_refused_or_the_same():
    therapy = dataclasses.replace(BACLOFEN, low_mark_nl=5_000_000)
    text = prescription.dumps(therapy)
    for end in range(len(text) - 1):
        assert refusal(text[:end]).exit_code == 2
    assert prescription.loads(text[:-1]).therapy == therapy


@settings(deadline=None)  # finding a line parses the file once a line
@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda b: b.decode("latin-1")))
def test_any_text_loads_or_is_refused(text):
    assert refusal(text).line in (None, *range(1, 82))


@settings(deadline=None)  # finding a line parses the file once a line
@given(st.integers(0, len(GOOD) - 1), st.sampled_from([*'"=[]#.,\n\\ 0x', "", '"""', "mL", "\0"]))
def test_a_file_with_one_thing_changed_loads_a_valid_therapy_or_is_refused(at, new):
    try:
        therapy = prescription.loads(GOOD[:at] + new + GOOD[at + 1 :]).therapy
    except PrescriptionError as error:
        therapy, reason = None, str(error)
    else:
        reason = ""
    if therapy is None:
        assert reason.startswith("prescription")
    else:
        assert prescription.loads(prescription.dumps(therapy)).therapy == therapy


def test_files_are_read_from_disk(tmp_path):
    path = tmp_path / "rx.toml"
    path.write_text("\ufeff" + GOOD, encoding="utf-8")
    assert prescription.load(path).therapy == BACLOFEN
    assert prescription.load(str(path)).therapy == BACLOFEN


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"#\n# \xff\n", ", line 2: is not UTF-8 text"),
        (b"#" * (16 * 1024 + 1), "longer than a prescription may be, 16384 octets"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, content, words):
    path = tmp_path / "rx.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PrescriptionError) as caught:
        prescription.load(path)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)
    assert isinstance(caught.value, UsageError)


def test_a_folder_is_no_prescription(tmp_path):
    with pytest.raises(PrescriptionError, match="cannot be read"):
        prescription.load(tmp_path)


drugs = (
    st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=24)
    .map(str.strip)
    .filter(lambda name: name.isprintable() and 1 <= len(name.encode()) <= 24)
)


@st.composite
def therapies(draw) -> Therapy:
    """Any therapy a pump can run."""
    mode = draw(st.sampled_from([STOPPED, MINIMUM_RATE, SIMPLE_CONTINUOUS]))
    lowest, highest = RATE_LOW_NL_DAY // RATE_STEP_NL_DAY, RATE_HIGH_NL_DAY // RATE_STEP_NL_DAY
    steps = draw(st.integers(lowest, highest))
    low_mark = draw(st.integers(1_000_000, 10_000_000))
    return Therapy(
        draw(drugs),
        draw(st.integers(1, 10**12)),
        mode,
        steps * RATE_STEP_NL_DAY if mode == SIMPLE_CONTINUOUS else 0,
        draw(st.integers(low_mark + 1, 500_000_000)),
        low_mark,
    )


@settings(deadline=None)
@given(therapies())
def test_what_is_written_loads_back_identically(therapy):
    text = prescription.dumps(therapy)
    loaded = prescription.loads(text)
    assert loaded.therapy == therapy
    assert [note for note in loaded.notes if "the drug table does not have" not in note] == []
    assert prescription.dumps(loaded.therapy) == text
    assert text.startswith(f"# {prescription.NOTICE}\n")


@settings(deadline=None)
@given(st.integers(24_000, 12_000_000))
def test_a_loaded_dose_rate_is_within_half_a_step_of_the_file(dose_rate_ng_day):
    text = edited("100 ug/day", f"{dose_rate_ng_day} ng/day")
    loaded = prescription.loads(text)
    wanted = Fraction(dose_rate_ng_day * 10**6, 500_000)
    assert abs(loaded.therapy.rate_nl_day - wanted) <= Fraction(RATE_STEP_NL_DAY, 2)
    assert bool(loaded.notes) == (loaded.therapy.rate_nl_day != wanted)
