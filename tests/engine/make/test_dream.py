"""DeepDream: layers, units and guides, octaves, and tiles that change nothing but the memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fovea.engine.errors import FoveaError, ImageError, OptionsError, UnknownNameError, UnsupportedError
from fovea.engine.make.dream import octave_sizes
from fovea.engine.make.optimise import folded_network, loop, memory, optimisers
from fovea.engine.make.optimise.canvas import PixelCanvas
from fovea.engine.make.optimise.losses import LayerEnergy, UnitActivation, ascend
from fovea.engine.method import Job, Result, find_method
from fovea.models.torch_net import forward_taps
from tests.networks.tiny import TinyNetwork, tiny_network

Make = Callable[..., Job]


def stripes(reference: str) -> Image.Image:
    """Another photo: red and blue stripes."""
    pixels = np.zeros((50, 60, 3), np.uint8)
    pixels[:, ::4, 0], pixels[::3, :, 2] = 220, 200
    return Image.fromarray(pixels)


def run(job: Job) -> Result:
    return find_method("dream").run(job)


@pytest.mark.parametrize("given", [{}, {"unit": 3}, {"guide": "other"}])
def test_it_raises_what_it_should_and_keeps_the_photos_shape(
    given: dict[str, Any], tiny_networks: Mapping[str, TinyNetwork], make_job: Make
) -> None:
    net = tiny_networks["functional"]
    job = make_job("dream", net, layer="conv2", size=52, steps=8, octaves=1, open_photo=stripes, **given)
    result = run(job)
    assert np.asarray(result.images["dream"]).shape == (40, 52, 3)
    name = {"unit": "activation", "guide": "similarity"}.get(next(iter(given), ""), "energy")
    curve = result.tables["losses"][name]
    assert curve.iloc[-1] > curve.iloc[0]
    assert result.summary[name] == curve.iloc[-1]


def test_lower_and_higher_layers_side_by_side(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    net = tiny_networks["functional"]
    result = run(make_job("dream", net, size=64, steps=3, octaves=2))
    losses = result.tables["losses"]
    lower, higher = losses["layer"].unique()
    names = [layer.name for layer in net.card.layers]
    assert names.index(lower) < names.index(higher)
    assert len(losses) == 2 * 2 * 3
    assert result.summary["layers"] == f"{lower}, {higher}"
    assert [panel.title for panel in result.panels][:2] == [
        f"What {lower} dreams of this photo",
        f"What {higher} dreams of this photo",
    ]
    assert np.array_equal(result.images["dream"], result.images["dream_2"])
    assert not np.array_equal(result.images["dream"], result.images["dream_1"])
    alone = run(make_job("dream", net, layer=higher, size=64, steps=3, octaves=2))
    assert np.array_equal(alone.images["dream"], result.images["dream"])
    named = run(make_job("dream", net, layers=f"{higher},{lower}", size=64, steps=3, octaves=2))
    assert np.array_equal(named.images["dream_2"], result.images["dream_2"]), "shallow to deep, whatever order is named"
    with Image.open(io.BytesIO(result.images["dream.gif"])) as gif:  # type: ignore[arg-type]
        assert gif.n_frames == 7


def test_octaves_are_whole_sizes_small_to_large() -> None:
    assert octave_sizes(140, 280, 3, 1.4, 32) == [(71, 143), (100, 200), (140, 280)]
    assert octave_sizes(40, 40, 4, 1.4, 32) == [(40, 40)]


class Pools(nn.Module):
    """Takes nothing under 48 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5, 4)
        self.pool = nn.AvgPool2d(11)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(self.conv(x)).flatten(1)[:, :4]
        return out


def test_octaves_that_the_network_refuses_are_left_out_and_told(make_job: Make) -> None:
    net = tiny_network("pools", Pools(), (64, 64), classes=(), output="features")
    job = make_job("dream", net, layer="pool", size=80, steps=1, octaves=4)
    result = run(job)
    assert result.tables["losses"]["octave"].max() == 0
    assert any("does not take pictures as small" in line for line in job.warnings)


def test_tiles_are_about_equal_and_cover_the_picture() -> None:
    seen = np.zeros((100, 35), int)
    for rows, columns in loop.tiles(100, 35, 32):
        seen[rows, columns] += 1
        assert 17 <= columns.stop - columns.start <= 18
        assert rows.stop - rows.start == 25
    assert (seen == 1).all()


def test_a_step_by_tiles_is_the_whole_pictures_where_no_window_crosses_them(make_job: Make) -> None:
    """Windows of 4 on tiles of 8: each tile's gradient is that of the whole picture."""
    torch.manual_seed(0)
    net = tiny_network(
        "windows", nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU()), (16, 24), classes=(), output="features"
    )
    start, layer = torch.rand(1, 3, 16, 24), net.card.layer("1")
    for term in (ascend("energy", LayerEnergy(layer)), ascend("unit", UnitActivation(layer, 1, "mean"))):
        made = [
            loop.optimise(
                make_job("dream", net, layer="1"),
                PixelCanvas(start),
                [term],
                steps=3,
                optimiser=optimisers.gradient_steps(0.01),
                settings=loop.LoopSettings(tile=tile),
            )
            for tile in (None, 8)
        ]
        torch.testing.assert_close(made[1].picture, made[0].picture, atol=1e-5, rtol=1e-4)
        np.testing.assert_allclose(made[1].losses["loss"], made[0].losses["loss"], rtol=1e-4)


def test_the_network_sees_no_more_than_a_tile(make_job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny_network("one", nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), classes=(), output="features")
    seen: list[tuple[int, ...]] = []

    def watched(module: nn.Module, x: Tensor, taps: Any) -> dict[str, Tensor]:
        seen.append(tuple(x.shape[-2:]))
        return forward_taps(module, x, taps)

    monkeypatch.setattr(folded_network, "forward_taps", watched)
    result = run(make_job("dream", net, layer="1", size=200, tile_side=64, steps=2, octaves=2))
    assert max(max(shape) for shape in seen) <= 64
    curve = result.tables["losses"].query("octave == 1")["energy"]
    assert curve.iloc[-1] > curve.iloc[0]


def test_sizes_beyond_memory_are_told(
    make_job: Make, tiny_networks: Mapping[str, TinyNetwork], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device="cpu": 20_000_000)
    with pytest.raises(OptionsError, match="the largest that fits"):
        run(make_job("dream", tiny_networks["functional"], size=2000))


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"layer": "conv9"}, UnknownNameError, "conv1"),
        ({"unit": 3}, OptionsError, "of which layer"),
        ({"photo": None}, OptionsError, "photo"),
        ({"photo": Image.new("RGB", (40, 9))}, ImageError, "at least 16 x 16"),
        ({"layer": "conv1", "layers": "conv2"}, OptionsError, "not both"),
        ({"layers": "conv1,fc"}, UnsupportedError, "maps"),
        ({"layer": "conv1", "unit": 1, "guide": "other"}, OptionsError, "not both"),
    ],
)
def test_wrong_options_get_one_line(
    given: dict[str, Any], error: type[FoveaError], says: str, make_job: Make, tiny_networks: Mapping[str, TinyNetwork]
) -> None:
    with pytest.raises(error, match=says) as caught:
        run(make_job("dream", tiny_networks["functional"], **given))
    assert "\n" not in str(caught.value)
