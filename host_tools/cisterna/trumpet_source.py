"""Where the counts of a trumpet curve come from: pulses on the STEP pin, the rotor sensor, or the
volume that a scale weighs. None of them asks the pump."""

from __future__ import annotations

import bisect
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Literal

from cisterna.bench import DAY_US, Bench
from cisterna.errors import UsageError
from cisterna.prescription import Therapy
from cisterna.trumpet import Counted, Plan
from pump_wire.messages import MINIMUM_RATE, SIMPLE_CONTINUOUS

Source = Literal["edges", "rotor", "scale"]
SOURCES: tuple[Source, ...] = ("edges", "rotor", "scale")
NEEDS: dict[Source, frozenset[str]] = {
    "edges": frozenset({"advance", "edges", "refill"}),
    "rotor": frozenset({"advance", "rotor", "truth", "refill"}),
    "scale": frozenset({"advance", "truth", "refill"}),
}
MINIMUM_RATE_NL_DAY = 6_000
CAPACITY_NL = 20_000_000
_MOST_BEFORE_US = 600_000_000
# A balance of 0.01 mg on water at 1 g/mL (convention: what the method wants for small pumps).
_READABILITY_PL = 10_000


def therapy(rate_nl_day: int) -> Therapy:
    """Simple continuous at ``rate_nl_day``, or the minimum rate."""
    slowest = rate_nl_day == MINIMUM_RATE_NL_DAY
    return Therapy(
        drug="saline",
        concentration_ng_ml=1_000,
        mode=MINIMUM_RATE if slowest else SIMPLE_CONTINUOUS,
        rate_nl_day=0 if slowest else rate_nl_day,
        capacity_nl=CAPACITY_NL,
        low_mark_nl=2_000_000,
    )


def measure(
    bench: Bench,
    rate_nl_day: int,
    measured: Plan,
    source: Source,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Counted:
    """Programme the bench's pump with ``rate_nl_day`` and count what comes.

    ``seed``: of how long the pump runs before it is stopped and resumed, which starts the test:
    the first step then is due anywhere between at once and a whole spacing later. Raises
    UsageError on a bench without the instrument.
    """
    lacking = sorted(NEEDS[source] - bench.offers)
    if lacking:
        raise UsageError(f"the {bench.name} bench does not offer {', '.join(lacking)}")
    with bench.programmer() as pump:
        step_pl = pump.status().step_pl
        pump.program(therapy(rate_nl_day))
        bench.refill_reservoir(CAPACITY_NL)
        pump.refill(0, CAPACITY_NL, "trumpet curve")
        spacing_us = step_pl * DAY_US // (rate_nl_day * 1000)
        before_us = random.Random(f"{seed} {rate_nl_day}").randrange(spacing_us)
        bench.advance(us=min(before_us, _MOST_BEFORE_US))
        pump.stop()
        pump.resume()
    if source == "edges":
        return _by_edges(bench, step_pl, measured, progress)
    if source == "rotor":
        unit_pl = step_pl * bench.truth()["steps_per_pulse"]
        return _sampled(bench, unit_pl, measured, "rotor_pulses", unit_pl, 1, progress)
    return _sampled(bench, step_pl, measured, "delivered_pl", 1, _READABILITY_PL, progress)


def _by_edges(
    bench: Bench, step_pl: int, measured: Plan, progress: Callable[[int, int], None]
) -> Counted:
    start_us = bench.truth()["time_us"]
    pieces = 20
    for done in range(pieces):
        progress(done, pieces)
        until = measured.total_us * (done + 1) // pieces
        bench.advance(us=until - measured.total_us * done // pieces)
    instants = _pulses_us(bench, start_us)
    volumes = tuple(
        bisect.bisect_right(instants, at) * step_pl
        for at in range(0, measured.total_us + 1, measured.sample_us)
    )
    return Counted(step_pl, volumes, tuple(instants))


def _pulses_us(bench: Bench, start_us: int) -> list[Fraction]:
    """Instants of the pulses after ``start_us``, from there on."""
    if "runs" in bench.offers:
        return [
            Fraction(at - start_us)
            for first, slack, spacing, rate, count in bench.runs()
            for at in (first - (slack - i * spacing) // rate for i in range(count))
            if at > start_us
        ]
    return [
        Fraction(edge.t_ns, 1000) - start_us
        for edge in bench.edges()
        if edge.line == "step" and edge.level == 1 and edge.t_ns > start_us * 1000
    ]


def _sampled(
    bench: Bench,
    unit_pl: int,
    measured: Plan,
    name: str,
    worth_pl: int,
    readability_pl: int,
    progress: Callable[[int, int], None],
) -> Counted:
    """What an instrument shows every S: ``worth_pl`` for each one of ``name``, in whole
    ``readability_pl``."""
    total = measured.total_us // measured.sample_us
    shown: list[int] = []
    for done in range(total + 1):
        progress(done, total)
        if done:
            bench.advance(us=measured.sample_us)
        volume_pl = bench.truth()[name] * worth_pl
        shown.append((volume_pl + readability_pl // 2) // readability_pl * readability_pl)
    volumes = tuple(each - shown[0] for each in shown)
    return Counted(unit_pl, volumes, readability_pl=readability_pl if readability_pl > 1 else 0)
