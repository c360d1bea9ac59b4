"""Durable records: whole, or refused, over every damage and every power cut."""

import os

from nor_flash import PowerCut
from random_numbers import Random
from virtual_pump import ROOT, damage, new_flash, same_flash

from pump.journal import Damaged, HotRecord, TwoCopies

PATH = ROOT + "/thing"
FOLDER = ROOT + "/steps"
NOW = FOLDER + "/now"
LAYOUT = "<QQ"


def loaded():
    """(payload, copies) as after a restart."""
    copies = TwoCopies(PATH)
    return copies.load(), copies


def is_damaged(record):
    try:
        record.load()
    except Damaged as error:
        assert ROOT in str(error)
        return True
    return False


def octets_of(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, octets):
    with open(path, "wb") as file:
        file.write(octets)


def slots_written(copies):
    """Slots in the order in which a commit writes them; nothing is written."""
    slots = []
    copies._write = lambda slot, record: slots.append(slot)
    copies.commit(b"payload")
    return slots


# -- two copies -------------------------------------------------------------------------------


def test_nothing_committed_is_nothing():
    new_flash()
    payload, copies = loaded()
    assert payload is None
    assert (copies.sequence, copies.damaged_copies) == (0, 0)


def test_last_commit_is_what_is_loaded():
    flash = new_flash()
    copies = TwoCopies(PATH)
    for i, payload in enumerate((b"", b"one", b"\x00" * 1000, b"four")):
        copies.commit(payload)
        assert copies.sequence == i + 1
        found, again = loaded()
        assert found == payload
        assert (again.sequence, again.damaged_copies) == (i + 1, 0)
    flash = same_flash(flash)
    found, again = loaded()
    assert (found, again.sequence, flash.programs) == (b"four", 4, 0)


def test_sequence_goes_on_after_a_restart():
    new_flash()
    for i in range(1, 8):
        payload, copies = loaded()
        assert payload == (b"%d" % (i - 1) if i > 1 else None)
        copies.commit(b"%d" % i)
        assert copies.sequence == i


def test_one_damaged_copy_is_survived_and_counted():
    for slot in (0, 1):
        new_flash()
        copies = TwoCopies(PATH)
        copies.commit(b"first")
        copies.commit(b"second")
        damage("%s.%d" % (PATH, slot))
        payload, copies = loaded()
        assert (payload, copies.sequence, copies.damaged_copies) == (b"second", 2, 1)
        copies.commit(b"third")
        payload, copies = loaded()
        assert (payload, copies.damaged_copies) == (b"third", 0)


def test_both_damaged_are_refused():
    new_flash()
    copies = TwoCopies(PATH)
    copies.commit(b"first")
    copies.commit(b"second")
    damage(PATH + ".0")
    damage(PATH + ".1")
    copies = TwoCopies(PATH)
    assert is_damaged(copies)
    assert copies.damaged_copies == 2
    copies.commit(b"new")  # what a command to set it again does
    assert loaded()[0] == b"new"


def test_the_only_copy_damaged_is_refused():
    new_flash()
    TwoCopies(PATH).commit(b"only")
    os.remove(PATH + ".1")
    damage(PATH + ".0")
    assert is_damaged(TwoCopies(PATH))


def test_two_copies_refuse_every_flipped_bit():
    new_flash()
    TwoCopies(PATH).commit(b"payload")
    good = octets_of(PATH + ".1")
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit >> 3] ^= 1 << (bit & 7)
        write(PATH + ".1", bad)
        payload, copies = loaded()
        assert (payload, copies.damaged_copies) == (b"payload", 1), bit
        assert copies.mended and octets_of(PATH + ".1") == good, bit
        write(PATH + ".0", bad)
        write(PATH + ".1", bad)
        assert is_damaged(TwoCopies(PATH)), bit
        write(PATH + ".0", good)


def test_copies_that_differ_are_made_equal_at_the_start():
    # A cut between the two writes leaves one behind: damage to the newer one later on must not
    # bring the older one back.
    new_flash()
    TwoCopies(PATH).commit(b"old")
    old = octets_of(PATH + ".0")
    _, copies = loaded()
    copies.commit(b"new")
    for slot in (".0", ".1"):
        write(PATH + slot, old)
        payload, copies = loaded()
        assert (payload, copies.mended, copies.damaged_copies) == (b"new", True, 0)
        assert octets_of(PATH + ".0") == octets_of(PATH + ".1")
        payload, copies = loaded()
        assert (payload, copies.mended) == (b"new", False)


def test_two_copies_refuse_every_wrong_length():
    new_flash()
    TwoCopies(PATH).commit(b"payload")
    good = octets_of(PATH + ".1")
    for wrong in [good[:size] for size in range(1, len(good))] + [good + b"\x00"]:
        write(PATH + ".1", wrong)
        payload, copies = loaded()
        assert (payload, copies.damaged_copies) == (b"payload", 1), len(wrong)


def test_both_copies_hold_what_was_committed_last():
    new_flash()
    copies = TwoCopies(PATH)
    for payload in (b"one", b"two", b"three"):
        copies.commit(payload)
        assert octets_of(PATH + ".0") == octets_of(PATH + ".1")
        assert payload in octets_of(PATH + ".0")


def test_an_empty_file_is_a_copy_never_written():
    # littlefs makes the directory entry of a new file before the file's first commit.
    new_flash()
    write(PATH + ".0", b"")
    payload, copies = loaded()
    assert payload is None and copies.damaged_copies == 0
    copies.commit(b"one")
    write(PATH + ".1", b"")
    assert loaded()[0] == b"one"


def test_a_copy_that_cannot_be_read_is_damaged_not_missing():
    import builtins

    from pump import journal

    new_flash()
    TwoCopies(PATH).commit(b"there")

    def broken_open(path, mode):
        raise OSError(5)

    journal.open = broken_open
    try:
        assert is_damaged(TwoCopies(PATH))
        assert is_damaged(HotRecord(FOLDER, LAYOUT))
    finally:
        journal.open = builtins.open
    assert loaded()[0] == b"there"


def test_a_power_cut_at_any_flash_operation_leaves_old_or_new():
    cut = 0
    old = new = 0
    while True:
        cut += 1
        flash = new_flash()
        copies = TwoCopies(PATH)
        done = 0
        flash.cut_at(cut)
        try:
            for i in range(1, 31):
                copies.commit(b"payload %d" % i)
                done = i
        except PowerCut:
            pass
        if not flash.dead:
            break
        flash = same_flash(flash)
        payload, copies = loaded()
        assert copies.damaged_copies == 0, cut
        assert copies.sequence in (done, done + 1), (cut, done, copies.sequence)
        assert payload == (b"payload %d" % copies.sequence if copies.sequence else None)
        old += copies.sequence == done
        new += copies.sequence == done + 1
        copies.commit(b"goes on")
        assert loaded()[0] == b"goes on"
    assert cut > 30 and old > 20


def test_the_copy_that_is_worth_less_is_written_over_first():
    for stale in (0, 1):
        for damaged in (False, True):
            new_flash()
            TwoCopies(PATH).commit(b"first")
            old = octets_of(PATH + ".0")
            loaded()[1].commit(b"second")
            write("%s.%d" % (PATH, stale), old)  # the cut came between the copies
            if damaged:
                damage("%s.%d" % (PATH, stale))
            payload, copies = loaded()
            assert payload == b"second"
            assert slots_written(copies) == [stale, 1 - stale]


def test_a_commit_that_fails_leaves_the_one_before_or_the_new_one():
    for fail in range(1, 4):
        flash = new_flash()
        copies = TwoCopies(PATH)
        copies.commit(b"good")
        flash.fail_at(fail)
        try:
            copies.commit(b"fails")
        except OSError:
            pass
        else:
            assert flash.armed
        same_flash(flash)
        payload, found = loaded()
        assert (payload, found.sequence) == (b"good", 1) or found.sequence == 2
        assert found.sequence >= copies.sequence


# -- the hot record ---------------------------------------------------------------------------


def test_hot_record_round_trip():
    flash = new_flash()
    record = HotRecord(FOLDER, LAYOUT)
    assert record.load() is None
    for values in ((0, 0), (1, 2), (2**64 - 1, 2**63), (123_456_789_012, 0)):
        record.store(*values)
        assert HotRecord(FOLDER, LAYOUT).load() == values
    same_flash(flash)
    assert HotRecord(FOLDER, LAYOUT).load() == (123_456_789_012, 0)


def test_hot_record_is_rewritten_in_place_and_costs_few_erases():
    flash = new_flash()
    record = HotRecord(FOLDER, LAYOUT)
    record.store(0, 0)
    erases, programs = flash.erases, flash.programs
    for i in range(1000):
        record.store(i, i)
    assert flash.programs - programs <= 1_300
    assert flash.erases - erases <= 100  # CST-7: at most a tenth of the records


def test_hot_record_refuses_every_flipped_bit():
    new_flash()
    record = HotRecord(FOLDER, LAYOUT)
    record.store(0x0123456789ABCDEF, 42)
    good = octets_of(NOW)
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit >> 3] ^= 1 << (bit & 7)
        write(NOW, bad)
        assert is_damaged(HotRecord(FOLDER, LAYOUT)), bit


def test_hot_record_refuses_every_wrong_length():
    new_flash()
    HotRecord(FOLDER, LAYOUT).store(1, 2)
    good = octets_of(NOW)
    for wrong in [good[:size] for size in range(1, len(good))] + [good + b"\x00"]:
        write(NOW, wrong)
        assert is_damaged(HotRecord(FOLDER, LAYOUT)), len(wrong)
    write(NOW, b"")  # its first commit was cut: never written
    assert HotRecord(FOLDER, LAYOUT).load() is None


def test_hot_record_is_durable_when_store_returns():
    random = Random(5)
    flash = new_flash()
    record = HotRecord(FOLDER, LAYOUT)
    stored = 0
    for _ in range(60):
        for _ in range(random.between(1, 20)):
            stored += 1
            record.store(stored, stored // 3)
        flash = same_flash(flash)
        record = HotRecord(FOLDER, LAYOUT)
        assert record.load() == (stored, stored // 3)


def test_a_power_cut_in_any_hot_store_leaves_old_or_new():
    cut = 0
    while True:
        cut += 1
        flash = new_flash()
        record = HotRecord(FOLDER, LAYOUT)
        done = None
        flash.cut_at(cut)
        try:
            for i in range(60):
                record.store(i, i)
                done = i
        except PowerCut:
            pass
        if not flash.dead:
            break
        flash = same_flash(flash)
        found = HotRecord(FOLDER, LAYOUT).load()
        if done is None:
            assert found in (None, (0, 0)), cut
        else:
            assert found in ((done, done), (done + 1, done + 1)), (cut, done, found)
    assert cut > 60


def test_a_hot_store_that_fails_says_so_and_the_next_one_is_durable():
    fail = 0
    failures = 0
    while True:
        fail += 1
        flash = new_flash()
        record = HotRecord(FOLDER, LAYOUT)
        record.store(0, 0)
        flash.fail_at(fail)
        kept = (0,)
        for i in range(1, 40):
            try:
                record.store(i, i)
            except OSError:
                failures += 1
                kept += (i,)
            else:
                kept = (i,)
        over = flash.armed
        same_flash(flash)
        found = HotRecord(FOLDER, LAYOUT).load()
        assert found[0] in kept, (fail, found, kept)
        if over:
            break
    assert failures > 30
