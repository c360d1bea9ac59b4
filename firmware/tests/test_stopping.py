"""What stops the motor and keeps it stopped: a step generator or a task that fails."""

import asyncio

from stepper_virtual import StepperVirtual
from virtual_pump import SECOND_US, STEP_PL, Pump, check_balance, running

from pump_wire.messages import CANCEL_BOLUS, GET_ACCOUNT, GET_STATUS, RESUME, STOP

TIMEOUT_S = 60
REQUIREMENTS = {
    "test_a_task_that_raises_stops_the_motor": ["DEL-7"],
    "test_a_step_generator_that_emits_too_many_is_stopped": ["DEL-7"],
}


# -- a step generator that is not what it should be ---------------------------------------------


class OneTooMany(StepperVirtual):
    """Emits an extra pulse after its 20th."""

    def emitted(self):
        count = super().emitted()
        if count >= 20 and not self.extra:
            self.extra = True
            self._emitted += 1
            self._plant.move(1)
        return self._emitted

    extra = False


def test_a_step_generator_that_emits_too_many_is_stopped():
    pump = running(stepper=OneTooMany)
    pump.advance(60 * SECOND_US)
    assert pump.fault == "step_count"
    assert pump.mode == "stopped" and pump.stop_reason == "fault"
    assert pump.steps <= 21 + 5  # found at the end of the segment
    pump.check_no_more_steps()
    check_balance(pump)  # what came too much is counted


def test_a_pulse_too_many_seen_by_a_command_starts_nothing():
    for command in ("bolus", "program", "refill"):
        pump = running(stepper=OneTooMany)
        pump.advance(20 * SECOND_US - 1)
        assert pump.steps == 19
        pump.stepper.extra = True
        pump.stepper._emitted += 10
        try:
            if command == "bolus":
                pump.bolus(1_000, 10 * SECOND_US)
            elif command == "program":
                pump.program(24_000_000)
            else:
                pump.refill()
        except Exception as error:
            assert type(error).__name__ == "Refusal"
        assert pump.fault == "step_count"
        assert pump.mode == "stopped"
        pump.check_no_more_steps()


class Mute(StepperVirtual):
    """Emits nothing from its 7th pulse on."""

    def emitted(self):
        if self._emitted + self._count > 7:
            self._count = max(0, 7 - self._emitted)
        return super().emitted()


def test_a_step_generator_that_falls_silent_is_noticed():
    pump = running(stepper=Mute)
    pump.advance(60 * SECOND_US)
    assert pump.fault == "step_late"
    pump.check_no_more_steps()
    assert pump.ask(GET_ACCOUNT)["lifetime_pl"] == pump.steps * STEP_PL


class _SlowClock:
    def __init__(self, clock, late_us):
        self._clock = clock
        self._late_us = late_us

    def now_us(self):
        return max(0, self._clock.now_us() - self._late_us)


class Late(StepperVirtual):
    """Every pulse comes ``late_us`` after it is due."""

    late_us = 0

    def attach(self, clock):
        super().attach(_SlowClock(clock, self.late_us))


def test_steps_that_are_much_too_late_are_a_fault():
    Late.late_us = 150_000
    pump = running(stepper=Late)
    pump.advance(60 * SECOND_US)
    assert pump.fault == "step_late"
    pump.check_no_more_steps()


def test_steps_a_little_late_lose_nothing_and_are_no_fault():
    # A pulse is due and not yet out when a fast bolus gives way to the slowest rate, or is stopped
    # and resumed: it stays owed, and the slow rate must not make it look minutes late.
    Late.late_us = 5_000
    for rate in (6_000, 48_000):
        for after_us in range(0, 8_000, 1_000):
            for stop in (False, True):
                pump = running(48_000, stepper=Late)
                if rate == 6_000:
                    pump.program(mode=1)
                pump.bolus(10_000, 36 * SECOND_US)  # 24 mL/day, a step each 0.36 s
                begin_us = pump.now_us
                pump.advance(10 * 360_000 + after_us)
                if stop:
                    pump.command(STOP)
                    pump.advance(10 * SECOND_US)
                    pump.command(RESUME)
                else:
                    pump.command(CANCEL_BOLUS)
                pump.advance(SECOND_US)
                assert pump.fault == "", (rate, after_us, stop, pump.app.faults.text)
                assert pump.steps == 10
                assert pump.now_us > begin_us


class QueueFails(StepperVirtual):
    segments = 0

    def queue(self, first_us, slack, spacing, rate, count):
        self.segments += 1
        if self.segments == 4:
            raise ValueError("5 pulses do not fit the queue")
        super().queue(first_us, slack, spacing, rate, count)


def test_a_step_generator_that_refuses_a_segment_is_a_fault():
    pump = running(stepper=QueueFails)
    pump.advance(60 * SECOND_US)
    assert pump.fault == "task_failed"
    assert "do not fit" in pump.app.faults.text
    assert pump.steps == 15
    pump.check_no_more_steps()


class HaltFails(StepperVirtual):
    """Cannot be halted, and says so."""

    broken = False

    def halt(self):
        if self.broken:
            raise OSError(5)
        return super().halt()


def test_a_stop_that_fails_does_not_keep_the_next_from_running():
    pump = running(stepper=HaltFails)
    pump.advance(12 * SECOND_US)
    pump.stepper.broken = True
    pump.app.faults.latch(1, "made by the test")
    assert pump.stop_reason == "fault"
    assert "stop failed" in pump.app.faults.text
    pump.advance(60 * SECOND_US)
    assert pump.steps <= 15  # what was queued, and not a segment more
    pump.check_no_more_steps()


# -- tasks that fail ------------------------------------------------------------------


async def _raise():
    await asyncio.sleep_ms(2_500)
    raise KeyError("made by the test")


def test_a_task_that_raises_stops_the_motor():
    pump = running()
    pump.app.start_task(_raise)
    pump.advance(60 * SECOND_US)
    assert pump.fault == "task_failed"
    assert "KeyError" in pump.app.faults.text
    assert pump.steps == 2
    pump.check_no_more_steps()
    assert pump.event_names()[-1] == "fault_latched"
    assert pump.ask(GET_STATUS)["stop_reason"] == 5


class _NoMemoryToSay(Exception):
    def __repr__(self):
        raise MemoryError("made by the test")


async def _raise_unspeakable():
    await asyncio.sleep_ms(2_500)
    raise _NoMemoryToSay()


def test_a_fault_that_cannot_be_put_into_words_stops_the_motor():
    pump = running()
    pump.app.start_task(_raise_unspeakable)
    pump.advance(60 * SECOND_US)
    assert pump.fault == "task_failed"
    assert pump.steps == 2
    pump.check_no_more_steps()
    assert pump.ask(GET_STATUS)["fault"] == 1


def test_a_fault_in_a_bolus_stops_the_bolus():
    pump = running()
    pump.bolus(10_000, 100 * SECOND_US)
    pump.app.start_task(_raise)
    pump.advance(60 * SECOND_US)
    assert pump.fault == "task_failed"
    assert pump.steps == 2
    pump.check_no_more_steps()
    assert pump.ask(GET_STATUS)["bolus_pl"] == 0


class DeadPort:
    reads = 0

    def read_into(self, buffer):
        self.reads += 1
        if self.reads == 3:
            raise OSError(5)
        return 0

    async def wait_readable(self):
        await asyncio.sleep_ms(2_000)

    def write(self, view):
        pass


def test_a_link_that_raises_stops_the_motor_and_is_served_again():
    port = DeadPort()
    pump = running(port=port)
    pump.advance(60 * SECOND_US)
    assert pump.fault == "task_failed"
    assert "link" in pump.app.faults.text
    assert pump.steps <= 5
    assert port.reads > 10
    pump.check_no_more_steps()


class Flood:
    """Octets without end, faster than the pump reads them."""

    def read_into(self, buffer):
        self.reads += 1
        if self.reads > 1_000:
            return 0
        for at in range(len(buffer)):
            buffer[at] = 0x55
        return len(buffer)

    reads = 0
    turns = 0  # of another task

    async def wait_readable(self):
        await asyncio.Event().wait()

    def write(self, view):
        pass


def test_a_flooded_link_lets_other_tasks_run():
    port = Flood()
    pump = Pump(port=port)

    async def other():
        while port.reads < 900:
            port.turns += 1
            await asyncio.sleep_ms(0)

    pump.app.start_task(other)
    pump.advance(SECOND_US)
    assert port.turns > 400
