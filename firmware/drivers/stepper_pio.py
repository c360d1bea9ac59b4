"""Step generator for a STEP/DIR/EN driver chip on two PIO state machines and a DMA channel of an
RP2 chip: pulses come at their instants whatever the processor does meanwhile.

Fulfils the stepper contract of ``drivers/README.md``. A pulse rises within 25 us after it is due,
the same 25 us for all while the queue does not run empty: among themselves they are true to the
microsecond. That holds while flash is erased too: nothing but ``queue`` needs the processor. Where
the queue is empty, a pulse that is due already or within ``gap_us`` comes ``gap_us`` after
``queue`` is called, and up to 0.5 ms later when 20 are queued. ``queue`` waits up to 2 ms when it
is called just as the queue runs empty.

One state machine, the emitter, counts microseconds and makes the pulses. It takes a word for each
from a ring in memory, which the DMA channel reads ahead of it:

    bits 0 to 30   microseconds to wait, less what the other instructions take
    bit 31         0: then a pulse, 1: then the next word

Its clock and that of ``ticks_us`` are divided from the same crystal, so an instant worked out once
in one of them stays true in the other, and each wait is the difference of two exact instants. The
other state machine counts the rising edges on the STEP pin, whatever makes them, for ``emitted``.
``commanded`` knows nothing of that one: it goes by the words that the emitter has left and by
where in its program it stands.

Everything here runs in the main thread; there is no interrupt.
"""

# The names inside a PIO program are the assembler's.
# ruff: noqa: F821
# pyright: reportUndefinedVariable=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

from array import array
from time import sleep_us, ticks_us

import micropython
import rp2
from machine import disable_irq, enable_irq, mem32
from micropython import const
from uctypes import addressof

_HZ = const(1_000_000)  # of the emitter: its cycle is the microsecond of ticks_us
_OVERHEAD = const(5)  # emitter cycles from taking a word with wait 0 to the rising edge
_RING = const(128)  # words; a power of two
_RING_BYTES_LOG2 = const(9)
_HOP_US = const(1 << 29)  # longest single wait, half of what ticks tell
_HOP = const(1 << 31)  # in a word: no pulse behind the wait
_TICKS_MASK = const((1 << 30) - 1)  # ticks_us wraps at 2**30 on this port
_CLOSE_US = const(2_000)  # a queue that runs empty sooner is let run empty
_COMMIT_US = const(200)  # handing words to the DMA channel takes less
_COUNT_MASK = const((1 << 32) - 1)
_PIO_TXF = const(0x50200010)  # TXF0 of PIO0, RP2040 and RP2350 (pico-sdk, hardware/regs/pio.h)
_PIO_ADDR = const(0x502000D4)  # SM0_ADDR of PIO0, from the same file
_ADDR_STRIDE = const(0x18)
_PIO_STRIDE = const(0x100000)

_PULL = rp2.asm_pio_encode("pull(noblock)", 0)
_LOW = rp2.asm_pio_encode("set(pins, 0)", 0)
_ZERO_X = rp2.asm_pio_encode("set(x, 0)", 0)
_X_TO_ISR = rp2.asm_pio_encode("mov(isr, x)", 0)
_PUSH = rp2.asm_pio_encode("push(noblock)", 0)


# Instructions of the emitter between taking a word and the rising edge.
_HELD_FROM = const(1)
_HELD_TO = const(5)


def _emitter(high_delay):
    @rp2.asm_pio(set_init=rp2.PIO.OUT_LOW, out_shiftdir=rp2.PIO.SHIFT_RIGHT)
    def program():
        wrap_target()
        label("next")
        pull()
        out(x, 31)
        label("wait")
        jmp(x_dec, "wait")
        out(y, 1)
        jmp(y_dec, "next")
        set(pins, 1)[high_delay]
        set(pins, 0)
        wrap()

    return program


@rp2.asm_pio()
def _counter():
    """Counts down in X."""
    wrap_target()
    label("next")
    wait(0, pin, 0)
    wait(1, pin, 0)
    jmp(x_dec, "next")
    wrap()


@micropython.viper
def _begin(fifo: ptr32, until: int, hop: int) -> int:
    """Give the emitter, which stands still, its first word: one that ends when ticks_us is
    ``until``. Returns by how much that was too late."""
    late = 0
    wait = (until - int(ticks_us())) << 2 >> 2  # of 30 bits, the upper one its sign
    if wait < 5:
        late = 5 - wait
        wait = 5
    fifo[0] = (wait - 5) | hop
    return late


class StepperPio:
    """``step``, ``direction``, ``enable``: pins.

    ``enable_active``, ``forward``: levels that switch the driver chip on and mean forward.
    ``pulse_us``: width of a STEP pulse, 1 to 32. ``gap_us``: least time between two pulses, and
    from switching the driver chip on or setting DIR to the first pulse. ``emitter``, ``counter``:
    state machines (0 to 3 on PIO0, 4 to 7 on PIO1).
    """

    def __init__(
        self,
        step,
        direction,
        enable,
        enable_active,
        forward,
        pulse_us,
        gap_us,
        emitter=0,
        counter=1,
    ):
        enable(1 - enable_active)
        self._step = step
        self._direction = direction
        self._enable = enable
        self._active = enable_active
        self._forward = forward
        self._pulse_us = pulse_us
        self._gap_us = gap_us
        self._now_us = lambda: 0  # the pump's clock, once attached
        self._offset = 0  # ticks = (pump clock + offset) modulo 2**30
        self._running = False  # the emitter takes words
        self._next_us = 0  # pump clock at which the emitter takes the word behind the last queued
        self._last_us = 0  # pump clock at which the last queued pulse rises
        self._queued = 0  # pulses, less what halt dropped
        self._counted = 0
        self._raw = 0  # the counter's, when it was last read
        self._emitter = rp2.StateMachine(emitter, _emitter(pulse_us - 1), freq=_HZ, set_base=step)
        self._fifo = _PIO_TXF + (emitter >> 2) * _PIO_STRIDE + (emitter & 3) * 4
        self._addr = _PIO_ADDR + (emitter >> 2) * _PIO_STRIDE + (emitter & 3) * _ADDR_STRIDE
        self._start = mem32[self._addr] & 31  # where its program lies
        self._counter = rp2.StateMachine(counter, _counter, in_base=step)
        self._counter.exec(_ZERO_X)
        self._counter.active(1)
        # The DMA channel's ring lies at a multiple of its size.
        self._ring = array("I", bytes(8 * _RING))
        self._base = -addressof(self._ring) % (4 * _RING) // 4
        self._ring_at = addressof(self._ring) + 4 * self._base
        self._head = 0  # where queue writes next
        self._dma = rp2.DMA()
        run = {
            "inc_write": False,
            "ring_size": _RING_BYTES_LOG2,
            "treq_sel": (emitter >> 2) * 8 + (emitter & 3),
        }
        self._dma_run = self._dma.pack_ctrl(**run)
        self._dma_hold = self._dma.pack_ctrl(enable=0, **run)
        self._dma.config(read=self._ring_at, write=self._fifo, count=0, ctrl=self._dma_hold)

    def attach(self, clock):
        """Use ``clock`` as the pump's clock; called once, before anything else."""
        self._now_us = now_us = clock.now_us
        least_us = _TICKS_MASK
        for _ in range(8):  # the quickest read tells most
            before = ticks_us()
            read_us = now_us()
            took_us = (ticks_us() - before) & _TICKS_MASK
            if took_us < least_us:
                least_us = took_us
                # The clock reads its ticks in the first half of that: pulses are never early.
                self._offset = (before + took_us * 2 // 3 - read_us) & _TICKS_MASK
        self._direction(self._forward)

    def queue(self, first_us, slack, spacing, rate, count):
        """Append ``count`` pulses. Raises ValueError when they do not fit. Allocates."""
        now_us = self._now_us()
        if self._next_us > now_us + _CLOSE_US:
            at_us = self._next_us
            least_us = self._last_us + self._gap_us
        else:
            while self._next_us + 5 > now_us:
                now_us = self._now_us()
            if not self._running:
                self._enable(self._active)
                self._emitter.active(1)
                self._running = True
                now_us = self._now_us()
            at_us = None
            least_us = now_us + self._gap_us
        after_us = self._pulse_us + 1  # from a rising edge to taking the next word
        ring = self._ring
        base = self._base
        head = self._head
        room = _RING - 1
        if self._dma.active():
            room -= self._dma.count
        until_us = hop = words = 0
        whole_us = spacing // rate
        part = spacing % rate
        ideal_us = first_us
        excess = slack  # what the ideal instant was rounded up by, in 1/rate us
        due_us = least_us
        for i in range(count):
            if i:
                ideal_us += whole_us
                excess -= part
                if excess < 0:
                    excess += rate
                    ideal_us += 1
            due_us = ideal_us if ideal_us > least_us else least_us
            least_us = due_us + self._gap_us
            if at_us is None:  # the first word is worked out last of all
                if due_us - now_us <= _HOP_US // 2:
                    until_us = due_us
                    at_us = due_us + after_us
                    continue
                hop = _HOP
                at_us = until_us = now_us + _HOP_US // 2
            while True:
                wait_us = due_us - at_us
                if words == room:
                    raise ValueError("%d pulses do not fit the queue" % count)
                words += 1
                if wait_us <= _HOP_US:
                    break
                ring[base + head] = (_HOP_US - _OVERHEAD) | _HOP
                head = (head + 1) & (_RING - 1)
                at_us += _HOP_US
            ring[base + head] = wait_us - _OVERHEAD
            head = (head + 1) & (_RING - 1)
            at_us = due_us + after_us
        late_us = 0
        state = disable_irq()
        if until_us:
            until = (until_us + self._offset) & _TICKS_MASK
            late_us = _begin(self._fifo, until, hop)
            ring[base + (self._head - 1 & _RING - 1)] = hop  # for _held
        elif self._now_us() + _COMMIT_US > self._next_us:  # this took too long to append
            enable_irq(state)
            self.queue(first_us, slack, spacing, rate, count)
            return
        self._queued += count
        self._next_us = at_us + late_us
        self._last_us = due_us + late_us
        if words:
            dma = self._dma
            dma.ctrl = self._dma_hold
            if dma.active():
                words += dma.count
                dma.active(0)
            dma.count = words
            dma.ctrl = self._dma_run
            dma.active(1)
            self._head = head
        enable_irq(state)

    def emitted(self):
        """Pulses since construction, as counted on the STEP pin."""
        counter = self._counter
        counter.exec(_X_TO_ISR)
        counter.exec(_PUSH)
        raw = -counter.get() & _COUNT_MASK
        self._counted += (raw - self._raw) & _COUNT_MASK
        self._raw = raw
        return self._counted

    def commanded(self):
        """Pulses since construction that the emitter has begun, by its own books. Allocates."""
        return self._queued - self._held()

    def _held(self):
        """Pulses queued that have not begun."""
        dma = self._dma
        emitter = self._emitter
        before = None
        while True:  # until nothing moved between two looks
            place = mem32[self._addr] - self._start & 31
            looks = place, emitter.tx_fifo(), dma.read
            if looks == before:
                break
            before = looks
        place, waiting, read = looks
        at = (read - self._ring_at >> 2) - waiting
        if _HELD_FROM <= place <= _HELD_TO:
            at -= 1
        held = 0
        for i in range(self._head - at & _RING - 1):
            if not self._ring[self._base + (at + i & _RING - 1)] & _HOP:
                held += 1
        return held

    def halt(self):
        """Drop what is queued and switch the driver chip off; returns ``emitted()``. A pulse that
        is high has its full width."""
        emitter = self._emitter
        dma = self._dma
        state = disable_irq()
        emitter.active(0)
        dma.ctrl = self._dma_hold
        dma.active(0)
        if self._step():
            sleep_us(self._pulse_us)
            emitter.exec(_LOW)
        self._enable(1 - self._active)
        enable_irq(state)
        self._running = False
        self._queued -= self._held()
        self._head = ((dma.read - self._ring_at) >> 2) & (_RING - 1)
        while emitter.tx_fifo():
            emitter.exec(_PULL)
        emitter.restart()
        self._next_us = 0
        return self.emitted()
