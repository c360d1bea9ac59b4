"""Builds with a storage bug (PWR-6): the campaign of power cuts must find each of them.

A bug is one or a few pieces of source replaced, as in ``test_seeded_bugs``. The cuts are those of
the story without the turns of the log, PWR-1 first, then torn operations, then pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cisterna.campaign import Result
from cisterna.powercut import PowerCut
from host_tools.tests.test_seeded_bugs import copied

OPERATIONS = 267  # of the story, which then is where the log fills
SLICE = 65


@dataclass(frozen=True)
class Bug:
    """Each ``right`` in ``source`` (a path from the root) becomes its ``wrong``."""

    name: str
    source: str
    changes: tuple[tuple[str, str], ...]


BUGS = (
    Bug(
        "the account is written when steps are out, not before",
        "firmware/pump/ledger.py",
        (
            (
                "self._store(self._start_steps + issued - self.missed, bolus)",
                "self._store(self.steps(), self.bolus_steps())",
            ),
        ),
    ),
    Bug(
        "steps of a bolus are not reserved",
        "firmware/pump/ledger.py",
        (
            (
                "            bolus += issued - self._bolus_from\n",
                "            bolus += issued - self._bolus_from\n            return\n",
            ),
        ),
    ),
    Bug(
        "one copy of the settings, written over in place",
        "firmware/pump/journal.py",
        (
            (
                '        with open("%s.%d" % (self._path, slot), "wb") as file:\n',
                '        with open("%s.0" % self._path, "wb"):\n            pass\n'
                '        with open("%s.0" % self._path, "wb") as file:\n',
            ),
        ),
    ),
    Bug(
        "a prescription is answered before it is stored",
        "firmware/pump/prescription.py",
        (
            (
                "        self._copies.commit(bytes(buffer[:end]))\n",
                '        late = getattr(self, "_late", None)\n'
                "        if late:\n            self._copies.commit(late)\n"
                "        self._late = bytes(buffer[:end])\n",
            ),
        ),
    ),
    Bug(
        "a prescription is stored in two pieces",
        "firmware/pump/prescription.py",
        (
            (
                "        stored = dict(prescription)\n",
                '        low = "low_mark_nl"\n'
                "        if self.current and prescription[low] != self.current[low]:\n"
                "            half = dict(self.current)\n"
                '            half["rate_nl_day"] = prescription["rate_nl_day"]\n'
                '            half["mode"] = prescription["mode"]\n'
                "            self.commit(half, halted)\n"
                "        stored = dict(prescription)\n",
            ),
            (
                "        if prescription is self.current:\n            self.check()\n"
                "        elif not self.is_whole():\n            halted = True\n"
                "            bridge = bridge or NONE\n",
                "",
            ),
        ),
    ),
    Bug(
        "a bolus goes on after a restart",
        "firmware/pump/app.py",
        (
            (
                "        self.motion.start(self.start_task)\n",
                "        self.motion.start(self.start_task)\n"
                "        if self.ledger.interrupted:\n"
                "            self.delivery.start_bolus(3_000, 12_000_000)\n",
            ),
        ),
    ),
    Bug(
        "a stop is forgotten over a restart",
        "firmware/pump/delivery.py",
        (
            (
                "self._store.commit(self._store.current, True)",
                "self._store.halted = True\n        self._store._seal()",
            ),
        ),
    ),
    Bug(
        "numbers of events are used again",
        "firmware/pump/recordlog.py",
        (("        self.next = newest + count\n", "        self.next = newest\n"),),
    ),
    Bug(
        "the slots of the log are begun anew before they are filed",
        "firmware/pump/recordlog.py",
        (
            (
                "        self._unwritten = 0\n"
                "        if self.next == self._filed + self._batch:\n"
                "            self._file_slots()\n",
                "        self._unwritten = 0\n",
            ),
            (
                "            if number == self._filed + self._batch:\n"
                "                self._file_slots()\n",
                "            if number == self._filed + self._batch:\n"
                "                self._filed += self._batch\n",
            ),
        ),
    ),
    Bug(
        "the count of steps is not flushed",
        "firmware/pump/journal.py",
        (("        file.flush()\n", ""),),
    ),
    Bug(
        "a loss of power leaves no record",
        "firmware/pump/starting.py",
        (("    if boots > 1 and reset_cause in _HAD_POWER_CUT:\n", "    if False:\n"),),
    ),
    Bug(
        "the refill is stored after the count begins anew",
        "firmware/pump/refilling.py",
        (
            (
                "    bolus = ledger.bolus_steps()\n    life_true",
                "    bolus = ledger.bolus_steps()\n    ledger._store(0, 0)\n    life_true",
            ),
        ),
    ),
    Bug(
        "a bolus of the patient is not written down before it begins",
        "firmware/pump/patient.py",
        (("        limits.store()  # it counts before it begins\n", ""),),
    ),
    Bug(
        "what the limits count begins at nothing",
        "firmware/pump/limits.py",
        (
            (
                "        if found:\n            self._left",
                "        if found:\n            self._hour[6] = self._ledger.start_steps()\n"
                "            return\n            self._left",
            ),
        ),
    ),
)


def results(tree: Path) -> Iterator[Result]:
    """Every case's, one after the other, on the firmware in ``tree``."""
    campaign = PowerCut(1, "quick", tree=tree)
    for first in range(1, OPERATIONS, SLICE):
        numbers = range(first, first + SLICE)
        cases = tuple(f"powercut:1:PWR-1:{number}" for number in numbers)
        yield from campaign.run_batch(cases, tree)
    shape = {0: "half_program", 1: "all_but_one_bit_program"}
    cases = tuple(f"powercut:1:PWR-2:{each}:{shape[each % 2]}" for each in range(20, 60))
    yield from campaign.run_batch(cases, tree)
    yield from campaign.run_batch(tuple(f"powercut:1:PWR-3:{each}" for each in (30, 31)), tree)


@pytest.mark.requirement("PWR-6")
def test_the_firmware_as_it_is_passes(tmp_path: Path) -> None:
    found = list(results(copied(tmp_path)))
    assert len(found) >= OPERATIONS
    assert [result.failures for result in found if result.failures] == []


@pytest.mark.requirement("PWR-6")
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "_"))
def test_a_build_with_a_storage_bug_is_caught(bug: Bug, tmp_path: Path) -> None:
    copied(tmp_path)
    path = tmp_path / bug.source
    source = path.read_text(encoding="utf-8")
    for right, wrong in bug.changes:
        assert source.count(right) == 1, f"{bug.source} no longer holds once: {right}"
        source = source.replace(right, wrong)
    path.write_text(source, encoding="utf-8")
    caught = itertools.dropwhile(lambda result: not result.failures, results(tmp_path))
    first = next(caught, None)
    assert first is not None, f"no cut finds that {bug.name}"
    (case, why), *_ = first.failures
    print(f"{bug.name}: {case}: {why}")
    assert "Error" not in why, why
