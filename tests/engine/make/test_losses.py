"""Each loss against a slow written-out formula, and its gradient against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.make import losses
from engine.make.losses import View
from models.card import OUTPUT, Layer
from tests.oracles.make_formulas import centred_distance, colour_distance, gatys_layer_loss, gram, total_variation

LAYER = Layer(name="conv", kind="Conv2d", shape=(4, 5, 6), axes="NCHW", units=4, grid=(5, 6))


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def view(maps: Tensor, picture: Tensor | None = None) -> View:
    picture = 0.2 * numbers(len(maps), 3, 6, 7, seed=1) + 0.5 if picture is None else picture
    return View(picture, picture * 4 - 2, {"conv": maps, OUTPUT: maps.flatten(1)[:, :5]})


MAPS, WANTED = numbers(2, 4, 5, 6), numbers(1, 4, 5, 6, seed=2)
PHOTO = numbers(1, 3, 8, 9, seed=4)

CASES: dict[str, tuple[Any, Callable[[np.ndarray, np.ndarray], float]]] = {
    "unit at the centre": (losses.UnitActivation(LAYER, 2), lambda m, p: m[2, 2, 3]),
    "unit at a place": (losses.UnitActivation(LAYER, 1, (4, 0)), lambda m, p: m[1, 4, 0]),
    "unit's mean": (losses.UnitActivation(LAYER, 1, "mean"), lambda m, p: m[1].mean()),
    "unit's maximum": (losses.UnitActivation(LAYER, 1, "max"), lambda m, p: m[1].max()),
    "whole layer": (losses.UnitActivation(LAYER, None, "mean"), lambda m, p: m.mean()),
    "logit": (losses.ClassScore(3), lambda m, p: m.ravel()[3]),
    "log probability": (
        losses.ClassScore(3, "log_probability"),
        lambda m, p: m.ravel()[3] - np.log(np.exp(m.ravel()[:5]).sum()),
    ),
    "energy": (losses.LayerEnergy(LAYER), lambda m, p: (m**2).mean()),
    "features": (
        losses.FeatureDistance("conv", WANTED),
        lambda m, p: ((m - WANTED[0].numpy()) ** 2).sum() / (WANTED[0].numpy() ** 2).sum(),
    ),
    "gram": (
        losses.GramDistance(LAYER, losses.gram_matrix(WANTED)),
        lambda m, p: gatys_layer_loss(m, WANTED[0].numpy()),
    ),
    "relative gram": (
        losses.GramDistance(LAYER, losses.gram_matrix(WANTED), relative=True),
        lambda m, p: ((gram(m) - gram(WANTED[0].numpy())) ** 2).sum() / (gram(WANTED[0].numpy()) ** 2).sum(),
    ),
    "centred gram": (
        losses.CentredGramDistance(LAYER, *losses.centred_gram(WANTED)),
        lambda m, p: centred_distance(m, WANTED[0].numpy()),
    ),
    "colours": (
        losses.ColourStatistics(losses.colour_statistics(PHOTO)),
        lambda m, p: colour_distance(p, PHOTO[0].numpy()),
    ),
    "total variation": (losses.TotalVariation(), lambda m, p: total_variation(p, 2.0)),
    "total variation, beta 1": (losses.TotalVariation(1.0, 0.0), lambda m, p: total_variation(p, 1.0)),
    "l2": (losses.Norm(2.0), lambda m, p: ((p * 4 - 2) ** 2).mean()),
    "alpha norm": (losses.Norm(6.0), lambda m, p: ((p * 4 - 2) ** 6).mean()),
    "guide": (
        losses.GuideSimilarity(LAYER, WANTED[0].flatten(1).T),
        lambda m, p: (m.reshape(4, -1).T @ WANTED[0].numpy().reshape(4, -1)).max(1).mean() / 4,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_loss_is_its_formula_for_each_picture(name: str) -> None:
    loss, formula = CASES[name]
    seen = view(MAPS)
    expected = [formula(MAPS[i].numpy(), seen.picture[i].numpy()) for i in range(2)]
    np.testing.assert_allclose(loss(seen).numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_a_losss_gradient_is_right(name: str) -> None:
    loss, _ = CASES[name]
    maps, picture = (
        MAPS[:1].clone().requires_grad_(True),
        (0.2 * numbers(1, 3, 6, 7, seed=1) + 0.5).requires_grad_(True),
    )
    inputs = (maps,) if loss.taps else (picture,)
    call = (lambda m: loss(view(m))) if loss.taps else (lambda p: loss(view(MAPS[:1], p)))
    assert torch.autograd.gradcheck(call, inputs)


def test_only_ascend_changes_a_sign() -> None:
    loss = losses.LayerEnergy(LAYER)
    up, down = losses.ascend("up", loss, 3.0), losses.Term("down", losses.Norm(), 2.0)
    assert (up.weight, down.weight) == (-3.0, 2.0)
    seen = view(MAPS)
    whole, each = losses.total([up, down], seen)
    torch.testing.assert_close(whole, (-3 * each["up"] + 2 * each["down"]).sum())
