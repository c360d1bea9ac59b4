"""The pictures of a therapy: they are drawn from any input, and say what they show."""

from __future__ import annotations

import pytest

from cisterna import prescription
from cisterna.chart_sheet import NARROW_DARK, WIDE, Look
from cisterna.prescription import shipped
from cisterna.therapy_charts import (
    DayBolus,
    DayDose,
    TipSample,
    draw_bridge,
    draw_daily_dose,
    draw_day,
)

FLEX = prescription.load(shipped()["baclofen_flex"]).therapy
HOUR_US = 3_600_000_000


@pytest.mark.parametrize("look", [WIDE, NARROW_DARK])
def test_the_same_input_gives_the_same_picture(look: Look) -> None:
    boluses = [DayBolus(480, 10_000, 5, "patient")]
    delivered = [(15 * (at + 1), 2_000) for at in range(96)]
    day = draw_day(FLEX, 0, boluses, delivered, look)
    assert day.startswith(b"\x89PNG")
    assert day == draw_day(FLEX, 0, boluses, delivered, look)
    assert day != draw_day(FLEX, 6, boluses, delivered, look)
    samples = [
        TipSample(0, 500_000, 500_000, 200_000),
        TipSample(38 * HOUR_US, 2_000_000, 1_500_000, 50_000),
    ]
    bridge = draw_bridge(samples, 38 * HOUR_US, "baclofen", look)
    assert bridge.startswith(b"\x89PNG")
    assert bridge != draw_bridge(samples, None, "baclofen", look)
    doses = [DayDose(day, 100_000, 100_000 - day) for day in range(1, 41)]
    dose = draw_daily_dose(doses, "baclofen", [(5, "a bolus")], look)
    assert dose.startswith(b"\x89PNG")
    assert dose != draw_daily_dose(doses[:-1], "baclofen", [(5, "a bolus")], look)


def test_a_day_of_one_rate_can_be_drawn_too() -> None:
    baclofen = prescription.load(shipped()["baclofen"]).therapy
    assert draw_day(baclofen, 0).startswith(b"\x89PNG")
