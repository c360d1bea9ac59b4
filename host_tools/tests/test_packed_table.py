"""The message table on a board says the same as the host's, but for what people read."""

from __future__ import annotations

from typing import Any

import pytest

from cisterna.boards import project_root
from cisterna.errors import CisternaError
from cisterna.packed_table import TABLE, packed_table
from pump_wire import messages


def on_the_board(*users: bytes) -> dict[str, Any]:
    source = (project_root() / "firmware" / TABLE).read_bytes()
    names: dict[str, Any] = {"__name__": "on_the_board"}
    exec(packed_table(source, users), names)  # noqa: S102 (our own source)
    return names


def importing(*names: str) -> bytes:
    return f"from pump_wire.messages import {', '.join(names)}".encode()


def test_packed_table_has_the_same_hash() -> None:
    assert on_the_board(importing("table_hash"))["table_hash"]() == messages.table_hash()


def test_nothing_but_texts_is_gone() -> None:
    board = on_the_board(importing("ERROR", "STORED_PRESCRIPTION"))
    for here in messages.TABLE:
        there = board["BY_NUMBER"].get(here.number)
        assert (there.number, there.name) == (here.number, here.name)
        assert (there.roles, there.prepared) == (here.roles, here.prepared)
        for ours, theirs in ((here.request, there.request), (here.reply, there.reply)):
            assert list(theirs) == [(*field[:4], "") for field in ours]
    assert list(board["ERROR"]) == [(*field[:4], "") for field in messages.ERROR]
    stored = [(*field[:4], "") for field in messages.STORED_PRESCRIPTION]
    assert list(board["STORED_PRESCRIPTION"]) == stored
    assert {n for n in range(256) if board["BY_NUMBER"].get(n)} == set(messages.BY_NUMBER)


def test_only_what_is_used_goes_on_a_board() -> None:
    board = on_the_board(
        importing("STOPPED", "EVENT", "HELLO"),
        b"from pump_wire import messages as table\nprint(table.EVENTS, table.EVENT_FORMAT)",
        b"def work():\n    from pump_wire.messages import RESUME",
        b"from pump_wire.frame import MAX_PACKET",
    )
    assert {name for name in board if name[0].isupper()} == {
        "Fields", "Table", "K", "L", "BY_NUMBER",
        "STOPPED", "EVENT", "HELLO", "EVENTS", "EVENT_FORMAT", "RESUME",
    }  # fmt: skip
    assert board["STOPPED"] == messages.STOPPED
    assert board["EVENT"] == messages.EVENT
    assert board["EVENT_FORMAT"] == messages.EVENT_FORMAT
    assert board["HELLO"].name == "hello"
    assert board["RESUME"].number == messages.RESUME.number
    assert board["EVENTS"] == {code: row[:1] for code, row in messages.EVENTS.items()}


@pytest.mark.parametrize(
    ("name", "said"),
    [("NOT_THERE", "has no NOT_THERE"), ("crc32", "crc32 of"), ("Message", "Message of")],
)
def test_what_cannot_be_packed_is_named(name: str, said: str) -> None:
    with pytest.raises(CisternaError, match=said):
        on_the_board(importing(name))
