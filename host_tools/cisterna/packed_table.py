"""The message table as a board holds it: what the firmware of that board uses of it, packed.

Texts, meanings and remedies are the host's to show, and the objects of a table take heap: a board
gets octets, from which ``pump_wire.packed`` makes the row that is asked for. Names, numbers, types
and ranges are those of ``messages.py``, and the table's hash is worked out here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any, cast

from cisterna.errors import CisternaError
from cisterna.inlined import syntax_tree

TABLE = "pump_wire/messages.py"
_MODULE = "pump_wire.messages"
_CODES = ("REFUSALS", "EVENTS", "FAULTS")  # code: (name, text ...)
_LITERALS = (bool, int, str, bytes, tuple, dict)


def packed_table(source: bytes, users: Iterable[bytes]) -> bytes:
    """What to put on a board in place of ``source``, the message table: only names that ``users``,
    the sources of the other modules, import from it. Raises CisternaError for a name that cannot
    be packed."""
    table: dict[str, Any] = {"__name__": _MODULE}
    exec(compile(source, TABLE, "exec"), table)  # noqa: S102 (our own source)
    packer = _Packer(table["Message"])
    rows = packer.rows(table["TABLE"])
    lines: list[str] = []
    for name in sorted(_used(users)):
        if name == "table_hash":
            lines.append(f"def table_hash():\n    return {table[name]()}")
        elif name in table:
            lines.append(f"{name} = {packer.written(name, table[name])}")
        else:
            raise CisternaError(f"{TABLE} has no {name}")
    head = f"""\
from pump_wire.packed import Fields, Table

K = {tuple(packer.kinds)!r}
L = {tuple(packer.limits)!r}
BY_NUMBER = Table({rows!r}, K, L)
"""
    return (head + "\n".join(lines) + "\n").encode()


def _used(users: Iterable[bytes]) -> set[str]:
    """Names of the table that ``users`` import, or take from the module."""
    names: set[str] = set()
    for source in users:
        tree = syntax_tree(source)
        modules: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == _MODULE:
                names.update(each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module == "pump_wire":
                modules.update(
                    each.asname or each.name for each in node.names if each.name == "messages"
                )
        names.update(
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in modules
        )
    return names - {"BY_NUMBER"}


class _Packer:
    """``kinds`` and ``limits``: what packed fields point to; they grow as fields are packed."""

    def __init__(self, message: type) -> None:
        self._message = message
        self.kinds: list[str] = []
        self.limits: list[int | None] = []

    def rows(self, messages: tuple[Any, ...]) -> bytes:
        raw = bytearray()
        for each in messages:
            name = each.name.encode("ascii")
            request, reply = self._fields(each.request), self._fields(each.reply)
            raw += bytes((each.number, each.roles, each.prepared, len(name)))
            raw += len(request).to_bytes(2, "little") + len(reply).to_bytes(2, "little")
            raw += name + request + reply
        return bytes(raw)

    def written(self, name: str, value: Any) -> str:
        """``value`` of the table as Python."""
        if isinstance(value, self._message):
            return f"BY_NUMBER.get({value.number})"
        if name in _CODES:
            return repr({code: row[:1] for code, row in value.items()})
        if _is_fields(value):
            return f"Fields({self._fields(value)!r}, K, L)"
        if type(value) in _LITERALS:
            return repr(value)
        raise CisternaError(f"{name} of {TABLE} cannot be put on a board: {value!r}")

    def _fields(self, fields: tuple[tuple[str, str, int | None, int | None, str], ...]) -> bytes:
        raw = bytearray()
        for name, kind, low, high, _ in fields:
            octets = name.encode("ascii")
            places = (_place(self.kinds, kind), _place(self.limits, low))
            raw += bytes((len(octets), *places, _place(self.limits, high))) + octets
        return bytes(raw)


def _place(values: list[Any], value: Any) -> int:
    if value not in values:
        values.append(value)
    return values.index(value)


def _is_fields(value: Any) -> bool:
    """True for a tuple of fields, (name, type, low, high, text)."""
    rows = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else ()
    return bool(rows) and all(
        isinstance(row, tuple) and len(cast("Any", row)) == 5 for row in rows
    )
