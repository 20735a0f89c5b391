"""Ascent: every preset excites what was asked on every kind of network, and says so of the saved pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import FoveaError, OptionsError, UnknownNameError
from engine.make.ascent import PRESETS, AscentOptions, recipe
from engine.method import Job, Result, find_method
from tests.engine.conftest import TinyNetwork, state_of

Make = Callable[..., Job]


def run(job: Job) -> Result:
    return find_method("ascent").run(job)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_excites_the_class(preset: str, tiny: TinyNetwork, make_job: Make) -> None:
    before = state_of(tiny.torch_module)
    job = make_job("ascent", tiny, target="cup", preset=preset, start="noise", l2=0.0, steps=40, photo=None)
    result = run(job)
    frame = np.asarray(result.images["ascent"])
    height, width = tiny.card.preprocessing.size
    assert frame.shape[:2] == (height, width)
    assert frame.dtype == np.uint8
    curve = result.tables["losses"]
    assert curve["activation"].iloc[-4:].mean() > curve["activation"].iloc[0]
    assert result.arrays["loss"].tolist() == curve["loss"].tolist()
    logits = tiny.torch_module(
        torch.from_numpy(tiny.card.preprocessing.normalise(frame.reshape(height, width, -1))[None])
    )
    assert result.summary["activation"] == pytest.approx(float(logits[0, 2]), abs=1e-5)
    assert result.summary["probability"] == pytest.approx(float(logits.softmax(1)[0, 2]), abs=1e-5)
    assert result.tables["classes"]["probability"].is_monotonic_decreasing
    assert state_of(tiny.torch_module) == before


@pytest.mark.parametrize("position", ["sum", "centre", "3,2"])
def test_a_unit_at_a_position(position: str, tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    net = tiny_networks["wide"]
    job = make_job("ascent", net, layer="conv2", unit=5, position=position, steps=30)
    result = run(job)
    curve = result.tables["losses"]["activation"]
    assert curve.iloc[-4:].mean() > curve.iloc[0]
    assert "activation_on_photo" in result.summary
    assert (result.summary["layer"], result.summary["unit"]) == ("conv2", 5)


@pytest.mark.parametrize("canvas", ["pixels", "fourier"])
@pytest.mark.parametrize("start", ["zero", "noise", "photo"])
def test_every_start_on_every_canvas(
    canvas: str, start: str, tiny_networks: Mapping[str, TinyNetwork], make_job: Make
) -> None:
    job = make_job("ascent", tiny_networks["residual"], target="cat", canvas=canvas, start=start, steps=1)
    made = np.asarray(run(job).images["ascent"]).astype(int)
    if start == "photo":
        assert np.abs(made - job.frame).mean() < 12
    else:
        assert np.abs(made - job.frame).mean() > 12


def test_same_seed_same_bytes(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    def made(seed: int) -> bytes:
        image = run(make_job("ascent", tiny_networks["branching"], target="cup", steps=4, seed=seed)).images["ascent"]
        return np.asarray(image).tobytes()

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_without_a_target_it_takes_the_photos_class(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    net = tiny_networks["functional"]
    job = make_job("ascent", net, steps=1)
    top = int(net.torch_module(torch.from_numpy(job.input)).argmax())
    assert run(job).summary["target"] == net.card.classes[top]
    assert run(make_job("ascent", net, steps=1, photo=None)).summary["target"] == "cat"


def test_a_free_range_is_stretched_and_told(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    job = make_job("ascent", tiny_networks["residual"], target="cat", preset="none", free_range=True, steps=5)
    frame = np.asarray(run(job).images["ascent"])
    assert (frame.min(), frame.max()) == (0, 255)
    assert "stretched" in job.warnings[0]


def test_options_replace_what_the_preset_says() -> None:
    assert recipe(AscentOptions()) == PRESETS["lucid"]
    assert recipe(AscentOptions(preset="simonyan", l2=0.0)).l2 == 0
    assert recipe(AscentOptions(jitter=3)).jitter == 3
    assert recipe(AscentOptions(transforms=False)).transforms is False
    switched = recipe(AscentOptions(preset="yosinski", canvas="fourier"))
    assert (switched.blur, switched.learning_rate) == (0.0, 0.05)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"start": "photo", "photo": None, "target": "cat"}, OptionsError, "there is none"),
        ({"layer": "conv1", "position": "max"}, OptionsError, "moves"),
        ({"layer": "conv1", "position": "40,0"}, OptionsError, "16 rows"),
        ({"layer": "conv1", "unit": 99}, UnknownNameError, "0 to 7"),
        ({"layer": "conv1", "target": "cat"}, OptionsError, "not both"),
        ({"target": "dogg"}, UnknownNameError, "dog"),
        ({"free_range": True}, OptionsError, "pixels"),
        ({"blur": 1.0}, OptionsError, "pixels"),
        ({"steps": 0}, OptionsError, "steps"),
    ],
)
def test_wrong_options_get_one_line(
    given: dict[str, Any], error: type[FoveaError], says: str, make_job: Make, tiny_networks: Mapping[str, TinyNetwork]
) -> None:
    with pytest.raises(error, match=says) as caught:
        run(make_job("ascent", tiny_networks["functional"], **given))
    assert "\n" not in str(caught.value)
