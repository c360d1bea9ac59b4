"""Builds that go wrong slowly (FLT-5): the campaign of long lives must find each of them.

A bug is a piece of source replaced, as in ``test_seeded_bugs``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from cisterna.soak import Soak
from host_tools.tests.test_seeded_bugs import copied

CASE = "soak:1:FLT-5:0"


@dataclass(frozen=True)
class Bug:
    """``right`` in ``source`` (a path from the root) becomes ``wrong``; ``why`` is part of what
    the campaign then says."""

    name: str
    source: str
    right: str
    wrong: str
    why: str


BUGS = (
    Bug(
        "an alarm that is acknowledged leaves something behind",
        "firmware/pump/alarms.py",
        '        self._log.note("alarm_acknowledged", number)\n',
        '        self._log.note("alarm_acknowledged", number)\n'
        '        self.seen = getattr(self, "seen", []) + [bytes(32)]\n',
        "in the first half",
    ),
    Bug(
        "a session that is over is kept",
        "firmware/pump/sessions.py",
        "        self._waiting = session\n        return session.reply\n",
        "        self._waiting = session\n"
        '        self.old = getattr(self, "old", []) + [session]\n'
        "        return session.reply\n",
        "in the first half",
    ),
    Bug(
        "the watchdog is fed once",
        "firmware/pump/supervisor.py",
        "                watchdog.feed()\n",
        "                pass\n",
        "the watchdog bit",
    ),
)


@pytest.mark.requirement("FLT-5")
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "_"))
def test_a_build_that_goes_wrong_slowly_is_caught(bug: Bug, tmp_path: Path) -> None:
    path = copied(tmp_path) / bug.source
    source = path.read_text(encoding="utf-8")
    assert source.count(bug.right) == 1, f"{bug.source} no longer holds once: {bug.right}"
    path.write_text(source.replace(bug.right, bug.wrong), encoding="utf-8")
    (found,) = Soak(1, "quick", tmp_path).run_batch((CASE,), tmp_path)
    print(found.failures)
    assert any(bug.why in why for _, why in found.failures)


@pytest.mark.requirement("FLT-5")
def test_a_life_is_replayed_by_its_id(tmp_path: Path) -> None:
    told = list(Soak(5, "quick").replay(CASE, tmp_path))
    assert told[-1] == "verdict: all holds"
    assert len(told) > 50
