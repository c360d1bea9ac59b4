"""A campaign's verdict as files: ``NAME.json`` and one self-contained ``NAME.html``."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from cisterna.campaign import command, verdict_words
from cisterna.prescription import NOTICE

_MOST_FAILURES = 1_000  # rows of a page; the JSON has all

NO_FILES: Mapping[str, bytes] = MappingProxyType({})

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem;
  border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
figure { margin: 1.5rem 0; }
img { max-width: 100%; height: auto; }
figcaption { font-size: .85rem; }
code { overflow-wrap: anywhere; }
.holds { color: #1a7f37; font-weight: 600; }
.quick { color: #9a6700; font-weight: 600; }
.fails { color: #d1242f; font-weight: 600; }
.notice { border-left: 4px solid #d1242f; padding-left: .8rem; }
"""


def row(cells: list[str], tag: str = "td") -> str:
    """A row of a table; the cells are HTML."""
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _verdict(holds: bool, quick: bool) -> str:
    look = "fails" if not holds else "quick" if quick else "holds"
    return f'<span class="{look}">{html.escape(verdict_words(holds, quick))}</span>'


def _plain(value: Any) -> str:
    """A value of the identity in words."""
    if isinstance(value, list):
        return ", ".join(str(each) for each in cast("list[Any]", value)) or "not given"
    return str(value)


def picture(name: str, content: bytes) -> str:
    """A PNG inside a page."""
    octets = base64.b64encode(content).decode()
    shown = html.escape(name)
    return (
        f'<figure><img alt="{shown}" src="data:image/png;base64,{octets}">'
        f"<figcaption>{shown}</figcaption></figure>"
    )


def page(verdict: dict[str, Any], files: Mapping[str, bytes]) -> str:
    """The HTML page of ``campaign.data``, with the pictures among ``files``."""
    text = html.escape
    identity = verdict["identity"]
    name = text(str(identity["campaign"]))
    facts = [
        ("Verdict", _verdict(verdict["holds"], verdict["quick"])),
        *((text(key), text(_plain(value))) for key, value in identity.items()),
        ("commit", text(verdict["commit"] or "unknown")),
        ("cases", f"{verdict['cases']:,}"),
        ("runs", f"{verdict['runs']:,}"),
        ("took", f"{verdict['run']['seconds']:,} s, {verdict['run']['workers']} at once"),
    ]
    evidence = [
        row([text(each["requirement"]), text(each["wanted"]), text(each["measured"]),
              _verdict(each["holds"], each["quick"])])
        for each in verdict["evidence"]
    ]  # fmt: skip
    found = verdict["failures"]
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Campaign {name}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>',
        f'<h1>Campaign {name}</h1><p class="notice">{text(NOTICE)}</p>',
        "<table>" + "".join(row(list(fact)) for fact in facts) + "</table>",
        "<h2>Requirements</h2><table>",
        row(["ID", "passes when", "measured", "verdict"], "th"),
        *evidence,
        "</table>",
        _what_full_does(identity) if verdict["quick"] else "",
        "<h2>Failures</h2>",
    ]
    if not found:
        parts.append("<p>None.</p>")
    else:
        again = text(f"{_command(identity)} --replay ID")
        parts.append(f"<p>Each of them again, step by step: <code>{again}</code></p><table>")
        parts.append(row(["ID", "what is wrong"], "th"))
        parts += [
            row([f"<code>{text(each['id'])}</code>", text(each["why"])])
            for each in found[:_MOST_FAILURES]
        ]
        parts.append("</table>")
        if len(found) > _MOST_FAILURES:
            parts.append(f"<p>And {len(found) - _MOST_FAILURES:,} more, in the JSON.</p>")
    pictures = [picture(*each) for each in files.items() if each[0].endswith(".png")]
    if pictures:
        parts += ["<h2>Pictures</h2>", *pictures]
    return "\n".join(parts) + "\n</html>\n"


def _command(identity: Mapping[str, Any]) -> str:
    return command(str(identity["campaign"]), str(identity["bench"]))


def _what_full_does(identity: Mapping[str, Any]) -> str:
    full = html.escape(f"{_command(identity)} --full")
    return (
        '<p>The quick setting does less than "passes when" tells; its own figures are those '
        f"measured. <code>{full}</code> runs the requirements' figures.</p>"
    )


def write(
    verdict: dict[str, Any], folder: Path, files: Mapping[str, bytes] = NO_FILES
) -> tuple[Path, Path]:
    """(HTML, JSON) written into ``folder``, ``files`` beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    name = verdict["identity"]["campaign"]
    html_path, json_path = folder / f"{name}.html", folder / f"{name}.json"
    json_path.write_text(json.dumps(verdict, indent=2) + "\n", encoding="utf-8")
    html_path.write_text(page(verdict, files), encoding="utf-8")
    for each, content in files.items():
        (folder / each).write_bytes(content)
    return html_path, json_path
