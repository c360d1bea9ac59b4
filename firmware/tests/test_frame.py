"""Frames on the wire: golden octets, damage, and taking up again after it."""

import gc

from pump_wire.frame import MAX_FRAME, MAX_PACKET, MAX_STUFFED, FrameReader, write_frame

PURE = True
VM_ONLY = ("test_feeding_allocates_nothing_inside_a_frame", "test_end_of_frame_allocates_little")

# Packets and their frames in hex, from RFC 1662's rules and zlib's CRC-32 by a program of its own.
GOLDEN = (
    ("313233343536373839", "7e3132333435363738392639f4cb7e"),  # CRC-32's check value CBF43926
    ("41", "7e418b9ed9d37e"),
    ("03", "7e7d2337be7d2b4b7e"),  # Ctrl-C, and an FCS with a control character in it
    ("7e7d7f", "7e7d5e7d5d7d5f5ef77d25fb7e"),
    ("31353230", "7e313532307d5e7d23da807e"),  # an FCS with 7E and 03 in it
    ("01000001", "7e7d217d207d207d21ef88ffee7e"),
    ("2080ff", "7e2080ff34e88dd17e"),
    (
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "7e7d207d217d227d237d247d257d267d277d287d297d2a7d2b7d2c7d2d7d2e7d2f7d307d317d327d337d347d"
        "357d367d377d387d397d3a7d3b7d3c7d3d7d3e7d3f8a7d5e26917e",
    ),
)


def frame_of(packet):
    out = bytearray(MAX_STUFFED)
    return bytes(out[: write_frame(out, packet, len(packet))])


def packets_in(reader, octets):
    """The good packets that ``reader`` finds in ``octets``."""
    found = []
    for octet in octets:
        if reader.feed(octet):
            found.append(bytes(reader.packet[: reader.length]))
    return found


def pattern(length):
    """``length`` octets that look random and are always the same."""
    octets = bytearray(length)
    value = 12345
    for at in range(length):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
        octets[at] = value >> 16 & 0xFF
    return bytes(octets)


def test_golden_frames_are_written():
    for packet, frame in GOLDEN:
        assert frame_of(bytes.fromhex(packet)) == bytes.fromhex(frame), packet


def test_golden_frames_are_read():
    reader = FrameReader()
    for packet, frame in GOLDEN:
        assert packets_in(reader, bytes.fromhex(frame)) == [bytes.fromhex(packet)], packet
    assert (reader.good, reader.damaged, reader.oversize, reader.noise) == (len(GOLDEN), 0, 0, 0)


def test_every_octet_goes_through():
    for octet in range(256):
        packet = bytes([octet, 0x55, octet])
        assert packets_in(FrameReader(), frame_of(packet)) == [packet], octet


def test_control_characters_never_stand_in_a_frame():
    for packet in (bytes(range(128)), bytes(range(128, 256)), pattern(MAX_PACKET)):
        inside = frame_of(packet)[1:-1]
        for octet in inside:
            assert octet >= 0x20 and octet != 0x7E and octet != 0x7F, octet


def test_lengths_from_one_to_the_longest():
    for length in (1, 2, 3, 4, 5, 250, 251, MAX_PACKET):
        packet = pattern(length)
        assert packets_in(FrameReader(), frame_of(packet)) == [packet], length


def test_longest_stuffed_frame_fits_its_buffer():
    out = bytearray(MAX_STUFFED)
    assert write_frame(out, bytes(MAX_PACKET), MAX_PACKET) <= MAX_STUFFED
    assert MAX_PACKET + 4 == MAX_FRAME == 256


def test_lengths_outside_are_refused():
    out = bytearray(MAX_STUFFED)
    for length in (-1, 0, MAX_PACKET + 1):
        try:
            write_frame(out, bytes(300), length)
        except ValueError as error:
            assert str(length) in str(error) and str(MAX_PACKET) in str(error)
        else:
            raise AssertionError("a packet of %d octets was framed" % length)
    assert bytes(out) == bytes(MAX_STUFFED)


def test_length_says_how_much_of_the_packet_counts():
    out = bytearray(MAX_STUFFED)
    size = write_frame(out, b"abcdef", 3)
    assert packets_in(FrameReader(), out[:size]) == [b"abc"]


def test_frames_may_share_a_flag():
    shared = frame_of(b"one")[:-1] + frame_of(b"two")
    assert packets_in(FrameReader(), shared) == [b"one", b"two"]


def test_flags_between_frames_are_nothing():
    reader = FrameReader()
    assert packets_in(reader, b"~~~" + frame_of(b"one") + b"~~~~" + frame_of(b"two")) == [
        b"one",
        b"two",
    ]
    assert reader.damaged == 0 and reader.noise == 0


def test_noise_without_flags_costs_no_frame():
    reader = FrameReader()
    noise = b"MicroPython v1.28.0; Raspberry Pi Pico\r\n>>> \x03\x04"
    assert packets_in(reader, noise + frame_of(b"one")) == [b"one"]
    assert reader.noise == len(noise) and reader.damaged == 0


def test_noise_with_a_flag_costs_itself_only():
    reader = FrameReader()
    assert packets_in(reader, b"noise~more noise" + frame_of(b"one")) == [b"one"]
    assert reader.damaged == 1


def test_cut_frame_costs_itself_only():
    frame = frame_of(b"\x03 cut me ~ anywhere")
    for keep in range(len(frame) - 1):
        reader = FrameReader()
        assert packets_in(reader, frame[:keep] + frame_of(b"next")) == [b"next"], keep
        assert reader.good == 1


def test_lost_end_flag_costs_nothing():
    frame = frame_of(b"one")[:-1]
    assert packets_in(FrameReader(), frame + frame_of(b"next")) == [b"one", b"next"]


def test_dropped_octet_costs_the_frame_only():
    frame = frame_of(b"\x03 drop ~ one")
    for at in range(1, len(frame) - 1):
        reader = FrameReader()
        cut = frame[:at] + frame[at + 1 :]
        assert packets_in(reader, cut + frame_of(b"next")) == [b"next"], at
        assert reader.damaged >= 1


def test_inserted_octet_costs_the_frame_only():
    frame = frame_of(b"\x03 put ~ one in")
    for at in range(1, len(frame) - 1):
        for octet in (0x00, 0x03, 0x41, 0x7D, 0x7F, 0xFF):
            found = packets_in(FrameReader(), frame[:at] + bytes([octet]) + frame[at:])
            assert found == [], (at, octet)


def test_abort_sequence_drops_the_frame():
    reader = FrameReader()
    assert packets_in(reader, b"~some octets}~" + frame_of(b"one")) == [b"one"]
    assert reader.damaged == 1


def test_raw_control_character_drops_the_frame():
    for octet in tuple(range(0x20)) + (0x7F,):
        reader = FrameReader()
        frame = frame_of(b"abcdef")
        octets = frame[:4] + bytes([octet]) + frame[4:]
        assert packets_in(reader, octets + frame_of(b"next")) == [b"next"], octet
        assert reader.damaged == 1, octet


def test_frames_too_short_for_an_fcs_are_damaged():
    for inside in (b"a", b"ab", b"abc", b"abcd"):
        reader = FrameReader()
        assert packets_in(reader, b"~" + inside + b"~") == []
        assert reader.damaged == 1, inside


def test_fcs_of_nothing_is_no_packet():
    # The CRC-32 of no octets is 0: four zero octets would be an empty packet with a right FCS.
    reader = FrameReader()
    assert packets_in(reader, b"~}\x20}\x20}\x20}\x20~") == []
    assert reader.damaged == 1


def test_oversize_frame_is_dropped_and_counted():
    for excess in (1, 2, 300, 1000):
        reader = FrameReader()
        octets = b"~" + b"A" * (MAX_FRAME + excess) + b"~"
        assert packets_in(reader, octets + frame_of(b"next")) == [b"next"], excess
        assert reader.oversize == 1 and reader.good == 1, excess


def test_stuffed_octets_count_once_towards_the_size():
    packet = bytes(MAX_PACKET)  # every octet escaped
    reader = FrameReader()
    assert packets_in(reader, frame_of(packet)) == [packet]
    assert reader.oversize == 0


def test_all_one_and_two_bit_flips_are_refused():
    frame = frame_of(b"\x01\x2a\x00\x02~}\xff")
    flipped = bytearray(frame)
    bits = 8 * len(frame)
    accepted = 0
    reader = FrameReader()
    for first in range(bits):
        flipped[first >> 3] ^= 1 << (first & 7)
        for second in range(first, bits):
            if second > first:
                flipped[second >> 3] ^= 1 << (second & 7)
            reader.drop_partial()
            for octet in flipped:
                if reader.feed(octet):
                    accepted += 1
            if second > first:
                flipped[second >> 3] ^= 1 << (second & 7)
        flipped[first >> 3] ^= 1 << (first & 7)
    assert bytes(flipped) == frame
    assert accepted == 0
    assert packets_in(reader, b"~" + frame) == [b"\x01\x2a\x00\x02~}\xff"]


def test_partial_frame_is_known_and_dropped():
    reader = FrameReader()
    assert not reader.partial
    reader.feed(0x7E)
    assert not reader.partial  # a flag alone may also end the frame before
    reader.feed(0x41)
    assert reader.partial
    reader.drop_partial()
    assert not reader.partial and reader.damaged == 1
    assert packets_in(reader, frame_of(b"one")[1:]) == []  # its opening flag was never seen
    assert packets_in(reader, frame_of(b"two")) == [b"two"]


def test_packet_stays_until_the_next_octet():
    reader = FrameReader()
    packets_in(reader, frame_of(b"one"))
    assert bytes(reader.packet[: reader.length]) == b"one"


def test_feeding_allocates_nothing_inside_a_frame():
    import micropython

    packet = pattern(MAX_PACKET)
    stretches = (
        frame_of(packet)[:-1],
        b"noise outside",
        b"~cut short by a control character\x03",
        b"~}\x03}}",
        b"~" + b"A" * 400,
        b"~~~~",
    )
    for octets in stretches:
        reader = FrameReader()
        feed = reader.feed
        micropython.heap_lock()
        try:
            for octet in octets:
                feed(octet)
        finally:
            micropython.heap_unlock()
        assert reader.good == 0
        whole = FrameReader()
        take = whole.take
        micropython.heap_lock()
        try:
            end = take(octets, 0, len(octets))
        finally:
            micropython.heap_unlock()
        assert end == len(octets)
        assert (whole.noise, whole.damaged, whole.oversize, whole.partial) == (
            reader.noise,
            reader.damaged,
            reader.oversize,
            reader.partial,
        )
    assert reader.oversize == 0 and reader.damaged == 0


def test_end_of_frame_allocates_little():
    reader = FrameReader()
    frame = frame_of(pattern(MAX_PACKET))
    packets_in(reader, frame[:-1])
    gc.collect()
    gc.disable()
    try:
        before = gc.mem_alloc()
        ended = reader.feed(0x7E)
        used = gc.mem_alloc() - before
    finally:
        gc.enable()
    assert ended
    assert used <= 96, used  # a view and a number, 32 octets each in a 64-bit VM
