"""A texture's statistics, the network run in another way, what carries over between sizes: against formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fovea.engine.make.optimise.adapted_network import AVERAGE_SCALE, adapted_job
from fovea.engine.make.optimise.canvas import Normalise, PixelCanvas, resized
from fovea.engine.make.optimise.carry_over import AveragedIterates, WarmAdam
from fovea.engine.make.optimise.gram import gram_matrix
from fovea.engine.make.optimise.losses import View
from fovea.engine.make.optimise.memory import step_bytes
from fovea.engine.make.optimise.statistics import NOISE_FLOOR, enlarged, gram_terms, moments, pixel_statistics, reduced
from fovea.engine.method import Job
from fovea.models.torch_net import forward_taps
from tests.networks.tiny import TinyNetwork, tiny_network
from tests.oracles.make_formulas import gram

Make = Callable[..., Job]


def picture(height: int = 24, width: int = 28, seed: int = 0, channels: int = 3) -> Tensor:
    return torch.rand((1, channels, height, width), generator=torch.Generator().manual_seed(seed))


def seen(job: Job, made: Tensor, taps: list[str]) -> View:
    values = Normalise(job.card.preprocessing)(made)
    return View(made, values, forward_taps(job.network.module("cpu"), values, taps))


def relative_gram(maps: Tensor, wanted: Tensor) -> float:
    g, a = gram(maps[0].double().numpy()), gram(wanted[0].double().numpy())
    return float(((g - a) ** 2).sum() / (a**2).sum())


def test_the_terms_are_gatys_distance_at_every_scale(make_job: Make, tiny_networks: Mapping[str, TinyNetwork]) -> None:
    net = tiny_networks["residual"]
    job, photo, made = make_job("texture", net), picture(64, 72), picture(64, 72, seed=1)
    layers = [net.card.layer("stem"), net.card.layer("conv")]
    terms = gram_terms(job, [photo], layers, "gatys", scales=3, weight=4.0)
    assert [(term.name, term.weight) for term in terms] == [("stem", 1.0), ("conv", 1.0), ("at 1/2", 2.0)]
    view, wanted = seen(job, made, ["stem", "conv"]), seen(job, photo, ["stem", "conv"])
    for term in terms[:2]:
        expected = relative_gram(view.features[term.name], wanted.features[term.name])
        assert float(term.loss(view)) == pytest.approx(expected, rel=1e-4)
    small, photo_small = (seen(job, resized(p, 32, 36), ["stem", "conv"]) for p in (made, photo))
    each = [relative_gram(small.features[name], photo_small.features[name]) for name in ("stem", "conv")]
    assert float(terms[2].loss(view)) == pytest.approx(np.mean(each), rel=1e-4)


@pytest.mark.parametrize("statistics", ["gatys", "centred", "wasserstein"])
def test_a_blend_is_the_statistics_of_both_photos_by_their_shares(
    statistics: str, make_job: Make, tiny_networks: Mapping[str, TinyNetwork]
) -> None:
    net = tiny_networks["functional"]
    job, one, other = make_job("texture", net), picture(32, 32), picture(32, 32, seed=1)
    layers = [net.card.layer("conv1")]

    def value(pictures: list[Tensor], shares: list[float], made: Tensor) -> float:
        (term,) = gram_terms(job, pictures, layers, statistics, shares=shares)
        return float(term.loss(seen(job, made, ["conv1"])))

    assert value([one], [1.0], one) == pytest.approx(0, abs=2e-3)
    assert value([one, one], [0.3, 0.7], one) == pytest.approx(0, abs=2e-3)
    assert value([one, other], [1.0, 0.0], other) == pytest.approx(value([one], [1.0], other), rel=1e-3)
    assert value([one, other], [0.5, 0.5], one) < value([other], [1.0], one)


def test_pixel_statistics_are_their_formula() -> None:
    photo, made = picture().double(), picture(20, 22, seed=1).double()

    def squares(values: Tensor, side: int) -> np.ndarray:
        array = values[0].numpy()
        rows, columns = array.shape[1] - side + 1, array.shape[2] - side + 1
        return np.stack(
            [array[:, y : y + side, x : x + side].ravel() for y in range(rows) for x in range(columns)], axis=1
        )

    apart = []
    for scale in (1, 2, 4):
        for side, light in ((3, False), (7, True)):
            if 24 // scale <= side:
                continue
            wanted, given = (
                squares(p.mean(1, keepdim=True) if light else p, side)
                for p in (reduced(photo, scale), reduced(made, scale))
            )
            mean = wanted.mean(1, keepdims=True)
            values, vectors = np.linalg.eigh(np.cov(wanted, bias=True))
            whitened = (vectors / np.sqrt(values.clip(0) + NOISE_FLOOR)).T @ (given - mean)
            off = whitened @ whitened.T / whitened.shape[1] - np.diag(values / (values + NOISE_FLOOR))
            apart.append((off**2).mean() + (whitened.mean(1) ** 2).mean())
    loss = pixel_statistics([photo])
    assert float(loss(View(made, made, {}))) == pytest.approx(np.mean(apart), rel=1e-6)
    assert float(loss(View(photo, photo, {}))) == pytest.approx(0, abs=1e-9)
    made.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda p: loss(View(p, p, {})), (made[..., :9, :10],), atol=1e-4)


def test_what_meets_at_the_edges_may_be_rolled(make_job: Make, tiny_networks: Mapping[str, TinyNetwork]) -> None:
    photo, made = picture(), picture(32, 40, seed=1)
    rolled = torch.roll(made, (8, 24), (2, 3))
    loss = pixel_statistics([photo], circular=True)
    assert float(loss(View(rolled, rolled, {}))) == pytest.approx(float(loss(View(made, made, {}))), rel=1e-4)
    job = adapted_job(make_job("texture", tiny_networks["residual"]), circular=True)
    maps, moved = (seen(job, p, ["conv"]).features["conv"] for p in (made, rolled))
    torch.testing.assert_close(torch.roll(maps, (4, 12), (2, 3)), moved, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_squares_around_the_edges_are_those_of_the_wrapped_picture(channels: int) -> None:
    photo, made = (picture(20, 17, seed=seed, channels=channels).double() for seed in (0, 1))
    for target in pixel_statistics([photo]).targets:
        if target.scale == 1:
            reach = target.side // 2
            wrapped = F.pad(made, (reach,) * 4, mode="circular")
            for found, expected in zip(target.moments(made, True), target.moments(wrapped, False), strict=True):
                torch.testing.assert_close(found, expected)


class Skipping(nn.Module):
    """Convolutions and overlapping pools of stride 2 that pad nothing, as SqueezeNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 8, 3), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x).relu(), 3, 2, ceil_mode=True)
        out: Tensor = self.fc(F.max_pool2d(self.conv2(x).relu(), 2).mean((2, 3)))
        return out


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_what_pads_nothing_goes_around_the_picture_too(pooling: str, make_job: Make) -> None:
    job = adapted_job(make_job("texture", tiny_network("skipping", Skipping())), pooling=pooling, circular=True)
    made = picture(32, 40)
    maps, moved = (seen(job, p, ["conv2"]).features["conv2"] for p in (made, torch.roll(made, (8, 12), (2, 3))))
    assert maps.shape[2:] == (8, 10)
    torch.testing.assert_close(torch.roll(maps, (2, 3), (2, 3)), moved, rtol=1e-4, atol=1e-5)


def test_a_pattern_for_a_tile_goes_on_as_in_a_mirror(make_job: Make) -> None:
    net = tiny_network("skipping", Skipping())
    photo, layers = picture(40, 48), [net.card.layer("conv1"), net.card.layer("conv2")]
    found = moments(adapted_job(make_job("texture", net), circular=True), [photo], [1.0], layers, mirrored=True)
    mirrored = torch.from_numpy(np.pad(photo.numpy(), ((0, 0), (0, 0), (16, 16), (16, 16)), mode="reflect"))
    maps = seen(make_job("texture", net), mirrored, ["conv1", "conv2"]).features
    for name, stride in (("conv1", 2), ("conv2", 4)):
        inner = maps[name][..., 16 // stride :, 16 // stride :][..., : 40 // stride, : 48 // stride]
        torch.testing.assert_close(found[name][0], gram_matrix(inner)[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[name][1], inner.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_layers_that_skip_pixels_look_at_the_enlarged_picture(make_job: Make) -> None:
    net = tiny_network("skipping", Skipping())
    job, photo, made = make_job("texture", net), picture(40, 48), picture(40, 48, seed=1)
    layers = [net.card.layer("conv1"), net.card.layer("conv2")]
    terms = gram_terms(job, [photo], layers, "gatys", fine=True)
    assert [(term.name, term.weight) for term in terms] == [("conv1", 0.25), ("conv2", 0.25), ("at 2/1", 0.5)]
    large, photo_large = (seen(job, resized(p, 80, 96), ["conv1", "conv2"]).features for p in (made, photo))
    each = [relative_gram(large[name], photo_large[name]) for name in ("conv1", "conv2")]
    assert float(terms[2].loss(seen(job, made, ["conv1"]))) == pytest.approx(np.mean(each), rel=1e-4)
    assert torch.autograd.gradcheck(
        lambda p: enlarged(p, 2, circular=True), (picture(5, 6).double().requires_grad_(True),)
    )
    rolled = torch.roll(enlarged(made, 2, circular=True), (6, 4), (2, 3))
    torch.testing.assert_close(rolled, enlarged(torch.roll(made, (3, 2), (2, 3)), 2, circular=True))


class Pools(nn.Module):
    """Max pooling as a module, as a function and overlapping; blocks and a chain of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 1))
        self.blocks = nn.Sequential(Block(), Block())
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.chain(x), 3, 2, 1, ceil_mode=True)
        out: Tensor = self.fc(self.blocks(x).mean((2, 3)))
        return out


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(6, 6, 3, padding=1)
        self.two = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.two(self.one(x).relu())
        return out


def test_averages_take_the_place_of_maxima(make_job: Make) -> None:
    net = tiny_network("pools", Pools())
    x, taps = picture(32, 32), ["chain", "blocks.0"]
    job = make_job("texture", net)
    plain = forward_taps(net.module(), x, taps)
    averaged = forward_taps(adapted_job(job, pooling="average").network.module("cpu"), x, taps)
    module = net.torch_module
    assert isinstance(module, Pools)
    chain = module.chain[3](AVERAGE_SCALE * F.avg_pool2d(module.chain[1](module.chain[0](x)), 2))
    torch.testing.assert_close(averaged["chain"], chain)
    pooled = AVERAGE_SCALE * F.avg_pool2d(chain, 3, 2, 1, ceil_mode=True, count_include_pad=False)
    torch.testing.assert_close(averaged["blocks.0"], module.blocks[0](pooled))
    torch.testing.assert_close(forward_taps(net.module(), x, taps), plain)


@pytest.mark.parametrize("circular", [False, True])
def test_recomputing_changes_nothing_but_memory(circular: bool, make_job: Make) -> None:
    net = tiny_network("pools", Pools())
    job, taps = make_job("texture", net), ["chain.1", "blocks.0.one", "blocks.1"]

    def run(recompute: bool) -> tuple[dict[str, Tensor], Tensor]:
        module = adapted_job(job, pooling="average", circular=circular, recompute=recompute).network.module("cpu")
        x = picture(32, 32).requires_grad_(True)
        features = forward_taps(module, x, taps)
        (gradient,) = torch.autograd.grad(sum((f.square().mean() for f in features.values()), torch.zeros(())), x)
        return features, gradient

    torch.testing.assert_close(run(True), run(False), rtol=0, atol=0)


def test_less_memory_is_told_for_what_is_computed_twice() -> None:
    layers = [layer for _ in range(12) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())]
    card = tiny_network("chain", nn.Sequential(nn.Sequential(*layers), nn.Flatten(), nn.Linear(3 * 32 * 32, 5))).card
    once, twice = (step_bytes(card, ["0"], 256, 256, recompute=again) for again in (True, False))
    assert once < 0.8 * twice


def test_iterates_are_averaged_by_their_age_and_stay_in_the_box() -> None:
    canvas, average = PixelCanvas(torch.zeros(1, 1, 2, 2)), AveragedIterates(0.5)
    for step, value in enumerate((0.2, 0.4, 3.0)):
        with torch.no_grad():
            canvas.pixels.fill_(value)
        average(canvas, step)
    assert canvas.pixels.max() == 1
    expected = (0.25 * 0.2 + 0.5 * 0.4 + 1.0) / 1.75
    torch.testing.assert_close(average.mean(), torch.full((1, 1, 2, 2), expected))


def test_adam_starts_warm_at_the_next_size() -> None:
    make = WarmAdam(0.1)
    small = torch.rand(1, 3, 8, 8).requires_grad_(True)
    first: Any = make([small])
    small.grad = torch.full_like(small, 2.0)
    first.step()
    large = torch.rand(1, 3, 12, 10).requires_grad_(True)
    state = make([large]).state[large]
    torch.testing.assert_close(state["exp_avg"], torch.full_like(large, 0.2).detach())
    torch.testing.assert_close(state["exp_avg_sq"], torch.full_like(large, 0.004).detach())
    assert float(state["step"]) == 1
