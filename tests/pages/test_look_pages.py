"""The pages of filters, neighbours and units: what is there is shown, what is missing says how to get it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.pages.conftest import NETWORK
from tests.pages.test_pages import lines, press, texts

Open = Callable[..., Any]
LAYER = "features.3.squeeze"


def run(method: str, image: str | None = None, **options: Any) -> str:
    """A finished run."""
    from fovea.engine.run.execute import execute
    from fovea.engine.run.record import Request
    from fovea.engine.store import Store

    record = execute(Request(method=method, network=NETWORK, image=image, options=options), Store())
    assert record.status == "done", record.error
    return record.id


@pytest.fixture(scope="module")
def mined(fovea_home: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of six photos in two labels, one of its layers mined."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("six")
    rng = np.random.default_rng(0)
    for index in range(6):
        path = folder / ("dark" if index % 2 else "light") / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 120 if index % 2 else 256, (40, 50, 3), dtype=np.uint8)).save(path)
    run("patches", dataset=str(folder), layers=LAYER, top=3)
    return str(folder)


def headings(app: Any) -> list[str]:
    return [str(head.value) for head in app.subheader]


def test_filters_say_why_middle_layers_are_hard_to_read(open_page: Open, mined: str) -> None:
    app = open_page("filters", layer="features.3.expand3x3", unit="1", photo="sample:cat")
    press(app, "Run")
    assert not app.exception
    assert not app.error
    assert "Why this is hard to read" in headings(app)
    assert any("Effective filter" in head for head in headings(app))
    assert "the patch that excites that channel most" in texts(app)


def test_filters_of_the_first_layer_with_another_network(open_page: Open) -> None:
    app = open_page("filters", photo="sample:cat")
    app.selectbox(key="option:filters:beside").set_value("torchvision:squeezenet1_1@random")
    press(app.run(), "Run")
    assert not app.exception
    assert not app.error
    assert {"Filters", "features.0 of torchvision:squeezenet1_1@random"} <= set(headings(app))


def test_neighbors_show_both_spaces_the_chart_and_the_map(open_page: Open, mined: str) -> None:
    run_id = run("neighbors", "sample:cat", dataset=mined, k=3, layer="features.2")
    app = open_page("neighbors", photo="sample:cat", run=run_id)
    assert not app.exception
    assert not app.error
    assert {"Nearest by features", "Nearest by pixels", "How well neighbours tell the label"} <= set(headings(app))
    colours = next(one for one in app.button_group if str(one.key).endswith(":colour"))
    assert list(colours.options)[:1] == ["Label"]
    colours.set_value("neighbours").run()
    assert not app.exception


def test_labels_are_those_of_the_data_set(open_page: Open) -> None:
    app = open_page("neighbors", photo="sample:cat")
    assert not app.selectbox(key="option:neighbors:label").disabled
    assert "face" in app.selectbox(key="option:neighbors:label").options


def test_unit_page_shows_what_was_mined_and_asks_for_the_rest(open_page: Open, mined: str) -> None:
    app = open_page("unit", layer=LAYER, unit="2", photo="sample:coffee")
    assert not app.exception
    assert not app.error
    assert f"What excites the units of {LAYER}" in headings(app)
    assert "How strongly it answers" in headings(app)
    asks = [button.key for button in app.button if str(button.key).startswith("unit:ask:")]
    assert {"unit:ask:filters", "unit:ask:ascent", "unit:ask:guided", "unit:ask:activations"} <= set(asks)
    app.button(key="unit:ask:activations").click().run()
    assert not app.exception
    assert "On this photo" in headings(app)
    run("units", layer=LAYER, dataset=mined)
    run("filters", layer=LAYER, unit=2, order="norm")
    again = open_page("unit", layer=LAYER, unit="2", photo="sample:coffee")
    assert {"Alike in weight", "Fire together"} <= set(headings(again))


def test_a_unit_borrows_the_patches_of_the_activation_behind_it(open_page: Open, mined: str) -> None:
    app = open_page("unit", layer="features.3.squeeze_activation", unit="2")
    told = [str(one.value) for one in app.caption]
    assert any(f"patches of {LAYER}, what this ReLU reads" in text for text in told)
    assert "unit:ask:patches" in [button.key for button in app.button]
    expand = [str(one.value) for one in open_page("unit", layer="features.3.expand1x1", unit="2").caption]
    assert not any("the patches of" in text for text in expand)


def test_steps_to_the_next_unit_and_layer(open_page: Open) -> None:
    app = open_page("unit", layer=LAYER, unit="0")
    assert app.button(key="unit:step:Left").disabled
    app.button(key="unit:step:Right").click().run()
    assert app.query_params["unit"] == ["1"] or app.query_params["unit"] == "1"
    app.button(key="unit:step:Shift+Right").click().run()
    assert app.selectbox(key="unit:layer").value == "features.3.squeeze_activation"
    assert app.number_input(key="unit:unit").value == 0
    assert "units 0 to 15" in lines(open_page("unit", layer=LAYER, unit="99"))
