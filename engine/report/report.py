"""A run -> one HTML file that opens anywhere, with the network unplugged, and shows everything that was found.

Everything is inside: Plotly's script once, figures as JSON, pictures as data URIs. Its content security policy
forbids every fetch, and lets only the two scripts run whose hashes it names. All text is escaped.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from fovea.engine.errors import FoveaError
from fovea.engine.panels import Panel, ReportPart, RunView
from fovea.engine.panels.look import template
from fovea.engine.report import facts, repeat
from fovea.engine.run.title import run_title

TEMPLATES = Path(__file__).parent / "templates"
CONFIG = {"displayModeBar": False, "displaylogo": False, "showSendToCloud": False, "responsive": True}


def report_html(run: RunView) -> str:
    """The run as one HTML document. A panel that cannot be drawn is one line, and the others stay."""
    figures: list[dict[str, Any]] = []
    panels = [_section(panel, run, figures) for panel in run.record.panels]
    record = run.record
    document: str = (
        _environment()
        .get_template("report.html")
        .render(
            title=run_title(record),
            method=facts.method_words(record),
            record=record,
            state=facts.state(record),
            created=facts.started(record),
            summary=facts.summary(record),
            panels=panels,
            facts=facts.facts(record),
            options=facts.options(record),
            inputs=record.inputs,
            versions=record.versions,
            command=repeat.command_line(record),
            only_here=repeat.only_here(record),
            figures=_json(
                {
                    "figures": figures,
                    "config": CONFIG,
                    "templates": {theme: template(theme).to_plotly_json() for theme in ("light", "dark")},
                }
            ),
            plotly=Markup(_plotly()) if figures else "",
            script=Markup(_file("report.js")),
            style=Markup(_file("report.css")),
            policy=content_security_policy(),
        )
    )
    return document


def content_security_policy() -> str:
    """What a report may do: run its own two scripts, show its own pictures, fetch nothing."""
    scripts = " ".join(f"'sha256-{_hash(text)}'" for text in (_plotly(), _file("report.js")))
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _section(panel: Panel, run: RunView, figures: list[dict[str, Any]]) -> dict[str, Any]:
    """A panel's title and help, and its body or what is wrong with it; its figure is added to `figures`."""
    section: dict[str, Any] = {"title": panel.title, "help": panel.help, "error": "", "body": ""}
    try:
        part = panel.report(run)
        figure = None if part.figure is None else json.loads(part.figure.to_json())
    except (FoveaError, OSError, KeyError, ValueError, IndexError) as error:
        return section | {"error": f"This panel cannot be drawn: {error}"}
    number = len(figures)
    if figure is not None:
        figure["layout"].pop("template", None)
        figures.append({"figure": figure, **part.script})
    return section | {"body": _body(part, panel.title, number)}


def _body(part: ReportPart, title: str, number: int) -> Markup:
    """The part's HTML. Templates are the panels' own; what a user wrote reaches them as data, and is escaped."""
    if part.template:
        body = _environment().get_template(f"panels/{part.template}")
    else:
        body = _environment().from_string(part.text)
    return Markup(body.render({**part.data, "title": title, "figure": number}))


@functools.cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)


@functools.cache
def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@functools.cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()


def _json(value: Any) -> Markup:
    """JSON that may stand inside a <script> element: no `<` can end it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)
