"""What requirement tests compare: the pulses that the bench saw, with the exact programme."""

from __future__ import annotations

import bisect
from fractions import Fraction

from cisterna.bench import Bench
from cisterna.prescription import Therapy
from cisterna.programme import ExactProgramme
from cisterna.programmer import Programmer


class Pulses:
    """The runs of pulses a virtual bench recorded: (first_us, slack, spacing, rate, count)."""

    def __init__(self, runs: list[tuple[int, int, int, int, int]]) -> None:
        self.runs = runs
        self._firsts = [run[0] for run in runs]
        self._before: list[int] = []
        total = 0
        for run in runs:
            self._before.append(total)
            total += run[4]
        self.total = total

    def instant_us(self, run: int, i: int) -> int:
        """When pulse ``i`` (from 0) of run ``run`` happened."""
        first, slack, spacing, rate, _ = self.runs[run]
        return first - (slack - i * spacing) // rate

    def count(self, time_us: int) -> int:
        """Pulses up to and including ``time_us``."""
        at = bisect.bisect_right(self._firsts, time_us) - 1
        if at < 0:
            return 0
        first, slack, spacing, rate, count = self.runs[at]
        in_run = ((time_us - first) * rate + slack) // spacing + 1
        return self._before[at] + min(in_run, count)

    def errors(
        self, programme: ExactProgramme, step_pl: int, times_us: list[int]
    ) -> list[Fraction]:
        """Asked-for minus commanded volume at each time, in steps."""
        return [
            programme.volume_pl(time_us) / step_pl - self.count(time_us) for time_us in times_us
        ]


def commission(bench: Bench, pump: Programmer, therapy: Therapy) -> int:
    """Programme ``therapy``, fill the reservoir to its capacity and tell the pump. Returns the
    bench's time in us at which delivery began."""
    pump.program(therapy)
    bench.refill_reservoir(therapy.capacity_nl)
    pump.refill(0, therapy.capacity_nl, "first fill")
    return bench.truth()["time_us"]


def refill(bench: Bench, pump: Programmer, therapy: Therapy) -> None:
    """Refill to capacity, with the volume aspirated as the measured residual."""
    aspirated_nl = bench.refill_reservoir(therapy.capacity_nl)
    pump.refill(aspirated_nl, therapy.capacity_nl)
