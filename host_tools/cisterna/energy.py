"""How long a battery would last, from a board's ``[energy]`` numbers. The motor is not in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_HOURS_A_YEAR = 8766


@dataclass(frozen=True)
class BatteryLife:
    """``years``: waiting as the firmware does between its tasks. ``lightsleep_years``: if it slept
    instead. The battery does not discharge by itself in either."""

    awake_share: float
    years: float
    lightsleep_years: float


def battery_life(board: dict[str, Any], awake_share: float) -> BatteryLife:
    """For the board (its ``board.toml``) with the processor awake that share of the time, 0 to
    1."""
    if not 0 <= awake_share <= 1:
        raise ValueError(f"awake {awake_share} of the time: must be 0 to 1")
    energy = board["energy"]

    def years(rest_ua: int) -> float:
        mean_ua = awake_share * energy["awake_ua"] + (1 - awake_share) * rest_ua
        return energy["battery_uah"] / mean_ua / _HOURS_A_YEAR

    return BatteryLife(awake_share, years(energy["waiting_ua"]), years(energy["lightsleep_ua"]))
