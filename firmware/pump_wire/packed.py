"""The message table as a board holds it: octets in place of objects, which take four times the
heap and more. ``cisterna.packed_table`` on the host writes them from ``messages.py``.

A field: length of its name, then kind, low and high, each as a place in the tuples of kinds and
limits, then its name. A message: number, roles, prepared, length of its name, length of the
request (u16), length of the reply (u16), name, request's fields, reply's fields. A table: one
after the other.
"""

_FIELD = 4  # octets before a field's name
_ROW = 8  # octets before a message's name


class Fields:
    """Gives, whenever it is iterated over, what the tuple of fields in ``messages.py`` gives, the
    text empty. ``raw``: octets of the fields."""

    def __init__(self, raw, kinds, limits):
        self._raw = raw
        self._kinds = kinds
        self._limits = limits

    def __iter__(self):
        raw = self._raw
        limits = self._limits
        at = 0
        while at < len(raw):
            name = at + _FIELD
            end = name + raw[at]
            yield (
                str(raw[name:end], "ascii"),
                self._kinds[raw[at + 1]],
                limits[raw[at + 2]],
                limits[raw[at + 3]],
                "",
            )
            at = end


class Message:
    """A row of the table, see ``messages.Message``."""

    def __init__(self, number, name, roles, prepared, request, reply):
        self.number = number
        self.name = name
        self.roles = roles
        self.prepared = prepared
        self.request = request
        self.reply = reply


class Table:
    """``messages.BY_NUMBER``, of which it makes the row that is asked for."""

    def __init__(self, raw, kinds, limits):
        self._raw = raw
        self._kinds = kinds
        self._limits = limits

    def get(self, number):
        """The message ``number``; None if there is none."""
        raw = self._raw
        at = 0
        while at < len(raw):
            name = at + _ROW
            request = name + raw[at + 3]
            reply = request + raw[at + 4] + (raw[at + 5] << 8)
            end = reply + raw[at + 6] + (raw[at + 7] << 8)
            if raw[at] == number:
                return Message(
                    number,
                    str(raw[name:request], "ascii"),
                    raw[at + 1],
                    bool(raw[at + 2]),
                    Fields(raw[request:reply], self._kinds, self._limits),
                    Fields(raw[reply:end], self._kinds, self._limits),
                )
            at = end
        return None
