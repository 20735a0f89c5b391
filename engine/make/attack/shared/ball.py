"""The loop of all attacks within a ball: the cross-entropy rises or falls, under a projection on the ball."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fovea.engine.make.attack.shared.attack import Batch
from fovea.engine.make.attack.shared.parallel import ParallelNetwork
from fovea.engine.make.attack.shared.scores import CrossEntropy
from fovea.engine.make.optimise.canvas import PixelCanvas
from fovea.engine.make.optimise.growth import Iterate
from fovea.engine.make.optimise.loop import LoopSettings, optimise
from fovea.engine.make.optimise.losses import Term, ascend
from fovea.engine.make.optimise.optimisers import Optimiser
from fovea.engine.make.optimise.projection import Ball


class DirectedSteps(torch.optim.Optimizer):
    """Steps of a fixed size against a direction that is made of the gradient (N, C, H, W)."""

    def __init__(self, parameters: list[Tensor], lr: float, direction: Callable[[Tensor], Tensor]) -> None:
        super().__init__(parameters, {"lr": lr})
        self.direction = direction

    def step(self, closure: Any = None) -> Any:
        """One step."""
        loss = None if closure is None else closure()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter -= group["lr"] * self.direction(parameter.grad)
        return loss


def steps_along(direction: Callable[[Tensor], Tensor], size: float) -> Optimiser:
    """`DirectedSteps` of this size."""
    return lambda parameters: DirectedSteps(parameters, size, direction)


def random_start(batch: Batch[Any], norm: float) -> Tensor:
    """Pictures (N, C, H, W) uniformly drawn from the ball about each clean one, then put into [0, 1].

    (Madry et al. 2018.) Each picture has a seed of its own, so that its start does not depend on its batch.
    """
    starts = []
    for picture, seed in zip(batch.clean, batch.seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        if norm == math.inf:
            noise = (2 * torch.rand(picture.shape, generator=generator) - 1) * batch.epsilon
        else:
            noise = torch.randn(picture.shape, generator=generator)
            part = float(torch.rand(1, generator=generator)) ** (1 / picture.numel())
            noise *= batch.epsilon * part / noise.norm()
        starts.append((picture + noise.to(picture)).clamp(0, 1))
    return torch.stack(starts)


def ball_attack(batch: Batch[Any], norm: float, optimiser: Optimiser, start: Tensor | None = None) -> Tensor:
    """The pictures (N, C, H, W) after all steps, each within `epsilon` of its clean one in the norm and in [0, 1].

    They begin at `start` (default: the clean ones). The cross-entropy with each picture's class rises, or falls where
    the attack is targeted.
    """
    job = batch.job
    # A single step is the network's own gradient to the bit.
    network = ParallelNetwork(job.network) if batch.steps > 1 else job.network
    loss = CrossEntropy(batch.classes, job.card.meaning)
    canvas = PixelCanvas(batch.clean if start is None else start)

    def tell(iterate: Iterate) -> bool:
        if loss.latest is not None:
            # The probabilities are those that the step was taken from.
            words, picture = f"step {iterate.step} of {iterate.steps}", iterate.canvas.picture().detach()
            batch.told((iterate.step - 1) / iterate.steps, words, picture, loss.latest)
        return False

    return optimise(
        dataclasses.replace(job, network=network),
        canvas,
        [Term("cross-entropy", loss) if batch.targeted else ascend("cross-entropy", loss)],
        steps=batch.steps,
        optimiser=optimiser,
        projection=Ball(batch.clean, batch.epsilon, norm),
        callback=tell,
        settings=LoopSettings(wake=False),
    ).picture
