"""Wherever a screen tells what a volume of a mixture holds, it tells it of every drug."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from rich.console import Console

from cisterna import prescription, screens
from cisterna.bench_virtual import VirtualBench
from cisterna.guard import guard
from cisterna.interrogation import interrogate
from cisterna.mixture import Drug
from cisterna.prescription import Therapy
from host_tools.tests.conftest import Cisterna, Other
from pump_wire.messages import PERIODIC_BOLUS

TWO = prescription.load(prescription.shipped()["morphine_bupivacaine"]).therapy
# No rate of it gives round numbers of any drug but the first.
FOUR = dataclasses.replace(
    TWO,
    mode=PERIODIC_BOLUS,
    rate_nl_day=311_000,
    bolus_nl=21_000,
    bolus_s=1_200,
    interval_s=21_600,
    patient_nl=17_000,
    others=(
        Drug("bupivacaine", 7_500_000),
        Drug("clonidine", 30_000),
        Drug("ziconotide", 1_250),
    ),
    hour_nl=0,
    day_nl=0,
    soft_bolus_nl=40_000,
    soft_day_nl=0,
)
_NG = {"mg": 1_000_000, "ug": 1_000, "ng": 1}
_GIVEN = re.compile(r"([0-9.]+) (mg|ug|ng)(?:/day)? of ([a-z]+)")


def row(text: str, name: str) -> str:
    """What stands behind the name of a row, its further lines too."""
    lines = text.replace("│", " ").splitlines()
    at = next(at for at, line in enumerate(lines) if line.strip().startswith(name))
    indent = len(lines[at]) - len(lines[at].lstrip())
    found = [lines[at].strip().removeprefix(name)]
    for line in lines[at + 1 :]:
        if not line.strip() or len(line) - len(line.lstrip()) <= indent:
            break
        found.append(line)
    return " ".join(" ".join(found).split())


def tells_all(text: str, therapy: Therapy, volume_nl: Fraction | int, digits: int = 3) -> None:
    """``text`` begins with what ``volume_nl`` holds of each drug, exact to its last digit."""
    given = _GIVEN.findall(text)[: len(therapy.mixture.drugs)]
    assert [name for _, _, name in given] == [drug.name for drug in therapy.mixture.drugs], text
    for (number, unit, _), drug in zip(given, therapy.mixture.drugs, strict=True):
        exact = Fraction(volume_nl) * drug.concentration_ng_ml / 1_000_000
        error = abs(Fraction(number) * _NG[unit] - exact)
        assert error <= Fraction(_NG[unit], 2 * 10**digits), (text, drug)


def day_nl() -> Fraction:
    """Volume of 24 hours of ``FOUR``: four boluses, and its rate for the rest of the time."""
    return 4 * FOUR.bolus_nl + Fraction(FOUR.rate_nl_day * (86_400 - 4 * FOUR.bolus_s), 86_400)


def all_nl() -> Fraction:
    """The same with every patient bolus."""
    return day_nl() + FOUR.patient_max * FOUR.patient_nl


def written(folder: Path, therapy: Therapy) -> str:
    """A prescription file of it."""
    file = folder / "mixture.toml"
    file.write_text(prescription.dumps(therapy))
    return str(file)


def running(bench: VirtualBench) -> None:
    """A filled pump that runs ``FOUR``."""
    with bench.programmer() as pump:
        pump.set_clock(1_800_230_400, 0)
        pump.program(FOUR)
        pump.refill(0, 20_000_000, "first fill", drugs=FOUR.mixture)


def test_a_checked_file_tells_every_drug(cisterna: Cisterna, tmp_path: Path) -> None:
    file = written(tmp_path, FOUR)
    shown = cisterna("program", file, "--check").out
    tells_all(row(shown, "Periodic bolus"), FOUR, FOUR.bolus_nl)
    tells_all(row(shown, "Patient bolus"), FOUR, FOUR.patient_nl)
    tells_all(row(shown, "24 h with all"), FOUR, all_nl())
    found = cisterna("program", file, "--check", "--json").json["prescription"]
    for name, volume_nl in (
        ("day_masses", day_nl()),
        ("day_with_patient_masses", all_nl()),
        ("bolus_masses", FOUR.bolus_nl),
        ("patient_masses", FOUR.patient_nl),
    ):
        for told, drug in zip(found[name], FOUR.mixture.drugs, strict=True):
            assert told["name"] == drug.name
            exact = Fraction(volume_nl) * drug.concentration_ng_ml / 1_000_000
            assert abs(Fraction(told["mass_ng"]) - exact) <= exact / 10**12, name
    assert found["day_mass_ng"] == found["day_masses"][0]["mass_ng"]


def test_the_totals_old_and_new_tell_every_drug(
    cisterna: Cisterna, bench: VirtualBench, tmp_path: Path
) -> None:
    with bench.programmer() as pump:
        pump.set_clock(1_800_230_400, 0)
        pump.program(TWO)
    words = ("program", written(tmp_path, FOUR), "--yes", "--no-bridge-because", "another mixture")
    refused = cisterna(*words, "--accept-warnings")
    assert refused.code == 2
    shown = refused.out
    tells_all(row(shown, "24-h total, old"), TWO, TWO.rate_nl_day)
    tells_all(row(shown, "24-h total, new"), FOUR, day_nl())
    tells_all(row(shown, "24 h with all, old"), TWO, TWO.rate_nl_day + 6 * TWO.patient_nl)
    tells_all(row(shown, "24 h with all, new"), FOUR, all_nl())
    total = f"{float(day_nl() * 5 / 1_000_000):.3f} mg/day"
    words = (*words, "--accept-warnings", "--confirm-total", total, "--json")
    found = cisterna(*words).json["guard"]
    assert [each["name"] for each in found["new_day_masses"]] == [
        drug.name for drug in FOUR.mixture.drugs
    ]
    assert found["old_day_masses"][1] == {"name": "bupivacaine", "mass_ng": 4_000_000}
    assert found["new_day_mass_ng"] == found["new_day_masses"][0]["mass_ng"]
    exact = all_nl() * 7_500_000 / 1_000_000
    told = Fraction(found["new_day_with_patient_masses"][1]["mass_ng"])
    assert abs(told - exact) <= exact / 10**12


def test_boluses_and_what_runs_tell_every_drug(cisterna: Cisterna, bench: VirtualBench) -> None:
    running(bench)
    for command in ("status", "monitor"):
        shown = cisterna(command).out
        tells_all(row(shown, "Periodic bolus"), FOUR, FOUR.bolus_nl)
        tells_all(row(shown, "Patient bolus"), FOUR, FOUR.patient_nl)
    prescribed = row(cisterna("status").out, "Prescribed")
    tells_all(prescribed.split("periodic bolus")[1], FOUR, FOUR.rate_nl_day)
    tells_all(prescribed.split("24-h total")[1], FOUR, day_nl())
    tells_all(row(cisterna("patient").out, "Patient bolus"), FOUR, FOUR.patient_nl)
    given = cisterna("patient", "--bolus", "--yes")
    tells_all(row(given.out, "Volume"), FOUR, FOUR.patient_nl)
    tells_all(row(cisterna("status").out, "Bolus"), FOUR, FOUR.patient_nl)
    bench.advance(minutes=30)
    given = cisterna("bolus", "41 uL", "--over", "10 min", "--yes", "--accept-warnings")
    tells_all(row(given.out, "Volume"), FOUR, 41_000, 6)
    warned = next(line for line in given.out.splitlines() if "is above the soft limit" in line)
    above, limit = warned.split("is above the soft limit")
    tells_all(above, FOUR, 41_000, 6)
    tells_all(limit, FOUR, 40_000, 6)
    with bench.programmer() as pump:
        ((name, text),) = screens.bolus_ends(interrogate(pump))
    assert name == "Running bolus"
    tells_all(str(text), FOUR, 41_000)
    tells_all(str(screens.cut_words({"cut_nl": 7_000}, TWO, ["hour_nl"])), TWO, 7_000)
    bench.advance(minutes=10)
    found = cisterna("bolus", "30 uL", "--over", "10 min", "--yes", "--json").json
    assert found["mass_ng"] == 150_000
    assert found["masses"] == [
        {"name": "morphine", "mass_ng": 150_000},
        {"name": "bupivacaine", "mass_ng": 225_000},
        {"name": "clonidine", "mass_ng": 900},
        {"name": "ziconotide", "mass_ng": 37.5},
    ]


def test_the_last_day_tells_every_drug(cisterna: Cisterna, bench: VirtualBench) -> None:
    running(bench)
    bench.advance(hours=30)
    shown = row(cisterna("monitor").out, "Last 24 h")
    volume = re.search(r"at most ([0-9.]+) mL =", shown)
    assert volume is not None, shown
    tells_all(shown, FOUR, Fraction(volume[1]) * 1_000_000)


def test_a_patient_who_is_given_a_bolus_is_told_every_drug_as_json(
    cisterna: Cisterna, bench: VirtualBench
) -> None:
    running(bench)
    found = cisterna("patient", "--bolus", "--yes", "--json").json
    assert found["mass_ng"] == 85_000
    assert [each["mass_ng"] for each in found["masses"]] == [85_000, 127_500, 510, 21.25]
    assert bench.truth()["reverse_steps"] == 0


@pytest.mark.parametrize("columns", [80, 100])
def test_the_screens_of_four_drugs_fit(columns: int, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Console(width=columns, markup=False, highlight=False)
    screens.therapy_screen(shown, FOUR, ())
    screens.change_screen(shown, TWO, FOUR)
    screens.guard_screen(shown, guard(TWO, FOUR))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    for number, line in enumerate(lines):
        # A number stands on the line of its unit.
        assert not re.search(r"= [0-9.]+$|\+ [0-9.]+$", line.rstrip()), (number, line)


def test_a_change_of_four_drugs_fits_a_terminal(
    bench: VirtualBench, in_terminal: Callable[..., Other], tmp_path: Path
) -> None:
    running(bench)
    more = dataclasses.replace(FOUR, patient_nl=27_000)
    other = in_terminal("program", written(tmp_path, more), "--accept-warnings")
    other.wait_for("Program it?")
    other.type("n\n")
    other.end()
    lines = re.sub(r"\x1b\[[0-9;]*m", "", other.shown).splitlines()
    assert max(map(len, lines)) <= 100
    tells_all(row("\n".join(lines), "24 h with all, old"), FOUR, all_nl())
