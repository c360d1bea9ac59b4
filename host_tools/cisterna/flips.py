"""The campaign of flipped bits (FLT-4): two random bits of what sets a dose flip, in memory or in
the stored copies. Single bits are all flipped by ``firmware/tests/test_dose_in_memory.py``.

Case ``flips:SEED:FLT-4:N`` is ``_A_CASE`` flips; ``flips:SEED:FLT-4:N.M`` is flip M of it. The
runs are ``boards/virtual/dose_flips.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cisterna.campaign import Batch, Evidence, Result, case_parts, failures
from cisterna.errors import UsageError, quoted
from cisterna.vm_runs import VmCampaign

_FLIPS = {"quick": 4_000, "full": 100_000}
_A_CASE = 1_000


class Flips(VmCampaign):
    """Two-bit flips."""

    name = "flips"
    module = "dose_flips"

    def batches(self) -> list[Batch]:
        return [
            Batch((f"flips:{self.seed}:FLT-4:{number}",), weight=_A_CASE)
            for number in range(_FLIPS[self.setting] // _A_CASE)
        ]

    def run_batch(self, cases: tuple[str, ...], folder: Path) -> Iterator[Result]:
        for case in cases:
            begin = int(case.split(":")[3]) * _A_CASE
            wrong = tuple(
                (f"{case}.{told['n'] - begin}", f"{told['where']}: {told['why']}")
                for told in self.ask(first=begin, last=begin + _A_CASE - 1)
                if told["why"]
            )
            yield Result(case, _A_CASE, wrong)

    def evidence(self, results: list[Result]) -> list[Evidence]:
        found = failures(results)
        flips = sum(each.runs for each in results)
        return [
            Evidence(
                "FLT-4",
                "100,000 random two-bit flips: all detected before the next step, no defaults",
                f"{flips:,} flips, {len(found)} not detected",
                not found,
                self.setting == "quick",
            )
        ]

    def replay(self, case: str, folder: Path) -> Iterator[str]:
        parts = case_parts(case, self.name, 4)
        number, _, flip = parts[3].partition(".")
        if not number.isdigit() or not flip.isdigit() or int(flip) >= _A_CASE:
            raise UsageError(
                f"{quoted(case)} names no single flip", "take the ID as the campaign printed it"
            )
        self.seed = int(parts[1])
        at = int(number) * _A_CASE + int(flip)
        (told,) = self.ask(first=at, last=at)
        yield f"flipped, each with its bit: {told['where']}"
        yield f"verdict: {told['why'] or 'all holds'}"
