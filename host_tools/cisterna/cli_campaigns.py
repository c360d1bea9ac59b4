"""``cisterna bench NAME``: the campaigns.

A campaign ends with exit code 0 only if every case holds. Interrupted, the same command goes on
where it was.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cisterna import campaign as campaigns
from cisterna import campaign_report, screens, units
from cisterna.cli_options import Json, emit, say_why, whole_number
from cisterna.errors import Interrupted, UsageError, quoted
from cisterna.fault_campaign import FailingCalls
from cisterna.flips import Flips
from cisterna.limit_campaign import Limits
from cisterna.soak import Soak
from cisterna.vm_runs import VmCampaign

_MOST_SHOWN = 20  # failures on the terminal

BenchName = Annotated[
    str, typer.Option("--bench", metavar="B", help="virtual, or emulated: a whole Pico.")
]
Seed = Annotated[str, typer.Option("--seed", metavar="N", help="Of everything random.")]
Full = Annotated[
    bool,
    typer.Option("--full/--quick", help="The requirements' full figures, or a quick setting."),
]
ReportFolder = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="DIR", help="Where report and results go; else a folder of its own."
    ),
]
ReplayCase = Annotated[
    str | None,
    typer.Option("--replay", metavar="ID", help="Run this one case again, step by step."),
]
Workers = Annotated[
    str | None,
    typer.Option("--workers", metavar="N", help="Processes at once; else one a processor."),
]
Dask = Annotated[
    str | None,
    typer.Option(
        "--dask",
        metavar="ADDRESS",
        help="Run the cases on this Dask cluster, such as tcp://host:8786; local starts one here.",
    ),
]


@contextlib.contextmanager
def _bar(what: str) -> Generator[Callable[[int, int, int], None], None, None]:
    """A bar on stderr, on a terminal only, with the failures so far and the time left."""
    shown = screens.console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task(what, total=None, failed=0)

        def tell(done: int, total: int, failed: int) -> None:
            bar.update(task, completed=done, total=total, failed=failed)

        yield tell


def run(
    campaign: campaigns.Campaign,
    report: Path | None,
    replay: str | None,
    workers: str | None,
    as_json: bool,
    dask: str | None = None,
) -> None:
    """Run ``campaign``, or replay one case of it, and show what came out."""
    folder = report or campaigns.default_folder(campaign)
    if replay is not None:
        _replay(campaign, replay, folder, as_json)
        return
    at_once = whole_number(workers, "--workers", 1) or campaigns.default_workers()
    start = time.monotonic()
    try:
        with _bar(campaign.name) as tell:
            results = campaigns.run(campaign, folder, at_once, tell, dask)
    except KeyboardInterrupt:
        raise Interrupted(
            f"what was found so far is kept in {folder}", "the same command goes on from there"
        ) from None
    verdict = campaigns.data(campaign, results, time.monotonic() - start, at_once)
    html, _ = campaign_report.write(verdict, folder, campaign.files(results))
    found = campaigns.failures(results)
    command = campaigns.command(campaign.name, campaign.bench)
    if as_json:
        emit(verdict)
    else:
        shown = screens.console()
        screens.rows(
            shown,
            [
                (row.requirement, f"{row.measured}: {_verdict_words(row)}")
                for row in campaign.evidence(results)
            ],
        )
        if verdict["quick"]:
            screens.note(shown, f"{command} --full runs the requirements' figures")
        for case, why in found[:_MOST_SHOWN]:
            screens.note(shown, f"{case}  {why}", "red")
        if len(found) > _MOST_SHOWN:
            screens.note(shown, f"and {len(found) - _MOST_SHOWN} more, in the report", "red")
        screens.path(shown, str(html))
    if found:
        say_why(
            f"campaign {campaign.name}, seed {campaign.seed}: {len(found)} failures",
            f"see one step by step: {command} --replay {found[0][0]}",
        )
        raise typer.Exit(1)


def _verdict_words(row: campaigns.Evidence) -> str:
    words = campaigns.verdict_words(row.holds, row.quick)
    return words if row.holds else words.upper()


def _replay(campaign: campaigns.Campaign, case: str, folder: Path, as_json: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shown = screens.console()
    told: list[str] = []
    for line in campaign.replay(case, folder):
        told.append(line)
        if not as_json:
            screens.note(shown, line)
    holds = told[-1] == "verdict: all holds"
    if as_json:
        emit({"id": case, "holds": holds, "steps": told})
    if not holds:
        raise typer.Exit(1)


def _setting(full: bool) -> campaigns.Setting:
    return "full" if full else "quick"


def _emulated(campaign: str, bench: str) -> bool:
    """True for the emulated Pico, False for the virtual bench. Raises UsageError."""
    if bench not in ("virtual", "emulated"):
        raise UsageError(
            f"{campaign} does not run on bench {quoted(bench)}", "it runs on: virtual, emulated"
        )
    return bench == "emulated"


def powercut(
    bench: BenchName = "virtual",
    seed: Seed = "1",
    full: Full = False,
    report: ReportFolder = None,
    replay: ReplayCase = None,
    workers: Workers = None,
    dask: Dask = None,
    as_json: Json = False,
) -> None:
    """Cut the power at every operation of the flash, and at random (PWR-1 to PWR-5).

    Every cut is followed by a start that is judged by the plant: account, settings, delivery, log.
    """
    number = whole_number(seed, "--seed") or 0
    if _emulated("powercut", bench):
        from cisterna.powercut_emulated import EmulatedPowerCut as Campaign
    else:
        from cisterna.powercut import PowerCut as Campaign
    run(Campaign(number, _setting(full)), report, replay, workers, as_json, dask)


def _in_vms(kind: type[VmCampaign], told: str) -> Callable[..., None]:
    """The command of a campaign in VMs, which is the virtual bench alone. ``told``: its help."""

    def command(
        seed: Seed = "1",
        full: Full = False,
        report: ReportFolder = None,
        replay: ReplayCase = None,
        workers: Workers = None,
        dask: Dask = None,
        as_json: Json = False,
    ) -> None:
        number = whole_number(seed, "--seed") or 0
        run(kind(number, _setting(full)), report, replay, workers, as_json, dask)

    command.__name__ = kind.name
    command.__doc__ = told
    return command


def trumpet(
    bench: Annotated[
        str,
        typer.Option(
            "--bench", metavar="B", help="virtual, emulated, or one with instruments of its own."
        ),
    ] = "virtual",
    rate: Annotated[
        list[str] | None,
        typer.Option("--rate", metavar="RATE", help="This rate only; more than once for more."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", metavar="S", help="What counts: edges, rotor or scale."),
    ] = None,
    seed: Seed = "1",
    full: Full = False,
    report: ReportFolder = None,
    replay: ReplayCase = None,
    workers: Workers = None,
    dask: Dask = None,
    as_json: Json = False,
) -> None:
    """Start-up and trumpet curves, as pictures and tables (DEL-3).

    The largest flow error over windows of 2 to 31 min, of 15 to 930 min at slow rates, against
    what an ideal pump of the same step can do. The method is borrowed from IEC 60601-2-24; no
    claim of compliance.
    """
    from cisterna.trumpet_campaign import TrumpetCurves

    rates = tuple(units.parse_rate(text, name="--rate") for text in rate or ())
    curves = TrumpetCurves(
        whole_number(seed, "--seed") or 0, _setting(full), bench, rates, tuple(source or ())
    )
    run(curves, report, replay, workers, as_json, dask)


def attack(
    bench: BenchName = "virtual",
    seed: Seed = "1",
    full: Full = False,
    report: ReportFolder = None,
    replay: ReplayCase = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Attack the telemetry link (SEC-1 to SEC-8, INP-1, INP-2, INP-5).

    Forge, splice, replay, flood, fuzz, cut the line; flash, account and plant tell what changed.
    """
    number = whole_number(seed, "--seed") or 0
    if _emulated("attack", bench):
        from cisterna.attack_emulated import EmulatedAttack as Campaign
    else:
        from cisterna.attack import Attack as Campaign
    run(Campaign(number, _setting(full)), report, replay, workers, as_json)


# Every campaign, with its examples, one a line.
CAMPAIGNS: tuple[tuple[Callable[..., None], str], ...] = (
    (
        powercut,
        """cisterna bench powercut
        cisterna bench powercut --full --report evidence
        cisterna bench powercut --replay powercut:1:PWR-2:17:half_program""",
    ),
    (
        attack,
        """cisterna bench attack
        cisterna bench attack --full --report evidence
        cisterna bench attack --replay attack:1:SEC-4:replays:3""",
    ),
    (
        _in_vms(
            Flips,
            "Flip two bits of what sets a dose, in memory and in store (FLT-4).",
        ),
        """cisterna bench flips --full
        cisterna bench flips --replay flips:1:FLT-4:3.17""",
    ),
    (
        _in_vms(
            Limits,
            "Random commands against the volume limits: every hour and 24 h, by the pulses "
            "(DEL-5).",
        ),
        """cisterna bench limits --full --report evidence
        cisterna bench limits --replay limits:1:DEL-5:3.17""",
    ),
    (
        _in_vms(
            FailingCalls,
            "The k-th allocation, file, flash or serial call fails, once and for ever (FLT-3).",
        ),
        """cisterna bench faults
        cisterna bench faults --full --report evidence
        cisterna bench faults --replay faults:1:FLT-3:flash-once:0.17""",
    ),
    (
        _in_vms(
            Soak,
            """Years of random traffic: no reset, no growth of the heap (FLT-5).

            A replay with --full is a life of half a year, without it one of a few days.
            """,
        ),
        """cisterna bench soak
        cisterna bench soak --full --report evidence
        cisterna bench soak --full --replay soak:1:FLT-5:3""",
    ),
    (
        trumpet,
        """cisterna bench trumpet --report evidence
        cisterna bench trumpet --rate "0.1 mL/day" --source rotor
        cisterna bench trumpet --bench emulated --full --report evidence""",
    ),
)
