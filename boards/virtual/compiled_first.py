"""Import this before the rest of the pump: here modules are compiled as they are imported, which
takes a multiple of the heap they then need. One after the other, garbage collected in between,
they fit. Those that other boards lend (pump/lending.py) stay, as compiling takes long.
"""

import gc

for _name in (
    "programming",
    "outlook",
    "delivery",
    "ledger",
    "refilling",
    "recordlog",
    "link",
    "therapy",
    "prescribing",
    "patient",
    "selftest",
    "upkeep",
    "starting",
):
    __import__("pump." + _name)
    gc.collect()
