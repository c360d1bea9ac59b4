"""The programme as it was ordered, in exact fractions: the reference that a delivery is judged by.

It knows nothing of the pump: whoever orders a change writes it down here too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from cisterna.bench import DAY_US


@dataclass
class ExactProgramme:
    """Rate over time. ``changes``: (instant in us of the bench, rate in nL/day), in order."""

    changes: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def run(self, time_us: int, rate_nl_day: int) -> None:
        """From ``time_us`` on: ``rate_nl_day``. Raises ValueError if that is before the last
        change."""
        if self.changes and time_us < self.changes[-1][0]:
            raise ValueError(f"{time_us} us is before the last change, {self.changes[-1][0]} us")
        self.changes.append((time_us, rate_nl_day))

    def volume_pl(self, time_us: int) -> Fraction:
        """Volume asked for from the first change up to ``time_us``."""
        total = Fraction(0)
        ends = [change[0] for change in self.changes[1:]] + [time_us]
        for (start_us, rate), end_us in zip(self.changes, ends, strict=True):
            if start_us >= time_us:
                break
            total += Fraction((min(end_us, time_us) - start_us) * rate * 1000, DAY_US)
        return total
