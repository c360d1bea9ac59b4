"""Whole-number constants in place of their names, for a board: a name at a module's level costs
its text and a place in a dictionary, some 30 octets of heap, and each import of it another place.

Lines stay where they are, so that a fault record names the right one.
"""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping

_CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")
_SMALL = 1 << 30  # what a 32-bit MicroPython holds without an object
_OPERATIONS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.LShift: operator.lshift,
    ast.BitOr: operator.or_,
}


def inlined(sources: Mapping[str, bytes]) -> dict[str, bytes]:
    """``sources``: name of a file -> Python. Constants that one takes from another by ``from ...
    import`` count too; one that is read as an attribute of its module stays."""
    trees = {name: syntax_tree(source) for name, source in sources.items()}
    attributes = {
        node.attr
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
    }
    constants: dict[str, dict[str, int]] = {}
    for name, tree in trees.items():
        found = _constants(tree).items()
        constants[_module(name)] = {each: value for each, value in found if each not in attributes}
    return {name: _replaced(name, sources[name], trees[name], constants) for name in sources}


def syntax_tree(source: bytes) -> ast.Module:
    """``source`` as a tree; an empty one, so that it stays as it is, where it is no Python: the
    compiler says what is wrong with it."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])


def _module(name: str) -> str:
    return name[:-3].replace("/", ".").removesuffix(".__init__")


def _constants(tree: ast.Module) -> dict[str, int]:
    """Those that are bound once, at the module's level, to a small whole number."""
    bound = Counter(
        node.id if isinstance(node, ast.Name) else node.arg
        for node in ast.walk(tree)
        if isinstance(node, ast.arg)
        or (isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load))
    )
    found: dict[str, int] = {}
    for node in tree.body:
        name = _target(node)
        if name is not None and bound[name] == 1:
            assert isinstance(node, ast.Assign)
            value = _value(node.value, found)
            if value is not None and abs(value) < _SMALL:
                found[name] = value
    return found


def _target(node: ast.stmt) -> str | None:
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
        if isinstance(target, ast.Name) and _CONSTANT.fullmatch(target.id):
            return target.id
    return None


def _value(node: ast.expr, known: Mapping[str, int]) -> int | None:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand, known)
        return None if value is None else -value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left, right = _value(node.left, known), _value(node.right, known)
        if left is not None and right is not None:
            return _OPERATIONS[type(node.op)](left, right)
    return None


def _replaced(
    name: str, source: bytes, tree: ast.Module, constants: Mapping[str, Mapping[str, int]]
) -> bytes:
    edits: list[tuple[ast.stmt | ast.expr, bytes]] = []
    own = constants[_module(name)]
    known = dict(own)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module in constants:
            there = constants[node.module]
            gone = [each for each in node.names if each.name in there]
            if gone:
                known.update({each.asname or each.name: there[each.name] for each in gone})
                edits.append((node, _import(node, [e for e in node.names if e not in gone])))
    for node in tree.body:
        if _target(node) in own:
            edits.append((node, b""))
    dropped = {id(inner) for node, _ in edits for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in known and id(node) not in dropped:
            edits.append((node, f"({known[node.id]})".encode()))
    return _edited(source, edits)


def _import(node: ast.ImportFrom, names: list[ast.alias]) -> bytes:
    if not names:
        return b"pass"
    return f"from {node.module} import {', '.join(map(ast.unparse, names))}".encode()


def _edited(source: bytes, edits: list[tuple[ast.stmt | ast.expr, bytes]]) -> bytes:
    """``source`` with the text of nodes replaced, on as many lines as before."""
    lines = source.split(b"\n")
    for node, new in sorted(edits, key=lambda each: (-each[0].lineno, -each[0].col_offset)):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        rest = lines[last][node.end_col_offset :]
        lines[first : last + 1] = [
            lines[first][: node.col_offset] + new + rest,
            *([b""] * (last - first)),
        ]
    return b"\n".join(lines)
