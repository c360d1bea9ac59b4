"""Alarms: which causes stand, what they make the pump do, and what somebody did about them.

An instance is one time that a cause came up. Its number is that of the event that recorded it:

- pending: it sounds. silenced: it sounds again at ``due_us``. acknowledged: somebody saw to it; if
  its cause still stands at ``due_us`` it comes up anew. cured: its cause is gone before anybody
  acknowledged it; it is silent and stays listed until somebody does.

Causes do not outlive a restart: whoever watches one tells it again.
"""

from struct import pack

from pump_wire.messages import (
    ACKNOWLEDGED,
    ALARM,
    ALARM_ACTION,
    ALARM_AGAIN_S,
    ALARM_CLASS,
    ALARM_FORMAT,
    CURED,
    PENDING,
    SILENCED,
    STOPPED,
)

_STOPPED_US = 48 * 3_600_000_000  # PRODUCT.md: "A stopped pump alarms after 48 h"

# What is noted in the event log -> alarms that it ends. Events that have an alarm's name begin it.
_ENDS = {
    "refill_recorded": ("low_reservoir", "empty_reservoir"),
    "prescription_committed": ("low_reservoir",),
    "clock_set": ("clock_lost",),
    "logs_cleared": ("log_damaged",),
    "limit_over": ("limit_reached",),
}
_BEGINS = {"copy_damaged": "memory_minor", "limit_held": "limit_reached", "auth_failed": "attack"}
# Alarms that tell of something that is over at once.
_ONCE = ("low_battery_reset", "watchdog_reset", "memory_minor", "attack")


class Instance:
    """``stands``: its cause does. ``since_us``, ``due_us``: pump clock."""

    def __init__(self, number, code, now_us, stands):
        self.number = number
        self.code = code
        self.state = PENDING
        self.since_us = now_us
        self.due_us = 0
        self.stands = stands

    @property
    def urgent(self):
        """Index of its class in ALARM_CLASSES."""
        return ALARM_CLASS[self.code]


class Alarms:
    """``active``: instances, at most one of each alarm, oldest first. ``action``: index in
    ACTIONS, the most restrictive of those that stand.

    ``on_action(action)`` is called when it changes; ``on_raised(urgent)`` when something begins to
    sound, ``on_changed()`` after any other change. Nothing here writes to flash: events are noted,
    and written by whoever called.
    """

    def __init__(self, clock, log):
        self._clock = clock
        self._log = log
        self.active = []
        self.action = 0
        self._stopped_us = -1  # since when delivery is stopped, -1: it is not
        self.on_action = bool  # nothing, nor the next two
        self.on_raised = bool
        self.on_changed = int

    def _find(self, code):
        for each in self.active:
            if each.code == code:
                return each
        return None

    def begin(self, name):
        """The cause of alarm ``name`` stands, or has come up. Nothing if it is known."""
        code = ALARM[name]
        found = self._find(code)
        if found is not None:
            if found.stands:
                return
            self.active.remove(found)
        self._raise(code, name not in _ONCE)

    def _raise(self, code, stands):
        now_us = self._clock.now_us()
        number = self._log.note("alarm_raised", code)
        self.active.append(Instance(number, code, now_us, stands))
        self._act()
        self.on_raised(ALARM_CLASS[code])

    def end(self, name):
        """The cause of alarm ``name`` is gone. Nothing if it did not stand."""
        found = self._find(ALARM[name])
        if found is None or not found.stands:
            return
        found.stands = False
        if found.state == ACKNOWLEDGED:
            self.active.remove(found)
        else:
            found.state = CURED
        self._log.note("alarm_over", found.code)
        self._act()
        self.on_changed()

    def _act(self):
        action = 0
        for each in self.active:
            if each.stands and ALARM_ACTION[each.code] > action:
                action = ALARM_ACTION[each.code]
        if action != self.action:
            self.action = action
            self.on_action(action)

    def noted(self, name, value):
        """Event ``name`` was noted: what it says of causes."""
        name = _BEGINS.get(name, name)
        if name in ALARM:
            self.begin(name)
        for ended in _ENDS.get(name, ()):
            self.end(ended)
        if name == "mode_entered":
            self.stopped(value == STOPPED)

    def stopped(self, is_stopped):
        """Whether delivery is stopped, by what it may be."""
        if not is_stopped:
            self._stopped_us = -1
            self.end("stopped_48_h")
        elif self._stopped_us < 0:
            self._stopped_us = self._clock.now_us()
            self.on_changed()

    # -- time ---------------------------------------------------------------------------------

    def pass_time(self):
        """Let come up what is due by now. Returns when it must be called next, us of the pump's
        clock, -1 if never."""
        now_us = self._clock.now_us()
        next_us = -1
        if self._stopped_us >= 0 and self._find(ALARM["stopped_48_h"]) is None:
            next_us = self._stopped_us + _STOPPED_US
            if next_us <= now_us:
                next_us = -1
                self.begin("stopped_48_h")
        for each in list(self.active):
            if each.state == SILENCED or each.state == ACKNOWLEDGED:
                if each.due_us > now_us:
                    if next_us < 0 or each.due_us < next_us:
                        next_us = each.due_us
                elif each.state == SILENCED:
                    each.state = PENDING
                    self.on_raised(each.urgent)
                else:
                    self.active.remove(each)
                    self._raise(each.code, True)
        return next_us

    def sounding(self, urgent):
        """True if an alarm of this class is pending."""
        for each in self.active:
            if each.state == PENDING and each.urgent == urgent:
                return True
        return False

    def most_urgent(self):
        """Code of the most urgent alarm listed, the oldest of its class; 0 if there is none."""
        code = 0
        for each in self.active:
            if not code or each.urgent > ALARM_CLASS[code]:
                code = each.code
        return code

    # -- what somebody does about them --------------------------------------------------------

    def silence(self, silence_s):
        """No tones for ``silence_s`` seconds from those that are listed and stand; returns how
        many."""
        count = 0
        for each in self.active:
            if each.state == PENDING or each.state == SILENCED:
                each.state = SILENCED
                each.due_us = self._clock.now_us() + silence_s * 1_000_000
                count += 1
        if count:
            self._log.asked("alarms_silenced", silence_s)
        self.on_changed()
        return count

    def acknowledge(self, number):
        """Instance ``number`` is seen to; returns it, None if there is none."""
        for each in self.active:
            if each.number == number:
                break
        else:
            return None
        if each.stands:
            each.state = ACKNOWLEDGED
            each.due_us = self._clock.now_us() + ALARM_AGAIN_S * 1_000_000
        else:
            self.active.remove(each)
        self._log.note("alarm_acknowledged", number)
        self.on_changed()
        return each

    def records(self):
        """All that are listed, as ALARM_FORMAT."""
        now_us = self._clock.now_us()
        return b"".join(
            [
                pack(
                    ALARM_FORMAT,
                    each.number,
                    each.code,
                    each.state,
                    min((now_us - each.since_us) // 1_000_000, 0xFFFFFFFF),
                )
                for each in self.active
            ]
        )
