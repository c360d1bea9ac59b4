"""Virtual twins of what a board has beside step driver and port. See the contracts in
``drivers/README.md``.

All of them live in the world's time. ``trace``: the open text file of the edges, or None.
"""

from asyncio import Event, sleep_ms

from world import FREE

_BOUNCE_MS = 30


class RotorVirtual:
    """The rotor sensor: sees what the rotor does, whatever the pulses say."""

    def __init__(self, stepper, plant):
        self._stepper = stepper
        self._plant = plant
        self._before = plant.rotor_pulses
        self._by_itself = Event()

    async def turned(self):
        """Returns when the rotor has turned by itself. Steps it follows wake nobody."""
        await self._by_itself.wait()
        self._by_itself.clear()

    async def run_free(self):
        """Turn the rotor by itself for as long as the plant says so and the motor is driven."""
        while self._plant.free_run:
            if self._stepper.enabled:
                self._stepper.emitted()
                self._plant.turn(1)
                self._by_itself.set()
            await sleep_ms(1000 // self._plant.free_run)

    def count(self):
        self._stepper.emitted()  # the plant is where it is now
        return self._plant.rotor_pulses - self._before


class SounderVirtual:
    """Tones become lines ``tone T_US HZ`` of the trace, 0 Hz where one ends. ``now_us()``: the
    bench's time. ``on_tone(t_us, hz)``: told of each, if somebody listens."""

    def __init__(self, now_us, trace):
        self._now_us = now_us
        self._trace = trace
        self._hz = 0
        self.on_tone = None

    def play(self, hz):
        if not 100 <= hz <= 10_000:
            raise ValueError("tone of %d Hz: 100 to 10000" % hz)
        self._sound(hz)

    def off(self):
        self._sound(0)

    def _sound(self, hz):
        if hz != self._hz:
            self._hz = hz
            if self._trace is not None:
                self._trace.write("tone %d %d\n" % (self._now_us(), hz))
            if self.on_tone is not None:
                self.on_tone(self._now_us(), hz)


class BatteryVirtual:
    """The plant's battery, measured without error."""

    def __init__(self, plant):
        self._plant = plant

    def read_mv(self):
        return self._plant.loaded_mv


class WatchdogVirtual:
    """Lets the world end at an instant that ``feed`` puts off."""

    def __init__(self, timeout_ms, world):
        self.timeout_ms = timeout_ms
        self._world = world

    def start(self):
        if self._world.deadline_us == FREE:
            self._put_off()

    def feed(self):
        if self._world.deadline_us < FREE:
            self._put_off()

    def _put_off(self):
        self._world.deadline_us = self._world.now_us + self.timeout_ms * 1000


class ButtonVirtual:
    """A button that the bench presses: ``held`` is its position."""

    def __init__(self, held):
        self.held = held

    def pressed(self):
        return self.held


class WaitedButtonVirtual(ButtonVirtual):
    """The patient's: the bench calls ``press``."""

    def __init__(self):
        super().__init__(False)
        self._event = Event()

    def press(self, held):
        """Down from now on, or let go."""
        self.held = held
        if held:
            self._event.set()

    async def wait_press(self):
        while True:
            await self._event.wait()
            await sleep_ms(_BOUNCE_MS)
            self._event.clear()
            if self.held:
                return
