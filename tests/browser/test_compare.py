"""Compare in a real browser: run it, read the grid, sort the table, go on to the trust in one map, open the report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.conftest import Server

pytestmark = pytest.mark.browser
WAIT = 200_000


def set_number(page: Any, label: str, value: int) -> None:
    """Type a number into an option."""
    field = page.get_by_label(re.compile(rf"^{label}"), exact=False).first
    field.fill(str(value), timeout=WAIT)
    field.press("Enter")


def test_compare_shows_every_map_and_can_be_shared(server: Server, page: Any, tmp_path: Path) -> None:
    page.goto(f"{server.url}/compare?network=fovea&photo=sample:face")
    page.get_by_role("heading", name="Which map of this photo can be trusted?").wait_for(timeout=WAIT)
    set_number(page, "Steps", 3)
    set_number(page, "Stages", 0)
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Run", exact=True).click(timeout=WAIT)
    page.wait_for_url(re.compile(r"[?&]run="), timeout=WAIT)
    page.get_by_role("heading", name="Which of these maps to trust").wait_for(timeout=WAIT)
    cards = page.locator(".card.still")
    cards.nth(11).wait_for(timeout=WAIT)
    assert cards.count() == 12
    assert "Guided backprop" in " ".join(cards.all_inner_texts())
    page.locator("[data-testid=stDataFrame]").first.wait_for(timeout=WAIT)
    run_id = parse_qs(urlsplit(page.url).query)["run"][0]
    page.reload()
    page.get_by_role("heading", name="How far to trust each").wait_for(timeout=WAIT)
    assert run_id in page.url
    answer = page.request.get(f"{server.url}/exports/{run_id}.html")
    assert answer.ok
    report = tmp_path / "compare.html"
    report.write_bytes(answer.body())
    other = page.context.new_page()
    other.goto(report.as_uri())
    other.get_by_role("heading", name="How far to trust each").wait_for(timeout=WAIT)
    assert other.locator(".card").count() == 12
    assert other.locator("td", has_text="(random order)").count() == 1


def test_a_map_leads_to_the_trust_in_it(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/saliency?network=fovea&photo=sample:face")
    page.get_by_role("button", name="Run", exact=True).click(timeout=WAIT)
    page.get_by_role("button", name="How far to trust this map").click(timeout=WAIT)
    page.wait_for_url(re.compile(r"/compare\?.*run=\d+-\d+-trust-"), timeout=WAIT)
    page.get_by_role("heading", name="How far can this map be trusted?").wait_for(timeout=WAIT)
    page.get_by_role("button", name="Cancel").click(timeout=WAIT)
