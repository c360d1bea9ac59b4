"""Modules that are imported for one use and let go again: what is rarely needed would cost heap.

On the virtual board, where they would be compiled each time, they are in from the start and stay.
"""

import sys

import pump

_lent = []


def lent(name):
    """Module ``pump.NAME`` for one use; ``return_module`` lets go of it."""
    if "pump." + name not in sys.modules:
        _lent.append(name)
    return __import__("pump." + name, None, None, (name,))


def return_module(name):
    """Let go of a module that was lent, once for each time."""
    if name in _lent:
        _lent.remove(name)
        sys.modules.pop("pump." + name, None)
        if hasattr(pump, name):
            delattr(pump, name)


class LentGroup:
    """Handlers (see commands) that stand in class ``kind`` of module ``pump.NAME``, each lent for
    one call. ``names``: their messages; ``arguments``: what the class is made with."""

    def __init__(self, name, kind, names, arguments):
        self._name = name
        self._kind = kind
        self._names = names
        self._arguments = arguments

    def __getattr__(self, handler):
        message = handler[6:] if handler[:6] in ("check_", "apply_") else handler
        if message not in self._names:
            raise AttributeError(handler)

        def call(values):
            try:
                group = getattr(lent(self._name), self._kind)(*self._arguments)
                return getattr(group, handler)(values)
            finally:
                group = None
                return_module(self._name)

        return call
