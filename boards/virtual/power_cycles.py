"""Power cuts by the thousand in one VM. Run by ``cisterna bench powercut``.

On stdin: one JSON object. ``do``: what to do; ``seed``; and per kind

- "count": ``wraps``. One run of the story without a fault, judged at its end by a quiet cut.
- "cuts": ``wraps``, ``first``, ``last``, ``shapes``. Cuts at operations first to last; shapes
  {"program": [...], "erase": [...]}, of nor_flash, "before" for one that never began; or
  ``each``: number -> its shapes.
- "pairs": ``wraps``, ``first``, ``last``, perhaps ``second``. After a cut before each operation
  a second one before every operation of the recovery, or before number ``second``.
- "living": ``first``, ``last``, ``state``, perhaps ``say_from``. See ``power_living``.

Prints one JSON object a line: results {"n", "shape", "why", ...}, "" for why when all holds;
{"say"} for an account of it where ``say`` is true; {"state"} at the end of "living"; {"end"} when
all was run. The working directory is the runner's own.
"""

import gc
import json
import sys

from power_bed import ERASE, IMAGE, Bed, PowerCut, RecordedFlash
from power_judge import Wrong, judge
from power_living import living
from power_story import Life, fill_log, second_frame, story

_BASE = "base.bin"
_FULL_LOG_EVERY = 50  # cuts after which the whole log is read
_RECOVERY_STARTS = 1_000
_COLLECT_EVERY = 4 << 20  # octets: a heap that is left to fill is full of holes


def tell(**values):
    print(json.dumps(values))


def say(text, *values):
    tell(say=text % values if values else text)


def quiet(text, *values):
    pass


def copy(source, target):
    buffer = bytearray(65_536)
    with open(source, "rb") as old, open(target, "wb") as new:
        while True:
            count = old.readinto(buffer)
            if not count:
                return
            new.write(memoryview(buffer)[:count])


def describe(kind, block, offset, octets):
    if kind == ERASE:
        return "erase of block %d" % block
    return "program of %d octets in block %d at %d" % (len(octets), block, offset)


class Recording:
    """One run of the story. ``operations``: those from number ``first`` on, as (kind, block,
    offset, octets, frame), frame None for one that is not counted; ``total``: how many there
    were, ``kinds`` and ``marks`` of all of them where ``last`` is 0; ``end``: the last
    frame. Where ``last`` is given the run ends before that operation happens, with the flash as
    it was before ``first`` in _BASE."""

    def __init__(self, wraps, first=1, last=0, told=quiet):
        self.first = first
        self.last = last
        self.total = 0
        self.operations = []
        self.kinds = []  # "p" for a program, "e" for an erase, of all of them
        self.marks = []  # [number of its first operation, name] of each step of the story
        self.broken = ""  # why the story did not come to its end
        self._counting = True
        self._told = told
        self.bed = Bed()
        self.bed.new_file_system()
        self.bed.on_mount = self._mounted
        self.life = Life(self.bed, self._mark)
        try:
            story(self.life, wraps, self._prefill)
        except PowerCut:
            if not last or self.total < last:
                raise
        except Exception as error:
            self.broken = "the story ends in %s: %r" % (self.life.name, error)
        if self.total < first:  # no such operation
            copy(IMAGE, _BASE)
        self.end = self.life.frame()
        self.bed.power_off()

    def _mounted(self, flash):
        flash.on_operation = self._operation

    def _mark(self, name):
        self.marks.append([self.total + 1, name])
        self._told(name)

    def _prefill(self):
        self._counting = False
        fill_log(self.life)
        self._counting = True

    def _operation(self, kind, block, offset, octets):
        if not self._counting:
            if self.last and self.total >= self.first:
                self.operations.append((kind, block, offset, bytes(octets), None))
            return
        self.total += 1
        if not self.last:
            self.kinds.append("e" if kind == ERASE else "p")
        number = self.total
        if number == self.first and self.last:
            copy(IMAGE, _BASE)
        if self.last and number >= self.first:
            self.operations.append((kind, block, offset, bytes(octets), self.life.frame()))
        if number == self.last:
            self.bed.flash.cut()
            raise PowerCut()


class Recovery:
    """Starts on the flash that a cut left, one after the other. ``known``: event records."""

    def __init__(self, known):
        copy(_BASE, IMAGE)
        self.bed = Bed()
        self.known = known
        self._flash = RecordedFlash(IMAGE)

    def happen(self, *operation):
        """Let an operation happen for good."""
        self._flash.happen(*operation)

    def _prepare(self, frame, number):
        """The plant as it was at the cut, ticks and entropy of this case alone."""
        bed = self.bed
        bed.plant.restore(frame[6])
        bed._starts = _RECOVERY_STARTS + number % 10_000

    def tear(self, operation, shape, number):
        """Leave operation (kind, block, offset, octets) as a cut of ``shape`` does. Returns the
        flash, whose ``undo`` takes it back."""
        flash = RecordedFlash(IMAGE, number)
        flash.keep_undo = True
        flash.cut_at(1, shape)
        try:
            flash.happen(*operation)
        except PowerCut:
            pass
        return flash

    def start(self, frame, number, all_records=False, on_operation=None):
        """(Found or None, why): a start judged; what it wrote is taken back."""
        self._prepare(frame, number)
        flashes = []

        def mounted(flash):
            flash.keep_undo = True
            flash.on_operation = on_operation
            flashes.append(flash)

        self.bed.on_mount = mounted
        found, why = None, ""
        try:
            found = judge(self.bed, frame, self.known, all_records)
        except Wrong as wrong:
            why = str(wrong)
        except Exception as error:
            why = "%s: %s" % (type(error).__name__, error)
        finally:
            self.bed.power_off()
            for flash in reversed(flashes):
                flash.undo()
        return found, why


def shapes_of(request, kind, number):
    each = request.get("each")
    if each is not None:
        return each.get(str(number), ())
    return request["shapes"]["erase" if kind == ERASE else "program"]


def cuts(request):
    told = say if request.get("say") else quiet
    recording = Recording(request["wraps"], request["first"], request["last"], told)
    recovery = Recovery(recording.life.known)
    number = request["first"]
    for kind, block, offset, octets, frame in recording.operations:
        if frame is None:
            recovery.happen(kind, block, offset, octets)
            continue
        for shape in shapes_of(request, kind, number):
            torn = recovery.tear((kind, block, offset, octets), shape, number)
            told(
                "cut at operation %d (%s), %s, during: %s",
                number,
                describe(kind, block, offset, octets),
                shape,
                frame[8],
            )
            told_frame(told, frame)
            found, why = recovery.start(frame, number, number % _FULL_LOG_EVERY == 0)
            torn.undo()
            told_found(told, found, why)
            tell(n=str(number), shape=shape, why=why, **figures(found, frame))
        recovery.happen(kind, block, offset, octets)
        number += 1
    tell_rest(recording, request, number, "%d")


def tell_rest(recording, request, number, form):
    """What a story that broke off did not come to."""
    while recording.broken and number <= request["last"]:
        shapes = (request.get("each") or {}).get(str(number), ("before",))
        for shape in shapes:
            tell(n=form % number, shape=shape, why=recording.broken)
        number += 1


def figures(found, frame):
    """Steps that the account says too much because of this cut."""
    if found is None:
        return {}
    return {"over_in_bolus" if frame[2] else "over_at_basal": found.added_steps}


def told_frame(told, frame):
    told("the plant saw %d pulses; a bolus ran: %s", frame[5], "yes" if frame[2] else "no")
    told("settings that may be stored (rate nL/day, low mark nL, halted): %r", frame[0])
    told("refills that may be stored (count, fill pL): %r", frame[1])
    told("event records written: %d", frame[3])


def told_found(told, found, why):
    if found is not None:
        told("the pump: settings %r, refill %r", found.settings, found.refill)
        told("its account says %d steps more than the plant", found.over_steps)
        told("its log since the cut: %s", ", ".join(found.events))
    told("verdict: %s", why or "all holds")


def pairs(request):
    told = say if request.get("say") else quiet
    only = request.get("second")
    recording = Recording(request["wraps"], request["first"], request["last"], told)
    recovery = Recovery(recording.life.known)
    number = request["first"]
    for kind, block, offset, octets, frame in recording.operations:
        if frame is None:
            recovery.happen(kind, block, offset, octets)
            continue
        told("first cut before operation %d (%s)", number, describe(kind, block, offset, octets))
        seconds = []

        def record(*operation, found=seconds, first=frame):
            found.append((operation[:3], bytes(operation[3]), second_frame(recovery.bed, first)))

        found, why = recovery.start(frame, number, on_operation=record)
        tell(n="%d.0" % number, why=why, **figures(found, frame))
        between = RecordedFlash(IMAGE)
        between.keep_undo = True
        for index, (place, content, second) in enumerate(seconds):
            which = index + 1
            if only in (None, which):
                told(
                    "second cut before operation %d of the recovery (%s)",
                    which,
                    describe(place[0], place[1], place[2], content),
                )
                told_frame(told, second)
                found, why = recovery.start(second, number * 100 + which)
                told_found(told, found, why)
                tell(n="%d.%d" % (number, which), why=why, **figures(found, second))
            between.happen(place[0], place[1], place[2], content)
        between.undo()
        recovery.happen(kind, block, offset, octets)
        number += 1
    tell_rest(recording, request, number, "%d.0")


def count(request):
    """The story without a fault."""
    told = say if request.get("say") else quiet
    recording = Recording(request["wraps"], told=told)
    life = recording.life
    frame = recording.end
    copy(IMAGE, _BASE)
    recovery = Recovery(life.known)
    found, why = recovery.start(frame, 0, True)
    why = recording.broken or why
    told_found(told, found, why)
    tell(
        n="0",
        shape="",
        why=why,
        kinds="".join(recording.kinds),
        marks=recording.marks,
        **figures(found, frame),
    )


def main():
    gc.threshold(_COLLECT_EVERY)
    request = json.loads(sys.stdin.read())
    if request["do"] == "count":
        count(request)
    elif request["do"] == "cuts":
        cuts(request)
    elif request["do"] == "pairs":
        pairs(request)
    elif request["do"] == "living":
        living(request, tell, say)
    else:
        raise ValueError(request["do"])
    tell(end=True)
    gc.collect()  # files still open are closed while their flash can say that it is dead


if __name__ == "__main__":
    main()
