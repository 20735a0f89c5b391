"""The pages that make pictures: press Run without a change, look at what comes, change something, get it wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.conftest import Server
from tests.browser.test_dashboard import WAIT, press, set_number, until_run

pytestmark = pytest.mark.browser


def test_an_inversion_shows_a_row_of_pictures_and_a_curve(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/inversion?network=fovea")
    page.get_by_text("Example photo: A cup of coffee").wait_for(timeout=WAIT)
    set_number(page, "Steps", 4)
    set_number(page, "Series", 2)
    press(page, "Run")
    until_run(page)
    page.get_by_text("The photo as each layer remembers it").wait_for(timeout=WAIT)
    page.locator(".js-plotly-plot").first.wait_for(timeout=WAIT)


def test_a_style_is_weighed_by_sliders(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/style?network=fovea&photo=sample:cat")
    set_number(page, "Size", 64)
    set_number(page, "Steps", 2)
    slider = page.get_by_role("slider", name=re.compile("^Content weight"))
    slider.wait_for(timeout=WAIT)
    assert slider.input_value() == "0.6"
    slider.press("ArrowRight")
    press(page, "Run")
    until_run(page)
    page.get_by_text("The photo in the other's style").wait_for(timeout=WAIT)
    assert float(slider.input_value()) > 0.6


def test_a_texture_comes_with_its_ever_deeper_layers(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/texture?network=fovea")
    page.get_by_text("Example photo: A brick wall").wait_for(timeout=WAIT)
    for label, value in (("Height", 64), ("Width", 80), ("Patch", 64), ("Steps", 2)):
        set_number(page, label, value)
    press(page, "Run")
    until_run(page)
    page.get_by_text("Ever deeper layers").wait_for(timeout=WAIT)
