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


@pytest.mark.requirement("SEC-3")
def test_no_packet_with_a_flipped_bit_is_accepted(bench: Bench, seed: int, full: bool) -> None:
    attack_port.commission(bench)
    stride = 1 if full else 8 if "days" in bench.offers else 61
    assert attack_port.flips(bench, seed, stride) > 800 // stride


@pytest.mark.requirement("SEC-4")
def test_no_packet_that_was_recorded_is_accepted_again(bench: Bench, seed: int) -> None:
    attack_port.commission(bench)
    assert attack_port.replays(bench, seed) > 60


@pytest.mark.requirement("INP-1")
def test_fuzzed_frames_change_nothing(bench: Bench, seed: int, full: bool) -> None:
    attack_port.commission(bench)
    frames = (100_000, 10_000) if full else (2_000, 48)
    wanted = frames[0 if "days" in bench.offers else 1]
    assert attack_port.fuzz(bench, seed, wanted) >= wanted


@pytest.mark.requirement(
    "SEC-1",
    "SEC-2",
    "SEC-3",
    "SEC-4",
    "SEC-5",
    "SEC-6",
    "SEC-7",
    "SEC-8",
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
