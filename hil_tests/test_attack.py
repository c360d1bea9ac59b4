"""The telemetry link under attack.

The first tests sit between a real programmer and the bench's own pump; what is judged is what an
honest programmer reads afterwards and what the plant saw. The campaign after them attacks a pump
in one VM, and the programmer itself; what it does is in ``cisterna.attack``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cisterna import attack_port, campaign
from cisterna.attack import REQUIREMENTS, Attack
from cisterna.bench import Bench

pytestmark = pytest.mark.needs("advance", "truth", "refill")


@pytest.mark.requirement("SEC-3", "SEC-4", "INP-1")
def test_flipped_replayed_and_fuzzed_packets_change_nothing(
    bench: Bench, seed: int, full: bool
) -> None:
    """One after the other on one pump, which delivers meanwhile."""
    fast = "days" in bench.offers
    attack_port.commission(bench)
    stride = 1 if full else 8 if fast else 151
    assert attack_port.flips(bench, seed, stride) > 800 // stride
    wanted = ((100_000, 10_000) if full else (2_000, 64))[0 if fast else 1]
    assert attack_port.fuzz(bench, seed, wanted) >= wanted
    few = not (full or fast)
    assert attack_port.replays(bench, seed, few) > (10 if few else 60)


@pytest.mark.requirement(
    "SEC-1",
    "SEC-2",
    "SEC-3",
    "SEC-4",
    "SEC-5",
    "SEC-6",
    "SEC-7",
    "SEC-8",
    "ALM-5",
    "INP-1",
    "INP-2",
    "INP-5",
)
@pytest.mark.needs("days")
@pytest.mark.parametrize("requirement", ["none", *REQUIREMENTS])
@pytest.mark.usefixtures("bench")
def test_campaign_of_attacks(requirement: str, seed: int, full: bool, tmp_path: Path) -> None:
    found = campaign.run(Attack(seed, "full" if full else "quick", (requirement,)), tmp_path)
    assert campaign.failures(found) == []
    assert sum(each.runs for each in found) >= 8
