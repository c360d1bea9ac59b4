"""The guard on a change of dose: what is shown, what must be typed, and no way round it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cisterna import ordering, prescription
from cisterna.bench_virtual import VirtualBench
from cisterna.guard import WrongTotal, change_words, guard
from cisterna.prescription import Therapy
from cisterna.units import QuantityError
from host_tools.tests.conftest import Cisterna, Other

BACLOFEN = prescription.load(prescription.shipped()["baclofen"]).therapy
FLEX = prescription.load(prescription.shipped()["baclofen_flex"]).therapy
MIXTURE = prescription.load(prescription.shipped()["morphine_bupivacaine"]).therapy


def at(rate_nl_day: int) -> Therapy:
    """Baclofen at a rate."""
    return dataclasses.replace(BACLOFEN, rate_nl_day=rate_nl_day)


def written(tmp_path: Path, text: str) -> str:
    """A prescription file of baclofen with another dose rate."""
    file = tmp_path / "rx.toml"
    shipped = prescription.shipped()["baclofen"].read_text()
    file.write_text(shipped.replace("100 ug/day", text))
    return str(file)


@pytest.mark.requirement("THE-5")
def test_field_mistake_60_ug_a_day_typed_as_60_ug_an_hour_shows_24x(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Path
) -> None:
    meant = written(tmp_path, "60 ug/day")
    assert cisterna("program", meant, "--yes").code == 0
    typed = written(tmp_path, "60 ug/h")
    refused = cisterna("program", typed, "--yes")
    assert refused.code == 2
    assert "+2300 %, 24x" in refused.out
    lines = [" ".join(line.split()) for line in refused.out.splitlines()]
    assert "24-h total, old 60 ug/day of baclofen = 0.12 mL/day" in lines
    assert "24-h total, new 1.44 mg/day of baclofen = 2.88 mL/day" in lines
    assert '--confirm-total "1.44 mg/day"' in refused.err
    # What was meant is not what is programmed, and the guard says so.
    wrong = cisterna("program", typed, "--yes", "--confirm-total", "60 ug/day")
    assert wrong.code == 2
    assert "is not what would be delivered, 1.44 mg/day" in wrong.err
    with bench.programmer() as pump:
        stored = pump.prescription()
        assert stored is not None
        assert stored.rate_nl_day == 120_000
        events = [event.name for event in pump.log()]
        assert events.count("prescription_committed") == 1


@pytest.mark.requirement("THE-5")
@pytest.mark.parametrize("how", [("--yes",), ("--yes", "--json")])
@pytest.mark.parametrize(
    ("dose_rate", "needed"),
    [("120 ug/day", False), ("120.5 ug/day", True), ("80 ug/day", False), ("79.5 ug/day", True)],
)
def test_20_percent_is_the_limit_and_yes_does_not_skip_it(
    cisterna: Cisterna,
    bench: VirtualBench,
    tmp_path: Path,
    dose_rate: str,
    needed: bool,
    how: tuple[str, ...],
) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    file = written(tmp_path, dose_rate)
    assert cisterna("program", file, *how).code == (2 if needed else 0)
    if needed:
        with bench.programmer() as pump:
            assert pump.prescription() == BACLOFEN
        done = cisterna("program", file, "--yes", "--json", "--confirm-total", dose_rate)
        assert done.code == 0
        found = done.json["guard"]
        assert found["must_be_typed"] is True
        assert found["old_day_mass_ng"] == 100_000
    assert bench.truth()["steps"] == 0


@pytest.mark.requirement("THE-5")
@pytest.mark.parametrize(
    ("typed", "code", "says"),
    [
        ("200 ug/day\n", 0, "Programmed and verified"),
        ("0.4 mL/day\n", 0, "Programmed and verified"),
        ("y\n", 2, "24-h total"),
        ("200 ug/h\n", 2, "is not what would be delivered"),
        ("\n", 1, "not confirmed: nothing was changed"),
        ("\x04", 1, "not confirmed: nothing was changed"),
    ],
)
def test_the_new_total_is_typed_on_a_terminal_even_with_yes(
    cisterna: Cisterna,
    bench: VirtualBench,
    in_terminal: Callable[..., Other],
    tmp_path: Path,
    typed: str,
    code: int,
    says: str,
) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    other = in_terminal("program", written(tmp_path, "200 ug/day"), "--yes")
    other.wait_for("Type the new 24-h total")
    other.type(typed)
    assert other.end() == code
    assert says in other.shown
    lines = re.sub(r"\x1b\[[0-9;]*m", "", other.shown).splitlines()
    assert max(map(len, lines)) <= 100
    with bench.programmer() as pump:
        assert pump.prescription() == (BACLOFEN if code else at(400_000))


@pytest.fixture
def slow_reader(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Someone at a terminal who takes more than ten minutes for the first yes; what was asked."""
    now_s = [0.0]
    asked: list[str] = []

    def answer(question: str) -> bool:
        asked.append(question)
        now_s[0] += 601 if len(asked) == 1 else 10
        return True

    monkeypatch.setattr(ordering, "_terminal", lambda: True)
    monkeypatch.setattr(ordering, "_now_s", lambda: now_s[0])
    monkeypatch.setattr(ordering, "agreed", answer)
    return asked


def test_what_was_shown_long_ago_is_read_and_shown_again(
    bench: VirtualBench, cisterna: Cisterna, slow_reader: list[str], tmp_path: Path
) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    shown = cisterna("program", written(tmp_path, "110 ug/day"))
    assert shown.code == 0
    assert len(slow_reader) == 2
    assert "What you saw is older than 10 minutes; it was read again:" in shown.out
    assert shown.out.count("24-h total, old") == 2
    with bench.programmer() as pump:
        assert pump.prescription() == at(220_000)


def test_a_warning_is_shown_again_with_what_was_read_again(
    bench: VirtualBench, cisterna: Cisterna, slow_reader: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "soft.toml"
    file.write_text(prescription.dumps(dataclasses.replace(BACLOFEN, soft_bolus_nl=10_000)))
    assert cisterna("program", str(file), "--yes").code == 0
    fill = ("refill", "--measured", "0 mL", "--fill", "20 mL", "--drug", "baclofen 1 mg/mL")
    assert cisterna(*fill, "--yes", "--accept-warnings").code == 0
    shown = cisterna("program", "baclofen")
    assert shown.code == 0, shown.err
    assert shown.out.count("WARNING: the concentrations are not those of what is in the") == 2
    assert shown.out.count("WARNING: a soft limit is raised or taken away") == 2
    slow_reader.clear()
    assert cisterna("program", str(file), "--yes", "--accept-warnings").code == 0
    shown = cisterna("bolus", "20 ug", "--over", "10 min")
    assert shown.code == 0, shown.err
    assert shown.out.count("is above the soft limit, 0.01 mL = 5 ug") == 2
    assert bench.truth()["steps"] == 0


def test_the_whole_comparison_fits_100_columns(
    cisterna: Cisterna, bench: VirtualBench, in_terminal: Callable[..., Other]
) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    other = in_terminal("program", "morphine_bupivacaine", "--no-bridge-because", "another drug")
    other.wait_for("Type the new 24-h total")
    other.type("\n")
    other.end()
    lines = re.sub(r"\x1b\[[0-9;]*m", "", other.shown).splitlines()
    assert max(map(len, lines)) <= 100
    for words in ("Patient bolus", "with bupivacaine", "24 h bupivacaine", "Limit in 1 h"):
        assert words in other.shown
    assert bench.truth()["steps"] == 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (60, 60 * 24, "+2300 %, 24x"),
        (100, 120, "+20 %"),
        (100, 50, "-50 %, 1/2x"),
        (100, 100, "unchanged"),
        (0, 1, "from nothing"),
        (1, 0, "to nothing"),
    ],
)
def test_a_change_in_words(old: int, new: int, words: str) -> None:
    assert change_words(old, new) == words


@pytest.mark.requirement("THE-5")
@given(st.integers(48, 24_000), st.integers(48, 24_000))
def test_every_change_above_20_percent_is_caught(old: int, new: int) -> None:
    found = guard(at(old * 1000), at(new * 1000))
    assert found.must_be_typed == (abs(new - old) * 5 > old)
    assert found.change is not None
    assert found.change.factor == Fraction(new, old)


def test_the_smallest_drug_and_the_worst_day_count() -> None:
    other = dataclasses.replace(MIXTURE.others[0], concentration_ng_ml=13_000_000)
    found = guard(MIXTURE, dataclasses.replace(MIXTURE, others=(other,)))
    assert found.change is not None
    assert (found.change.drug, found.must_be_typed) == ("bupivacaine", True)
    sunday = dataclasses.replace(FLEX, week=bytes((0, 0, 0, 0, 0, 1, 0)))
    assert guard(FLEX, sunday).change is not None
    more = tuple((minute, rate * 2) for minute, rate in FLEX.patterns[1])
    worst = guard(FLEX, dataclasses.replace(FLEX, patterns=(FLEX.patterns[0], more))).change
    assert worst is not None
    assert (worst.weekday, worst.factor) == (5, 2)


def test_typing_the_total() -> None:
    found = guard(BACLOFEN, at(333_000))  # 166.5 ug/day
    for good in ("166.5 ug/day", "0.1665 mg/day", "0.333 mL/day", "166500 ng/day"):
        found.check(good)
    for bad in ("166.4 ug/day", "166.5 ug/h", "0.333 mL/h", "333 mL/day", "0 ug/day"):
        with pytest.raises(WrongTotal):
            found.check(bad)
    for text in ("166.5", "y", "", ".1665 mg/day", "166.5 ug", "1.665e2 ug/day"):
        with pytest.raises(QuantityError):
            found.check(text)


# -- with all patient boluses, and by the day of the week -----------------------------------------


def with_patient(therapy: Therapy, volume_nl: int, most: int) -> Therapy:
    """``therapy`` with patient boluses every hour at the most."""
    return dataclasses.replace(
        therapy, patient_nl=volume_nl, patient_s=600, lockout_s=3_600, patient_max=most, day_nl=0
    )


@pytest.mark.requirement("THE-5")
def test_more_for_the_patient_to_ask_for_is_shown_and_must_be_typed(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Path
) -> None:
    few, many = with_patient(BACLOFEN, 10_000, 3), with_patient(BACLOFEN, 90_000, 20)
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text(prescription.dumps(few))
    new.write_text(prescription.dumps(many))
    assert cisterna("program", str(old), "--yes").code == 0
    refused = cisterna("program", str(new), "--yes")
    assert refused.code == 2
    lines = [" ".join(line.split()) for line in refused.out.splitlines()]
    assert "24-h total, new 100 ug/day of baclofen = 0.2 mL/day" in lines
    assert "24 h with all, old 115 ug/day of baclofen = 0.23 mL/day" in lines
    assert "24 h with all, new 1 mg/day of baclofen = 2 mL/day" in lines
    assert (
        "Largest change +769.6 %, 8.7x (baclofen, with all patient boluses: 115 ug/day to "
        "1 mg/day)"
    ) in lines
    assert '--confirm-total "1 mg/day", the new 24-h total with all patient' in refused.err
    for wrong in ("100 ug/day", "0.2 mL/day", "1 mg/h"):
        told = cisterna("program", str(new), "--yes", "--confirm-total", wrong)
        assert told.code == 2
        assert "could be delivered, 1 mg/day of baclofen (2 mL/day)" in told.err
    with bench.programmer() as pump:
        assert pump.prescription() == few
    done = cisterna("program", str(new), "--yes", "--json", "--confirm-total", "2 mL/day")
    assert done.code == 0
    assert done.json["request"]["total_nl"] == 200_000
    found = done.json["guard"]
    assert (found["must_be_typed"], found["typed_with_patient"]) == (True, True)
    assert found["largest_change"]["with_patient"] is True
    assert found["new_day_with_patient_mass_ng"] == 1_000_000
    with bench.programmer() as pump:
        assert pump.prescription() == many


def test_the_total_without_patient_boluses_is_typed_where_it_changes_itself() -> None:
    few, many = with_patient(BACLOFEN, 10_000, 3), with_patient(at(300_000), 90_000, 20)
    found = guard(few, many)
    assert (found.must_be_typed, found.with_patient) == (True, False)
    assert found.change is not None
    assert found.change.with_patient
    found.check("150 ug/day")
    with pytest.raises(WrongTotal):
        found.check("1.05 mg/day")


@pytest.mark.requirement("THE-5")
def test_the_day_of_the_largest_change_is_named(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Path
) -> None:
    file = tmp_path / "less.toml"
    text = prescription.shipped()["baclofen_flex"].read_text()
    work = '"06:00" = "144 ug/day"\n"09:00" = "96 ug/day"\n"18:00" = "120 ug/day"\n'
    file.write_text(text.replace(work, '"06:00" = "24 ug/day"\n'))
    assert cisterna("clock", "--set").code == 0
    assert cisterna("program", "baclofen_flex", "--yes").code == 0
    refused = cisterna("program", str(file), "--yes")
    assert refused.code == 2
    lines = [" ".join(line.split()) for line in refused.out.splitlines()]
    largest = "99 ug/day of baclofen = 0.198 mL/day on Saturday, the largest day"
    assert f"24-h total, old {largest}" in lines
    assert f"24-h total, new {largest}" in lines
    assert "Largest change -59.2 %, 1/2.45x (baclofen, Monday: 98 ug/day to 40 ug/day)" in lines
    assert bench.truth()["steps"] == 0


def test_the_change_is_told_in_the_same_numbers_as_the_totals(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Path
) -> None:
    """A third of a nanolitre must not make one number of the screen another."""
    steps = ((0, 200_000), (480, 370_000))  # 8 h and 16 h: 0.313333... mL/day
    new = dataclasses.replace(FLEX, patterns=(steps,), week=bytes(7), hour_nl=0, day_nl=0)
    new = dataclasses.replace(new, patient_nl=0, patient_s=0, lockout_s=0, patient_max=0)
    file = tmp_path / "new.toml"
    file.write_text(prescription.dumps(new))
    assert cisterna("clock", "--set").code == 0
    assert cisterna("program", "baclofen", "--yes").code == 0
    shown = cisterna("program", str(file), "--yes")
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    exact = Fraction(940_000 * 500, 3 * 1_000_000)  # ug/day
    assert round(exact, 3) == Fraction("156.667")
    assert (
        "24-h total, new 156.667 ug/day of baclofen = 0.313333 mL/day on Monday, the largest day"
    ) in lines
    assert "Largest change +56.7 % (baclofen, Monday: 100 ug/day to 156.667 ug/day)" in lines
    assert bench.truth()["steps"] == 0


# -- bridge or no bridge --------------------------------------------------------------------------


@pytest.mark.requirement("THE-4")
@pytest.mark.parametrize("why", ["", "  ", 25 * "x", 13 * "ä"])
def test_a_refused_bridge_needs_a_reason_that_the_pump_keeps(
    cisterna: Cisterna, bench: VirtualBench, why: str
) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    words = ("program", "baclofen_2000", "--yes", "--no-bridge-because")
    refused = cisterna(*words, why)
    assert refused.code == 2
    assert "say why in at most 24 octets: --no-bridge-because" in refused.err
    assert "--reason" not in refused.err
    assert bench.truth()["steps"] == 0
    assert cisterna(*words, 24 * "x", "--accept-warnings").code == 0


def test_a_bridge_without_a_path_says_what_to_write(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Path
) -> None:
    assert cisterna("program", "baclofen", "--yes").code == 0
    file = tmp_path / "rx.toml"
    file.write_text(prescription.dumps(dataclasses.replace(BACLOFEN, concentration_ng_ml=550_000)))
    refused = cisterna("program", str(file), "--yes", "--bridge")
    assert refused.code == 1
    assert 'say in the file what they hold, [path] with tubing = "0.15 mL"' in refused.err
    assert bench.truth()["steps"] == 0
