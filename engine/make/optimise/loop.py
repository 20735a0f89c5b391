"""The one loop: minimise Σ weight · loss(features of transforms(canvas)) under a projection.

Canvas, losses, transforms, projection and optimiser are parts that a method puts together; what is shown on the way
is the callback's business.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from fovea.engine.errors import NetworkError
from fovea.engine.explain.backward.rules import Rule
from fovea.engine.make.optimise.canvas import Canvas, Normalise
from fovea.engine.make.optimise.folded_network import FoldedNetwork
from fovea.engine.make.optimise.growth import Growth, Iterate
from fovea.engine.make.optimise.losses import Term, View, total
from fovea.engine.make.optimise.replay import Replay
from fovea.engine.make.optimise.transforms import Transform, compose

if TYPE_CHECKING:
    from fovea.engine.make.optimise.optimisers import Optimiser
    from fovea.engine.make.optimise.projection import Projection
    from fovea.engine.method import Job

REDIRECT_STEPS = 16
"""Lucid lets gradients through closed ReLUs for the first 16 steps, so that a dead unit can wake up."""


@dataclass(frozen=True)
class LoopSettings:
    """How a loop differs from the usual one.

    `wake`: a picture without any gradient gets the redirected rule's in the first steps. With `tile` the network runs
    on one tile of at most that side, in pixels, after the other, so that its memory does not grow with the picture:
    for terms that are means over positions. `resumed`: the loop goes on with what another one made, which stays if the
    first step already fails.
    """

    wake: bool = True
    tile: int | None = None
    resumed: bool = False


@dataclass
class Made:
    """What the loop made: the last `picture` (N, C, H, W), and `losses`, a row for each step.

    `losses` has columns step, loss (the weighted sum) and one for each term (unweighted, mean of the pictures).
    `each` has, by term, its unweighted values at every step and picture, (steps, N).
    `stopped` says why it ended before its last step, or is empty.
    """

    picture: Tensor
    losses: pd.DataFrame
    stopped: str = ""
    each: dict[str, NDArray[np.float32]] = field(default_factory=dict)


class _NotFinite(Exception):
    """Some term became NaN or infinite."""


class _Loop:
    """One optimisation on its way: what it computes at each step, and what it keeps of it."""

    def __init__(
        self,
        job: Job[Any],
        canvas: Canvas,
        terms: Sequence[Term],
        transforms: Sequence[Transform] = (),
        *,
        steps: int = 1,
        settings: LoopSettings | None = None,
    ) -> None:
        self.settings = settings or LoopSettings()
        self.normalise = Normalise(job.card.preprocessing, job.device)
        self.canvas = canvas
        self.terms = list(terms)
        taps = list(dict.fromkeys(tap for term in terms for tap in term.loss.taps))
        self.network = FoldedNetwork(job.network.module(job.device), taps)
        self.transform = compose(transforms) if transforms else None
        self.replay = Replay(functools.partial(self._losses, "gradient"), steps)
        self.generator = torch.Generator().manual_seed(job.seed)
        self.rows: list[dict[str, float]] = []
        self.each: list[dict[str, NDArray[np.float32]]] = []
        self.good = canvas.picture().detach().clone()

    def _losses(self, rule: Rule, picture: Tensor, moved: Tensor | None = None) -> dict[str, Tensor]:
        """Each term's values for a picture, of which the network sees `moved` (None: it); under "" the loss."""
        values = self.normalise(picture)
        features = self.network(values if moved is None else self.normalise(moved), rule)
        loss, each = total(self.terms, View(picture, values, features))
        return {"": loss, **{name: value.detach() for name, value in each.items()}}

    def _backward(self, rule: Rule) -> tuple[Tensor, dict[str, Tensor], Tensor, tuple[Tensor, ...]]:
        if self.settings.tile is not None:
            return self._backward_by_tiles(rule, self.settings.tile)
        with torch.enable_grad():
            picture = self.canvas.picture()
            seen = (picture,) if self.transform is None else (picture, self.transform(picture, self.generator))
            each = self.replay(*seen) if rule == "gradient" else self._losses(rule, *seen)
            loss = each.pop("")
            gradients = torch.autograd.grad(loss, self.canvas.parameters, materialize_grads=True)
        return loss.detach(), each, picture, gradients

    def _backward_by_tiles(self, rule: Rule, tile: int) -> tuple[Tensor, dict[str, Tensor], Tensor, tuple[Tensor, ...]]:
        """The same, with the network run on one tile after the other, each term weighted by the tile's area."""
        with torch.enable_grad():
            picture = self.canvas.picture()
            moved = picture if self.transform is None else self.transform(picture, self.generator)
        above, whole = torch.zeros_like(moved), torch.zeros((), device=moved.device)
        each: dict[str, Tensor] = {}
        height, width = moved.shape[-2:]
        for rows, columns in tiles(height, width, tile):
            part = moved.detach()[..., rows, columns].requires_grad_(True)
            share = part.shape[-2] * part.shape[-1] / (height * width)
            with torch.enable_grad():
                values = self._losses(rule, part)
                loss = values.pop("")
                (gradient,) = torch.autograd.grad(loss, part, materialize_grads=True)
            above[..., rows, columns] = gradient * share
            whole += loss.detach() * share
            each = {name: each.get(name, 0) + value * share for name, value in values.items()}
        return whole, each, picture, torch.autograd.grad(moved, self.canvas.parameters, above, materialize_grads=True)

    def _woken(self, gradients: tuple[Tensor, ...], each: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The gradients, with those of pictures that have none replaced by the redirected rule's.

        A unit that is 0 everywhere counts as one without gradient, whatever other terms pull at its picture.
        """
        count = len(self.good)
        silent = [each[term.name] == 0 for term in self.terms if term.weight < 0 and term.loss.taps]
        dead = [_no_gradient(gradient, count) for gradient in gradients]
        dead = [functools.reduce(torch.logical_or, silent, which) if len(which) == count else which for which in dead]
        if not any(bool(which.any()) for which in dead):
            return gradients
        _, _, _, redirected = self._backward("redirected")
        pairs = zip(gradients, redirected, dead, strict=True)
        return tuple(torch.where(which.view(-1, *[1] * (g.ndim - 1)), r, g) for g, r, which in pairs)

    def evaluate(self) -> float:
        """The loss at the canvas as it is; leaves the gradients on its parameters and keeps a row."""
        drawn = self.generator.get_state()
        loss, each, picture, gradients = self._backward("gradient")
        if self.settings.wake and len(self.rows) < REDIRECT_STEPS:
            after = self.generator.get_state()
            self.generator.set_state(drawn)
            gradients = self._woken(gradients, each)
            self.generator.set_state(after)
        value, sums, values = _read(loss, gradients, each)
        row = {name: float(pictures.mean()) for name, pictures in values.items()}
        bad = [name for name, mean in row.items() if not math.isfinite(mean)]
        # A finite sum says in one pass that all values are.
        finite = [math.isfinite(sum_) or bool(torch.isfinite(g).all()) for sum_, g in zip(sums, gradients, strict=True)]
        if bad or not all(finite):
            raise _NotFinite(f"the term {bad[0]}" if bad else "the gradient")
        self.rows.append({"step": len(self.rows), "loss": value, **row})
        self.each.append(values)
        self.good = picture.detach().clone()
        for parameter, gradient in zip(self.canvas.parameters, gradients, strict=True):
            parameter.grad = gradient.contiguous()  # in the parameter's own order: optimisers read them side by side
        return value

    def iterate(self, step: int, steps: int) -> Iterate:
        """Where it stands after `step` of `steps` steps."""
        losses = {name: value for name, value in self.rows[-1].items() if name != "step"}
        return Iterate(step, steps, self.good, losses, self.canvas)

    def made(self, picture: Tensor, stopped: str) -> Made:
        """What came of it, ending in `picture`."""
        names = self.each[0] if self.each else ()
        each = {name: np.stack([values[name] for values in self.each]) for name in names}
        return Made(picture, pd.DataFrame(self.rows), stopped, each)


def tiles(height: int, width: int, side: int) -> list[tuple[slice, slice]]:
    """A picture's rows and columns in tiles of about equal size, none longer than `side`."""

    def cuts(length: int) -> list[slice]:
        count = math.ceil(length / side)
        ends = [round(i * length / count) for i in range(count + 1)]
        return [slice(a, b) for a, b in itertools.pairwise(ends)]

    return [(rows, columns) for rows in cuts(height) for columns in cuts(width)]


def _read(
    loss: Tensor, gradients: Sequence[Tensor], each: Mapping[str, Tensor]
) -> tuple[float, list[float], dict[str, NDArray[np.float32]]]:
    """The loss, the sum of each gradient and each term's values (N,), read together: to ask a GPU costs the most."""
    parts = [loss, *(gradient.sum() for gradient in gradients), *each.values()]
    flat = torch.cat([part.detach().reshape(-1).float() for part in parts]).cpu().numpy()
    value, *sums = (float(number) for number in flat[: 1 + len(gradients)])
    ends = np.cumsum([term.numel() for term in each.values()])[:-1]
    return value, sums, dict(zip(each, np.split(flat[1 + len(gradients) :], ends), strict=True))


def _no_gradient(gradient: Tensor, count: int) -> Tensor:
    """Which pictures have no gradient at all, (N,); (1,) for a parameter that all of them share."""
    if len(gradient) != count:
        gradient = gradient[None]
    return ~gradient.flatten(1).any(1)


def optimise(
    job: Job[Any],
    canvas: Canvas,
    terms: Sequence[Term],
    *,
    steps: int,
    optimiser: Optimiser,
    transforms: Sequence[Transform] = (),
    projection: Projection | None = None,
    callback: Callable[[Iterate], bool] | None = None,
    settings: LoopSettings | None = None,
) -> Made:
    """Move the canvas for `steps` steps so that the weighted sum of the terms falls.

    The network runs no further than the deepest tap that a term reads; `transforms` are drawn by the job's seed.
    `callback` gets an `Iterate` after each step and says whether to end there; it may raise Cancelled. Without one the
    job's progress is told. Where a term or the gradient is not finite, the loop stops with the last good picture and
    warns which it was. Raises NetworkError if that happens before the first step of a loop that is not `resumed`.
    """
    loop = _Loop(job, canvas, terms, transforms, steps=steps, settings=settings)
    mover, stopped = optimiser(canvas.parameters), ""
    callback = callback or Growth(job.progress)
    for step in range(1, steps + 1):
        try:
            mover.step(loop.evaluate)
        except _NotFinite as error:
            stopped = f"{error} was not finite in step {step}: stopped, with the last good picture"
            if step == 1 and not loop.settings.resumed:
                raise NetworkError(f"{error} is not finite on the starting picture: the network overflows") from None
            job.warn(stopped)
            break
        if projection is not None:
            projection(canvas, step - 1)
        if callback(loop.iterate(step, steps)):
            break
    with torch.no_grad():
        last = canvas.picture().detach()
    return loop.made(loop.good if stopped or not bool(torch.isfinite(last).all()) else last.clone(), stopped)
