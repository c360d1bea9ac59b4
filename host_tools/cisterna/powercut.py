"""The campaign of power cuts on the virtual pump (PWR-1 to PWR-5, with ACC-2 and ACC-4 in every
run).

Cases, after ``powercut:SEED:``

- ``none:0``: the story without a fault.
- ``PWR-1:N``: a cut before operation N of the flash, in a story that goes twice round the log.
- ``PWR-2:N:SHAPE``: operation N is torn.
- ``PWR-3:N``: a cut before operation N, and then a second one before every operation of the
  recovery; ``PWR-3:N.M`` is the one before its operation M.
- ``PWR-4:N``: the N-th random cut on one image that goes on living.

The runs themselves are ``boards/virtual/power_cycles.py``, thousands in one VM.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cisterna import vm_runs
from cisterna.boards import project_root
from cisterna.campaign import (
    Batch,
    BrokenCampaign,
    Campaign,
    Evidence,
    Result,
    Setting,
    case_parts,
    failures,
    largest,
)
from cisterna.errors import UsageError, quoted

PROGRAM_SHAPES = (
    "nothing_program",
    "half_program",
    "one_bit_program",
    "all_but_one_bit_program",
)
ERASE_SHAPES = ("nothing_erase", "half_erase", "most_erase", "unreadable_erase")
_WRAPS = 2
_BATCH = 1000  # cuts a batch: each begins with the story up to its first
_SEGMENT = 250  # cuts of the living image a batch: what is lost when one is interrupted
_LIVING = {"quick": 250, "full": 30_000}
_BASAL_LIMIT, _BOLUS_LIMIT = 5, 20  # steps of 0.1 uL, ACC-2
_SLACK = 120  # operations of the log filling that count as the story's own

REQUIREMENTS = ("PWR-1", "PWR-2", "PWR-3", "PWR-4")


class PowerCut(Campaign):
    """``only``: the requirements to run. ``tree``: folder whose firmware and boards are run, with
    the tests' pump of this project."""

    name = "powercut"

    def __init__(
        self,
        seed: int,
        setting: Setting,
        only: tuple[str, ...] = REQUIREMENTS,
        tree: Path | None = None,
    ) -> None:
        super().__init__(seed, setting)
        self.only = only
        self.tree = tree or project_root()
        self._told: dict[str, Any] | None = None  # of the story without a fault

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "requirements": list(self.only)}

    # -- the list of cases --------------------------------------------------------------------

    def _id(self, *parts: object) -> str:
        return ":".join(map(str, (self.name, self.seed, *parts)))

    def _story(self) -> dict[str, Any]:
        """What one run of the story without a fault told; run once."""
        if self._told is None:
            self._told = next(self._run({"do": "count", "wraps": _WRAPS}))
        return self._told

    def _operations(self) -> tuple[str, int]:
        """Kind of every operation of the story ("p" or "e"), and where the log begins to fill."""
        told = self._story()
        marks = [at for at, name in told["marks"] if name.startswith("the log fills")]
        return told["kinds"], marks[0] if marks else len(told["kinds"])

    def batches(self) -> list[Batch]:
        kinds, fills = self._operations()
        full = self.setting == "full"
        choose = random.Random(self.seed)
        short = min(fills + _SLACK, len(kinds))
        found = [Batch((self._id("none", 0),), weight=1)]
        if "PWR-1" in self.only:
            found += self._ranges("PWR-1", 1, len(kinds) if full else short)
            if not full:
                for _ in range(4):
                    first = choose.randrange(short + 1, len(kinds) - 25)
                    found += self._ranges("PWR-1", first, first + 24)
        if "PWR-2" in self.only:
            for first in range(1, (len(kinds) if full else short) + 1, _BATCH):
                cases = [
                    self._id("PWR-2", number, shape)
                    for number in range(first, min(first + _BATCH, len(kinds) + 1))
                    for shape in self._shapes(kinds[number - 1], number)
                ]
                found.append(Batch(tuple(cases), weight=len(cases)))
        if "PWR-3" in self.only:
            if full:
                found += self._ranges("PWR-3", 1, short, size=20, weight=17)
            else:
                for _ in range(4):
                    first = choose.randrange(1, short - 5)
                    found += self._ranges("PWR-3", first, first + 4, weight=17)
        if "PWR-4" in self.only:
            after = -1
            for first in range(1, _LIVING[self.setting] + 1, _SEGMENT):
                cases = [self._id("PWR-4", first + index) for index in range(_SEGMENT)]
                found.append(Batch(tuple(cases), after=after, weight=_SEGMENT * 2))
                after = len(found) - 1
        return found

    def _shapes(self, kind: str, number: int) -> tuple[str, ...]:
        """The tears of operation ``number``: all of them, in the quick setting one in turn."""
        shapes = PROGRAM_SHAPES if kind == "p" else ERASE_SHAPES
        return shapes if self.setting == "full" else (shapes[(number + self.seed) % 4],)

    def _ranges(
        self, requirement: str, first: int, last: int, size: int = _BATCH, weight: int = 1
    ) -> list[Batch]:
        return [
            Batch(
                tuple(
                    self._id(requirement, number)
                    for number in range(begin, min(begin + size, last + 1))
                ),
                weight=weight * min(size, last + 1 - begin),
            )
            for begin in range(first, last + 1, size)
        ]

    # -- running ------------------------------------------------------------------------------

    def run_batch(self, cases: tuple[str, ...], folder: Path) -> Iterator[Result]:
        requirement = cases[0].split(":")[2]
        numbers = [int(case.split(":")[3]) for case in cases]
        first, last = min(numbers), max(numbers)
        if requirement == "none":
            yield self._result(cases[0], self._story())
        elif requirement == "PWR-1":
            before = {"program": ["before"], "erase": ["before"]}
            for told in self._run(_cuts(first, last, before)):
                yield self._result(self._id("PWR-1", told["n"]), told)
        elif requirement == "PWR-2":
            yield from self._torn(cases, first, last)
        elif requirement == "PWR-3":
            yield from self._pairs(cases, first, last)
        else:
            yield from self._living(cases, folder)

    def _torn(self, cases: tuple[str, ...], first: int, last: int) -> Iterator[Result]:
        wanted = set(cases)
        by_number: dict[str, list[str]] = {}
        for case in cases:
            _, _, _, number, shape = case.split(":")
            by_number.setdefault(number, []).append(shape)
        request = _cuts(first, last, {"program": [], "erase": []}) | {"each": by_number}
        for told in self._run(request):
            case = self._id("PWR-2", told["n"], told["shape"])
            if case in wanted:
                yield self._result(case, told)

    def _pairs(self, cases: tuple[str, ...], first: int, last: int) -> Iterator[Result]:
        request = _pairs(first, last)
        found: dict[str, list[dict[str, Any]]] = {}
        for told in self._run(request):
            found.setdefault(told["n"].partition(".")[0], []).append(told)
        for case in cases:
            each = found.get(case.split(":")[3], [])
            results = [self._result(self._id("PWR-3", told["n"]), told) for told in each]
            figures: dict[str, int] = {}
            for result in results:
                for name, value in result.figures.items():
                    figures[name] = max(value, figures.get(name, value))
            yield Result(case, len(results), tuple(failures(results)), figures)

    def _living(
        self, cases: tuple[str, ...], folder: Path, say_from: int | None = None
    ) -> Iterator[Result]:
        """From the state that the segment before left; leaves its own at the end."""
        wanted = set(cases)
        first = (int(cases[0].split(":")[3]) - 1) // _SEGMENT * _SEGMENT + 1
        request = self._living_request(first, folder)
        end = folder / f"living-{first + _SEGMENT - 1}"
        for told in self._run(request, image=_image(folder, first), keep=end):
            if "n" in told and (case := self._id("PWR-4", told["n"])) in wanted:
                yield self._result(case, told)

    def _living_request(self, first: int, folder: Path) -> dict[str, Any]:
        state = None
        if first > 1:
            path = folder / f"living-{first - 1}" / "state.json"
            if not path.is_file():
                raise BrokenCampaign(f"{path} is not there: the segment before has not run")
            state = json.loads(path.read_text())
        return {"do": "living", "first": first, "last": first + _SEGMENT - 1, "state": state}

    def _result(self, case: str, told: dict[str, Any]) -> Result:
        figures = {name: value for name, value in told.items() if name.startswith("over_")}
        wrong = ((case, str(told["why"])),) if told["why"] else ()
        return Result(case, int(told.get("cuts", 1)), wrong, figures)

    def _run(
        self, request: dict[str, Any], image: Path | None = None, keep: Path | None = None
    ) -> Iterator[dict[str, Any]]:
        """What ``power_cycles`` tells. ``image``: folder with the flash to begin with; ``keep``:
        folder that gets the flash and the state at the end."""
        with tempfile.TemporaryDirectory(prefix="cisterna-") as temporary:
            work = Path(temporary)
            if image is not None:
                for name in ("flash.bin", "flash.bin.faults"):
                    if (image / name).is_file():
                        shutil.copyfile(image / name, work / name)
            state: dict[str, Any] | None = None
            asked = {"seed": self.seed, **request}
            for told in vm_runs.run("power_cycles", asked, work, self.tree):
                if "state" in told:
                    state = told["state"]
                else:
                    yield told
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                for name in ("flash.bin", "flash.bin.faults"):
                    if (work / name).is_file():
                        shutil.copyfile(work / name, keep / name)
                (keep / "state.json").write_text(json.dumps(state))

    # -- verdict ------------------------------------------------------------------------------

    def evidence(self, results: list[Result]) -> list[Evidence]:
        by_requirement: dict[str, list[Result]] = {}
        for result in results:
            by_requirement.setdefault(result.case.split(":")[2], []).append(result)
        wanted = {
            "none": "the story without a fault: all holds",
            "PWR-1": f"a cut before every operation, {_WRAPS} wraps of the log: all recover",
            "PWR-2": "every operation torn, 4 shapes of program, 4 of erase: all recover",
            "PWR-3": "a second cut before every operation of the recovery: all recover",
            "PWR-4": "30,000 random cuts on one image that goes on living: 0 failures",
        }
        quick = self.setting == "quick"
        rows = [
            Evidence(
                "no fault" if name == "none" else name,
                wanted[name],
                f"{sum(each.runs for each in found):,} runs, {len(failures(found))} failures",
                not failures(found),
                quick and name != "none",
            )
            for name, found in by_requirement.items()
        ]
        basal, bolus = largest(results, "over_at_basal"), largest(results, "over_in_bolus")
        holds = not failures(results)
        rows.append(
            Evidence(
                "ACC-2",
                f"account - truth after a cut: 0 to {_BASAL_LIMIT} steps at basal rates, "
                f"0 to {_BOLUS_LIMIT} in a bolus",
                f"at most {basal} at basal rates, {bolus} in a bolus",
                holds,
                quick,
            )
        )
        rows.append(
            Evidence("ACC-4", "event numbers: no gap, no repeat", "in every run", holds, quick)
        )
        rows.append(
            Evidence(
                "PWR-5",
                "basal delivery within 5 s, no bolus, a power-lost record",
                "in every run",
                holds,
                quick,
            )
        )
        return rows

    # -- replay -------------------------------------------------------------------------------

    def replay(self, case: str, folder: Path) -> Iterator[str]:
        parts = case_parts(case, self.name, 4)
        requirement, (number, _, second) = parts[2], parts[3].partition(".")
        if not number.isdigit() or (second and not second.isdigit()):
            raise UsageError(f"{quoted(case)}: {quoted(parts[3])} is no number of a case")
        self.seed = int(parts[1])
        at = int(number)
        image = None
        if requirement == "none":
            request: dict[str, Any] = {"do": "count", "wraps": _WRAPS}
        elif requirement == "PWR-1":
            request = _cuts(at, at, {"program": ["before"], "erase": ["before"]})
        elif requirement == "PWR-2":
            shape = parts[4] if len(parts) > 4 else ""
            if shape not in PROGRAM_SHAPES + ERASE_SHAPES:
                raise UsageError(
                    f"{quoted(case)} names no shape of a torn operation",
                    remedy="there are: " + ", ".join(PROGRAM_SHAPES + ERASE_SHAPES),
                )
            request = _cuts(at, at, {"program": [shape], "erase": [shape]})
        elif requirement == "PWR-3":
            request = _pairs(at, at) | ({"second": int(second)} if second else {})
        elif requirement == "PWR-4":
            first = (at - 1) // _SEGMENT * _SEGMENT + 1
            for begin in range(1, first, _SEGMENT):
                if not (folder / f"living-{begin + _SEGMENT - 1}").is_dir():
                    yield f"the image lives to cut {begin + _SEGMENT - 1}"
                    for _ in self._living((self._id("PWR-4", begin),), folder):
                        pass
            request = self._living_request(first, folder) | {"say_from": at, "last": at}
            image = _image(folder, first)
        else:
            raise UsageError(
                f"{quoted(case)}: there is no requirement {quoted(requirement)}",
                remedy="there are: none, " + ", ".join(REQUIREMENTS),
            )
        why = None
        for told in self._run({**request, "say": True}, image=image):
            if "say" in told:
                if not told["say"].startswith("verdict: "):
                    yield told["say"]
            elif requirement != "PWR-4" or told["n"] == number:
                why = why or told["why"]
        if why is None:
            raise UsageError(f"{quoted(case)}: the story has no operation {number}")
        yield f"verdict: {why or 'all holds'}"


def _image(folder: Path, first: int) -> Path | None:
    return folder / f"living-{first - 1}" if first > 1 else None


def _cuts(first: int, last: int, shapes: dict[str, list[str]]) -> dict[str, Any]:
    return {"do": "cuts", "wraps": _WRAPS, "first": first, "last": last, "shapes": shapes}


def _pairs(first: int, last: int) -> dict[str, Any]:
    return {"do": "pairs", "wraps": _WRAPS, "first": first, "last": last}
