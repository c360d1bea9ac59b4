"""Calls that fail. What is done and judged: ``boards/virtual/failing_calls.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from cisterna import campaign
from cisterna.fault_campaign import FailingCalls
from hil_tests.evidence import Measured


@pytest.mark.requirement("FLT-3")
@pytest.mark.needs("days")
@pytest.mark.usefixtures("bench")
def test_campaign_of_failing_calls(
    seed: int, full: bool, tmp_path: Path, measured: Measured
) -> None:
    found = campaign.run(FailingCalls(seed, "full" if full else "quick"), tmp_path)
    runs = sum(each.runs for each in found)
    measured("FLT-3", len(campaign.failures(found)), f"failures in {runs:,} stories")
    assert campaign.failures(found) == []
    latched: set[str] = set()
    for each in found:  # calls did fail, and at last none was left to
        ends = each.data["ends"]
        assert ends.get("runs", 0) > 0, each.case
        if ends.get("latched"):
            latched.add(each.case.split(":")[3].partition("-")[0])
    assert latched == {"memory", "file", "flash", "serial"}
