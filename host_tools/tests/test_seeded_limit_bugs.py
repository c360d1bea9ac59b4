"""Builds whose volume limits are broken (DEL-5): the campaign of limits must find each of them.

A bug is one or a few pieces of source replaced, as in ``test_seeded_bugs``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import pytest

from cisterna.limit_campaign import Limits
from host_tools.tests.test_seeded_bugs import copied

CASES = tuple(range(8))  # of ten sequences each, until one finds it


@dataclass(frozen=True)
class Bug:
    """Each (module of the pump, right, wrong): ``right`` becomes ``wrong`` there; ``why`` is part
    of what the campaign then says. ``cases``: which are tried, of seed 1; one that few sequences
    meet names the one that does."""

    name: str
    changes: tuple[tuple[str, str, str], ...]
    why: str
    cases: tuple[int, ...] = CASES


BUGS = (
    Bug(
        "an hour is counted from a mark after its begin",
        (
            ("limits", "self._top = min(self._hour[6] +", "self._top = min(self._hour[4] +"),
            ("limits", "hour_us + MARK_US, newest_us", "hour_us - 2 * MARK_US, newest_us"),
        ),
        "in the hour to",
    ),
    Bug(
        "24 hours are counted from a mark after their begin",
        (
            ("limits", "self._day[24] + self._most_day)", "self._day[21] + self._most_day)"),
            ("limits", "_DAY_US + hour_us,", "_DAY_US - 3 * hour_us,"),
        ),
        "in the 24 h to",
    ),
    Bug(
        "what came before a start does not count",
        (
            (
                "limits",
                "            found = self._hot.load()\n",
                "            raise Damaged('')\n",
            ),
            ("limits", "            self.unknown_us = _DAY_US\n", ""),
        ),
        "in the",
    ),
    Bug(
        "the patient's boluses are not under the limits",
        (
            (
                "delivery",
                "        room = self.limits.room()\n        to_mark",
                "        room = 1 << 40 if self.mode == PATIENT_BOLUS else self.limits.room()\n"
                "        to_mark",
            ),
            (
                "planning",
                "    given_nl = min(volume_nl, delivery.spare_nl(duration_us))\n",
                "    given_nl = volume_nl\n    if kind != 6:\n"
                "        given_nl = min(volume_nl, delivery.spare_nl(duration_us))\n",
            ),
        ),
        "in the",
    ),
    Bug(
        "a bolus takes the basal programme's room",
        (("limits", "past_nl - most_nl(ahead_us))", "past_nl)"),),
        "no room",
    ),
    Bug(
        "a bridge bolus is resumed under limits that came after it was cancelled",
        (
            (
                "planning",
                "    delivery.check_room(delivery.store.current, kept[1])",
                "    #",
            ),
        ),
        "no room",
        cases=(94,),
    ),
    Bug(
        "periodic boluses that fell into a bridge bolus come at its end",
        (
            (
                "delivery",
                "self._bridge_ends()\n                self.basal.skip(now_us)",
                "self._bridge_ends()",
            ),
            (
                "delivery",
                "self._bridge_units = None\n            self.basal.skip(now_us)",
                "self._bridge_units = None",
            ),
            (
                "delivery",
                "        return 0 if leaves_out else self.basal.late_us(bolus_us)",
                "        return 0",
            ),
        ),
        "no room",
        cases=(116, 895),
    ),
    Bug(
        "what a limit takes away from a bolus is not told",
        (
            (
                "delivery",
                '            self._log.note("bolus_cut", plan["cut_nl"] * 1000)\n',
                "            pass\n",
            ),
        ),
        "cut by",
    ),
    Bug(
        "a bolus that a limit ends is told as given",
        (
            (
                "delivery",
                "            left_pl = self._bolus_pl - self._ledger.bolus_ends()"
                " * self._ledger.step_pl\n",
                "            self._ledger.bolus_ends()\n            left_pl = 0\n",
            ),
            # boluses are planned as if there were no limit, so that limits end them
            (
                "planning",
                "    given_nl = min(volume_nl, delivery.spare_nl(duration_us))\n",
                "    given_nl = volume_nl\n",
            ),
        ),
        "told",
    ),
)


@pytest.mark.requirement("DEL-5")
def test_the_firmware_as_it_is_passes(tmp_path: Path) -> None:
    limits = Limits(1, "quick", copied(tmp_path))
    (found,) = limits.run_batch(("limits:1:DEL-5:0",), tmp_path)
    assert (found.runs, found.failures) == (10, ())
    assert found.data["cuts"] > 20  # so there was something to judge
    assert min(found.figures.values()) > 600_000


@pytest.mark.requirement("DEL-5")
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "_"))
def test_a_build_with_broken_limits_is_caught(bug: Bug, tmp_path: Path) -> None:
    copied(tmp_path)
    for module, right, wrong in bug.changes:
        path = tmp_path / "firmware" / "pump" / f"{module}.py"
        source = path.read_text(encoding="utf-8")
        assert source.count(right) == 1, f"{path.name} no longer holds once: {right}"
        path.write_text(source.replace(right, wrong), encoding="utf-8")
    limits = Limits(1, "quick", tmp_path)
    cases = tuple(f"limits:1:DEL-5:{number}" for number in bug.cases)
    results = limits.run_batch(cases, tmp_path)
    found = next(itertools.dropwhile(lambda result: not result.failures, results), None)
    assert found is not None, f"no sequence finds that {bug.name}"
    print(found.failures)
    assert any(bug.why in why for _, why in found.failures)


@pytest.mark.requirement("DEL-5")
def test_a_sequence_is_replayed_by_its_id(tmp_path: Path) -> None:
    limits = Limits(5, "quick")
    told = list(limits.replay("limits:1:DEL-5:0.3", tmp_path))
    assert told[-1] == "verdict: all holds"
    assert len(told) > 5
