"""Adversarial examples, fooling images and robustness in a real browser."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.conftest import Server
from tests.browser.test_dashboard import WAIT, follow, press, query, set_number, until_run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def test_a_photo_is_attacked_and_its_twin_is_explained(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/?network=fovea&photo=sample:face")
    follow(page, "Adversarial examples")
    page.get_by_role("heading", name="How little does it take to fool it?").wait_for(timeout=WAIT)
    page.get_by_text("This is for testing one's own networks").wait_for(timeout=WAIT)
    press(page, "Run")
    until_run(page)
    for title in ("What was changed", "Both classes on the way", "Does it survive?", "Where in depth the two part"):
        page.get_by_role("heading", name=title).wait_for(timeout=WAIT)
    for title in (r"^The photo: ", r"^The result: ", r"^Saliency of .*, the result", r"^Grad-CAM of .*, the photo"):
        page.get_by_role("heading", name=re.compile(title)).wait_for(timeout=WAIT)
    assert query(page)["photo"] == "sample:face"


def test_an_epsilon_in_grey_levels_is_told(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/adversarial?network=fovea&photo=sample:face")
    set_number(page, "Epsilon", 8)
    page.get_by_text(re.compile("for grey levels write 8/255")).first.wait_for(timeout=WAIT)
    assert page.get_by_role("button", name="Run", exact=True).first.is_disabled()


def test_fooling_images_and_robustness_share_a_page(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/fooling?network=fovea")
    press(page, "Run")
    until_run(page)
    page.get_by_role("heading", name="What it is certain of").wait_for(timeout=WAIT)
    page.goto(f"{server.url}/fooling?network=fovea")  # the newest run is there at once, and the other tab still opens
    page.get_by_role("heading", name="What it is certain of").wait_for(timeout=WAIT)
    page.get_by_role("button", name="Robustness", exact=True).or_(
        page.get_by_role("radio", name="Robustness", exact=True)
    ).first.click(timeout=WAIT)
    page.get_by_role("heading", name="How much does it take to fool it on many photos?").wait_for(timeout=WAIT)
    set_number(page, "Limit", 6)
    set_number(page, "Steps", 2)
    press(page, "Run")
    page.get_by_role("heading", name="Accuracy against the size of the change").wait_for(timeout=WAIT)
    page.get_by_role("heading", name="Most fragile").wait_for(timeout=WAIT)
    page.get_by_role("heading", name="Least fragile").wait_for(timeout=WAIT)
