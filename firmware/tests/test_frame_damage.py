"""Damaged frames: no flipped, lost or added octet makes another frame of one."""

from attack_parser import damaged

from pump_wire import frame

PURE = True
TIMEOUT_S = 60
REQUIREMENTS = {"test_no_damaged_frame_is_accepted": ("INP-2",)}


def test_no_damaged_frame_is_accepted():
    tried = 0
    for number in range(50):
        count, why = damaged(1, number, 60)
        assert not why, "frame %d: %s" % (number, why)
        tried += count
    assert tried > 19_000


def test_a_reader_that_does_not_check_is_seen():
    whole = frame.crc32
    try:
        frame.crc32 = lambda octets: frame._RESIDUE
        assert "accepted with" in damaged(1, 7, 60)[1]
    finally:
        frame.crc32 = whole
