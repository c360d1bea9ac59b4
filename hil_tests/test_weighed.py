"""Delivery by weighing, on a bench with a balance: the gravimetric form of DEL-1."""

from __future__ import annotations

import time

import pytest

from cisterna import Bench, gravimetric
from cisterna.bench_file import FileBench
from cisterna.trumpet_source import CAPACITY_NL, therapy
from hil_tests.evidence import Measured

RATE_NL_DAY = 24_000_000
MINUTES, FULL_MINUTES = 30, 240


@pytest.mark.requirement("DEL-1")
@pytest.mark.needs("advance", "scale")
def test_weighed_volume_follows_the_programme(
    bench: Bench, full: bool, measured: Measured
) -> None:
    """The limit: a step, the readability of both readings, and the tolerance of the bench's
    file."""
    assert isinstance(bench, FileBench)
    scale = bench.file.balance
    assert scale is not None
    with bench.programmer() as pump:
        pump.program(therapy(RATE_NL_DAY))
        pump.refill(0, CAPACITY_NL, "weighed")
        pump.stop()
        step_pl = pump.status().step_pl
        start = bench.weigh()
        began = time.monotonic()
        started_us = pump.resume().uptime_us
        bench.advance(minutes=FULL_MINUTES if full else MINUTES)
        stopped_us = pump.stop().uptime_us
        end = bench.weigh()
        lasted_us = round((time.monotonic() - began) * 1e6)
    found = gravimetric.delivered(start, end, lasted_us, scale.liquid)
    programmed_pl = RATE_NL_DAY * (stopped_us - started_us) // 86_400_000
    verdict = gravimetric.judge(found, programmed_pl, step_pl, scale.tolerance_ppm)
    measured(
        "DEL-1",
        verdict.error_pl / 1e6,
        f"uL off by weighing {programmed_pl / 1e6:.1f} uL, limit {verdict.limit_pl / 1e6:.2f}",
    )
    assert verdict.holds
