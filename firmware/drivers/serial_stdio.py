"""Port over the board's own console: USB or UART, whatever stdin and stdout are.

Fulfils the port contract of ``drivers/README.md``. With ``interruptible`` a Ctrl-C (03, which
frames never contain) still breaks into the REPL: the development profile. Without it the console
is transparent and there is no way to the REPL.

``read_into`` and ``write`` allocate nothing. They go octet by octet: stdin offers no read that
takes what is there, and stdout none that says how much it can take, so each octet is preceded by a
poll.
"""

import sys
from asyncio import core  # pyright: ignore[reportAttributeAccessIssue]
from select import POLLIN, POLLOUT, poll
from time import ticks_diff, ticks_ms

from micropython import kbd_intr

_HOST_READS_MS = 100  # how long write waits for a host that does not read


class SerialStdio:
    """The one port of a board whose console is its telemetry."""

    def __init__(self, interruptible=True):
        if not interruptible:
            kbd_intr(-1)
        self._stdin = sys.stdin.buffer
        readable = poll()
        readable.register(self._stdin, POLLIN)
        writable = poll()
        writable.register(sys.stdout.buffer, POLLOUT)
        for each in (readable, writable):  # the first use makes what later uses fill in
            for _ in each.ipoll(0):
                pass
        self._in = bytearray(1)
        self._out = bytearray(1)
        self._readable = readable.ipoll  # bound once: binding allocates
        self._writable = writable.ipoll
        self._read = self._stdin.readinto
        self._write = sys.stdout.buffer.write

    def read_into(self, buffer):
        """Read what is there into ``buffer``; returns how many octets, 0 when there are none."""
        ready = self._readable
        read = self._read
        octet = self._in
        count = 0
        for _ in buffer:
            there = False
            for _ in ready(0):
                there = True
            if not there:
                break
            read(octet)
            buffer[count] = octet[0]
            count += 1
        return count

    def wait_readable(self):
        """Awaitable: returns when octets may be there."""
        yield core._io_queue.queue_read(self._stdin)

    def write(self, view):
        """Write ``view``; what the host has not room for after 100 ms is dropped."""
        ready = self._writable
        write = self._write
        octet = self._out
        for value in view:
            there = False
            for _ in ready(0):
                there = True
            if not there and not self._wait_writable():
                return
            octet[0] = value
            write(octet)

    def _wait_writable(self):
        began = ticks_ms()
        while ticks_diff(ticks_ms(), began) < _HOST_READS_MS:
            for _ in self._writable(1):
                return True
        return False
