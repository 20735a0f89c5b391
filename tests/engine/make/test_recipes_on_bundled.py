"""What the recipes must reach on the bundled network and the packages' photos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from engine.image import open_photo
from engine.method import Job, Result, find_method


@pytest.fixture(scope="module")
def fovea() -> Any:
    """The bundled network."""
    from models.bundled.net import WEIGHTS
    from models.zoo import load

    if not WEIGHTS.is_file():
        pytest.skip("the bundled network's weights are not there")
    return load("fovea")


def run(method: str, network: Any, options: Mapping[str, Any], photo: str = "") -> tuple[Job, Result]:
    found = find_method(method)
    parsed = found.options.parse(options)
    found.verify(network.card, parsed)
    job = Job(network=network, options=parsed, photo=open_photo(photo) if photo else None, open_photo=open_photo)
    return job, found.run(job)


def test_ascent_on_a_class_makes_it_the_top_one(fovea: Any) -> None:
    job, result = run("ascent", fovea, {"target": "sunflower", "steps": 128})
    assert result.summary["top_class"] == "sunflower"
    assert result.summary["probability"] > 0.9
    assert job.warnings == []


def test_inversion_of_the_first_layer_is_near_and_of_the_last_is_not(fovea: Any) -> None:
    first = run("inversion", fovea, {"layers": "stem"}, "sample:coffee")[1].summary
    last = run("inversion", fovea, {"layers": "stage4", "steps": 40}, "sample:coffee")[1].summary
    assert first["first_ssim"] > 0.9
    assert last["last_ssim"] < 0.6 * first["first_ssim"]


def test_texture_matches_the_photos_statistics(fovea: Any) -> None:
    summary = run("texture", fovea, {"height": 96, "width": 128, "steps": 60}, "sample:brick")[1].summary
    assert summary["of_start"] < 0.01


def test_a_dream_raises_the_layer(fovea: Any) -> None:
    losses = run("dream", fovea, {"octaves": 1, "size": 128}, "sample:coffee")[1].tables["losses"]
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
