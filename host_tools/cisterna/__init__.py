"""Cisterna's host tools: a programmer and benches for a model of an intrathecal drug pump.

A bench and teaching model. Not a medical device; never for use on people or animals.
"""

from cisterna.bench import Bench, open_bench
from cisterna.prescription import Therapy
from cisterna.programmer import Programmer

__all__ = ["Bench", "Programmer", "Therapy", "open_bench"]
