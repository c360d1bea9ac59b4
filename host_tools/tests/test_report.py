"""The report: exact numbers, nothing hidden, nothing let in, and the same octets every time."""

from __future__ import annotations

import base64
import dataclasses
import random
import re
import struct
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cisterna.chart_sheet import NARROW, Sheet
from cisterna.charts import draw_delivery, draw_reservoir
from cisterna.prescription import NOTICE
from cisterna.report import (
    HIGHEST,
    BalanceRow,
    DeliverySample,
    EventRow,
    Forecast,
    Marker,
    RefillSummary,
    ReportData,
    balance_rows,
    forecast_low_us,
    write_report,
)
from cisterna.run_samples import (
    day_text,
    delivery_findings,
    forecast_text,
    limits_text,
    plain,
    ratio_text,
    residual_finding,
    steps_text,
    thin,
    volume_text,
    wall_time,
)
from pump.refilling import is_discrepancy

DAY_US = 86_400_000_000
STEP_PL = 100_000
FILL_PL = 20_000_000_000
LOW_PL = 2_000_000_000
RATE_NL_DAY = 200_000
START_WALL_S = 1_795_334_400  # 2026-11-22 08:00 UTC


def sample(time_us: int, programmed_pl: int, error_pl: int = 0) -> DeliverySample:
    """A sample of a pump that was filled at time 0, its account being true."""
    delivered_pl = programmed_pl + error_pl
    residual_pl = FILL_PL - delivered_pl
    return DeliverySample(
        time_us, programmed_pl, delivered_pl, delivered_pl, residual_pl, residual_pl
    )


def month(every_us: int = DAY_US // 4) -> list[DeliverySample]:
    """Thirty days at 0.2 mL/day, each step when it is due."""
    samples: list[DeliverySample] = []
    for time_us in range(0, 30 * DAY_US + 1, every_us):
        programmed_pl = time_us * RATE_NL_DAY // 86_400_000
        samples.append(sample(time_us, programmed_pl, -(programmed_pl % STEP_PL)))
    return samples


def month_report() -> ReportData:
    samples = month()
    last = samples[-1]
    return ReportData(
        title="Thirty days",
        step_pl=STEP_PL,
        low_mark_pl=LOW_PL,
        capacity_pl=FILL_PL,
        identity={"Board": "virtual"},
        therapy=[("Drug", "baclofen"), ("Basal rate", "0.2 mL/day")],
        samples=samples,
        markers=[Marker(12 * DAY_US, "bolus 20 uL"), Marker(29 * DAY_US, "refill to 20 mL")],
        forecast=Forecast(last.time_us, last.residual_pl, LOW_PL, RATE_NL_DAY),
        refill=RefillSummary(14_200_000_000, 14_150_000_000, -50_000_000, 1_008_621, False),
        events=[EventRow(7, 90_061_000_000, START_WALL_S, "single bolus of 0.02 mL started")],
        balance=balance_rows(
            step_pl=STEP_PL,
            fill_pl=FILL_PL,
            delivered_pl=last.account_pl,
            residual_pl=last.expected_residual_pl,
            true_delivered_pl=last.delivered_pl,
            true_residual_pl=last.residual_pl,
        ),
        start_wall_s=START_WALL_S,
    )


class Page(HTMLParser):
    """Text, tags and attributes as a browser would see them; asserts that tags pair."""

    _ALONE = frozenset({"meta", "source", "img"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self._ALONE:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        """All the text that is shown, blanks single."""
        return " ".join(" ".join(self.words).split())

    def values(self, name: str) -> list[str]:
        """Values of an attribute, in order."""
        return [value for _, attribute, value in self.attributes if attribute == name]


def png_size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


# -- forecast ----------------------------------------------------------------------------------


def test_forecast_of_a_full_reservoir() -> None:
    assert forecast_low_us(FILL_PL, LOW_PL, RATE_NL_DAY, 30 * DAY_US) == 120 * DAY_US


@given(
    left_pl=st.integers(1, HIGHEST),
    low_pl=st.integers(0, 10**13),
    rate_nl_day=st.integers(1, 24_000_000),
    now_us=st.integers(0, HIGHEST),
)
def test_forecast_is_the_first_microsecond_at_the_mark(
    left_pl: int, low_pl: int, rate_nl_day: int, now_us: int
) -> None:
    low_us = forecast_low_us(low_pl + left_pl, low_pl, rate_nl_day, now_us)
    assert low_us is not None
    pl_per_us = Fraction(rate_nl_day * 1000, DAY_US)
    assert (low_us - now_us) * pl_per_us >= left_pl
    assert (low_us - now_us - 1) * pl_per_us < left_pl


def test_forecast_at_the_mark_and_below_is_now_even_when_stopped() -> None:
    assert forecast_low_us(LOW_PL, LOW_PL, 0, 5) == 5
    assert forecast_low_us(LOW_PL - 1, LOW_PL, RATE_NL_DAY, 5) == 5
    assert "now" in forecast_text(Forecast(5, LOW_PL, LOW_PL, 0), None)


def test_no_forecast_at_rate_zero() -> None:
    assert forecast_low_us(LOW_PL + 1, LOW_PL, 0, 5) is None
    assert "rate is 0" in forecast_text(Forecast(5, FILL_PL, LOW_PL, 0), None)


def test_forecast_refuses_a_rate_below_zero() -> None:
    with pytest.raises(ValueError, match="-1 nL/day"):
        forecast_low_us(FILL_PL, LOW_PL, -1, 0)


def test_forecast_says_day_and_date() -> None:
    text = forecast_text(Forecast(30 * DAY_US, FILL_PL, LOW_PL, RATE_NL_DAY), START_WALL_S)
    assert text == (
        "At 0.2 mL/day from day 30.0 on, the low mark of 2 mL is reached on day 120.0, 2027-03-22."
    )


# -- thinning ----------------------------------------------------------------------------------


@given(count=st.integers(1, 2_000), most=st.integers(8, 200), seed=st.integers(0, 1_000))
def test_thinning_keeps_order_ends_and_extremes(count: int, most: int, seed: int) -> None:
    source = random.Random(seed)
    errors = [source.randint(-(10**9), 10**9) for _ in range(count)]
    samples = [DeliverySample(at, 0, error, error, 0, 0) for at, error in enumerate(errors)]
    kept = thin(samples, most)
    assert len(kept) <= most
    times_us = [one.time_us for one in kept]
    assert times_us == sorted(set(times_us))
    assert (kept[0], kept[-1]) == (samples[0], samples[-1])
    for extreme in (min, max):
        assert extreme(one.error_pl for one in kept) == extreme(errors)


def test_thinning_keeps_both_sides_of_a_refill() -> None:
    levels = [*range(4_321, 0, -1), *range(9_000, 4_000, -1)]
    samples = [DeliverySample(at, at, at, at, level, level) for at, level in enumerate(levels)]
    kept = {one.residual_pl for one in thin(samples, 100)}
    assert {4_321, 1, 9_000, 4_001} <= kept


def test_thinning_keeps_a_lone_error_of_the_account() -> None:
    samples = month(DAY_US // 500)
    odd = dataclasses.replace(samples[7_001], account_pl=samples[7_001].account_pl + STEP_PL)
    samples[7_001] = odd
    assert odd in thin(samples, 80)


def test_thinning_refuses_less_than_one_bin() -> None:
    with pytest.raises(ValueError, match="8"):
        thin(month(), 7)


def test_a_lone_error_among_many_samples_is_drawn_and_named() -> None:
    samples = month(DAY_US // 500)
    calm = draw_delivery(samples, [], STEP_PL, look=NARROW)
    samples[7_001] = sample(samples[7_001].time_us, samples[7_001].programmed_pl, 3 * STEP_PL)
    assert draw_delivery(samples, [], STEP_PL, look=NARROW) != calm
    said = " ".join(delivery_findings(samples, STEP_PL))
    assert "NOT within one step" in said
    assert "+3 steps (0.3 µL) at day 14.0" in said


def test_what_a_jam_held_back_is_told_apart_from_an_error() -> None:
    held = DeliverySample(DAY_US, 9 * STEP_PL, 4 * STEP_PL, 4 * STEP_PL, 0, 0, 5 * STEP_PL)
    said = " ".join(delivery_findings([held], STEP_PL))
    assert "is within one step of the programme in 1 sample, but for 5 steps" in said
    short = DeliverySample(DAY_US, 9 * STEP_PL, 3 * STEP_PL, 3 * STEP_PL, 0, 0, 5 * STEP_PL)
    assert "NOT within one step" in " ".join(delivery_findings([short], STEP_PL))


# -- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("volume_pl", "text"),
    [
        (0, "0 steps"),
        (-50_000, "−0.5 step"),
        (99_999, "+0.999 step"),
        (100_000, "+1 step"),
        (100_001, "+1.001 steps"),
        (1, "+0.001 step"),
        (-123_456_700_000, "−1,234,567 steps"),
    ],
)
def test_steps_never_round_to_zero_or_one(volume_pl: int, text: str) -> None:
    assert steps_text(volume_pl, STEP_PL, 3) == text


@pytest.mark.parametrize(
    ("volume_pl", "text"),
    [
        (0, "0 mL"),
        (STEP_PL, "0.1 µL"),
        (-94_444, "−0.094444 µL"),
        (10_000_000, "0.01 mL"),
        (FILL_PL - 1, "19.999999999 mL"),
    ],
)
def test_volumes_keep_every_digit(volume_pl: int, text: str) -> None:
    assert volume_text(volume_pl) == text


def test_times_say_the_day_or_the_time_of_the_first() -> None:
    assert day_text(0) == "day 0"
    assert day_text(3_661_000_000) == "day 0, 01:01:01"
    assert day_text(12 * DAY_US + DAY_US // 2 - 1) == "day 12.4"


def test_wall_time_needs_a_clock_that_was_set() -> None:
    assert wall_time(None, DAY_US) is None
    assert wall_time(0, DAY_US) is None
    assert wall_time(HIGHEST, HIGHEST) is None
    at = wall_time(START_WALL_S, DAY_US)
    assert at is not None
    assert at.isoformat() == "2026-11-23T08:00:00+00:00"


def test_residual_finding_names_the_largest_gap() -> None:
    samples = month()
    assert "agree to the picolitre" in residual_finding(samples)
    samples[8] = dataclasses.replace(
        samples[8], expected_residual_pl=samples[8].residual_pl - 2_000_000_000
    )
    assert "−2 mL at day 2.0" in residual_finding(samples)


def test_plain_text_is_one_line_without_controls() -> None:
    assert plain("a\n b\t c\x00\x1b\ud800\u202e") == "a b c���"


# -- balance -----------------------------------------------------------------------------------


def test_balance_rows_add_up_in_steps() -> None:
    rows = month_report().balance
    assert [row.steps for row in rows] == [200_000, 60_000, 140_000, 0]
    assert [row.truth_steps for row in rows] == [200_000, 60_000, 140_000, 0]
    assert all(row.balances for row in rows)


def test_balance_of_a_fill_that_is_no_whole_number_of_steps() -> None:
    fill, delivered, residual, check = balance_rows(
        step_pl=STEP_PL, fill_pl=1_050_000, delivered_pl=STEP_PL, residual_pl=950_000
    )
    assert (fill.steps, delivered.steps, residual.steps, check.steps) == (None, 1, None, 0)
    assert (residual.truth_pl, check.truth_pl) == (None, None)
    assert check.balances


@pytest.mark.parametrize(
    "row",
    [
        BalanceRow("Delivered", 4, 400_000, 3, 300_000),
        BalanceRow("Sum", 1, STEP_PL, is_check=True),
        BalanceRow("Sum", 1, STEP_PL, 1, STEP_PL, is_check=True),
    ],
)
def test_a_row_that_does_not_balance_says_so(row: BalanceRow, tmp_path: Path) -> None:
    assert not row.balances
    data = dataclasses.replace(month_report(), samples=(), markers=(), balance=[row])
    page = Page(write_report(data, tmp_path).html)
    assert f"does NOT balance: {row.name}." in page.text
    assert "balances to the picolitre" not in page.text


def test_nothing_is_said_to_balance_that_was_not_compared(tmp_path: Path) -> None:
    data = dataclasses.replace(_BARE, balance=[BalanceRow("Delivered", 4, 400_000)])
    page = Page(write_report(data, tmp_path).html)
    assert "No instrument was there to compare it with." in page.text
    assert "balances" not in page.text


# -- the page ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def month_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    folder = tmp_path_factory.mktemp("report") / "made"
    paths = write_report(month_report(), folder)
    assert paths.html == folder / "report.html"
    assert paths.pngs == (folder / "delivery.png", folder / "reservoir.png")
    return folder, Page(paths.html)


def test_pictures_have_two_pixels_for_one(month_page: tuple[Path, Page]) -> None:
    folder, _ = month_page
    assert png_size((folder / "delivery.png").read_bytes()) == (1800, 1260)
    assert png_size((folder / "reservoir.png").read_bytes()) == (1800, 1000)


def test_page_stands_alone(month_page: tuple[Path, Page]) -> None:
    folder, page = month_page
    pictures = page.values("src") + page.values("srcset")
    assert len(pictures) == 8
    prefix = "data:image/png;base64,"
    decoded = [base64.b64decode(uri.removeprefix(prefix), validate=True) for uri in pictures]
    assert [png_size(png)[0] for png in decoded] == [1800, 1800, 800, 1800, 800, 800, 1800, 800]
    assert decoded[:2] == [
        (folder / name).read_bytes() for name in ("delivery.png", "reservoir.png")
    ]
    assert page.values("href") == []
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    without_pictures = re.sub(r"data:image/png;base64,[\w+/=]+", "", page.source)
    assert "//" not in without_pictures
    assert "url(" not in without_pictures
    assert "default-src 'none'" in " ".join(page.values("content"))


def test_page_says_what_it_is_and_is_not(month_page: tuple[Path, Page]) -> None:
    _, page = month_page
    assert page.text.count(NOTICE) == 2
    assert "What it is not: evidence about any medical device" in page.text
    assert all(page.values("alt"))


def test_page_shows_every_number(month_page: tuple[Path, Page]) -> None:
    _, page = month_page
    for shown in (
        "From day 0, 2026-11-22 08:00 UTC, to day 30.0, 2026-12-22 08:00 UTC · 121 samples",
        "Drug baclofen",
        "Board virtual",
        "The account balances to the picolitre.",
        "Fill 200,000 20.0000 200,000 20.0000 0",
        "Delivered since the refill 60,000 6.0000 60,000 6.0000 0",
        "Residual 140,000 14.0000 140,000 14.0000 0",
        "Fill − delivered − residual 0 0.0000 0 0.0000 0",
        "Discrepancy within the pump’s limits (ratio 0.855 to 1.145, volume 1 mL).",
        "Expected residual volume (account) 14.2 mL",
        "Discrepancy, measured − expected −0.05 mL",
        "Ratio, left by the measurement / programmed 1.0086",
        "7 1 d 01:01:01 2026-11-22 08:00:00 single bolus of 0.02 mL started",
        "Low-volume date 2027-02-20",
    ):
        assert shown in page.text


def test_a_discrepancy_is_not_to_be_missed(tmp_path: Path) -> None:
    refill = RefillSummary(9_000_000_000, 10_200_000_000, 1_200_000_000, 890_909, True)
    data = dataclasses.replace(month_report(), samples=(), refill=refill)
    page = Page(write_report(data, tmp_path).html)
    assert page.text.count("DISCREPANCY: outside") == 2
    assert "+1.2 mL" in page.text
    assert "(ratio 0.855 to 1.145, volume 1 mL). Find out why." in page.text
    assert "within the" not in page.text


def test_a_first_filling_is_compared_with_nothing(tmp_path: Path) -> None:
    first = RefillSummary(0, 0, 0, 0, False, fill_pl=FILL_PL, reason="first fill")
    page = Page(write_report(dataclasses.replace(month_report(), refill=first), tmp_path).html)
    assert "The first filling: there is nothing to compare it with." in page.text
    assert "iscrepancy" not in page.text
    assert "Put in 20 mL" in page.text


def test_same_data_same_octets_whatever_the_style(
    month_page: tuple[Path, Page], tmp_path: Path
) -> None:
    folder, _ = month_page
    with mpl.rc_context({"lines.linewidth": 9, "font.family": "monospace", "savefig.dpi": 30}):
        before = dict(mpl.rcParams)
        paths = write_report(month_report(), tmp_path)
        assert dict(mpl.rcParams) == before
    for path in (paths.html, *paths.pngs):
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_text_from_outside_stays_text(tmp_path: Path) -> None:
    evil = "\"'><img src=x onerror=alert(1)></td></table><script>alert(1)</script>"
    odd = "$\\frac{1}$ & 薬 💉 ❤️ مورفين \u202e \x00\x1b[31m \ud800 \n two"
    hostile = f"{evil} {odd} {'long' * 100}"
    data = dataclasses.replace(
        month_report(),
        title=hostile,
        identity={hostile: hostile},
        therapy=[(hostile, hostile)],
        markers=[Marker(DAY_US, odd), Marker(2 * DAY_US, hostile), Marker(3 * DAY_US, "")],
        refill=RefillSummary(0, 0, 0, 0, False, reason=hostile),
        events=[EventRow(0, 0, 0, hostile)],
        balance=[BalanceRow(hostile, 0, 1)],
    )
    page = Page(write_report(data, tmp_path).html)
    assert page.tags.count("img") == 2
    assert "script" not in page.tags
    assert page.values("onerror") == []
    assert page.text.count("<script>alert(1)</script>") == 9
    assert "مورفين" in page.text
    assert not {"\u202e", "\x00", "\x1b"} & set(page.source)


# -- the pump's own words ------------------------------------------------------------------------


def alone_report() -> ReportData:
    """A pump nobody measured, read on day 12."""
    return dataclasses.replace(
        month_report(),
        samples=(),
        markers=(),
        forecast=Forecast(12 * DAY_US, FILL_PL, LOW_PL, RATE_NL_DAY),
        balance=balance_rows(
            step_pl=STEP_PL, fill_pl=FILL_PL, delivered_pl=STEP_PL, residual_pl=FILL_PL - STEP_PL
        ),
        read_us=12 * DAY_US,
    )


def test_without_samples_the_forecast_is_the_only_picture(tmp_path: Path) -> None:
    write_report(month_report(), tmp_path)
    paths = write_report(alone_report(), tmp_path)
    assert paths.pngs == (tmp_path / "reservoir.png",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "reservoir.png"]
    assert png_size(paths.pngs[0].read_bytes()) == (1800, 720)
    page = Page(paths.html)
    assert page.tags.count("img") == 1
    assert "Figure 1." in page.text
    assert "Figure 2." not in page.text
    assert "These are the pump’s own words only" in page.text
    assert "Read on day 12.0 since the pump’s last start, 2026-12-04 08:00 UTC" in page.text
    assert "low mark of 2 mL is reached on day 102.0, 2027-03-04." in " ".join(page.values("alt"))
    for untrue in ("instrument beside", "No samples", "Delivery error", "run report"):
        assert untrue not in page.text


def test_without_samples_the_forecast_is_drawn_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forecast = Forecast(12 * DAY_US, FILL_PL, LOW_PL, 6_000)  # 3,000 days
    sheets: list[Sheet] = []
    png = Sheet.png
    monkeypatch.setattr(Sheet, "png", lambda sheet: (sheets.append(sheet), png(sheet))[1])
    draw_reservoir((), (), LOW_PL, FILL_PL, forecast, START_WALL_S)
    (axes,) = sheets[0].figure.axes
    ends = [
        line.get_xydata()[[0, -1]].tolist() for line in axes.lines if len(line.get_xdata()) > 1
    ]
    assert [[12.0, 20.0], [3012.0, 2.0]] in ends
    low, high = axes.get_xlim()
    assert low < 12
    assert high > 3012
    assert "→" not in "".join(text.get_text() for text in axes.texts)


@pytest.mark.parametrize(
    ("forecast", "said"),
    [
        (None, "No forecast was made."),
        (Forecast(5, FILL_PL, LOW_PL, 0), "No low-volume date: the rate is 0."),
        (Forecast(5, LOW_PL, LOW_PL, RATE_NL_DAY), "at or below its low mark of 2 mL now."),
    ],
)
def test_no_picture_without_anything_to_draw(
    forecast: Forecast | None, said: str, tmp_path: Path
) -> None:
    write_report(month_report(), tmp_path)
    paths = write_report(dataclasses.replace(alone_report(), forecast=forecast), tmp_path)
    assert paths.pngs == ()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    page = Page(paths.html)
    assert said in page.text
    assert "Figure" not in page.text
    assert not {"img", "figure"} & set(page.tags)


def test_a_report_of_nothing_is_whole(tmp_path: Path) -> None:
    paths = write_report(_BARE, tmp_path)
    assert paths.pngs == ()
    assert "Nothing was measured, and nothing is forecast." in Page(paths.html).text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("now_us", "rate"), [(HIGHEST, 1), (0, HIGHEST), (HIGHEST, HIGHEST)])
def test_odd_forecasts_alone_are_drawn(now_us: int, rate: int, tmp_path: Path) -> None:
    forecast = Forecast(now_us, HIGHEST, 0, rate)
    data = dataclasses.replace(alone_report(), forecast=forecast, capacity_pl=HIGHEST)
    paths = write_report(data, tmp_path)
    assert len(paths.pngs) == 1


# -- what the pump calls a discrepancy -----------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio_ppm", "text"),
    [
        (996_678, "0.9967"),
        (1_000_000, "1.0000"),
        (0, "0.0000"),
        (-1, "0.0000"),
        (-1_234_567, "−1.2346"),
        (HIGHEST, "4611686018427.3879"),
        (1_145_001, "1.145001"),
        (854_999, "0.854999"),
        (1_145_000, "1.1450"),
    ],
)
def test_a_ratio_is_not_rounded_over_a_limit(ratio_ppm: int, text: str) -> None:
    assert ratio_text(ratio_ppm) == text


@pytest.mark.parametrize("capacity_pl", [1_000_000_000, FILL_PL, FILL_PL + 1, 40_000_000_000])
def test_limits_are_those_of_the_pump(capacity_pl: int) -> None:
    found = re.fullmatch(r"ratio (\S+) to (\S+), volume (\S+) mL", limits_text(capacity_pl))
    assert found
    low, high, volume = (int(Fraction(text) * 10**6) for text in found.groups())
    volume *= 1000
    assert not is_discrepancy(low, volume, capacity_pl)
    assert not is_discrepancy(high, -volume, capacity_pl)
    assert is_discrepancy(low - 1, 0, capacity_pl)
    assert is_discrepancy(high + 1, 0, capacity_pl)
    assert is_discrepancy(0, volume + 1, capacity_pl)


# -- odd runs ----------------------------------------------------------------------------------

_FULL = dataclasses.replace(sample(0, 0), time_us=5 * DAY_US)
_BARE = ReportData(title="", step_pl=1, low_mark_pl=0, capacity_pl=0)
_HUGE = ReportData(
    title="huge",
    step_pl=1,
    low_mark_pl=HIGHEST,
    capacity_pl=HIGHEST,
    samples=[
        DeliverySample(0, 0, 0, 0, 0, 0),
        DeliverySample(HIGHEST, HIGHEST, -HIGHEST, HIGHEST, -HIGHEST, HIGHEST),
    ],
    markers=[Marker(HIGHEST, "end")],
    forecast=Forecast(HIGHEST, HIGHEST, 0, 1),
    refill=RefillSummary(-HIGHEST, HIGHEST, 2 * HIGHEST, HIGHEST, True),
    events=[EventRow(2**32 - 1, HIGHEST, HIGHEST, "last")],
    balance=[BalanceRow("all", HIGHEST, HIGHEST, -HIGHEST, -HIGHEST)],
    start_wall_s=HIGHEST,
)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            dataclasses.replace(_BARE, samples=[_FULL], forecast=Forecast(0, 9, 1, 0)),
            "No low-volume date: the rate is 0.",
        ),
        (
            dataclasses.replace(
                _BARE,
                samples=[_FULL, _FULL],
                markers=[Marker(at * DAY_US, f"bolus {at}") for at in range(90)],
            ),
            "True delivery is within one step of the programme in 2 samples.",
        ),
        (_HUGE, "−9,223,372,036,854,775,808 steps"),
    ],
    ids=["one sample, stopped", "crowded", "huge"],
)
def test_odd_runs_make_a_whole_report(data: ReportData, said: str, tmp_path: Path) -> None:
    paths = write_report(data, tmp_path)
    page = Page(paths.html)
    assert said in page.text + " ".join(page.values("alt"))
    assert [png_size(path.read_bytes())[0] for path in paths.pngs] == [1800, 1800]


@pytest.mark.parametrize(
    ("days", "rate_nl_day"), [(30, 24_000_000), (30, 6_000), (1, 6_000), (30, 0)]
)
def test_every_forecast_is_drawn(days: int, rate_nl_day: int) -> None:
    samples = [sample(0, 0), sample(days * DAY_US, days * 1_000)]
    forecast = Forecast(days * DAY_US, samples[-1].residual_pl, LOW_PL, rate_nl_day)
    drawn = draw_reservoir(samples, [], LOW_PL, FILL_PL, forecast, START_WALL_S, NARROW)
    without = draw_reservoir(samples, [], LOW_PL, FILL_PL, None, START_WALL_S, NARROW)
    assert png_size(drawn) == png_size(without)
    assert drawn != without


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step_pl": 0}, "a step of 0 pL"),
        ({"low_mark_pl": -1}, "low mark of -1 pL"),
        ({"capacity_pl": HIGHEST + 1}, "capacity of 4611686018427387905 pL"),
        ({"samples": [sample(2, 0), sample(1, 0)]}, "at 1 us comes after one at 2 us"),
        ({"samples": [sample(-1, 0)]}, "time of -1 us"),
        ({"samples": [sample(0, HIGHEST + 1)]}, "volume of 4611686018427387905 pL"),
        ({"markers": [Marker(-1, "x")]}, "marker's time of -1 us"),
        ({"forecast": Forecast(0, 0, 0, -1)}, "rate of -1 nL/day"),
    ],
)
def test_data_out_of_range_is_refused_before_anything_is_written(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    data = dataclasses.replace(month_report(), **change)
    with pytest.raises(ValueError, match=said):
        write_report(data, tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
