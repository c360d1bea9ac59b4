"""Every test that HAZARDS.md names is there, and each hazard names one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = [
    line.split("|")[1:-1]
    for line in (ROOT / "hil_tests" / "HAZARDS.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| hazard", "| ---"))
]


def _known_tests() -> set[str]:
    """Names of all test functions of the project."""
    found: set[str] = set()
    for folder in ("hil_tests", "firmware/tests", "host_tools/tests"):
        for path in (ROOT / folder).glob("test_*.py"):
            found.update(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M))
    return found


def test_each_hazard_has_cause_mitigation_test_and_source() -> None:
    assert len(ROWS) >= 12
    for row in ROWS:
        assert len(row) == 5
        assert all(cell.strip() for cell in row), row[0]


def test_every_test_it_names_is_there() -> None:
    there = _known_tests()
    for row in ROWS:
        named = re.findall(r"`(test_\w+)`", row[3])
        assert named, row[0]
        assert not [name for name in named if name not in there], row[0]
