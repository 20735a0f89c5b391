"""What a photo's class and a unit depend on, in a real browser: saliency, Grad-CAM, guided backprop."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.conftest import Server
from tests.browser.test_dashboard import WAIT, press, query, set_number, until_run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def switch(page: Any, label: str) -> None:
    """Turn a toggle on."""
    page.get_by_test_id("stCheckbox").filter(has_text=label).locator("label").first.click(timeout=WAIT)


def test_saliency_shows_the_map_and_cuts_the_object_out(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/saliency?network=fovea&photo=sample:flower")
    page.get_by_role("heading", name="Which pixels does the score depend on?").wait_for(timeout=WAIT)
    switch(page, "Segment")
    press(page, "Run")
    until_run(page)
    page.locator(".js-plotly-plot").first.wait_for(timeout=WAIT)
    page.get_by_role("heading", name="The object, cut out").wait_for(timeout=WAIT)
    page.get_by_role("heading", name=re.compile("What logit of .* depends on")).wait_for(timeout=WAIT)


def test_gradcam_shows_where_the_class_is(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/gradcam?network=fovea&photo=sample:flower")
    press(page, "Run")
    until_run(page)
    page.get_by_role("heading", name="Guided Grad-CAM").wait_for(timeout=WAIT)
    page.locator(".js-plotly-plot").first.wait_for(timeout=WAIT)


def test_guided_shows_rules_and_tells_to_mine_first(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/guided?network=fovea&photo=sample:flower&layer=stage1.conv1")
    page.get_by_role("heading", name="What in the photo makes a unit fire?").wait_for(timeout=WAIT)
    set_number(page, "Units", 3)
    press(page, "Run")
    first = until_run(page)
    page.get_by_role("heading", name=re.compile("What makes .* fire$")).wait_for(timeout=WAIT)
    page.get_by_role("heading", name=re.compile("The strongest units of")).wait_for()
    box = page.get_by_role("combobox", name=re.compile("Dataset|Data set"))
    box.click()
    page.get_by_role("option", name="sample", exact=True).click()
    press(page, "Run")
    page.get_by_text(re.compile("has not been mined over sample yet")).first.wait_for(timeout=WAIT)
    assert query(page)["run"] != first
