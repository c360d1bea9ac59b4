"""Commands that keep the pump in order and change no therapy: its clock and its logs."""


class UpkeepCommands:
    """Handlers of clock and logs."""

    def __init__(self, clock, wall, log, fault_log, store, delivery):
        self._clock = clock
        self._wall = wall
        self._log = log
        self._fault_log = fault_log
        self._store = store
        self._delivery = delivery

    # -- clock --------------------------------------------------------------------------------

    def check_set_clock(self, _):
        return {"wall_s": self._wall.now_s()}

    def apply_set_clock(self, request):
        before = self._wall.now_s()
        self._wall.set(request["wall_s"])
        event = self._log.note("clock_set", before)
        if self._store.set_zone(request["utc_offset_min"]):
            self._log.note("zone_set", request["utc_offset_min"])
        self._delivery.time_set(self._wall.local_us(self._store.utc_offset_min))
        away_s = self._wall.away_s()
        if away_s >= 0:
            self._log.note("power_was_away", away_s)
        return event, self._clock.now_us()

    # -- logs ---------------------------------------------------------------------------------

    def check_clear_logs(self, _):
        return {
            "events": self._log.next - self._log.oldest,
            "faults": self._fault_log.next - self._fault_log.oldest,
        }

    def apply_clear_logs(self, _):
        hidden = self._log.next - self._log.oldest
        self._log.clear()
        self._fault_log.clear()
        return self._log.note("logs_cleared", hidden), self._clock.now_us()
