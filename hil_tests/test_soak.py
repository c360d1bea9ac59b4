"""Pumps that live long. What a life is, and how it is judged: ``boards/virtual/soak_life.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from cisterna import campaign
from cisterna.soak import Soak
from hil_tests.evidence import Measured


@pytest.mark.requirement("FLT-5")
@pytest.mark.needs("days")
@pytest.mark.usefixtures("bench")
def test_campaign_of_lives(seed: int, full: bool, tmp_path: Path, measured: Measured) -> None:
    found = campaign.run(Soak(seed, "full" if full else "quick"), tmp_path)
    days = sum(each.data["days"] for each in found)
    grown = campaign.largest(found, "grown") or 0
    measured("FLT-5", campaign.largest(found, "resets") or 0, f"resets in {days:,} days")
    measured("FLT-5", grown, "octets by which a heap grew at most")
    assert campaign.failures(found) == []
    assert days >= (3_653 if full else 24)
    assert sum(each.data["exchanges"] for each in found) > 10 * days  # so there was traffic
    assert sum(each.data["stalls"] for each in found) > 0
