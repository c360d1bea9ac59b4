"""Random commands against the volume limits (DEL-5). Run by ``cisterna bench limits``.

On stdin: one JSON object with ``seed``, ``first``, ``last``: numbers of sequences, each random by
seed and number alone, and with ``told`` what is done step by step. Prints a JSON object a line:
{"n", "why", ...}, then {"end"}. The working directory is the runner's own.

A sequence is 5 to 9 hours, one of three 25 to 29, of a pump of its own: every basal mode, single,
patient's, priming and bridge boluses, stop and resume, clocks, limits that change and are as tight
as the pump takes them, refills and restarts, at random microseconds. Judged are the instants at
which pulses reached the plant: at each of them the closed window that ends there, of an hour and
of 24 h, against the limit in force then; and what each bolus moved, against what the log says.
Without a restart the basal programme must never be held by a limit: boluses leave it its room.
"""

import json
import sys
from array import array

from random_numbers import Random
from stepper_virtual import StepperVirtual
from therapy_pump import MONDAY_S, PERIODIC, pattern, prescribe
from virtual_pump import DAY_US, HOUR_US, SECOND_US, STEP_PL, Pump

from pump.prescription import Refusal
from pump_wire.messages import (
    CANCEL_BOLUS,
    REFUSALS,
    REQUEST_BOLUS,
    RESUME,
    RESUME_BRIDGE,
    SET_CLOCK,
    START_BOLUS,
    START_PRIME,
    STOP,
)

MINUTE_US = 60 * SECOND_US
NO_LIMIT = 1 << 40
PATIENT = {"patient_nl": 5_000, "patient_s": 300, "lockout_s": 3_600, "patient_max": 6}
FLEX = pattern((0, 240_000), (60, 480_000), (120, 1_200_000), (180, 240_000))
BASAL = ("stopped", "minimum_rate", "simple_continuous", "flex", "periodic_bolus")
BEGUN = ("bolus_started", "patient_granted", "prime_started")
ENDED = ("bolus_done", "bolus_ended_early", "bolus_cut", "bolus_interrupted")
RESERVED_NL = 2_000  # of a bolus, that a cut may cost (ACC-2)
LONG_US = 25 * HOUR_US
SHORT_US = 5 * HOUR_US


class _Counted(StepperVirtual):
    """Keeps when each pulse happened, in ``sequence.pulses``."""

    def __init__(self, plant, sequence):
        super().__init__(plant, 0, None)
        self._sequence = sequence

    def _happen(self, first, slack, count):
        super()._happen(first, slack, count)
        pulses = self._sequence.pulses
        first += self._sequence.world_us
        for i in range(count):
            pulses.append(first - (slack - i * self._spacing) // self._rate)


def nothing(_):
    """Nobody wants to be told."""


class Sequence:
    """One sequence. ``pulses``: instants in world time. ``in_force``: [(from when on, most nL of
    an hour, of 24 h)]. ``boluses``: {number of the event that begins it: (asked nL, cut nL)}."""

    def __init__(self, seed, tell=nothing):
        self.random = Random(seed)
        self.tell = tell
        self.world_us = 0
        self.pulses = array("q")
        self.in_force = [(0, NO_LIMIT, NO_LIMIT)]
        self.boluses = {}
        self.starts = [(0, 0)]  # (number of its first event, world time) of every start
        self.ng_ml = 500_000
        self.refused = 0  # boluses for which a limit left nothing
        below = self.random.below
        self.limits = {"hour_nl": 0, "day_nl": 0}
        kind = below(5)
        if kind != 4:
            self.limits["hour_nl"] = 1 if kind else 20_000 + 1_000 * below(100)
        if kind != 0:
            self.limits["day_nl"] = 1 + 10_000 * below(2) * below(50)
        pump = self.pump = Pump(stepper=lambda plant, _, __: _Counted(plant, self))
        pump.advance(1_000)
        pump.refill()
        pump.command(SET_CLOCK, wall_s=MONDAY_S, utc_offset_min=0)
        self.program("simple_continuous", 1_000 * (48 + below(500)))

    # -- what is done -------------------------------------------------------------------------

    @property
    def now_us(self):
        return self.world_us + self.pump.now_us

    def program(self, name, rate_nl_day=0, **values):
        """Commit a prescription of basal mode ``name``. Limits that have no room for it become
        the least that have, and a little."""
        wanted = dict(PATIENT, mode=BASAL.index(name), rate_nl_day=rate_nl_day)
        if name == "periodic_bolus":
            wanted.update(PERIODIC, bolus_nl=20_000, rate_nl_day=120_000)
        wanted["concentration_ng_ml"] = self.ng_ml
        wanted.update(values)
        for _ in range(4):
            try:
                prescribe(
                    self.pump, {0: FLEX} if name == "flex" else None, **wanted, **self.limits
                )
            except Refusal as refusal:
                if refusal.field not in self.limits:
                    raise
                little = self.random.below(4) * self.random.below(15_000)
                self.limits[refusal.field] = refusal.limit + little
            else:
                self.ng_ml = wanted["concentration_ng_ml"]
                hour_nl = self.limits["hour_nl"] or NO_LIMIT
                self.in_force.append((self.now_us, hour_nl, self.limits["day_nl"] or NO_LIMIT))
                return

    def bolus(self, message, asked_nl, **values):
        """Prepare and confirm a bolus of any kind."""
        _, echo = self.pump.prepare(message, **values)
        if echo["volume_nl"] + echo["cut_nl"] != asked_nl:
            raise AssertionError("%r of %d nL" % (echo, asked_nl))
        event = self.pump.command(message, **values)["event"]
        self.boluses[event] = (asked_nl, echo["cut_nl"])

    def single(self):
        volume_nl = 1_000 * (1 + self.random.below(80))
        duration_us = MINUTE_US * (5 + self.random.below(60))
        self.bolus(START_BOLUS, volume_nl, volume_nl=volume_nl, duration_us=duration_us)

    def patient(self):
        self.bolus(REQUEST_BOLUS, PATIENT["patient_nl"])

    def prime(self):
        volume_nl = 1_000 * (1 + self.random.below(316))
        self.bolus(START_PRIME, volume_nl, volume_nl=volume_nl, duration_us=HOUR_US)

    def basal(self):
        below = self.random.below
        if below(3) == 0:  # other limits
            for name in self.limits:
                if self.limits[name]:
                    self.limits[name] = 1
        self.program(BASAL[below(8) and 1 + below(4)], 1_000 * (48 + below(500)))

    def bridge(self):
        ng_ml = 500_000 if self.ng_ml != 500_000 else 600_000
        rate = 1_000 * (48 + self.random.below(500))
        self.program("simple_continuous", rate, concentration_ng_ml=ng_ml, bridge=1)

    def stop(self):
        self.pump.command(STOP)

    def resume(self):
        self.pump.command(RESUME)

    def cancel(self):
        self.pump.command(CANCEL_BOLUS)

    def resume_bridge(self):
        self.pump.command(RESUME_BRIDGE)

    def clock(self):
        wall_s = MONDAY_S + self.random.below(7 * 86_400)
        self.pump.command(SET_CLOCK, wall_s=wall_s, utc_offset_min=0)

    def refill(self):
        self.pump.refill(15_000_000 + self.random.below(5_000_000))

    def restart(self):
        away_us = self.random.below(2) * self.random.below(2 * HOUR_US)
        pump = self.pump
        first = pump.app.log.next
        pump.cut_power()
        self.world_us += pump.now_us + away_us
        self.starts.append((first, self.world_us))
        pump.power_on()
        pump.advance(1_000)

    def wait(self):
        below = self.random.below
        kind = below(8)
        if kind == 0:
            return below(2 * SECOND_US)
        if kind == 1:  # to a mark of the windows, and around it
            mark_us = 10 * MINUTE_US
            return mark_us - self.pump.now_us % mark_us + below(3) * SECOND_US
        return below(90 * MINUTE_US)

    def run(self):
        below = self.random.below
        until_us = (SHORT_US if below(3) else LONG_US) + below(4 * HOUR_US)
        while self.now_us < until_us:
            what = ACTIONS[below(len(ACTIONS))]
            wait_us = self.wait()
            try:
                getattr(self, what)()
                self.tell("%d us: %s, then %d us" % (self.now_us, what, wait_us))
            except Refusal as refusal:
                name = REFUSALS[refusal.code][0]
                self.refused += name == "volume_limit"
                self.tell("%d us: %s: %s, then %d us" % (self.now_us, what, name, wait_us))
            if self.pump.fault:
                break
            self.pump.advance(wait_us)
        self.pump.stepper.emitted()

    # -- what is judged -----------------------------------------------------------------------

    def windows(self):
        """(why a window is wrong or "", fullest hour in ppm of its limit, fullest 24 h)."""
        why = ""
        fullest = []
        for width_us, column, name in ((HOUR_US, 1, "hour"), (DAY_US, 2, "24 h")):
            begin = at = most_ppm = 0
            pulses = self.pulses
            in_force = self.in_force
            for end in range(len(pulses)):
                t = pulses[end]
                while at + 1 < len(in_force) and in_force[at + 1][0] < t:
                    at += 1
                while pulses[begin] < t - width_us:
                    begin += 1
                moved_nl = (end - begin + 1) * STEP_PL // 1000
                limit_nl = in_force[at][column]
                if moved_nl > limit_nl and not why:
                    why = "%d nL in the %s to %d us, limit %d" % (moved_nl, name, t, limit_nl)
                most_ppm = max(most_ppm, moved_nl * 1_000_000 // limit_nl)
            fullest.append(most_ppm)
        return why, fullest[0], fullest[1]

    def _until(self, at_us):
        """Pulses up to ``at_us``."""
        pulses = self.pulses
        low = 0
        high = len(pulses)
        while low < high:
            middle = (low + high) // 2
            if pulses[middle] <= at_us:
                low = middle + 1
            else:
                high = middle
        return low

    def told(self):
        """(what the log tells wrongly of a bolus or "", boluses that were cut): what was asked for
        is what was cut before, what truly ran, and what is told not to have been given."""
        cuts = 0
        running = None  # (pulses before it, its volume in nL)
        ahead = 0  # nL that were cut before it began, and not yet told
        start = 0
        for number, name, uptime_us, value in self.pump.each_event():
            if start + 1 < len(self.starts) and number >= self.starts[start + 1][0]:
                start += 1
            at_us = self.starts[start][1] + uptime_us
            value //= 1000
            if name == "limit_held" and len(self.starts) == 1:
                return "the basal programme has no room at %d us" % at_us, cuts
            if ahead:
                if (name, value) != ("bolus_cut", ahead):
                    return "cut by %d nL, told %s of %d" % (ahead, name, value), cuts
                cuts += 1
                ahead = 0
            elif name in BEGUN:
                asked_nl, ahead = self.boluses[number]
                if value != asked_nl - ahead:
                    return "%s %d nL of %d, cut by %d" % (name, value, asked_nl, ahead), cuts
                running = (self._until(at_us), value)
            elif name in ENDED and running:
                moved_nl = (self._until(at_us) - running[0]) * STEP_PL // 1000
                over_nl = 0
                if name == "bolus_cut":
                    cuts += 1
                if name == "bolus_interrupted":
                    over_nl = RESERVED_NL
                elif name != "bolus_done":
                    value = running[1] - value
                step_nl = STEP_PL // 1000
                if not value - over_nl - step_nl <= moved_nl <= value + step_nl:
                    return "%s: %d nL told, %d moved" % (name, value, moved_nl), cuts
                running = None
        return "", cuts

    def verdict(self):
        why, hour_ppm, day_ppm = self.windows()
        wrong, cuts = self.told()
        if self.pump.fault:
            why = "fault %s" % self.pump.fault
        if len(self.pulses) != self.pump.plant.pulses:
            why = "%d pulses, %d at the plant" % (len(self.pulses), self.pump.plant.pulses)
        return {
            "why": why or wrong,
            "hour_ppm": hour_ppm,
            "day_ppm": day_ppm,
            "pulses": len(self.pulses),
            "cuts": cuts,
            "refused": self.refused,
        }


ACTIONS = (
    ("single",) * 8
    + ("patient",) * 7
    + ("basal",) * 4
    + ("prime",) * 3
    + ("stop", "resume", "resume", "resume")
    + ("bridge", "cancel", "resume_bridge") * 3
    + ("restart", "clock") * 2
    + ("refill",)
)


def main():
    request = json.loads(sys.stdin.read())

    def tell(text):
        if request.get("told"):
            print(json.dumps({"n": -1, "text": text}))

    for number in range(request["first"], request["last"] + 1):
        sequence = Sequence(request["seed"] * 1_000_003 + number, tell)
        sequence.run()
        found = sequence.verdict()
        found["n"] = number
        print(json.dumps(found))
    print(json.dumps({"end": True}))


if __name__ == "__main__":
    main()
