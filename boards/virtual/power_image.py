"""Does a pump start well on the flash that a power cut left of another board? Run by ``cisterna
bench powercut --bench emulated``: the emulated Pico and this VM mount the same file system, and a
start takes milliseconds here.

On stdin one JSON object: what ``power_story.Life.frame`` tells of the pump at the cut
(``settings``, ``refills``, ``in_bolus``, ``next_event``, ``over_steps``), the ``plant``'s state,
``number`` of the cut, and ``all_records``. The image is ``power_bed.IMAGE`` in the working
directory, and is not as it was afterwards.

Prints {"why"}, "" when all holds; if it does {"settings", "refill", "over_steps", "added_steps",
"next_event": records that the image holds, "events": their names from the one asked for on}; then
{"end"}.
"""

import json
import sys

import vfs
from nor_flash import PAGE, NorFlash
from power_bed import IMAGE, Bed
from power_judge import Wrong, judge
from virtual_pump import ROOT

from pump.eventlog import EventLog


def stored_events():
    """Number of the event that would be the next on the image."""
    flash = NorFlash(IMAGE)
    vfs.mount(vfs.VfsLfs2(flash, progsize=PAGE), ROOT)
    log = EventLog(ROOT + "/log", None, None)
    log.load()
    vfs.umount(ROOT)
    flash.leave()
    return log.next


def settled(values):
    """JSON's lists as the tuples that they are compared with."""
    return tuple(tuple(each) if each else None for each in values)


def judged(request):
    """The values to print."""
    next_event = stored_events()
    bed = Bed()
    bed.plant.restore(request["plant"])
    bed._starts = request["number"] % 10_000
    frame = (
        settled(request["settings"]),
        settled(request["refills"]),
        request["in_bolus"],
        request["next_event"],
        request["over_steps"],
        bed.plant.pulses,
        bed.plant.state(),
        True,
        "",
        0,
        (0, 0),
    )
    try:
        found = judge(bed, frame, {}, request["all_records"])
    except Wrong as wrong:
        return {"why": str(wrong)}
    except Exception as error:
        return {"why": "%s: %s" % (type(error).__name__, error)}
    finally:
        bed.power_off()
    return {
        "why": "",
        "settings": found.settings,
        "refill": found.refill,
        "over_steps": found.over_steps,
        "added_steps": found.added_steps,
        "next_event": next_event,
        "events": found.events[: next_event - request["next_event"]],
    }


print(json.dumps(judged(json.loads(sys.stdin.read()))))
print('{"end": true}')
