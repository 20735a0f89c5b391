"""A run -> one HTML file that opens anywhere, with the network unplugged, and shows everything that was found.

Everything is inside: Plotly's script once, figures as JSON, pictures as data URIs. Its content security policy
forbids every fetch, and lets only the two scripts run whose hashes it names. All text is escaped.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import math
import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from PIL import Image
from plotly.offline import get_plotlyjs

from fovea.engine.errors import FoveaError, UnknownNameError
from fovea.engine.figures import captions, data_uri, figure, template, words
from fovea.engine.method import find_method
from fovea.engine.panels import Cells, GalleryPanel, RunView
from fovea.engine.panels.sheet import cut_tile

if TYPE_CHECKING:
    import pandas as pd

CHARTS = frozenset({"overlay", "heatmap", "curve", "bars", "scatter", "channels"})
"""The kinds that are drawn by Plotly; the others are plain HTML."""

CONFIG = {"displayModeBar": False, "displaylogo": False, "showSendToCloud": False, "responsive": True}
PEEK = 3072
"""The longest side of a map's sheet of thumbnails, in pixels."""
TABLE_ROWS = 300
CARDS = 1024
GALLERY_PIXELS = 16_000_000
"""So many rows of a table, cards of a gallery and pixels of all its tiles are put into a report."""


def report_html(run: RunView) -> str:
    """The run as one HTML document. A panel that cannot be drawn is one line, and the others stay."""
    figures: list[dict[str, Any]] = []
    panels = [_panel(index, panel, run, figures) for index, panel in enumerate(run.record.panels)]
    record = run.record
    document: str = _page().render(
        title=_title(record),
        method=_method_facts(record),
        record=record,
        created=_when(record),
        summary=[(name.replace("_", " "), _value(value)) for name, value in record.summary.items()],
        panels=panels,
        facts=_facts(record),
        options=_options(record),
        inputs=record.inputs,
        versions=record.versions,
        command=command_line(record),
        only_here=any(str(one.reference).startswith("photo:") for one in record.inputs),
        figures=_json(
            {
                "figures": figures,
                "config": CONFIG,
                "templates": {theme: template(theme).to_plotly_json() for theme in ("light", "dark")},
            }
        ),
        plotly=Markup(_plotly()) if figures else "",
        script=Markup(SCRIPT),
        style=Markup(STYLE),
        policy=content_security_policy(),
    )
    return document


def content_security_policy() -> str:
    """What a report may do: run its own two scripts, show its own pictures, fetch nothing."""
    scripts = " ".join(f"'sha256-{_hash(text)}'" for text in (_plotly(), SCRIPT))
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def command_line(record: Any) -> str:
    """What gives this run again: `python -m engine METHOD …`, with the options that are not the defaults."""
    parts = ["python", "-m", "engine", record.method, "--network", record.network.name]
    image = next((one.reference for one in record.inputs if one.name == "image"), None)
    if image:
        parts += ["--image", image]
    defaults: dict[str, Any] = {}
    with contextlib.suppress(UnknownNameError):
        defaults = find_method(record.method).options().model_dump(mode="json")
    for name, value in record.options.items():
        flag = "--" + name.replace("_", "-")
        if name in defaults and value == defaults[name]:
            continue
        if isinstance(value, bool):
            parts.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list | tuple):
            parts += [flag, ",".join(str(one) for one in value)]
        else:
            parts += [flag, "none" if value is None else str(value)]
    if record.seed:
        parts += ["--seed", str(record.seed)]
    for name in ("device", "provider"):
        asked = getattr(record, f"requested_{name}", "auto")
        if asked != "auto":
            parts += [f"--{name}", asked]
    return shlex.join(parts)


# -- Panels ------------------------------------------------------------------------------------------------------------


def _panel(index: int, panel: Any, run: RunView, figures: list[dict[str, Any]]) -> dict[str, Any]:
    """What the template shows of a panel; a Plotly figure is added to `figures`."""
    shown: dict[str, Any] = {"index": index, "kind": panel.kind, "title": panel.title, "help": panel.help, "error": ""}
    try:
        if panel.kind in CHARTS:
            shown["figure"] = len(figures)
            figures.append(_figure(panel, run))
            shown["covers"] = bool(getattr(panel, "cells", None) and panel.cells.cover)
        elif panel.kind == "image":
            picture = run.image(panel.image)
            shown["source"] = data_uri(picture, longest=2048)
            shown["width"] = max(picture.width, min(560, picture.width * 3))
        elif panel.kind == "gallery":
            shown |= _gallery(panel, run)
        elif panel.kind == "table":
            table = panel.rows(run)
            shown["columns"] = [str(column) for column in table]
            shown["rows"] = [[_value(value) for value in row] for row in table.head(TABLE_ROWS).itertuples(index=False)]
            shown["left_out"] = max(0, len(table) - TABLE_ROWS)
    except (FoveaError, OSError, KeyError, ValueError, IndexError) as error:
        shown["error"] = f"this panel cannot be drawn: {error}"
    return shown


def _figure(panel: Any, run: RunView) -> dict[str, Any]:
    drawn = json.loads(figure(panel, run).to_json())
    drawn["layout"].pop("template", None)
    found: dict[str, Any] = {"figure": drawn, "cells": None}
    if getattr(panel, "cells", None) is not None and panel.cells.cover:
        found["cells"] = _cells(panel.cells, run)
    if panel.kind == "scatter" and panel.image:
        sheet = run.image(panel.image)
        columns = panel.columns or max(1, sheet.width // max(1, panel.tile))
        rows = max(1, round(sheet.height / (sheet.width / columns)))
        found["peek"] = {"sheet": data_uri(sheet, longest=PEEK, lossy=True), "columns": columns, "rows": rows}
    return found


def _cells(cells: Cells, run: RunView) -> dict[str, Any]:
    """What a click on an overlay shows: the window's box, its value, and the table's rows for it."""
    frame = run.image("photo").convert("RGB")
    width, height = frame.size
    values = run.array(cells.values)
    lines: dict[str, list[list[str]]] = {}
    if cells.table:
        table = run.table(cells.table)
        places = zip(table["row"], table["column"], strict=True)
        rest = table.drop(columns=["row", "column"])
        rest = rest[[column for column in rest if column in ("class", "probability", "logit", "score")] or list(rest)]
        for (row, column), values_of in zip(places, rest.itertuples(index=False, name=None), strict=True):
            lines.setdefault(f"{int(row)},{int(column)}", []).append([words(value) for value in values_of])
    return {
        "size": [width, height],
        "ys": np.asarray(run.array(cells.ys)).tolist(),
        "xs": np.asarray(run.array(cells.xs)).tolist(),
        "window": [cells.height, cells.width],
        "values": [[words(value) for value in row] for row in values],
        "label": cells.label or "value",
        "photo": data_uri(frame),
        "cover": data_uri(run.image(cells.cover).convert("RGB")),
        "lines": lines,
    }


def _gallery(panel: GalleryPanel, run: RunView) -> dict[str, Any]:
    """For each card its name, its tiles cut from the sheet as one strip, and their captions.

    A strip for each card instead of the sheet for all: a browser decodes only those that are in sight.
    """
    table = panel.rows(run)
    if "tile" not in table:
        table = table.assign(tile=np.arange(len(run.table(panel.table)))[table.index])
    group = [column for column in panel.group if column in table]
    # A column that is the same for every card names nothing.
    naming = [column for column in group if table[column].nunique() > 1] or group[-1:]
    cards = list(table.groupby(group, sort=False).indices.values()) if group else [[row] for row in range(len(table))]
    shown = cards[:CARDS]
    sheet = _Sheet(run.image(panel.image), panel, sum(len(rows) for rows in shown))
    tiles = table["tile"].to_numpy()
    names = captions(table, naming, " · ", escaped=False)
    told = [" · ".join(map(words, row)) for row in _rows(table, panel.caption)]
    return {
        "cards": [
            {
                "name": names[rows[0]],
                "strip": sheet.strip(tiles[rows]),
                "size": f"{len(rows) * 100}% 100%",
                "tiles": [
                    {"at": f"{100 * place / max(1, len(rows) - 1):.4f}% 0", "caption": told[row]}
                    for place, row in enumerate(rows)
                ],
            }
            for rows in shown
        ],
        "left_out": len(cards) - len(shown),
        "grouped": bool(group),
        "tile": max(96, panel.tile),
    }


def _rows(table: pd.DataFrame, columns: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    """The values of these columns, where there are such, row by row."""
    there = [column for column in columns if column in table]
    return table[there].itertuples(index=False, name=None) if there else ((),) * len(table)


class _Sheet:
    """A sheet that strips of tiles are cut from, all of them together within GALLERY_PIXELS."""

    def __init__(self, sheet: Image.Image, panel: GalleryPanel, tiles: int) -> None:
        self.columns = panel.columns or max(1, sheet.width // max(1, panel.tile))
        self.pitch = max(1, sheet.width // self.columns)
        self.side = max(24, min(self.pitch, math.isqrt(GALLERY_PIXELS // max(1, tiles))))
        self.pixels = np.asarray(sheet.convert("RGB"))

    def strip(self, tiles: Iterable[int]) -> str:
        """These tiles beside each other, as a data URI."""
        found = np.concatenate([cut_tile(self.pixels, int(tile), self.pitch, self.columns) for tile in tiles], axis=1)
        picture = Image.fromarray(found)
        if self.side != self.pitch:
            count = found.shape[1] // self.pitch
            picture = picture.resize((count * self.side, self.side), Image.Resampling.BOX)
        return data_uri(picture, longest=65_000, lossy=True)


# -- The record --------------------------------------------------------------------------------------------------------


def _title(record: Any) -> str:
    return str(getattr(record, "title", "") or record.method)


def _method_facts(record: Any) -> dict[str, str]:
    try:
        found = find_method(record.method)
    except UnknownNameError:
        return {"title": record.method, "question": "", "summary": ""}
    return {"title": found.title, "question": found.question, "summary": found.summary}


def _when(record: Any) -> str:
    return str(record.started or record.created).replace("T", " ").split(".")[0]


def _facts(record: Any) -> list[tuple[str, str]]:
    """What is known of the run beside its options, as name and text."""
    network = record.network
    facts = [
        ("Run", record.id),
        ("Method", f"{record.method}, version {record.method_version}"),
        ("Network", f"{network.name}{' (random weights)' if network.random else ''}"),
        ("Weights", f"sha256 {network.sha256}" if network.sha256 else ""),
        ("Seed", str(record.seed)),
        ("Device", record.device),
        ("Provider", record.provider),
        ("Precision", record.precision),
        *((name.capitalize(), value) for name, value in record.ran.items() if name not in ("provider", "precision")),
        ("Machine", record.machine),
        ("Started", record.started),
        ("Took", f"{record.seconds:.3g} s" if record.seconds else ""),
    ]
    return [(name, str(value)) for name, value in facts if value]


def _options(record: Any) -> list[tuple[str, str, str]]:
    """(name, value, help) of every option."""
    fields: dict[str, Any] = {}
    with contextlib.suppress(UnknownNameError):
        fields = dict(find_method(record.method).options.model_fields)
    return [
        (name, "none" if value is None else _value(value), fields[name].description or "" if name in fields else "")
        for name, value in record.options.items()
    ]


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(words(one) for one in value)
    return words(value)


# -- The page ----------------------------------------------------------------------------------------------------------


@functools.cache
def _plotly() -> str:
    return str(get_plotlyjs()).replace("</script", "<\\/script")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()


def _json(value: Any) -> Markup:
    """JSON that may stand inside a <script> element: no `<` can end it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


@functools.cache
def _page() -> Any:
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(PAGE)


STYLE = """
:root { color-scheme: light dark; --ground: #fdfcf9; --raised: #f3efe6; --ink: #221d16; --faint: #6b6253;
  --edge: #ddd5c5; --accent: #9a5b00; --warn: #fbe9c8; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #12110f; --raised: #211e19; --ink: #ece6da; --faint: #a89e8c; --edge: #3a352c;
    --accent: #f0ac3c; --warn: #3b2d12; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue", "Noto Sans", "DejaVu Sans", sans-serif; }
main, header, footer { max-width: 1080px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
h1, h2 { font-family: Charter, "Palatino Linotype", Palatino, "Noto Serif", "DejaVu Serif", Georgia, serif;
  font-weight: 600; line-height: 1.25; text-wrap: balance; overflow-wrap: anywhere; }
h1 { font-size: 2rem; margin: 4px 0 2px; }
h2 { font-size: 1.35rem; margin: 0 0 2px; }
.brand { color: var(--accent); font-weight: 600; letter-spacing: .04em; }
.faint, .help { color: var(--faint); margin: 0 0 10px; overflow-wrap: anywhere; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 18px 0; }
.numbers div { background: var(--raised); border-radius: 8px; padding: 10px 14px; min-width: 0; }
.numbers dt, .numbers span { display: block; color: var(--faint); font-size: .82rem; }
.numbers b { font-size: 1.15rem; overflow-wrap: anywhere; }
.note { white-space: pre-wrap; border-left: 3px solid var(--accent); padding-left: 12px; overflow-wrap: anywhere; }
.warning { background: var(--warn); border-radius: 8px; padding: 8px 14px; margin: 8px 0; overflow-wrap: anywhere; }
section { margin: 34px 0; }
img { max-width: 100%; height: auto; display: block; border-radius: 4px; }
.whole { image-rendering: auto; width: 100%; }
.pixels { image-rendering: pixelated; }
.chart { width: 100%; min-height: 80px; }
.control { display: flex; gap: 10px; align-items: center; color: var(--faint); font-size: .9rem; margin-bottom: 6px; }
.control input { width: 220px; max-width: 55vw; accent-color: var(--accent); }
.covered { display: grid; grid-template-columns: minmax(0, 280px) minmax(0, 1fr); gap: 16px; margin-top: 12px;
  background: var(--raised); border-radius: 8px; padding: 12px; }
.covered[hidden] { display: none; }
.covered .stack { position: relative; }
.covered .stack img { width: 100%; }
.covered .stack img + img { position: absolute; inset: 0; }
@media (max-width: 520px) { .covered { grid-template-columns: 1fr; } }
.peek { position: fixed; display: none; width: 132px; height: 132px; border-radius: 8px; pointer-events: none;
  background-repeat: no-repeat; box-shadow: 0 2px 14px rgba(0, 0, 0, .35); z-index: 2; }
.cards { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(168px, 1fr)); }
.cards.single { grid-template-columns: repeat(auto-fill, minmax(var(--tile, 120px), 1fr)); }
.card { background: var(--raised); border-radius: 8px; padding: 8px; min-width: 0; content-visibility: auto;
  contain-intrinsic-size: auto 200px; }
.card summary { cursor: pointer; list-style: none; }
.card summary::-webkit-details-marker { display: none; }
.card summary:focus-visible { outline: 2px solid var(--accent); border-radius: 6px; }
.tiles { display: grid; gap: 2px; grid-template-columns: repeat(3, 1fr); }
.tile { min-width: 0; }
.tile i { display: block; aspect-ratio: 1; border-radius: 2px; background-repeat: no-repeat;
  background-image: var(--strip); background-size: var(--size); }
.tile span { display: none; }
.single .tiles { grid-template-columns: 1fr; }
.single .tile span, .card[open] .tile span { display: block; font-size: .78rem; color: var(--faint);
  overflow-wrap: anywhere; padding: 2px 0 6px; }
.card:not([open]) .tile:nth-child(n + 10) { display: none; }
.single .card .tile { display: block; }
.card[open] { grid-column: 1 / -1; }
.card[open] .tiles { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 8px; }
.card strong { display: block; margin-top: 6px; font-size: .88rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; min-width: 50%; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--edge); vertical-align: top;
  overflow-wrap: anywhere; }
th { font-weight: 600; white-space: nowrap; }
td.value { font-variant-numeric: tabular-nums; }
pre { background: var(--raised); border-radius: 8px; padding: 12px 14px; white-space: pre-wrap;
  overflow-wrap: anywhere; font: .88rem/1.5 "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.record h2 { margin-top: 26px; }
footer { color: var(--faint); font-size: .85rem; padding-bottom: 40px; }
"""

SCRIPT = """
'use strict';
(() => {
  const data = JSON.parse(document.getElementById('figures').textContent);
  const dark = window.matchMedia('(prefers-color-scheme: dark)');
  const theme = () => data.templates[dark.matches ? 'dark' : 'light'];
  const drawn = [];
  const shape = (layout, width) => {
    const x = layout.xaxis && layout.xaxis.range, y = layout.yaxis && layout.yaxis.range;
    if (!x || !y || !layout.yaxis.scaleanchor) return layout.height;
    const bar = 90, high = Math.abs(y[1] - y[0]) / Math.abs(x[1] - x[0]) * width + bar;
    return Math.max(160, Math.min(high, 0.85 * window.innerHeight, 720));
  };
  const show_tiles = (box, { sheet, columns, rows }) => {
    const tile = document.createElement('div');
    tile.className = 'peek';
    tile.style.backgroundImage = 'url("' + sheet + '")';
    tile.style.backgroundSize = columns * 100 + '% ' + rows * 100 + '%';
    document.body.appendChild(tile);
    const part = (place, all) => all > 1 ? 100 * place / (all - 1) + '%' : '0%';
    box.on('plotly_hover', (event) => {
      const index = event.points[0].customdata && event.points[0].customdata[1];
      if (!(index >= 0)) return;
      tile.style.backgroundPosition = part(index % columns, columns) + ' ' + part(Math.floor(index / columns), rows);
      const { clientX: x, clientY: y } = event.event;
      tile.style.left = (x < 154 ? x + 18 : x - 150) + 'px';
      tile.style.top = Math.max(4, Math.min(y - 146, window.innerHeight - 136)) + 'px';
      tile.style.display = 'block';
    });
    box.on('plotly_unhover', () => { tile.style.display = 'none'; });
  };
  for (const box of document.querySelectorAll('[data-figure]')) {
    const { figure, cells, peek } = data.figures[Number(box.dataset.figure)];
    const height = figure.layout.height;
    const layout = Object.assign({}, figure.layout, { template: theme(), autosize: true });
    layout.height = shape(figure.layout, box.clientWidth);
    Plotly.newPlot(box, figure.data, layout, data.config);
    drawn.push([box, figure.layout]);
    const slider = document.querySelector('[data-opacity="' + box.dataset.figure + '"]');
    if (slider) slider.addEventListener('input', () => Plotly.restyle(box, { opacity: Number(slider.value) }, [0]));
    const shown = document.querySelector('[data-covered="' + box.dataset.figure + '"]');
    if (peek) show_tiles(box, peek);
    if (cells && shown) box.on('plotly_click', (event) => {
      const place = event.points.find((point) => Array.isArray(point.customdata) && point.customdata.length > 1);
      if (place) show(shown, cells, place.customdata[0], place.customdata[1]);
    });
  }
  const show = (shown, cells, row, column) => {
    const [photo, cover] = shown.querySelectorAll('img');
    if (!photo.getAttribute('src')) { photo.src = cells.photo; cover.src = cells.cover; }
    const [width, height] = cells.size;
    const clamp = (value, end) => Math.min(Math.max(value, 0), end);
    const top = clamp(cells.ys[row], height), left = clamp(cells.xs[column], width);
    const bottom = clamp(cells.ys[row] + cells.window[0], height);
    const right = clamp(cells.xs[column] + cells.window[1], width);
    const percent = (part, whole) => 100 * part / whole + '%';
    cover.style.clipPath = 'inset(' + [percent(top, height), percent(width - right, width),
      percent(height - bottom, height), percent(left, width)].join(' ') + ')';
    const text = shown.querySelector('div:last-child');
    text.replaceChildren();
    const line = document.createElement('p');
    line.textContent = 'Window at row ' + row + ', column ' + column + ': ' + cells.label + ' ' +
      cells.values[row][column];
    text.appendChild(line);
    const lines = cells.lines[row + ',' + column] || [];
    if (lines.length) {
      const table = document.createElement('table');
      for (const values of lines) {
        const tr = table.insertRow();
        for (const value of values) tr.insertCell().textContent = value;
      }
      text.appendChild(table);
    }
    shown.hidden = false;
  };
  dark.addEventListener('change', () => {
    for (const [box] of drawn) Plotly.relayout(box, { template: theme() });
  });
  let waiting = 0;
  window.addEventListener('resize', () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const [box, layout] of drawn) Plotly.relayout(box, { height: shape(layout, box.clientWidth) });
    }, 150);
  });
})();
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{{ title }} · Fovea</title>
<style>{{ style }}</style>
</head>
<body>
<header>
  <div class="brand">Fovea</div>
  <h1>{{ title }}</h1>
  <p class="faint">{{ method.title }}{% if method.question %} · {{ method.question }}{% endif %} · {{ record.network.name }}
  {%- if record.network.random %} with random weights{% endif %}{% if created %} · {{ created }}{% endif %}</p>
  {% if record.status != "done" %}<p class="warning">This run is {{ record.status }}{% if record.error %}: {{ record.error }}{% endif %}</p>{% endif %}
  {% for warning in record.warnings %}<p class="warning">{{ warning }}</p>{% endfor %}
  {% if record.note %}<p class="note">{{ record.note }}</p>{% endif %}
  {% if summary %}
  <div class="numbers">
    {% for name, value in summary %}<div><span>{{ name }}</span><b>{{ value }}</b></div>{% endfor %}
  </div>
  {% endif %}
</header>
<main>
{% for panel in panels %}
<section>
  <h2>{{ panel.title }}</h2>
  {% if panel.help %}<p class="help">{{ panel.help }}</p>{% endif %}
  {% if panel.error %}<p class="warning">{{ panel.error }}</p>
  {% elif panel.figure is defined %}
  {% if panel.kind == "overlay" %}
  <label class="control">Opacity of the map <input type="range" min="0" max="1" step="0.05" value="0.6" data-opacity="{{ panel.figure }}"></label>
  {% endif %}
  <div class="chart" data-figure="{{ panel.figure }}" role="img" aria-label="{{ panel.title }}"></div>
  {% if panel.covers %}
  <div class="covered" data-covered="{{ panel.figure }}" hidden><div class="stack"><img alt="the photo"><img alt="its covered window"></div><div></div></div>
  {% endif %}
  {% elif panel.kind == "image" %}
  <img src="{{ panel.source }}" alt="{{ panel.title }}" class="whole" style="max-width:{{ panel.width }}px">
  {% elif panel.kind == "gallery" %}
  <div class="cards{% if not panel.grouped %} single{% endif %}" style="--tile: {{ panel.tile }}px">
    {% for card in panel.cards %}
    {% if panel.grouped %}<details class="card"><summary>{% else %}<div class="card">{% endif %}
    <div class="tiles" style="--strip: url({{ card.strip }}); --size: {{ card.size }}">{% for tile in card.tiles %}<div class="tile" title="{{ tile.caption }}"><i style="background-position:{{ tile.at }}"></i><span>{{ tile.caption }}</span></div>{% endfor %}</div>
    {% if card.name %}<strong>{{ card.name }}</strong>{% endif %}
    {% if panel.grouped %}</summary></details>{% else %}</div>{% endif %}
    {% endfor %}
  </div>
  {% if panel.left_out %}<p class="help">{{ panel.left_out }} more are in the run itself.</p>{% endif %}
  {% elif panel.kind == "table" %}
  <div class="scroll"><table>
    <thead><tr>{% for column in panel.columns %}<th>{{ column }}</th>{% endfor %}</tr></thead>
    <tbody>{% for row in panel.rows %}<tr>{% for value in row %}<td class="value">{{ value }}</td>{% endfor %}</tr>{% endfor %}</tbody>
  </table></div>
  {% if panel.left_out %}<p class="help">{{ panel.left_out }} more rows are in the run itself.</p>{% endif %}
  {% endif %}
</section>
{% endfor %}
<section class="record">
  <h2>Repeat it</h2>
  <pre>{{ command }}</pre>
  {% if only_here %}<p class="help">photo:… names a photo by its content on the machine that made this run; elsewhere put the file's path.</p>{% endif %}
  {% if options %}
  <h2>Options</h2>
  <div class="scroll"><table>{% for name, value, help in options %}<tr><th>{{ name }}</th><td class="value">{{ value }}</td><td class="faint">{{ help }}</td></tr>{% endfor %}</table></div>
  {% endif %}
  <h2>Record</h2>
  <div class="scroll"><table>
    {% for name, value in facts %}<tr><th>{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}
    {% for one in inputs %}<tr><th>Input: {{ one.name }}</th><td>{{ one.title or one.reference }}{% if one.title and one.title != one.reference %} ({{ one.reference }}){% endif %}{% if one.images %}, {{ one.images }} images{% endif %}{% if one.sha256 %}<br><span class="faint">sha256 {{ one.sha256 }}</span>{% endif %}</td></tr>{% endfor %}
    {% for name, value in versions.items() %}<tr><th>{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}
  </table></div>
</section>
</main>
<footer>Made with Fovea. This file holds everything it shows and fetches nothing. {{ method.summary }}</footer>
<script type="application/json" id="figures">{{ figures }}</script>
{% if plotly %}
<script>{{ plotly }}</script>
<script>{{ script }}</script>
{% endif %}
</body>
</html>
"""  # noqa: E501
