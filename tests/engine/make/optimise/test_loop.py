"""The one loop: it descends, cuts the network, repeats itself, stops at once, and survives NaN."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fovea.engine.errors import Cancelled, NetworkError
from fovea.engine.make.optimise import loop, optimisers
from fovea.engine.make.optimise.canvas import FourierCanvas, Normalise, PixelCanvas, to_picture
from fovea.engine.make.optimise.growth import Iterate
from fovea.engine.make.optimise.losses import (
    Apiece,
    ClassScore,
    FeatureDistance,
    LayerEnergy,
    Norm,
    Term,
    UnitActivation,
    View,
    ascend,
)
from fovea.engine.make.optimise.projection import box
from fovea.engine.make.optimise.transforms import Jitter
from fovea.engine.method import Job
from fovea.models.torch_net import forward_taps
from tests.networks.tiny import TinyNetwork, state_of, tiny_network

Make = Callable[..., Job]


def start(job: Job, seed: int = 0) -> Tensor:
    preprocessing = job.card.preprocessing
    shape = (1, preprocessing.channels, *preprocessing.size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "optimiser",
    [
        optimisers.adam(0.02),
        optimisers.gradient_steps(0.01),
        optimisers.gradient_steps(0.01, "sign"),
        optimisers.gradient_steps(0.05, "progress"),
        optimisers.lbfgs(),
    ],
)
def test_the_loop_goes_down_whatever_the_optimiser(
    optimiser: Any, make_job: Make, tiny_networks: Mapping[str, TinyNetwork]
) -> None:
    job = make_job("ascent", tiny_networks["functional"])
    wanted = forward_taps(job.network.module(), torch.from_numpy(job.input), ["conv2"])["conv2"]
    made = loop.optimise(
        job,
        PixelCanvas(start(job)),
        [Term("features", FeatureDistance("conv2", wanted))],
        steps=12,
        optimiser=optimiser,
    )
    losses = made.losses["loss"]
    assert list(made.losses.columns) == ["step", "loss", "features"]
    assert len(losses) == 12
    assert losses.iloc[-1] < 0.8 * losses.iloc[0]


def test_ascend_goes_up_in_the_box(make_job: Make, tiny: TinyNetwork) -> None:
    job = make_job("ascent", tiny)
    made = loop.optimise(
        job,
        PixelCanvas(start(job)),
        [ascend("logit", ClassScore(1)), Term("l2", Norm(), 0.001)],
        steps=8,
        optimiser=optimisers.adam(0.05),
        projection=box,
    )
    assert made.losses["logit"].iloc[-1] > made.losses["logit"].iloc[0]
    assert made.picture.min() >= 0
    assert made.picture.max() <= 1


def test_the_cut_networks_gradient_is_the_whole_networks(make_job: Make, tiny: TinyNetwork) -> None:
    job = make_job("ascent", tiny)
    layer = next(layer for layer in tiny.card.layers if layer.axes == "NCHW")
    canvas = PixelCanvas(start(job))
    energy = LayerEnergy(layer)
    inner = loop._Loop(job, canvas, [Term("energy", energy)])
    inner.evaluate()
    x = start(job).requires_grad_(True)
    values = Normalise(tiny.card.preprocessing)(x)
    features = forward_taps(tiny.torch_module, values, [layer.name, "output"])
    (expected,) = torch.autograd.grad(energy(View(x, values, features)).sum(), x)
    assert canvas.pixels.grad is not None
    torch.testing.assert_close(canvas.pixels.grad, expected)


class Counting(nn.Module):
    """Two convolutions, the second of which must not run when a loss reads the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(4, 5, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        self.calls += 1
        out: Tensor = self.second(x).mean((2, 3))
        return out


def test_nothing_runs_beyond_the_deepest_layer_that_a_loss_reads(make_job: Make) -> None:
    module = Counting()
    net = tiny_network("counting", module)
    module.calls = 0
    job = make_job("ascent", net)
    terms = [ascend("unit", UnitActivation(net.card.layer("first"), 0))]
    loop.optimise(job, PixelCanvas(start(job)), terms, steps=3, optimiser=optimisers.adam(0.01))
    assert module.calls == 0


def test_same_seed_same_bytes_and_another_seed_another_picture(
    make_job: Make, tiny_networks: Mapping[str, TinyNetwork]
) -> None:
    def make(seed: int) -> Tensor:
        job = make_job("ascent", tiny_networks["residual"], seed=seed)
        canvas = FourierCanvas((1, 3, 32, 32), generator=torch.Generator().manual_seed(seed))
        return loop.optimise(
            job,
            canvas,
            [ascend("logit", ClassScore(1))],
            steps=5,
            optimiser=optimisers.adam(0.05),
            transforms=[Jitter(3)],
        ).picture

    assert make(0).numpy().tobytes() == make(0).numpy().tobytes()
    assert not torch.equal(make(0), make(1))


def test_cancel_stops_within_one_step(make_job: Make, tiny_networks: Mapping[str, TinyNetwork]) -> None:
    told: list[float] = []

    def progress(fraction: float, message: str, preview: Any = None, curve: Any = None) -> None:
        told.append(fraction)
        if len(told) == 3:
            raise Cancelled("stopped")

    net = tiny_networks["residual"]
    before = state_of(net.torch_module)
    job = make_job("ascent", net, progress=progress)
    with pytest.raises(Cancelled):
        loop.optimise(
            job, PixelCanvas(start(job)), [ascend("logit", ClassScore(1))], steps=50, optimiser=optimisers.adam(0.01)
        )
    assert told == [1 / 50, 2 / 50, 3 / 50]
    assert state_of(net.torch_module) == before


def test_progress_shows_the_picture_and_the_curve(make_job: Make, tiny_networks: Mapping[str, TinyNetwork]) -> None:
    shown: list[np.ndarray] = []
    curves: list[Mapping[str, float]] = []

    def progress(fraction: float, message: str, preview: Any = None, curve: Any = None) -> None:
        if preview is not None:
            shown.append(preview)
        curves.append(curve)

    job = make_job("ascent", tiny_networks["grey"], progress=progress)
    terms = [ascend("logit", ClassScore(1)), Term("l2", Norm())]
    loop.optimise(job, PixelCanvas(start(job)), terms, steps=3, optimiser=optimisers.adam(0.01))
    assert shown[0].shape == (32, 32, 3)
    assert shown[0].dtype == np.uint8
    assert [set(curve) for curve in curves] == [{"loss", "logit", "l2"}] * 3


class TurnsBad:
    """A term that is fine for three steps and then NaN."""

    taps: tuple[str, ...] = ()

    def __init__(self, good: int) -> None:
        self.left = good

    def __call__(self, view: View) -> Tensor:
        self.left -= 1
        value = view.picture.flatten(1).mean(1)
        return value if self.left >= 0 else value * float("nan")


def test_nan_stops_with_the_last_good_picture_and_names_the_term(
    make_job: Make, tiny_networks: Mapping[str, TinyNetwork]
) -> None:
    job = make_job("ascent", tiny_networks["residual"])
    terms = [Term("l2", Norm()), Term("shaky", TurnsBad(3))]
    made = loop.optimise(job, PixelCanvas(start(job)), terms, steps=10, optimiser=optimisers.adam(0.01))
    assert len(made.losses) == 3
    assert torch.isfinite(made.picture).all()
    assert "shaky" in made.stopped
    assert job.warnings == [made.stopped]
    with pytest.raises(NetworkError, match="shaky"):
        loop.optimise(
            job, PixelCanvas(start(job)), [Term("shaky", TurnsBad(0))], steps=3, optimiser=optimisers.adam(0.01)
        )


def test_a_dead_unit_wakes_up(make_job: Make) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with torch.no_grad():
        module[0].bias.fill_(-0.3)  # type: ignore[union-attr, operator]
    net = tiny_network("dead", module, output="features", classes=())
    job = make_job("ascent", net, layer="1", unit=0)
    x = torch.zeros(1, 3, *net.card.preprocessing.size)
    canvas = PixelCanvas(Normalise(net.card.preprocessing).inverse(x))
    terms = [ascend("unit", UnitActivation(net.card.layer("1"), 0, "mean"))]
    made = loop.optimise(job, canvas, terms, steps=20, optimiser=optimisers.adam(0.05))
    assert made.losses["unit"].iloc[0] == 0
    assert made.losses["unit"].iloc[-1] > 0


def test_each_dead_picture_of_a_batch_wakes_and_the_others_are_let_alone(make_job: Make) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
    with torch.no_grad():
        module[0].bias.copy_(torch.tensor([-0.3, 0.3]))  # type: ignore[union-attr, arg-type]
    net = tiny_network("half dead", module, output="features", classes=())
    job = make_job("ascent", net, layer="1", unit=0)
    layer, mean = net.card.layer("1"), torch.tensor(net.card.preprocessing.mean).view(1, 3, 1, 1)
    units = tuple(UnitActivation(layer, unit, "mean") for unit in (0, 1))

    def made(losses: tuple[UnitActivation, ...]) -> loop.Made:
        canvas = PixelCanvas(mean.expand(len(losses), 3, 32, 32))
        return loop.optimise(job, canvas, [ascend("unit", Apiece(losses))], steps=20, optimiser=optimisers.adam(0.05))

    both = made(units)
    assert both.each["unit"].shape == (20, 2)
    assert both.each["unit"][0, 0] == 0
    assert both.each["unit"][-1, 0] > 0
    torch.testing.assert_close(both.picture[1:], made(units[1:]).picture)


def test_two_threads_make_what_each_makes_alone(make_job: Make, tiny_networks: Mapping[str, TinyNetwork]) -> None:
    net = tiny_networks["functional"]

    def make(target: int) -> bytes:
        job = make_job("ascent", net)
        terms = [ascend("logit", ClassScore(target))]
        picture = loop.optimise(job, PixelCanvas(start(job)), terms, steps=8, optimiser=optimisers.adam(0.02)).picture
        return picture.numpy().tobytes()

    alone = [make(0), make(1)]
    together: dict[int, bytes] = {}
    threads = [threading.Thread(target=lambda t=t: together.update({t: make(t)})) for t in (0, 1)]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[0], together[1]] == alone


def test_to_picture_and_the_job_agree(make_job: Make, tiny_networks: Mapping[str, TinyNetwork]) -> None:
    job = make_job("ascent", tiny_networks["wide"])
    normalised = Normalise(job.card.preprocessing)(to_picture(job.frame))
    torch.testing.assert_close(normalised, torch.from_numpy(job.input), atol=1e-6, rtol=1e-5)


def test_nan_in_a_later_loop_keeps_what_was_made_before(
    make_job: Make, tiny_networks: Mapping[str, TinyNetwork]
) -> None:
    job = make_job("ascent", tiny_networks["residual"])
    begun = start(job)
    made = loop.optimise(
        job,
        PixelCanvas(begun),
        [Term("shaky", TurnsBad(0))],
        steps=3,
        optimiser=optimisers.adam(0.01),
        settings=loop.LoopSettings(resumed=True),
    )
    assert torch.equal(made.picture, begun)
    assert made.losses.empty
    assert job.warnings == [made.stopped]


def test_a_loop_ends_when_it_is_told_that_it_is_enough(
    make_job: Make, tiny_networks: Mapping[str, TinyNetwork]
) -> None:
    job, seen = make_job("ascent", tiny_networks["residual"]), []

    def enough(iterate: Iterate) -> bool:
        seen.append(iterate.step)
        return iterate.step == 3

    settings = {"steps": 9, "optimiser": optimisers.adam(0.01), "callback": enough}
    made = loop.optimise(job, PixelCanvas(start(job)), [Term("l2", Norm())], **settings)
    assert seen == [1, 2, 3]
    assert len(made.losses) == 3
    assert not made.stopped
