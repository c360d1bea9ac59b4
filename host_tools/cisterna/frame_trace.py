"""The frame trace: every frame that a command sends and receives, opened, one line of JSON each.

``cisterna COMMAND --trace FILE`` writes it, ``cisterna bench decode FILE`` reads it back. The
first line is the head: version, when it began, and the message table the frames are told with.
After it each line is a frame as the session layer saw it, which alone has the keys: ``t_s``,
seconds since the trace began; ``port``; ``to``, "pump" or "host"; ``kind``, ``sequence``,
``message`` and ``fields`` in the names and units of the table; ``octets``, the frame as it was on
the line, in hex. What could not be opened has ``problem`` instead.

No key is ever in it: a field with "key" in its name is not written, nor are the octets of a frame
that has one.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import struct
import sys
import threading
import time
from binascii import crc32
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, cast

from cisterna.amounts import field_label, format_field
from cisterna.errors import UsageError, quoted
from cisterna.own_files import open_own
from cisterna.prescription import NOTICE
from pump_wire import messages
from pump_wire.codec import FieldError, decode
from pump_wire.messages import BY_NUMBER
from pump_wire.session import REFUSAL, REPLY, REQUEST

VERSION = 1
_KINDS = {REQUEST: "request", REPLY: "reply", REFUSAL: "refusal"}
_SECRET = "(a key: never written)"
_MOST = 1 << 64  # what no field reaches


class FrameTrace:
    """Writes ``path`` anew, for its owner's eyes only: therapy is in it in clear. Safe to use from
    several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.fdopen(open_own(path), "w", encoding="utf-8")
        self._lock = threading.Lock()
        self._start_s = time.monotonic()
        self._prepared: dict[tuple[str, int], int] = {}  # (port, sequence): command
        self._write(
            {
                "cisterna_trace": VERSION,
                "began": datetime.datetime.now(datetime.timezone.utc).isoformat(),
                "wire_version": messages.WIRE_VERSION,
                "table_hash": f"{messages.table_hash():08x}",
                "notice": NOTICE,
            }
        )

    def close(self) -> None:
        """All is in the file, or it was said that it is not."""
        with contextlib.suppress(OSError):
            self._file.close()

    def packet(
        self,
        port: str,
        to: str,
        kind: int,
        sequence: int,
        number: int,
        body: bytes | memoryview,
        frame: bytes = b"",
        **more: Any,
    ) -> None:
        """A packet that was wrapped or opened. ``to``: "pump" or "host"; ``frame``: its octets on
        the line, if they are known; ``more``: whatever else is to be told of it."""
        fields, secret = self._fields(port, kind, sequence, number, bytes(body))
        told: dict[str, Any] = {
            "kind": _KINDS.get(kind, f"kind {kind}"),
            "sequence": sequence,
            "message": BY_NUMBER[number].name if number in BY_NUMBER else f"message {number}",
            "fields": fields,
            **more,
        }
        if frame and not secret:
            told["octets"] = frame.hex()
        self._frame(port, to, told)

    def problem(self, port: str, to: str, what: str, octets: bytes = b"", **more: Any) -> None:
        """A frame that could not be opened, or no frame at all."""
        self._frame(port, to, {"problem": what, **more, "octets": octets.hex()})

    def _frame(self, port: str, to: str, told: dict[str, Any]) -> None:
        t_s = round(time.monotonic() - self._start_s, 6)
        self._write({"t_s": t_s, "port": port, "to": to, **told})

    def _write(self, told: dict[str, Any]) -> None:
        with self._lock:
            if self._file.closed:
                return
            try:
                self._file.write(json.dumps(told) + "\n")
                self._file.flush()
            except OSError as error:  # what is traced goes on: it may be a dose
                print(f"the trace ends here: {self._path}: {error.strerror}", file=sys.stderr)
                with contextlib.suppress(OSError):
                    self._file.close()

    def _fields(
        self, port: str, kind: int, sequence: int, number: int, body: bytes
    ) -> tuple[dict[str, Any], bool]:
        """The fields of a body as JSON can hold them, and whether one of them is a key."""
        message = BY_NUMBER.get(number)
        if message is None:
            return {"undecoded": body.hex()}, False
        table = {REQUEST: message.request, REPLY: message.reply}.get(kind, messages.ERROR)
        try:
            values = decode(table, body)
        except FieldError as error:
            secret = any("key" in name for name, *_ in table)
            return {"undecoded": _SECRET if secret else body.hex(), "why": str(error)}, secret
        if message is messages.PREPARE and kind != REFUSAL:
            self._open_command(port, kind, sequence, values)
        if kind == REFUSAL:
            values["name"] = messages.REFUSALS.get(values["code"], ("unknown",))[0]
        secret = any("key" in name for name in values)
        return {name: _json(name, value) for name, value in values.items()}, secret

    def _open_command(self, port: str, kind: int, sequence: int, values: dict[str, Any]) -> None:
        """Put the fields of the command inside a prepare, or of its echo, in place of ``body``."""
        if kind == REQUEST:
            number = self._prepared[port, sequence] = values["command"]
        else:
            number = self._prepared.get((port, sequence), 0)
        command = BY_NUMBER.get(number)
        if command is None:
            return
        values["command"] = command.name
        with contextlib.suppress(FieldError):
            inner = decode(command.request if kind == REQUEST else command.reply, values["body"])
            values["body"] = {name: _json(name, value) for name, value in inner.items()}


def _json(name: str, value: Any) -> Any:
    if "key" in name:
        return _SECRET
    return value.hex() if isinstance(value, bytes) else value


_active: FrameTrace | None = None


def active() -> FrameTrace | None:
    """The trace that sessions opened now write to."""
    return _active


@contextlib.contextmanager
def recording(path: Path | None) -> Generator[None, None, None]:
    """Sessions opened inside write their frames to ``path``; None: nowhere."""
    global _active
    if path is None:
        yield
        return
    before = _active
    _active = FrameTrace(path)
    try:
        yield
    finally:
        _active.close()
        _active = before


# -- reading it back ---------------------------------------------------------------------------


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(head, frames) of a trace. A last line that was cut short is left out. Raises UsageError for
    a file that is no trace, and for a line that is not as ``FrameTrace`` writes it."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{quoted(str(path))} cannot be read as a frame trace: {error}", remedy=_WRITE_ONE
        ) from error
    head = _row(lines[0]) if lines else None
    if head is None or "cisterna_trace" not in head:
        raise UsageError(f"{quoted(str(path))} is no frame trace", remedy=_WRITE_ONE)
    if head["cisterna_trace"] != VERSION:
        raise UsageError(
            f"{quoted(str(path))} is a trace of version {quoted(str(head['cisterna_trace']))}, "
            f"this program reads version {VERSION}"
        )
    if not all(isinstance(head.get(name), str) for name in ("began", "table_hash")):
        raise _damaged(path, 1)
    frames: list[dict[str, Any]] = []
    for number, line in enumerate(lines[1:], 2):
        row = _row(line)
        if row is None or not _is_frame(row):
            raise _damaged(path, number)
        frames.append(row)
    return head, frames


_WRITE_ONE = "write one with --trace FILE, on any command that talks to a pump"


def _damaged(path: Path, number: int) -> UsageError:
    return UsageError(
        f"{quoted(str(path))} is damaged: line {number} is not as a frame trace has it",
        remedy="remove that line, or write the trace anew with --trace FILE",
    )


def _row(line: str) -> dict[str, Any] | None:
    """The object that a line is; None when it is none."""
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", row) if isinstance(row, dict) else None


def _is_frame(row: dict[str, Any]) -> bool:
    """True for a line that ``as_text`` can tell."""
    t_s, to = row.get("t_s"), row.get("to")
    if not isinstance(t_s, (int, float)) or not 0 <= t_s < _MOST or not isinstance(to, str):
        return False
    octets = row.get("octets", "")
    if "problem" in row:
        return isinstance(row["problem"], str) and "octets" in row and _is_hex(octets)
    words = (row.get("kind"), row.get("message"), row.get("note", ""))
    numbers = (row.get("sequence"), row.get("try", 1))
    return (
        all(isinstance(each, str) for each in words)
        and all(_is_number(each) for each in numbers)
        and _is_hex(octets)
        and _are_fields(row.get("fields"))
    )


def _are_fields(fields: Any, inner: bool = False) -> bool:
    """True for what ``_field_lines`` can tell. ``inner``: of a command inside a prepare."""
    if not isinstance(fields, dict):
        return False
    for name, value in cast("dict[str, Any]", fields).items():
        if name == "records":
            told = _is_hex(value)
        else:
            told = isinstance(value, str) or _is_number(value)
            told = told or (not inner and _are_fields(value, inner=True))
        if not told:
            return False
    return True


def _is_number(value: Any) -> bool:
    """True for a whole number that a field can have."""
    return type(value) is int and -_MOST < value < _MOST


def _is_hex(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        bytes.fromhex(value)
    except ValueError:
        return False
    return True


def as_text(frames: list[dict[str, Any]]) -> Iterator[str]:
    """A line a frame, and lines below it for its fields, with units. Text in it is the pump's, and
    may hold control characters."""
    for frame in frames:
        arrow = "->" if frame["to"] == "pump" else "<-"
        begin = f"{frame['t_s']:12.6f} {arrow} "
        if "problem" in frame:
            yield f"{begin}{frame['problem']}: {frame['octets'] or 'nothing'}"
            continue
        again = f", try {frame['try']}" if frame.get("try", 1) > 1 else ""
        note = f", {frame['note']}" if "note" in frame else ""
        kind = f"{frame['kind']}{again}{note}"
        yield f"{begin}{frame['message']} #{frame['sequence']} ({kind})"
        for line in _field_lines(frame["message"], frame["fields"]):
            yield " " * 18 + line


def _field_lines(message: str, fields: dict[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        if isinstance(value, dict):
            for line in _field_lines(message, value):  # pyright: ignore[reportUnknownArgumentType]
                yield f"  {line}"
        elif name == "records":
            yield from _record_lines(message, bytes.fromhex(value))
        elif name == "table_hash" and isinstance(value, int):
            yield f"{field_label(name)}: {value:08x}"
        elif isinstance(value, int):
            yield f"{field_label(name)}: {format_field(name, value)}"
        else:
            yield f"{field_label(name)}: {value}"


def _record_lines(message: str, records: bytes) -> Iterator[str]:
    """The records of a reply of get_events or get_faults, by name."""
    events = message == messages.GET_EVENTS.name
    size = messages.EVENT_SIZE if events else messages.FAULT_SIZE
    layout = messages.EVENT_FORMAT if events else messages.FAULT_FORMAT
    names = messages.EVENTS if events else messages.FAULTS
    for at in range(0, len(records), size):
        record = records[at : at + size]
        if crc32(record[:-4]) != int.from_bytes(record[-4:], "little") or len(record) != size:
            yield "a damaged record"
            continue
        number, code, *_, value = struct.unpack(layout, record[:-4])
        text = value
        if isinstance(value, bytes):
            text = value.rstrip(b"\0").decode("utf-8", "replace")
        yield f"record {number}: {names.get(code, (f'code {code}',))[0]}, {text}"


__all__ = ["FrameTrace", "active", "as_text", "read", "recording"]
