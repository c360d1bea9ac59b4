"""The message table on a board says the same as the host's, but for what people read."""

from __future__ import annotations

from typing import Any

from cisterna.boards import project_root
from cisterna.pump_texts import TABLE, without_texts
from pump_wire import messages


def on_the_board() -> dict[str, Any]:
    source = (project_root() / "firmware" / TABLE).read_bytes()
    names: dict[str, Any] = {"__name__": "on_the_board"}
    exec(without_texts(source), names)  # noqa: S102 (our own source)
    return names


def test_table_without_texts_has_the_same_hash() -> None:
    assert on_the_board()["table_hash"]() == messages.table_hash()


def test_nothing_but_texts_is_gone() -> None:
    board = on_the_board()
    for here, there in zip(messages.TABLE, board["TABLE"], strict=True):
        assert there.text == ""
        assert (there.number, there.name, there.roles) == (here.number, here.name, here.roles)
        for ours, theirs in ((here.request, there.request), (here.reply, there.reply)):
            assert [field[:4] for field in theirs] == [field[:4] for field in ours]
            assert {field[4] for field in theirs} <= {""}
    for codes in ("REFUSALS", "EVENTS", "FAULTS"):
        ours = getattr(messages, codes)
        assert {code: row[0] for code, row in board[codes].items()} == {
            code: row[0] for code, row in ours.items()
        }
        assert {text for row in board[codes].values() for text in row[1:]} == {""}
