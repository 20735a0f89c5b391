"""One's own weights, from a file to a picture, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Server
from tests.browser.test_dashboard import WAIT, press, query, set_number, until_run, upload

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """squeezenet1_1 with a head of four classes, their names, and what is neither."""
    import fovea.models.torchvision_compat  # noqa: F401 - before torchvision

    import torchvision  # isort: skip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision.models.squeezenet1_1(weights=None, num_classes=4)
    save_file(network.state_dict(), folder / "four classes.safetensors")
    (folder / "classes.txt").write_text("cat\ndog\nbird\nboat\n")
    (folder / "two.txt").write_text("cat\ndog\n")
    return folder


def fill(page: Any, name: str, weights: Path, classes: Path) -> None:
    """Fill the form and press its button."""
    page.get_by_role("tab", name="Add").click()
    field = page.get_by_label("Name", exact=True)
    field.fill(name)
    field.press("Tab")
    box = page.get_by_role("combobox", name="Architecture")
    box.click()
    box.fill("torchvision:squeezenet1_1")
    page.get_by_role("option", name="torchvision:squeezenet1_1", exact=True).click()
    for place, file in enumerate((weights, classes)):
        upload(page, page.locator("input[type=file]").nth(place), file)
        page.get_by_test_id("stFileChip").nth(place).wait_for()
        page.get_by_test_id("stFileChipIconSpinner").wait_for(state="detached")
    press(page, "Add the network")


def test_uploaded_weights_are_looked_at(server: Server, page: Any, files: Path) -> None:
    page.goto(f"{server.url}/networks?network=fovea&photo=sample:face")
    fill(page, "fourclasses", files / "four classes.safetensors", files / "two.txt")
    page.get_by_text(re.compile("4 scores, but 2 class names were given")).wait_for(timeout=WAIT)

    page.reload()
    fill(page, "fourclasses", files / "four classes.safetensors", files / "classes.txt")
    page.get_by_text("fourclasses is registered").wait_for(timeout=WAIT)
    press(page, "Use it")
    page.wait_for_url(re.compile("network=fourclasses"), timeout=WAIT)
    page.locator(".fovea-bar").nth(3).wait_for(timeout=WAIT)

    page.goto(f"{server.url}/occlusion?network=fourclasses&photo=sample:face")
    set_number(page, "Window", 112)
    set_number(page, "Stride", 56)
    press(page, "Run")
    until_run(page)
    page.locator(".js-plotly-plot").first.wait_for(timeout=WAIT)

    page.goto(f"{server.url}/activations?network=fourclasses&photo=sample:face")
    press(page, "Run")
    until_run(page)
    page.locator(".js-plotly-plot").first.wait_for(timeout=WAIT)
    assert query(page)["network"] == "fourclasses"
