"""The campaign of failing calls (FLT-3): in a short story of a pump the k-th allocation, file,
flash or serial call fails, k = 1, 2, 3 ... until there is no k-th, once and for ever.

Case ``faults:SEED:FLT-3:KIND-HOW:N`` is every ``_PARTS``-th k, ``faults:SEED:FLT-3:KIND-HOW:N.K``
the one story in which call K fails. The stories are ``boards/virtual/failing_calls.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cisterna.campaign import Batch, Evidence, Result, case_parts, failures
from cisterna.errors import UsageError, quoted
from cisterna.vm_runs import VmCampaign

# Calls that a story makes, about: how far apart those are that fail in the quick setting.
_QUICK = {"flash": 61, "file": 223, "serial": 17, "memory": 241}
_WEIGHTS = {"flash": 240, "file": 880, "serial": 82, "memory": 1_000}
_PARTS = 8
_HOW = ("once", "ever")


class FailingCalls(VmCampaign):
    """Stories in which a call fails."""

    name = "faults"
    module = "failing_calls"
    heap = "1m"

    def batches(self) -> list[Batch]:
        parts = _PARTS if self.setting == "full" else 1
        return [
            Batch((f"faults:{self.seed}:FLT-3:{kind}-{how}:{part}",), weight=_WEIGHTS[kind])
            for kind in _QUICK
            for how in _HOW
            for part in range(parts)
        ]

    def run_batch(self, cases: tuple[str, ...], folder: Path) -> Iterator[Result]:
        del folder
        for case in cases:
            kind, how, part, _ = _parts(case)
            every = _PARTS if self.setting == "full" else _QUICK[kind]
            told = list(self._run(kind, how, first=part + 1, every=every))
            wrong = tuple((f"{case}.{each['k']}", each["why"]) for each in told if each["why"])
            ends = Counter(end for each in told for end in each["end"].split(", "))
            yield Result(case, len(told), wrong, {}, {"ends": dict(ends)})

    def _run(self, kind: str, how: str, **more: int) -> Iterator[dict[str, Any]]:
        return self.ask(kind=kind, for_ever=how == "ever", **more)

    def evidence(self, results: list[Result]) -> list[Evidence]:
        found = failures(results)
        runs = sum(each.runs for each in results)
        ends: Counter[str] = Counter()
        for each in results:
            ends.update(each.data["ends"])
        return [
            Evidence(
                "FLT-3",
                "every k-th call, once and for ever: safe state or full success, no silent task",
                f"{runs:,} stories, {len(found)} wrong; in their two parts the pump ran on "
                f"{ends['runs']:,} times, had latched a fault {ends['latched']:,} times, "
                f"started again and again with its motor off {ends['restarts']:,} times",
                not found,
                self.setting == "quick",
            )
        ]

    def replay(self, case: str, folder: Path) -> Iterator[str]:
        del folder
        kind, how, _, k = _parts(case)
        if not k:
            raise UsageError(
                f"{quoted(case)} names no single story", "take the ID as the campaign printed it"
            )
        self.seed = int(case.split(":")[1])
        why = ""
        for told in self._run(kind, how, only=k, first=k, every=1, told=1):
            if "text" in told:
                yield told["text"]
            else:
                yield f"answered with success: {', '.join(told['done']) or 'nothing'}"
                yield f"before the power went, and after it: {told['end']}"
                why = told["why"]
        yield f"verdict: {why or 'all holds'}"


def _parts(case: str) -> tuple[str, str, int, int]:
    """(kind, how, part, k or 0) of a case. Raises UsageError."""
    parts = case_parts(case, FailingCalls.name, 5)
    kind, _, how = parts[3].partition("-")
    part, _, k = parts[4].partition(".")
    if kind not in _QUICK or how not in _HOW or not (part.isdigit() and (k or "0").isdigit()):
        raise UsageError(
            f"{quoted(case)} is no case of campaign faults",
            remedy="take the ID as the campaign printed it",
        )
    return kind, how, int(part), int(k or 0)
