"""The campaign of attacks on the telemetry link (SEC-1 to SEC-8, INP-1, INP-2, INP-5).

Case ``attack:SEED:REQUIREMENT:ATTACK:N`` is attack number N of its kind; the kinds are ``KINDS``.
Most run beside a whole pump in one VM, where an attacker owns the wire and the plant says whether
anything changed: ``boards/virtual/attack_runs.py``. Where the programmer itself is attacked, a
real one talks to a virtual bench: ``cisterna.attack_host``.

A new attack is a function in one of ``boards/virtual/attack_*.py`` and a row of ``KINDS``;
``attack_example.py`` shows one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cisterna import attack_host, vm_runs
from cisterna.boards import project_root
from cisterna.campaign import (
    Batch,
    Campaign,
    Evidence,
    Result,
    Setting,
    case_parts,
    failures,
)
from cisterna.errors import UsageError, quoted
from pump_wire import messages


@dataclass(frozen=True)
class Kind:
    """One kind of attack. ``quick``, ``full``: how many cases; ``batch``: cases a worker takes at
    once; ``weight``: of a case in the full setting, about seconds. ``asks_quick``, ``asks_full``:
    what the attack takes beside. ``host``: it runs in ``attack_host``. ``heap``: of the VM, whose
    garbage is collected the faster the smaller it is."""

    requirement: str
    name: str
    wanted: str
    quick: int
    full: int
    batch: int = 10
    weight: int = 1
    asks_quick: dict[str, int] = field(default_factory=dict[str, int])
    asks_full: dict[str, int] = field(default_factory=dict[str, int])
    host: bool = False
    heap: str = "64m"

    def count(self, setting: Setting) -> int:
        """How many cases there are."""
        return self.full if setting == "full" else self.quick

    @property
    def is_less_when_quick(self) -> bool:
        """True if the quick setting does less than ``wanted`` tells."""
        return (self.quick, self.asks_quick) != (self.full, self.asks_full)

    def asks(self, setting: Setting) -> dict[str, int]:
        """What the attack takes beside seed and numbers."""
        return self.asks_full if setting == "full" else self.asks_quick


_ORDERS = sum(message.prepared for message in messages.TABLE)  # all that move drug or settings
_TOKENS = 13  # attacks between prepare and confirm

KINDS = (
    Kind("none", "honest", "no attack: every order carried out once", _ORDERS, _ORDERS),
    Kind(
        "SEC-1",
        "roles",
        "all message ids x roles x states: 0 state changes, no reply but to what the role may ask",
        10,
        10,
        1,
        2,
        {"every": 8},
        {"every": 1},
    ),
    Kind(
        "SEC-2",
        "fresh",
        "10,000 sessions: no key, session or nonce twice, no key on the line",
        1,
        1,
        1,
        40,
        {"sessions": 300},
        {"sessions": 10_000},
    ),
    Kind(
        "SEC-2",
        "keys",
        "pairing without the button, small-order keys, other roles' keys, worn counters: nothing",
        10,
        40,
    ),
    Kind("SEC-3", "flips", "every bit of 200 packets flipped: 0 accepted", 20, 200),
    Kind("SEC-3", "splices", "spliced across directions, sessions, keys: 0 accepted", 10, 100),
    Kind(
        "SEC-4",
        "replays",
        "every packet again, at once, later, next session, after restarts: 0 accepted",
        6,
        60,
        6,
    ),
    Kind("SEC-4", "example", "the attack of attack_example.py", 1, 1),
    Kind(
        "SEC-5",
        "tokens",
        "change in between, twice, late, another session: carried out 0 times, or once exactly",
        _TOKENS * _ORDERS,
        10 * _TOKENS * _ORDERS,
        2 * _TOKENS,
    ),
    Kind(
        "SEC-7",
        "flood",
        "10 min at line rate: every pulse in its microsecond, an alarm within 1 s, a session "
        "within 1 s afterwards",
        9,
        9,
        1,
        60,
        {"seconds": 4},
        {"seconds": 600},
    ),
    Kind(
        "SEC-8",
        "announced",
        "every change by a command: a tone within 1 s, a record of whose it was",
        _ORDERS,
        _ORDERS,
        _ORDERS,
    ),
    Kind(
        "INP-1",
        "fuzz",
        "10,000,000 fuzzed frames: 0 crashes, 0 heap growth, 0 state changes",
        3,
        200,
        3,
        6,
        {"frames": 10_000},
        {"frames": 50_000},
        heap="6m",
    ),
    Kind(
        "INP-2",
        "damaged",
        "all one- and two-bit flips of 50 frames, cut, insert, drop: 0 accepted",
        50,
        50,
        5,
        2,
        {"pairs": 20},
        {"pairs": 0},
    ),
    Kind(
        "INP-2",
        "pauses",
        "a partial frame, then silence: forgotten within 500 ms, the next frame answered",
        2,
        50,
    ),
    Kind(
        "INP-5",
        "cuts",
        "the line cut at every octet of every procedure: old or new, pause of delivery 0",
        _ORDERS,
        _ORDERS,
        1,
        3,
        {"stride": 23},
        {"stride": 1},
    ),
    Kind(
        "SEC-3",
        "replies",
        "every bit of the pump's sealed packets and of its answer to open_session flipped, old "
        "packets before: the programmer takes none",
        2,
        50,
        2,
        host=True,
    ),
    Kind(
        "SEC-6",
        "lossy",
        "10,000 commands, 30 % loss, duplication, delay both ways: each once, or known not done",
        4,
        1_000,
        1,
        3,
        {"commands": 10},
        {"commands": 10},
        host=True,
    ),
    Kind(
        "INP-5",
        "hangups",
        "the programmer's line cut at every octet, both ways: what it says is what the plant saw",
        4,
        4,
        1,
        30,
        {"stride": 41},
        {"stride": 1},
        host=True,
    ),
)
_BY_NAME = {kind.name: kind for kind in KINDS}
REQUIREMENTS = tuple(dict.fromkeys(kind.requirement for kind in KINDS if kind.name != "honest"))


class Attack(Campaign):
    """``only``: the requirements to run, the run without an attack among them. ``tree``: folder
    whose firmware and boards are attacked, with the attacks of this project."""

    name = "attack"

    def __init__(
        self,
        seed: int,
        setting: Setting,
        only: tuple[str, ...] = ("none", *REQUIREMENTS),
        tree: Path | None = None,
    ) -> None:
        super().__init__(seed, setting)
        self.only = only
        self.tree = tree or project_root()

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "requirements": list(self.only)}

    def _id(self, kind: Kind, number: int) -> str:
        return f"{self.name}:{self.seed}:{kind.requirement}:{kind.name}:{number}"

    def batches(self) -> list[Batch]:
        found: list[Batch] = []
        for kind in KINDS:
            if kind.requirement not in self.only:
                continue
            count = kind.count(self.setting)
            for first in range(0, count, kind.batch):
                numbers = range(first, min(first + kind.batch, count))
                cases = tuple(self._id(kind, number) for number in numbers)
                found.append(Batch(cases, weight=kind.weight * len(cases)))
        return found

    def run_batch(self, cases: tuple[str, ...], folder: Path) -> Iterator[Result]:
        wanted = set(cases)
        kind = _BY_NAME[cases[0].split(":")[3]]
        numbers = [int(case.split(":")[4]) for case in cases]
        for told in self._run(kind, min(numbers), max(numbers)):
            case = self._id(kind, int(told["n"]))
            if case in wanted:
                wrong = ((case, str(told["why"])),) if told["why"] else ()
                yield Result(case, int(told["runs"]), wrong)

    def _run(self, kind: Kind, first: int, last: int) -> Iterator[dict[str, Any]]:
        asks = kind.asks(self.setting)
        request = {"do": kind.name, "seed": self.seed, "first": first, "last": last, **asks}
        if kind.host:
            yield from attack_host.run(request)
            return
        with tempfile.TemporaryDirectory(prefix="cisterna-") as work:
            yield from vm_runs.run("attack_runs", request, Path(work), self.tree, kind.heap)

    # -- verdict ------------------------------------------------------------------------------

    def evidence(self, results: list[Result]) -> list[Evidence]:
        by_kind: dict[str, list[Result]] = {}
        for result in results:
            by_kind.setdefault(result.case.split(":")[3], []).append(result)
        rows: list[Evidence] = []
        for kind in KINDS:
            found = by_kind.get(kind.name, [])
            if not found:
                continue
            runs = sum(each.runs for each in found)
            rows.append(
                Evidence(
                    "no fault" if kind.requirement == "none" else kind.requirement,
                    kind.wanted,
                    f"{kind.name}: {runs:,} runs, {len(failures(found))} failures",
                    not failures(found),
                    self.setting == "quick" and kind.is_less_when_quick,
                )
            )
        return rows

    # -- replay -------------------------------------------------------------------------------

    def replay(self, case: str, folder: Path) -> Iterator[str]:
        parts = case_parts(case, self.name, 5)
        kind = _BY_NAME.get(parts[3])
        if kind is None or kind.requirement != parts[2]:
            known = ", ".join(f"{each.requirement}:{each.name}" for each in KINDS)
            raise UsageError(
                f"{quoted(case)}: there is no attack {quoted(parts[2] + ':' + parts[3])}",
                remedy=f"there are: {known}",
            )
        if not parts[4].isdigit() or int(parts[4]) >= kind.count("full"):
            raise UsageError(f"{quoted(case)}: {quoted(parts[4])} is no number of a case")
        self.seed = int(parts[1])
        number = int(parts[4])
        yield f"{kind.requirement}: {kind.wanted}"
        for told in self._run(kind, number, number):
            if told["n"] == str(number):
                yield f"attack {kind.name} {number}: {told['runs']:,} runs"
                yield f"verdict: {told['why'] or 'all holds'}"
