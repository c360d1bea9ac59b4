"""The event log: numbers without gaps, oldest overwritten, damage seen by whoever reads it."""

import os
from binascii import crc32
from struct import unpack, unpack_from

from nor_flash import PowerCut
from random_numbers import Random
from virtual_pump import ROOT, new_flash, same_flash

from pump.clock import Clock, WallClock
from pump.eventlog import FILE_RECORDS, FILES, EventLog
from pump_wire.messages import EVENT, EVENT_FORMAT, EVENT_SIZE

REQUIREMENTS = {
    "test_oldest_are_overwritten_and_numbers_never_reused": ["ACC-4"],
    "test_numbers_go_on_over_restarts_at_random_moments": ["ACC-4"],
    "test_a_power_cut_at_any_flash_operation_loses_at_most_the_record_in_flight": ["ACC-4"],
}

FOLDER = ROOT + "/log"
KEPT = FILES * FILE_RECORDS


class _Ticks:
    us = 0

    def __call__(self):
        return self.us % (1 << 30)


def opened(ticks=None):
    """(log, wall) on what the flash holds."""
    clock = Clock(ticks or _Ticks(), 1 << 30)
    wall = WallClock(clock)
    log = EventLog(FOLDER, clock, wall)
    log.load()
    return log, wall


def parsed(record):
    """(number, code, flags, uptime_us, wall_s, value) of a stored record; None if it is
    damaged."""
    if unpack_from("<I", record, EVENT_SIZE - 4)[0] != crc32(record[: EVENT_SIZE - 4]):
        return None
    number, code, flags, reserved, uptime_us, wall_s, value = unpack(
        EVENT_FORMAT, record[: EVENT_SIZE - 4]
    )
    assert reserved == 0
    return number, code, flags, uptime_us, wall_s, value


def each(log, first=0):
    """(number it should have, what is stored) of every record from ``first`` on."""
    number = max(first, log.oldest)
    while number < log.next:
        raw = log.read(number, 6)
        assert raw and len(raw) % EVENT_SIZE == 0
        for at in range(0, len(raw), EVENT_SIZE):
            yield number, parsed(raw[at : at + EVENT_SIZE])
            number += 1


def check_whole(log, value_of):
    """Every record is there, whole, at its number, with the value that ``value_of`` gives."""
    for number, event in each(log):
        assert event is not None, number
        assert event[0] == number and event[5] == value_of(number), (number, event)


def test_a_new_log_is_empty():
    new_flash()
    log, _ = opened()
    assert (log.next, log.oldest) == (0, 0)
    assert log.read(0, 6) == b""
    assert list(each(opened()[0])) == []


def test_a_record_holds_what_was_seen():
    new_flash()
    ticks = _Ticks()
    log, wall = opened(ticks)
    ticks.us = 1_234_567
    assert log.append("bolus_started", 10_000_000) == 0
    wall.set(1_800_000_000)
    ticks.us += 3_000_000
    assert log.append("low_reservoir", -5) == 1
    events = [event for _, event in each(log)]
    assert events == [
        (0, EVENT["bolus_started"], 0, 1_234_567, 0, 10_000_000),
        (1, EVENT["low_reservoir"], 1, 4_234_567, 1_800_000_003, -5),
    ]


def test_wall_time_beyond_the_record_is_unknown_not_wrong():
    new_flash()
    log, wall = opened()
    for wall_s, flags in ((2**32 - 1, 1), (2**32, 0), (7_258_118_400, 0)):
        wall.set(wall_s)
        number = log.append("clock_set", wall_s)
        _, event = next(each(log, number))
        assert event[2] == flags and event[4] == (wall_s if flags else 0)


def test_reads_start_anywhere_and_stay_in_one_file():
    new_flash()
    log, _ = opened()
    for i in range(FILE_RECORDS + 5):
        log.append("clock_set", i)
    assert len(log.read(0, 6)) == 6 * EVENT_SIZE
    assert len(log.read(FILE_RECORDS - 2, 6)) == 2 * EVENT_SIZE
    assert parsed(log.read(FILE_RECORDS - 1, 1))[5] == FILE_RECORDS - 1
    assert parsed(log.read(FILE_RECORDS, 1))[5] == FILE_RECORDS
    assert len(log.read(FILE_RECORDS + 3, 6)) == 2 * EVENT_SIZE
    assert log.read(log.next, 6) == b""
    assert log.read(log.next + 1000, 6) == b""
    assert log.read(0, 0) == b""


def test_oldest_are_overwritten_and_numbers_never_reused():
    flash = new_flash()
    log, _ = opened()
    assert KEPT >= 3_000 + FILE_RECORDS
    for i in range(KEPT + 3 * FILE_RECORDS + 7):
        assert log.append("clock_set", 3 * i) == i
        kept = log.next - log.oldest
        assert kept == i + 1 or KEPT - FILE_RECORDS <= kept <= KEPT
    assert len(os.listdir(FOLDER)) == FILES
    check_whole(log, lambda number: 3 * number)
    same_flash(flash)
    again, _ = opened()
    assert (again.next, again.oldest) == (log.next, log.oldest)
    assert again.oldest % FILE_RECORDS == 0
    check_whole(again, lambda number: 3 * number)
    assert again.append("clock_set") == i + 1
    # Asked for what is gone: the oldest that is kept.
    assert parsed(again.read(0, 1))[0] == again.oldest


def test_numbers_go_on_over_restarts_at_random_moments():
    random = Random(9)
    flash = new_flash()
    expected = 0
    for _ in range(40):
        log, _ = opened()
        assert log.next == expected
        for _ in range(random.below(20)):
            assert log.append("clock_set", expected * 7) == expected
            expected += 1
        flash = same_flash(flash)
    log, _ = opened()
    assert log.next == expected > 2 * FILE_RECORDS
    check_whole(log, lambda number: number * 7)


def test_a_power_cut_at_any_flash_operation_loses_at_most_the_record_in_flight():
    cut = 0
    step = 1
    while True:
        cut += step
        flash = new_flash()
        log, _ = opened()
        for i in range(FILE_RECORDS - 4):  # the cuts lie around the change of files
            log.append("clock_set", i)
        done = log.next
        flash.cut_at(cut)
        try:
            for i in range(done, done + 12):
                log.append("clock_set", i)
                done = i + 1
        except PowerCut:
            pass
        if not flash.dead:
            break
        flash = same_flash(flash)
        log, _ = opened()
        assert log.next in (done, done + 1), (cut, done, log.next)
        check_whole(log, lambda number: number)
        for i in range(log.next, log.next + 3):
            assert log.append("clock_set", i) == i
        check_whole(log, lambda number: number)
    assert cut > 12


def test_a_power_cut_while_the_oldest_go_leaves_no_gap():
    # The file is made and grows past the limit before the oldest is removed: cut there.
    from pump import eventlog

    flash = new_flash()
    files = eventlog.FILES
    eventlog.FILES = 3
    try:
        for cut in range(1, 8):
            flash = new_flash()
            log, _ = opened()
            for i in range(3 * FILE_RECORDS):
                log.append("clock_set", i)
            flash.cut_at(cut)
            try:
                log.append("clock_set", log.next)
            except PowerCut:
                pass
            flash = same_flash(flash)
            log, _ = opened()
            log.append("clock_set", log.next)
            assert log.next in (3 * FILE_RECORDS + 1, 3 * FILE_RECORDS + 2)
            assert log.oldest == FILE_RECORDS
            assert len(os.listdir(FOLDER)) == 3
            check_whole(log, lambda number: number)
    finally:
        eventlog.FILES = files


def test_500_flipped_bits_are_500_damaged_records():
    new_flash()
    log, _ = opened()
    for i in range(20):
        log.append("clock_set", i)
    path = FOLDER + "/00000000"
    random = Random(4)
    with open(path, "rb") as file:
        octets = bytearray(file.read())
    reported = 0
    for _ in range(500):
        bit = random.below(8 * len(octets))
        octets[bit >> 3] ^= 1 << (bit & 7)
        with open(path, "wb") as file:
            file.write(octets)
        octets[bit >> 3] ^= 1 << (bit & 7)
        record = bit // (8 * EVENT_SIZE)
        for number, event in each(log, max(0, record - 1)):
            if number > record + 1:
                break
            assert (event is None) == (number == record)
            reported += event is None
    assert reported == 500


def test_a_file_that_is_gone_or_short_is_damage_and_not_an_error():
    new_flash()
    log, _ = opened()
    for i in range(3 * FILE_RECORDS):
        log.append("clock_set", i)
    os.remove(FOLDER + "/%08d" % FILE_RECORDS)
    log, _ = opened()
    assert log.next == 3 * FILE_RECORDS
    damaged = [number for number, event in each(log) if event is None]
    assert damaged == list(range(FILE_RECORDS, 2 * FILE_RECORDS))


def test_an_append_that_fails_says_so_and_numbers_stay_with_their_places():
    fail = 0
    failures = 0
    while True:
        fail += 1
        flash = new_flash()
        log, _ = opened()
        flash.fail_at(fail)
        for i in range(20):
            try:
                log.append("clock_set", i)
            except OSError:
                failures += 1
        over = flash.armed
        flash = same_flash(flash)
        log, _ = opened()
        for number, event in each(log):
            assert event is not None and event[0] == number, fail
        if over:
            break
    assert failures > 10


class _ClosesWithAnError:
    """A file whose record is durable although closing it raises."""

    def __init__(self, file):
        self._file = file
        self.write = file.write

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        raise OSError(5)


def test_a_record_that_is_there_although_its_append_failed_keeps_its_number():
    import builtins

    from pump import eventlog

    new_flash()
    log, _ = opened()
    log.append("clock_set", 0)
    eventlog.open = lambda path, mode: _ClosesWithAnError(builtins.open(path, mode))
    try:
        log.append("clock_set", 1)
    except OSError:
        pass
    else:
        raise AssertionError("the failure was not told")
    finally:
        eventlog.open = builtins.open
    assert log.append("clock_set", 2) == 2
    check_whole(log, lambda number: number)
    assert log.next == opened()[0].next == 3


def test_damage_to_a_name_does_not_stop_the_log():
    new_flash()
    log, _ = opened()
    log.append("clock_set", 1)
    with open(FOLDER + "/lost+found", "wb") as file:
        file.write(b"no log file")
    log, _ = opened()
    assert log.next == 1
