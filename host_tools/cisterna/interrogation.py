"""One look at a pump: who it is, what it does, its account and its prescription, read in one
session, and what follows from them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cisterna.bench import DAY_US, MINUTE_US
from cisterna.boards import board_data
from cisterna.dose import dose_rate_ng_day, number
from cisterna.energy import longevity_years
from cisterna.errors import CisternaError
from cisterna.mixture import Drug, Mixture
from cisterna.prescription import Therapy
from cisterna.programmer import (
    NEVER,
    Account,
    Alarm,
    Alarms,
    Identity,
    Outlook,
    Programmer,
    Status,
    as_data,
)
from cisterna.run_samples import forecast_low_us
from pump_wire.messages import (
    BRIDGE_BOLUS,
    FAULTS,
    FLEX,
    MODES,
    NO_BOLUS,
    PATIENT_BOLUS,
    PERIODIC_BOLUS,
    PRIMING_BOLUS,
    SINGLE_BOLUS,
    STOPPED,
)


@dataclass(frozen=True)
class Periodic:
    """Where the periodic boluses stand. ``left_nl`` and ``left_us``: what is left of the one that
    runs, and how long it takes; 0 when none runs. ``next_us``: time until the next begins; while
    one runs, at the latest, for the pump does not tell whether it came late or was interrupted.
    ``interrupted``: one has some left and goes on right after the bolus of another kind that runs;
    then nothing of the next is known, and ``next_us`` is None."""

    left_nl: int
    left_us: int
    next_us: int | None
    interrupted: bool = False


@dataclass(frozen=True)
class Interrogation:
    """``therapy``: None when nothing was ever prescribed. ``computer_s``: this computer's time,
    seconds since 1970-01-01 UTC, when ``status`` was read."""

    port: str
    identity: Identity
    status: Status
    account: Account
    therapy: Therapy | None
    computer_s: int
    alarms: Alarms
    outlook: Outlook | None = None
    reservoir: tuple[Drug, ...] = ()

    @property
    def bolus_running(self) -> bool:
        """True while a bolus of any kind takes the place of the basal rate."""
        return self.status.mode in BOLUS_MODES

    @property
    def old_drug(self) -> bool:
        """True while a bridge bolus has some left, also one that was cancelled or is stopped: the
        tip gives the drug from before, whose concentration the pump does not keep."""
        return self.outlook is not None and self.outlook.bridge != 0

    @property
    def not_prescribed(self) -> bool:
        """True while the reservoir is known to hold other drugs or concentrations than the
        prescription's."""
        return self.therapy is not None and not_prescribed(self.therapy, self.reservoir)

    @property
    def patient_obstacle(self) -> str:
        """Why a patient bolus would be refused now, in words; empty where nothing but the lockout
        and the most in 24 h may stand in the way, or none is permitted."""
        status, therapy = self.status, self.therapy
        if therapy is None or not therapy.patient_nl:
            return ""
        left_pl = self.account.residual_pl - self.account.unusable_pl
        room_nl = NEVER if self.outlook is None else self.outlook.room_nl
        if status.fault:
            return "a fault is latched"
        if self.alarms.action >= NO_BOLUS:
            return "an alarm stands"
        if status.mode == STOPPED:
            return f"the pump is stopped ({status.stopped_because})"
        if self.bolus_running:
            return f"a {status.mode_name} is running"
        if left_pl < therapy.patient_nl * 1000:
            return "the reservoir does not hold enough"
        if room_nl * 1000 < status.step_pl:
            return "a volume limit leaves no room"
        return ""

    @property
    def flex_wanted(self) -> tuple[int, int] | None:
        """The flex step that local time calls for, from 0, and the time in us until its end; None
        unless a flex step runs and the clock is set."""
        ahead, therapy, wall_s = self.outlook, self.therapy, self.status.wall_s
        if ahead is None or therapy is None or ahead.step == NO_STEP or not wall_s:
            return None
        day, second = divmod(wall_s + ahead.utc_offset_min * 60, 86_400)
        begins = [minute * 60 for minute, _ in therapy.steps((day + _THURSDAY) % 7)]
        step = sum(begin <= second for begin in begins) - 1
        end = [*begins[1:], 86_400][step]
        return step, (end - second) * 1_000_000

    @property
    def periodic(self) -> Periodic | None:
        """Where the periodic boluses stand; None where the programme has none, where it does not
        run or a volume limit holds it back, and where a bolus is as fast as what is between."""
        ahead, therapy, status = self.outlook, self.therapy, self.status
        if ahead is None or therapy is None or therapy.mode != PERIODIC_BOLUS:
            return None
        if self.bolus_running:
            if status.return_mode != PERIODIC_BOLUS:
                return None
            if ahead.next_us >= NEVER:
                return Periodic(0, 0, None, interrupted=True)
            return Periodic(0, 0, max(ahead.next_us, self.bolus_left_us))
        fast = (therapy.bolus_nl * 86_400 + therapy.bolus_s // 2) // therapy.bolus_s
        rate, between = status.rate_nl_day, therapy.rate_nl_day
        if status.mode != PERIODIC_BOLUS or fast == between or rate not in (fast, between):
            return None
        if rate == between:
            return Periodic(0, 0, ahead.next_us)
        length_us = -(-therapy.bolus_nl * DAY_US // fast)
        left_us = min(ahead.next_us, length_us)
        next_us = left_us - length_us + therapy.interval_s * 1_000_000
        left_nl = min(therapy.bolus_nl, round(Fraction(left_us * fast, DAY_US)))
        return Periodic(left_nl, left_us, max(left_us, next_us))

    @property
    def refill_in_us(self) -> int | None:
        """Time until the next refill, by the pump's own forecast: the earlier of the low mark with
        every permitted patient bolus, and the drug's stability. None: no date."""
        seen = self.outlook
        if seen is None or not self.account.refills or seen.refill_us >= NEVER:
            return None
        return seen.refill_us

    @property
    def refill_why(self) -> str:
        """What the date of the next refill comes from."""
        seen = self.outlook
        if seen is None or seen.refill_us >= NEVER:
            return "nothing is delivered, and no date of the drug is known"
        if seen.refill_us < seen.low_us:
            return "the drug's stability"
        return "low mark, all patient boluses"

    @property
    def basal_rate_nl_day(self) -> int:
        """Rate without the bolus, if one runs: what the pump delivers, or will return to."""
        if not self.bolus_running:
            return self.status.rate_nl_day
        if self.therapy is None or self.status.return_mode == STOPPED:
            return 0
        return self.therapy.basal_rate_nl_day

    @property
    def mean_rate_nl_day(self) -> int:
        """Mean of the programme over a week, periodic boluses and all, without other boluses; 0
        where the pump is stopped, or will be after the bolus that runs."""
        therapy = self.therapy
        if therapy is None or STOPPED in (self.status.mode, self.status.return_mode):
            return 0
        if therapy.mode == PERIODIC_BOLUS:
            return round(therapy.day_volume_nl(0))
        return therapy.basal_rate_nl_day

    @property
    def bolus_left_pl(self) -> int:
        """Part of the running bolus that is not given yet, a bridge bolus too."""
        if self.status.mode == BRIDGE_BOLUS and self.outlook is not None:
            return self.outlook.bridge_left_nl * 1000
        return self.status.bolus_left_pl

    @property
    def bolus_left_us(self) -> int:
        """Time until the running bolus is done; 0 when none runs."""
        rate = self.status.rate_nl_day
        if not self.bolus_running or not rate:
            return 0
        return -(-self.bolus_left_pl * DAY_US // (rate * 1000))

    @property
    def flex_local_us(self) -> int | None:
        """Local time in us since 1970-01-01, by which the steps of flex come; None in another mode
        or where the clock is not set."""
        ahead, therapy, wall_s = self.outlook, self.therapy, self.status.wall_s
        if ahead is None or therapy is None or therapy.mode != FLEX or not wall_s:
            return None
        return (wall_s + ahead.utc_offset_min * 60) * 1_000_000

    @property
    def low_in_us(self) -> int | None:
        """Time until the low mark, with no bolus but the programme's own and the running one: by
        the steps of flex where their time is known, else at the programme's mean rate. Never
        before the pump's own forecast, which is never later than what comes.

        0 when it is reached; None when nothing is delivered or no refill was ever recorded.
        """
        if not self.account.refills:
            return None
        low_mark_pl = self.account.low_mark_pl
        residual_pl = self.account.fill_pl - self.status.programmed_pl - self.bolus_left_pl
        if residual_pl <= low_mark_pl:
            return 0
        therapy, local_us = self.therapy, self.flex_local_us
        low_us = forecast_low_us(
            residual_pl, low_mark_pl, self.mean_rate_nl_day, self.bolus_left_us
        )
        if low_us is None:
            return None
        if therapy is not None and local_us is not None:
            local_us += self.bolus_left_us
            left_pl = residual_pl - low_mark_pl
            low_us = self.bolus_left_us + _by_steps_us(therapy, local_us, left_pl)
        ahead_us = NEVER if self.outlook is None else self.outlook.low_us
        return low_us if ahead_us >= NEVER else max(low_us, ahead_us)

    @property
    def longevity_years(self) -> float | None:
        """How long a new battery would last at the mean rate, by the board's model of charges;
        None where the board has none."""
        try:
            board = board_data(self.identity.board)
        except CisternaError:
            return None
        return longevity_years(board, self.mean_rate_nl_day, self.status.step_pl)

    @property
    def wall_s(self) -> int:
        """Wall time: the pump's where it is set, else this computer's."""
        return self.status.wall_s or self.computer_s

    def dose_rate_ng_day(self, rate_nl_day: int) -> Fraction | None:
        """Drug a day at a rate; None without a prescription, and of the old drug."""
        if self.therapy is None or self.old_drug:
            return None
        return dose_rate_ng_day(rate_nl_day, self.therapy.concentration_ng_ml)

    def as_data(self) -> dict[str, Any]:
        """All of it as JSON values: the raw fields of the message table, and their words."""
        status = self.status
        low_us = self.low_in_us
        fault = FAULTS.get(status.fault)
        return {
            "port": self.port,
            "identity": as_data(self.identity),
            "status": {
                **as_data(status),
                "mode_name": status.mode_name,
                "return_mode_name": MODES[status.return_mode].replace("_", " "),
                "stop_reason_name": status.stopped_because,
                "basal_rate_nl_day": self.basal_rate_nl_day,
            },
            "fault": {"name": fault[0], "text": fault[1], "remedy": fault[2]} if fault else None,
            "alarms": [alarm_data(alarm) for alarm in self.alarms.listed],
            "account": as_data(self.account),
            "prescription": therapy_data(self.therapy),
            "forecast": {
                "low_in_us": low_us,
                "low_wall_s": None if low_us is None else self.wall_s + low_us // 1_000_000,
            },
            "refill": {
                "in_us": self.refill_in_us,
                "wall_s": None
                if self.refill_in_us is None
                else self.wall_s + self.refill_in_us // 1_000_000,
                "why": self.refill_why,
            },
            "outlook": None if self.outlook is None else outlook_data(self.outlook),
            "periodic_bolus": None if self.periodic is None else as_data(self.periodic),
            "reservoir": [
                {"name": drug.name, "concentration_ng_ml": drug.concentration_ng_ml}
                for drug in self.reservoir
            ],
            "reservoir_as_prescribed": not self.not_prescribed if self.reservoir else None,
            "longevity_years": self.longevity_years,
            "computer_s": self.computer_s,
        }


NO_STEP = 255  # of an Outlook: no flex step runs
_THURSDAY = 3  # 1970-01-01; Monday is 0

# Modes in which a bolus runs, and after which the mode before goes on.
BOLUS_MODES = (SINGLE_BOLUS, PATIENT_BOLUS, PRIMING_BOLUS, BRIDGE_BOLUS)


def _by_steps_us(therapy: Therapy, local_us: int, volume_pl: int) -> int:
    """How long flex takes for a volume from ``local_us`` on, local time; rounded up."""
    week_pl = 1000 * sum((therapy.day_volume_nl(day) for day in range(7)), Fraction(0))
    weeks = int(volume_pl / week_pl)
    left = (volume_pl - weeks * week_pl) * DAY_US / 1000  # nL/day x us
    us = weeks * 7 * DAY_US
    day, at_us = divmod(local_us, DAY_US)
    while True:
        steps = therapy.steps((day + _THURSDAY) % 7)
        ends = [minute for minute, _ in steps[1:]] + [1440]
        for (_, rate), end in zip(steps, ends, strict=True):
            span_us = max(0, end * MINUTE_US - at_us)
            if left <= rate * span_us:
                return us - int(-left // rate) if left else us
            left -= rate * span_us
            us += span_us
            at_us += span_us
        day, at_us = day + 1, 0


def not_prescribed(therapy: Therapy, inside: Sequence[Drug]) -> bool:
    """True where ``inside``, none where it is not known, is not what ``therapy`` is of."""
    return bool(inside) and not therapy.mixture.is_like(Mixture(tuple(inside)))


def outlook_data(outlook: Outlook) -> dict[str, Any]:
    """What the pump knows of the therapy ahead as JSON values; null for never and for no limit."""
    return {
        name: None if isinstance(value, int) and value >= NEVER else value
        for name, value in as_data(outlook).items()
    }


def interrogate(pump: Programmer) -> Interrogation:
    """Read it all."""
    therapy = pump.prescription()
    account = pump.account()
    outlook = pump.outlook()
    reservoir = pump.reservoir()
    status = pump.status()
    now = round(time.time())
    alarms = pump.alarms()
    name = pump.session.link.name
    return Interrogation(
        name, pump.identity, status, account, therapy, now, alarms, outlook, reservoir
    )


def alarm_data(alarm: Alarm) -> dict[str, Any]:
    """One alarm as JSON values."""
    return {
        "instance": alarm.instance,
        "name": alarm.name,
        "critical": alarm.critical,
        "state": alarm.state_name,
        "age_s": alarm.age_s,
        "text": alarm.text,
        "remedy": alarm.remedy,
    }


def therapy_data(therapy: Therapy | None) -> dict[str, Any] | None:
    """A prescription as JSON values, with what 24 hours of it deliver."""
    if therapy is None:
        return None
    total = therapy.day_total
    raw = dataclasses.asdict(therapy)
    raw["week"] = list(therapy.week)
    raw["others"] = [dataclasses.asdict(drug) for drug in therapy.others]
    return {
        **raw,
        "mode_name": therapy.mode_name,
        "basal_rate_nl_day": therapy.basal_rate_nl_day,
        "day_volume_nl": number(total.volume_nl),
        "day_mass_ng": number(total.mass_ng),
        "day_with_patient_nl": number(total.volume_nl + therapy.patients_nl),
        "day_masses": therapy.mixture.masses_data(total.volume_nl),
        "day_with_patient_masses": therapy.mixture.masses_data(
            total.volume_nl + therapy.patients_nl
        ),
        "bolus_masses": therapy.mixture.masses_data(therapy.bolus_nl),
        "patient_masses": therapy.mixture.masses_data(therapy.patient_nl),
    }
