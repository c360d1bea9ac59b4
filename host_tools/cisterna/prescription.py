"""Prescriptions: what a pump is to deliver, and the files they are kept in.

A prescription file is TOML, UTF-8, at most 16 KiB, no line over 1,000 characters::

    # A bench and teaching model. Not a medical device; never for use on people or animals.
    format = 1                      # version of this layout, always 1

    [drug]
    name = "baclofen"               # 1 to 24 octets of UTF-8
    concentration = "500 ug/mL"     # 1 ng/mL to 1,000,000 mg/mL

    [therapy]
    mode = "simple continuous"      # or "minimum rate" or "stopped"
    dose_rate = "100 ug/day"        # simple continuous only; either this
    # rate = "0.2 mL/day"           # or this: 0.048 to 24 mL/day in 0.001 mL/day

    [reservoir]
    low_mark = "2 mL"               # 1 to 10 mL, below capacity; 2 mL when left out
    capacity = "20 mL"              # 1 to 500 mL

Quantities are text with a unit, read by ``cisterna.units``. A ``dose_rate`` becomes the nearest
programmable rate, and the loader's ``notes`` tell when that is not the same dose rate; a ``rate``
must be programmable as it stands. Unknown keys are refused. Keep the order: what is required comes
last (``capacity``), so that a file cut short anywhere is refused and never read as another
prescription.

Ranges of concentration, rate, capacity and low mark are those of SET_PRESCRIPTION in the message
table, with the pump's range of rates (``cisterna.dose``).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import sys
from binascii import crc32
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from struct import calcsize, pack, unpack_from
from typing import Any, cast

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from cisterna import units
from cisterna.amounts import (
    format_concentration,
    format_dose_rate,
    format_field,
    format_rate,
    format_volume_nl,
)
from cisterna.dose import (
    MINIMUM_RATE_NL_DAY,
    RATE_HIGH_NL_DAY,
    RATE_LOW_NL_DAY,
    RATE_STEP_NL_DAY,
    AchievableRate,
    DayTotal,
    achievable_rate,
    dose_rate_ng_day,
    mass_of_volume_ng,
)
from cisterna.drugs import Stability, fills
from cisterna.errors import UsageError, quoted
from cisterna.mixture import MOST_DRUGS, Drug, Mixture
from pump_wire.messages import (
    DRUG_FORMAT,
    DRUG_PARTS,
    FLEX,
    MINIMUM_RATE,
    MODES,
    PATTERNS,
    PERIODIC_BOLUS,
    SET_PRESCRIPTION,
    SIMPLE_CONTINUOUS,
    STABILITY_PART,
    STEP_FORMAT,
    STEPS_A_DAY,
    STOPPED,
)

FORMAT = 1
FORMATS = (1, 2)
MAX_FILE = 16 * 1024  # octets
MAX_LINE = 1_000  # characters; keeps every number in a file one that Python will print
DEFAULT_LOW_MARK = "2 mL"

# The sentence every prescription file begins with.
NOTICE = "A bench and teaching model. Not a medical device; never for use on people or animals."

# What a file of format 1 may say.
MODE_NAMES = {
    mode: MODES[mode].replace("_", " ") for mode in (SIMPLE_CONTINUOUS, MINIMUM_RATE, STOPPED)
}
ALL_MODE_NAMES = {
    **MODE_NAMES,
    **{mode: MODES[mode].replace("_", " ") for mode in (FLEX, PERIODIC_BOLUS)},
}
_DAY_S = 86_400
_DAY_MIN = 1_440
# How far the pump looks back for the most in an hour and in a day, and what it adds to that.
_HOUR_LOOK_S = 3_600 + 2 * 600
_DAY_LOOK_S = _DAY_S + 2 * 3_600
_LIMIT_SLACK_NL = 4_000
_MOST_WHY = STEPS_A_DAY * calcsize(STEP_FORMAT)  # octets of a part

# Steps of a flex pattern: minute of the day it begins at, rate in nL/day.
Pattern = tuple[tuple[int, int], ...]

_FOLDER = Path(__file__).parent / "prescriptions"

_LIMITS = {
    name: (low, high)
    for name, _, low, high, _ in SET_PRESCRIPTION.request
    if low is not None and high is not None
}
_DRUG_OCTETS = next(int(kind[1:]) for name, kind, *_ in SET_PRESCRIPTION.request if name == "drug")

# Table, or "" for the top: key: True if it must be there.
_KEYS: dict[str, dict[str, bool]] = {
    "": {"format": True, "drug": True, "therapy": True, "reservoir": True},
    "drug": {"name": True, "concentration": True},
    "therapy": {"mode": True, "dose_rate": False, "rate": False},
    "reservoir": {"low_mark": False, "capacity": True},
}

# Field of Therapy: where a file has it. The rate may also be at therapy.dose_rate.
_PLACES = {
    "drug": ("drug", "name"),
    "concentration_ng_ml": ("drug", "concentration"),
    "mode": ("therapy", "mode"),
    "rate_nl_day": ("therapy", "rate"),
    "capacity_nl": ("reservoir", "capacity"),
    "low_mark_nl": ("reservoir", "low_mark"),
}


class TherapyError(UsageError):
    """A therapy no pump can run. ``field``: the field of Therapy at fault."""

    def __init__(self, field: str, message: str, remedy: str | None = None) -> None:
        super().__init__(message, remedy)
        self.field = field


class PrescriptionError(UsageError):
    """A prescription file that cannot be used. ``source``: the file; ``line``: 1 on, None when the
    fault is at no line."""

    def __init__(
        self, source: str, line: int | None, problem: str, remedy: str | None = None
    ) -> None:
        where = source if line is None else f"{source}, line {line}"
        super().__init__(f"{where}: {problem}", remedy)
        self.source = source
        self.line = line


@dataclass(frozen=True)
class Therapy:
    """What a pump is to deliver: the fields of SET_PRESCRIPTION, checked as the pump checks them.

    ``mode`` is STOPPED, MINIMUM_RATE, SIMPLE_CONTINUOUS, FLEX or PERIODIC_BOLUS of the message
    table; ``rate_nl_day`` is the basal rate of SIMPLE_CONTINUOUS, that between the boluses of
    PERIODIC_BOLUS, else 0. ``week``: number of the pattern of each day, Monday first; with
    ``patterns`` only in FLEX. ``others``: the second to fourth drug. ``stable_why``: whose word
    ``stable_until_s`` is, where it is not the drug table's; 52 octets at most. 0 is "not used" for
    all that have it as their default. Raises TherapyError for values no pump can run; the volume
    limits are the pump's to check.
    """

    drug: str
    concentration_ng_ml: int
    mode: int
    rate_nl_day: int
    capacity_nl: int
    low_mark_nl: int
    bolus_nl: int = 0
    bolus_s: int = 0
    interval_s: int = 0
    patient_nl: int = 0
    patient_s: int = 0
    lockout_s: int = 0
    patient_max: int = 0
    hour_nl: int = 0
    day_nl: int = 0
    soft_day_nl: int = 0
    soft_bolus_nl: int = 0
    tubing_nl: int = 0
    catheter_nl: int = 0
    stable_until_s: int = 0
    week: bytes = bytes(7)
    patterns: tuple[Pattern, ...] = ()
    others: tuple[Drug, ...] = ()
    stable_why: str = ""

    def __post_init__(self) -> None:
        self._check_drug(self.drug)
        if self.mode not in ALL_MODE_NAMES:
            raise TherapyError(
                "mode", f"mode {self.mode} is none of {_mode_list(ALL_MODE_NAMES.values())}"
            )
        self._check_range("concentration_ng_ml")
        self._check_others()
        self._check_rate()
        self._check_flex()
        self._check_periodic()
        self._check_patient()
        self._check_stability()
        for field in _LIMITS:
            if hasattr(self, field) and field not in ("rate_nl_day", "mode"):
                self._check_range(field)
        if self.low_mark_nl >= self.capacity_nl:
            raise TherapyError(
                "low_mark_nl",
                f"low_mark {format_volume_nl(self.low_mark_nl)} is not below the capacity, "
                f"{format_volume_nl(self.capacity_nl)}",
            )

    @classmethod
    def simple_continuous(
        cls,
        drug: str,
        concentration: str,
        *,
        capacity: str,
        dose_rate: str | None = None,
        rate: str | None = None,
        low_mark: str = DEFAULT_LOW_MARK,
    ) -> Therapy:
        """A basal rate, given as text: exactly one of ``dose_rate`` and ``rate``.

        A dose rate becomes the nearest programmable rate; ``dose.achievable_rate`` tells the
        difference. Raises QuantityError or TherapyError.
        """
        if (dose_rate is None) == (rate is None):
            raise TherapyError("rate_nl_day", "give exactly one of dose_rate and rate")
        concentration_ng_ml = _parse_concentration(concentration)
        if dose_rate is not None:
            rate_nl_day = programmable(dose_rate, concentration_ng_ml).rate_nl_day
        else:
            rate_nl_day = _parse_rate(cast("str", rate))
        return cls(
            drug,
            concentration_ng_ml,
            SIMPLE_CONTINUOUS,
            rate_nl_day,
            _parse_capacity(capacity),
            _parse_low_mark(low_mark),
        )

    @classmethod
    def minimum_rate(
        cls, drug: str, concentration: str, *, capacity: str, low_mark: str = DEFAULT_LOW_MARK
    ) -> Therapy:
        """0.006 mL/day, the least that keeps a catheter open. Raises as ``simple_continuous``."""
        return cls._without_rate(MINIMUM_RATE, drug, concentration, capacity, low_mark)

    @classmethod
    def stopped(
        cls, drug: str, concentration: str, *, capacity: str, low_mark: str = DEFAULT_LOW_MARK
    ) -> Therapy:
        """No delivery. Raises as ``simple_continuous``."""
        return cls._without_rate(STOPPED, drug, concentration, capacity, low_mark)

    @classmethod
    def _without_rate(
        cls, mode: int, drug: str, concentration: str, capacity: str, low_mark: str
    ) -> Therapy:
        return cls(
            drug,
            _parse_concentration(concentration),
            mode,
            0,
            _parse_capacity(capacity),
            _parse_low_mark(low_mark),
        )

    # -- what it amounts to -------------------------------------------------------------------

    @property
    def mode_name(self) -> str:
        """Mode in words."""
        return ALL_MODE_NAMES[self.mode]

    @property
    def mixture(self) -> Mixture:
        """All its drugs; the first is the one doses are told by."""
        return Mixture((Drug(self.drug, self.concentration_ng_ml), *self.others))

    @property
    def basal_rate_nl_day(self) -> int:
        """Rate without boluses, in nL/day; of flex the mean of its week, nearest nL/day."""
        if self.mode == FLEX:
            return round(sum((self.day_volume_nl(d) for d in range(7)), Fraction(0)) / 7)
        return MINIMUM_RATE_NL_DAY if self.mode == MINIMUM_RATE else self.rate_nl_day

    def steps(self, weekday: int) -> Pattern:
        """Steps of a day, 0 Monday; one from midnight on unless the mode is flex."""
        if self.mode != FLEX:
            return ((0, self.basal_rate_nl_day),)
        return self.patterns[self.week[weekday]]

    def day_volume_nl(self, weekday: int) -> Fraction:
        """Volume of a day, 0 Monday, with periodic boluses and without patient boluses."""
        if self.mode == PERIODIC_BOLUS:
            gap = Fraction(self.rate_nl_day * (self.interval_s - self.bolus_s), _DAY_S)
            return (self.bolus_nl + gap) * _DAY_S / self.interval_s
        steps = self.steps(weekday)
        ends = [minute for minute, _ in steps[1:]] + [_DAY_MIN]
        return Fraction(
            sum(rate * (end - at) for (at, rate), end in zip(steps, ends, strict=True)), _DAY_MIN
        )

    @property
    def day_total(self) -> DayTotal:
        """Volume and first drug that 24 hours without patient boluses deliver; the largest day."""
        volume = max(self.day_volume_nl(weekday) for weekday in range(7))
        return DayTotal(volume, mass_of_volume_ng(volume, self.concentration_ng_ml))

    @property
    def total_nl(self) -> int:
        """Volume of the largest day as the pump counts it: nearest nL, half upwards."""
        return int(self.day_total.volume_nl + Fraction(1, 2))

    @property
    def patients_nl(self) -> int:
        """Most that patient boluses can add in 24 h."""
        if not self.patient_nl:
            return 0
        return self.patient_nl * min(self.patient_max, -(-_DAY_S // self.lockout_s))

    def most_nl(self, span_s: int) -> int:
        """Most that the basal programme gives in any ``span_s`` seconds, as the pump counts it:
        rounded up. Up to a week."""
        if self.mode == PERIODIC_BOLUS:
            whole, rest = divmod(span_s, self.interval_s)
            rate = (self.bolus_nl * _DAY_S + self.bolus_s // 2) // self.bolus_s
            part = min(self.bolus_nl, -(-rest * rate // _DAY_S))
            return whole * self.bolus_nl + part - (-self.rate_nl_day * span_s // _DAY_S)
        if self.mode != FLEX:
            return -(-self.basal_rate_nl_day * span_s // _DAY_S)
        edges = [
            ((day * _DAY_MIN + minute) * 60, rate)
            for day in range(14)
            for minute, rate in self.steps(day % 7)
        ]
        begins = [at for at, _ in edges]
        before = [0]  # given up to each edge, in nL/day x s
        for (at, rate), (end, _) in pairwise([*edges, (14 * _DAY_S, 0)]):
            before.append(before[-1] + rate * (end - at))

        def given(until_s: int) -> int:
            last = bisect_right(begins, until_s) - 1
            return before[last] + edges[last][1] * (until_s - begins[last])

        # The most is in a span that begins or ends where a step does.
        starts = {*begins, *(at - span_s for at in begins)}
        inside = [start for start in starts if 0 <= start <= 14 * _DAY_S - span_s]
        return -(-max(given(start + span_s) - given(start) for start in inside) // _DAY_S)

    @property
    def least_limits_nl(self) -> dict[str, int]:
        """The least that the pump takes as hour_nl and day_nl: what the basal programme gives in
        the time that it looks back over, and a little."""
        return {
            "hour_nl": self.most_nl(_HOUR_LOOK_S) + _LIMIT_SLACK_NL,
            "day_nl": self.most_nl(_DAY_LOOK_S) + _LIMIT_SLACK_NL,
        }

    @property
    def path_nl(self) -> int:
        """Volume of tubing and catheter, 0 when neither is known."""
        return self.tubing_nl + self.catheter_nl

    # -- as the wire has it -------------------------------------------------------------------

    @property
    def parts(self) -> dict[int, bytes]:
        """Octets by their part number in the message table: flex patterns, further drugs, and
        whose word the stability is."""
        found = {
            number: b"".join(pack(STEP_FORMAT, minute, rate // 1000) for minute, rate in pattern)
            for number, pattern in enumerate(self.patterns)
        }
        for number, drug in enumerate(self.others, DRUG_PARTS):
            found[number] = drug_octets(drug)
        if self.stable_why:
            found[STABILITY_PART] = self.stable_why.encode()
        return found

    def values(self) -> dict[str, Any]:
        """The fields of SET_PRESCRIPTION's prescription."""
        names = (name for name, *_ in SET_PRESCRIPTION.request)
        known = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return {**known, "parts_crc": parts_crc(self.parts)}

    @classmethod
    def of_values(cls, values: Mapping[str, Any], parts: Mapping[int, bytes]) -> Therapy:
        """The therapy that ``values`` and ``parts`` tell: the reverse of ``values``."""
        names = (field.name for field in dataclasses.fields(cls))
        known = {name: values[name] for name in names if name in values}
        patterns = tuple(
            tuple(
                (minute, rate * 1000)
                for minute, rate in (
                    unpack_from(STEP_FORMAT, octets, at) for at in range(0, len(octets), 4)
                )
            )
            for octets in (parts.get(number, b"") for number in range(PATTERNS))
            if octets
        )
        others = tuple(
            drug_of_octets(parts[number])
            for number in range(DRUG_PARTS, DRUG_PARTS + MOST_DRUGS - 1)
            if parts.get(number)
        )
        why = parts.get(STABILITY_PART, b"").decode(errors="replace")
        return cls(**known, patterns=patterns, others=others, stable_why=why)

    # -- checks -------------------------------------------------------------------------------

    @staticmethod
    def _check_drug(name: str) -> None:
        octets = len(name.encode(errors="replace"))
        if not 1 <= octets <= _DRUG_OCTETS:
            raise TherapyError(
                "drug",
                f"name {quoted(name)} has {octets} octets, allowed are 1 to {_DRUG_OCTETS}",
            )
        if not name.isprintable() or name != name.strip():
            raise TherapyError(
                "drug",
                f"name {quoted(name)} has unprintable characters or blanks at its ends",
            )

    def _check_range(self, field: str, value: int | None = None) -> None:
        amount: int = getattr(self, field) if value is None else value
        low, high = _LIMITS[field]
        name = _PLACES[field][1] if field in _PLACES else units.field_label(field)
        written = f"{name} {format_field(field, amount)}"
        if amount < low:
            beyond, limit = "below the lowest", low
        elif amount > high:
            beyond, limit = "above the highest", high
        else:
            return
        raise TherapyError(field, f"{written} is {beyond} allowed, {format_field(field, limit)}")

    def _check_stability(self) -> None:
        octets = len(self.stable_why.encode(errors="replace"))
        if octets > _MOST_WHY:
            written = quoted(self.stable_why)
            raise TherapyError(
                "stable_why",
                f"the reason {written} has {octets} octets, allowed are {_MOST_WHY}",
                remedy="say it shorter: a pump keeps no more",
            )

    def _check_others(self) -> None:
        for drug in self.others:
            self._check_drug(drug.name)
            if not isinstance(drug.concentration_ng_ml, int):
                raise TherapyError("others", f"{quoted(drug.name)} has no whole ng/mL")
            self._check_range("concentration_ng_ml", drug.concentration_ng_ml)
        try:
            _ = self.mixture
        except UsageError as error:
            raise TherapyError("others", str(error), error.remedy) from error

    def _check_flex(self) -> None:
        if self.mode != FLEX:
            if self.patterns or self.week != bytes(7):
                raise TherapyError("week", f"steps do not go with the mode {self.mode_name}")
            return
        if len(self.week) != 7 or not self.patterns or len(self.patterns) > PATTERNS:
            raise TherapyError(
                "week", f"flex needs 7 days and 1 to {PATTERNS} patterns, Monday first"
            )
        if set(self.week) != set(range(len(self.patterns))):
            raise TherapyError("week", "a day without its pattern, or a pattern without a day")
        for pattern in self.patterns:
            minutes = [minute for minute, _ in pattern]
            if not 1 <= len(pattern) <= STEPS_A_DAY:
                raise TherapyError(
                    "patterns", f"{len(pattern)} steps a day; allowed are 1 to {STEPS_A_DAY}"
                )
            if minutes[0] or minutes != sorted(set(minutes)) or minutes[-1] >= _DAY_MIN:
                raise TherapyError(
                    "patterns", "steps of a day begin at 00:00 and go on in the order of time"
                )
            for _, rate in pattern:
                self._check_programmable("patterns", rate, MINIMUM_RATE_NL_DAY)

    def _check_bolus(self, volume: str, duration: str, floor_nl_day: int) -> None:
        """A bolus in two fields can be given, and is no slower than ``floor_nl_day``."""
        volume_nl, duration_s = getattr(self, volume), getattr(self, duration)
        for field, value in ((volume, volume_nl), (duration, duration_s)):
            if value < 1:
                raise TherapyError(
                    field, f"{units.field_label(field)} of nothing: {format_field(field, value)}"
                )
        rate = (volume_nl * _DAY_S + duration_s // 2) // duration_s
        written = f"{format_volume_nl(volume_nl)} over {format_field(duration, duration_s)}"
        if rate > RATE_HIGH_NL_DAY:
            raise TherapyError(
                duration,
                f"{written} needs {format_rate(rate)}, above the highest rate, "
                f"{format_rate(RATE_HIGH_NL_DAY)}",
                remedy="give it more time",
            )
        if rate < floor_nl_day:
            raise TherapyError(
                duration,
                f"{written} is {format_rate(rate)}, slower than the rate it takes the place of, "
                f"{format_rate(floor_nl_day)}",
                remedy="give it less time",
            )

    def _check_periodic(self) -> None:
        if self.mode != PERIODIC_BOLUS:
            if self.bolus_nl or self.bolus_s or self.interval_s:
                raise TherapyError(
                    "bolus_nl", f"a periodic bolus does not go with the mode {self.mode_name}"
                )
            return
        self._check_bolus("bolus_nl", "bolus_s", self.rate_nl_day)
        if self.interval_s <= self.bolus_s:
            raise TherapyError(
                "interval_s",
                f"interval {format_field('interval_s', self.interval_s)} is not longer than the "
                f"bolus, {format_field('bolus_s', self.bolus_s)}",
            )

    def _check_patient(self) -> None:
        if not self.patient_nl:
            if self.patient_s or self.lockout_s or self.patient_max:
                raise TherapyError("patient_nl", "a patient bolus of no volume")
            return
        self._check_bolus("patient_nl", "patient_s", 1)
        if self.lockout_s <= self.patient_s:
            raise TherapyError(
                "lockout_s",
                f"lockout {format_field('lockout_s', self.lockout_s)} is not longer than the "
                f"bolus, {format_field('patient_s', self.patient_s)}",
            )
        if not self.patient_max:
            raise TherapyError("patient_max", "patient bolus: at most none in 24 h")

    def _check_rate(self) -> None:
        rate = self.rate_nl_day
        if self.mode == PERIODIC_BOLUS:
            self._check_programmable("rate_nl_day", rate, MINIMUM_RATE_NL_DAY)
        elif self.mode == SIMPLE_CONTINUOUS:
            self._check_programmable("rate_nl_day", rate, RATE_LOW_NL_DAY)
        elif rate:
            raise TherapyError(
                "rate_nl_day",
                f"rate {format_rate(rate)} does not go with the mode {self.mode_name}",
            )

    @staticmethod
    def _check_programmable(field: str, rate: int, least: int) -> None:
        """``rate`` is ``least``, or one of the programmable rates."""
        written = f"rate {format_rate(rate)}"
        if rate == least:
            return
        if rate < RATE_LOW_NL_DAY:
            limit = f"below the lowest allowed, {format_rate(least)}"
            if rate > least:
                limit = f"between {format_rate(least)} and {format_rate(RATE_LOW_NL_DAY)}"
            raise TherapyError(field, f"{written} is {limit}")
        if rate > RATE_HIGH_NL_DAY:
            limit = f"above the highest allowed, {format_rate(RATE_HIGH_NL_DAY)}"
            raise TherapyError(field, f"{written} is {limit}")
        if rate % RATE_STEP_NL_DAY:
            below = rate - rate % RATE_STEP_NL_DAY
            step = format_rate(RATE_STEP_NL_DAY)
            raise TherapyError(
                field,
                f"{written} is no multiple of the programmable step, {step}",
                remedy=f"the nearest are {format_rate(below)} and "
                f"{format_rate(below + RATE_STEP_NL_DAY)}",
            )


def drug_octets(drug: Drug) -> bytes:
    """A drug as a part of the message table has it."""
    return pack(DRUG_FORMAT, int(drug.concentration_ng_ml)) + drug.name.encode()


def drug_of_octets(octets: bytes) -> Drug:
    """The reverse of ``drug_octets``."""
    return Drug(octets[8:].decode("utf-8", "replace"), unpack_from(DRUG_FORMAT, octets)[0])


def parts_crc(parts: Mapping[int, bytes]) -> int:
    """What the pump names staged parts by; 0 for none."""
    return crc32(b"".join(bytes((n, len(parts[n]))) + parts[n] for n in sorted(parts) if parts[n]))


@dataclass(frozen=True)
class LoadedPrescription:
    """A prescription file, read. ``wanted``: the file's dose rate against the programmable one,
    None where it has none; ``notes``: what to tell the user about the difference; ``stability``:
    how long its drugs may stay in a pump from the refill on, None when the file does not say;
    ``profile``: kind of pump it is for, None when it does not say."""

    therapy: Therapy
    wanted: AchievableRate | None
    notes: tuple[str, ...]
    stability: Stability | None = None
    profile: str | None = None


def shipped() -> dict[str, Path]:
    """Prescription files that come with Cisterna, by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}


def load(path: str | Path) -> LoadedPrescription:
    """Read a prescription file. Raises PrescriptionError naming the file and, if any, the line."""
    source = str(path)
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise PrescriptionError(source, None, f"cannot be read: {error.strerror}") from error
    if len(raw) > MAX_FILE:
        problem = f"is longer than a prescription may be, {MAX_FILE} octets"
        raise PrescriptionError(source, None, problem)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PrescriptionError(source, line, "is not UTF-8 text") from error
    return loads(text, source)


def loads(text: str, source: str = "prescription") -> LoadedPrescription:
    """Read the text of a prescription file; ``source`` is what messages call it."""
    reader = Reader(text, source)
    document = reader.document()
    # The version first: another version may have any keys.
    if reader.version(document) == 2:
        from cisterna.prescription_v2 import read

        loaded = read(reader, document)
    else:
        loaded = reader.read(document)
    notes = (*loaded.notes, *_stability_notes(loaded))
    return dataclasses.replace(loaded, notes=notes)


def _stability_notes(loaded: LoadedPrescription) -> Iterator[str]:
    """What to tell of a stability that is nobody's word."""
    therapy = loaded.therapy
    if loaded.stability is not None or therapy.stable_why:
        return
    if therapy.stable_until_s:
        yield (
            "the drug's stability is a date without a reason, as a pump tells the drug table's: "
            "if it is another, give the reason in [stability]"
        )
        return
    names = frozenset(drug.name for drug in therapy.mixture.drugs)
    if not fills(names):
        yield (
            f"the drug table does not have {' + '.join(sorted(names))}, so the pump will know no "
            "date at which it expires: give days and a reason in [stability]"
        )


def dumps(therapy: Therapy) -> str:
    """The text of a prescription file that loads as ``therapy``: format 1 where that can say all
    of it, else format 2."""
    plain = (therapy.drug, therapy.concentration_ng_ml, therapy.mode, therapy.rate_nl_day)
    if therapy.mode not in MODE_NAMES or therapy != Therapy(
        *plain, therapy.capacity_nl, therapy.low_mark_nl
    ):
        from cisterna.prescription_v2 import dumps as dumps_v2

        return dumps_v2(therapy)
    lines = [
        f"# {NOTICE}",
        f"format = {FORMAT}",
        "",
        "[drug]",
        f"name = {json.dumps(therapy.drug, ensure_ascii=False)}",
        f'concentration = "{format_concentration(therapy.concentration_ng_ml)}"',
        "",
        "[therapy]",
        f'mode = "{therapy.mode_name}"',
    ]
    if therapy.mode == SIMPLE_CONTINUOUS:
        dose_rate = format_dose_rate(therapy.day_total.mass_ng)
        lines.append(f'rate = "{format_rate(therapy.rate_nl_day)}"  # {dose_rate}')
    lines += [
        "",
        "[reservoir]",
        f'low_mark = "{format_volume_nl(therapy.low_mark_nl)}"',
        f'capacity = "{format_volume_nl(therapy.capacity_nl)}"',
    ]
    return "\n".join(lines) + "\n"


def _parse_concentration(text: str) -> int:
    return units.parse_concentration(text, *_LIMITS["concentration_ng_ml"])


def _parse_rate(text: str) -> int:
    return units.parse_rate(text, RATE_LOW_NL_DAY, RATE_HIGH_NL_DAY)


def _parse_capacity(text: str) -> int:
    return units.parse_volume(text, *_LIMITS["capacity_nl"], name="capacity")


def _parse_low_mark(text: str) -> int:
    return units.parse_volume(text, *_LIMITS["low_mark_nl"], name="low_mark")


def programmable(dose_rate: str, concentration_ng_ml: int) -> AchievableRate:
    """The rate nearest to ``dose_rate``. Raises TherapyError when that is outside the range."""
    wanted = units.parse_dose_rate(dose_rate, low_ng_day=1, name="dose_rate")
    rate = achievable_rate(wanted, concentration_ng_ml)
    if rate.wanted_rate_nl_day < RATE_LOW_NL_DAY:
        beyond, limit = "below the lowest", RATE_LOW_NL_DAY
    elif rate.wanted_rate_nl_day > RATE_HIGH_NL_DAY:
        beyond, limit = "above the highest", RATE_HIGH_NL_DAY
    else:
        return rate
    limit_dose = format_dose_rate(dose_rate_ng_day(limit, concentration_ng_ml))
    raise TherapyError(
        "rate_nl_day",
        f'dose_rate "{dose_rate}" at {format_concentration(concentration_ng_ml)} needs '
        f"{format_rate(rate.wanted_rate_nl_day, digits=6)}, {beyond} rate allowed, "
        f"{format_rate(limit)} ({limit_dose} at this concentration)",
    )


def note_of(wanted: AchievableRate) -> str:
    """What to tell of a dose rate that is not programmable as it stands."""
    percent = units.exact_decimal(100 * wanted.relative_error, digits=3)
    sign = "+" if wanted.error_ng_day > 0 else ""
    asked, given = wanted.wanted_dose_rate_ng_day, wanted.dose_rate_ng_day
    return (
        f"dose rate {format_dose_rate(asked)} is not programmable; the nearest rate, "
        f"{format_rate(wanted.rate_nl_day)}, gives {format_dose_rate(given)} ({sign}{percent} %)"
    )


def _mode_list(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def as_written(value: object) -> str:
    """A value of a file as messages repeat it."""
    return quoted(value if isinstance(value, str) else json.dumps(value, default=str))


class Reader:
    """One pass over the text of a prescription file."""

    def __init__(self, text: str, source: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._lines = self._text.split("\n")
        self._source = source

    def read(self, document: Mapping[str, Any]) -> LoadedPrescription:
        """A document of format 1."""
        self.check_keys("", document, _KEYS[""])
        tables = {name: self.table(document, name) for name in _KEYS if name}
        for name, table in tables.items():
            self.check_keys(name, table, _KEYS[name])
        return self._therapy(tables["drug"], tables["therapy"], tables["reservoir"])

    def document(self) -> dict[str, Any]:
        if not self._text.strip():
            raise self.error(None, "is empty", "a prescription begins with: format = 1")
        for number, line in enumerate(self._lines, 1):
            if len(line) > MAX_LINE:
                raise self.error(number, f"{len(line)} characters; at most {MAX_LINE} are allowed")
        try:
            return tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            text = str(error)
            at = re.search(r" \(at line (\d+), column (\d+)\)$", text)
            reason = re.sub(r" \(at .*\)$", "", text)
            if at is None:  # at the end of the document
                problem = f"the file ends here, incomplete: {reason}"
                raise self.error(self.end(), problem, "is it cut short?") from error
            line = int(at[1])
            problem = f"{quoted(self._lines[line - 1].strip())} is no TOML: {reason}"
            remedy = "is it cut short?" if line >= self.end() else None
            raise self.error(line, problem, remedy) from error
        except RecursionError as error:
            raise self.error(None, "is nested too deeply for a prescription") from error

    def version(self, document: Mapping[str, Any]) -> int:
        """Version of the layout. Raises PrescriptionError for one that is not known."""
        if "format" not in document:
            raise self.error(1, "the file has no format", f"its first line: format = {FORMAT}")
        version = document["format"]
        if type(version) is int and version in FORMATS:
            return version
        known = " and ".join(str(known) for known in FORMATS)
        raise self.error(
            self.line("format"),
            f"format {as_written(version)} is not known; this programmer reads format {known}",
        )

    def table(self, document: Mapping[str, Any], name: str) -> dict[str, Any]:
        table = document[name]
        if isinstance(table, dict):
            return cast("dict[str, Any]", table)
        raise self.error(self.line(name), f"{name} is a value; it must be a table, [{name}]")

    def check_keys(
        self,
        table: str,
        values: Mapping[str, Any],
        known: Mapping[str, bool],
        at: tuple[str | int, ...] = (),
    ) -> None:
        """Raise PrescriptionError for a key that is not known, or one that is missing. ``at``:
        keys that lead to ``values`` where that is not ``table``."""
        where = f" in [{table}]" if table else ""
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                remedy = f"did you mean {near[0]}?" if near else f"keys{where}: {', '.join(known)}"
                line = self.line(*(at or filter(None, (table,))), key)
                raise self.error(line, f"unknown key {quoted(key)}{where}", remedy)
        for key, required in known.items():
            if required and key not in values:
                raise self.missing(table, key, "is the file cut short?", at)

    def _therapy(
        self, drug: Mapping[str, Any], therapy: Mapping[str, Any], reservoir: Mapping[str, Any]
    ) -> LoadedPrescription:
        mode = self._mode(therapy)
        name = drug["name"]
        if not isinstance(name, str):
            raise self.error(
                self.line("drug", "name"), f"name {as_written(name)} is not text in quotes"
            )
        concentration = self.quantity(_parse_concentration, drug, "drug", "concentration")
        rate, wanted, rate_key = self._rate(mode, therapy, concentration)
        low_mark = self.quantity(
            _parse_low_mark, {"low_mark": DEFAULT_LOW_MARK, **reservoir}, "reservoir", "low_mark"
        )
        capacity = self.quantity(_parse_capacity, reservoir, "reservoir", "capacity")
        places = _PLACES | {"rate_nl_day": ("therapy", rate_key)}
        if "low_mark" not in reservoir:
            places["low_mark_nl"] = ("reservoir", "capacity")
        try:
            built = Therapy(name, concentration, mode, rate, capacity, low_mark)
        except TherapyError as error:
            line = self.line(*places[error.field])
            raise self.error(line, str(error), error.remedy) from error
        notes = () if wanted is None or wanted.exact else (note_of(wanted),)
        return LoadedPrescription(built, wanted, notes)

    def _mode(self, therapy: Mapping[str, Any]) -> int:
        wanted = therapy["mode"]
        for mode, name in MODE_NAMES.items():
            if wanted == name:
                return mode
        near = difflib.get_close_matches(str(wanted), MODE_NAMES.values(), 1)
        raise self.error(
            self.line("therapy", "mode"),
            f"mode {as_written(wanted)} is none of {_mode_list(MODE_NAMES.values())}",
            f'did you mean "{near[0]}"?' if near else None,
        )

    def _rate(
        self, mode: int, therapy: Mapping[str, Any], concentration_ng_ml: int
    ) -> tuple[int, AchievableRate | None, str]:
        """Rate in nL/day, its dose rate if that is what the file gives, and the key it has."""
        keys = [key for key in ("dose_rate", "rate") if key in therapy]
        if mode != SIMPLE_CONTINUOUS:
            if keys:
                key = keys[0]
                written = f"{key} {as_written(therapy[key])}"
                problem = f'{written} does not go with the mode "{MODE_NAMES[mode]}"'
                raise self.error(self.line("therapy", key), problem, "take it out")
            return 0, None, "mode"
        if not keys:
            raise self.missing("therapy", "dose_rate or rate", "is the file cut short?")
        if len(keys) > 1:
            line = max(self.line("therapy", key) for key in keys)
            raise self.error(line, "dose_rate and rate are both given", "give exactly one of them")
        if keys == ["rate"]:
            return self.quantity(_parse_rate, therapy, "therapy", "rate"), None, "rate"
        text = therapy["dose_rate"]
        try:
            wanted = programmable(text, concentration_ng_ml)
        except (units.QuantityError, TherapyError) as error:
            line = self.line("therapy", "dose_rate")
            raise self.error(line, str(error), error.remedy) from error
        return wanted.rate_nl_day, wanted, "dose_rate"

    def quantity(
        self, parse: Callable[[str], int], values: Mapping[str, Any], table: str, key: str
    ) -> int:
        try:
            return parse(values[key])
        except units.QuantityError as error:
            raise self.error(self.line(table, key), str(error), error.remedy) from error

    def missing(
        self, table: str, key: str, remedy: str, at: tuple[str | int, ...] = ()
    ) -> PrescriptionError:
        """Names the table's line where there is one, else the last line."""
        if table:
            return self.error(self.line(*(at or (table,))), f"[{table}] has no {key}", remedy)
        return self.error(self.end(), f"the file ends here and has no [{key}]", remedy)

    def line(self, *path: str | int) -> int:
        """Line, 1 on, at which ``path`` is first complete: the end of the shortest run of lines
        from the top that is TOML and has it."""
        for number, line in enumerate(self._lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                value: Any = tomllib.loads("\n".join(self._lines[:number]))
            except tomllib.TOMLDecodeError:
                continue
            for key in path:
                if isinstance(key, int):
                    rows = cast("list[Any]", value) if isinstance(value, list) else []
                    if key >= len(rows):
                        break
                    value = rows[key]
                elif not isinstance(value, dict) or key not in value:
                    break
                else:
                    value = cast("dict[str, Any]", value)[key]
            else:
                return number
        return self.end()

    def end(self) -> int:
        """The last line that has text."""
        filled = [number for number, line in enumerate(self._lines, 1) if line.strip()]
        return filled[-1] if filled else 1

    def error(
        self, line: int | None, problem: str, remedy: str | None = None
    ) -> PrescriptionError:
        return PrescriptionError(self._source, line, problem, remedy)
