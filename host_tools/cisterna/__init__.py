"""Cisterna's host tools: a programmer and benches for a model of an intrathecal drug pump.

A bench and teaching model. Not a medical device; never for use on people or animals.

The names below are loaded when first used, so that the command starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cisterna.bench import Bench, open_bench
    from cisterna.prescription import Therapy
    from cisterna.programmer import Programmer

__all__ = ["Bench", "Programmer", "Therapy", "open_bench"]

_MODULES = {
    "Bench": "bench",
    "Programmer": "programmer",
    "Therapy": "prescription",
    "open_bench": "bench",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"cisterna.{_MODULES[name]}"), name)
