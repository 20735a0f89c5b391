"""Filters, neighbours and a unit's page in a real browser: clicks, pointing, keys."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import TimeoutError

from tests.browser.conftest import NETWORK, Server
from tests.browser.test_dashboard import WAIT, press, query, quiet, until_run

pytestmark = pytest.mark.browser


def test_a_click_on_a_filter_opens_it(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/filters?network={NETWORK}&photo=sample:cat")
    press(page, "Run")
    until_run(page)
    page.get_by_role("button", name="Open unit 5", exact=True).click(timeout=WAIT)
    page.get_by_role("heading", name="What it answers to the photo").wait_for(timeout=WAIT)
    quiet(page)
    press(page, "Next")
    page.get_by_text(re.compile(r"^Unit 6")).wait_for(timeout=WAIT)
    page.get_by_role("link", name="All about this unit").click()
    page.wait_for_url(re.compile(r"/unit\?"), timeout=WAIT)
    assert (query(page)["layer"], query(page)["unit"]) == ("features.0", "6")


def test_a_click_on_a_channel_shows_it_large(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/activations?network={NETWORK}&photo=sample:cat")
    press(page, "Run")
    until_run(page)
    grid = page.locator(".js-plotly-plot").first
    grid.wait_for(timeout=WAIT)
    quiet(page)
    channel = page.get_by_label(re.compile("^Channel")).first
    assert channel.input_value() == "0"
    place = grid.bounding_box()
    page.mouse.click(place["x"] + 0.52 * place["width"], place["y"] + 0.5 * place["height"])
    page.wait_for_function("field => field.value !== '0'", arg=channel.element_handle(), timeout=WAIT)
    page.locator(".js-plotly-plot").nth(1).wait_for(timeout=WAIT)


@pytest.fixture
def neighbours(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A finished run on the server's own home, over eight small pictures."""
    from PIL import Image

    from fovea.engine.run.execute import execute
    from fovea.engine.run.record import Request
    from fovea.engine.store import Store

    monkeypatch.setenv("FOVEA_HOME", str(server.home))
    rng = np.random.default_rng(0)
    for index in range(8):
        Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((60, 45)).save(
            tmp_path / f"{index}.png"
        )
    options = {"dataset": str(tmp_path), "layer": "features.2", "k": 3}
    record = execute(Request(method="neighbors", network=NETWORK, image="sample:cat", options=options), Store())
    assert record.status == "done", record.error
    return record.id


def test_a_map_shows_the_picture_that_is_pointed_at_and_opens_it(server: Server, page: Any, neighbours: str) -> None:
    page.goto(f"{server.url}/neighbors?network={NETWORK}&photo=sample:cat&run={neighbours}")
    chart = page.locator("[class*=st-key-scatter] .js-plotly-plot")
    chart.wait_for(timeout=WAIT)
    chart.scroll_into_view_if_needed()
    quiet(page)
    # Some point of the chart, wherever the untrained network puts it.
    place = chart.evaluate(
        """plot => { const box = plot.querySelector('.nsewdrag').getBoundingClientRect(), trace = plot._fullData[0];
        return [box.x + plot._fullLayout.xaxis.c2p(trace.x[0]), box.y + plot._fullLayout.yaxis.c2p(trace.y[0])] }"""
    )
    page.mouse.move(place[0] + 30, place[1] + 30)
    page.mouse.move(*place, steps=4)
    page.locator(".fovea-peek").wait_for(state="visible", timeout=WAIT)
    page.mouse.down()
    page.mouse.up()
    press(page, "Ask about this one")
    page.wait_for_function(f"!location.search.includes('{neighbours}')", timeout=WAIT)
    page.get_by_role("heading", name="Nearest by pixels").wait_for(timeout=WAIT)


def test_keys_lead_to_the_next_unit_and_layer(server: Server, page: Any) -> None:
    page.goto(f"{server.url}/unit?network={NETWORK}&photo=sample:cat&layer=features.3.squeeze&unit=3")
    page.get_by_role("heading", name="Pictures of this unit").wait_for(timeout=WAIT)
    quiet(page)
    for keys, wanted in (("ArrowRight", "unit=([4-9]|1[0-5])(&|$)"), ("Shift+ArrowRight", "layer=features.3.squeeze_")):
        # A key that is pressed while the page is still being drawn is nobody's.
        for _ in range(8):
            page.keyboard.press(keys)
            with contextlib.suppress(TimeoutError):
                page.wait_for_function(f"new RegExp({wanted!r}).test(location.search)", timeout=WAIT / 8)
                break
        quiet(page)
    assert query(page)["unit"] == "0"
    assert query(page)["layer"] == "features.3.squeeze_activation"
