"""The virtual board's flash: what NOR flash would not do, it does not do either."""

import gc

from nor_flash import BLOCK, BLOCKS, PAGE, NorFlash, PowerCut
from virtual_pump import damage, new_flash, same_flash

_ERASE = 6


def made(blocks=2):
    """A flash of which only the first blocks are there."""
    with open("small.bin", "wb") as file:
        for _ in range(blocks * BLOCK // PAGE):
            file.write(b"\xff" * PAGE)
    return NorFlash("small.bin")


def read(flash, block, offset=0, size=PAGE):
    buffer = bytearray(size)
    flash.readblocks(block, buffer, offset)
    return bytes(buffer)


def is_all(flash, block, value):
    page = bytes([value]) * PAGE
    return all(read(flash, block, offset) == page for offset in range(0, BLOCK, PAGE))


def refused(flash, block, octets, offset):
    try:
        flash.writeblocks(block, octets, offset)
    except OSError as error:
        return error.errno == 22
    return False


def test_programs_what_was_erased():
    flash = made()
    page = bytes(range(256))
    flash.writeblocks(1, page, PAGE)
    assert read(flash, 1, PAGE) == page
    assert read(flash, 1, 0) == b"\xff" * PAGE
    assert read(flash, 1, PAGE - 3, 7) == b"\xff\xff\xff\x00\x01\x02\x03"
    assert read(flash, 0) == b"\xff" * PAGE


def test_bits_only_fall():
    flash = made()
    flash.writeblocks(0, b"\x0f" * PAGE)
    flash.writeblocks(0, b"\x03" * PAGE)
    assert read(flash, 0) == b"\x03" * PAGE
    for bit in range(8):
        page = bytearray(b"\x03" * PAGE)
        page[77] |= 1 << bit
        assert refused(flash, 0, page, 0) == (bit > 1), bit
    assert read(flash, 0) == b"\x03" * PAGE


def test_a_program_that_would_set_a_bit_changes_nothing():
    flash = made()
    flash.writeblocks(0, bytes(PAGE), PAGE)
    assert refused(flash, 0, b"\x55" * (2 * PAGE), 0)
    assert read(flash, 0) == b"\xff" * PAGE
    assert read(flash, 0, PAGE) == bytes(PAGE)


def test_unaligned_programs_are_refused():
    flash = made()
    page = bytes(PAGE)
    for octets, offset in (
        (page, 1),
        (page, 128),
        (page, PAGE - 1),
        (page[:255], 0),
        (page[:1], 0),
        (page + b"\x00", 0),
        (page, BLOCK),
        (page + page, BLOCK - PAGE),
    ):
        assert refused(flash, 0, octets, offset), (len(octets), offset)
    assert is_all(flash, 0, 0xFF)
    assert flash.programs == 0


def test_erase_sets_one_whole_block():
    flash = made(3)
    for block in range(3):
        for offset in range(0, BLOCK, PAGE):
            flash.writeblocks(block, bytes(PAGE), offset)
    assert flash.ioctl(_ERASE, 1) == 0
    assert is_all(flash, 0, 0)
    assert is_all(flash, 1, 0xFF)
    assert is_all(flash, 2, 0)
    flash.writeblocks(1, b"\xa5" * PAGE, BLOCK - PAGE)
    assert read(flash, 1, BLOCK - PAGE) == b"\xa5" * PAGE


def test_counters():
    flash = made()
    assert (flash.programs, flash.erases) == (0, 0)
    flash.writeblocks(0, bytes(PAGE), 0)
    flash.writeblocks(0, bytes(3 * PAGE), PAGE)
    flash.ioctl(_ERASE, 0)
    read(flash, 0)
    assert (flash.programs, flash.erases) == (4, 1)


def test_every_operation_is_in_the_file_before_it_returns():
    flash = made()
    flash.writeblocks(1, b"\x5a" * PAGE, 512)
    assert read(NorFlash("small.bin"), 1, 512) == b"\x5a" * PAGE
    flash.ioctl(_ERASE, 1)
    assert read(NorFlash("small.bin"), 1, 512) == b"\xff" * PAGE


def test_size_is_a_stock_picos():
    flash = made()
    assert (flash.ioctl(4, 0), flash.ioctl(5, 0)) == (352, 4096)
    assert BLOCKS * BLOCK == 1_408 * 1024


def test_littlefs_lives_on_it():
    flash = new_flash()
    for i in range(200):
        with open("/flash/file%d" % (i % 3), "wb") as file:
            file.write(b"%d " % i * 50)
    assert flash.erases > 2 and flash.programs > 200
    flash = same_flash(flash)
    with open("/flash/file1", "rb") as file:
        assert file.read() == b"199 " * 50
    damage("/flash/file1", at=0, bit=0x80)
    with open("/flash/file1", "rb") as file:
        assert file.read(3) == b"\xb199"


def test_files_that_are_collected_between_a_cut_and_its_end_are_closed():
    """It crashed the VM: a file that is closed later met what was left of them."""

    def written(number):
        file = open("/flash/open%d" % number, "wb")
        file.write(b"x" * 2000)
        return file

    def use_stack(depth):
        return use_stack(depth - 1) + [0] * 64 if depth else []

    flash = new_flash()
    kept = written(99)
    files = [written(number) for number in range(5)]
    flash.cut_at(1)
    cut = False
    try:
        files[0].flush()
    except PowerCut:
        cut = True
    assert cut
    files = None
    use_stack(30)
    before = gc.mem_alloc()
    gc.collect()
    assert before - gc.mem_alloc() > 4 * 1024  # the caches of five files
    rubbish = [b"\xa5" * 1200 for _ in range(60)]
    flash.leave()
    kept.close()
    assert len(rubbish) == 60
