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
