"""DeepDream, inversion, texture and style: each lowers its loss, saves what it says, and repeats itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fovea.engine.errors import FoveaError, NetworkError, OptionsError, UnknownNameError, UnsupportedError
from fovea.engine.make.match.colours import matched_colours, matched_histogram, with_colours_of
from fovea.engine.make.optimise.layers import layer_at, named_layers, series, stage_layers, texture_layers
from fovea.engine.make.optimise.picture_size import features_of
from fovea.engine.method import Job, Result, find_method
from tests.networks.tiny import TinyNetwork, state_of, tiny_network

Make = Callable[..., Job]

SMALL: dict[str, dict[str, Any]] = {
    "dream": {"size": 40, "steps": 3, "octaves": 2, "jitter": 4},
    "inversion": {"steps": 6, "series": 2},
    "texture": {"height": 40, "width": 36, "patch": 40, "steps": 4, "sizes": 1, "scales": 1, "series": False},
    "style": {"size": 48, "steps": 3, "smallest": 34, "scales": 1, "style": "other"},
}


def stripes(reference: str) -> Image.Image:
    """Another photo: red and blue stripes."""
    pixels = np.zeros((50, 60, 3), np.uint8)
    pixels[:, ::4, 0], pixels[::3, :, 2] = 220, 200
    return Image.fromarray(pixels)


def run(name: str, job: Job) -> Result:
    return find_method(name).run(job)


@pytest.mark.parametrize("name", SMALL)
def test_every_network_gives_the_picture_and_is_left_as_it_was(name: str, tiny: TinyNetwork, make_job: Make) -> None:
    before = state_of(tiny.torch_module)
    result = run(name, make_job(name, tiny, open_photo=stripes, **SMALL[name]))
    assert np.asarray(result.images[name]).dtype == np.uint8
    assert result.arrays["loss"].tolist() == result.tables["losses"]["loss"].tolist()
    assert np.isfinite(result.arrays["loss"]).all()
    assert state_of(tiny.torch_module) == before
    again = run(name, make_job(name, tiny, open_photo=stripes, **SMALL[name]))
    assert np.asarray(again.images[name]).tobytes() == np.asarray(result.images[name]).tobytes()


def test_inversion_says_how_near_it_came(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    net = tiny_networks["functional"]
    result = run("inversion", make_job("inversion", net, layers="conv1,conv2", steps=60, preset="none"))
    table = result.tables["layers"]
    assert table["layer"].tolist() == ["conv1", "conv2"]
    assert table["ssim"].iloc[0] > 0.5
    assert table["feature_error"].max() < 0.2, "a step of L-BFGS that went astray must not be the last one"
    assert table["photo_error"].is_monotonic_increasing
    assert np.asarray(result.images["inversion_1"]).shape == (32, 32, 3)
    assert np.asarray(result.images["inversion"]).shape == (32, 96, 3)


@pytest.mark.parametrize("optimiser", ["adam", "lbfgs"])
def test_texture_takes_on_the_photos_statistics(
    optimiser: str, tiny_networks: Mapping[str, TinyNetwork], make_job: Make
) -> None:
    given = {
        "height": 40,
        "width": 56,
        "patch": 52,
        "steps": 40,
        "sizes": 1,
        "scales": 1,
        "series": False,
        "match_colours": True,
    }
    job = make_job("texture", tiny_networks["residual"], optimiser=optimiser, **given)
    result = run("texture", job)
    assert np.asarray(result.images["texture"]).shape == (40, 56, 3)
    loss = result.arrays["loss"]
    assert loss[-1] < 0.5 * loss[0]
    for channel in range(3):
        made, photo = (np.asarray(result.images[name])[..., channel] for name in ("texture", "patch"))
        assert abs(float(made.mean()) - float(photo.mean())) < 1


def test_style_weighs_content_against_style(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    net = tiny_networks["residual"]

    def final(**weights: float) -> tuple[float, float]:
        options = {"size": 48, "steps": 25, "smallest": 48, "scales": 1, "style": "x", "start": "noise"} | weights
        losses = run("style", make_job("style", net, open_photo=stripes, **options)).tables["losses"].iloc[-1]
        content = sum(value for name, value in losses.items() if str(name).startswith("content"))
        return content, sum(value for name, value in losses.items() if str(name).startswith("style"))

    content_first, style_first = final(content_weight=2.0, style_weight=0.02), final(content_weight=0.02)
    assert content_first[0] < style_first[0]
    assert content_first[1] > style_first[1]


def test_style_keeps_the_contents_colours(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    job = make_job("style", tiny_networks["residual"], open_photo=stripes, colours="luminance", **SMALL["style"])
    result = run("style", job)
    made = np.asarray(Image.fromarray(np.asarray(result.images["style"])).convert("YCbCr")).astype(int)
    content = np.asarray(Image.fromarray(np.asarray(result.images["content_photo"])).convert("YCbCr")).astype(int)
    assert np.abs(made - content)[..., 1:].mean() < 6
    grey = np.zeros((4, 4, 1), np.uint8)
    assert with_colours_of(grey, grey) is grey


def test_a_histogram_is_matched_by_rank() -> None:
    pixels = np.array([[[10], [200]], [[50], [60]]], np.uint8)
    reference = np.array([[[0], [1]], [[2], [3]]], np.uint8)
    assert matched_histogram(pixels, reference)[..., 0].tolist() == [[0, 3], [1, 2]]


def test_colours_are_matched_and_grey_stays_grey() -> None:
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(40, 200, (20, 20, 1), dtype=np.uint8), 3, axis=-1)
    made = matched_colours(rng.integers(0, 256, (30, 25, 3), dtype=np.uint8), grey).astype(int)
    assert np.abs(made - made.mean(-1, keepdims=True)).mean() < 3
    assert abs(made.mean() - grey.mean()) < 1


def test_default_layers_come_from_the_card(tiny_networks: Mapping[str, TinyNetwork]) -> None:
    card = tiny_networks["functional"].card
    assert [layer.name for layer in stage_layers(card)] == ["conv1", "conv2", "conv3"]
    assert layer_at(card, 0.5).name == "conv2"
    assert [layer.name for layer in series(card, 2)] == ["conv1", "conv3"]
    assert [layer.name for layer in series(card, 9)] == ["conv1", "conv2", "conv3"]
    names = [layer.name for layer in texture_layers(card)]
    assert names[0] == "conv1"
    named = [layer.name for layer in named_layers(card, ("conv3", "conv1", "conv3"), [])]
    assert named == ["conv1", "conv3"], "each once, in forward order"


def test_a_plain_chain_is_matched_where_it_pools_as_gatys_did() -> None:
    parts = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    parts += [nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()]
    card = tiny_network("chain", nn.Sequential(*parts, nn.AvgPool2d(2)), output="features", classes=()).card
    assert [layer.name for layer in texture_layers(card)] == ["1", "2", "5", "8"]


def test_too_little_memory_is_not_told_as_a_wrong_size(make_job: Make) -> None:
    class Greedy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            if x.shape[-1] > 32:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return self.conv(x).mean((2, 3))

    net = tiny_network("greedy", Greedy(), output="features", classes=())
    with pytest.raises(NetworkError, match="memory is too small for one pass at 40 x 40 pixels"):
        features_of(make_job("dream", net), torch.zeros(1, 3, 40, 40), ["conv"])


class Fixed(nn.Module):
    """A network that takes its own input size only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.last = nn.Conv2d(4, 4, 16)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Any) -> Any:
        if x.shape[-1] != 32:
            raise RuntimeError("expected 32 x 32")
        return self.fc(self.last(self.conv(x).relu()).flatten(1))


@pytest.mark.parametrize(
    ("name", "given", "error", "says"),
    [
        ("inversion", {"layers": "conv1,nothing"}, UnknownNameError, "nothing"),
        ("inversion", {"photo": None}, OptionsError, "photo"),
        ("texture", {"layers": "fc"}, UnsupportedError, "maps"),
        ("texture", {"steps": 0}, OptionsError, "steps"),
        ("style", {"content_weight": 0, "style_weight": 0}, OptionsError, "nothing would be made"),
        ("style", {"content_layer": "fc"}, UnsupportedError, "maps"),
        ("style", {"style": ""}, OptionsError, "style"),
    ],
)
def test_wrong_options_get_one_line(
    name: str,
    given: dict[str, Any],
    error: type[FoveaError],
    says: str,
    make_job: Make,
    tiny_networks: Mapping[str, TinyNetwork],
) -> None:
    with pytest.raises(error, match=says) as caught:
        run(name, make_job(name, tiny_networks["functional"], open_photo=stripes, **given))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["dream", "texture", "style"])
def test_a_network_of_one_size_says_so(name: str, make_job: Make) -> None:
    net = tiny_network("fixed", Fixed())
    with pytest.raises(UnsupportedError, match="does not take pictures of") as caught:
        run(name, make_job(name, net, open_photo=stripes, **SMALL[name]))
    assert "32 x 32" in str(caught.value)


def test_a_network_without_maps_is_refused(make_job: Make) -> None:
    flat = tiny_network("flat", nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)))
    for name in SMALL:
        with pytest.raises(UnsupportedError, match="maps"):
            make_job(name, flat)


class Overflows(nn.Module):
    """Gives NaN for pictures over 100 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = x * float("nan") if x.shape[-1] > 100 else x
        return self.relu(self.conv(x)).mean((2, 3))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("dream", {"size": 110, "octaves": 2, "octave_scale": 1.5, "steps": 2, "layer": "relu"}),
        ("style", {"size": 110, "smallest": 64, "steps": 4, "scales": 1, "style": "other"}),
        ("texture", {"height": 128, "width": 128, "patch": 90, "sizes": 2, "scales": 1, "steps": 4, "series": False}),
    ],
)
def test_a_network_that_overflows_at_a_large_size_leaves_what_was_made_before(
    make_job: Make, method: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    net = tiny_network("overflows", Overflows(), output="features", classes=())
    job = make_job(method, net, open_photo=stripes, **options)
    result = run(method, job)
    assert any("was not finite" in line for line in job.warnings)
    assert not result.tables["losses"].empty
    assert np.isfinite(result.arrays["loss"]).all()
