"""What is done to a pump whose power is cut, and what somebody outside it then knows: the truth
that ``power_judge`` compares with.
"""

from virtual_pump import SECOND_US, STEP_PL

from pump.prescription import Refusal
from pump_wire.messages import (
    CANCEL_BOLUS,
    EVENT_SIZE,
    FAULT,
    GET_EVENTS,
    RECORD_REFILL,
    REQUEST_BOLUS,
    RESUME,
    SET_CLOCK,
    SET_PRESCRIPTION,
    SIMPLE_CONTINUOUS,
    START_BOLUS,
    STOP,
)

WALL_S = 1_800_000_000
CAPACITY_NL = 20_000_000
_BOLUS_MARGIN_US = 2 * SECOND_US
_HOUR_US = 3_600 * SECOND_US
_MARGIN_US = 60 * SECOND_US  # commands take time too
_LIMITED = {  # a patient's bolus, and limits that nothing here comes near
    "patient_nl": 2_000,
    "patient_s": 10,
    "lockout_s": 30,
    "patient_max": 24,
    "hour_nl": 10_000_000,
    "day_nl": 100_000_000,
}
_PREFILL = 3_300  # records, so that the log is full and drops its oldest within the story


class Life:
    """``settings``: the (rate, low mark, halted) that may be stored; two while a command is on its
    way, None for no prescription. ``refills``: the (count, fill_pl) likewise. ``known``: number ->
    octets of event records that were read. ``powered_us``: how long it was on, in all; ``past``:
    (powered_us, pulses) of the last hour, ``grants``: powered_us of the patient's boluses.
    """

    def __init__(self, bed, say=None):
        self.bed = bed
        self._say = say
        self.settings = (None,)
        self.refills = ((0, 0),)
        self.known = {}
        self.known_next = 0
        self.started = False  # a start was ever completed
        self.name = ""
        self.powered_us = 0
        self.past = [(0, bed.plant.pulses)]
        self.grants = []
        self._bolus_until_us = -1

    def say(self, text, *values):
        """Begin a step of the story called ``text``."""
        self.name = text % values
        if self._say is not None:
            self._say(self.name)

    # -- what is known ------------------------------------------------------------------------

    @property
    def in_bolus(self):
        return self.bed.world.now_us <= self._bolus_until_us

    def frame(self):
        """All that is known now: what ``power_judge.judge`` takes."""
        bed = self.bed
        if bed.stepper is not None:
            bed.stepper.emitted()
        return (
            self.settings,
            self.refills,
            self.in_bolus if bed.app else False,
            max(self.known_next, bed.written),
            bed.over_steps,
            bed.plant.pulses,
            bed.plant.state(),
            self.started,
            self.name,
            self.known_next,
            self.used(),
        )

    def used(self):
        """(Steps of the last hour, boluses of the patient in the last 24 h): at least so much."""
        hour_us = self.powered_us + _MARGIN_US - _HOUR_US
        while len(self.past) > 1 and self.past[0][0] < hour_us:
            self.past.pop(0)
        steps = self.bed.plant.pulses - self.past[0][1]
        day_us = self.powered_us + _MARGIN_US - 24 * _HOUR_US
        while self.grants and self.grants[0] < day_us:
            self.grants.pop(0)
        return max(0, steps), len(self.grants)

    def learn(self):
        """Read the new event records."""
        while True:
            reply = self.bed.ask(GET_EVENTS, first=self.known_next)
            number = max(self.known_next, reply["oldest"])
            raw = reply["records"]
            for at in range(0, len(raw), EVENT_SIZE):
                self.known[number] = raw[at : at + EVENT_SIZE]
                number += 1
            self.known_next = number
            if number >= reply["next"]:
                return

    # -- what is done -------------------------------------------------------------------------

    def start(self):
        """Power on."""
        self._bolus_until_us = -1
        self.bed.power_on()
        self.bed.advance(1_000)
        self.started = True

    def restart(self):
        """Power off and on."""
        self.bed.power_off()
        self.start()

    def live(self, us):
        """Time passes."""
        self.powered_us += us
        self.bed.advance(us)
        self.bed.stepper.emitted()
        self.past.append((self.powered_us, self.bed.plant.pulses))
        self.learn()

    def program(self, rate, low_mark_nl, limited=False):
        """Another prescription; both fields change, so that half of it shows. ``limited``: with
        volume limits and a bolus for the patient."""
        old = self.settings[0]
        new = (rate, low_mark_nl, old[2] if old else False)
        self.settings = (old, new)
        try:
            self.bed.command(
                SET_PRESCRIPTION,
                drug="saline",
                concentration_ng_ml=500_000,
                mode=SIMPLE_CONTINUOUS,
                rate_nl_day=rate,
                capacity_nl=CAPACITY_NL,
                low_mark_nl=low_mark_nl,
                **(_LIMITED if limited else {}),
            )
        except Refusal:
            self.settings = (old,)
            raise
        self._bolus_until_us = -1
        self.settings = (new,)
        self.learn()

    def halt(self, message):
        """STOP or RESUME."""
        old = self.settings[0]
        new = (old[0], old[1], message is STOP)
        self.settings = (old, new)
        try:
            self.bed.command(message)
        except Refusal:
            self.settings = (old,)
            raise
        if message is STOP:
            self._bolus_until_us = -1
        self.settings = (new,)
        self.learn()

    def bolus(self, volume_nl, duration_us):
        before = self._bolus_until_us
        self._bolus_until_us = self.bed.world.now_us + duration_us + _BOLUS_MARGIN_US
        try:
            self.bed.command(START_BOLUS, volume_nl=volume_nl, duration_us=duration_us)
        except Refusal:
            self._bolus_until_us = before
            raise
        self.learn()

    def request(self):
        """The patient asks for a bolus."""
        before = self._bolus_until_us
        duration_us = _LIMITED["patient_s"] * SECOND_US
        self._bolus_until_us = self.bed.world.now_us + duration_us + _BOLUS_MARGIN_US
        try:
            self.bed.command(REQUEST_BOLUS)
        except Refusal:
            self._bolus_until_us = before
            raise
        self.grants.append(self.powered_us)
        self.learn()

    def cancel(self):
        self.bed.command(CANCEL_BOLUS)
        self._bolus_until_us = -1
        self.learn()

    def refill(self, fill_nl):
        """Hands first, then the programmer."""
        self.bed.stepper.emitted()
        aspirated_pl = self.bed.plant.refill(fill_nl * 1000)
        old = self.refills[0]
        new = (old[0] + 1, fill_nl * 1000)
        self.refills = (old, new)
        try:
            self.bed.command(
                RECORD_REFILL,
                measured_nl=aspirated_pl // 1000,
                fill_nl=fill_nl,
                reason="scheduled",
            )
        except Refusal:
            self.refills = (old,)
            raise
        self.refills = (new,)
        self.learn()

    def clock(self, wall_s):
        self.bed.command(SET_CLOCK, wall_s=wall_s)
        self.learn()

    def fault(self):
        """Something in the firmware fails."""
        self.bed.app.faults.latch(FAULT["task_failed"], "by the story")
        self.learn()


def second_frame(bed, frame):
    """What is known at a cut during the recovery from the cut of ``frame``."""
    settings, refills, in_bolus, next_event, over, _, _, started, _, known_below, used = frame
    if bed.stepper is not None:
        bed.stepper.emitted()
    app = bed.app
    if app is not None:  # it has read what is stored: from here on that is what must be there
        in_bolus = False
        next_event = max(next_event, bed.written)
        over = bed.over_steps
    plant = bed.plant
    return (
        settings,
        refills,
        in_bolus,
        next_event,
        over,
        plant.pulses,
        plant.state(),
        started,
        "recovery",
        known_below,
        used,
    )


def residual_nl(life):
    """What is truly in the reservoir."""
    life.bed.stepper.emitted()
    return life.bed.plant.residual_pl // 1000


def story(life, wraps, prefill):
    """The workload of PWR-1 to PWR-3: programme change, bolus (done, cancelled, stopped), limits
    and boluses of the patient, stop and resume, refill, low reservoir, a fault, restarts, and
    ``wraps`` times round the log. ``prefill()`` is called where the log is to be filled without
    being counted."""
    life.say("first power on")
    life.start()
    life.say("first fill")
    life.refill(CAPACITY_NL)
    life.say("first prescription")
    life.program(8_640_000, 2_000_000)
    life.say("basal rate, a step a second")
    life.live(7_300_000)
    prefill()
    life.say("programme change")
    life.program(17_280_000, 3_000_000)
    life.live(3_300_000)
    life.say("bolus of 5 uL")
    life.bolus(5_000, 20 * SECOND_US)
    life.live(25 * SECOND_US)
    life.say("bolus, cancelled")
    life.bolus(4_000, 20 * SECOND_US)
    life.live(6_100_000)
    life.cancel()
    life.live(2_200_000)
    life.say("bolus, and a programme change while it runs")
    life.bolus(8_000, 30 * SECOND_US)
    life.live(9_100_000)
    life.program(8_640_000, 2_000_000)
    life.say("limits, and a bolus for the patient")
    life.program(2_000_000, 2_100_000, limited=True)
    life.live(3 * SECOND_US)
    life.request()
    life.live(40 * SECOND_US)
    life.request()
    life.live(12 * SECOND_US)
    life.say("restart after the patient's bolus, a third one")
    life.restart()
    life.live(61 * SECOND_US)
    life.request()
    life.live(12 * SECOND_US)
    life.say("ten minutes, a mark of the limits")
    life.live(600 * SECOND_US)
    life.program(8_640_000, 2_000_000)
    life.say("stop")
    life.halt(STOP)
    life.live(4 * SECOND_US)
    life.say("restart while stopped")
    life.restart()
    life.live(2 * SECOND_US)
    life.say("resume")
    life.halt(RESUME)
    life.live(3 * SECOND_US)
    life.say("clock set")
    life.clock(WALL_S)
    life.live(2_700_000)
    life.say("refill to the low mark")
    life.refill(2_000_900)
    life.say("low reservoir")
    life.live(20 * SECOND_US)
    life.say("refill")
    life.refill(CAPACITY_NL)
    life.live(2 * SECOND_US)
    life.say("a fault")
    life.fault()
    life.live(3 * SECOND_US)
    life.say("restart after a fault")
    life.restart()
    life.live(3_500_000)
    for number in range(wraps * 3_328 if wraps else 40):
        if not number % 40:
            life.say("the log fills, record %d", life.known_next)
        life.clock(WALL_S + number)
        if not number % 7:
            life.live(1_300_000)
        if wraps:
            life.known.pop(life.known_next - 4_000, None)
    life.say("the last minutes")
    life.live(150 * SECOND_US)


def fill_log(life, records=_PREFILL):
    """``records`` event records, written as the firmware writes them."""
    log = life.bed.app.log
    for number in range(records):
        log.append("clock_set", number)
    life.learn()


__all__ = [
    "CAPACITY_NL",
    "STEP_PL",
    "WALL_S",
    "Life",
    "fill_log",
    "residual_nl",
    "second_frame",
    "story",
]
