"""Campaigns: many runs of one kind, each a pure function of its ID, and one verdict.

A campaign is a list of cases that follows from its seed and setting. A case's ID is short and
replays it: ``powercut:1:PWR-2:17:half_program`` is campaign, seed, requirement, and what the
campaign adds. Cases come in batches, the pieces that workers take; what a batch finds does not
depend on which worker runs it, nor beside what. Results go to a file as they come, so a run that
was interrupted goes on where it was.

Attack, faults, soak and trumpet campaigns are made of the same parts: subclass ``Campaign``.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import json
import multiprocessing
import os
import queue
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import platformdirs

from cisterna.boards import project_root
from cisterna.errors import CisternaError, UsageError, quoted

Setting = Literal["quick", "full"]
RESULTS = "results.jsonl"


class BrokenCampaign(CisternaError):
    """A run could not be carried out, so nothing is known of its cases."""


@dataclass(frozen=True)
class Result:
    """What one case found. ``runs``: runs it is made of. ``failures``: (ID that replays it, what
    is wrong). ``figures``: name -> the largest value seen. ``data``: anything that JSON holds, for
    ``Campaign.files``."""

    case: str
    runs: int = 1
    failures: tuple[tuple[str, str], ...] = ()
    figures: dict[str, int] = field(default_factory=dict[str, int])
    data: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Batch:
    """Cases that one worker runs one after the other. ``after``: index of the batch that must be
    complete before, where a case goes on from what another left; -1: none. ``weight``: how long
    it takes, in any unit of the campaign's own."""

    cases: tuple[str, ...]
    after: int = -1
    weight: int = 0


@dataclass(frozen=True)
class Evidence:
    """One line of the verdict: a requirement, the figure that passes, what was measured.
    ``quick``: by the quick setting, which does less than ``wanted`` tells."""

    requirement: str
    wanted: str
    measured: str
    holds: bool
    quick: bool = False


class Campaign(abc.ABC):
    """Small and picklable: workers get a copy. ``seed`` >= 0."""

    name: str
    bench: str = "virtual"

    def __init__(self, seed: int, setting: Setting) -> None:
        self.seed = seed
        self.setting: Setting = setting

    @abc.abstractmethod
    def batches(self) -> list[Batch]:
        """Every case, in the order of the report. The same for the same seed and setting."""

    @abc.abstractmethod
    def run_batch(self, cases: tuple[str, ...], folder: Path) -> Iterator[Result]:
        """Run ``cases``, of one batch, in order. ``folder``: kept for the whole campaign, for what
        a later batch goes on from."""

    @abc.abstractmethod
    def evidence(self, results: list[Result]) -> list[Evidence]:
        """The verdict by requirement."""

    @abc.abstractmethod
    def replay(self, case: str, folder: Path) -> Iterator[str]:
        """Run one case, or one failure's ID, and tell it step by step. Raises UsageError for an
        ID that names none. The last line begins with "verdict: "."""

    def files(self, results: list[Result]) -> dict[str, bytes]:
        """Pictures (.png) and tables of the results by file name, for the report."""
        del results
        return {}

    def identity(self) -> dict[str, Any]:
        """What the results belong to; results of another identity are not gone on with."""
        return {
            "campaign": self.name,
            "bench": self.bench,
            "seed": self.seed,
            "setting": self.setting,
            "firmware": firmware_hash(),
        }


def case_parts(case: str, name: str, count: int) -> list[str]:
    """The parts of a case's ID, at least ``count``. Raises UsageError."""
    parts = case.split(":")
    if len(parts) < count or parts[0] != name or not parts[1].isdigit():
        raise UsageError(
            f"{quoted(case)} is no case of campaign {name}",
            remedy="take the ID as the campaign printed it",
        )
    return parts


def firmware_hash() -> str:
    """Of every source file that runs on the pump or the virtual board."""
    root = project_root()
    digest = hashlib.sha256()
    for folder in ("firmware/pump", "firmware/pump_wire", "firmware/drivers", "boards/virtual"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def commit() -> str:
    """The commit that is checked out, with "+changes" where files differ from it; "" where git
    does not know."""
    root = project_root()
    git = ("git", "-C", str(root))
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{head}+changes" if changed else head


def default_folder(campaign: Campaign) -> Path:
    """Where a campaign without --report keeps what it found."""
    state = Path(platformdirs.user_state_dir("cisterna")) / "campaigns"
    return state / f"{campaign.name}-{campaign.bench}-{campaign.seed}-{campaign.setting}"


# -- results on disk ---------------------------------------------------------------------------


class Results:
    """The results file of one campaign: a line of identity, then a line a case. Appended to as
    they come, each line whole before the next."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Take up what ``folder`` holds of the same identity; anything else there begins anew."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / RESULTS
        self.found: dict[str, Result] = {}
        lines: list[str] = []
        if self._path.is_file():
            lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]  # the last: half
        head = json.dumps({"identity": identity}, sort_keys=True)
        if lines and lines[0] == head:
            for line in lines[1:]:
                result = _result(json.loads(line))
                self.found[result.case] = result
        else:
            lines = [head]
        new = self._path.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        new.replace(self._path)
        self._file = self._path.open("a", encoding="utf-8")

    def add(self, result: Result) -> None:
        """Keep ``result``; it is on disk when this returns."""
        self.found[result.case] = result
        self._file.write(json.dumps(dataclasses.asdict(result), sort_keys=True) + "\n")
        self._file.flush()

    def close(self, finished: bool) -> None:
        """``finished``: the next run begins anew."""
        self._file.close()
        if finished:
            self._path.replace(self._path.with_name(f"finished-{RESULTS}"))


def _result(data: dict[str, Any]) -> Result:
    failures = tuple((str(case), str(why)) for case, why in data["failures"])
    return Result(data["case"], data["runs"], failures, data["figures"], data["data"])


# -- running -----------------------------------------------------------------------------------

_results: Any = None  # in a worker: the queue that results go to


def _begin_worker(results: Any) -> None:
    global _results
    _results = results
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to act on


def _work(campaign: Campaign, cases: tuple[str, ...], folder: Path) -> None:
    for result in campaign.run_batch(cases, folder):
        _results.put(result)


def default_workers() -> int:
    """As many as there are processors for this process."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # macOS
        return max(1, os.cpu_count() or 1)


def run(
    campaign: Campaign,
    folder: Path,
    workers: int = 1,
    progress: Callable[[int, int, int], None] = lambda done, total, failed: None,
    dask: str | None = None,
) -> list[Result]:
    """Run what ``folder`` does not hold yet; the results of all cases, in the campaign's order.

    ``progress(done, total, failed)``: weight done and in all, failures so far. The results do not
    depend on ``workers``, nor on ``dask``: a scheduler's address, or "local". Raises
    BrokenCampaign; what was found by then is kept, as it is after a KeyboardInterrupt.
    """
    batches = campaign.batches()
    kept = Results(folder, campaign.identity())
    weight_of = {
        case: max(1, batch.weight) / len(batch.cases) for batch in batches for case in batch.cases
    }
    total = round(sum(weight_of.values()))

    done = sum(weight_of.get(case, 0) for case in kept.found)
    failed = sum(len(each.failures) for each in kept.found.values())

    def add(result: Result) -> None:
        nonlocal done, failed
        kept.add(result)
        done += weight_of.get(result.case, 0)
        failed += len(result.failures)
        progress(round(done), total, failed)

    finished = False
    try:
        progress(round(done), total, failed)
        left = {
            index: todo
            for index, batch in enumerate(batches)
            if (todo := tuple(case for case in batch.cases if case not in kept.found))
        }
        if dask is not None:
            from cisterna import campaign_dask

            todo = {case for cases in left.values() for case in cases}
            campaign_dask.run(campaign, batches, todo, dask, workers, add)
        elif workers > 1 and len(left) > 1:
            _run_parallel(campaign, batches, left, folder, workers, add)
        else:
            for cases in left.values():
                for result in campaign.run_batch(cases, folder):
                    add(result)
        missing = [case for batch in batches for case in batch.cases if case not in kept.found]
        if missing:
            raise BrokenCampaign(f"{len(missing)} cases told nothing, the first is {missing[0]}")
        finished = True
    finally:
        kept.close(finished)
    return [kept.found[case] for batch in batches for case in batch.cases]


def _run_parallel(
    campaign: Campaign,
    batches: list[Batch],
    left: dict[int, tuple[str, ...]],
    folder: Path,
    workers: int,
    add: Callable[[Result], None],
) -> None:
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin_worker, initargs=(results,)
    )
    waiting = dict(left)
    running: dict[Future[None], int] = {}
    try:
        while waiting or running:
            for index in list(waiting):
                after = batches[index].after
                if after in waiting or after in running.values():
                    continue
                running[pool.submit(_work, campaign, waiting.pop(index), folder)] = index
            _drain(results, add, 0.05)
            for future in [each for each in running if each.done()]:
                del running[future]
                future.result()
        _drain(results, add, 0.2)
        pool.shutdown()
    except BaseException:
        _drain(results, add, 0)
        processes = list(getattr(pool, "_processes", {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        raise


def _drain(results: Any, add: Callable[[Result], None], wait_s: float) -> None:
    """Add what the workers told by now, or within ``wait_s``."""
    try:
        while True:
            add(results.get(timeout=wait_s) if wait_s else results.get_nowait())
    except queue.Empty:
        pass


# -- verdicts ----------------------------------------------------------------------------------


def failures(results: Iterable[Result]) -> list[tuple[str, str]]:
    """(ID that replays it, what is wrong) of every failure."""
    return [failure for result in results for failure in result.failures]


def largest(results: Iterable[Result], figure: str) -> int | None:
    """The largest of a figure over ``results``; None when none has it."""
    return max((each.figures[figure] for each in results if figure in each.figures), default=None)


def verdict_words(holds: bool, quick: bool) -> str:
    """What a line of evidence shows. ``quick``: as in Evidence."""
    if not holds:
        return "fails"
    return "holds at the quick setting's figures" if quick else "holds"


def command(campaign: str, bench: str) -> str:
    """What runs a campaign on a bench, without further options."""
    where = "" if bench == "virtual" else f" --bench {bench}"
    return f"cisterna bench {campaign}{where}"


def data(campaign: Campaign, results: list[Result], took_s: float, workers: int) -> dict[str, Any]:
    """The verdict as JSON. All but "run" follows from identity and commit alone."""
    found = failures(results)
    evidence = campaign.evidence(results)
    return {
        "identity": campaign.identity(),
        "commit": commit(),
        "holds": not found,
        "quick": any(each.quick for each in evidence),
        "cases": len(results),
        "runs": sum(each.runs for each in results),
        "evidence": [dataclasses.asdict(each) for each in evidence],
        "failures": [{"id": case, "why": why} for case, why in found],
        "run": {"seconds": round(took_s, 1), "workers": workers},
    }
