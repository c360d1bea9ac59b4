"""What can go wrong, with the exit code the ``cisterna`` command ends with.

``str(error)`` is the text for the user; ``error.remedy``, when there is one, is the line below it
that says what to do.
"""

from __future__ import annotations

from typing import ClassVar

from cisterna.amounts import field_label, format_duration, format_field
from pump_wire.messages import FAULTS, MODES

# Refusals of a field because of a limit, by their names in the message table.
_WITH_LIMIT = ("below_limit", "above_limit", "not_enough_drug", "not_multiple")

_MAX_QUOTED = 60  # characters of a value that a message repeats


def quoted(text: str) -> str:
    """``text`` in quotes as messages repeat it: on one line, printable, cut where it is long."""
    cut = text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "..."
    return '"' + "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut) + '"'


class CisternaError(Exception):
    """Refused or failed; the reason is the text."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy


class UsageError(CisternaError):
    """What was asked for cannot be understood or is outside its limits; nothing was sent."""

    exit_code: ClassVar[int] = 2


class NoPump(CisternaError):
    """There is no pump there, or it went away."""

    exit_code: ClassVar[int] = 3


class OutcomeUnknown(CisternaError):
    """A command was sent and it is not known whether the pump carried it out."""

    exit_code: ClassVar[int] = 4


class Interrupted(CisternaError):
    """The user ended a command that had told its outcome already and only watched."""

    exit_code: ClassVar[int] = 130


class Refused(CisternaError):
    """The pump refused; nothing changed.

    ``name``: the refusal's name in the message table. ``field``, ``value``, ``limit``: the field
    it refused, in the unit its name ends in; empty and zero when it was no field.
    """

    def __init__(
        self,
        name: str,
        text: str,
        field: str = "",
        value: int = 0,
        limit: int = 0,
        remedy: str | None = None,
    ) -> None:
        """``text``: the refusal in words, as the message table has it."""
        message = f"the pump refused: {text}"
        if name == "above_limit" and field == "bridge_nl":
            still = format_field(field, value)
            message = (
                f"the pump refused a bridge bolus: {still} of the drug before is still to come"
            )
        elif name == "above_limit" and field == "bridge":
            message = "the pump refused: the concentration stays as it is: nothing to bridge"
        elif name in _WITH_LIMIT:
            asked, allowed = format_field(field, value), format_field(field, limit)
            message += f": {field_label(field)} {asked}, limit {allowed}"
        elif field == "mode" and 0 <= value < len(MODES):
            message += f": it is in mode {MODES[value].replace('_', ' ')}"
        elif field == "fault" and value in FAULTS:
            message += f": {FAULTS[value][1]}"
        elif name == "lockout":
            message += f": {format_duration(limit * 1_000_000)} to go"
        elif name == "bad_text":
            message += f": {field_label(field)}"
        super().__init__(message, remedy)
        self.name = name
        self.field = field
        self.value = value
        self.limit = limit
