"""Each loss against a slow written-out formula, and its gradient against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fovea.engine.make.optimise import losses
from fovea.engine.make.optimise.gram import gram_matrix
from fovea.engine.make.optimise.losses import View
from fovea.models.card import OUTPUT, Layer
from tests.oracles.make_formulas import (
    centred_distance,
    gatys_layer_loss,
    gram,
    similarity,
    total_variation,
    wasserstein,
)

LAYER = Layer(name="conv", kind="Conv2d", shape=(4, 5, 6), axes="NCHW", units=4, grid=(5, 6))


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def view(maps: Tensor, picture: Tensor | None = None) -> View:
    picture = 0.2 * numbers(len(maps), 3, 6, 7, seed=1) + 0.5 if picture is None else picture
    return View(picture, picture * 4 - 2, {"conv": maps, OUTPUT: maps.flatten(1)[:, :5]})


MAPS, WANTED = numbers(2, 4, 5, 6), numbers(1, 4, 5, 6, seed=2)

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
    "margin": (
        losses.ClassScore(3, "margin"),
        lambda m, p: m.ravel()[3] - max(m.ravel()[i] for i in (0, 1, 2, 4)),
    ),
    "direction": (
        losses.Direction(LAYER, numbers(4, seed=5)),
        lambda m, p: sum(m[c].mean() * float(numbers(4, seed=5)[c]) for c in range(4)),
    ),
    "two at once": (
        losses.Joint((losses.ClassScore(3), losses.UnitActivation(LAYER, 1, "mean"))),
        lambda m, p: m.ravel()[3] + m[1].mean(),
    ),
    "wasserstein": (
        losses.GramWasserstein(LAYER, *losses.centred_gram(WANTED)),
        lambda m, p: wasserstein(m, WANTED[0].numpy()),
    ),
    "energy": (losses.LayerEnergy(LAYER), lambda m, p: (m**2).mean()),
    "features": (
        losses.FeatureDistance("conv", WANTED),
        lambda m, p: ((m - WANTED[0].numpy()) ** 2).sum() / (WANTED[0].numpy() ** 2).sum(),
    ),
    "gram": (
        losses.GramDistance(LAYER, gram_matrix(WANTED)),
        lambda m, p: gatys_layer_loss(m, WANTED[0].numpy()),
    ),
    "relative gram": (
        losses.GramDistance(LAYER, gram_matrix(WANTED), relative=True),
        lambda m, p: ((gram(m) - gram(WANTED[0].numpy())) ** 2).sum() / (gram(WANTED[0].numpy()) ** 2).sum(),
    ),
    "centred gram": (
        losses.CentredGramDistance(LAYER, *losses.centred_gram(WANTED)),
        lambda m, p: centred_distance(m, WANTED[0].numpy()),
    ),
    "total variation": (losses.TotalVariation(), lambda m, p: total_variation(p, 2.0)),
    "total variation, beta 1": (losses.TotalVariation(1.0, 0.0), lambda m, p: total_variation(p, 1.0)),
    "l1": (losses.Norm(1.0), lambda m, p: np.abs(p * 4 - 2).mean()),
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
    np.testing.assert_allclose(loss(seen).numpy(), expected, rtol=1e-9 if name != "wasserstein" else 1e-5)


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


def test_each_picture_of_a_batch_has_its_own_loss() -> None:
    seen = view(MAPS)
    parts = (losses.UnitActivation(LAYER, 2), losses.ClassScore(3))
    apiece = losses.Apiece(parts)
    assert apiece.taps == ("conv", OUTPUT)
    assert apiece(seen).tolist() == [float(parts[0](seen)[0]), float(parts[1](seen)[1])]


def test_diversity_is_the_mean_likeness_to_the_others() -> None:
    maps = numbers(3, 4, 5, 6)
    arrays = maps.numpy()
    expected = [np.mean([similarity(arrays[i], arrays[j]) for j in range(3) if j != i]) for i in range(3)]
    loss = losses.Diversity(LAYER)
    np.testing.assert_allclose(loss(view(maps)).numpy(), expected, rtol=1e-9)
    assert torch.autograd.gradcheck(lambda m: loss(view(m)), (maps.requires_grad_(True),))
    assert float(loss(view(MAPS[:1]))) == pytest.approx(0, abs=1e-12)


def test_a_distribution_has_no_distance_to_itself() -> None:
    few = numbers(1, 4, 2, 1, seed=7)  # two positions: a covariance of rank 1, whose root has no derivative
    layer = LAYER.model_copy(update={"shape": (4, 2, 1), "grid": (2, 1)})
    maps = few.clone().requires_grad_(True)
    loss = losses.GramWasserstein(layer, *losses.centred_gram(few))
    apart = loss(View(few, few, {"conv": maps}))
    assert apart.item() == pytest.approx(0, abs=1e-4)
    (gradient,) = torch.autograd.grad(apart.sum(), maps)
    assert torch.isfinite(gradient).all()


def test_only_ascend_changes_a_sign() -> None:
    loss = losses.LayerEnergy(LAYER)
    up, down = losses.ascend("up", loss, 3.0), losses.Term("down", losses.Norm(), 2.0)
    assert (up.weight, down.weight) == (-3.0, 2.0)
    seen = view(MAPS)
    whole, each = losses.total([up, down], seen)
    torch.testing.assert_close(whole, (-3 * each["up"] + 2 * each["down"]).sum())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (1, 1, 6, 2), (2, 7, 1, 1)])
def test_gram_matrices_are_their_written_sum_with_its_gradient(
    shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    maps = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps = maps.contiguous(memory_format=layout).requires_grad_(True)
    values, gram = maps.detach(), gram_matrix(maps).detach()
    for n, i, j in np.ndindex(shape[0], shape[1], shape[1]):
        assert float(gram[n, i, j]) == pytest.approx(float((values[n, i] * values[n, j]).mean()))
    assert torch.autograd.gradcheck(gram_matrix, maps)
