"""Rotor sensor on a PIO state machine of an RP2 chip: it counts whatever the processor does.

Fulfils the rotor sensor contract of ``drivers/README.md``. A level counts once it has stood for
17 us (at 125 MHz); what is shorter is a spike. The state machine waits without work while nothing
turns.
"""

# The names inside a PIO program are the assembler's.
# ruff: noqa: F821
# pyright: reportUndefinedVariable=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportIndexIssue=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

import rp2
from machine import Pin
from micropython import const

_COUNT_MASK = const((1 << 32) - 1)
_ZERO_X = rp2.asm_pio_encode("set(x, 0)", 0)
_X_TO_ISR = rp2.asm_pio_encode("mov(isr, x)", 0)
_PUSH = rp2.asm_pio_encode("push(noblock)", 0)


@rp2.asm_pio()
def _lines():
    """Counts down in X."""
    wrap_target()
    label("low")
    wait(0, pin, 0)
    set(y, 31)
    label("falling")
    jmp(pin, "low")[31]
    jmp(y_dec, "falling")[31]
    label("high")
    wait(1, pin, 0)
    set(y, 31)
    label("rising")
    jmp(pin, "still")[31]
    jmp("high")
    label("still")
    jmp(y_dec, "rising")[31]
    jmp(x_dec, "low")
    wrap()


class RotorSensorPio:
    """``pin``: an input, pulled as the sensor needs it. ``machine``: the state machine."""

    def __init__(self, pin, machine):
        self._counted = 0
        self._raw = 0  # the state machine's count, when it was last read
        self._machine = rp2.StateMachine(machine, _lines, in_base=pin, jmp_pin=pin)
        self._machine.exec(_ZERO_X)
        self._machine.active(1)
        self._pin = pin
        self._flag = None

    def _rise(self, pin):
        self._flag.set()

    async def turned(self):
        """Returns when the rotor has given a pulse since the last call. One task may wait."""
        if self._flag is None:
            from asyncio import ThreadSafeFlag

            self._flag = ThreadSafeFlag()
            self._pin.irq(self._rise, Pin.IRQ_RISING)
        await self._flag.wait()

    def count(self):
        """Pulses of the rotor since construction."""
        machine = self._machine
        machine.exec(_X_TO_ISR)
        machine.exec(_PUSH)
        raw = -machine.get() & _COUNT_MASK
        self._counted += (raw - self._raw) & _COUNT_MASK
        self._raw = raw
        return self._counted
