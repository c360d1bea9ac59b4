"""The virtual board's flash when it fails: torn operations, errors, worn and unreadable blocks."""

from nor_flash import BLOCK, ERASE_SHAPES, PAGE, PROGRAM_SHAPES, SHAPES, NorFlash, PowerCut, make
from virtual_pump import new_flash, running, same_flash

_ERASE = 6
_IMAGE = "faults.bin"
_OLD = b"\xf0\x3c" * (PAGE // 2)
_NEW = b"\x30\x0c" * (PAGE // 2)


def read(flash, block, offset=0, size=PAGE):
    buffer = bytearray(size)
    flash.readblocks(block, buffer, offset)
    return bytes(buffer)


def bits(octets):
    return sum(bin(octet).count("1") for octet in octets)


def cut(torn, erase):
    """What two pages of block 1 hold after a cut in a program or an erase, and the flash as it
    is at the next power on."""
    make(_IMAGE)
    flash = NorFlash(_IMAGE)
    flash.writeblocks(1, _OLD)
    flash.writeblocks(1, _OLD, BLOCK - PAGE)
    flash.cut_at(2, torn)
    flash.writeblocks(2, _OLD)
    try:
        flash.ioctl(_ERASE, 1) if erase else flash.writeblocks(1, _NEW)
    except PowerCut:
        pass
    else:
        raise AssertionError("no cut")
    assert flash.dead and flash.ops == 4
    for access in (lambda: read(flash, 0), lambda: flash.ioctl(_ERASE, 0)):
        try:
            access()
        except PowerCut:
            continue
        raise AssertionError("the flash lives on")
    again = NorFlash(_IMAGE)
    assert read(again, 2) == _OLD and again.ops == 0
    return read(again, 1), read(again, 1, BLOCK - PAGE), again


def test_programs_are_torn_in_each_shape():
    fall = bits(_OLD) - bits(_NEW)
    for shape in (None, "before", "nothing_program", "nothing_erase"):
        assert cut(shape, False)[:2] == (_OLD, _OLD), shape
    for shape in ("half_program", "half_erase", "unreadable_erase"):
        first, _, again = cut(shape, False)
        assert first == _NEW[: PAGE // 2] + _OLD[PAGE // 2 :], shape
        assert read(again, 1) == first
    assert bits(cut("one_bit_program", False)[0]) == bits(_OLD) - 1
    for shape in ("all_but_one_bit_program", "most_erase"):
        first = cut(shape, False)[0]
        assert bits(first) == bits(_OLD) - fall + 1
        assert all(one & other == other for one, other in zip(first, _NEW))


def test_erases_are_torn_in_each_shape():
    blank = b"\xff" * PAGE
    for shape in (None, "before", "nothing_erase", "nothing_program"):
        assert cut(shape, True)[:2] == (_OLD, _OLD), shape
    for shape in ("half_erase", "half_program", "one_bit_program"):
        assert cut(shape, True)[:2] == (blank, _OLD), shape
    for shape in ("most_erase", "all_but_one_bit_program"):
        for page in cut(shape, True)[:2]:
            assert bits(_OLD) < bits(page) < 8 * PAGE
            assert all(one & other == other for one, other in zip(page, _OLD))


def test_an_unreadable_block_is_noise_until_it_is_erased():
    first, last, again = cut("unreadable_erase", True)
    assert first != read(again, 1) and last != read(again, 1, BLOCK - PAGE)
    assert read(NorFlash(_IMAGE), 1) != read(again, 1)
    again.ioctl(_ERASE, 1)
    for flash in (again, NorFlash(_IMAGE)):
        assert read(flash, 1) == read(flash, 1) == b"\xff" * PAGE


def test_a_cut_may_come_between_two_pages_of_one_write():
    make(_IMAGE)
    flash = NorFlash(_IMAGE)
    flash.cut_at(3)
    try:
        flash.writeblocks(0, _OLD * 4)
    except PowerCut:
        pass
    again = NorFlash(_IMAGE)
    assert [read(again, 0, at * PAGE) == _OLD for at in range(4)] == [True, True, False, False]


def test_an_operation_fails_once_or_for_ever():
    make(_IMAGE)
    flash = NorFlash(_IMAGE)
    flash.fail_at(2)
    assert not flash.writeblocks(0, _OLD) and flash.armed
    assert flash.writeblocks(0, _OLD, PAGE) == -5 and not flash.armed
    assert not flash.writeblocks(0, _OLD, PAGE)
    flash.fail_at(1, True)
    for _ in range(3):
        assert flash.ioctl(_ERASE, 0) == -5 and flash.writeblocks(0, _NEW, PAGE) == -5
    assert read(flash, 0, PAGE) == _OLD
    flash.heal()
    assert flash.ioctl(_ERASE, 0) == 0 and read(flash, 0) == b"\xff" * PAGE


def test_nonsense_is_refused():
    flash = NorFlash(_IMAGE)
    for arm in (
        lambda: flash.cut_at(-1),
        lambda: flash.fail_at(-1),
        lambda: flash.cut_at(1, "torn"),
    ):
        try:
            arm()
        except ValueError:
            continue
        raise AssertionError("armed")
    flash.cut_at(1)
    flash.cut_at(0)
    assert not flash.armed


def test_worn_blocks_are_seen_and_avoided_by_littlefs():
    for fails in (False, True):
        make(_IMAGE)
        flash = NorFlash(_IMAGE)
        flash.wear_out(3, fails)
        again = NorFlash(_IMAGE)
        program = again.writeblocks(3, bytes(PAGE))
        assert (program == -5) == fails
        assert fails or bits(read(again, 3)) == 1
    flash = new_flash()
    for block in range(10, 200, 5):
        flash.wear_out(block)
    for i in range(60):
        with open("/flash/file%d" % (i % 3), "wb") as file:
            file.write(b"%03d " % i * 500)
    flash = same_flash(flash)
    for i in range(57, 60):
        with open("/flash/file%d" % (i % 3), "rb") as file:
            assert file.read() == b"%03d " % i * 500
    flash.heal()


def test_wear_is_counted_by_block():
    make(_IMAGE)
    flash = NorFlash(_IMAGE)
    for block in (4, 7, 4):
        flash.ioctl(_ERASE, block)
    assert (flash.wear[4], flash.wear[7], sum(flash.wear)) == (2, 1, 3)


def test_a_pump_is_cut_and_built_again_in_one_vm_without_growth():
    import gc

    pump = running()
    shapes = (None,) + SHAPES
    used = []
    over = 0  # what the account has too much, of all cuts so far
    for i in range(60):
        pump.flash.cut_at(1 + i % 7, shapes[i % len(shapes)])
        try:
            pump.advance(3_600_000_000)
        except PowerCut:
            pass
        else:
            raise AssertionError("no cut in an hour")
        true_steps = pump.plant.pulses
        pump.cut_power()
        assert pump.plant.pulses == true_steps, "pulses after the cut"
        pump.power_on()
        pump.advance(1_000)
        assert pump.fault == "", (i, pump.app.faults.text)
        before, over = over, pump.app.ledger.steps() - true_steps
        assert 0 <= over - before <= 5, (i, before, over)
        gc.collect()
        used.append(gc.mem_alloc())
    assert max(used[40:]) < max(used[5:20]) + 2_000, used
    assert len(PROGRAM_SHAPES) >= 3 and len(ERASE_SHAPES) >= 4
