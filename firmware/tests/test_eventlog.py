"""The event log: numbers without gaps, oldest overwritten, damage seen by whoever reads it."""

import os
from binascii import crc32
from struct import unpack, unpack_from

from nor_flash import SHAPES, PowerCut
from random_numbers import Random
from virtual_pump import ROOT, new_flash, same_flash

from pump import recordlog
from pump.clock import Clock, WallClock
from pump.eventlog import FILES, PER_SLOT, SLOTS, EventLog
from pump_wire.messages import EVENT, EVENT_FORMAT, EVENT_SIZE

TIMEOUT_S = 300
REQUIREMENTS = {
    "test_a_record_costs_an_erase_in_ten_at_most": ["CST-7"],
    "test_500_flipped_bits_are_500_damaged_records": ["ACC-5"],
    "test_a_clear_hides_and_numbers_go_on": ["ACC-4"],
    "test_a_write_that_fails_leaves_what_was_written_before": ["ACC-4", "FLT-3"],
    "test_oldest_are_overwritten_and_numbers_never_reused": ["ACC-4"],
    "test_numbers_go_on_over_restarts_at_random_moments": ["ACC-4"],
    "test_a_power_cut_at_any_flash_operation_loses_at_most_the_record_in_flight": ["ACC-4"],
}

FOLDER = ROOT + "/log"
BATCH = PER_SLOT * SLOTS
KEPT = FILES * BATCH


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
    for i in range(BATCH + 8):
        log.append("clock_set", i)
    assert len(log.read(0, 6)) == 6 * EVENT_SIZE
    assert len(log.read(BATCH - 2, 6)) == 2 * EVENT_SIZE
    assert parsed(log.read(BATCH - 1, 1))[5] == BATCH - 1
    assert parsed(log.read(BATCH, 1))[5] == BATCH
    assert len(log.read(BATCH + 4, 6)) == 2 * EVENT_SIZE
    assert len(log.read(BATCH + 6, 6)) == 2 * EVENT_SIZE
    assert log.read(log.next, 6) == b""
    assert log.read(log.next + 1000, 6) == b""
    assert log.read(0, 0) == b""


def test_oldest_are_overwritten_and_numbers_never_reused():
    flash = new_flash()
    log, _ = opened()
    for i in range(KEPT + 3 * BATCH + 7):
        assert log.append("clock_set", 3 * i) == i
        kept = log.next - log.oldest
        assert kept == i + 1 or 3_000 <= KEPT <= kept < KEPT + BATCH
    assert len(os.listdir(FOLDER + "/old")) == FILES
    check_whole(log, lambda number: 3 * number)
    same_flash(flash)
    again, _ = opened()
    assert (again.next, again.oldest) == (log.next, log.oldest)
    assert again.oldest % BATCH == 0
    check_whole(again, lambda number: 3 * number)
    assert again.append("clock_set") == i + 1
    # Asked for what is gone: the oldest that is kept.
    assert parsed(again.read(0, 1))[0] == again.oldest


def test_a_record_costs_an_erase_in_ten_at_most():
    flash = new_flash()
    log, _ = opened()
    for i in range(100):
        log.append("clock_set", i)
    erases, programs, most = flash.erases, flash.programs, 0
    for i in range(1_000):
        before = flash.programs
        log.append("clock_set", i)
        most = max(most, flash.programs - before)
    assert (flash.erases - erases) * 10 <= 1_000, flash.erases - erases
    assert flash.programs - programs < 1_300, flash.programs - programs
    assert most < 20


def test_what_was_noted_together_is_one_write():
    flash = new_flash()
    log, _ = opened()
    log.append("clock_set")
    for _ in range(4):
        log.note("clock_set")
    programs = flash.programs
    log.flush()
    assert (log.next, flash.programs - programs) == (5, 1)
    log.flush()
    assert flash.programs - programs == 1


def test_a_clear_hides_and_numbers_go_on():
    flash = new_flash()
    log, _ = opened()
    for i in range(BATCH + 3):
        log.append("clock_set", i)
    log.clear()
    for each_log in (log, opened()[0]):
        assert (each_log.oldest, each_log.next) == (BATCH + 3, BATCH + 3)
        assert each_log.read(0, 6) == b""
    flash = same_flash(flash)
    log, _ = opened()
    assert log.append("clock_set", 5) == BATCH + 3
    assert [event[0] for _, event in each(log)] == [BATCH + 3]


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
    assert log.next == expected > 2 * BATCH
    check_whole(log, lambda number: number * 7)


def cut_everywhere(before, after, shapes):
    """Cut the power at each operation of writing records ``before`` to ``after``, in each of
    ``shapes``: at most the one in flight is lost, and the log goes on."""
    cuts = 0
    for torn in shapes:
        cut = 0
        while True:
            cut += 1
            flash = new_flash()
            log, _ = opened()
            for i in range(before):
                log.note("clock_set", i)
            log.flush()
            done = before
            flash.cut_at(cut, torn)
            try:
                for i in range(before, after):
                    log.append("clock_set", i)
                    done = i + 1
            except PowerCut:
                pass
            if not flash.dead:
                break
            flash = same_flash(flash)
            log, _ = opened()
            assert log.next in (done, done + 1), (cut, torn, done, log.next)
            check_whole(log, lambda number: number)
            for i in range(log.next, log.next + 3):
                assert log.append("clock_set", i) == i
            check_whole(log, lambda number: number)
            cuts += 1
    return cuts


def test_a_power_cut_at_any_flash_operation_loses_at_most_the_record_in_flight():
    # The records of the last slot and the first of the next round: the change from slot to slot,
    # the file of the round, the slots written over.
    assert cut_everywhere(BATCH - 4, BATCH + 8, (None, "half_program")) > 30


def test_torn_operations_lose_at_most_the_record_in_flight():
    assert cut_everywhere(BATCH - 2, BATCH + 1, SHAPES) > 40


def test_the_files_asked_for_are_those_in_the_folder():
    """With slots that are whole a start does not read the folder: it must find the same."""
    new_flash()
    records = recordlog.RecordLog(FOLDER, EVENT_SIZE, PER_SLOT, SLOTS, 3)
    records.load()
    body = bytes(EVENT_SIZE - 8)
    for number in range(6 * BATCH + PER_SLOT):
        records.put(body)
        records.write()
        last = number - number % BATCH
        if number % 5 == 0 or number - last in (0, BATCH - 1):
            found = recordlog.RecordLog(FOLDER, EVENT_SIZE, PER_SLOT, SLOTS, 3)
            asked = found._ask_for_files(last)
            filed, oldest = found._list_files()
            assert asked == (max(filed, 0), oldest), number
    with open(
        FOLDER + "/old/%08d" % (2 * BATCH), "wb"
    ) as file:  # the cut came before it was removed
        file.write(bytes(BATCH * EVENT_SIZE))
    assert found._ask_for_files(last) == found._list_files()
    found.load()
    assert found.oldest == found._list_files()[1] == 3 * BATCH


def test_a_power_cut_while_the_oldest_go_leaves_no_gap():
    from pump import eventlog

    flash = new_flash()
    files = eventlog.FILES
    eventlog.FILES = 3
    try:
        for cut in range(1, 20):
            flash = new_flash()
            log, _ = opened()
            for i in range(4 * BATCH - 1):
                log.note("clock_set", i)
            log.flush()
            flash.cut_at(cut)
            try:
                log.append("clock_set", log.next)
            except PowerCut:
                pass
            flash = same_flash(flash)
            log, _ = opened()
            for _ in range(log.next, 4 * BATCH):
                log.append("clock_set", log.next)
            assert log.next == 4 * BATCH
            assert log.oldest == BATCH
            assert len(os.listdir(FOLDER + "/old")) == 3
            check_whole(log, lambda number: number)
    finally:
        eventlog.FILES = files


def flipped(path, times, first_of, log):
    """Flip ``times`` random bits of records in a file, one at a time; how many were seen as
    damage to just that record. ``first_of``: number of the record that begins at octet 0."""
    random = Random(4)
    with open(path, "rb") as file:
        octets = bytearray(file.read())
    reported = 0
    for _ in range(times):
        bit = random.below(8 * len(octets))
        octets[bit >> 3] ^= 1 << (bit & 7)
        with open(path, "wb") as file:
            file.write(octets)
        octets[bit >> 3] ^= 1 << (bit & 7)
        place = (bit >> 3) - (len(octets) % EVENT_SIZE)
        record = first_of + place // EVENT_SIZE if place >= 0 else -1
        log, _ = opened()
        for number, event in each(log, max(first_of, record - 1)):
            if number > max(first_of, record) + 1:
                break
            assert (event is None) == (number == record), (bit, number, record)
            reported += event is None
        reported += record < 0  # the head of a slot: no record is damaged, and none is lost
    with open(path, "wb") as file:
        file.write(octets)
    return reported


def test_500_flipped_bits_are_500_damaged_records():
    new_flash()
    log, _ = opened()
    for i in range(BATCH + 9):
        log.note("clock_set", i)
    log.flush()
    reported = flipped(FOLDER + "/old/00000000", 200, 0, log)
    reported += flipped(FOLDER + "/s0/now", 150, BATCH, log)
    reported += flipped(FOLDER + "/s1/now", 150, BATCH + PER_SLOT, log)
    assert reported == 500
    assert opened()[0].next == BATCH + 9


def test_no_damage_takes_a_number_back():
    new_flash()
    log, _ = opened()
    for i in range(2 * BATCH + 9):
        log.note("clock_set", i)
    log.flush()
    with open(FOLDER + "/s1/now", "rb") as file:
        size = len(file.read())
    with open(FOLDER + "/s1/now", "wb") as file:  # the newest slot, beyond recognition
        file.write(b"\x55" * size)
    os.remove(FOLDER + "/old/%08d" % BATCH)  # and the newest file
    log, _ = opened()
    assert log.next >= 2 * BATCH + 9
    number = log.append("clock_set")
    assert number >= 2 * BATCH + 9
    assert [event[0] for _, event in each(log) if event][-1] == number == opened()[0].next - 1


def test_a_file_that_is_gone_is_damage_and_not_an_error():
    new_flash()
    log, _ = opened()
    for i in range(3 * BATCH):
        log.append("clock_set", i)
    os.remove(FOLDER + "/old/%08d" % BATCH)
    log, _ = opened()
    assert log.next == 3 * BATCH
    damaged = [number for number, event in each(log) if event is None]
    assert damaged == list(range(BATCH, 2 * BATCH))


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


class _TakesNothing:
    """A file that fails to take what is written, and is closed as it then is."""

    def __init__(self, file):
        self._file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def write(self, _):
        raise OSError(5)


def test_a_write_that_fails_leaves_what_was_written_before():
    for kept in (1, PER_SLOT - 1, PER_SLOT, BATCH - 1, BATCH, BATCH + 1, BATCH + PER_SLOT + 2):
        flash = new_flash()
        log, _ = opened()
        for i in range(kept):
            log.append("clock_set", i)
        for restarted in (False, True):
            if restarted:
                log, _ = opened()
            recordlog.open = lambda path, mode: (
                open(path, mode) if mode == "rb" else _TakesNothing(open(path, mode))
            )
            try:
                log.append("clock_set", 99)
                raise AssertionError("it took what no file took")
            except OSError:
                pass
            finally:
                recordlog.open = open
            flash = same_flash(flash)
            log, _ = opened()
            values = [event and event[5] for _, event in each(log)]
            assert values[:kept] == list(range(kept)), (kept, restarted, values)
            assert log.next >= kept


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

    from pump import recordlog

    new_flash()
    log, _ = opened()
    log.append("clock_set", 0)
    recordlog.open = lambda path, mode: _ClosesWithAnError(builtins.open(path, mode))
    try:
        log.append("clock_set", 1)
    except OSError:
        pass
    else:
        raise AssertionError("the failure was not told")
    finally:
        recordlog.open = builtins.open
    assert opened()[0].next == 2
    assert log.append("clock_set", 2) == 2
    check_whole(log, lambda number: number)
    assert log.next == opened()[0].next == 3


def test_damage_to_a_name_does_not_stop_the_log():
    new_flash()
    log, _ = opened()
    log.append("clock_set", 1)
    for name in ("lost+found", "7", "00000000"):
        with open(FOLDER + "/" + name, "wb") as file:
            file.write(b"no log file")
    log, _ = opened()
    assert log.next == 1
