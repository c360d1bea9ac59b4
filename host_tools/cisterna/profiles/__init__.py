"""Pump profiles: kinds of pump as data, one TOML file each, a source for every number.

A profile is what a prescription may be checked against: its reservoir, the volume of its tubing
(the one home of that constant), its catheter, the rates it may run, the limits and alarms it comes
with. Rates may be in mL/h, as external pumps have them; inside they are nL/day like all others.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from cisterna import units
from cisterna.catheter import Segment
from cisterna.dose import RATE_HIGH_NL_DAY, RATE_LOW_NL_DAY, RATE_STEP_NL_DAY
from cisterna.errors import UsageError, quoted

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Profile:
    """A kind of pump. Units are in the names; ``sources``: where each number of the file comes
    from, by "table.key"."""

    name: str
    title: str
    kind: str  # "implanted" or "external"
    capacity_nl: int
    low_mark_nl: int
    unusable_nl: int
    tubing_nl: int
    place: str  # of the catheter: "intrathecal" or "epidural"
    catheter_nl_per_cm: int
    catheter_supplied_um: int
    rate_low_nl_day: int
    rate_high_nl_day: int
    rate_step_nl_day: int
    minimum_rate_nl_day: int
    hour_nl: int
    day_nl: int
    critical_every_us: int
    critical_length_us: int
    other_every_us: int
    other_length_us: int
    stopped_after_us: int
    sources: dict[str, str]

    @property
    def per_hour(self) -> bool:
        """True where rates of this pump are told in mL/h."""
        return self.kind == "external"

    def catheter(self, trimmed_um: int = 0) -> Segment:
        """Its catheter as it is supplied, with ``trimmed_um`` cut off."""
        return Segment("catheter", self.catheter_supplied_um, trimmed_um, self.catheter_nl_per_cm)


@cache
def profiles() -> dict[str, Profile]:
    """All profiles, by name. Raises ValueError for a file that breaks the rules above."""
    found = [_read(path) for path in sorted(_FOLDER.glob("*.toml"))]
    return {profile.name: profile for profile in found}


def profile(name: str) -> Profile:
    """A profile by name. Raises UsageError for one that there is not."""
    known = profiles()
    if name not in known:
        raise UsageError(
            f"there is no pump profile {quoted(name)}", remedy=f"there are: {', '.join(known)}"
        )
    return known[name]


@cache
def _largest_implanted_nl() -> int:
    return max(each.capacity_nl for each in profiles().values() if not each.per_hour)


def told_per_hour(capacity_nl: int) -> bool:
    """True where rates of a pump with this reservoir are told in mL/h too: no implanted one has
    it."""
    return capacity_nl > _largest_implanted_nl()


def _read(path: Path) -> Profile:
    document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    sources = cast("dict[str, str]", document.pop("sources"))
    texts = {
        f"{table}.{key}": text
        for table, values in document.items()
        if isinstance(values, dict)
        for key, text in cast("dict[str, str]", values).items()
    }
    place = texts.pop("catheter.place")
    if set(texts) != set(sources) or not all(source.strip() for source in sources.values()):
        raise ValueError(f"{path.name}: each number needs its source: {set(texts) ^ set(sources)}")
    volume, rate, time = units.parse_volume, units.parse_rate, units.parse_duration
    made = Profile(
        document["name"],
        document["title"],
        document["kind"],
        volume(texts["reservoir.capacity"]),
        volume(texts["reservoir.low_mark"], 1_000_000, 10_000_000),
        volume(texts["reservoir.unusable"]),
        volume(texts["tubing.volume"]),
        place,
        units.parse_volume_per_length(texts["catheter.volume_per_length"]),
        units.parse_length(texts["catheter.supplied"]),
        rate(texts["rate.lowest"], RATE_LOW_NL_DAY),
        rate(texts["rate.highest"], None, RATE_HIGH_NL_DAY),
        rate(texts["rate.step"], RATE_STEP_NL_DAY),
        rate(texts["rate.minimum"]),
        volume(texts["limits.hour"]),
        volume(texts["limits.day"]),
        time(texts["alarms.critical_every"]),
        time(texts["alarms.critical_length"]),
        time(texts["alarms.other_every"]),
        time(texts["alarms.other_length"]),
        time(texts["alarms.stopped_after"]),
        sources,
    )
    if made.kind not in ("implanted", "external") or place not in ("intrathecal", "epidural"):
        raise ValueError(f"{path.name}: {made.kind}, {place}")
    return made
