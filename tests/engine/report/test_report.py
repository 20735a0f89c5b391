"""A report holds the whole run, escapes what users wrote, and fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fovea.engine.method import methods
from fovea.engine.panels import TablePanel
from fovea.engine.report.repeat import command_line
from fovea.engine.report.report import report_html
from fovea.engine.run.record import Input
from tests.engine.memory_run import MemoryRun, every_panel, record

HOSTILE = """<img src=x onerror=alert(1)></script><script>alert("x")</script>&amp;'"%{z}"""


class Tags(HTMLParser):
    """Every tag with its attributes, the scripts' texts, and all visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data


@pytest.fixture(scope="module")
def page() -> str:
    """The report of a run with a panel of every kind."""
    return report_html(every_panel())


def test_it_tells_the_whole_run(page: str) -> None:
    text = Tags(page).text
    run = every_panel()
    for panel in run.record.panels:
        assert panel.title in text
        assert panel.help in text
    for told in (
        "0.8731",
        "tabby cat",
        "squeezenet",
        "3f" * 32,
        "2.13.0",
        "weights are random",
        "first line",
        "window",
    ):
        assert told in text
    assert "cannot be drawn" not in text
    assert "<title>Test of tabby cat · Fovea</title>" in page
    assert text.index(run.record.panels[0].title) < text.index(run.record.panels[3].title)


def test_only_its_own_scripts_may_run(page: str) -> None:
    tags = Tags(page)
    policy = next(a["content"] for t, a in tags.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline' " not in policy.split("style-src")[0]
    data, *scripts = tags.scripts
    hashes = re.findall(r"'sha256-([^']+)'", policy)
    assert [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts] == hashes
    assert data.startswith("{")


def test_nothing_points_outside(page: str) -> None:
    for tag, attributes in Tags(page).tags:
        for name in ("src", "href", "action", "srcset", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:"), (tag, name, value)
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "a")
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"url\((?!data:)|@import|https?://", without_scripts)
    assert '"showSendToCloud":false' in page


def test_hostile_text_stays_text() -> None:
    run = every_panel(HOSTILE)
    run.record.summary[HOSTILE] = HOSTILE
    run.record.options["target"] = HOSTILE
    run.record.inputs.append(Input(name="style", kind="photo", reference=f"/tmp/{HOSTILE}", title=HOSTILE))
    run.record.network.name = HOSTILE
    page = report_html(run)
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    tags = Tags(page)
    assert not [a for _, a in tags.tags if any(name.startswith("on") for name in a)]
    assert len(tags.scripts) == 3
    assert HOSTILE in tags.text


def test_a_panel_that_cannot_be_drawn_is_one_line() -> None:
    run = every_panel()
    del run.arrays["heatmap"], run.images["sheet"]
    tags = Tags(report_html(run))
    assert tags.text.count("This panel cannot be drawn") == 4
    assert "Saliency" in tags.text


def test_a_run_without_charts_carries_no_plotly() -> None:
    run = MemoryRun(record([TablePanel(title="T", table="t")]), tables={"t": pd.DataFrame({"a": range(500)})})
    page = report_html(run)
    assert len(page) < 100_000
    assert "200 more rows are in the run itself" in page


def test_a_failed_run_says_why() -> None:
    page = report_html(MemoryRun(record([], status="failed", error="no layer named 'x' <b>")))
    assert "This run failed: no layer named &#39;x&#39; &lt;b&gt;" in page


@pytest.mark.parametrize("name", methods())
def test_the_command_line_repeats_every_method(name: str) -> None:
    options = methods()[name].options().model_dump(mode="json")
    told = command_line(record([], method=name, options=options, seed=7, requested_device="cpu"))
    assert shlex.split(told) == (
        f"python -m engine {name} --network squeezenet --image sample:cat --seed 7 --device cpu".split()
    )


def test_the_command_line_names_what_is_not_the_default() -> None:
    options = {"window": 48, "stride": 16, "target": "tabby, it's a cat"}
    words = shlex.split(command_line(record([], options=options)))
    assert words[words.index("--window") + 1] == "48"
    assert words[words.index("--target") + 1] == "tabby, it's a cat"
    assert "--stride" not in words
    unknown = record([], method="gone", options={"fast": True, "slow": False, "layers": ["a", "b"], "unit": None})
    assert "--fast --no-slow --layers a,b --unit none" in command_line(unknown)


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
def test_it_opens_from_disk_and_fetches_nothing(browser: Any, tmp_path: Path, scheme: str, width: int) -> None:
    run = every_panel(HOSTILE)
    run.images["cover"] = run.images["cover"].copy()
    file = tmp_path / "report.html"
    file.write_text(report_html(run), encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append("a dialog"), dialog.dismiss()))
    page.goto(file.as_uri())
    charts = page.locator(".chart")
    assert charts.count() == 7
    for index in range(7):
        charts.nth(index).locator(".main-svg").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("[data-opacity='0']").fill("0.2")
    assert page.evaluate("document.querySelector('[data-figure=\"0\"]').data[0].opacity") == 0.2
    charts.first.scroll_into_view_if_needed()
    charts.first.locator(".nsewdrag").first.click(position={"x": width // 3, "y": 60})
    page.locator("[data-covered='0']").wait_for(state="visible")
    assert "probability 0." in page.locator("[data-covered='0']").inner_text()
    page.locator("details summary").first.click()
    assert page.locator("details[open] .tile").count() == 4
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert complaints == []
    context.close()
