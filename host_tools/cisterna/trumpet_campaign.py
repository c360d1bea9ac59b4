"""The campaign of trumpet curves (DEL-3).

Case ``trumpet:SEED:DEL-3:RATE:SOURCE:START:ANALYSIS``: a pump of its own at RATE nL/day, counted
by SOURCE (edges, rotor, scale), START minutes before the analysis period of ANALYSIS minutes.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cisterna import open_bench, trumpet, trumpet_picture
from cisterna.amounts import format_rate
from cisterna.bench import MINUTE_US, Bench
from cisterna.campaign import (
    Batch,
    Campaign,
    Evidence,
    Result,
    Setting,
    case_parts,
    failures,
    largest,
)
from cisterna.dose import RATE_HIGH_NL_DAY, RATE_LOW_NL_DAY
from cisterna.errors import UsageError, quoted
from cisterna.run_samples import minus
from cisterna.trumpet import Trumpet
from cisterna.trumpet_source import MINIMUM_RATE_NL_DAY, SOURCES, Source, measure

# (rate in nL/day, source, minutes before the analysis period, minutes of it)
_Curve = tuple[int, str, int, int]

_QUICK: tuple[_Curve, ...] = (
    (24_000_000, "edges", 60, 60),
    (1_000_000, "edges", 60, 60),
    (1_000_000, "rotor", 60, 60),
    (100_000, "edges", 60, 1_380),
    (100_000, "scale", 60, 1_380),
)
_QUICK_EMULATED: tuple[_Curve, ...] = ((1_000_000, "edges", 3, 36),)
_RATES = (MINIMUM_RATE_NL_DAY, 48_000, 100_000, 500_000, 1_000_000, 12_345_000, 24_000_000)
_ARBITRARY = 5  # rates drawn by the seed, in full


class TrumpetCurves(Campaign):
    """``rates``, ``sources``: only those, empty for the setting's own."""

    name = "trumpet"

    def __init__(
        self,
        seed: int,
        setting: Setting,
        bench: str = "virtual",
        rates: tuple[int, ...] = (),
        sources: tuple[str, ...] = (),
    ) -> None:
        super().__init__(seed, setting)
        self.bench = bench
        self.rates = rates
        self.sources = sources
        for rate in rates:
            if not (rate == MINIMUM_RATE_NL_DAY or RATE_LOW_NL_DAY <= rate <= RATE_HIGH_NL_DAY):
                raise UsageError(
                    f"no pump runs at {format_rate(rate)}",
                    f"there are {format_rate(MINIMUM_RATE_NL_DAY)} and "
                    f"{format_rate(RATE_LOW_NL_DAY)} to {format_rate(RATE_HIGH_NL_DAY)}",
                )
        for source in sources:
            if source not in SOURCES:
                raise UsageError(
                    f"nothing called {quoted(source)} counts what a pump delivers",
                    f"there are: {', '.join(SOURCES)}",
                )

    def identity(self) -> dict[str, Any]:
        more = {"rates_nl_day": list(self.rates), "sources": list(self.sources)}
        return {**super().identity(), **more}

    def _open(self) -> Bench:
        return open_bench(self.bench, seed=self.seed)

    # -- the list of cases --------------------------------------------------------------------

    def _curves(self) -> list[_Curve]:
        full = self.setting == "full"
        if not full and not self.rates:
            found = _QUICK_EMULATED if self.bench == "emulated" else _QUICK
            if not self.sources:
                return list(found)
            rates = tuple(dict.fromkeys(rate for rate, *_ in found))
        else:
            rates = self.rates or _RATES
            if not self.rates and self.bench == "virtual":
                chance = random.Random(self.seed)
                rates += tuple(
                    round(48 * 500 ** chance.random()) * 1000 for _ in range(_ARBITRARY)
                )
        sources = self.sources or (SOURCES if full and self.bench == "virtual" else ("edges",))
        curves: list[_Curve] = []
        for rate, source in itertools.product(dict.fromkeys(rates), sources):
            short = self.bench == "emulated" and rate >= trumpet.SLOW_BELOW_NL_DAY
            spans = trumpet.plan(rate, start_up_us=5 * MINUTE_US if short else None)
            curves.append(
                (rate, source, spans.start_up_us // MINUTE_US, spans.analysis_us // MINUTE_US)
            )
        return curves

    def batches(self) -> list[Batch]:
        return [
            Batch(
                (f"trumpet:{self.seed}:DEL-3:{':'.join(map(str, curve))}",),
                weight=curve[2] + curve[3] + curve[0] // 100_000,
            )
            for curve in self._curves()
        ]

    # -- running ------------------------------------------------------------------------------

    def run_batch(self, cases: tuple[str, ...], folder: Path) -> Iterator[Result]:
        for case in cases:
            found = self.curve(case)
            wrong = tuple(
                (
                    case,
                    minus(
                        f"over {window.length_us / MINUTE_US:g} min the flow is off by "
                        f"{trumpet.percent(window.worst[0])} to "
                        f"{trumpet.percent(window.worst[1])} %, an ideal pump's by "
                        f"{trumpet.percent(window.bound_low)} to "
                        f"{trumpet.percent(window.bound_high)} %"
                    ),
                )
                for window in found.windows
                if not window.holds
            )
            mean = found.windows[-1]
            figures = {
                "outside_ppm": math.ceil(found.outside * 1_000_000),
                "mean_ppm": math.ceil(max(-mean.low, mean.high) * 1_000_000),
            }
            yield Result(case, 1, wrong, figures, found.as_data())

    def curve(self, case: str) -> Trumpet:
        """Measure the curve of ``case``. Raises UsageError for an ID that names none."""
        parts = case_parts(case, self.name, 7)
        source = parts[4]
        if (
            len(parts) != 7
            or parts[2] != "DEL-3"
            or source not in SOURCES
            or not all(each.isdigit() for each in (parts[3], *parts[5:]))
        ):
            raise UsageError(
                f"{quoted(case)} names no curve", "take the ID as the campaign printed it"
            )
        self.seed = int(parts[1])
        rate, start, analysis = int(parts[3]), int(parts[5]), int(parts[6])
        spans = trumpet.plan(rate, analysis * MINUTE_US, start * MINUTE_US)
        counting: Source = source
        with self._open() as bench:
            counted = measure(bench, rate, spans, counting, self.seed)
        return trumpet.judge(counted, rate, spans)

    # -- verdicts -----------------------------------------------------------------------------

    def evidence(self, results: list[Result]) -> list[Evidence]:
        outside = (largest(results, "outside_ppm") or 0) / 10_000
        mean = (largest(results, "mean_ppm") or 0) / 10_000
        return [
            Evidence(
                "DEL-3",
                "inside the quantisation bound of an ideal pump plus 1 %",
                minus(
                    f"{len(results)} curves, worst {outside:+.4f} % from the bound (0: on it), "
                    f"mean flow off by {mean:.3f} % at most"
                ),
                not failures(results),
                self.setting == "quick",
            )
        ]

    def files(self, results: list[Result]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for result in results:
            curve = trumpet.from_data(result.data)
            source = result.case.split(":")[4]
            name = f"trumpet-{self._bench_name()}-{curve.rate_nl_day}-nl-day-{source}"
            found[f"{name}.png"] = trumpet_picture.draw(
                curve, f"{self._bench_name()} bench, {source}"
            )
            found[f"{name}.csv"] = trumpet.trumpet_csv(curve).encode()
            found[f"{name}-start-up.csv"] = trumpet.start_up_csv(curve).encode()
        return found

    def _bench_name(self) -> str:
        return Path(self.bench).stem

    def replay(self, case: str, folder: Path) -> Iterator[str]:
        found = self.curve(case)
        yield from trumpet.trumpet_csv(found).splitlines()
        name = case.replace(":", "-")
        picture = folder / f"{name}.png"
        picture.write_bytes(
            trumpet_picture.draw(found, f"{self._bench_name()} bench, {case.split(':')[4]}")
        )
        yield f"picture: {picture}"
        yield f"verdict: {'all holds' if found.holds else trumpet_picture.findings(found)[0]}"
