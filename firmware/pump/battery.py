"""The battery: its voltage while the pump draws from it, and how long it has served.

Elective replacement (ERI) when the voltage is below _ERI_MV in _TIMES looks in a row, or after
_ERI_DAYS of service; end of service (EOS) below _EOS_MV likewise, which stops delivery. Below
_FITTED_MV there is none on the board, and nothing is said.
"""

from struct import pack, unpack

from micropython import const

from pump.journal import Damaged

_ERI_MV = const(2_600)  # convention of this model, whose battery has 3.0 V (plant.py)
_EOS_MV = const(2_400)  # the same
_FITTED_MV = const(500)
_ERI_DAYS = const(2_190)  # convention of this model: six years, as implanted pumps are replaced
_TIMES = const(3)
_LOOK_US = const(600_000_000)
_DAY_US = const(86_400_000_000)
_LAYOUT = "<I"


class Battery:
    """``read_mv``: the driver's. ``days``: whole days of service, part days of a start are lost.
    ``mv``: as last measured."""

    def __init__(self, clock, read_mv, alarms, copies):
        self._clock = clock
        self._read_mv = read_mv
        self._alarms = alarms
        self._copies = copies
        self.days = 0
        self.mv = 0
        self._low = self._out = 0  # looks in a row
        self._look_us = 0
        self._day_us = _DAY_US

    def begin(self, was_cut):
        """Read what is stored and look once; ``was_cut``: the power was away before. Raises
        OSError, Damaged."""
        self.mv = self._read_mv()
        if was_cut and _FITTED_MV <= self.mv < _ERI_MV:
            self._alarms.begin("low_battery_reset")
        if _FITTED_MV <= self.mv < _EOS_MV:
            self._alarms.begin("battery_eos")
        raw = self._copies.load()
        if raw is not None:
            if len(raw) != 4:
                raise Damaged("days of service")
            self.days = unpack(_LAYOUT, raw)[0]
        self._judge_days()

    def _judge_days(self):
        if self.days >= _ERI_DAYS:
            self._alarms.begin("battery_eri")

    def look(self):
        """Measure, if it is time. Raises OSError once a day at most."""
        now_us = self._clock.now_us()
        if now_us >= self._look_us:
            self._look_us = now_us + (_LOOK_US if not self._low else _LOOK_US // 10)
            self._measure()
        if now_us >= self._day_us:
            self._day_us += _DAY_US
            self.days += 1
            self._copies.commit(pack(_LAYOUT, self.days))
            self._judge_days()

    def _measure(self):
        mv = self.mv = self._read_mv()
        if mv < _FITTED_MV:
            return
        self._low = self._low + 1 if mv < _ERI_MV else 0
        self._out = self._out + 1 if mv < _EOS_MV else 0
        if self._low >= _TIMES:
            self._alarms.begin("battery_eri")
        if self._out >= _TIMES:
            self._alarms.begin("battery_eos")
