"""How long a battery would last at most, from a board's ``[energy]`` numbers. They are of the chip
alone and of another programme than MicroPython: ``BatteryLife.assumed`` says what is taken for
what, and goes wherever the years go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_HOURS_A_YEAR = 8766


@dataclass(frozen=True)
class BatteryLife:
    """``years``: waiting as the firmware does between its tasks. ``lightsleep_years``: if it slept
    instead. Neither has the motor, the regulator's loss or the battery's own discharge in it."""

    awake_share: float
    years: float
    lightsleep_years: float
    assumed: str


def battery_life(board: dict[str, Any], awake_share: float) -> BatteryLife:
    """For the board (its ``board.toml``) with the processor awake that share of the time, 0 to
    1."""
    if not 0 <= awake_share <= 1:
        raise ValueError(f"awake {awake_share} of the time: must be 0 to 1")
    energy = board["energy"]

    def years(rest_ua: int) -> float:
        mean_ua = awake_share * energy["awake_ua"] + (1 - awake_share) * rest_ua
        return energy["battery_uah"] / mean_ua / _HOURS_A_YEAR

    return BatteryLife(
        awake_share, years(energy["waiting_ua"]), years(energy["lightsleep_ua"]), _assumed(board)
    )


def _assumed(board: dict[str, Any]) -> str:
    energy = board["energy"]
    awake, waiting, lightsleep = (
        f"{energy[name] / 1000:g} mA" for name in ("awake_ua", "waiting_ua", "lightsleep_ua")
    )
    return (
        f"a battery that gives {energy['battery_uah'] / 1e6:g} Ah whatever is drawn; {awake} awake"
        f" and {waiting} waiting, which the chip takes in its boot ROM at a lower clock;"
        f" {lightsleep} in light sleep, measured by others; no motor, no loss in the regulator, no"
        f" discharge by itself. So the true times are shorter (boards/{board['name']}/board.toml,"
        " [energy])"
    )


def longevity_years(
    board: dict[str, Any],
    rate_nl_day: int,
    step_pl: int,
    *,
    tone_s_day: float = 0,
    talk_s_day: float = 60,
) -> float | None:
    """How long a new battery lasts at a rate, by the board's own charges a step, a second of tone
    and of telemetry, and at rest; None for a board that has none. A model's estimate."""
    energy: dict[str, int] = board.get("energy", {})
    if "step_uas" not in energy:
        return None
    steps_day = rate_nl_day * 1000 / step_pl
    uas_day = (
        energy["idle_ua"] * 86_400
        + energy["step_uas"] * steps_day
        + energy["tone_ua"] * tone_s_day
        + energy["talk_ua"] * talk_s_day
    )
    return energy["battery_uah"] * 3_600 / uas_day * 24 / _HOURS_A_YEAR
