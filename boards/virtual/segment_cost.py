"""What one segment costs in this VM, part by part. Run by ``cisterna bench speed``; prints JSON of
microseconds a segment of five steps at 1 mL/day.

sys.argv: path of a flash file it may overwrite.
"""

import asyncio
import json
import sys
import time

import nor_flash
import vfs
import world
from plant import Plant
from stepper_virtual import StepperVirtual

from pump.clock import Clock
from pump.faults import Faults
from pump.journal import HotRecord, TwoCopies
from pump.ledger import HOT_LAYOUT, Ledger
from pump.motion import Motion
from pump.schedule import Schedule

_TIMES = 5000
_STEP_PL = 100_000
_RATE_NL_DAY = 1_000_000
_SEGMENT = 5
_PAUSE_MS = 43_200

flash = nor_flash.NorFlash(sys.argv[1])
vfs.VfsLfs2.mkfs(flash, progsize=nor_flash.PAGE)
vfs.mount(vfs.VfsLfs2(flash, progsize=nor_flash.PAGE), "/flash")
place = world.World(0)
world.install(place)
place.limit_us = world.FREE
clock = Clock(lambda: place.now_us % (1 << 30), 1 << 30)
stepper = StepperVirtual(Plant(_STEP_PL), 0, None)
stepper.attach(clock)
schedule = Schedule(_STEP_PL)
schedule.run_rate(_RATE_NL_DAY)
ledger = Ledger(
    _STEP_PL, stepper.emitted, HotRecord("/flash/steps", HOT_LAYOUT), TwoCopies("/flash/refill")
)


def timed(work):
    """Mean microseconds of ``work()``."""
    start = time.ticks_us()
    for _ in range(_TIMES):
        work()
    return time.ticks_diff(time.ticks_us(), start) / _TIMES


def segment():
    schedule.segment(_SEGMENT)


def record():
    ledger.reserve(5)


def step_generator():
    stepper.queue(place.now_us + 1, 0, schedule.spacing, schedule.rate, _SEGMENT)
    place.now_us += _PAUSE_MS * 1000
    stepper.emitted()


async def sleeping():
    for _ in range(_TIMES):
        await asyncio.sleep_ms(_PAUSE_MS)


parts = {
    "next segment of the programme": timed(segment),
    "durable record of the account": timed(record),
    "step generator and plant": timed(step_generator),
}
start = time.ticks_us()
asyncio.run(sleeping())
parts["sleep, jump and wake"] = time.ticks_diff(time.ticks_us(), start) / _TIMES


class _NoLedger:
    def reserve(self, issued):
        pass


motion = Motion(clock, stepper, schedule, _NoLedger(), Faults())
motion.allowance = lambda: 1 << 30
schedule.settle(place.now_us)
stepper.halt()
schedule.give_back(schedule.issued - stepper.emitted())
schedule.settle(place.now_us)


def feed():
    place.now_us = motion._feed()


whole = timed(feed)
parts["motion's own decisions"] = max(
    0, whole - parts["next segment of the programme"] - parts["step generator and plant"]
)
print(json.dumps(parts))
