"""The evidence report of a run of the requirement tests: one self-contained HTML page, and JSON.

``hil_tests/evidence.py`` collects what goes in.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cisterna.campaign_report import STYLE, picture, row
from cisterna.prescription import NOTICE

_FIGURES = 4  # of a requirement that are seen at once
_COUNTED = ("holds", "fails", "skipped", "not in this run", "open")
_CLASSES = {"holds": "holds", "fails": "fails", "passed": "holds", "failed": "fails"}
_MORE_STYLE = """
body { max-width: 78rem; }
.rows { table-layout: fixed; min-width: 60rem; }
.rows td { overflow-wrap: anywhere; }
.rows td:nth-child(1), .rows th:nth-child(1) { width: 3.6rem; overflow-wrap: normal; }
.rows th:nth-child(5) { width: 5rem; }
.rows th:nth-child(6) { width: 6rem; }
tr.fails { background: color-mix(in srgb, #d1242f 8%, transparent); }
pre { overflow-x: auto; font-size: .8rem; padding: .6rem;
  border: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
.quiet { opacity: .7; font-size: .85rem; }
.scroll { overflow-x: auto; }
.tiles { display: flex; flex-wrap: wrap; gap: .6rem; }
.tile { border: 1px solid color-mix(in srgb, currentColor 20%, transparent); border-radius: .4rem;
  padding: .4rem .8rem; }
.tile b { font-size: 1.4rem; display: block; }
"""
_PUMP = (
    ("board", "board"),
    ("firmware", "firmware"),
    ("vm", "MicroPython"),
    ("serial", "serial"),
    ("table_hash", "message table"),
)


def _said(verdict: str) -> str:
    shown = html.escape(verdict)
    return f'<span class="{_CLASSES[verdict]}">{shown}</span>' if verdict in _CLASSES else shown


def figure_text(value: float | str, unit: str) -> str:
    """A measured figure with its unit; digits enough to tell it from the limit that it is near."""
    shown = value if isinstance(value, str) else f"{value:,.10g}"
    return f"{shown} {unit}".strip()


def _facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    run, pump = data["run"], data["pump"]
    facts = [
        ("bench", run["bench"]),
        ("seed", run["seed"]),
        ("setting", run["setting"]),
        ("commit", run["commit"] or "unknown"),
        ("firmware's sources (SHA-256, first half)", run["firmware_hash"]),
    ]
    if pump is None:
        facts.append(("pump", "none answered"))
    else:
        for key, name in _PUMP:
            value = pump.get(key, "unknown")
            facts.append((name, f"{value:08x}" if key == "table_hash" else value))
    facts += [
        ("began", run["began"]),
        ("took", f"{run['seconds']:,} s"),
        ("command", run["command"]),
        ("host", run["host"]),
    ]
    return [(html.escape(name), html.escape(str(value))) for name, value in facts]


def _requirement(each: Mapping[str, Any], bench: str) -> str:
    text = html.escape
    told = [text(figure_text(one["value"], one["unit"])) for one in each["measured"]]
    figures = "<br>".join(told[:_FIGURES])
    if told[_FIGURES:]:
        more = "<br>".join(told[_FIGURES:])
        figures += f"<details><summary>{len(told) - _FIGURES} more</summary>{more}</details>"
    if not figures and each["verdict"] in ("holds", "fails"):
        count = len(each["tests"])
        figures = f'<span class="quiet">{count} test{"s" * (count != 1)}</span>'
    if each["why"]:
        figures = f'<span class="quiet">{text(each["why"])}</span>'
    ran = text(bench) if each["verdict"] in ("holds", "fails") else ""
    cells = [text(each["id"]), text(each["text"]), text(each["pass"]), figures, ran]
    made = row([*cells, _said(each["verdict"])])
    return made.replace("<tr>", '<tr class="fails">') if each["verdict"] == "fails" else made


def _failure(test: Mapping[str, Any]) -> str:
    text = html.escape
    parts = [f"<h3><code>{text(test['test'])}</code></h3>"]
    parts.append(f"<p>Again: <code>{text(test['replay'])}</code></p>")
    for case in test["cases"]:
        name = case.partition(":")[0]
        parts.append(
            f"<p>Case: <code>cisterna bench {text(name)} --replay {text(case)}</code></p>"
        )
    for key in ("log", "trace"):
        if key in test:
            parts.append(f'<p class="quiet">{key}: {text(test[key])}</p>')
    lines = test["why"].splitlines()
    parts.append(f"<pre>{text(chr(10).join(lines[-40:]))}</pre>")
    return "\n".join(parts)


def page(data: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The whole report as one page that fetches nothing."""
    text = html.escape
    rows = data["requirements"]
    counts = {name: sum(each["verdict"] == name for each in rows) for name in _COUNTED}
    tests = data["tests"]
    failed = [test for test in tests if test["outcome"] == "failed"]
    skipped = [test for test in tests if test["outcome"] == "skipped"]
    passed = len(tests) - len(failed) - len(skipped)
    tiles = "".join(
        f'<div class="tile"><b>{count}</b>{text(name)}</div>' for name, count in counts.items()
    )
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Cisterna: evidence</title>',
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{_MORE_STYLE}</style>',
        f"<h1>Evidence of a run on the {text(data['run']['bench'])} bench</h1>",
        f'<p class="notice">{text(NOTICE)} It claims compliance with no standard.</p>',
        f"<p>{len(rows)} requirements:</p><div class='tiles'>{tiles}</div>",
        f"<p>{len(tests)} tests: {passed} passed, {len(failed)} failed, {len(skipped)} skipped."
        "</p>",
        "<table>" + "".join(row(list(fact)) for fact in _facts(data)) + "</table>",
        "<h2>Requirements</h2><div class='scroll'><table class='rows'>",
        row(["ID", "requirement", "passes when", "measured", "bench", "verdict"], "th"),
        *(_requirement(each, data["run"]["bench"]) for each in rows),
        "</table></div><h2>Failures</h2>",
    ]
    parts += [_failure(test) for test in failed] or ["<p>None.</p>"]
    parts.append("<h2>Skipped</h2>")
    if skipped:
        parts.append("<div class='scroll'><table>" + row(["test", "reason"], "th"))
        parts += [
            row([f"<code>{text(test['test'])}</code>", text(test["why"])]) for test in skipped
        ]
        parts.append("</table></div>")
    else:
        parts.append("<p>None.</p>")
    if pictures:
        parts += ["<h2>Pictures</h2>", *(picture(*each) for each in pictures.items())]
    parts.append("<h2>Tests</h2><div class='scroll'><table>")
    parts.append(row(["test", "shows", "took, s", "outcome"], "th"))
    parts += [
        row(
            [
                f"<code>{text(test['test'])}</code>",
                text(", ".join(test["requirements"])),
                f"{test['seconds']:.1f}",
                _said(test["outcome"]),
            ]
        )
        for test in tests
    ]
    return "\n".join(parts) + "\n</table></div></html>\n"


def write(data: Mapping[str, Any], folder: Path, pictures: Mapping[str, bytes]) -> Path:
    """``report.html`` and ``report.json`` in ``folder``; the page's path."""
    (folder / "report.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    path = folder / "report.html"
    path.write_text(page(data, pictures), encoding="utf-8")
    return path
