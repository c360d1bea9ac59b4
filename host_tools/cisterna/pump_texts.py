"""The message table without what only people read: texts, meanings and remedies are the host's to
show, and on the board they would take heap.

Names, numbers, types and ranges stay, so ``table_hash()`` is the same with and without them.
"""

from __future__ import annotations

import ast

TABLE = "pump_wire/messages.py"

_MESSAGE_TEXT = 4  # Message(number, name, roles, prepared, text, ...)
_CODES = ("REFUSALS", "EVENTS", "FAULTS")  # code: (name, text ...)


def without_texts(source: bytes) -> bytes:
    """``source`` of the message table with every text empty."""
    tree = ast.parse(source)
    tree = ast.fix_missing_locations(_Emptier().visit(tree))
    return ast.unparse(tree).encode() + b"\n"


class _Emptier(ast.NodeTransformer):
    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        """A field: (name, type, low, high, text)."""
        self.generic_visit(node)
        texts = [_is_text(element) for element in node.elts]
        if texts == [True, True, False, False, True]:
            node.elts[4] = ast.Constant("")
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "Message":
            node.args[_MESSAGE_TEXT] = ast.Constant("")
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id in _CODES:
            assert isinstance(node.value, ast.Dict)
            for row in node.value.values:
                assert isinstance(row, ast.Tuple)
                row.elts[1:] = [ast.Constant("")] * (len(row.elts) - 1)
            return node
        return self.generic_visit(node)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
