"""The bad line: what it does to frames follows from its seed, and a pump behind it stays sane."""

from __future__ import annotations

import random

import pytest

from cisterna.bench_virtual import VirtualBench
from cisterna.errors import CisternaError
from cisterna.impairment import Channel, ImpairedLink, Impairment
from cisterna.programmer import Programmer
from pump_wire.frame import MAX_STUFFED, FrameReader, write_frame


def framed(packet: bytes) -> bytes:
    out = bytearray(MAX_STUFFED)
    return bytes(out[: write_frame(out, packet, len(packet))])


FRAMES = [framed(bytes([number, number ^ 0x55, 0x7E])) for number in range(200)]


def packets(octets: bytes) -> list[int]:
    """First octets of the good frames in a stream."""
    reader = FrameReader()
    return [reader.packet[0] for octet in octets if reader.feed(octet)]


def carried(bad: Impairment, seed: int = 1, chunk: int = 0) -> tuple[list[int], Channel]:
    """What comes out of 200 frames sent at once, a chunk at a time."""
    channel = Channel(bad, seed)
    stream = b"".join(FRAMES)
    size = chunk or len(stream)
    for at in range(0, len(stream), size):
        channel.put(stream[at : at + size], 0)
    return packets(channel.take(1e9)), channel


def test_a_good_line_carries_every_octet() -> None:
    channel = Channel(Impairment(), 1)
    channel.put(b"noise" + b"".join(FRAMES), 0)
    assert channel.take(0) == b"noise" + b"".join(FRAMES)
    assert channel.next_s is None


def test_the_same_seed_does_the_same_however_the_octets_come() -> None:
    bad = Impairment(loss=0.3, duplication=0.3, delay=0.3, delay_s=1, bit_errors=0.001)
    first, channel = carried(bad)
    assert carried(bad)[0] == first
    assert carried(bad, chunk=3)[0] == first
    assert carried(bad, seed=2)[0] != first
    for count in (channel.lost, channel.doubled, channel.delayed):
        assert 30 < count < 90
    assert channel.frames == 200
    assert channel.flipped > 0


def test_loss_and_duplication_are_of_whole_frames() -> None:
    found, channel = carried(Impairment(loss=0.5))
    assert found == sorted(found)
    assert len(found) == len(set(found)) == 200 - channel.lost
    found, channel = carried(Impairment(duplication=0.5))
    assert len(found) == 200 + channel.doubled
    assert set(found) == set(range(200))


def test_delay_reorders_and_loses_nothing() -> None:
    channel = Channel(Impairment(delay=0.5, delay_s=2), 1)
    found: list[int] = []
    for number, frame in enumerate(FRAMES):
        channel.put(frame, number * 0.1)
        found += packets(channel.take(number * 0.1))
    found += packets(channel.take(1e9))
    assert sorted(found) == list(range(200))
    assert found != list(range(200))


def test_cut_at_an_octet() -> None:
    stream = b"".join(FRAMES)
    for count in (0, 1, 7, 50):
        channel = Channel(Impairment(cut_at=count), 1)
        channel.put(stream, 0)
        assert channel.take(1) == stream[:count]
        assert channel.cut
        channel.put(stream, 2)
        assert channel.take(3) == b""


def test_a_throttled_line_keeps_its_baud() -> None:
    channel = Channel(Impairment(baud=1000), 1)
    channel.put(bytes(range(32, 82)), 10.0)
    for count in (0, 1, 7, 30, 49):
        channel.take(10.005 + count / 100)
        assert channel.carried == count
        assert channel.next_s == pytest.approx(10.01 + count / 100)
    channel.take(10.505)
    assert channel.carried == 50


@pytest.mark.parametrize(
    "wrong", [{"loss": 1.1}, {"bit_errors": -0.1}, {"cut_at": -1}, {"baud": 0}, {"delay_s": -1}]
)
def test_what_is_no_impairment_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Impairment(**wrong)  # type: ignore[arg-type]


def test_a_pump_behind_a_bad_line_answers_in_simulated_time() -> None:
    bad = Impairment(loss=0.2, duplication=0.3, delay=0.3, delay_s=0.7, bit_errors=0.0002)
    with VirtualBench(seed=1, trace=False) as bench:
        began = bench.truth()["time_us"]
        link = ImpairedLink(
            bench.link(), bad, bad, seed=3, pass_time=lambda s: bench.advance(seconds=s)
        )
        answered = silent = 0
        choose = random.Random(3)
        pump: Programmer | None = None
        for _ in range(40):
            try:
                pump = pump or Programmer(link, keys=bench.keys)
                assert pump.status().fault == 0
                answered += 1
            except CisternaError:
                silent += 1
            link.let_pass(choose.random())
        assert answered > 20
        assert link.there.lost + link.back.lost > 10
        assert bench.truth()["time_us"] > began + 20_000_000  # its time-outs took no real time
        link.close()
        with bench.programmer() as again:
            assert again.status().fault == 0


def test_a_dead_line_is_silent_and_says_so() -> None:
    with VirtualBench(seed=1, trace=False) as bench:
        link = ImpairedLink(
            bench.link(),
            from_pump=Impairment(cut_at=40),
            pass_time=lambda s: bench.advance(seconds=s),
        )
        with pytest.raises(CisternaError, match="no pump answers"):
            Programmer(link)
        assert link.back.cut
        link.close()
