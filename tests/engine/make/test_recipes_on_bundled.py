"""What the recipes must reach on the bundled network and the packages' photos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fovea.engine.data.photos import open_photo
from fovea.engine.method import Job, Result, find_method


@pytest.fixture(scope="module")
def fovea() -> Any:
    """The bundled network."""
    from fovea.models.bundled.net import WEIGHTS
    from fovea.models.zoo import load

    if not WEIGHTS.is_file():
        pytest.skip("the bundled network's weights are not there")
    return load("fovea")


def run(method: str, network: Any, options: Mapping[str, Any], photo: str = "") -> tuple[Job, Result]:
    found = find_method(method)
    parsed = found.options.parse(options)
    found.verify(network.card, parsed)
    job = Job(network=network, options=parsed, photo=open_photo(photo) if photo else None, open_photo=open_photo)
    return job, found.run(job)


@pytest.mark.parametrize("target", ["sunflower", "motorbike"])
def test_ascent_on_a_class_makes_it_the_top_one(target: str, fovea: Any, tmp_path: Path) -> None:
    """Asked of the PNG, at its own size, with range and normalisation only."""
    job, result = run("ascent", fovea, {"target": target, "steps": 128})
    Image.fromarray(np.asarray(result.images["ascent"])).save(tmp_path / "ascent.png")
    with Image.open(tmp_path / "ascent.png") as picture:
        values = fovea.card.preprocessing.normalise(np.asarray(picture))
    seen = fovea.module()(torch.from_numpy(values[None])).softmax(1)[0]
    assert fovea.card.classes[int(seen.argmax())] == target
    assert float(seen.max()) == pytest.approx(result.summary["probability"], abs=1e-4)
    assert result.summary["top_class"] == target
    assert result.summary["probability"] > 0.9
    assert job.warnings == []
    activation = result.tables["losses"]["activation"]
    assert activation.iloc[-8:].mean() > 3 * activation.iloc[0]


@pytest.mark.parametrize("photo", ["sample:coffee", "sample:cat"])
def test_inversion_forgets_with_depth(photo: str, fovea: Any) -> None:
    _, result = run("inversion", fovea, {"layers": "stem,stage2,stage4", "steps": 60}, photo)
    table = result.tables["layers"]
    assert table["ssim"].iloc[0] > 0.9
    assert table["photo_error"].is_monotonic_increasing
    assert table["ssim"].is_monotonic_decreasing
    assert table["feature_error"].max() < 0.35


def test_texture_matches_the_photos_statistics(fovea: Any) -> None:
    options = {"height": 80, "width": 96, "patch": 128, "steps": 60, "sizes": 2, "scales": 2, "series": False}
    assert run("texture", fovea, options, "sample:brick")[1].summary["of_start"] < 0.01


def test_style_is_matched_and_content_kept(fovea: Any) -> None:
    losses = run("style", fovea, {"size": 128, "steps": 50}, "sample:coffee")[1].tables["losses"]
    styles = [column for column in losses.columns if column.startswith("style ")]
    assert losses[styles].iloc[-1].sum() < 0.05 * losses[styles].iloc[0].sum()
    (content,) = (column for column in losses.columns if column.startswith("content "))
    assert losses[content].iloc[-1] < 0.7  # of the content's own energy; another photo is at 1 and more


def test_a_dream_raises_the_layer(fovea: Any) -> None:
    options = {"layer": "stage3", "octaves": 1, "size": 128}
    losses = run("dream", fovea, options, "sample:coffee")[1].tables["losses"]
    assert losses["energy"].iloc[-1] > 1.5 * losses["energy"].iloc[0]


@pytest.mark.parametrize("attack", ["pgd", "bim", "deepfool"])
def test_a_motorbike_is_none_any_more(attack: str, fovea: Any) -> None:
    summary = run("adversarial", fovea, {"attack": attack}, "sample:motorcycle")[1].summary
    assert summary["before"] == "motorbike"
    assert summary["fooled"]
    if attack != "deepfool":
        assert summary["linf_levels"] <= 8
    else:
        assert summary["l2"] < 3


def test_saliency_and_gradcam_lie_on_the_motorbike(fovea: Any) -> None:
    for method, array in (("gradcam", "gradcam"), ("saliency", "saliency")):
        heat = run(method, fovea, {"target": "motorbike"}, "sample:motorcycle")[1].arrays[array]
        ys, _ = np.indices(heat.shape)
        centre = float((ys * heat).sum() / heat.sum())
        assert 0.3 * heat.shape[0] < centre < 0.8 * heat.shape[0]
