"""The fault log: text and place of every latch, kept over restarts, damage seen."""

from binascii import crc32
from struct import unpack, unpack_from

from random_numbers import Random
from virtual_pump import ROOT, SECOND_US, damage, new_flash, running, same_flash

from pump.clock import Clock, WallClock
from pump.faultlog import FILES, PER_SLOT, SLOTS, FaultLog
from pump_wire.messages import FAULT, FAULT_FORMAT, FAULT_SIZE, GET_FAULTS

REQUIREMENTS = {
    "test_five_hundred_faults_are_kept": ["ACC-5"],
    "test_flipped_bits_are_damaged_records": ["ACC-5"],
}
FOLDER = ROOT + "/faults"
BATCH = PER_SLOT * SLOTS


def opened():
    clock = Clock(lambda: 0, 1 << 30)
    log = FaultLog(FOLDER, clock, WallClock(clock))
    log.load()
    return log


def parsed(record):
    """(number, code, text) of a stored record; None if it is damaged."""
    if unpack_from("<I", record, FAULT_SIZE - 4)[0] != crc32(record[: FAULT_SIZE - 4]):
        return None
    number, code, _, length, _, _, text = unpack(FAULT_FORMAT, record[: FAULT_SIZE - 4])
    return number, code, text[:length].decode()


def each(log):
    number = log.oldest
    while number < log.next:
        raw = log.read(number, 2)
        assert raw and len(raw) % FAULT_SIZE == 0
        for at in range(0, len(raw), FAULT_SIZE):
            yield number, parsed(raw[at : at + FAULT_SIZE])
            number += 1


def test_five_hundred_faults_are_kept():
    flash = new_flash()
    log = opened()
    total = FILES * BATCH + 2 * BATCH + 3
    for i in range(total):
        assert log.append(1 + i % 6, "fault %d" % i) == i
    same_flash(flash)
    for one in (log, opened()):
        found = 0
        for number, record in each(one):
            assert record == (number, 1 + number % 6, "fault %d" % number)
            found += 1
        assert found >= 500 and number == total - 1


def test_flipped_bits_are_damaged_records():
    new_flash()
    log = opened()
    for i in range(BATCH + 3):
        log.append(1, "x" * (i % 90))
    random = Random(8)
    reported = 0
    for path, first in ((FOLDER + "/old/00000000", 0), (FOLDER + "/s0/now", BATCH)):
        with open(path, "rb") as file:
            octets = bytearray(file.read())
        head = len(octets) % FAULT_SIZE
        for _ in range(100):
            at = head + random.below(len(octets) - head)
            damage(path, at, 1 << random.below(8))
            log = opened()
            bad = [number for number, record in each(log) if record is None]
            assert bad == [first + (at - head) // FAULT_SIZE], (path, at)
            reported += 1
            with open(path, "wb") as file:
                file.write(octets)
    assert reported == 200


def test_text_is_cut_between_characters():
    new_flash()
    log = opened()
    log.append(2, "\u00e9" * 60)
    assert list(each(log)) == [(0, (0, 2, "\u00e9" * 42))]


def test_a_fault_is_told_with_its_place_after_restarts():
    pump = running()
    pump.advance(3 * SECOND_US)
    pump.flash.fail_at(1)  # once: the log can be written again
    pump.advance(10 * SECOND_US)
    assert pump.fault == "storage_failed"
    for _ in range(2):
        reply = pump.ask(GET_FAULTS, first=0)
        assert (reply["oldest"], reply["next"]) == (0, 1)
        number, code, text = parsed(reply["records"])
        assert (number, code) == (0, FAULT["storage_failed"])
        assert "OSError" in text and "journal.py:" in text and "write" in text, text
        pump.restart()
        pump.advance(1_000)
    # Its cause is gone: the restart is its remedy. What the log keeps stays.
    assert pump.fault == ""


def test_a_fault_whose_cause_stands_latches_again_at_each_start():
    pump = running()
    pump.advance(3 * SECOND_US)
    pump.cut_power()
    for slot in (".0", ".1"):
        damage(ROOT + "/prescription" + slot)
    for i in range(3):
        pump.power_on()
        assert pump.fault == "settings_damaged"
        assert pump.ask(GET_FAULTS, first=0)["next"] == i + 1
        pump.check_no_more_steps()
        pump.cut_power()
