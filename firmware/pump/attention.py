"""Commands for whoever hears the pump: alarms listed, silenced, acknowledged, and tones to try."""

from pump.prescription import Refusal


class AttentionCommands:
    """Handlers of alarms and tones."""

    def __init__(self, clock, log, alarms, annunciator):
        self._clock = clock
        self._log = log
        self._alarms = alarms
        self._annunciator = annunciator

    def get_alarms(self, _):
        return {
            "critical_s": self._annunciator.critical_s,
            "other_s": self._annunciator.other_s,
            "action": self._alarms.action,
            "records": self._alarms.records(),
        }

    def silence_alarms(self, request):
        count = self._alarms.silence(request["silence_s"])
        self._log.flush()
        return {"alarms": count}

    def acknowledge_alarm(self, request):
        number = request["instance"]
        found = self._alarms.acknowledge(number)
        if found is None:
            raise Refusal("no_such_alarm", "instance", number)
        self._log.flush()
        return {"alarm": found.code, "stands": int(found.stands)}

    def test_alarm(self, request):
        return {"duration_ms": self._annunciator.play_once(request["pattern"])}

    def check_set_alarm_intervals(self, request):
        return request

    def apply_set_alarm_intervals(self, request):
        self._annunciator.commit(request["critical_s"], request["other_s"])
        event = self._log.note("alarm_intervals_set", request["critical_s"])
        return event, self._clock.now_us()
