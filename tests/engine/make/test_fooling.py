"""Fooling images: certain on the saved pixels, by ascent and by evolution, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fovea.engine.errors import FoveaError, OptionsError, UnknownNameError, UnsupportedError
from fovea.engine.method import Job, Result, find_method
from tests.networks.tiny import TinyNetwork, tiny_network

Make = Callable[..., Job]


class Colours(nn.Module):
    """Classes of mean colours, so sure of itself that some picture is certain."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 16, 3, bias=False)
        with torch.no_grad():
            self.fc.weight.copy_(torch.eye(3).repeat_interleave(16, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1))
        return out


@pytest.fixture(scope="module")
def colours() -> TinyNetwork:
    return tiny_network("colours", Colours(), (16, 24), classes=("red", "green", "blue, mostly"))


def run(job: Job) -> Result:
    return find_method("fooling").run(job)


def test_ascent_is_certain_on_the_saved_pixels(colours: TinyNetwork, make_job: Make) -> None:
    result = run(make_job("fooling", colours, photo=None, steps=60))
    assert result.summary["fooled"] == result.summary["classes"] == 3
    for index in range(3):
        pixels = np.asarray(result.images[f"fooling_{index}"])
        assert pixels.dtype == np.uint8
        assert pixels.shape == (16, 24, 3)
        x = torch.from_numpy(colours.card.preprocessing.normalise(pixels)[None])
        found = float(colours.torch_module(x)[0].softmax(0)[index])
        assert found > 0.99
        assert found == pytest.approx(result.tables["classes"]["probability"][index], abs=1e-5)
    again = run(make_job("fooling", colours, photo=None, steps=60))
    assert np.asarray(again.images["fooling"]).tobytes() == np.asarray(result.images["fooling"]).tobytes()


def test_a_list_of_classes_makes_the_grid(colours: TinyNetwork, make_job: Make) -> None:
    result = run(make_job("fooling", colours, photo=None, classes="2, red", steps=1))
    assert result.tables["classes"]["class"].tolist() == ["blue, mostly", "red"]
    alone = run(make_job("fooling", colours, photo=None, classes="blue, mostly", steps=1))
    assert alone.tables["classes"]["index"].tolist() == [2]


def test_what_is_not_reached_is_told(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    job = make_job("fooling", tiny_networks["wide"], photo=None, steps=1, classes="0,1")
    result = run(job)
    assert result.summary["fooled"] < 2
    assert any("did not reach 0.99" in line for line in job.warnings)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"classes": "kat"}, UnknownNameError, "cat"),
        ({"classes": "9"}, UnknownNameError, "classes 0 to 4"),
        ({"confidence": 1.0}, OptionsError, "confidence"),
        ({"way": "magic"}, OptionsError, "ascent"),
    ],
)
def test_wrong_options_get_one_line(
    given: dict[str, Any], error: type[FoveaError], says: str, make_job: Make, tiny_networks: Mapping[str, TinyNetwork]
) -> None:
    with pytest.raises(error, match=says) as caught:
        run(make_job("fooling", tiny_networks["functional"], photo=None, **given))
    assert "\n" not in str(caught.value)


def test_a_network_without_classes_is_refused(make_job: Make) -> None:
    features = tiny_network("features", nn.Sequential(nn.Conv2d(3, 4, 3)), output="features", classes=())
    with pytest.raises(UnsupportedError, match="no classes"):
        make_job("fooling", features, photo=None)
