"""The campaign of long lives (FLT-5): pumps with random traffic for years of simulated time, whose
watchdog never bites and whose heap does not grow.

Case ``soak:SEED:FLT-5:N`` is one life, of half a year in full. The lives are
``boards/virtual/soak_life.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cisterna.campaign import Batch, Evidence, Result, case_parts, failures, largest
from cisterna.errors import UsageError, quoted
from cisterna.vm_runs import VmCampaign, retold

_LIVES = {"quick": (2, 12), "full": (20, 183)}  # how many, days each: ten years in full
_YEAR_DAYS = 365.25


class Soak(VmCampaign):
    """Lives."""

    name = "soak"
    module = "soak_life"
    heap = "4m"

    def batches(self) -> list[Batch]:
        lives, days = _LIVES[self.setting]
        return [
            Batch((f"soak:{self.seed}:FLT-5:{number}",), weight=days) for number in range(lives)
        ]

    def run_batch(self, cases: tuple[str, ...], folder: Path) -> Iterator[Result]:
        del folder
        for case in cases:
            (told,) = self._run(int(case.split(":")[3]))
            wrong = ((case, told["why"]),) if told["why"] else ()
            figures = {
                "resets": told["resets"],
                "grown": told["last"] - told["first"],
                "off_steps": told["off_steps"],
            }
            names = ("days", "exchanges", "refused", "stalls", "steps", "events")
            yield Result(case, 1, wrong, figures, {name: told[name] for name in names})

    def _run(self, number: int, told: bool = False) -> Iterator[dict[str, Any]]:
        return self.ask(number=number, days=_LIVES[self.setting][1], told=told)

    def evidence(self, results: list[Result]) -> list[Evidence]:
        found = failures(results)
        days, exchanges, steps, stalls = (
            sum(each.data[name] for each in results)
            for name in ("days", "exchanges", "steps", "stalls")
        )
        return [
            Evidence(
                "FLT-5",
                "10 simulated years of random traffic: 0 resets, no growth of the heap",
                f"{days / _YEAR_DAYS:.2f} years, {exchanges:,} exchanges, {steps:,} steps, "
                f"{stalls:,} stalls: {len(found)} lives wrong; resets at most "
                f"{largest(results, 'resets')}, heap grown by {largest(results, 'grown')} octets "
                f"at most, account off by {largest(results, 'off_steps')} steps at most",
                not found,
                self.setting == "quick",
            )
        ]

    def replay(self, case: str, folder: Path) -> Iterator[str]:
        del folder
        parts = case_parts(case, self.name, 4)
        lives = max(number for number, _ in _LIVES.values())
        if not parts[3].isdigit() or int(parts[3]) >= lives:
            raise UsageError(
                f"{quoted(case)} names no life, 0 to {lives - 1}",
                "take the ID as the campaign printed it",
            )
        self.seed = int(parts[1])
        yield from retold(self._run(int(parts[3]), told=True))
