"""Which handler a message goes to. Reads answer at once; what moves drug or settings is prepared,
echoed, and carried out once when its token is confirmed.

Handlers stand in groups, by responsibility: ``NAME`` for a read, ``check_NAME`` and ``apply_NAME``
for what is prepared. A handler takes the decoded request and returns the reply's values; it raises
Refusal for what the pump will not do. ``check_NAME`` changes nothing; ``apply_NAME`` carries a
prepared command out and returns (sequence of the event that recorded it, instant it took effect).
"""

from pump.prescription import Refusal
from pump_wire.codec import MAX_BODY, FieldError, decode, encode
from pump_wire.messages import ANYONE, BY_NUMBER, ERROR

TOKEN_VALID_US = 30_000_000  # SEC-5: 30 s
_TOKEN_SIZE = 8
_NO_TOKEN = bytes(_TOKEN_SIZE)
_HIGHEST: int = tuple(ERROR)[2][3]  # pyright: ignore (numbers have limits)


class Commands:
    """One per pump. ``groups``: objects with handlers; ``entropy(n)``: n random octets.

    ``role`` of whoever asks, while a handler runs. ``on_change(role, message)`` is called when a
    command of theirs was carried out.
    """

    def __init__(self, groups, clock, log, faults, entropy):
        self._groups = (self,) + groups
        self._clock = clock
        self._log = log
        self._faults = faults
        self._entropy = entropy
        self._reply = bytearray(MAX_BODY)
        self._prepared = None  # (token, message, request values, valid until us)
        self._confirmed = None  # (token, confirm's reply) of the last command carried out
        self.role = 0
        self.on_change = lambda role, message: None

    def answer(self, role, number, body, out, at):
        """Carry out message ``number`` with request octets ``body`` for ``role``, one of
        messages' bits; write the reply's body into ``out`` from ``at`` and return its end.

        Raises Refusal. Any other exception latches a fault and becomes a refusal.
        """
        self.role = role
        message = BY_NUMBER.get(number)
        if message is None:
            raise Refusal("unknown_message", "", number)
        self._check_role(message)
        if message.prepared:
            raise Refusal("not_prepared", "", number)
        values = self.decoded(message, body)
        try:
            reply = self._handler(message.name)(values)
            return encode(message.reply, reply, out, at)
        except Refusal:
            raise
        except Exception as error:
            self._faults.latch_error(error, message.name)
            raise Refusal("internal", "", number)

    def _handler(self, name):
        """The handler called ``name``."""
        for group in self._groups:
            handler = getattr(group, name, None)
            if handler is not None:
                return handler
        raise AttributeError(name)

    def _check_role(self, message):
        """Refuse what this role may not send. Of those who are authenticated it is logged."""
        if message.roles & self.role:
            return
        if self.role != ANYONE:
            self._log.asked("command_refused", message.number)
        raise Refusal("not_allowed", "", message.number)

    def decoded(self, message, body):
        """The values of a request. Raises Refusal."""
        try:
            return decode(message.request, body)
        except FieldError as error:
            if error.limit is None:
                raise Refusal("bad_body", error.field, error.value)
            name = "below_limit" if error.value < error.limit else "above_limit"
            raise Refusal(name, error.field, error.value, error.limit)

    def prepare(self, values):
        message = BY_NUMBER.get(values["command"])
        if message is None or not message.prepared:
            raise Refusal("unknown_message", "command", values["command"])
        self._check_role(message)
        request = self.decoded(message, values["body"])
        echo = self._handler("check_" + message.name)(request)
        end = encode(message.reply, echo, self._reply)
        token = self._entropy(_TOKEN_SIZE)
        self._prepared = (token, message, request, self._clock.now_us() + TOKEN_VALID_US)
        return {
            "token": token,
            "valid_ms": TOKEN_VALID_US // 1000,
            "next_event": self._log.coming,
            "body": bytes(self._reply[:end]),
        }

    def confirm(self, values):
        token = values["token"]
        if self._confirmed and token == self._confirmed[0]:
            return self._confirmed[1]  # asked again: done once, same answer
        prepared = self._prepared
        if prepared is None or token != prepared[0]:
            raise Refusal("bad_token")
        self._prepared = None
        if self._clock.now_us() > prepared[3]:
            raise Refusal("token_expired", "token", 0, TOKEN_VALID_US // 1000)
        message = prepared[1]
        self._log.cause = self.role << 1 | token[0] << 16 | token[1] << 24
        try:
            event, uptime_us = self._handler("apply_" + message.name)(prepared[2])
        finally:
            self._log.cause = 0
        reply = {"event": event, "uptime_us": uptime_us}
        self._confirmed = (token, reply)
        self._log.flush()
        self.on_change(self.role, message)
        return reply

    def forget_prepared(self):
        """A session began or ended: what was prepared in it is void."""
        self._prepared = None

    def last_token(self):
        """Token of the last confirmed command, zero if there is none."""
        return self._confirmed[0] if self._confirmed else _NO_TOKEN


def refusal_values(refusal):
    """A Refusal as the values of the ERROR body, numbers it cannot carry cut to those it can."""
    return {
        "code": refusal.code,
        "field": refusal.field,
        "value": max(-_HIGHEST, min(refusal.value, _HIGHEST)),
        "limit": max(-_HIGHEST, min(refusal.limit, _HIGHEST)),
    }
