"""The message table holds together, and the codec and the session layer carry all of it."""

from struct import calcsize

from pump_wire import messages
from pump_wire.codec import MAX_BODY, FieldError, decode, encode
from pump_wire.frame import MAX_PACKET
from pump_wire.messages import (
    ALARMS,
    BY_NUMBER,
    CONFIRM,
    ERROR,
    EVENT_FORMAT,
    EVENT_SIZE,
    EVENTS,
    FAULTS,
    PREPARE,
    REFUSALS,
    TABLE,
    Message,
    table_hash,
)
from pump_wire.session import HEADER, REFUSAL, REPLY, REQUEST, unwrap, wrap

PURE = True

# What hello says of this table. It changes with every change of a message, on purpose: a pump and
# a programmer with different tables must not talk. Change it in the commit that changes the table.
TABLE_HASH = 0x1EE7E4FD

INTEGERS = {
    "u8": (0, 2**8 - 1, 1),
    "u16": (0, 2**16 - 1, 2),
    "u32": (0, 2**32 - 1, 4),
    "u64": (0, 2**64 - 1, 8),
    "i64": (-(2**63), 2**63 - 1, 8),
}


def all_fields():
    """(name, fields) of every body there is."""
    bodies = [("error", ERROR)]
    for message in TABLE:
        bodies.append((message.name + " request", message.request))
        bodies.append((message.name + " reply", message.reply))
    return bodies


def largest(fields):
    """Octets of the longest body of ``fields``, what ``b*`` takes not counted."""
    total = 0
    for _, kind, _, _, _ in fields:
        if kind in INTEGERS:
            total += INTEGERS[kind][2]
        elif kind != "b*":
            total += int(kind[1:]) + (kind[0] == "s")
    return total


def extremes(fields, high):
    """Values at one end of every range."""
    values = {}
    for name, kind, low, top, _ in fields:
        if kind in INTEGERS:
            values[name] = top if high else low
        elif kind == "b*":
            values[name] = b"\x00\x7e\xff" if high else b""
        elif kind[0] == "b":
            values[name] = bytes([255 if high else 0]) * int(kind[1:])
        else:
            values[name] = "z" * int(kind[1:]) if high else ""
    return values


def body_of(fields, values):
    out = bytearray(MAX_BODY)
    return bytes(out[: encode(fields, values, out)])


def refused(fields, values):
    """The FieldError that encoding raises."""
    try:
        encode(fields, values, bytearray(MAX_BODY))
    except FieldError as error:
        return error
    raise AssertionError("encoded: %r" % values)


def refused_octets(fields, octets):
    """The FieldError that decoding raises."""
    try:
        values = decode(fields, octets)
    except FieldError as error:
        return error
    raise AssertionError("decoded: %r" % values)


def test_numbers_and_names_are_unique():
    assert len({message.number for message in TABLE}) == len(TABLE)
    assert len({message.name for message in TABLE}) == len(TABLE)
    assert len(BY_NUMBER) == len(TABLE)
    for message in TABLE:
        assert 1 <= message.number <= 127, message.name
        assert BY_NUMBER[message.number] is message


def test_codes_are_unique_and_fit_an_octet():
    for codes in (REFUSALS, EVENTS, FAULTS, ALARMS):
        assert len({row[0] for row in codes.values()}) == len(codes)
        for code in codes:
            assert 1 <= code <= 255, code


def test_field_limits_fit_their_types():
    for body, fields in all_fields():
        for name, kind, low, high, text in fields:
            where = body + " " + name
            assert text, where
            if kind in INTEGERS:
                lowest, highest, _ = INTEGERS[kind]
                assert lowest <= low <= high <= highest, where
            else:
                assert low is None and high is None, where
                assert kind == "b*" or int(kind[1:]) <= 255, where


def test_field_names_are_unique_in_a_body():
    for body, fields in all_fields():
        assert len({field[0] for field in fields}) == len(fields), body


def test_open_octets_stand_last():
    for body, fields in all_fields():
        for field in fields[:-1]:
            assert field[1] != "b*", body


def test_every_body_fits_a_frame():
    for body, fields in all_fields():
        assert largest(fields) <= MAX_BODY, body
    assert HEADER + MAX_BODY <= MAX_PACKET


def test_every_command_fits_prepare():
    prepared = [message for message in TABLE if message.prepared]
    assert prepared
    for message in prepared:
        assert largest(PREPARE.request) + largest(message.request) <= MAX_BODY, message.name
        assert largest(PREPARE.reply) + largest(message.reply) <= MAX_BODY, message.name
    assert not PREPARE.prepared and not CONFIRM.prepared


def test_event_records_are_as_long_as_said():
    assert calcsize(EVENT_FORMAT) + 4 == EVENT_SIZE


def test_table_hash_is_the_golden_one():
    assert table_hash() == TABLE_HASH, "table_hash() is 0x%08X" % table_hash()


def changed_rows(message):
    """Rows that differ from ``message`` in one thing that the wire means."""

    def row(**changes):
        names = ("number", "name", "roles", "prepared", "text", "request", "reply")
        return Message(*[changes.get(name, getattr(message, name)) for name in names])

    yield row(number=126)
    yield row(name=message.name + "_too")
    yield row(roles=message.roles ^ 8)
    yield row(prepared=not message.prepared)
    for side in ("request", "reply"):
        for fields in changed_fields(getattr(message, side)):
            yield row(**{side: fields})


def changed_fields(fields):
    """``fields`` with one more, one fewer, and each with another name, type, low and high."""
    yield fields + (("added", "u8", 0, 1, "a field more"),)
    for at, (name, kind, low, high, text) in enumerate(fields):
        others = (
            (name + "_too", kind, low, high, text),
            (name, "b9" if kind[0] in "sb" else "u128", low, high, text),
            (name, kind, 1 if low is None else low - 1, high, text),
            (name, kind, low, 1 if high is None else high + 1, text),
        )
        yield fields[:at] + fields[at + 1 :]
        for other in others:
            yield fields[:at] + (other,) + fields[at + 1 :]


def hash_with(name, value):
    """table_hash() while ``name`` in the message module is ``value``."""
    before = getattr(messages, name)
    setattr(messages, name, value)
    try:
        return table_hash()
    finally:
        setattr(messages, name, before)


def test_table_hash_changes_with_every_row():
    seen = {TABLE_HASH}
    count = 1
    for at, message in enumerate(TABLE):
        seen.add(hash_with("TABLE", TABLE[:at] + TABLE[at + 1 :]))
        count += 1
        for other in changed_rows(message):
            seen.add(hash_with("TABLE", TABLE[:at] + (other,) + TABLE[at + 1 :]))
            count += 1
    for fields in changed_fields(ERROR):
        seen.add(hash_with("ERROR", fields))
        count += 1
    assert len(seen) == count
    assert table_hash() == TABLE_HASH


def test_table_hash_changes_with_every_code():
    seen = {TABLE_HASH}
    count = 1
    for name in ("REFUSALS", "EVENTS", "FAULTS", "ALARMS"):
        codes = getattr(messages, name)
        for code in codes:
            renamed = dict(codes)
            renamed[code] = (codes[code][0] + "_too",) + tuple(codes[code][1:])
            fewer = dict(codes)
            del fewer[code]
            seen.add(hash_with(name, renamed))
            seen.add(hash_with(name, fewer))
            count += 2
    for name in ("MODES", "STOP_REASONS", "RESET_CAUSES", "ACTIONS", "ALARM_STATES"):
        seen.add(hash_with(name, getattr(messages, name) + ("another",)))
        count += 1
    seen.add(hash_with("EVENT_FORMAT", EVENT_FORMAT + "B"))
    seen.add(hash_with("WIRE_VERSION", messages.WIRE_VERSION + 1))
    assert len(seen) == count + 2


def test_texts_may_change_without_the_hash():
    first = TABLE[0]
    other = Message(
        first.number,
        first.name,
        first.roles,
        first.prepared,
        "said otherwise",
        first.request,
        first.reply,
    )
    assert hash_with("TABLE", (other,) + TABLE[1:]) == TABLE_HASH


def test_every_body_goes_there_and_back_at_both_ends():
    for body, fields in all_fields():
        for high in (False, True):
            values = extremes(fields, high)
            octets = body_of(fields, values)
            assert len(octets) <= MAX_BODY, body
            assert decode(fields, octets) == values, body
            assert decode(fields, memoryview(octets)) == values, body


def test_golden_body():
    fields = (
        ("small", "u8", 0, 255, "."),
        ("short", "u16", 0, 65535, "."),
        ("signed", "i64", -(2**62), 2**62, "."),
        ("word", "s8", None, None, "."),
        ("token", "b2", None, None, "."),
        ("rest", "b*", None, None, "."),
    )
    values = {
        "small": 7,
        "short": 0x1234,
        "signed": -2,
        "word": "\u00b5g",
        "token": b"ab",
        "rest": b"xyz",
    }
    octets = b"\x07\x34\x12\xfe\xff\xff\xff\xff\xff\xff\xff\x03\xc2\xb5gabxyz"
    assert body_of(fields, values) == octets
    assert decode(fields, octets) == values


def test_number_outside_its_range_is_refused_both_ways():
    for body, fields in all_fields():
        for name, kind, low, high, _ in fields:
            if kind not in INTEGERS:
                continue
            for value, limit in ((low - 1, low), (high + 1, high)):
                values = extremes(fields, False)
                values[name] = value
                error = refused(fields, values)
                told = (error.field, error.value, error.limit)
                assert told == (name, value, limit), body
                lowest, highest, _ = INTEGERS[kind]
                if lowest <= value <= highest:
                    wide = [
                        field if field[0] != name else (name, kind, lowest, highest, "")
                        for field in fields
                    ]
                    error = refused_octets(fields, body_of(wide, values))
                    told = (error.field, error.value, error.limit)
                    assert told == (name, value, limit), body


def test_body_cut_or_too_long_is_refused():
    for body, fields in all_fields():
        if not fields:
            assert refused_octets(fields, b"\x00").value == 1, body
            continue
        octets = body_of(fields, extremes(fields, True))
        shortest = len(octets)
        if fields[-1][1] == "b*":
            shortest -= 3  # what extremes() puts there
        else:
            assert refused_octets(fields, octets + b"\x00"), body
        for keep in range(shortest):
            assert refused_octets(fields, octets[:keep]), (body, keep)


def test_text_counts_in_octets_and_not_in_characters():
    fields = (("word", "s4", None, None, "."),)
    assert decode(fields, body_of(fields, {"word": "\u00b5\u00b5"})) == {"word": "\u00b5\u00b5"}
    error = refused(fields, {"word": "\u00b5\u00b5g"})
    assert (error.field, error.value, error.limit) == ("word", 5, 4)
    assert refused_octets(fields, b"\x05abcde").limit == 4


def test_text_must_be_utf8_that_both_sides_read():
    fields = (("word", "s8", None, None, "."),)
    bad = (
        b"\xff",
        b"\x80",
        b"\xc3",
        b"\xc3(",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x80\x80",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"a\xed\xa0\x80",
    )
    for raw in bad:
        assert refused_octets(fields, bytes([len(raw)]) + raw).field == "word", raw
    for text in ("", "a", "\u00b5g/d", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\U0010ffff"):
        assert decode(fields, body_of(fields, {"word": text})) == {"word": text}


def test_octets_of_a_fixed_size_have_that_size():
    fields = (("token", "b8", None, None, "."),)
    for raw in (b"", b"1234567", b"123456789"):
        error = refused(fields, {"token": raw})
        assert (error.field, error.value, error.limit) == ("token", len(raw), 8)


def test_what_does_not_fit_the_buffer_is_refused():
    texts = (("s8", "a"), ("s8", ""))
    for kind, value in texts + (("u8", 1), ("u64", 1), ("b8", b"12345678"), ("b*", b"1")):
        fields = (("field", kind, 0, 255, "."),)
        whole = len(body_of(fields, {"field": value}))
        for room in range(whole):
            try:
                encode(fields, {"field": value}, bytearray(room))
            except FieldError as error:
                assert error.field == "field"
            else:
                raise AssertionError("%s went into %d octets" % (kind, room))


def test_missing_value_is_no_default():
    try:
        encode(ERROR, {"code": 1}, bytearray(MAX_BODY))
    except KeyError as error:
        assert error.args[0] == "field"
    else:
        raise AssertionError("a missing field was encoded")


def test_packet_goes_there_and_back():
    for kind in (REQUEST, REPLY, REFUSAL):
        packet = bytearray(HEADER + MAX_BODY)
        packet[HEADER : HEADER + 3] = b"abc"
        length = wrap(packet, kind, 0xFFFE, 127, HEADER + 3)
        assert bytes(packet[:length]) == bytes([kind]) + b"\xfe\xff\x7fabc"
        found = unwrap(memoryview(packet)[:length])
        assert found[:3] == (kind, 0xFFFE, 127)
        assert bytes(found[3]) == b"abc"


def test_what_is_no_packet_is_none():
    short = (b"", b"\x01", b"\x01\x00\x00")
    for packet in short + (b"\x00\x00\x00\x01", b"\x04\x00\x00\x01", b"\xff" * 9):
        assert unwrap(packet) is None, packet
