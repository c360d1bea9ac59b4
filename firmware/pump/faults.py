"""Faults latch: the first reason is kept, the stops run in order, and the motor stays stopped."""

import io
import sys

from pump.journal import Damaged
from pump_wire.messages import FAULT

_MOST_TEXT = 64  # octets; GET_STATUS carries no more


def _short(text):
    """The beginning of ``text`` that the status message can carry."""
    text = text[:_MOST_TEXT]
    while len(text.encode()) > _MOST_TEXT:
        text = text[:-1]
    return text


def _place(error):
    """Where ``error`` was raised: "journal.py:145 store"; "" when it cannot be told."""
    try:
        text = io.StringIO()
        sys.print_exception(error, text)  # pyright: ignore[reportArgumentType]
        said = text.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
        for line in reversed(said.split("\n")):
            words = line.split('"')
            if len(words) == 3 and words[0].strip() == "File":  # , line 145, in store
                file = words[1].split("/")[-1]
                rest = words[2].replace(",", "").split()
                return "%s:%s %s" % (file, rest[1], rest[-1])
    except Exception:  # memory may be what failed
        pass
    return ""


class Faults:
    """``code`` 0 while nothing is latched, else a key of FAULTS; ``text`` says what was seen.

    ``stops``: callables run in order at the first latch; one that raises does not keep the next
    from running. ``on_latch(code, text, place)``: told afterwards, for the logs; ``place`` is
    where an exception came from, "" for other faults.
    """

    def __init__(self):
        self.code = 0
        self.text = ""
        self.stops = []
        self.on_latch = lambda code, text, place: None

    def latch(self, code, text, cause=None):
        """Latch fault ``code``. Only the first one is kept and only the first one runs the stops,
        before anything here that memory may not suffice for. ``cause``: the exception that means
        it, if one does."""
        if self.code:
            return
        self.code = code
        problem = None
        for stop in self.stops:
            try:
                stop()
            except Exception as error:
                problem = error
        if problem is not None:
            text = "%s; stop failed: %r" % (text, problem)
        if cause is not None:
            text = "%r in %s" % (cause, text)
        self.text = _short(text)
        try:
            self.on_latch(code, self.text, _place(cause) if cause is not None else "")
        except Exception as error:  # the log is what failed: the latch itself stands
            self.text = _short("%s; not logged: %r" % (self.text, error))

    def latch_error(self, error, where, name=None):
        """Latch fault ``name`` for exception ``error`` in ``where`` (text); without a name, the
        fault that the error means where files are the only input and output."""
        if self.code:
            return
        if name is None:
            name = "task_failed"
            if isinstance(error, OSError):
                name = "storage_failed"
            elif isinstance(error, Damaged):
                name = "settings_damaged"
        self.latch(FAULT[name], where, error)
