"""Fooling images: certain on the saved pixels, by ascent and by evolution, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fovea.engine.errors import FoveaError, OptionsError, UnknownNameError, UnsupportedError
from fovea.engine.make.attack.evolution import _Evolution, evolve, mosaic, patched
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


def red_and_blue(frames: np.ndarray) -> np.ndarray:
    """How red the left half is, and how blue the right one."""
    left, right = frames[:, :, :8].astype(float), frames[:, :, 8:].astype(float)
    red = (left[..., 0] - left[..., 1:].mean(-1)).mean((1, 2)) / 510 + 0.5
    blue = (right[..., 2] - right[..., :2].mean(-1)).mean((1, 2)) / 510 + 0.5
    return np.stack([red, np.zeros(len(frames)), blue], axis=1)


def test_evolution_ends_when_it_is_sure_of_every_class() -> None:
    seen: list[tuple[int, float]] = []
    given: dict[str, Any] = {"population": 16, "generations": 200, "enough": 0.9, "seed": 0}
    found = evolve(
        red_and_blue,
        [2, 0],
        (10, 16),
        3,
        told=lambda generation, best: seen.append((generation, float(best.probabilities.min()))),
        **given,
    )
    assert found.frames.shape == (2, 10, 16, 3)
    assert found.frames.dtype == np.uint8
    assert found.probabilities.min() >= 0.9
    np.testing.assert_array_equal(found.probabilities, red_and_blue(found.frames)[[0, 1], [2, 0]])
    assert seen[-1][0] < 199
    least = [value for _, value in seen]
    assert least == sorted(least)
    again = evolve(red_and_blue, [2, 0], (10, 16), 3, **given)
    np.testing.assert_array_equal(again.frames, found.frames)


def test_a_class_may_take_the_child_of_another() -> None:
    """Nobody works for the second class, whose picture gets better all the same."""

    def ask(frames: np.ndarray) -> np.ndarray:
        red = red_and_blue(frames)[:, 0]
        return np.stack([red, red / 2], axis=1)

    rng = np.random.default_rng(0)
    evolution = _Evolution(ask, [0, 1], rng.integers(0, 256, (5, 10, 16, 3), dtype=np.uint8))
    before = evolution.best.probabilities.copy()
    for _ in range(5):
        evolution.advance(0, 8, rng)
    assert (evolution.best.probabilities > before).all()
    np.testing.assert_array_equal(ask(evolution.best.frames)[[0, 1], [0, 1]], evolution.best.probabilities)


@pytest.mark.parametrize("size", [(10, 16), (5, 3), (64, 1)])
def test_a_patch_changes_one_place(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        parent = rng.integers(0, 256, (*size, channels), dtype=np.uint8)
        before = parent.copy()
        children = [patched(rng, parent) for _ in range(30)]
        np.testing.assert_array_equal(parent, before)
        assert all(child.shape == parent.shape and child.dtype == np.uint8 for child in children)
        assert sum(bool((child != parent).any()) for child in children) > 20


def test_a_mosaic_covers_the_frame() -> None:
    cells = np.arange(4.0).reshape(1, 2, 2, 1) * 60
    assert mosaic(cells, (3, 4))[0, :, :, 0].tolist() == [[0, 0, 60, 60], [0, 0, 60, 60], [120, 120, 180, 180]]


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
