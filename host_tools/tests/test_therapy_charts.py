"""The pictures of a therapy: they are drawn from any input, and say what they show."""

from __future__ import annotations

import pytest

from cisterna import prescription
from cisterna.chart_sheet import NARROW_DARK, WIDE, Look, Sheet
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


@pytest.mark.parametrize("look", [WIDE, NARROW_DARK])
def test_no_line_of_a_day_crosses_a_label(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    sheets: list[Sheet] = []
    png = Sheet.png
    monkeypatch.setattr(Sheet, "png", lambda sheet: (sheets.append(sheet), png(sheet))[1])
    boluses = [DayBolus(minute, 10_000, 5, "patient") for minute in (480, 945)]
    delivered = []
    for at in range(0, 1440, 15):
        rate = max((begin, rate) for begin, rate in FLEX.steps(0) if begin <= at)[1]
        bolus_nl = 10_000 if at in (480, 945) else 0
        delivered.append((at + 15, rate * 15 // 1440 + bolus_nl))
    draw_day(FLEX, 0, boluses, delivered, look)
    (axes,) = sheets[0].figure.axes
    labels = [text.get_text() for text in axes.texts]
    assert "patient 0.01 mL\n2.88 mL/day, 5 min" in labels
    assert [text for text in labels if text.startswith("0.24")]
    boxes = [text.get_window_extent() for text in axes.texts]
    for line in axes.lines:
        drawn = line.get_transform().transform_path(line.get_path())
        half = line.get_linewidth() * sheets[0].figure.dpi / 144
        for label, box in zip(labels, boxes, strict=True):
            assert not drawn.intersects_bbox(box.padded(half), filled=False), label
    for at, box in enumerate(boxes):
        assert not [other for other in boxes[at + 1 :] if box.overlaps(other)], labels[at]


def test_the_dose_where_it_mixes_falls_at_the_change_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sheets: list[Sheet] = []
    png = Sheet.png
    monkeypatch.setattr(Sheet, "png", lambda sheet: (sheets.append(sheet), png(sheet))[1])
    samples = [
        TipSample(0, 500_000, 500_000, 200_000),
        TipSample(20 * HOUR_US, 500_000, 500_000, 200_000),
        TipSample(38 * HOUR_US, 2_000_000, 1_450_000, 50_000),
        TipSample(50 * HOUR_US, 2_000_000, 1_600_000, 50_000),
    ]
    draw_bridge(samples, 38 * HOUR_US, "baclofen")
    _, lower = sheets[0].figure.axes
    points = [(float(x), float(y)) for x, y in lower.lines[1].get_xydata()]
    assert points == [
        (0, 100),
        (20, 100),
        (20, 100),
        (38, pytest.approx(290)),
        (38, pytest.approx(72.5)),
        (50, pytest.approx(80)),
        (50, pytest.approx(80)),
    ]


def test_a_day_of_one_rate_can_be_drawn_too() -> None:
    baclofen = prescription.load(shipped()["baclofen"]).therapy
    assert draw_day(baclofen, 0).startswith(b"\x89PNG")
