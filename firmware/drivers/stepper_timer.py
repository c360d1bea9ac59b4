"""Step generator for a STEP/DIR/EN driver chip on a one-shot timer, a pulse at a time.

Fulfils the stepper contract of ``drivers/README.md``. A pulse starts when the timer's callback
runs. On RP2 that is about 50 us after it is due, up to 1 ms while another interrupt handler runs,
and a flash erase (45 ms, interrupts off) delays what falls into it; on other chips as their
``timer_<chip>`` says. Pulses that are due together come ``gap_us`` apart.

Who writes what: ``queue`` and ``halt`` run in the main thread; ``_fire`` is the timer's callback.
It may run in a hard interrupt, and allocates nothing: its numbers stay below 2**30, so none of
them becomes a heap object, instants are ticks, waits are cut into hops, the count of pulses has
two halves. It may also be scheduled, and then come when its wait was dropped, or not come at all
because too much else was scheduled: the first does nothing, ``emitted`` makes up for the second.
"""

from array import array
from time import sleep_us, ticks_add, ticks_diff, ticks_us

from machine import Timer, disable_irq, enable_irq
from micropython import const

_RING = const(64)  # pulses that can be queued; a power of two
_TICKS_MASK = const((1 << 30) - 1)  # ticks_us wraps at 2**30 where this driver is used
_HOP_BITS = const(28)
_HOP_US = const(1 << 28)  # longest single wait, half of what ticks_diff can tell
_LOW_COUNT = const(1 << 20)
_LOST_US = const(100_000)  # a callback later than this is not coming
_US = const(1_000_000)  # the timer's tick_hz: its period is in microseconds


class StepperTimer:
    """``step``, ``direction``, ``enable``: pins (anything that is called with a level).

    ``enable_active``, ``forward``: levels that switch the driver chip on and mean forward.
    ``pulse_us``: width of a STEP pulse. ``gap_us``: least time between two pulses, and from
    switching the driver chip on or setting DIR to the first pulse. ``timer``: see Timer in
    ``drivers/README.md``; by default ``machine.Timer(-1)``, which will do on RP2 alone.
    """

    def __init__(
        self, step, direction, enable, enable_active, forward, pulse_us, gap_us, timer=None
    ):
        self._step = step
        self._direction = direction
        self._enable = enable
        self._active = enable_active
        self._forward = forward
        self._pulse_us = pulse_us
        self._gap_us = gap_us
        self._timer = Timer(-1) if timer is None else timer
        self._callback = self._fire  # bound once: binding allocates
        self._now_us = lambda: 0  # the pump's clock, once attached
        self._offset = 0  # ticks = (pump clock + offset) modulo 2**30
        self._dues = array("L", bytes(4 * _RING))  # instant of each queued pulse, ticks
        self._skips = array("H", bytes(2 * _RING))  # hops from the pulse before it
        self._queued = 0  # pulses, less what halt dropped
        self._head = 0  # where queue writes next
        self._tail = 0  # the pulse that comes next
        self._last_us = 0  # pump clock at which the last queued pulse is due
        self._armed = False  # the timer runs, for:
        self._target = 0  # ticks, the end of the present wait
        self._hops = 0  # hops that follow it
        self._low = 0
        self._high = 0
        enable(1 - enable_active)

    def attach(self, clock):
        """Use ``clock`` as the pump's clock; called once, before anything else."""
        before = ticks_us()
        now_us = clock.now_us()
        read_at = ticks_add(before, ticks_diff(ticks_us(), before) // 2)
        self._offset = int(read_at) - now_us  # pyright: ignore[reportArgumentType]
        self._now_us = clock.now_us
        self._step(0)
        self._direction(self._forward)

    def queue(self, first_us, slack, spacing, rate, count):
        """Append ``count`` pulses. Raises ValueError when they do not fit. Allocates."""
        head = self._head
        if count >= _RING - ((head - self._tail) & (_RING - 1)):
            raise ValueError("%d pulses do not fit the queue" % count)
        if self._armed:
            base_us = self._last_us
        else:
            base_us = self._now_us()
            self._enable(self._active)
        start_us = base_us
        for i in range(count):
            due_us = first_us - (slack - i * spacing) // rate
            if due_us < start_us:
                due_us = start_us
            self._dues[head] = (due_us + self._offset) & _TICKS_MASK
            self._skips[head] = (due_us - start_us) >> _HOP_BITS
            head = (head + 1) & (_RING - 1)
            start_us = due_us
        base = (base_us + self._offset) & _TICKS_MASK
        state = disable_irq()
        self._last_us = start_us
        self._queued += count
        first = self._head
        self._head = head
        if not self._armed:  # also when the last pulse went out while this was being worked out
            self._armed = True
            self._target = base
            self._hops = self._skips[first]
            self._aim()
            try:
                self._wait()
            finally:
                enable_irq(state)
        else:
            enable_irq(state)

    def emitted(self):
        """Pulses since construction, as the callback counted them: not on the pin."""
        if self._armed and ticks_diff(ticks_us(), self._target) > _LOST_US:
            state = disable_irq()
            if self._armed:
                self._wait()
            enable_irq(state)
        while True:
            high = self._high
            low = self._low
            if high == self._high:
                return high * _LOW_COUNT + low

    def commanded(self):
        """Pulses since construction that are no longer queued. Allocates."""
        state = disable_irq()
        held = (self._head - self._tail) & (_RING - 1)
        enable_irq(state)
        return self._queued - held

    def halt(self):
        """Drop what is queued and switch the driver chip off; returns ``emitted()``."""
        state = disable_irq()
        self._queued -= (self._head - self._tail) & (_RING - 1)
        self._armed = False
        self._tail = self._head
        self._timer.deinit()
        self._enable(1 - self._active)
        enable_irq(state)
        return self.emitted()

    def _aim(self):
        """Make the end of the next hop, or else the next pulse, what is waited for."""
        if self._hops:
            self._target = ticks_add(self._target, _HOP_US)  # pyright: ignore[reportArgumentType]
        else:
            self._target = self._dues[self._tail]

    def _wait(self):
        """Set the timer for the target. Interrupts are off; allocates nothing."""
        wait_us = ticks_diff(self._target, ticks_us())
        if wait_us < self._gap_us:
            wait_us = self._gap_us
        self._timer.init(  # pyright: ignore[reportCallIssue]
            mode=Timer.ONE_SHOT,
            period=wait_us,
            tick_hz=_US,
            callback=self._callback,
            hard=True,
        )

    def _fire(self, _):
        """The timer's callback; allocates nothing."""
        if not self._armed:  # it was halted when the callback was already on its way
            return
        if ticks_diff(self._target, ticks_us()) <= 0:
            if self._hops:
                self._hops -= 1
            elif self._pulse():
                self._armed = False
                return
            self._aim()
        self._wait()

    def _pulse(self):
        """Emit the next pulse; returns whether it was the last that is queued."""
        self._step(1)
        sleep_us(self._pulse_us)
        self._step(0)
        low = self._low + 1
        if low == _LOW_COUNT:
            self._low = 0
            self._high += 1
        else:
            self._low = low
        tail = (self._tail + 1) & (_RING - 1)
        self._tail = tail
        if tail == self._head:
            return True
        self._hops = self._skips[tail]
        return False
