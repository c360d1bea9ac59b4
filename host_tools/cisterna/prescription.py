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

import difflib
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
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
    day_total,
    dose_rate_ng_day,
)
from cisterna.errors import UsageError, quoted
from pump_wire.messages import (
    MINIMUM_RATE,
    MODES,
    SET_PRESCRIPTION,
    SIMPLE_CONTINUOUS,
    STOPPED,
)

FORMAT = 1
MAX_FILE = 16 * 1024  # octets
MAX_LINE = 1_000  # characters; keeps every number in a file one that Python will print
DEFAULT_LOW_MARK = "2 mL"

# The sentence every prescription file begins with.
NOTICE = "A bench and teaching model. Not a medical device; never for use on people or animals."

MODE_NAMES = {
    mode: MODES[mode].replace("_", " ") for mode in (SIMPLE_CONTINUOUS, MINIMUM_RATE, STOPPED)
}

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

    ``mode`` is STOPPED, MINIMUM_RATE or SIMPLE_CONTINUOUS of the message table; ``rate_nl_day`` is
    0 unless it is SIMPLE_CONTINUOUS. Raises TherapyError for values no pump can run.
    """

    drug: str
    concentration_ng_ml: int
    mode: int
    rate_nl_day: int
    capacity_nl: int
    low_mark_nl: int

    def __post_init__(self) -> None:
        self._check_drug()
        if self.mode not in MODE_NAMES:
            raise TherapyError("mode", f"mode {self.mode} is none of {_mode_list()}")
        self._check_range("concentration_ng_ml")
        self._check_rate()
        self._check_range("capacity_nl")
        self._check_range("low_mark_nl")
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
            rate_nl_day = _programmable(dose_rate, concentration_ng_ml).rate_nl_day
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

    @property
    def mode_name(self) -> str:
        """Mode in words."""
        return MODE_NAMES[self.mode]

    @property
    def basal_rate_nl_day(self) -> int:
        """Rate the mode runs at, in nL/day."""
        return MINIMUM_RATE_NL_DAY if self.mode == MINIMUM_RATE else self.rate_nl_day

    @property
    def day_total(self) -> DayTotal:
        """Volume and drug that 24 hours without a bolus deliver."""
        return day_total(self.basal_rate_nl_day, self.concentration_ng_ml)

    def _check_drug(self) -> None:
        octets = len(self.drug.encode(errors="replace"))
        if not 1 <= octets <= _DRUG_OCTETS:
            raise TherapyError(
                "drug",
                f"name {quoted(self.drug)} has {octets} octets, allowed are 1 to {_DRUG_OCTETS}",
            )
        if not self.drug.isprintable() or self.drug != self.drug.strip():
            raise TherapyError(
                "drug",
                f"name {quoted(self.drug)} has unprintable characters or blanks at its ends",
            )

    def _check_range(self, field: str) -> None:
        value = getattr(self, field)
        low, high = _LIMITS[field]
        written = f"{_PLACES[field][1]} {format_field(field, value)}"
        if value < low:
            beyond, limit = "below the lowest", low
        elif value > high:
            beyond, limit = "above the highest", high
        else:
            return
        raise TherapyError(field, f"{written} is {beyond} allowed, {format_field(field, limit)}")

    def _check_rate(self) -> None:
        rate = self.rate_nl_day
        written = f"rate {format_rate(rate)}"
        if self.mode != SIMPLE_CONTINUOUS:
            if rate:
                raise TherapyError(
                    "rate_nl_day", f"{written} does not go with the mode {self.mode_name}"
                )
            return
        if rate < RATE_LOW_NL_DAY:
            limit = f"below the lowest allowed, {format_rate(RATE_LOW_NL_DAY)}"
            raise TherapyError("rate_nl_day", f"{written} is {limit}")
        if rate > RATE_HIGH_NL_DAY:
            limit = f"above the highest allowed, {format_rate(RATE_HIGH_NL_DAY)}"
            raise TherapyError("rate_nl_day", f"{written} is {limit}")
        if rate % RATE_STEP_NL_DAY:
            below = rate - rate % RATE_STEP_NL_DAY
            step = format_rate(RATE_STEP_NL_DAY)
            raise TherapyError(
                "rate_nl_day",
                f"{written} is no multiple of the programmable step, {step}",
                remedy=f"the nearest are {format_rate(below)} and "
                f"{format_rate(below + RATE_STEP_NL_DAY)}",
            )


@dataclass(frozen=True)
class LoadedPrescription:
    """A prescription file, read. ``wanted``: the file's dose rate against the programmable one,
    None where it has none; ``notes``: what to tell the user about the difference."""

    therapy: Therapy
    wanted: AchievableRate | None
    notes: tuple[str, ...]


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
    return _Reader(text, source).read()


def dumps(therapy: Therapy) -> str:
    """The text of a prescription file that loads as ``therapy``."""
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


def _programmable(dose_rate: str, concentration_ng_ml: int) -> AchievableRate:
    """The rate for ``dose_rate``. Raises TherapyError when it would be outside the range."""
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


def _note(wanted: AchievableRate) -> str:
    percent = units.exact_decimal(100 * wanted.relative_error, digits=3)
    sign = "+" if wanted.error_ng_day > 0 else ""
    asked, given = wanted.wanted_dose_rate_ng_day, wanted.dose_rate_ng_day
    return (
        f"dose rate {format_dose_rate(asked)} is not programmable; the nearest rate, "
        f"{format_rate(wanted.rate_nl_day)}, gives {format_dose_rate(given)} ({sign}{percent} %)"
    )


def _mode_list() -> str:
    return ", ".join(f'"{name}"' for name in MODE_NAMES.values())


def _written(value: object) -> str:
    return quoted(value if isinstance(value, str) else json.dumps(value, default=str))


class _Reader:
    """One pass over the text of a prescription file."""

    def __init__(self, text: str, source: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._lines = self._text.split("\n")
        self._source = source

    def read(self) -> LoadedPrescription:
        document = self._document()
        # The version first: another version may have any keys.
        self._check_format(document)
        self._check_keys("", document)
        tables = {name: self._table(document, name) for name in _KEYS if name}
        for name, table in tables.items():
            self._check_keys(name, table)
        return self._therapy(tables["drug"], tables["therapy"], tables["reservoir"])

    def _document(self) -> dict[str, Any]:
        if not self._text.strip():
            raise self._error(None, "is empty", "a prescription begins with: format = 1")
        for number, line in enumerate(self._lines, 1):
            if len(line) > MAX_LINE:
                raise self._error(
                    number, f"{len(line)} characters; at most {MAX_LINE} are allowed"
                )
        try:
            return tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            text = str(error)
            at = re.search(r" \(at line (\d+), column (\d+)\)$", text)
            reason = re.sub(r" \(at .*\)$", "", text)
            if at is None:  # at the end of the document
                problem = f"the file ends here, incomplete: {reason}"
                raise self._error(self._end(), problem, "is it cut short?") from error
            line = int(at[1])
            problem = f"{quoted(self._lines[line - 1].strip())} is no TOML: {reason}"
            remedy = "is it cut short?" if line >= self._end() else None
            raise self._error(line, problem, remedy) from error
        except RecursionError as error:
            raise self._error(None, "is nested too deeply for a prescription") from error

    def _check_format(self, document: Mapping[str, Any]) -> None:
        if "format" not in document:
            raise self._error(1, "the file has no format", f"its first line: format = {FORMAT}")
        version = document["format"]
        if type(version) is int and version == FORMAT:
            return
        raise self._error(
            self._line("format"),
            f"format {_written(version)} is not known; this programmer reads format {FORMAT}",
        )

    def _table(self, document: Mapping[str, Any], name: str) -> dict[str, Any]:
        table = document[name]
        if isinstance(table, dict):
            return cast("dict[str, Any]", table)
        raise self._error(self._line(name), f"{name} is a value; it must be a table, [{name}]")

    def _check_keys(self, table: str, values: Mapping[str, Any]) -> None:
        known = _KEYS[table]
        where = f" in [{table}]" if table else ""
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                remedy = f"did you mean {near[0]}?" if near else f"keys{where}: {', '.join(known)}"
                line = self._line(*filter(None, (table, key)))
                raise self._error(line, f"unknown key {quoted(key)}{where}", remedy)
        for key, required in known.items():
            if required and key not in values:
                raise self._missing(table, key, "is the file cut short?")

    def _therapy(
        self, drug: Mapping[str, Any], therapy: Mapping[str, Any], reservoir: Mapping[str, Any]
    ) -> LoadedPrescription:
        mode = self._mode(therapy)
        name = drug["name"]
        if not isinstance(name, str):
            raise self._error(
                self._line("drug", "name"), f"name {_written(name)} is not text in quotes"
            )
        concentration = self._quantity(_parse_concentration, drug, "drug", "concentration")
        rate, wanted, rate_key = self._rate(mode, therapy, concentration)
        low_mark = self._quantity(
            _parse_low_mark, {"low_mark": DEFAULT_LOW_MARK, **reservoir}, "reservoir", "low_mark"
        )
        capacity = self._quantity(_parse_capacity, reservoir, "reservoir", "capacity")
        places = _PLACES | {"rate_nl_day": ("therapy", rate_key)}
        if "low_mark" not in reservoir:
            places["low_mark_nl"] = ("reservoir", "capacity")
        try:
            built = Therapy(name, concentration, mode, rate, capacity, low_mark)
        except TherapyError as error:
            line = self._line(*places[error.field])
            raise self._error(line, str(error), error.remedy) from error
        notes = () if wanted is None or wanted.exact else (_note(wanted),)
        return LoadedPrescription(built, wanted, notes)

    def _mode(self, therapy: Mapping[str, Any]) -> int:
        wanted = therapy["mode"]
        for mode, name in MODE_NAMES.items():
            if wanted == name:
                return mode
        near = difflib.get_close_matches(str(wanted), MODE_NAMES.values(), 1)
        raise self._error(
            self._line("therapy", "mode"),
            f"mode {_written(wanted)} is none of {_mode_list()}",
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
                written = f"{key} {_written(therapy[key])}"
                problem = f'{written} does not go with the mode "{MODE_NAMES[mode]}"'
                raise self._error(self._line("therapy", key), problem, "take it out")
            return 0, None, "mode"
        if not keys:
            raise self._missing("therapy", "dose_rate or rate", "is the file cut short?")
        if len(keys) > 1:
            line = max(self._line("therapy", key) for key in keys)
            raise self._error(
                line, "dose_rate and rate are both given", "give exactly one of them"
            )
        if keys == ["rate"]:
            return self._quantity(_parse_rate, therapy, "therapy", "rate"), None, "rate"
        text = therapy["dose_rate"]
        try:
            wanted = _programmable(text, concentration_ng_ml)
        except (units.QuantityError, TherapyError) as error:
            line = self._line("therapy", "dose_rate")
            raise self._error(line, str(error), error.remedy) from error
        return wanted.rate_nl_day, wanted, "dose_rate"

    def _quantity(
        self, parse: Callable[[str], int], values: Mapping[str, Any], table: str, key: str
    ) -> int:
        try:
            return parse(values[key])
        except units.QuantityError as error:
            raise self._error(self._line(table, key), str(error), error.remedy) from error

    def _missing(self, table: str, key: str, remedy: str) -> PrescriptionError:
        """Names the table's line where there is one, else the last line."""
        if table:
            return self._error(self._line(table), f"[{table}] has no {key}", remedy)
        return self._error(self._end(), f"the file ends here and has no [{key}]", remedy)

    def _line(self, *path: str) -> int:
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
                if not isinstance(value, dict) or key not in value:
                    break
                value = cast("dict[str, Any]", value)[key]
            else:
                return number
        return self._end()

    def _end(self) -> int:
        """The last line that has text."""
        filled = [number for number, line in enumerate(self._lines, 1) if line.strip()]
        return filled[-1] if filled else 1

    def _error(
        self, line: int | None, problem: str, remedy: str | None = None
    ) -> PrescriptionError:
        return PrescriptionError(self._source, line, problem, remedy)
