"""Start-up and trumpet curves (DEL-3), counted by the pulses on the pin."""

from __future__ import annotations

import pytest

from cisterna import Bench, trumpet, trumpet_picture
from cisterna.amounts import format_rate
from cisterna.bench import MINUTE_US
from cisterna.trumpet_source import measure
from hil_tests.evidence import Measured, Picture


@pytest.mark.requirement("DEL-3")
@pytest.mark.needs("advance", "edges", "refill")
def test_flow_error_is_inside_the_bound_of_an_ideal_pump(
    bench: Bench,
    seed: int,
    full: bool,
    measured: Measured,
    picture: Picture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    days = "days" in bench.offers
    rates = (24_000_000, 1_000_000, 48_000) if days else (1_000_000,)
    for rate in rates:
        spans = trumpet.plan(rate)
        if not days and not full:
            spans = trumpet.plan(rate, analysis_us=36 * MINUTE_US, start_up_us=3 * MINUTE_US)
        counted = measure(bench, rate, spans, "edges", seed)
        found = trumpet.judge(counted, rate, spans)
        shown = format_rate(rate)
        measured("DEL-3", float(found.outside * 100), f"% outside the bound, {shown}")
        drawn = trumpet_picture.draw(found, f"{bench.name} bench, edges")
        picture(f"trumpet-{bench.name}-{rate}-nl-day.png", drawn)
        with capsys.disabled():
            print(
                f"\n{shown}: {float(found.outside * 100):+.4f} % from the bound, mean"
                f" flow off by {trumpet.percent(found.windows[-1].low)} %",
                end=" ",
            )
        assert counted.volumes_pl[-1] > 0
        assert [each.length_us for each in found.windows] == [*spans.windows_us, spans.analysis_us]
        assert found.holds, trumpet.trumpet_csv(found)
