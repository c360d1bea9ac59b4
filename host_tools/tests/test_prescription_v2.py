"""Prescription files of format 2, and the host's arithmetic against the pump's own."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cisterna import prescription, prescription_v2
from cisterna.bench_virtual import VirtualBench
from cisterna.drugs import override
from cisterna.guard import guard
from cisterna.mixture import Drug
from cisterna.prescription import PrescriptionError, Therapy, TherapyError, parts_crc
from host_tools.tests.conftest import Cisterna
from pump import programming
from pump.prescription import Refusal
from pump_wire.messages import FLEX, PERIODIC_BOLUS, SIMPLE_CONTINUOUS

rates = st.integers(48, 24_000).map(lambda thousands: thousands * 1000) | st.just(6_000)
names = st.text("abcdefghij ", min_size=1, max_size=24).filter(lambda text: text == text.strip())


@st.composite
def therapies(draw: Callable[..., Any]) -> Therapy:
    """Any therapy that a pump can run, as far as volume limits are not concerned."""
    mode = draw(st.sampled_from((SIMPLE_CONTINUOUS, FLEX, PERIODIC_BOLUS)))
    fields: dict[str, Any] = {}
    rate = 0
    if mode == SIMPLE_CONTINUOUS:
        rate = draw(rates.filter(lambda rate: rate != 6_000))
    if mode == FLEX:
        count = draw(st.integers(1, 7))
        patterns = []
        for _ in range(count):
            minutes = draw(st.lists(st.integers(1, 1439), max_size=12, unique=True))
            patterns.append(tuple((m, draw(rates)) for m in [0, *sorted(minutes)]))
        week = [*range(count), *(draw(st.integers(0, count - 1)) for _ in range(7 - count))]
        fields |= {"patterns": tuple(patterns), "week": bytes(draw(st.permutations(week)))}
    if mode == PERIODIC_BOLUS:
        rate = draw(st.just(6_000) | st.integers(48, 500).map(lambda thousands: thousands * 1000))
        seconds = draw(st.integers(60, 3_600))
        least, most = -(-rate * seconds // 86_400) + 1, 24_000_000 * seconds // 86_400 - 1
        fields |= {
            "bolus_nl": draw(st.integers(least, min(most, 10**7))),
            "bolus_s": seconds,
            "interval_s": draw(st.integers(seconds + 1, 604_800)),
        }
    if draw(st.booleans()):
        fields |= {
            "patient_nl": draw(st.integers(1, 100_000)),
            "patient_s": draw(st.integers(600, 3_600)),
            "lockout_s": draw(st.integers(3_601, 86_400)),
            "patient_max": draw(st.integers(1, 24)),
        }
    until = draw(st.just(0) | st.integers(1_577_836_800, 2**32 - 1))
    whys = st.just("") | st.text(max_size=26).filter(lambda text: len(text.encode()) <= 52)
    why = draw(whys.map(str.strip)) if until else draw(st.sampled_from(("", "40 d: our own")))
    others = draw(st.lists(st.tuples(names, st.integers(1, 10**12)), max_size=3))
    drug = draw(names)
    unique = {name: amount for name, amount in others if name != drug}
    return Therapy(
        drug,
        draw(st.integers(1, 10**12)),
        mode,
        rate,
        draw(st.integers(11_000_000, 500_000_000)),
        draw(st.integers(1_000_000, 10_000_000)),
        others=tuple(Drug(name, amount) for name, amount in unique.items()),
        tubing_nl=draw(st.integers(0, 1_000_000)),
        catheter_nl=draw(st.integers(0, 1_000_000)),
        stable_until_s=until,
        stable_why=why,
        soft_day_nl=draw(st.integers(0, 500_000_000)),
        **fields,
    )


def pumps_own(therapy: Therapy) -> dict[str, Any]:
    """The prescription as the pump's module has it."""
    parts = therapy.parts
    octets = b"".join(bytes((n, len(parts[n]))) + parts[n] for n in sorted(parts))
    return {**therapy.values(), "parts": octets}


@settings(max_examples=60, deadline=None)
@given(therapies())
def test_a_file_of_what_a_pump_runs_reads_back_as_the_same(therapy: Therapy) -> None:
    assert prescription.loads(prescription.dumps(therapy)).therapy == therapy
    assert Therapy.of_values(therapy.values(), therapy.parts) == therapy


@pytest.mark.requirement("ACC-7")
@settings(max_examples=200, deadline=None)
@given(therapies())
def test_the_pump_and_the_programmer_agree_on_every_total(therapy: Therapy) -> None:
    own = pumps_own(therapy)
    programming.check(own)
    for weekday in range(7):
        exact = therapy.day_volume_nl(weekday)
        assert abs(programming.day_nl(own, weekday) - exact) <= Fraction(1, 2)
    assert programming.largest_day_nl(own) == therapy.total_nl
    assert programming.patients_nl(own) == therapy.patients_nl
    for name, look_s in (
        ("hour_nl", programming.HOUR_LOOK_S),
        ("day_nl", programming.DAY_LOOK_S),
    ):
        assert programming.most_nl(own, look_s) == therapy.most_nl(look_s)
        least = therapy.least_limits_nl[name]
        programming.check({**own, name: least})
        with pytest.raises(Refusal) as raised:
            programming.check({**own, name: least - 1})
        assert (raised.value.field, raised.value.limit) == (name, least)
    assert dict(programming.drugs_of(own)) == {
        drug.name: drug.concentration_ng_ml for drug in therapy.mixture.drugs
    }


@pytest.mark.requirement("THE-5")
@settings(max_examples=200, deadline=None)
@given(therapies(), therapies(), st.booleans(), st.integers(700, 1_300))
def test_the_pump_and_the_programmer_agree_on_every_change(
    old: Therapy, new: Therapy, same: bool, per_mille: int
) -> None:
    if same:  # near the limit of what must be typed
        ng_ml = max(1, min(10**12, old.concentration_ng_ml * per_mille // 1000))
        new = dataclasses.replace(old, concentration_ng_ml=ng_ml)
    found = guard(old, new)
    order = {"total_nl": 0, "agreed": 0, "bridge": 2, "why": "no"}
    if {d.name: d.concentration_ng_ml for d in old.mixture.drugs} == {
        d.name: d.concentration_ng_ml for d in new.mixture.drugs
    }:
        order["bridge"] = 0
    before = pumps_own(old)
    echo, _ = programming.plan(pumps_own(new), order, before, [], (0, 0, 0, ""), 0, 100_000)
    assert echo["change_ppm"] == found.change_ppm
    assert bool(echo["asks"] & 1) == found.must_be_typed


@pytest.mark.requirement("ACC-7")
@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=2),
    st.lists(st.integers(1, 10**9), min_size=1, max_size=2),
    st.integers(0, 4 * 10**7),
    st.integers(1, 4 * 10**7),
)
def test_the_pump_mixes_a_refill_as_the_programmer_does(
    before: list[int], fill: list[int], rest_nl: int, fill_nl: int
) -> None:
    from cisterna.mixture import Mixture, mixed
    from cisterna.prescription import drug_octets

    old = Mixture(tuple(Drug(f"d{i}", c) for i, c in enumerate(before)))
    new = Mixture(tuple(Drug(f"d{i + 1}", c) for i, c in enumerate(fill)))
    octets = b""
    for number, drug in enumerate(new.drugs, 10):
        part = drug_octets(drug)
        octets += bytes((number, len(part))) + part
    pairs = [(drug.name, int(drug.concentration_ng_ml)) for drug in old.drugs]
    found = dict(programming.mixture(octets, fill_nl, pairs, rest_nl))
    for drug in mixed(old, rest_nl, new, fill_nl):
        assert abs(found.get(drug.name, 0) - drug.concentration_ng_ml) <= Fraction(1, 2)


@pytest.mark.requirement("THE-6")
@settings(max_examples=150, deadline=None)
@given(therapies(), st.data())
def test_what_the_programmer_takes_the_pump_takes_and_the_other_way_round(
    therapy: Therapy, data: st.DataObject
) -> None:
    field = data.draw(
        st.sampled_from(
            ("rate_nl_day", "bolus_nl", "bolus_s", "interval_s", "patient_nl", "patient_s",
             "lockout_s", "patient_max", "low_mark_nl", "mode")
        )
    )  # fmt: skip
    own = pumps_own(therapy)
    before = own[field]
    value = data.draw(
        st.sampled_from((0, 1, before + 1, max(before - 1, 0), before * 24, 24_000_000, 3, 4))
    )
    # A pattern that is left over is ignored by the pump, and no therapy to the programmer.
    assume(field != "mode" or not therapy.patterns or value == before)
    try:
        dataclasses.replace(therapy, **{field: value})
        takes = True
    except TherapyError:
        takes = False
    own[field] = value
    low, high = prescription._LIMITS[field]
    try:
        programming.check(own)
        pump_takes = low <= value <= high  # the codec's part
    except (Refusal, ZeroDivisionError):
        pump_takes = False
    assert takes == pump_takes, (field, value)


WHOLE = """\
format = 2

[[drug]]
name = "morphine"
concentration = "10 mg/mL"
[[drug]]
name = "bupivacaine"
ratio = "2"

[therapy]
mode = "flex"
week = ["work", "work", "work", "work", "work", "rest", "rest"]
[therapy.pattern.work]
"00:00" = "1 mg/day"
"07:30" = "0.15 mL/day"
[therapy.pattern.rest]
"00:00" = "minimum rate"

[patient]
bolus = "50 ug"
over = "5 min"
lockout = "4 h"
max_per_day = 4

[limits]
hour = "0.5 mL"
soft_day = "3 mg"

[stability]
fill = "any"

[path]
segments = [{ supplied = "89 cm", trimmed = "9 cm", volume_per_length = "0.0022 mL/cm" }]

[reservoir]
profile = "implanted 20 mL"
low_mark = "2 mL"
capacity = "20 mL"
"""


def test_the_example_of_the_document_is_read_in_full() -> None:
    loaded = prescription.loads(WHOLE)
    therapy = loaded.therapy
    assert therapy.patterns == (((0, 100_000), (450, 150_000)), ((0, 6_000),))
    assert therapy.week == bytes((0, 0, 0, 0, 0, 1, 1))
    assert therapy.others == (Drug("bupivacaine", 20_000_000),)
    assert (therapy.patient_nl, therapy.patient_s, therapy.lockout_s) == (5_000, 300, 14_400)
    assert (therapy.hour_nl, therapy.day_nl, therapy.soft_day_nl) == (500_000, 5_000_000, 300_000)
    assert (therapy.tubing_nl, therapy.catheter_nl) == (140_000, 176_000)
    assert loaded.stability is not None
    assert loaded.stability.days == 90
    assert prescription_v2.dated(therapy, loaded.stability, 1000).stable_until_s == 7_777_000


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('"07:30"', '"7:30"', 14, "is no time of day"),
        ('"07:30"', '"24:00"', 14, "is no time of day"),
        ('"00:00" = "minimum rate"', '"00:30" = "minimum rate"', 14, "begin at 00:00"),
        ('"0.15 mL/day"', '".15 mL/day"', 14, "no digit before the decimal point"),
        ('"0.15 mL/day"', '"0.15 mL/h"', 14, None),
        ('"0.15 mL/day"', '"2 mL/h"', 14, "outside what the implanted 20 mL pump runs"),
        ('"0.15 mL/day"', "0.15", 14, "is not text in quotes"),
        ('"rest", "rest"]', '"rest"]', 11, "week has 6 days; it needs 7"),
        ('"rest", "rest"]', '"work", "work"]', 11, 'no day of the week has the pattern "rest"'),
        ('"rest", "rest"]', '"work", "idle"]', 11, "there is no [therapy.pattern.idle]"),
        ('ratio = "2"', 'ratio = ".5"', 8, "is no number without a unit"),
        ('ratio = "2"', "", 7, "exactly one of concentration and ratio"),
        ('"flex"', '"flux"', 10, 'mode "flux" is none of'),
        ('"4 h"', '"4 min"', 22, "lockout 4 min is not longer than the bolus, 5 min"),
        ('"5 min"', '"1 s"', 21, "above the highest rate"),
        ("max_per_day = 4", "max_per_day = 0", 23, "at most none in 24 h"),
        ("max_per_day = 4", "max_per_day = 25", 23, "above the highest allowed, 24"),
        ('"50 ug"', '"50"', 20, "has no unit"),
        ('fill = "any"', 'fill = "diluted"', 29, 'has no fill "diluted"'),
        ('fill = "any"', "days = 30", 29, "needs a reason"),
        ('fill = "any"', 'fill = "any"\ndays = 3\nreason = "x"', 30, "exactly one of"),
        ('"9 cm"', '"90 cm"', 33, "90 cm trimmed of 89 cm supplied"),
        ('"implanted 20 mL"', '"implanted 30 mL"', 36, "there is no pump profile"),
        ('capacity = "20 mL"', 'capacity = "21 mL"', 38, "more than the implanted 20 mL pump has"),
        ("low_mark", "low_park", 37, "unknown key"),
        ("[patient]", "[patience]", 19, "unknown key"),
    ],
)
@pytest.mark.requirement("INP-4")
def test_a_bad_file_of_format_2_names_its_line(
    old: str, new: str, line: int, words: str | None
) -> None:
    assert WHOLE.count(old) == 1
    text = WHOLE.replace(old, new)
    if words is None:  # 0.15 mL/h is 24 times as much, and can be run
        assert prescription.loads(text).therapy.patterns[0][1] == (450, 3_600_000)
        return
    with pytest.raises(PrescriptionError) as caught:
        prescription.loads(text, "rx.toml")
    assert words in str(caught.value)
    assert caught.value.line is not None
    assert abs(caught.value.line - line) <= 1, str(caught.value)


@pytest.mark.requirement("THE-6")
@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ('hour = "1 uL"', "the limit of 1 uL in 1 h has no room for the therapy itself"),
        ('day = "0.11 mL"', "of 0.11 mL in 24 h has no room for the therapy itself, which needs"),
    ],
)
def test_a_limit_below_the_therapy_itself_is_found_without_a_pump(
    cisterna: Cisterna, tmp_path: Path, limit: str, says: str
) -> None:
    file = tmp_path / "rx.toml"
    file.write_text(WHOLE.replace('hour = "0.5 mL"', limit))
    refused = cisterna("program", str(file), "--check")
    assert refused.code == 2
    assert says in refused.err
    assert "line 26" in refused.err
    least = re.search(r"which needs ([0-9.]+ [mu]L) at least", refused.err)
    assert least is not None
    key = limit.split(" ")[0]
    file.write_text(WHOLE.replace('hour = "0.5 mL"', f'{key} = "{least[1]}"'))
    assert cisterna("program", str(file), "--check").code == 0


def test_a_profiles_limit_below_the_therapy_is_found_too() -> None:
    text = WHOLE.replace('"0.15 mL/day"', '"20 mL/day"').replace('hour = "0.5 mL"', "")
    with pytest.raises(PrescriptionError, match="the limit of the implanted 20 mL pump of"):
        prescription.loads(text)


def test_a_misspelt_key_names_its_own_line() -> None:
    lines = WHOLE.split("\n")
    for number, line in enumerate(lines, 1):
        for key in ("name = ", "ratio = ", "concentration = ", "segments = ", "max_per_day = "):
            if line.startswith(key):
                text = "\n".join([*lines[: number - 1], "x" + line, *lines[number:]])
                with pytest.raises(PrescriptionError, match="unknown key") as caught:
                    prescription.loads(text)
                assert caught.value.line == number
    two = WHOLE.replace("segments = [{", 'segments = [\n  { suplied = "1 cm" },\n  {')
    with pytest.raises(PrescriptionError, match='unknown key "suplied"') as caught:
        prescription.loads(two.replace('cm" }]', 'cm" },\n]'))
    at = next(i for i, line in enumerate(lines, 1) if line.startswith("segments"))
    assert at <= (caught.value.line or 0) <= at + 3  # of the array that it is in
    last = WHOLE.replace('name = "bupivacaine"\n', "")
    with pytest.raises(PrescriptionError, match="has no name") as caught:
        prescription.loads(last)
    assert caught.value.line in (6, 7, 8)


# Every number of WHOLE and of a periodic bolus: text in the file, a unit that is not its own.
PERIODIC = WHOLE.replace(
    WHOLE[WHOLE.index('mode = "flex"') : WHOLE.index("[patient]")],
    'mode = "periodic bolus"\nrate = "0.2 mL/day"\nbolus = "51 ug"\nover = "31 min"\n'
    'every = "6 h"\n\n',
)
NUMBERS = (
    (WHOLE, '"10 mg/mL"', "mL"),
    (WHOLE, '"1 mg/day"', "mg"),
    (WHOLE, '"0.15 mL/day"', "mL"),
    (WHOLE, '"50 ug"', "ug/day"),
    (WHOLE, '"5 min"', "mL"),
    (WHOLE, '"4 h"', "cm"),
    (WHOLE, '"0.5 mL"', "mL/day"),
    (WHOLE, '"3 mg"', "h"),
    (WHOLE, '"89 cm"', "mL"),
    (WHOLE, '"9 cm"', "min"),
    (WHOLE, '"0.0022 mL/cm"', "mL"),
    (WHOLE, '"2 mL"', "mg"),
    (WHOLE, '"20 mL"', "mL/day"),
    (PERIODIC, '"0.2 mL/day"', "mL"),
    (PERIODIC, '"51 ug"', "h"),
    (PERIODIC, '"31 min"', "ug"),
    (PERIODIC, '"6 h"', "mL/day"),
)


@pytest.mark.requirement("THE-6")
@pytest.mark.parametrize(("text", "number", "other"), NUMBERS, ids=[row[1] for row in NUMBERS])
def test_no_number_of_a_file_is_negative_huge_no_number_or_of_another_unit(
    text: str, number: str, other: str
) -> None:
    prescription.loads(text)
    assert text.count(number) == 1
    value, _, unit = number.strip('"').partition(" ")
    for wrong in (
        f"-{value} {unit}",
        f"-0 {unit}",
        f"NaN {unit}",
        f"inf {unit}",
        f"1e3 {unit}",
        f"0x10 {unit}",
        f"{'9' * 30}{value} {unit}",
        f"{value} {other}",
        f"{value} nothing",
        value,
        unit,
        "",
    ):
        with pytest.raises(PrescriptionError) as caught:
            prescription.loads(text.replace(number, f'"{wrong}"'), "rx.toml")
        assert caught.value.line is not None, wrong


def test_a_file_of_format_2_cut_short_anywhere_is_refused() -> None:
    for end in range(1, len(WHOLE.rstrip()) - 1):
        with pytest.raises(PrescriptionError):
            prescription.loads(WHOLE[:end])


def test_an_override_of_the_stability_keeps_its_reason() -> None:
    text = WHOLE.replace('fill = "any"', 'days = 60\nreason = "our own measurement"')
    assert prescription.loads(text).stability == override(
        frozenset(("morphine", "bupivacaine")), 60, "our own measurement"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('days = 40\nreason = "our own"', "40 d: our own"),
        ('until = 2027-01-31T12:00:00Z\nreason = "the label"', "the label"),
    ],
)
def test_an_override_of_the_stability_is_shown_kept_and_exported(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Path, text: str, why: str
) -> None:
    file, out = tmp_path / "rx.toml", tmp_path / "out.toml"
    file.write_text(WHOLE.replace('fill = "any"', text))
    assert why in cisterna("program", str(file), "--check").out
    assert cisterna("clock", "--set").code == 0
    shown = cisterna("program", str(file), "--yes", "--accept-warnings")
    assert shown.code == 0
    assert re.search(f"Stable because *{why}", shown.out)
    with bench.programmer() as pump:
        stored = pump.prescription()
    assert stored is not None
    assert stored.stable_why == why
    assert cisterna("program", "--export", str(out)).code == 0
    assert prescription.load(out).therapy == stored
    assert "keeps no profile" in out.read_text()
    assert "40 d" not in cisterna("program", str(out), "--check").out.replace(why, "")
    again = cisterna("program", str(out), "--yes", "--json", "--accept-warnings")
    assert again.code == 0
    assert again.json["prescription"]["stable_why"] == why
    assert not [note for note in again.json["notes"] if "reason" in note]


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        (f'days = 366\nreason = "{45 * "x"}"', 52),
        (f'days = 366\nreason = "{22 * "ä"}x"', 52),
        (f'until = 2027-01-31T12:00:00Z\nreason = "{52 * "x"}"', 52),
    ],
)
def test_a_reason_longer_than_a_pump_keeps_is_refused(text: str, octets: int) -> None:
    fits = prescription.loads(WHOLE.replace('fill = "any"', text)).therapy
    assert len(fits.stable_why.encode()) == octets
    with pytest.raises(PrescriptionError, match="has 53 octets, allowed are 52") as caught:
        prescription.loads(WHOLE.replace('fill = "any"', text[:-1] + 'x"'))
    assert caught.value.line == 31
    with pytest.raises(TherapyError):
        dataclasses.replace(fits, stable_why=53 * "x")


def test_a_stability_that_is_nobodys_word_is_told(cisterna: Cisterna, tmp_path: Path) -> None:
    file = tmp_path / "rx.toml"
    file.write_text(WHOLE.replace('fill = "any"', "until = 2027-01-31T12:00:00Z"))
    assert "note: the drug's stability is a date without a reason" in (
        cisterna("program", str(file), "--check").out
    )
    for text in (
        WHOLE.replace('[stability]\nfill = "any"', "").replace("bupivacaine", "levobupivacaine"),
        prescription.shipped()["morphine"].read_text().replace('"morphine"', '"hydromorphone"'),
    ):
        file.write_text(text)
        assert "note: the drug table does not have" in (
            cisterna("program", str(file), "--check").out
        )
    for path in prescription.shipped().values():
        notes = prescription.load(path).notes
        assert not [note for note in notes if "stability" in note]


def test_what_the_pump_runs_is_exported_whole(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Any
) -> None:
    done = cisterna("program", "morphine_bupivacaine", "--yes", "--json")
    assert done.code == 0
    assert done.json["stability"]["days"] == 90
    file = tmp_path / "out.toml"
    assert cisterna("program", "--export", str(file)).code == 0
    therapy = prescription.load(file).therapy
    with bench.programmer() as pump:
        assert pump.prescription() == therapy
    assert therapy.others == (Drug("bupivacaine", 10_000_000),)
    assert therapy.stable_until_s > 1_700_000_000
    assert bench.truth()["steps"] == 0


def test_parts_have_the_checksum_of_the_document() -> None:
    assert parts_crc({}) == 0
    assert parts_crc({0: b""}) == 0
    assert parts_crc({0: b"ab"}) != parts_crc({1: b"ab"})
