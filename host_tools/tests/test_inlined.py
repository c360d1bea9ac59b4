"""Constants in place of their names: the board computes with the same numbers."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from cisterna.inlined import inlined

_A = b"""\
from micropython import const

_STEP = 5  # of a thing
WIDE = 3 * _STEP + (1 << 4)
_BELOW = -WIDE
_HUGE = 1 << 40
_TEXT = "x"
_TWICE = 1
_TWICE = 2
KEPT = 7
_SEEN = const(9)


def work(x, WIDE_ARGUMENT=_STEP):
    return x + _STEP * 2, _BELOW - 1, _HUGE, _TEXT, _TWICE, -_STEP, 10 - -_STEP, WIDE
"""
_B = b"""\
from a import (
    KEPT,
    WIDE,
    work,
)
import a
from a import WIDE as also


def more():
    from a import _BELOW

    return WIDE, _BELOW, a.KEPT, KEPT, also, work(1)
"""


def _results(sources: dict[str, bytes]) -> Any:
    """What b.more() returns."""
    added = {"micropython": types.ModuleType("micropython")}
    added["micropython"].__dict__["const"] = int
    added.update({name: types.ModuleType(name) for name in ("a", "b")})
    with pytest.MonkeyPatch.context() as patch:
        for name, module in added.items():
            patch.setitem(sys.modules, name, module)
        for name in ("a", "b"):
            exec(sources[f"{name}.py"], added[name].__dict__)  # noqa: S102 (above)
        return added["b"].__dict__["more"]()


def test_results_and_lines_are_the_same() -> None:
    sources = {"a.py": _A, "b.py": _B}
    new = inlined(sources)
    before, after = _results(sources), _results(new)
    assert after == before == (31, -31, 7, 7, 31, (11, -32, 1 << 40, "x", 2, -5, 15, 31))
    for name, source in sources.items():
        lines = source.split(b"\n"), new[name].split(b"\n")
        assert len(lines[0]) == len(lines[1])
        for wanted in (b"def work", b"def more", b"    return"):
            assert [i for i, line in enumerate(lines[0]) if line.startswith(wanted)] == [
                i for i, line in enumerate(lines[1]) if line.startswith(wanted)
            ]


def test_names_are_gone_but_for_those_that_somebody_may_look_up() -> None:
    new = inlined({"a.py": _A, "b.py": _B})
    text = new["a.py"] + new["b.py"]
    for gone in (b"_STEP", b"_BELOW"):
        assert gone not in text
    assert b"KEPT = 7" in text  # read as a.KEPT
    for other in (b"_HUGE = 1 << 40", b'_TEXT = "x"', b"_TWICE = 2", b"_SEEN = const(9)"):
        assert other in text


def test_an_import_of_nothing_but_constants_is_gone() -> None:
    new = inlined(
        {"p/a.py": b"ONE = 1\n", "b.py": b"def f():\n    from p.a import ONE\n    g(ONE)\n"}
    )
    assert new["b.py"] == b"def f():\n    pass\n    g((1))\n"
