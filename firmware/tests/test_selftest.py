"""The self-test: whatever is broken at a start is named, and nothing moves."""

import os
import sys

from test_alarms import names
from virtual_pump import DAY_US, ROOT, SECOND_US, running

from pump import selftest
from pump.journal import TwoCopies

REQUIREMENTS = {"test_whatever_is_broken_is_named_and_nothing_moves": ["FLT-1"]}
TIMEOUT_S = 120


def broken_start(pump, breaking):
    """Start ``pump`` with a board that ``breaking(board)`` broke."""
    pump.cut_power()
    pump.breaking = breaking
    pump.power_on()
    pump.breaking = None


def no_ticks(board):
    board.ticks_stand = False


def listed(board, *lines):
    with open(ROOT + "/some", "w") as file:
        file.write("some")
    with open(ROOT + "/sums", "w") as file:
        for line in lines:
            file.write(ROOT + line + "\n")
    board.sums = ROOT + "/sums"


def file_missing(board):
    listed(board, "/some f6cedc4e", "/none 00000000")


def file_changed(board):
    listed(board, "/some f6cedc4f")


def driver_counts_wrong(board):
    board.stepper.commanded = lambda: 3


def rotor_fails(board):
    def count():
        raise OSError(5)

    board.rotor.count = count


def rotor_turns(board):
    counts = [0]

    def count():
        counts[0] += 1
        return counts[0]

    board.rotor.count = count


def test_whatever_is_broken_is_named_and_nothing_moves():
    for part, breaking in (
        ("clock", no_ticks),
        ("files: %s/none" % ROOT, file_missing),
        ("files: %s/some" % ROOT, file_changed),
        ("driver", driver_counts_wrong),
        ("rotor", rotor_fails),
        ("rotor", rotor_turns),
    ):
        pump = running()
        pump.advance(SECOND_US)
        broken_start(pump, breaking)
        steps = pump.steps
        pump.advance(DAY_US)
        assert pump.steps == steps, part
        assert pump.fault == "self_test_failed", (part, pump.fault)
        assert pump.app.faults.text.startswith(part), (part, pump.app.faults.text)
        assert "self_test" in names(pump), names(pump)
    for part in ("ram", "flash"):
        pump = running()
        pump.advance(SECOND_US)
        sys.modules["pump.selftest"] = selftest
        before = getattr(selftest, part)
        setattr(selftest, part, lambda *_: False)
        check_stands_still(pump, part)
        setattr(selftest, part, before)
    pump = running()
    pump.advance(SECOND_US)
    before = TwoCopies.whole
    TwoCopies.whole = lambda _: False
    check_stands_still(pump, "settings")
    TwoCopies.whole = before


def check_stands_still(pump, part):
    steps = pump.steps
    pump.restart()
    pump.advance(DAY_US)
    assert pump.steps == steps, part
    assert pump.fault == "self_test_failed" and pump.app.faults.text == part, part


def test_a_good_pump_passes():
    pump = running()
    pump.advance(SECOND_US)
    assert selftest.run(pump.board, pump.app.store._copies) == ""
    assert "selftest" not in os.listdir(ROOT)


def test_files_as_listed_pass():
    pump = running()
    listed(pump.board, "/some f6cedc4e")
    assert selftest.files(pump.board) == ""


def test_ram_that_forgets_is_seen():
    assert selftest.ram()
