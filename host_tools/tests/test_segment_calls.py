"""What runs with every segment is called without the heap (CST-3).

MicroPython keeps a call's arguments, locals and stack on the machine's stack while they are eleven
words at most (VM_MAX_STATE_ON_STACK in its py/objfun.c); for more it takes room from the heap and
gives it back afterwards. Looking for that room passes over what lives at the beginning of the
heap: with the whole pump there it costs 15,000 instructions of the processor a call, more than all
that is done in it. What would take the heap gets a smaller function.
"""

from __future__ import annotations

import re
import subprocess

import pytest

from cisterna.boards import project_root
from cisterna.vm import find_vm

MOST_WORDS = 11

CALLED = {
    "firmware/pump/motion.py": ("_feed", "_next", "_queue"),
    "firmware/pump/schedule.py": ("segment", "is_whole"),
    "firmware/pump/ledger.py": ("moved", "residual_pl", "reserve", "_store"),
    "firmware/pump/journal.py": ("write",),
    "firmware/pump/limits.py": ("room",),
    "firmware/pump/delivery.py": ("_allowance", "_steps_to_mark", "_fed"),
    "firmware/pump/prescription.py": ("check_doses", "_doses"),
    "firmware/pump/eventlog.py": ("flush",),
    "firmware/pump/recordlog.py": ("write",),
    "firmware/pump/clock.py": ("now_us", "best_s"),
    "boards/virtual/stepper_virtual.py": ("queue", "emitted", "_advance", "_happen"),
    "firmware/pump/flow.py": ("look", "_look_back", "_book"),
    "boards/virtual/plant.py": ("move", "turn", "_pass_lines", "_give"),
    "boards/virtual/nor_flash.py": ("readblocks", "writeblocks", "_check_bits"),
    "boards/virtual/world.py": ("wait_io_event",),
}


def words_of(source: str) -> dict[str, int]:
    """Words of a call of each function in ``source``, a path from the root; of those of one name
    the most."""
    done = subprocess.run(
        [find_vm(), "-v", "-v", "-v", str(project_root() / source)],
        capture_output=True,
        check=False,  # it runs without what it imports, once it is compiled
    )
    words: dict[str, int] = {}
    for block in done.stdout.decode(errors="replace").split("\nFile ")[1:]:
        name = re.search(r"code block '([^']+)'", block)
        state = re.search(r"\(N_STATE (\d+)\)", block)
        if name is not None and state is not None:
            words[name[1]] = max(words.get(name[1], 0), int(state[1]))
    return words


@pytest.mark.parametrize("source", CALLED)
def test_a_segment_is_called_without_the_heap(source: str) -> None:
    words = words_of(source)
    assert {name: words[name] for name in CALLED[source] if words[name] > MOST_WORDS} == {}
