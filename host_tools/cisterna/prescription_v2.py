"""Prescription files of format 2: the whole therapy.

TOML, UTF-8, with the limits of format 1 (``cisterna.prescription``)::

    # A bench and teaching model. Not a medical device; never for use on people or animals.
    format = 2

    [[drug]]                        # 1 to 4; doses are told by the first
    name = "morphine"
    concentration = "10 mg/mL"
    [[drug]]
    name = "bupivacaine"
    ratio = "2"                     # times the first's concentration; or concentration

    [therapy]
    mode = "flex"                   # or one of format 1's, or "periodic bolus"
    week = ["work", "work", "work", "work", "work", "rest", "rest"]     # flex: Monday first
    [therapy.pattern.work]          # flex: 1 to 13 steps a day, local time, the first at 00:00
    "00:00" = "1 mg/day"            # a dose rate, a rate, or "minimum rate"
    "07:30" = "0.15 mL/day"
    [therapy.pattern.rest]
    "00:00" = "1 mg/day"

    # [therapy] of simple continuous: dose_rate or rate, as in format 1.
    # [therapy] of periodic bolus: dose_rate or rate between the boluses ("minimum rate" too),
    #   bolus = "50 ug", over = "5 min", every = "6 h"

    [patient]                       # may be left out: no patient bolus
    bolus = "50 ug"                 # a mass of the first drug, or a volume
    over = "5 min"
    lockout = "4 h"                 # from start to start
    max_per_day = 4                 # in any 24 h

    [limits]                        # each may be left out; volumes, or masses of the first drug
    hour = "0.5 mL"                 # most in any hour, from every source
    day = "2 mL"                    # most in any 24 h
    soft_day = "3 mg"               # a 24-h total above it is asked about
    soft_bolus = "100 ug"           # and a bolus above it

    [stability]                     # one of three; may be left out: not known
    fill = "any"                    # the drug table's days: any, first, undiluted, diluted
    # days = 60                     # or others than the table's, which needs
    # reason = "pharmacy's own"     #   a reason; the pump keeps both: "60 d: pharmacy's own",
    #                               #   up to 52 octets
    # until = 2027-01-31T12:00:00Z  # or a date, as a pump tells it; with its reason if it is
    #                               #   not the table's

    [path]                          # may be left out: not known, and then no prime and no bridge
    tubing = "0.15 mL"              # as measured; the profile's when left out
    segments = [{ supplied = "80 cm", trimmed = "0 cm", volume_per_length = "0.0022 mL/cm" }]
    # catheter = "0.176 mL"         # or its volume as it stands

    [reservoir]
    profile = "implanted 20 mL"     # may be left out; what is said must suit it, and its tubing
                                    # and limits count where the file has none
    low_mark = "2 mL"
    capacity = "20 mL"              # the last line: a file cut short is refused

A dose rate or dose becomes the nearest programmable rate or whole nL, and ``notes`` tell where
that is not the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, cast

from cisterna import drugs, units
from cisterna.amounts import (
    format_concentration,
    format_dose_rate,
    format_duration,
    format_rate,
    format_volume_nl,
)
from cisterna.catheter import Segment, catheter_volume_nl
from cisterna.dose import (
    MINIMUM_RATE_NL_DAY,
    AchievableRate,
    dose_rate_ng_day,
    volume_of_mass_nl,
)
from cisterna.drugs import Stability
from cisterna.errors import UsageError, quoted
from cisterna.mixture import CONCENTRATION_HIGH_NG_ML, Drug, by_ratio
from cisterna.prescription import (
    ALL_MODE_NAMES,
    DEFAULT_LOW_MARK,
    NOTICE,
    LoadedPrescription,
    Pattern,
    PrescriptionError,
    Reader,
    Therapy,
    TherapyError,
    as_written,
    note_of,
    programmable,
)
from cisterna.profiles import Profile, profile
from pump_wire.messages import FLEX, PERIODIC_BOLUS, SIMPLE_CONTINUOUS

_FORMAT = 2
_S_US = 1_000_000
_OVERRIDE = re.compile(r"([0-9]+) d: (.+)", re.DOTALL)  # as a pump keeps days and a reason

# Table: key: True if it must be there.
_TOP = {
    "format": True,
    "drug": True,
    "therapy": True,
    "patient": False,
    "limits": False,
    "stability": False,
    "path": False,
    "reservoir": True,
}
_KEYS = {
    "drug": {"name": True, "concentration": False, "ratio": False},
    "patient": {"bolus": True, "over": True, "lockout": True, "max_per_day": True},
    "limits": {"hour": False, "day": False, "soft_day": False, "soft_bolus": False},
    "stability": {"fill": False, "days": False, "reason": False, "until": False},
    "path": {"tubing": False, "segments": False, "catheter": False},
    "segment": {"name": False, "supplied": True, "trimmed": False, "volume_per_length": True},
    "reservoir": {"profile": False, "low_mark": False, "capacity": True},
}
_THERAPY_KEYS = {
    "simple continuous": ("dose_rate", "rate"),
    "minimum rate": (),
    "stopped": (),
    "flex": ("week", "pattern"),
    "periodic bolus": ("dose_rate", "rate", "bolus", "over", "every"),
}
_MINIMUM = "minimum rate"

# Field of Therapy: where a file has it, for errors of the whole.
_PLACES = {
    "drug": ("drug",),
    "others": ("drug",),
    "concentration_ng_ml": ("drug",),
    "mode": ("therapy", "mode"),
    "rate_nl_day": ("therapy",),
    "week": ("therapy", "week"),
    "patterns": ("therapy", "pattern"),
    "bolus_nl": ("therapy", "bolus"),
    "bolus_s": ("therapy", "over"),
    "interval_s": ("therapy", "every"),
    "patient_nl": ("patient", "bolus"),
    "patient_s": ("patient", "over"),
    "lockout_s": ("patient", "lockout"),
    "patient_max": ("patient", "max_per_day"),
    "hour_nl": ("limits", "hour"),
    "day_nl": ("limits", "day"),
    "soft_day_nl": ("limits", "soft_day"),
    "soft_bolus_nl": ("limits", "soft_bolus"),
    "tubing_nl": ("path", "tubing"),
    "catheter_nl": ("path",),
    "stable_until_s": ("stability", "until"),
    "stable_why": ("stability", "reason"),
    "low_mark_nl": ("reservoir",),
    "capacity_nl": ("reservoir", "capacity"),
}


def read(reader: Reader, document: Mapping[str, Any]) -> LoadedPrescription:
    """A document of format 2. Raises PrescriptionError naming the file and the line."""
    return _File(reader, document).read()


class _File:
    """One pass over a document. ``where``: keys of the value that is being read, for its line."""

    def __init__(self, reader: Reader, document: Mapping[str, Any]) -> None:
        self._reader = reader
        self._document = document
        self._where: tuple[str | int, ...] = ()
        self._notes: list[str] = []
        self._concentration = 0
        self._wanted: AchievableRate | None = None

    def read(self) -> LoadedPrescription:
        try:
            return self._read()
        except PrescriptionError:
            raise
        except TherapyError as error:
            line = self._reader.line(*_PLACES.get(error.field, ()))
            raise self._reader.error(line, str(error), error.remedy) from error
        except UsageError as error:
            line = self._reader.line(*self._where)
            raise self._reader.error(line, str(error), error.remedy) from error

    def _read(self) -> LoadedPrescription:
        reader = self._reader
        reader.check_keys("", self._document, _TOP)
        tables = {
            name: reader.table(self._document, name)
            for name in _TOP
            if name not in ("format", "drug") and name in self._document
        }
        for name, table in tables.items():
            if name != "therapy":
                reader.check_keys(name, table, _KEYS[name])
        mixture = self._drugs()
        first, *others = mixture
        self._concentration = int(first.concentration_ng_ml)
        place = tables["reservoir"]
        self._where = ("reservoir", "profile")
        pump = profile(self._text(place, "profile")) if "profile" in place else None
        fields: dict[str, Any] = {
            **self._therapy(tables["therapy"], pump),
            **self._patient(tables.get("patient")),
            **self._limits(tables.get("limits", {}), pump),
            **self._path(tables.get("path"), pump),
        }
        stability, fields["stable_until_s"], fields["stable_why"] = self._stability(
            tables.get("stability"), frozenset(drug.name for drug in mixture)
        )
        fields["low_mark_nl"] = self._volume(
            {"low_mark": DEFAULT_LOW_MARK, **place}, "reservoir", "low_mark"
        )
        fields["capacity_nl"] = self._volume(place, "reservoir", "capacity")
        if pump is not None and fields["capacity_nl"] > pump.capacity_nl:
            raise UsageError(
                f"capacity {format_volume_nl(fields['capacity_nl'])} is more than the "
                f"{pump.name} pump has, {format_volume_nl(pump.capacity_nl)}"
            )
        self._where = ()
        therapy = Therapy(
            drug=first.name,
            concentration_ng_ml=self._concentration,
            others=tuple(others),
            **fields,
        )
        self._check_limits(therapy, tables.get("limits", {}), pump)
        name = None if pump is None else pump.name
        return LoadedPrescription(therapy, self._wanted, tuple(self._notes), stability, name)

    # -- drugs --------------------------------------------------------------------------------

    def _drugs(self) -> tuple[Drug, ...]:
        reader = self._reader
        rows = self._document["drug"]
        self._where = ("drug",)
        if not isinstance(rows, list) or not all(isinstance(r, dict) for r in cast("Any", rows)):
            raise UsageError("drug is no list of tables", "begin each with: [[drug]]")
        found: list[Drug] = []
        for number, row in enumerate(cast("list[dict[str, Any]]", rows)):
            self._where = ("drug", number, "name")
            reader.check_keys("drug", row, _KEYS["drug"], ("drug", number))
            name = self._text(row, "name")
            if ("concentration" in row) == ("ratio" in row):
                raise UsageError(
                    f"drug {quoted(name)} needs exactly one of concentration and ratio"
                )
            if "concentration" in row:
                self._where = ("drug", number, "concentration")
                high = CONCENTRATION_HIGH_NG_ML
                found.append(Drug(name, units.parse_concentration(row["concentration"], 1, high)))
                continue
            if not found:
                raise UsageError("the first drug has no ratio, only a concentration")
            self._where = ("drug", number, "ratio")
            ratio = units.parse_ratio(row["ratio"])
            found.append(by_ratio(found[0], ((name, ratio),)).drugs[1])
        return tuple(found)

    # -- therapy ------------------------------------------------------------------------------

    def _therapy(self, table: Mapping[str, Any], pump: Profile | None) -> dict[str, Any]:
        self._where = ("therapy", "mode")
        modes = {name: mode for mode, name in ALL_MODE_NAMES.items()}
        name = table.get("mode")
        if name is None:
            raise self._reader.missing("therapy", "mode", "is the file cut short?")
        if name not in modes:
            known = ", ".join(f'"{mode}"' for mode in modes)
            raise UsageError(f"mode {as_written(name)} is none of {known}")
        mode = modes[name]
        allowed = {"mode": True} | dict.fromkeys(_THERAPY_KEYS[name], False)
        self._reader.check_keys("therapy", table, allowed)
        fields: dict[str, Any] = {"mode": mode, "rate_nl_day": 0}
        if mode == FLEX:
            fields.update(self._flex(table, pump))
        if mode in (SIMPLE_CONTINUOUS, PERIODIC_BOLUS):
            keys = [key for key in ("dose_rate", "rate") if key in table]
            if len(keys) != 1:
                raise UsageError("give exactly one of dose_rate and rate")
            self._where = ("therapy", keys[0])
            periodic = mode == PERIODIC_BOLUS
            fields["rate_nl_day"] = self._rate(self._text(table, keys[0]), periodic, pump, keys[0])
        if mode == PERIODIC_BOLUS:
            for key in ("bolus", "over", "every"):
                if key not in table:
                    raise self._reader.missing("therapy", key, "is the file cut short?")
            fields["bolus_nl"] = self._dose(table, "therapy", "bolus")
            fields["bolus_s"] = self._seconds(table, "therapy", "over")
            fields["interval_s"] = self._seconds(table, "therapy", "every")
        return fields

    def _rate(self, text: str, minimum: bool, pump: Profile | None, key: str = "") -> int:
        """A rate from a dose rate, a rate or, with ``minimum``, "minimum rate"."""
        if minimum and text == _MINIMUM:
            return MINIMUM_RATE_NL_DAY
        if key == "rate" or (key != "dose_rate" and units.is_rate(text)):
            rate = units.parse_rate(text, name="rate")
        else:
            wanted = programmable(text, self._concentration)
            rate = wanted.rate_nl_day
            if key:
                self._wanted = wanted
            if not wanted.exact:
                self._notes.append(note_of(wanted))
        lowest_too = minimum and rate == MINIMUM_RATE_NL_DAY
        if pump is not None and not lowest_too:
            for limit, beyond in (
                (pump.rate_low_nl_day, rate < pump.rate_low_nl_day),
                (pump.rate_high_nl_day, rate > pump.rate_high_nl_day),
            ):
                if beyond:
                    raise UsageError(
                        f"rate {format_rate(rate)} is outside what the {pump.name} pump runs: "
                        f"{format_rate(pump.rate_low_nl_day)} to "
                        f"{format_rate(pump.rate_high_nl_day)}; limit {format_rate(limit)}"
                    )
        return rate

    def _flex(self, table: Mapping[str, Any], pump: Profile | None) -> dict[str, Any]:
        self._where = ("therapy", "week")
        week, patterns = table.get("week"), table.get("pattern")
        if not isinstance(week, list) or not isinstance(patterns, dict):
            raise UsageError("flex needs week, seven names, and a [therapy.pattern.NAME] for each")
        days = [str(name) for name in cast("list[Any]", week)]
        named = cast("dict[str, Any]", patterns)
        if len(days) != 7:
            raise UsageError(f"week has {len(days)} days; it needs 7, Monday first")
        for name in days:
            if name not in named:
                raise UsageError(f"there is no [therapy.pattern.{name}]")
        idle = next((name for name in named if name not in days), None)
        if idle is not None:
            raise UsageError(f"no day of the week has the pattern {quoted(idle)}")
        order = list(named)
        return {
            "patterns": tuple(self._pattern(name, named[name], pump) for name in order),
            "week": bytes(order.index(name) for name in days),
        }

    def _pattern(self, name: str, steps: Any, pump: Profile | None) -> Pattern:
        self._where = ("therapy", "pattern", name)
        if not isinstance(steps, dict):
            raise UsageError(f"pattern {quoted(name)} is no table of times and rates")
        found: list[tuple[int, int]] = []
        for at, rate in cast("dict[str, Any]", steps).items():
            self._where = ("therapy", "pattern", name, at)
            clock = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])", at)
            if clock is None:
                raise UsageError(f'{quoted(at)} is no time of day; write it like "07:30"')
            if not isinstance(rate, str):
                raise UsageError(f"rate {as_written(rate)} is not text in quotes with a unit")
            found.append((int(clock[1]) * 60 + int(clock[2]), self._rate(rate, True, pump)))
        if not found:
            raise UsageError(f"pattern {quoted(name)} has no steps")
        return tuple(found)

    # -- the rest -----------------------------------------------------------------------------

    def _patient(self, table: Mapping[str, Any] | None) -> dict[str, Any]:
        if table is None:
            return {}
        self._where = ("patient", "max_per_day")
        most = table["max_per_day"]
        if type(most) is not int:
            raise UsageError(f"max_per_day {as_written(most)} is no whole number")
        return {
            "patient_nl": self._dose(table, "patient", "bolus"),
            "patient_s": self._seconds(table, "patient", "over"),
            "lockout_s": self._seconds(table, "patient", "lockout"),
            "patient_max": most,
        }

    def _limits(self, table: Mapping[str, Any], pump: Profile | None) -> dict[str, Any]:
        fields = {"hour_nl": pump.hour_nl, "day_nl": pump.day_nl} if pump is not None else {}
        for key in table:
            fields[f"{key}_nl"] = self._dose(table, "limits", key)
        return fields

    def _check_limits(
        self, therapy: Therapy, table: Mapping[str, Any], pump: Profile | None
    ) -> None:
        """Raise UsageError where a limit has no room for the therapy's own basal programme."""
        least_nl = therapy.least_limits_nl
        for key, span in (("hour", "1 h"), ("day", "24 h")):
            limit_nl = getattr(therapy, f"{key}_nl")
            if not limit_nl or limit_nl >= least_nl[f"{key}_nl"]:
                continue
            own = key in table or pump is None
            self._where = ("limits", key) if own else ("reservoir", "profile")
            whose = "" if own else f" of the {cast('Profile', pump).name} pump"
            raise UsageError(
                f"the limit{whose} of {format_volume_nl(limit_nl)} in {span} has no room for the "
                f"therapy itself, which needs {format_volume_nl(least_nl[f'{key}_nl'])} at least",
                remedy=f"give {'more' if own else 'another'} in [limits], {key}, or less drug",
            )

    def _path(self, table: Mapping[str, Any] | None, pump: Profile | None) -> dict[str, Any]:
        tubing_nl = pump.tubing_nl if pump is not None else 0
        if table is None:
            return {"tubing_nl": tubing_nl}
        if "tubing" in table:
            tubing_nl = self._volume(table, "path", "tubing")
        if "catheter" in table and "segments" in table:
            raise UsageError("give the catheter's volume or its segments, not both")
        if "catheter" in table:
            catheter_nl = self._volume(table, "path", "catheter")
        else:
            self._where = ("path", "segments")
            catheter_nl = catheter_volume_nl(
                self._segment(number, row)
                for number, row in enumerate(table.get("segments", []), 1)
            )
        return {"tubing_nl": tubing_nl, "catheter_nl": catheter_nl}

    def _segment(self, number: int, row: Any) -> Segment:
        if not isinstance(row, dict):
            raise UsageError(f"segment {number} is no table")
        values = cast("dict[str, Any]", row)
        at = ("path", "segments", number - 1)
        self._reader.check_keys("path", values, _KEYS["segment"], at)
        return Segment(
            str(values.get("name", number)),
            units.parse_length(values["supplied"], name="supplied"),
            units.parse_length(values.get("trimmed", "0 cm"), name="trimmed"),
            units.parse_volume_per_length(values["volume_per_length"], name="volume_per_length"),
        )

    def _stability(
        self, table: Mapping[str, Any] | None, names: frozenset[str]
    ) -> tuple[Stability | None, int, str]:
        """How long the drugs are stable, until when if that is what the file says, else 0, and
        whose word it is where it is not the table's."""
        if table is None:
            return None, 0, ""
        self._where = ("stability",)
        if sum(key in table for key in ("fill", "days", "until")) != 1:
            raise UsageError("stability is exactly one of fill, days with reason, until")
        reason = self._text({"reason": "", **table}, "reason").strip()
        if "until" in table:
            until = table["until"]
            if not isinstance(until, datetime) or until.tzinfo is None:
                raise UsageError(f"until {as_written(until)} is no date and time with its zone")
            return None, round(until.timestamp()), reason
        if "days" in table:
            days = table["days"]
            if type(days) is not int:
                raise UsageError(f"days {as_written(days)} is no whole number")
            return drugs.override(names, days, reason), 0, f"{days} d: {reason}"
        if reason:
            raise UsageError("a reason goes with days or until", "fill is the drug table's word")
        fill = self._text(table, "fill")
        found = drugs.stability(names, None if fill == drugs.ANY_FILL else fill)
        if found is None:
            raise UsageError(
                f"the drug table has no {' + '.join(sorted(names))}",
                remedy="give days and a reason in [stability]",
            )
        return found, 0, ""

    # -- values -------------------------------------------------------------------------------

    def _text(self, table: Mapping[str, Any], key: str) -> str:
        value = table[key]
        if not isinstance(value, str):
            raise UsageError(f"{key} {as_written(value)} is not text in quotes")
        return value

    def _volume(self, table: Mapping[str, Any], name: str, key: str) -> int:
        self._where = (name, key)
        return units.parse_volume(table[key], name=key)

    def _seconds(self, table: Mapping[str, Any], name: str, key: str) -> int:
        self._where = (name, key)
        seconds, rest = divmod(units.parse_duration(table[key], name=key), _S_US)
        if rest:
            raise UsageError(f"{key} {as_written(table[key])} is finer than a second")
        return seconds

    def _dose(self, table: Mapping[str, Any], name: str, key: str) -> int:
        """A volume, or that of a mass of the first drug; with a note where it is not the same."""
        self._where = (name, key)
        dose = units.parse_dose(table[key], name=key)
        if dose.kind == "volume":
            return dose.amount
        volume_nl = volume_of_mass_nl(dose.amount, self._concentration)
        given = dose_rate_ng_day(volume_nl, self._concentration)
        if given != dose.amount:
            self._notes.append(
                f"{key} {table[key]} becomes {format_volume_nl(volume_nl)}, which holds "
                f"{units.format_mass(given, digits=6)}"
            )
        return volume_nl


def dated(therapy: Therapy, stability: Stability | None, from_s: int) -> Therapy:
    """``therapy`` with the date its drugs expire, counted from wall time ``from_s``."""
    if stability is None:
        return therapy
    return replace(therapy, stable_until_s=from_s + stability.days * 86_400)


def dumps(therapy: Therapy) -> str:
    """The text of a file of format 2 that loads as ``therapy``."""
    lines = [f"# {NOTICE}", f"format = {_FORMAT}", ""]
    for drug in therapy.mixture.drugs:
        lines += [
            "[[drug]]",
            f"name = {json.dumps(drug.name, ensure_ascii=False)}",
            f'concentration = "{format_concentration(drug.concentration_ng_ml)}"',
            "",
        ]
    lines += ["[therapy]", f'mode = "{therapy.mode_name}"']
    if therapy.mode in (SIMPLE_CONTINUOUS, PERIODIC_BOLUS):
        lines.append(f'rate = "{_rate_words(therapy, therapy.rate_nl_day)}')
    if therapy.mode == PERIODIC_BOLUS:
        lines += [
            f'bolus = "{format_volume_nl(therapy.bolus_nl)}"',
            f'over = "{_time(therapy.bolus_s)}"',
            f'every = "{_time(therapy.interval_s)}"',
        ]
    if therapy.mode == FLEX:
        names = ", ".join(f'"p{number}"' for number in therapy.week)
        lines.append(f"week = [{names}]")
        for number, pattern in enumerate(therapy.patterns):
            lines += ["", f"[therapy.pattern.p{number}]"]
            lines += [
                f'"{minute // 60:02d}:{minute % 60:02d}" = "{_rate_words(therapy, rate)}'
                for minute, rate in pattern
            ]
    if therapy.patient_nl:
        lines += [
            "",
            "[patient]",
            f'bolus = "{format_volume_nl(therapy.patient_nl)}"',
            f'over = "{_time(therapy.patient_s)}"',
            f'lockout = "{_time(therapy.lockout_s)}"',
            f"max_per_day = {therapy.patient_max}",
        ]
    limits = [
        f'{key} = "{format_volume_nl(getattr(therapy, f"{key}_nl"))}"'
        for key in _KEYS["limits"]
        if getattr(therapy, f"{key}_nl")
    ]
    lines += ["", "[limits]", *limits] if limits else []
    lines += _stability_lines(therapy)
    if therapy.path_nl:
        lines += [
            "",
            "[path]",
            f'tubing = "{format_volume_nl(therapy.tubing_nl)}"',
            f'catheter = "{format_volume_nl(therapy.catheter_nl)}"',
        ]
    lines += [
        "",
        "[reservoir]",
        f'low_mark = "{format_volume_nl(therapy.low_mark_nl)}"',
        f'capacity = "{format_volume_nl(therapy.capacity_nl)}"',
    ]
    return "\n".join(lines) + "\n"


def _stability_lines(therapy: Therapy) -> list[str]:
    why = _text(therapy.stable_why)
    if therapy.stable_until_s:
        until = datetime.fromtimestamp(therapy.stable_until_s, timezone.utc)
        lines = ["", "[stability]", f"until = {until:%Y-%m-%dT%H:%M:%SZ}"]
        return [*lines, f"reason = {why}"] if therapy.stable_why else lines
    override = _OVERRIDE.fullmatch(therapy.stable_why)
    if override is None:
        return ["", f"# stability: {why}"] if therapy.stable_why else []
    return ["", "[stability]", f"days = {override[1]}", f"reason = {_text(override[2])}"]


def _text(text: str) -> str:
    """As TOML has it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _rate_words(therapy: Therapy, rate: int) -> str:
    dose_rate = dose_rate_ng_day(rate, therapy.concentration_ng_ml)
    return f'{format_rate(rate)}"  # {format_dose_rate(dose_rate, digits=6)}'


def _time(seconds: int) -> str:
    return format_duration(seconds * _S_US)
