"""Inversion, texture and style in full: series, tiling, blends, grids, kept colours, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fovea.engine.errors import FoveaError, OptionsError
from fovea.engine.make.inversion import InversionOptions, regularisers
from fovea.engine.make.match.style_options import StyleOptions, shares
from fovea.engine.make.optimise import memory
from fovea.engine.make.optimise.layers import texture_layers
from fovea.engine.make.style import sizes_to
from fovea.engine.make.texture import TextureOptions, coarse_to_fine
from fovea.engine.method import Job, Result, find_method
from fovea.models.card import OUTPUT
from tests.networks.tiny import TinyNetwork

Make = Callable[..., Job]
TEXTURE: dict[str, Any] = {"height": 48, "width": 64, "patch": 64, "steps": 20, "sizes": 1, "scales": 1}
STYLE: dict[str, Any] = {"size": 48, "steps": 4, "smallest": 48, "scales": 1, "style": "red"}


def painting(reference: str) -> Image.Image:
    """Stripes of the colour that is asked for."""
    pixels = np.zeros((50, 60, 3), np.uint8)
    pixels[:, ::4] = {"red": (220, 10, 10), "blue": (10, 10, 220)}[reference]
    pixels[::3, :, 1] = 90
    return Image.fromarray(pixels)


def run(name: str, job: Job) -> Result:
    return find_method(name).run(job)


@pytest.fixture
def residual(tiny_networks: Mapping[str, TinyNetwork]) -> TinyNetwork:
    return tiny_networks["residual"]


def test_the_presets_weigh_by_depth_and_a_number_wins(residual: TinyNetwork) -> None:
    first, last = residual.card.layers[0], residual.card.layers[-1]
    paper = InversionOptions(preset="mahendran")
    assert regularisers(residual.card, first, paper) == (0.009, 0.5)
    assert regularisers(residual.card, last, paper) == (0.009, 50.0)
    assert regularisers(residual.card, last, InversionOptions(preset="none", total_variation=2.0)) == (0.0, 2.0)


def test_a_tile_meets_itself_at_its_edges(make_job: Make, residual: TinyNetwork) -> None:
    def seam(tileable: bool) -> float:
        given = TEXTURE | {"steps": 16, "series": False, "tileable": tileable, "match_colours": False}
        pixels = np.asarray(run("texture", make_job("texture", residual, **given)).images["texture"]).astype(float)
        inside = np.abs(np.diff(pixels, axis=1)).mean()
        return float(np.abs(pixels[:, 0] - pixels[:, -1]).mean() / inside)

    assert seam(True) < 1.3


def test_the_series_adds_one_layer_at_a_time(make_job: Make, residual: TinyNetwork) -> None:
    result = run("texture", make_job("texture", residual, **(TEXTURE | {"steps": 2})))
    names = [layer.name for layer in texture_layers(residual.card)]
    wanted = ["photo", "no layer", *(f"up to {name}" for name in names)]
    assert result.tables["depths"]["layers"].tolist() == wanted
    assert np.asarray(result.images["depths"]).shape == (32, 32 * len(wanted), 3)
    assert isinstance(result.images["growth.gif"], bytes)


@pytest.mark.parametrize("statistics", ["centred", "wasserstein"])
def test_other_statistics_are_matched_too(statistics: str, make_job: Make, residual: TinyNetwork) -> None:
    given = TEXTURE | {"statistics": statistics, "series": False, "steps": 20, "layers": "relu,relu#2"}
    losses = run("texture", make_job("texture", residual, **given)).tables["losses"]
    assert losses[["relu", "relu#2"]].iloc[-1].sum() < 0.5 * losses[["relu", "relu#2"]].iloc[0].sum()


def test_sizes_grow_to_the_last() -> None:
    import torch

    assert sizes_to(512, 128) == [128, 181, 256, 362, 512]
    assert sizes_to(64, 128) == [64]
    stages = coarse_to_fine(torch.zeros(1, 3, 128, 160), 100, 140, 3)
    assert [(tuple(source.shape[-2:]), height, width) for source, height, width in stages] == [
        ((64, 80), 50, 70),
        ((128, 160), 100, 140),
    ]


def test_shares_are_parts_of_one() -> None:
    blend = shares(StyleOptions(style="a", second_style="b", second_share=0.25, third_style="c", third_share=0.25))
    assert blend == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25})
    assert shares(StyleOptions(style="a", second_style="a")) == {"a": 1.0}
    assert sum(shares(StyleOptions(style="a", second_style="b", second_share=1.0)).values()) == pytest.approx(1)


def test_two_styles_are_blended(make_job: Make, residual: TinyNetwork) -> None:
    def redness(**given: Any) -> float:
        options = STYLE | {"content_weight": 0.01, "steps": 10} | given
        pixels = np.asarray(run("style", make_job("style", residual, open_photo=painting, **options)).images["style"])
        return float(pixels[..., 0].mean() - pixels[..., 2].mean())

    red, blue = redness(), redness(style="blue")
    assert blue < redness(second_style="blue") < red


def test_a_grid_shows_every_pair_of_weights(make_job: Make, residual: TinyNetwork) -> None:
    job = make_job("style", residual, open_photo=painting, **(STYLE | {"grid": True, "steps": 2}))
    result = run("style", job)
    assert len(result.tables["grid"]) == 9
    assert np.asarray(result.images["grid"]).shape == (96, 96, 3)
    assert result.tables["grid"]["content"].iloc[-1] == "content 2.4"
    assert result.tables["grid"]["style"].iloc[-1] == "style 12"


def test_the_contents_colours_are_kept_by_histogram(make_job: Make, residual: TinyNetwork) -> None:
    def mean(colours: str) -> Any:
        options = STYLE | {"colours": colours, "content_weight": 0.01, "steps": 10}
        result = run("style", make_job("style", residual, open_photo=painting, **options))
        made, content = (np.asarray(result.images[name]).astype(float) for name in ("style", "content_photo"))
        return np.abs(made.mean((0, 1)) - content.mean((0, 1))).max()

    assert mean("histogram") < 0.5 * mean("style")


@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
def test_recomputation_gives_the_same_bytes(optimiser: str, make_job: Make, residual: TinyNetwork) -> None:
    def picture(recompute: str) -> bytes:
        options = STYLE | {"recompute": recompute, "optimiser": optimiser, "smallest": 32}
        result = run("style", make_job("style", residual, open_photo=painting, **options))
        return np.asarray(result.images["style"]).tobytes()

    assert picture("always") == picture("never")


def test_what_does_not_fit_is_told_before_it_starts(
    make_job: Make, residual: TinyNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = memory.step_bytes(residual.card, ["conv"], 32, 32)
    monkeypatch.setattr(memory, "free_bytes", lambda device="cpu": needs * 16)
    for name, given in (("texture", {"height": 500, "width": 600}), ("style", {"size": 900, "style": "red"})):
        with pytest.raises(OptionsError, match="the largest that fits") as told:
            run(name, make_job(name, residual, open_photo=painting, **given))
        assert "\n" not in str(told.value)
    monkeypatch.setattr(memory, "free_bytes", lambda device="cpu": 1000)
    with pytest.raises(OptionsError, match="GB"):
        make_job("inversion", residual, layers="relu")
    assert memory.step_bytes(residual.card, [OUTPUT], 32, 32) >= needs


def test_a_photo_too_small_is_one_line(make_job: Make, residual: TinyNetwork) -> None:
    small = Image.new("RGB", (60, 9))
    for name in ("inversion", "texture", "style"):
        with pytest.raises(FoveaError, match="at least 16 x 16 pixels, and this one has 60 x 9") as told:
            run(name, make_job(name, residual, photo=small, open_photo=painting, **(STYLE if name == "style" else {})))
        assert "\n" not in str(told.value)


def test_the_defaults_are_those_of_the_papers() -> None:
    assert TextureOptions().statistics == "gatys"
    assert TextureOptions().pooling == "average"
    assert StyleOptions().smallest == 128
    assert StyleOptions().learning_rate == 0.02


def test_light_alone_needs_three_channels(make_job: Make, tiny_networks: Mapping[str, TinyNetwork]) -> None:
    with pytest.raises(OptionsError, match="luminance needs"):
        run("style", make_job("style", tiny_networks["grey"], colours="luminance"))
