"""Time in the virtual world, and the bench's control channel.

Simulated time moves only when nothing is due: asyncio's wait for the next event is replaced by a
jump to it. How far it may go is the bench's to say: up to an instant it named (``advance``), along
with real time at a factor (``speed``), or without limit.

The control channel is a pair of pipes, separate from the telemetry port. A request is one line of
JSON ``{"op": ..., "id": ...}``, the answer one line with the same id.
"""

import asyncio
import json
import time
from asyncio import core

# The asyncio of MicroPython stamps tasks that are ready at once with the real tick. Starting the
# virtual tick far ahead of it makes such a task due, never early.
_TICKS_FROM_MS = 1 << 50
_POLL_EVERY = 128  # jumps between two looks at the ports

FREE = 1 << 61  # no limit, us
_TALK_US = 250_000  # real time after an octet from the host in which a conversation may go on


class World:
    """``now_us``: simulated microseconds since the board got power.

    ``limit_us``: how far time may go by itself. ``speed``: simulated seconds a real second, 0 for
    a clock that only the bench moves. ``deadline_us``: when ``on_deadline()``, which does not
    return, is called: time never goes past it. While someone talks to the pump, a world that is
    faster than real time keeps to real time, so that a conversation is the same at every speed.
    """

    def __init__(self, speed):
        self.now_us = 0
        self.limit_us = 0
        self.speed = speed
        self._real_us = time.ticks_us()
        self._paced_us = 0
        self._talking = False
        self.on_limit = None
        self.deadline_us = FREE
        self.on_deadline = None

    def hang(self):
        """The processor does nothing useful any more: time passes until the watchdog bites. Raises
        RuntimeError where none does."""
        if self.deadline_us >= FREE:
            raise RuntimeError("it hangs for ever: no watchdog is armed")
        self.now_us = self.deadline_us
        self.on_deadline()

    def pace(self, speed):
        """From now on: ``speed`` simulated seconds a real second, 0 to stand still."""
        self.speed = speed
        self._anchor()

    def _anchor(self):
        self._real_us = time.ticks_us()
        self._paced_us = self.now_us
        self.limit_us = self.now_us
        self._talking = False

    def heard(self):
        """The host sent something to the pump."""
        if self.speed > 1:
            self._anchor()
            self._talking = True

    def ticks_ms(self):
        """Stands in for asyncio's tick."""
        return _TICKS_FROM_MS + self.now_us // 1000

    def refresh_limit(self):
        """Where real time allows simulated time to be."""
        if not self.speed:
            return
        real = time.ticks_diff(time.ticks_us(), self._real_us)
        if self._talking:
            if real < _TALK_US:
                self.limit_us = self._paced_us + real
                return
            self._talking = False
            self._real_us = time.ticks_add(self._real_us, _TALK_US)
            self._paced_us += _TALK_US
            real -= _TALK_US
        self.limit_us = self._paced_us + int(real * self.speed)

    def pause_ms(self, next_us):
        """Real milliseconds until simulated time may be ``next_us``; -1 when it moves only by
        hand."""
        if not self.speed:
            return -1
        if self._talking:
            return min(next_us - self.limit_us, _TALK_US) // 1000 + 1
        return int((next_us - self.limit_us) / self.speed) // 1000 + 1


class JumpingQueue(core.IOQueue):
    """asyncio's queue of waiting streams, whose wait jumps in simulated time."""

    def __init__(self, world):
        super().__init__()
        self._world = world
        self._jumps = 0

    def wait_io_event(self, dt):
        if dt == 0:
            return
        world = self._world
        next_us = (world.now_us // 1000 + dt) * 1000 if dt > 0 else FREE
        if next_us > world.deadline_us:
            next_us = world.deadline_us
        if next_us > world.limit_us:
            world.refresh_limit()
        if next_us <= world.limit_us:
            if next_us > world.now_us:
                world.now_us = next_us
            if next_us >= world.deadline_us:
                world.on_deadline()
            self._jumps += 1
            if self._jumps >= _POLL_EVERY:
                self._jumps = 0
                super().wait_io_event(0)
            return
        if world.limit_us > world.now_us:
            world.now_us = world.limit_us
        if world.on_limit:
            world.on_limit()
        super().wait_io_event(world.pause_ms(next_us))
        if world.speed:  # real time passed in the wait; whoever woke us sees the time it is now
            world.refresh_limit()
            world.now_us = max(world.now_us, min(world.limit_us, next_us))
            if world.now_us >= world.deadline_us:
                world.on_deadline()


def install(world):
    """Make asyncio live in ``world``. Call before the first task is made."""
    core.ticks = world.ticks_ms
    core._io_queue = JumpingQueue(world)


class ControlChannel:
    """Serves the bench. ``operations``: name -> function(request dict) giving the answer's dict,
    or None for one that is answered later through ``finish``. ``on_request()`` is called when
    there is one, ``on_served()`` when it was served."""

    def __init__(self, request_fd, answer_fd, operations):
        self._requests = open(request_fd, "rb")
        self._answers = open(answer_fd, "wb")
        self._operations = operations
        self._buffer = b""
        self._pending = None
        self.on_request = self.on_served = int  # nothing

    def answer(self, number, values):
        """Answer request ``number``."""
        values["id"] = number
        self._answers.write(json.dumps(values).encode() + b"\n")

    def announce(self, values):
        """Tell what nobody asked for."""
        self._answers.write(json.dumps(values).encode() + b"\n")

    def finish(self, values):
        """Answer the request whose operation returned None; nothing when there is none."""
        if self._pending is not None:
            number = self._pending
            self._pending = None
            self.answer(number, values)

    def run(self):
        """Serve until the bench closes the channel; a generator for asyncio."""
        chunk = bytearray(512)
        while True:
            try:
                yield core._io_queue.queue_read(self._requests)
            except MemoryError:  # too little was left to wait with
                self.on_request()
                continue
            self.on_request()
            count = self._requests.readinto(chunk)
            if count is None:
                continue
            if count == 0:
                raise SystemExit
            self._buffer += bytes(chunk[:count])
            while b"\n" in self._buffer:
                line, self._buffer = self._buffer.split(b"\n", 1)
                self._serve(json.loads(line))
            self.on_served()

    def _serve(self, request):
        number = request["id"]
        try:
            values = self._operations[request["op"]](request)
        except (KeyError, ValueError, OSError) as error:
            values = {"error": "%s: %s" % (type(error).__name__, error)}
        if values is None:
            self._pending = number
        else:
            self.answer(number, values)


def start(channel):
    """Serve ``channel`` beside the firmware."""
    return asyncio.create_task(channel.run())
