"""The drug table: how long a drug or a mixture may stay in a pump, from ``drugs.toml``.

Each number there has a source. Anything else is an override, and an override has a reason.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cisterna.errors import UsageError, quoted

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ANY_FILL = "any"
DAYS_HIGH = 366

_TABLE = Path(__file__).parent / "drugs.toml"


@dataclass(frozen=True)
class Stability:
    """``names``: the drugs, in no order; ``fill``: which fill it is of, "any" where that makes no
    difference; ``source``: where ``days`` comes from, or why it was overridden."""

    names: frozenset[str]
    fill: str
    days: int
    source: str
    overridden: bool = False


@cache
def table() -> tuple[Stability, ...]:
    """All of it. Raises ValueError for a table that breaks its own rules."""
    rows: list[dict[str, Any]] = tomllib.loads(_TABLE.read_text(encoding="utf-8"))["drug"]
    found: list[Stability] = []
    for row in rows:
        stability = Stability(frozenset(row["names"]), row["fill"], row["days"], row["source"])
        if len(stability.names) != len(row["names"]) or not stability.source.strip():
            raise ValueError(f"{_TABLE.name}: {row}")
        if not 1 <= stability.days <= DAYS_HIGH:
            raise ValueError(f"{_TABLE.name}: {row['names']} {stability.days} days")
        found.append(stability)
    return tuple(found)


def fills(names: frozenset[str]) -> list[str]:
    """The fills that the table tells apart for these drugs; none when it does not have them."""
    return [row.fill for row in table() if row.names == names]


def stability(names: frozenset[str], fill: str | None = None) -> Stability | None:
    """What the table has of these drugs, None where it has nothing.

    ``fill``: which one, needed where the table tells several apart. Raises UsageError where it is
    missing or none of them.
    """
    rows = {row.fill: row for row in table() if row.names == names}
    if not rows:
        return None
    what = " + ".join(sorted(names))
    if fill is None:
        if ANY_FILL in rows:
            return rows[ANY_FILL]
        raise UsageError(
            f"{what}: how long it is stable depends on the fill",
            remedy=f"say which one it is: {', '.join(rows)}",
        )
    if fill not in rows:
        raise UsageError(f"{what} has no fill {quoted(fill)}", remedy=f"it has: {', '.join(rows)}")
    return rows[fill]


def override(names: frozenset[str], days: int, reason: str) -> Stability:
    """Another number than the table's. Raises UsageError without a reason, or outside 1 to 366."""
    if not 1 <= days <= DAYS_HIGH:
        raise UsageError(f"stability of {days} days; allowed are 1 to {DAYS_HIGH} days")
    if not reason.strip():
        raise UsageError("a stability that is not the table's needs a reason")
    return Stability(names, ANY_FILL, days, reason.strip(), overridden=True)
