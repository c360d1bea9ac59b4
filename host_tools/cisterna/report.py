"""A run as pictures and one self-contained HTML page.

``write_report`` takes what the pump said and what the bench's instruments saw, and writes
``report.html``, ``delivery.png`` and ``reservoir.png``. Where no instrument took samples, the page
shows the pump's own words and its forecast is the only picture. The page fetches nothing: styles
and pictures are inside it. Whatever text comes from outside is escaped. No time is shown that was
not given: the same data gives the same octets with the same matplotlib.

Volumes are whole picolitres, times whole microseconds since the run began, wall time seconds since
1970-01-01 UTC.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cisterna.chart_sheet import NARROW, NARROW_DARK, WIDE, WIDE_DARK, Look
from cisterna.charts import draw_delivery, draw_reservoir
from cisterna.prescription import NOTICE
from cisterna.run_samples import (
    DeliverySample,
    Forecast,
    Marker,
    day_text,
    delivery_findings,
    forecast_low_us,
    forecast_text,
    limits_text,
    minus,
    plain,
    ratio_text,
    residual_finding,
    steps_text,
    thin,
    volume_text,
    wall_time,
    worst_error,
)

HIGHEST = 1 << 62  # of any time or volume, as on the wire


@dataclass(frozen=True)
class EventRow:
    """One event record. ``uptime_us``: the pump's clock; ``wall_s``: 0 when it was not set."""

    sequence: int
    uptime_us: int
    wall_s: int
    text: str


@dataclass(frozen=True)
class BalanceRow:
    """One line of the balance.

    ``steps``, ``volume_pl``: by the pump's account, ``steps`` None where the volume is no whole
    number of steps. ``truth_steps``, ``truth_pl``: by the plant, None where it has no such number.
    ``is_check``: a sum that must be zero. ``unknown_pl``: what the pump's instruments cannot tell
    and the account may say too much, as after a stall of the motor.
    """

    name: str
    steps: int | None
    volume_pl: int
    truth_steps: int | None = None
    truth_pl: int | None = None
    is_check: bool = False
    unknown_pl: int = 0

    @property
    def difference_pl(self) -> int | None:
        """Account minus truth; None where there is no truth to compare with."""
        return None if self.truth_pl is None else self.volume_pl - self.truth_pl

    @property
    def balances(self) -> bool:
        """True unless the account differs from the truth by more than is unknown, or a check is
        not zero."""
        if not 0 <= (self.difference_pl or 0) <= self.unknown_pl:
            return False
        return not (self.is_check and (self.volume_pl or self.truth_pl))


@dataclass(frozen=True)
class RefillSummary:
    """What a refill told. Volumes and ratio as in the reply to record_refill in the message table:
    ``discrepancy_pl`` measured - expected, ``ratio_ppm`` true / programmed, 0 if nothing was
    programmed. ``programmed_pl``: None for a first filling. ``fill_pl``: what was put in.
    ``time_us``: when."""

    expected_pl: int
    measured_pl: int
    discrepancy_pl: int
    ratio_ppm: int
    flagged: bool
    programmed_pl: int | None = None
    true_pl: int | None = None
    fill_pl: int | None = None
    reason: str = ""
    time_us: int | None = None

    @property
    def compares(self) -> bool:
        """False for a first filling: there is nothing to compare it with."""
        compared = self.flagged or self.ratio_ppm or self.discrepancy_pl
        return bool(compared) or self.programmed_pl is not None


@dataclass(frozen=True)
class ReportData:
    """All that a report shows.

    ``samples`` in order of time. ``identity``, ``therapy`` and ``prescription``: a name and a
    value in words each.
    ``step_pl`` > 0. ``start_wall_s``: wall time at time 0, None or 0 if no clock was set.
    ``read_us``: when the pump was read, for a report without samples. ``refill_us``: when the next
    refill is due by the pump's own forecast, None if it has none; ``refill_why``: what it comes
    from.
    """

    title: str
    step_pl: int
    low_mark_pl: int
    capacity_pl: int
    identity: Mapping[str, str] = field(default_factory=dict[str, str])
    therapy: Sequence[tuple[str, str]] = ()
    prescription: Sequence[tuple[str, str]] = ()
    samples: Sequence[DeliverySample] = ()
    markers: Sequence[Marker] = ()
    forecast: Forecast | None = None
    refill: RefillSummary | None = None
    events: Sequence[EventRow] = ()
    balance: Sequence[BalanceRow] = ()
    start_wall_s: int | None = None
    read_us: int | None = None
    refill_us: int | None = None
    refill_why: str = ""


@dataclass(frozen=True)
class ReportPaths:
    """Files a report consists of; ``html`` stands alone. ``pngs``: delivery and reservoir; without
    samples the reservoir's forecast, if there is one to draw."""

    html: Path
    pngs: tuple[Path, ...]


def balance_rows(
    *,
    step_pl: int,
    fill_pl: int,
    delivered_pl: int,
    residual_pl: int,
    true_delivered_pl: int | None = None,
    true_residual_pl: int | None = None,
) -> tuple[BalanceRow, ...]:
    """The balance of one filling: fill, delivered, residual and the sum that must be zero.

    ``delivered_pl`` and ``residual_pl`` by the pump's account since its last refill, the true ones
    by the plant over the same time. Volumes that are no whole number of steps have no step count.
    """

    def steps(volume_pl: int | None) -> int | None:
        if volume_pl is None or volume_pl % step_pl:
            return None
        return volume_pl // step_pl

    def row(name: str, ours_pl: int, truth_pl: int | None, is_check: bool = False) -> BalanceRow:
        return BalanceRow(name, steps(ours_pl), ours_pl, steps(truth_pl), truth_pl, is_check)

    true_fill_pl = left_over_pl = None
    if true_delivered_pl is not None and true_residual_pl is not None:
        true_fill_pl = fill_pl
        left_over_pl = fill_pl - true_delivered_pl - true_residual_pl
    return (
        row("Fill", fill_pl, true_fill_pl),
        row("Delivered since the refill", delivered_pl, true_delivered_pl),
        row("Residual", residual_pl, true_residual_pl),
        row(
            "Fill − delivered − residual", fill_pl - delivered_pl - residual_pl, left_over_pl, True
        ),
    )


def write_report(data: ReportData, out_dir: Path) -> ReportPaths:
    """Write the page and its pictures into ``out_dir``, made if missing; older ones are replaced,
    or removed where there is no such picture now.

    Raises ValueError, before anything is written, for data out of range or samples out of order;
    OSError when a file cannot be written.
    """
    _check(data)
    delivery: dict[Look, bytes] = {}
    reservoir: dict[Look, bytes] = {}
    if data.samples:
        delivery = {look: _delivery_png(data, look) for look in _LOOKS}
    if data.samples or (data.forecast is not None and data.forecast.has_line):
        reservoir = {look: _reservoir_png(data, look) for look in _LOOKS}
    page = _page(data, delivery, reservoir)
    out_dir.mkdir(parents=True, exist_ok=True)
    pngs: list[Path] = []
    for name, drawn in (("delivery.png", delivery), ("reservoir.png", reservoir)):
        path = out_dir / name
        if drawn:
            path.write_bytes(drawn[WIDE])
            pngs.append(path)
        else:
            path.unlink(missing_ok=True)
    html_path = out_dir / "report.html"
    html_path.write_bytes(page.encode())
    return ReportPaths(html_path, tuple(pngs))


_LOOKS = (WIDE, WIDE_DARK, NARROW, NARROW_DARK)


def _delivery_png(data: ReportData, look: Look) -> bytes:
    return draw_delivery(data.samples, data.markers, data.step_pl, data.start_wall_s, look)


def _reservoir_png(data: ReportData, look: Look) -> bytes:
    return draw_reservoir(
        data.samples,
        data.markers,
        data.low_mark_pl,
        data.capacity_pl,
        data.forecast,
        data.start_wall_s,
        look,
    )


# -- what is accepted --------------------------------------------------------------------------


def _inside(name: str, value: int | None, low: int, unit: str) -> None:
    if value is not None and not low <= value <= HIGHEST:
        raise ValueError(f"{name} of {value} {unit} is outside {low} to {HIGHEST} {unit}")


def _check(data: ReportData) -> None:
    _inside("a step", data.step_pl, 1, "pL")
    _inside("the low mark", data.low_mark_pl, 0, "pL")
    _inside("the capacity", data.capacity_pl, 0, "pL")
    before_us = 0
    for sample in data.samples:
        _inside("a sample's time", sample.time_us, 0, "us")
        if sample.time_us < before_us:
            raise ValueError(f"a sample at {sample.time_us} us comes after one at {before_us} us")
        before_us = sample.time_us
        for volume_pl in (
            sample.programmed_pl,
            sample.delivered_pl,
            sample.account_pl,
            sample.residual_pl,
            sample.expected_residual_pl,
        ):
            _inside("a sample's volume", volume_pl, -HIGHEST, "pL")
    _inside("the time it was read", data.read_us, 0, "us")
    _inside("the next refill's time", data.refill_us, 0, "us")
    for marker in data.markers:
        _inside("a marker's time", marker.time_us, 0, "us")
    if data.forecast is not None:
        _inside("the forecast's time", data.forecast.now_us, 0, "us")
        _inside("the low mark's time", data.forecast.low_at_us, 0, "us")
        _inside("the forecast's residual", data.forecast.residual_pl, -HIGHEST, "pL")
        _inside("the forecast's low mark", data.forecast.low_mark_pl, 0, "pL")
        _inside("the forecast's rate", data.forecast.rate_nl_day, 0, "nL/day")


# -- the page ----------------------------------------------------------------------------------


def _text(value: str) -> str:
    """Text from outside, on one line, escaped for content and attributes."""
    return html.escape(plain(value))


def _columns_ml(volumes_pl: Iterable[int | None], step_pl: int) -> dict[int, str]:
    """Volumes in mL with the same number of decimals, as many as the step or any of them needs."""
    exact = {
        pl: minus(volume_text(pl, "mL").removesuffix(" mL")) for pl in volumes_pl if pl is not None
    }
    wanted = [*exact.values(), volume_text(step_pl, "mL").removesuffix(" mL")]
    places = max(len(text.partition(".")[2]) for text in wanted)
    shown: dict[int, str] = {}
    for volume_pl, text in exact.items():
        whole, _, part = text.partition(".")
        shown[volume_pl] = f"{whole}.{part.ljust(places, '0')}" if places else whole
    return shown


def _table(heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], name: str) -> str:
    """``heads``: text and class of each column; ``rows``: cells that are escaped already;
    ``name``: of the table, in one word."""
    head = "".join(f'<th scope="col" class="{kind}">{text}</th>' for text, kind in heads)
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<td class="{kind}">{cell}</td>' for (_, kind), cell in zip(heads, cells, strict=True)
        )
        + "</tr>"
        for cells in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0">'
        f'<table class="{name.lower()}">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _pairs(rows: Iterable[tuple[str, str]], missing: str) -> str:
    body = "\n".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>'
        for name, value in rows
    )
    return f'<table class="pairs"><tbody>\n{body}\n</tbody></table>' if body else _none(missing)


def _none(text: str) -> str:
    return f'<p class="none">{text}</p>'


def _verdict(good: bool, text: str) -> str:
    return f'<span class="verdict {"good" if good else "bad"}">{text}</span>'


def _card(name: str, value: str, detail: str, good: bool | None = None) -> str:
    kind = "" if good is None else " good" if good else " bad"
    return (
        f'<li class="card{kind}"><span class="name">{name}</span>'
        f'<span class="value">{value}</span><span class="detail">{detail}</span></li>'
    )


def _glance(data: ReportData) -> str:
    cards: list[str] = []
    worst = worst_error(data.samples)
    if worst is not None:
        within = max(abs(each.unexplained_pl) for each in data.samples) < data.step_pl
        jammed = any(each.missed_pl for each in data.samples)
        cards.append(
            _card(
                "Largest delivery error",
                steps_text(worst.error_pl, data.step_pl, 3),
                ("Within" if within else "NOT within")
                + f" one step ({volume_text(data.step_pl)})"
                + (" but for a jam" if jammed else "")
                + "; true against programmed volume",
                within,
            )
        )
        gap_pl = max((sample.account_error_pl for sample in data.samples), key=abs)
        cards.append(
            _card(
                "Pump’s account against truth",
                steps_text(gap_pl, data.step_pl, 3),
                "Largest difference in any sample; + means the pump counts too much",
                gap_pl == 0,
            )
        )
    if data.refill is not None and data.refill.compares:
        flagged = data.refill.flagged
        cards.append(
            _card(
                "Refill discrepancy",
                _signed(data.refill.discrepancy_pl),
                "DISCREPANCY: outside the limits, find out why"
                if flagged
                else "Measured against expected residual; within the limits",
                not flagged,
            )
        )
    if data.forecast is not None:
        low_us = data.forecast.low_us
        value = "none" if low_us is None else _date(low_us, data.start_wall_s)
        cards.append(
            _card("Low-volume date", value, forecast_text(data.forecast, data.start_wall_s))
        )
    if data.refill_us is not None:
        detail = f"The pump’s own forecast: {_text(data.refill_why)}"
        cards.append(_card("Next refill", _date(data.refill_us, data.start_wall_s), detail))
    if not cards:
        return _none("Nothing was measured, and nothing is forecast.")
    return f'<ul class="cards">{"".join(cards)}</ul>'


def _date(time_us: int, start_wall_s: int | None) -> str:
    date = wall_time(start_wall_s, time_us)
    return day_text(time_us).capitalize() if date is None else f"{date:%Y-%m-%d}"


def _signed(volume_pl: int) -> str:
    return ("+" if volume_pl > 0 else "") + volume_text(volume_pl, "mL")


def _picture(pngs: Mapping[Look, bytes], height: str, name: str, alt: str, number: int) -> str:
    def uri(look: Look) -> str:
        return "data:image/png;base64," + base64.b64encode(pngs[look]).decode("ascii")

    def size(look: Look) -> str:
        width_px, height_px = look.pixels(getattr(look, height))
        return f'width="{width_px}" height="{height_px}"'

    dark, narrow = "(prefers-color-scheme: dark)", "(max-width: 640px)"
    return f"""<figure>
<picture>
<source media="screen and {dark} and {narrow}" srcset="{uri(NARROW_DARK)}" {size(NARROW_DARK)}>
<source media="screen and {dark}" srcset="{uri(WIDE_DARK)}" {size(WIDE_DARK)}>
<source media="screen and {narrow}" srcset="{uri(NARROW)}" {size(NARROW)}>
<img src="{uri(WIDE)}" {size(WIDE)} alt="{_text(alt)}">
</picture>
<figcaption><b>Figure {number}.</b> {name}</figcaption>
</figure>"""


def _count(steps: int | None) -> str:
    return "–" if steps is None else minus(f"{steps:,}")


def _balance(data: ReportData) -> str:
    if not data.balance:
        return _none("No balance was made.")
    rows = data.balance
    with_truth = any(row.truth_pl is not None for row in rows)
    volumes = [pl for row in rows for pl in (row.volume_pl, row.truth_pl, row.difference_pl)]
    shown = _columns_ml(volumes, data.step_pl)
    heads = [("", "name"), ("Account, steps", "number"), ("Account, mL", "number")]
    if with_truth:
        heads += [
            ("Truth, steps", "number"),
            ("Truth, mL", "number"),
            ("Difference, steps", "number"),
        ]
    cells: list[list[str]] = []
    for row in rows:
        line = [_text(row.name), _count(row.steps), shown[row.volume_pl]]
        if with_truth:
            gap_pl = row.difference_pl
            line += (
                ["–"] * 3
                if row.truth_pl is None or gap_pl is None
                else [
                    _count(row.truth_steps),
                    shown[row.truth_pl],
                    steps_text(gap_pl, data.step_pl).rpartition(" ")[0],
                ]
            )
        cells.append(line)
    off = [row for row in rows if not row.balances]
    if off:
        names = ", ".join(_text(row.name) for row in off)
        verdict = _verdict(False, f"The account does NOT balance: {names}.")
    elif with_truth or any(row.is_check for row in rows):
        unknown_pl = max(row.difference_pl or 0 for row in rows)
        but = f", but for {volume_text(unknown_pl)} that the rotor sensor cannot tell"
        how = but if unknown_pl else " to the picolitre"
        verdict = _verdict(True, f"The account balances{how}.")
    else:
        verdict = ""
    compared = "" if with_truth else " No instrument was there to compare it with."
    return f"<p>{verdict}{compared}</p>\n" + _table(heads, cells, "Balance")


def _refill(data: ReportData) -> str:
    refill = data.refill
    if refill is None:
        return _none("No refill was recorded.")

    def shown(volume_pl: int) -> str:
        return volume_text(volume_pl, "mL")

    lines: list[tuple[str, str]] = []
    if refill.time_us is not None:
        lines.append(("When", _when(refill.time_us, data.start_wall_s)))
    if refill.reason:
        lines.append(("Reason", _text(refill.reason)))
    lines += [
        ("Expected residual volume (account)", shown(refill.expected_pl)),
        ("Measured residual volume (aspirated)", shown(refill.measured_pl)),
    ]
    if refill.compares:
        lines.append(("Discrepancy, measured − expected", _signed(refill.discrepancy_pl)))
    if refill.programmed_pl is not None:
        lines.append(("Programmed since the refill before", shown(refill.programmed_pl)))
    if refill.true_pl is not None:
        lines.append(("Left the reservoir, by the measurement", shown(refill.true_pl)))
    if refill.compares:
        ratio = ratio_text(refill.ratio_ppm) if refill.ratio_ppm else "none"
        lines.append(("Ratio, left by the measurement / programmed", ratio))
    if refill.fill_pl is not None:
        lines.append(("Put in", shown(refill.fill_pl)))
    limits = limits_text(data.capacity_pl)
    if refill.flagged:
        verdict = _verdict(
            False, f"DISCREPANCY: outside the pump’s limits ({limits}). Find out why."
        )
    elif refill.compares:
        verdict = _verdict(True, f"Discrepancy within the pump’s limits ({limits}).")
    else:
        verdict = "The first filling: there is nothing to compare it with."
    body = "\n".join(
        f'<tr><th scope="row">{name}</th><td class="number">{value}</td></tr>'
        for name, value in lines
    )
    return f'<p>{verdict}</p>\n<table class="pairs"><tbody>\n{body}\n</tbody></table>'


def _when(time_us: int, start_wall_s: int | None) -> str:
    date = wall_time(start_wall_s, time_us)
    day = day_text(time_us)
    return f"{day}, {date:%Y-%m-%d %H:%M} UTC" if date else day


def _clock(uptime_us: int) -> str:
    """Pump clock as days and h:min:s."""
    seconds = uptime_us // 1_000_000
    days, rest = divmod(seconds, 86_400)
    return f"{days:,} d {rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"


def _events(data: ReportData) -> str:
    if not data.events:
        return _none("No events were read.")
    rows: list[list[str]] = []
    for event in data.events:
        date = wall_time(event.wall_s, 0)
        wall = f"{date:%Y-%m-%d %H:%M:%S}" if date else "not set"
        times = f"<span>{_clock(event.uptime_us)}</span><span>{wall}</span>"
        rows.append([f"{event.sequence:,}", times, _text(event.text)])
    heads = [
        ("No.", "number"),
        ("<span>Pump clock</span><span>Wall time, UTC</span>", "time"),
        ("Event", "event"),
    ]
    return _table(heads, rows, "Events")


def _samples_note(data: ReportData) -> str:
    drawn, taken = len(thin(data.samples)), len(data.samples)
    if drawn == taken:
        return ""
    return (
        f" Of {taken:,} samples {drawn:,} are drawn; the extremes of error and level are always "
        "among them."
    )


_OF_A_RUN = """the record of one run of a model of an intrathecal drug pump: what was programmed,
what the pump’s account says, and what an instrument beside the pump counted."""
_OF_A_PUMP = """what a model of an intrathecal drug pump says of itself: its prescription, its
account and its log, as they were when it was read. These are the pump’s own words only; nothing
beside it measured what it delivers or what it holds."""


def _period(data: ReportData) -> str:
    """Of what time the report tells; empty if that is not known."""
    if data.samples:
        first, last = data.samples[0].time_us, data.samples[-1].time_us
        start, end = _when(first, data.start_wall_s), _when(last, data.start_wall_s)
        count = f"{len(data.samples):,} sample{'s' if len(data.samples) > 1 else ''}"
        return f'<p class="period">From {start}, to {end} · {count}</p>\n'
    if data.read_us is not None:
        date = wall_time(data.start_wall_s, data.read_us)
        when = f"{day_text(data.read_us)} since the pump’s last start"
        when += f", {date:%Y-%m-%d %H:%M} UTC" if date else ""
        return f'<p class="period">Read on {when}</p>\n'
    return ""


def _delivery_section(data: ReportData, pngs: Mapping[Look, bytes]) -> str:
    if not pngs:
        return ""
    found = " ".join(delivery_findings(data.samples, data.step_pl))
    figure = _picture(
        pngs,
        "delivery_in",
        "Above, what the programme asked for and what the instrument counted. Below, the "
        f"difference in motor steps; the band is one step either way.{_samples_note(data)}",
        f"Programmed and true delivered volume over time. {found}",
        1,
    )
    return f"""<section aria-labelledby="delivery"><h2 id="delivery">Delivery</h2>
{figure}
</section>
"""


def _prescription_section(data: ReportData) -> str:
    if not data.prescription:
        return ""
    return f"""<section aria-labelledby="prescription">
<h2 id="prescription">Prescription</h2>
{_pairs(data.prescription, "")}
</section>
"""


def _reservoir_figure(data: ReportData, pngs: Mapping[Look, bytes]) -> str:
    forecast = forecast_text(data.forecast, data.start_wall_s)
    how = data.forecast.how if data.forecast is not None else ""
    if not pngs:
        return _none(forecast)
    if not data.samples:
        return _picture(
            pngs,
            "forecast_in",
            f"The dashed line is the forecast by the pump’s account, {how} with nothing else "
            "given.",
            f"Forecast of the residual volume in the reservoir. {forecast}",
            1,
        )
    return _picture(
        pngs,
        "reservoir_in",
        "Residual volume by the pump’s account and in truth. The dashed line is the forecast "
        f"{how or 'at the present rate'} with nothing else given.",
        f"Residual volume in the reservoir over time. {residual_finding(data.samples)} {forecast}",
        2,
    )


def _page(
    data: ReportData, delivery: Mapping[Look, bytes], reservoir: Mapping[Look, bytes]
) -> str:
    title = _text(data.title) or "Report"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title} · Cisterna</title>
<style>{_STYLE}</style>
</head>
<body>
<p class="notice" role="note">{NOTICE}</p>
<main>
<header>
<p class="kind">Cisterna · {"run" if data.samples else "pump"} report</p>
<h1>{title}</h1>
{_period(data)}<p><b>What this is:</b> {_OF_A_RUN if data.samples else _OF_A_PUMP}
<b>What it is not:</b> evidence about any medical device, drug or treatment. Drug names and doses
in it are examples.</p>
</header>
<section aria-labelledby="glance"><h2 id="glance">At a glance</h2>
{_glance(data)}
</section>
{_delivery_section(data, delivery)}<section aria-labelledby="reservoir">
<h2 id="reservoir">Reservoir</h2>
{_reservoir_figure(data, reservoir)}
</section>
<section aria-labelledby="balance"><h2 id="balance">Balance to the step</h2>
{_balance(data)}
</section>
<section aria-labelledby="refill"><h2 id="refill">Refill</h2>
{_refill(data)}
</section>
<div class="columns">
<section aria-labelledby="therapy"><h2 id="therapy">Therapy</h2>
{_pairs(data.therapy, "No therapy was given.")}
</section>
<section aria-labelledby="identity"><h2 id="identity">Pump</h2>
{_pairs(data.identity.items(), "No identity was given.")}
</section>
</div>
{_prescription_section(data)}<section class="long" aria-labelledby="events">
<h2 id="events">Event log</h2>
{_events(data)}
</section>
</main>
<footer>{NOTICE}</footer>
</body>
</html>
"""


_STYLE = """
:root{--paper:#fff;--page:#f4f5f7;--ink:#1b1f24;--quiet:#59636e;--faint:#d4d9df;--good:#00684a;
--bad:#a33200;--badpaper:#fdf0e7;--notice:#fff3c4;--noticeink:#4a3500}
@media screen and (prefers-color-scheme:dark){:root{--paper:#171b21;--page:#0f1216;--ink:#e8ecf1;
--quiet:#a3adb9;--faint:#39414b;--good:#5cc9a0;--bad:#ff9a4d;--badpaper:#33211a;--notice:#3a3010;
--noticeink:#ffe9a6}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.notice,footer{background:var(--notice);color:var(--noticeink);margin:0;padding:.6rem 1rem;
text-align:center;font-weight:600}
footer{margin-top:2.5rem;font-size:.9rem}
main{max-width:60rem;margin:0 auto;padding:0 1rem}
header{margin-top:1.6rem}
.kind{margin:0;color:var(--quiet);font-size:.9rem}
h1{font-size:1.7rem;line-height:1.2;margin:.1rem 0 .3rem;overflow-wrap:anywhere;
unicode-bidi:isolate}
h2{font-size:1.15rem;margin:2.2rem 0 .7rem}
p{margin:.4rem 0 .7rem;max-width:46rem}
.notice{max-width:none}
.period,.none,figcaption{color:var(--quiet)}
.cards{list-style:none;margin:0;padding:0;display:grid;gap:.7rem;
grid-template-columns:repeat(auto-fit,minmax(12.5rem,1fr))}
.card{background:var(--paper);border:1px solid var(--faint);border-left:5px solid var(--faint);
border-radius:6px;padding:.6rem .8rem;display:flex;flex-direction:column}
.card.good{border-left-color:var(--good)}
.card.bad{border-left-color:var(--bad);background:var(--badpaper)}
.card .name{color:var(--quiet);font-size:.85rem}
.card .value{font-size:1.3rem;font-weight:650;font-variant-numeric:tabular-nums;
overflow-wrap:anywhere}
.card.bad .value,.bad{color:var(--bad)}
.card .detail{font-size:.85rem;line-height:1.4;overflow-wrap:anywhere}
figure{margin:0;background:var(--paper);border:1px solid var(--faint);border-radius:6px;
padding:.5rem}
figure img{display:block;width:100%;height:auto}
figcaption{font-size:.85rem;padding:.4rem .3rem .1rem;line-height:1.4}
.verdict{font-weight:650}
.verdict::before{content:"";display:inline-block;width:.7em;height:.7em;border-radius:50%;
margin-right:.45em;background:currentColor}
.good.verdict{color:var(--good)}
.bad.verdict::before{border-radius:0}
.scroll{overflow-x:auto;background:var(--paper);border:1px solid var(--faint);border-radius:6px}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:top;padding:.38rem .7rem;
border-bottom:1px solid var(--faint)}
tbody tr:last-child>*{border-bottom:0}
thead th{color:var(--quiet);font-weight:600;font-size:.85rem}
.number{text-align:right;white-space:nowrap}
.time{white-space:nowrap;width:22rem}
.time span{display:inline-block;min-width:9rem}
td{unicode-bidi:isolate}
.name{white-space:normal}
.event,.pairs td{overflow-wrap:anywhere}
.pairs{background:var(--paper);border:1px solid var(--faint);border-radius:6px;
border-collapse:separate;border-spacing:0;max-width:40rem}
.pairs th{font-weight:400;color:var(--quiet);overflow-wrap:anywhere}
.pairs .number{white-space:normal;min-width:7rem}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(20rem,100%),1fr));
gap:0 1.5rem}
@media (max-width:640px){th,td{padding:.35rem .4rem}thead .number{white-space:normal}
table{font-size:.88rem}thead th{font-size:.8rem}.balance{font-size:.72rem}
.balance th,.balance td{padding:.3rem .2rem}.balance thead th{font-size:.65rem}
.time{width:auto}.time span{display:block;min-width:0}.time span+span{color:var(--quiet)}
h1{font-size:1.4rem}main{padding:0 .7rem}
figure{padding:.2rem}}
@media print{body{background:#fff;font-size:10.5pt}main{max-width:none;padding:0}
section,tr{break-inside:avoid}.long{break-inside:auto}h2{break-after:avoid}
.cards{grid-template-columns:repeat(4,1fr)}thead .number{white-space:normal}
.scroll{overflow:visible}
.notice,footer{border:1px solid #999;background:#fff;color:#000}}
"""

__all__ = [
    "HIGHEST",
    "BalanceRow",
    "DeliverySample",
    "EventRow",
    "Forecast",
    "Marker",
    "RefillSummary",
    "ReportData",
    "ReportPaths",
    "balance_rows",
    "forecast_low_us",
    "write_report",
]
