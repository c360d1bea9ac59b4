"""The campaign of attacks on the emulated Pico: its real port, its real image (SEC-3, SEC-4,
INP-1).

Case ``attack:SEED:REQUIREMENT:ATTACK:N`` is one Pico from power on, attacked by
``cisterna.attack_port``. A frame costs some hundredths of a second of this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cisterna import attack_port
from cisterna.bench import Bench
from cisterna.bench_emulated import EmulatedBench
from cisterna.campaign import Batch, Campaign, Evidence, Result, Setting, case_parts, failures
from cisterna.errors import CisternaError, UsageError, quoted


@dataclass(frozen=True)
class _Kind:
    requirement: str
    name: str
    wanted: str
    quick: int  # cases
    full: int
    attack: Callable[[Bench, int, Setting], int]
    weight: int


_FLIP_STRIDE = {"quick": 61, "full": 1}  # of the bits of a packet
_FRAMES = {"quick": 500, "full": 5_000}  # of fuzz in a case

_KINDS = (
    _Kind(
        "SEC-3",
        "flips",
        "bits of sealed requests flipped: 0 accepted",
        1,
        1,
        lambda bench, seed, setting: attack_port.flips(bench, seed, _FLIP_STRIDE[setting]),
        2,
    ),
    _Kind(
        "SEC-4",
        "replays",
        "every packet again, at once, later, next session, after a power cut: 0 accepted",
        1,
        4,
        lambda bench, seed, setting: attack_port.replays(bench, seed, setting == "quick"),
        1,
    ),
    _Kind(
        "INP-1",
        "fuzz",
        "100,000 fuzzed frames: 0 crashes, 0 heap growth, 0 state changes",
        1,
        20,
        lambda bench, seed, setting: attack_port.fuzz(bench, seed, _FRAMES[setting]),
        5,
    ),
)


class EmulatedAttack(Campaign):
    """See the module's text."""

    name = "attack"
    bench = "emulated"

    def batches(self) -> list[Batch]:
        return [
            Batch(
                (f"attack:{self.seed}:{kind.requirement}:{kind.name}:{number}",),
                weight=kind.weight,
            )
            for kind in _KINDS
            for number in range(kind.full if self.setting == "full" else kind.quick)
        ]

    def run_batch(self, cases: tuple[str, ...], folder: Path) -> Iterator[Result]:
        for case in cases:
            parts = case.split(":")
            (kind,) = (kind for kind in _KINDS if kind.name == parts[3])
            runs, why = _attack(kind, self.seed, int(parts[4]), self.setting)
            yield Result(case, max(1, runs), ((case, why),) if why else ())

    def evidence(self, results: list[Result]) -> list[Evidence]:
        rows: list[Evidence] = []
        quick = self.setting == "quick"
        for kind in _KINDS:
            found = [each for each in results if each.case.split(":")[3] == kind.name]
            if found:
                sent = sum(each.runs for each in found)
                wrong = failures(found)
                measured = f"{kind.name}: {sent:,} frames, {len(wrong)} failures"
                rows.append(Evidence(kind.requirement, kind.wanted, measured, not wrong, quick))
        return rows

    def replay(self, case: str, folder: Path) -> Iterator[str]:
        parts = case_parts(case, self.name, 5)
        kinds = [kind for kind in _KINDS if (kind.requirement, kind.name) == tuple(parts[2:4])]
        if not kinds or not parts[4].isdigit():
            known = ", ".join(f"{each.requirement}:{each.name}" for each in _KINDS)
            raise UsageError(f"{quoted(case)} names no attack", remedy=f"there are: {known}")
        yield f"{kinds[0].requirement}: {kinds[0].wanted}"
        runs, why = _attack(kinds[0], int(parts[1]), int(parts[4]), self.setting)
        yield f"{runs:,} frames sent"
        yield f"verdict: {why or 'all holds'}"


def _attack(kind: _Kind, seed: int, number: int, setting: Setting) -> tuple[int, str]:
    """(frames sent, why it is wrong)."""
    own = seed * 1_000 + number
    with EmulatedBench(seed=own) as bench:
        try:
            attack_port.commission(bench)
            return kind.attack(bench, own, setting), ""
        except (attack_port.Wrong, CisternaError) as wrong:
            return 0, f"{type(wrong).__name__}: {wrong}"
