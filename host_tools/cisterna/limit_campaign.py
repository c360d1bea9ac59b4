"""The campaign of volume limits (DEL-5): random sequences of commands, judged over every sliding
hour and 24 hours by the instants at which pulses reached the plant.

Case ``limits:SEED:DEL-5:N`` is ``_A_CASE`` sequences; ``limits:SEED:DEL-5:N.M`` is sequence M of
it. The runs are ``boards/virtual/limit_sequences.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cisterna.campaign import Batch, Evidence, Result, case_parts, failures, largest
from cisterna.errors import UsageError, quoted
from cisterna.vm_runs import VmCampaign, retold

_SEQUENCES = {"quick": 60, "full": 10_000}
_A_CASE = 10


class Limits(VmCampaign):
    """Sequences of commands."""

    name = "limits"
    module = "limit_sequences"
    heap = "4m"

    def batches(self) -> list[Batch]:
        return [
            Batch((f"limits:{self.seed}:DEL-5:{number}",), weight=_A_CASE)
            for number in range(_SEQUENCES[self.setting] // _A_CASE)
        ]

    def run_batch(self, cases: tuple[str, ...], folder: Path) -> Iterator[Result]:
        del folder
        for case in cases:
            begin = int(case.split(":")[3]) * _A_CASE
            told = list(self.ask(first=begin, last=begin + _A_CASE - 1, told=False))
            wrong = tuple(
                (f"{case}.{each['n'] - begin}", each["why"]) for each in told if each["why"]
            )
            figures = {name: max(each[name] for each in told) for name in ("hour_ppm", "day_ppm")}
            sums = {
                name: sum(each[name] for each in told) for name in ("pulses", "cuts", "refused")
            }
            yield Result(case, len(told), wrong, figures, sums)

    def evidence(self, results: list[Result]) -> list[Evidence]:
        found = failures(results)
        runs = sum(each.runs for each in results)
        pulses, cuts, refused = (
            sum(each.data[name] for each in results) for name in ("pulses", "cuts", "refused")
        )
        hour, day = ((largest(results, name) or 0) / 10_000 for name in ("hour_ppm", "day_ppm"))
        return [
            Evidence(
                "DEL-5",
                "10,000 sequences: 0 windows over the limit; a bolus is cut, the rest reported",
                f"{runs:,} sequences, {len(found)} wrong; windows at {pulses:,} pulses, the "
                f"fullest hour at {hour:.1f} % of its limit, 24 h at {day:.1f} %; "
                f"{cuts:,} boluses cut, {refused:,} refused",
                not found,
                self.setting == "quick",
            )
        ]

    def replay(self, case: str, folder: Path) -> Iterator[str]:
        del folder
        parts = case_parts(case, self.name, 4)
        number, _, sequence = parts[3].partition(".")
        if not number.isdigit() or not sequence.isdigit() or int(sequence) >= _A_CASE:
            raise UsageError(
                f"{quoted(case)} names no single sequence",
                "take the ID as the campaign printed it",
            )
        self.seed = int(parts[1])
        at = int(number) * _A_CASE + int(sequence)
        yield from retold(self.ask(first=at, last=at, told=True))
