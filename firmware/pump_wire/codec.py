"""Bodies of messages: a tuple of fields from the table to octets and back.

Both directions refuse what the table does not allow: a number outside its range, text too long,
octets missing or left over.
"""

from struct import pack_into, unpack_from

MAX_BODY = 224  # leaves room in a 256-octet frame for header, tag, FCS and growth

_FORMATS = {
    "u8": ("<B", 1),
    "u16": ("<H", 2),
    "u32": ("<I", 4),
    "u64": ("<Q", 8),
    "i64": ("<q", 8),
}


class FieldError(ValueError):
    """A field cannot be carried. ``field`` name, ``value``, ``limit`` (None for form errors)."""

    def __init__(self, field, value, limit, text):
        super().__init__(text)
        self.field = field
        self.value = value
        self.limit = limit


def _check_range(name, low, high, value):
    if value < low:
        raise FieldError(name, value, low, "%s %d is below %d" % (name, value, low))
    if value > high:
        raise FieldError(name, value, high, "%s %d is above %d" % (name, value, high))


def _is_strict_utf8(raw):
    """False for the overlong forms, surrogates and code points above 10FFFF that MicroPython
    decodes and CPython refuses: what one side accepts, the other must be able to read back."""
    before = 0
    for octet in raw:
        if (
            octet == 0xC0
            or octet == 0xC1
            or octet > 0xF4
            or (before == 0xE0 and octet < 0xA0)
            or (before == 0xED and octet > 0x9F)
            or (before == 0xF0 and octet < 0x90)
            or (before == 0xF4 and octet > 0x8F)
        ):
            return False
        before = octet
    return True


def encode(fields, values, out, at=0):
    """Write ``values`` (a dict) as ``fields`` into ``out`` from ``at``; return the end.

    Raises FieldError for a value outside its range or text too long, KeyError for a missing one.
    """
    for name, kind, low, high, _ in fields:
        value = values[name]
        if kind in _FORMATS:
            _check_range(name, low, high, value)
            form, size = _FORMATS[kind]
            if at + size > len(out):
                raise FieldError(name, at + size, len(out), "%s does not fit" % name)
            pack_into(form, out, at, value)
            at += size
            continue
        raw = value.encode() if kind[0] == "s" else value
        size = len(raw)
        if kind[0] == "s":
            limit = int(kind[1:])
            if size > limit:
                text = "%s: %d octets, at most %d" % (name, size, limit)
                raise FieldError(name, size, limit, text)
            if at == len(out):
                raise FieldError(name, at + 1, len(out), "%s does not fit" % name)
            out[at] = size
            at += 1
        elif kind != "b*" and size != int(kind[1:]):
            text = "%s: %d octets, needs %s" % (name, size, kind[1:])
            raise FieldError(name, size, int(kind[1:]), text)
        if at + size > len(out):
            raise FieldError(name, at + size, len(out), "%s does not fit" % name)
        out[at : at + size] = raw
        at += size
    return at


def decode(fields, data):
    """Read ``fields`` from ``data`` (octets or memoryview) into a dict.

    Raises FieldError when octets are missing or left over, or a number is out of range.
    """
    values = {}
    at = 0
    end = len(data)
    for name, kind, low, high, _ in fields:
        form = ""
        if kind in _FORMATS:
            form, size = _FORMATS[kind]
        elif kind == "b*":
            size = end - at
        elif kind[0] == "b":
            size = int(kind[1:])
        else:
            if at >= end:
                raise FieldError(name, at, None, "%s is missing" % name)
            size = data[at]
            at += 1
            if size > int(kind[1:]):
                raise FieldError(name, size, int(kind[1:]), "%s is too long" % name)
        if at + size > end:
            raise FieldError(name, at + size, None, "%s is cut short" % name)
        if form:
            value = unpack_from(form, data, at)[0]
            _check_range(name, low, high, value)
        else:
            value = bytes(data[at : at + size])
            if kind[0] == "s":
                if not _is_strict_utf8(value):
                    raise FieldError(name, size, None, "%s is not UTF-8" % name)
                try:
                    value = value.decode()
                except UnicodeError:  # a plain ValueError on neither side names the field
                    raise FieldError(name, size, None, "%s is not UTF-8" % name)
        values[name] = value
        at += size
    if at != end:
        raise FieldError("", end - at, None, "%d octets left over" % (end - at))
    return values
