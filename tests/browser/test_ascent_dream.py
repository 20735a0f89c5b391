"""Ascent and dreams in a real browser: the main path, a grid, and what is refused before it starts."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.conftest import Server
from tests.browser.test_dashboard import WAIT, press, set_number, until_run

pytestmark = pytest.mark.browser


def test_an_ascent_grows_and_a_grid_follows(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/ascent?network=fovea&photo=sample:cat")
    set_number(page, "Steps", 4)
    press(page, "Run")
    first = until_run(page)
    page.get_by_text(re.compile("^What excites")).first.wait_for(timeout=WAIT)
    page.get_by_text("As it grew").wait_for(timeout=WAIT)
    page.locator(".js-plotly-plot").nth(2).wait_for(timeout=WAIT)

    units = page.get_by_label(re.compile("^Units")).first
    units.fill("3-1")
    units.press("Enter")
    page.get_by_text("runs backwards").first.wait_for(timeout=WAIT)
    assert page.get_by_role("button", name="Run", exact=True).first.is_disabled()
    units.fill("sunflower, starfish")
    units.press("Enter")
    page.get_by_text("runs backwards").wait_for(state="detached", timeout=WAIT)
    press(page, "Run")
    page.wait_for_url(lambda url: "run=" in url and first not in url, timeout=WAIT)
    page.get_by_text("What excites each of 2").wait_for(timeout=WAIT)
    page.locator(".card").nth(1).wait_for(timeout=WAIT)


def test_a_dream_shows_two_layers_and_the_photo(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/dream?network=fovea&photo=sample:cat")
    set_number(page, "Octaves", 2)
    set_number(page, "Steps", 1)
    press(page, "Run")
    until_run(page)
    page.get_by_text(re.compile("dreams of this photo")).nth(1).wait_for(timeout=WAIT)
    page.get_by_text("As it grew").wait_for(timeout=WAIT)
    page.locator(".js-plotly-plot").first.wait_for(timeout=WAIT)
