"""The campaign of attacks: its cases, its replays, and what it makes of a pump that is wrong."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from cisterna import attack_host
from cisterna.attack import KINDS, REQUIREMENTS, Attack
from cisterna.attack_emulated import EmulatedAttack
from cisterna.boards import project_root
from cisterna.errors import CisternaError, UsageError
from cisterna.session import TRIES, Session, WrongKey
from host_tools.tests.conftest import Cisterna
from host_tools.tests.test_seeded_bugs import copied
from pump_wire.messages import TABLE
from pump_wire.session import TAG

WANTED = {*(f"SEC-{number}" for number in range(1, 9)), "INP-1", "INP-2", "INP-5"}
ATTACKS = project_root() / "boards" / "virtual" / "attack_orders.py"


def attacks_between_prepare_and_confirm() -> int:
    """How many rows TOKENS has."""
    for found in ast.parse(ATTACKS.read_text(encoding="utf-8")).body:
        if isinstance(found, ast.Assign) and ast.unparse(found.targets[0]) == "TOKENS":
            assert isinstance(found.value, ast.Tuple)
            return len(found.value.elts)
    raise AssertionError("there is no TOKENS")


def test_the_full_setting_has_the_figures_of_the_requirements() -> None:
    assert set(REQUIREMENTS) == WANTED
    by_name = {kind.name: kind for kind in KINDS}
    assert by_name["fresh"].asks_full["sessions"] == 10_000
    assert by_name["flips"].full == 200
    assert by_name["flood"].asks_full["seconds"] == 600
    assert by_name["lossy"].full * by_name["lossy"].asks_full["commands"] == 10_000
    assert by_name["fuzz"].full * by_name["fuzz"].asks_full["frames"] == 10_000_000
    assert (by_name["damaged"].full, by_name["damaged"].asks_full["pairs"]) == (50, 0)
    for name in ("cuts", "hangups"):
        assert by_name[name].asks_full["stride"] == 1
    prepared = sum(message.prepared for message in TABLE)
    assert {by_name[name].quick for name in ("honest", "announced", "cuts")} == {prepared}
    assert by_name["tokens"].quick == prepared * attacks_between_prepare_and_confirm()
    cases = [case for batch in Attack(1, "full").batches() for case in batch.cases]
    assert len(set(cases)) == len(cases)
    assert cases[0] == "attack:1:none:honest:0"
    emulated = [case for batch in EmulatedAttack(1, "full").batches() for case in batch.cases]
    assert len(set(emulated)) == len(emulated)


def test_a_replay_tells_what_the_run_found(tmp_path: Path) -> None:
    tree = copied(tmp_path / "tree")
    path = tree / "firmware" / "pump" / "ccm.py"
    source = path.read_text()
    assert source.count("        return not wrong\n") == 1
    path.write_text(source.replace("        return not wrong\n", "        return True\n"))
    wrong = Attack(1, "quick", ("SEC-3",), tree)
    case = "attack:1:SEC-3:flips:2"
    (found,) = wrong.run_batch((case,), tmp_path)
    assert found.failures[0][0] == case
    assert list(wrong.replay(case, tmp_path))[-1] == f"verdict: {found.failures[0][1]}"
    assert list(Attack(1, "quick").replay(case, tmp_path))[-1] == "verdict: all holds"


@pytest.mark.parametrize(
    "case",
    [
        *("attack:1:SEC-3:flips:x", "attack:1:SEC-4:flips:3", "attack:1:SEC-3:nothing:3"),
        *("attack:1:SEC-3:flips:200", "attack:1:SEC-3", "powercut:1:PWR-1:3"),
    ],
)
def test_an_id_that_names_no_case_is_refused(case: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        list(Attack(1, "quick").replay(case, tmp_path))


def test_replay_on_the_command_line(cisterna: Cisterna, tmp_path: Path) -> None:
    words = ("bench", "attack", "--report", str(tmp_path), "--replay")
    shown = cisterna(*words, "attack:1:SEC-4:example:0")
    assert shown.code == 0
    assert "verdict: all holds" in shown.out
    assert cisterna(*words, "nonsense").code == 2
    assert cisterna("bench", "attack", "--bench", "moon").code == 2


def test_every_bit_of_the_pumps_answer_to_open_session_is_flipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused: list[CisternaError] = []
    honest = Session.open

    def open_session(self: Session, tries: int = TRIES) -> None:
        try:
            honest(self, tries)
        except WrongKey as error:
            refused.append(error)
            raise

    monkeypatch.setattr(Session, "open", open_session)
    request = {"do": "replies", "seed": 1, "first": 0, "last": 0}
    assert [told["why"] for told in attack_host.run(request)] == [""]
    assert len(refused) == 8 * (16 + TAG)
