"""Faults latch: the first reason is kept, the stops run in order, and the motor stays stopped."""

from pump_wire.messages import FAULT

_MOST_TEXT = 64  # octets; GET_STATUS carries no more


def _short(text):
    """The beginning of ``text`` that the status message can carry."""
    text = text[:_MOST_TEXT]
    while len(text.encode()) > _MOST_TEXT:
        text = text[:-1]
    return text


class Faults:
    """``code`` 0 while nothing is latched, else a key of FAULTS; ``text`` says what was seen.

    ``stops``: callables run in order at the first latch; one that raises does not keep the next
    from running. ``on_latch(code)``: told afterwards, for the log.
    """

    def __init__(self):
        self.code = 0
        self.text = ""
        self.stops = []
        self.on_latch = lambda code: None

    def latch(self, code, text):
        """Latch fault ``code``. Only the first one is kept and only the first one runs the stops,
        before anything here that memory may not suffice for."""
        if self.code:
            return
        self.code = code
        problem = None
        for stop in self.stops:
            try:
                stop()
            except Exception as error:
                problem = error
        self.text = _short(text if problem is None else "%s; stop failed: %r" % (text, problem))
        try:
            self.on_latch(code)
        except Exception as error:  # the log is what failed: the latch itself stands
            self.text = _short("%s; not logged: %r" % (self.text, error))

    def latch_error(self, error, where, name=None):
        """Latch fault ``name`` for exception ``error`` in ``where`` (text); without a name, the
        fault that the error means where files are the only input and output."""
        if self.code:
            return
        if name is None:
            name = "storage_failed" if isinstance(error, OSError) else "task_failed"
        self.latch(FAULT[name], where)
        self.text = _short("%r in %s" % (error, self.text))
