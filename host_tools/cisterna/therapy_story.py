"""Three stories of a therapy on a bench whose clock can be moved, each told by the plant: a day of
flex steps with patient boluses, a bridge bolus, the dose of each day between two refills.

They end as pictures: ``cisterna bench therapy``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from cisterna.bench import DAY_US, HOUR_US, MINUTE_US, Bench
from cisterna.dose import mass_of_volume_ng
from cisterna.mixture import Drug, Mixture
from cisterna.prescription import Therapy, load, shipped
from cisterna.programmer import Programmer
from cisterna.therapy_charts import (
    DayBolus,
    DayDose,
    TipSample,
    draw_bridge,
    draw_daily_dose,
    draw_day,
)

MONDAY_S = 1_767_571_200  # 2026-01-05 00:00 UTC
_FILL_NL = 20_000_000
_STRETCH_MIN = 15
_FLUSHES = 7  # of stirred tubing, until less than a thousandth is left of what was in it
_ASKS_AT_MIN = (8 * 60, 15 * 60 + 45)  # when the patient asks
_BOLUS_DAY, _STOP_DAY = 11, 21  # of the refill interval

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Day:
    """A day of flex. ``delivered``: (minute, nL in the stretch that ends there)."""

    therapy: Therapy
    boluses: tuple[DayBolus, ...]
    delivered: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class BridgeRun:
    """A bridge bolus. ``samples`` from its start; ``change_us``: when the pump changed over;
    ``tip_ng``: drug that left the tip, in plug flow, up to then."""

    drug: str
    samples: tuple[TipSample, ...]
    change_us: int
    tip_ng: int


def _filled(pump: Programmer, bench: Bench, therapy: Therapy) -> None:
    """Program a new pump and fill it with the therapy's drug."""
    pump.set_clock(MONDAY_S, 0)
    pump.program(therapy)
    bench.refill_reservoir(_FILL_NL, therapy.concentration_ng_ml)
    pump.refill(0, _FILL_NL, "first fill", drugs=therapy.mixture)


def flex_day(bench: Bench, tell: Tell = lambda _done, _all: None) -> Day:
    """Monday of the shipped flex prescription, the patient asking twice."""
    therapy = load(shipped()["baclofen_flex"]).therapy
    boluses: list[DayBolus] = []
    delivered: list[tuple[int, int]] = []
    with bench.programmer() as pump:
        _filled(pump, bench, therapy)
    before_pl = bench.truth()["delivered_pl"]
    for minute in range(_STRETCH_MIN, 1440 + 1, _STRETCH_MIN):
        start = minute - _STRETCH_MIN
        if start in _ASKS_AT_MIN:
            with bench.programmer("patient") as patient:
                given = patient.request_bolus().echo
            minutes = round(given["duration_us"] / MINUTE_US)
            boluses.append(DayBolus(start, given["volume_nl"], minutes, "patient"))
        bench.advance(minutes=_STRETCH_MIN)
        now_pl = bench.truth()["delivered_pl"]
        delivered.append((minute, (now_pl - before_pl) // 1000))
        before_pl = now_pl
        tell(minute, 1440)
    return Day(therapy, tuple(boluses), tuple(delivered))


def bridge_run(
    bench: Bench,
    old_ng_ml: int = 500_000,
    new_ng_ml: int = 2_000_000,
    dose_rate: str = "100 ug/day",
    after_h: int = 24,
    tell: Tell = lambda _done, _all: None,
) -> BridgeRun:
    """From one concentration to another at the same dose, through 0.316 mL of old drug."""
    new = load(shipped()["baclofen_2000"]).therapy
    path = {"tubing_nl": new.tubing_nl, "catheter_nl": new.catheter_nl}
    texts = {"dose_rate": dose_rate, "capacity": "20 mL"}
    old = replace(Therapy.simple_continuous("baclofen", f"{old_ng_ml} ng/mL", **texts), **path)
    new = replace(Therapy.simple_continuous("baclofen", f"{new_ng_ml} ng/mL", **texts), **path)
    with bench.programmer() as pump:
        _filled(pump, bench, old)
        # Until the old drug alone is at the tip, also where it mixes in the tubing.
        flushed_nl = old.path_nl + _FLUSHES * old.tubing_nl
        bench.advance(seconds=flushed_nl * 86_400 // old.rate_nl_day)
        rest_nl = bench.refill_reservoir(_FILL_NL, new_ng_ml)
        mixture = Mixture((Drug("baclofen", new_ng_ml),))
        pump.refill(rest_nl, _FILL_NL, "other concentration", drugs=mixture)
        done = pump.program(new, bridge=True)
        bridge_us = done.echo["bridge_us"]
    step_us = 72 * MINUTE_US  # whole steps at 0.2 and at 0.05 mL/day
    # When new drug that mixed in the tubing comes to the tip: it has passed the catheter.
    front_us = new.catheter_nl * DAY_US // old.rate_nl_day
    end_us = bridge_us + after_h * HOUR_US
    at_us = 0
    read = [(at_us, bench.truth())]
    while at_us < end_us:
        # Read also just then, and at the change-over.
        ends = [each for each in (front_us, bridge_us) if at_us < each < at_us + step_us]
        next_us = min([*ends, at_us + step_us])
        bench.advance(seconds=(next_us - at_us) / 1_000_000)
        at_us = next_us
        read.append((at_us, bench.truth()))
        tell(at_us, end_us)
    change_ng = next(truth["tip_ng"] for time_us, truth in read if time_us == bridge_us)
    samples = _tip_samples(read, front_us)
    return BridgeRun("baclofen", samples, bridge_us, change_ng - read[0][1]["tip_ng"])


def _tip_samples(
    read: Sequence[tuple[int, dict[str, int]]], front_us: int
) -> tuple[TipSample, ...]:
    """The tip at each instant but the last, from what the plant told then. Rate and plug flow are
    means until the next instant. What mixes changes smoothly but at ``front_us``, where it begins
    to change: it is the mean of before and after, each weighted by the other's volume."""
    samples: list[TipSample] = []
    before: tuple[Fraction, int] | None = None  # ng/mL of what mixes, volume
    for (at_us, last), (next_us, now) in pairwise(read):
        moved_pl = now["delivered_pl"] - last["delivered_pl"]
        if not moved_pl:
            continue
        plug, mixed = (
            Fraction((now[name] - last[name]) * 10**9, moved_pl)
            for name in ("tip_ng", "tip_mixed_ng")
        )
        here = mixed
        if before is not None:
            there, volume_pl = before
            here = (there * moved_pl + mixed * volume_pl) / (volume_pl + moved_pl)
            if at_us == front_us:
                here = there
        rate = round(Fraction(moved_pl * DAY_US, (next_us - at_us) * 1000))
        samples.append(TipSample(at_us, round(plug), round(here), rate))
        before = mixed, moved_pl
    return tuple(samples)


def refill_interval(
    bench: Bench, days: int = 40, tell: Tell = lambda _done, _all: None
) -> tuple[Therapy, tuple[DayDose, ...], tuple[tuple[int, str], ...]]:
    """Days of simple continuous with a bolus on one day and two hours' stop on another."""
    therapy = load(shipped()["baclofen"]).therapy
    with bench.programmer() as pump:
        _filled(pump, bench, therapy)
        doses: list[DayDose] = []
        notes = ((_BOLUS_DAY, "a bolus of 10 ug"), (_STOP_DAY, "stopped for 2 h"))
        last = bench.truth()["delivered_pl"]
        for day in range(1, days + 1):
            programmed = therapy.day_total.mass_ng
            if day == _BOLUS_DAY:
                pump.bolus("10 ug", "10 min")
                programmed += 10_000 - therapy.day_total.mass_ng * 10 / 1440
            hours = 24
            if day == _STOP_DAY:
                pump.stop()
                bench.advance(hours=2)
                pump.resume()
                hours = 22
                programmed = programmed * 22 / 24
            bench.advance(hours=hours)
            now = bench.truth()["delivered_pl"]
            mass = mass_of_volume_ng(Fraction(now - last, 1000), therapy.concentration_ng_ml)
            doses.append(DayDose(day, round(programmed), round(mass)))
            last = now
            tell(day, days)
    return therapy, tuple(doses), notes


def write_pictures(
    make_bench: Callable[[], Bench], folder: Path, tell: Tell = lambda _done, _all: None
) -> list[Path]:
    """All three stories, each on a new bench, as PNG files in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []

    def write(name: str, octets: bytes) -> None:
        path = folder / name
        path.write_bytes(octets)
        written.append(path)
        tell(len(written), 3)

    with make_bench() as bench:
        day = flex_day(bench)
    write("flex_day.png", draw_day(day.therapy, 0, day.boluses, day.delivered))
    with make_bench() as bench:
        run = bridge_run(bench)
    write("bridge.png", draw_bridge(run.samples, run.change_us, run.drug))
    with make_bench() as bench:
        therapy, doses, notes = refill_interval(bench)
    write("daily_dose.png", draw_daily_dose(doses, therapy.drug, notes))
    return written
