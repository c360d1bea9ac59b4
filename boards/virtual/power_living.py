"""Random cuts on one image that goes on living (PWR-4): at an operation of the flash, torn or not,
at an instant between two of them, during a start, several in a row.
"""

from nor_flash import ERASE_SHAPES, PROGRAM_SHAPES
from power_bed import Bed, PowerCut
from power_judge import Wrong, judge
from power_story import CAPACITY_NL, WALL_S, Life, residual_nl, second_frame
from random_numbers import Random
from virtual_pump import SECOND_US

from pump.prescription import Refusal
from pump_wire.messages import RESUME, STOP

_SHAPES = ("before",) + PROGRAM_SHAPES + ERASE_SHAPES
_RATES = (48_000, 100_000, 1_000_000, 8_640_000, 17_280_000, 24_000_000)
_DAY_US = 86_400 * SECOND_US
_FULL_LOG_EVERY = 100
_MOST_OPERATIONS = 60  # from power on or the last action to the cut
_MOST_ACTIONS = 12
_REFILL_BELOW_NL = 4_000_000


def act(life, random):
    """One thing that a user, or time, does to the pump."""
    choice = random.below(13)
    if residual_nl(life) < _REFILL_BELOW_NL:
        choice = 8
    if choice < 4:
        us = random.between(1, 9 * SECOND_US)
        life.say("%d us pass", us)
        life.live(us)
    elif choice < 5:
        us = random.between(1, 20) * 60 * SECOND_US
        life.say("%d s pass", us // SECOND_US)
        life.live(us)
    elif choice < 7:
        rate = random.between(48, 24_000) * 1_000 if random.below(3) else _RATES[random.below(6)]
        low_mark_nl = random.between(1_400, 4_000) * 1_000
        limited = bool(random.below(2))
        life.say(
            "programme %d nL/day, low mark %d nL%s",
            rate,
            low_mark_nl,
            ", limits and a bolus for the patient" if limited else "",
        )
        life.program(rate, low_mark_nl, limited)
    elif choice < 8:
        message = RESUME if life.settings[0] and life.settings[0][2] else STOP
        life.say(message.name)
        life.halt(message)
    elif choice < 9:
        life.say("refill")
        life.refill(CAPACITY_NL)
    elif choice < 10:
        life.say("clock set")
        life.clock(WALL_S + random.below(1_000_000))
    elif choice < 11 and life.in_bolus:
        life.say("bolus cancelled")
        life.cancel()
    elif choice < 12:
        life.say("the patient asks for a bolus")
        life.request()
    else:
        duration_us = random.between(2, 120) * SECOND_US
        volume_nl = random.between(4_000_000, 24_000_000) * duration_us // _DAY_US
        life.say("bolus of %d nL in %d s", volume_nl, duration_us // SECOND_US)
        life.bolus(volume_nl, duration_us)


def live_until_cut(life, random):
    """Random actions until the power goes; returns what cut it."""
    flash = life.bed.flash
    if random.below(3):
        operation = random.between(1, _MOST_OPERATIONS)
        shape = _SHAPES[random.below(len(_SHAPES))]
        flash.cut_at(operation, shape)
        how = "operation %d from then, %s" % (operation, shape)
    else:
        how = "between two operations"
    try:
        for _ in range(random.between(1, _MOST_ACTIONS)):
            try:
                act(life, random)
            except Refusal as refusal:
                life.say("refused: code %d", refusal.code)
    except PowerCut:
        return how
    return "between two operations"


def start_until_it_holds(life, random, all_records):
    """Starts, some of them cut, until one is not. (Found, cuts)."""
    frame = life.frame()
    cuts = 1
    while True:
        life.bed.power_off()
        boot_cut = random.between(1, 30) if cuts < 4 and not random.below(3) else 0
        shape = _SHAPES[random.below(len(_SHAPES))]

        life.bed.on_mount = lambda flash, at=boot_cut, torn=shape: flash.cut_at(at, torn)
        try:
            found = judge(life.bed, frame, life.known, all_records)
            life.bed.flash.cut_at(0)
            return found, cuts
        except PowerCut:
            life.say("cut during the start, at its operation %d, %s", boot_cut, shape)
            frame = second_frame(life.bed, frame)
            cuts += 1


def begin(say):
    """A new pump on a new image: it was filled and programmed."""
    life = Life(Bed(), say)
    life.bed.new_file_system()
    life.start()
    life.refill(CAPACITY_NL)
    life.program(8_640_000, 2_000_000)
    return life


def state_of(life):
    """All that goes on living beside the image, as JSON can hold it."""
    frame = life.frame()
    return {
        "plant": life.bed.plant.state(),
        "settings": frame[0],
        "refills": frame[1],
        "next_event": frame[3],
        "over_steps": frame[4],
        "starts": life.bed._starts,
        "grants_us": [life.powered_us - at for at in life.grants],
    }


def resume(state, say):
    """The life that ``state_of`` described, powered on."""
    life = Life(Bed(), say)
    life.bed.plant.restore(state["plant"])
    life.bed._starts = state["starts"]
    life.bed.over_steps = state["over_steps"]
    life.settings = tuple([tuple(each) if each else None for each in state["settings"]])
    life.refills = tuple([tuple(each) for each in state["refills"]])
    life.known_next = state["next_event"]
    life.started = True
    life.grants = [-us for us in state["grants_us"]]
    life.past = [(0, life.bed.plant.pulses)]
    found = judge(life.bed, life.frame(), life.known)
    settle(life, found)
    return life


def settle(life, found):
    """What was found is from here on what must be there."""
    life.settings = (found.settings,)
    life.refills = (found.refill,)
    life._bolus_until_us = -1
    life.learn()
    for number in range(life.known_next - 3_600, life.known_next - 3_500):
        life.known.pop(number, None)


def living(request, tell, say):
    """See ``power_cycles``: cuts number "first" to "last", state as ``state_of`` or None."""
    seed = request["seed"]
    quiet = None
    life = resume(request["state"], quiet) if request["state"] else begin(quiet)
    for number in range(request["first"], request["last"] + 1):
        random = Random(seed * 1_000_003 + number)
        if number >= request.get("say_from", 1 << 60):
            life._say = say
        life.bed.on_mount = lambda flash: None
        why = ""
        found = None
        how = live_until_cut(life, random)
        life.say("cut number %d: %s, while: %s", number, how, life.name)
        try:
            found, cuts = start_until_it_holds(life, random, number % _FULL_LOG_EVERY == 0)
        except Wrong as wrong:
            why = str(wrong)
        except Exception as error:
            why = "%s: %s" % (type(error).__name__, error)
        if found is None:
            life.say("wrong: %s; from here on a new image", why)
            tell(n=str(number), shape="", why=why)
            life.bed.power_off()
            life = begin(life._say)
            continue
        settle(life, found)
        life.say(
            "it holds: settings %r, %d steps more than the plant, log: %s",
            found.settings,
            found.over_steps,
            ", ".join(found.events),
        )
        tell(n=str(number), shape="", why="", over=found.added_steps, cuts=cuts)
    life.bed.power_off()
    tell(state=state_of(life))
