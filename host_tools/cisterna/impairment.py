"""A bad line: a ``Link`` that loses, repeats, delays and damages what it carries.

What befalls each frame follows from the seed alone and from the frames that came before in its
direction, so a run can be had again. Use it around any link, real or simulated::

    bad = Impairment(loss=0.3, duplication=0.3, delay=0.3, delay_s=0.8)
    pump = connect(ImpairedLink(bench.link(), to_pump=bad, from_pump=bad, seed=7))
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass

from cisterna.transport import Link
from pump_wire.frame import FLAG

_BITS_AN_OCTET = 10  # on an asynchronous line, with start and stop bit
_SIMULATED_REPLY_S = 0.002  # real time in which a simulated pump has answered


@dataclass(frozen=True)
class Impairment:
    """What is wrong with one direction of a line. By default nothing.

    ``loss``, ``duplication``, ``delay``: the chance, 0 to 1, that a frame is lost, comes twice, or
    comes up to ``delay_s`` seconds late, perhaps behind frames that were sent after it.
    ``bit_errors``: the chance that a bit is flipped. ``cut_at``: octets that pass before the line
    is dead for good. ``baud``: no more than so many bits a second, ten an octet.
    """

    loss: float = 0
    duplication: float = 0
    delay: float = 0
    delay_s: float = 0
    bit_errors: float = 0
    cut_at: int | None = None
    baud: int | None = None

    def __post_init__(self) -> None:
        for name in ("loss", "duplication", "delay", "bit_errors"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)} is no chance from 0 to 1")
        baud = 1 if self.baud is None else self.baud
        if self.delay_s < 0 or (self.cut_at or 0) < 0 or baud < 1:
            raise ValueError("delay_s and cut_at are 0 or more, baud is 1 or more")


GOOD = Impairment()


class Channel:
    """One direction of a bad line. Times in seconds of any clock that does not go back.

    Counters, all since construction: ``frames`` that were sent, those of them ``lost``,
    ``doubled`` and ``delayed``; ``flipped`` bits; ``carried`` octets.
    """

    def __init__(self, impairment: Impairment, seed: int | str) -> None:
        self._impairment = impairment
        self._random = random.Random(f"impairment {seed}")
        self._inside = False
        self._empty = True  # nothing but flags since the frame began
        self._lose = False
        self._repeat = False
        self._late_s = 0.0
        self._copy = bytearray()
        self._free_s = 0.0  # when the line has sent what it was given
        self._under_way: list[tuple[float, int, int]] = []  # due, order, octet
        self._order = 0
        self.frames = self.lost = self.doubled = self.delayed = self.flipped = self.carried = 0

    @property
    def cut(self) -> bool:
        """The line is dead."""
        return self._impairment.cut_at is not None and self.carried >= self._impairment.cut_at

    def put(self, octets: bytes, now_s: float) -> None:
        """Send ``octets`` at ``now_s``."""
        for octet in octets:
            flag = octet == FLAG
            if flag and (not self._inside or self._empty):
                self._begin()
            elif not flag:
                self._empty = False
            if self._repeat:
                self._copy.append(octet)
            if not (self._inside and self._lose):
                self._send(octet, now_s)
            if flag and not self._empty:
                self._end(now_s)

    def _begin(self) -> None:
        if self._inside:  # flags back to back: the same frame
            return
        self._inside = True
        self._empty = True
        draw, bad = self._random.random, self._impairment
        chances = (draw(), draw(), draw(), draw())
        self._lose = chances[0] < bad.loss
        self._repeat = not self._lose and chances[1] < bad.duplication
        late = not self._lose and chances[2] < bad.delay
        self._late_s = chances[3] * bad.delay_s if late else 0.0
        self._copy.clear()
        self.frames += 1
        self.lost += self._lose
        self.doubled += self._repeat
        self.delayed += late

    def _end(self, now_s: float) -> None:
        if self._repeat:
            self._repeat = False
            self._late_s += self._random.random() * self._impairment.delay_s
            for octet in bytes(self._copy):
                self._send(octet, now_s)
        self._inside = self._lose = False
        self._empty = True
        self._late_s = 0.0

    def _send(self, octet: int, now_s: float) -> None:
        bad = self._impairment
        if bad.bit_errors:
            for bit in range(8):
                if self._random.random() < bad.bit_errors:
                    octet ^= 1 << bit
                    self.flipped += 1
        due_s = now_s
        if bad.baud:
            self._free_s = max(self._free_s, now_s) + _BITS_AN_OCTET / bad.baud
            due_s = self._free_s
        self._order += 1
        heapq.heappush(self._under_way, (due_s + self._late_s, self._order, octet))

    def take(self, now_s: float) -> bytes:
        """What has arrived by ``now_s`` and was not taken yet."""
        arrived = bytearray()
        while self._under_way and self._under_way[0][0] <= now_s:
            octet = heapq.heappop(self._under_way)[2]
            if not self.cut:
                self.carried += 1
                arrived.append(octet)
        return bytes(arrived)

    @property
    def next_s(self) -> float | None:
        """When the next octet arrives; None when none is on its way."""
        return self._under_way[0][0] if self._under_way else None


class ImpairedLink:
    """A ``Link`` around another one; ``there`` and ``back`` are its two directions.

    ``pass_time``: lets so many simulated seconds pass, ``lambda s: bench.advance(seconds=s)``. The
    clock of this link is then the simulated one, which stands still while the pump works, and no
    time-out takes real time. Without it all is in the time of ``link``.
    """

    def __init__(
        self,
        link: Link,
        to_pump: Impairment = GOOD,
        from_pump: Impairment = GOOD,
        seed: int | str = 0,
        pass_time: Callable[[float], None] | None = None,
    ) -> None:
        self._link = link
        self.there = Channel(to_pump, f"{seed} there")
        self.back = Channel(from_pump, f"{seed} back")
        self._pass_time = pass_time
        self._now_s = 0.0

    @property
    def name(self) -> str:
        return self._link.name

    def now_s(self) -> float:
        return self._now_s if self._pass_time else self._link.now_s()

    def write(self, data: bytes) -> None:
        self.there.put(data, self.now_s())
        self._carry_there()

    def _carry_there(self) -> bool:
        arrived = self.there.take(self.now_s())
        if arrived:
            self._link.write(arrived)
        return bool(arrived)

    def read(self, timeout_s: float) -> bytes:
        until = self.now_s() + timeout_s
        while True:
            self._carry_there()
            now = self.now_s()
            heard = self.back.take(now)
            if heard or now >= until:
                return heard
            due = [until, *(each for each in (self.there.next_s, self.back.next_s) if each)]
            self._listen(max(0.0, min(due) - now))

    def _listen(self, wait_s: float) -> None:
        """Hear what the pump says within ``wait_s``."""
        if self._pass_time is None:
            self.back.put(self._link.read(wait_s), self.now_s())
            return
        self._pass_time(0)  # it deals with what it was given
        said = self._link.read(_SIMULATED_REPLY_S)
        if said:
            self.back.put(said, self._now_s)
        else:
            self._pass_time(wait_s)
            self._now_s += wait_s

    def let_pass(self, seconds: float) -> None:
        """Nobody talks for that long; what is on its way arrives meanwhile."""
        until = self.now_s() + seconds
        while (left := until - self.now_s()) > 0:
            self.read(left)

    def close(self) -> None:
        self._link.close()
