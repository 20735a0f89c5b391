"""The one loop: minimise Σ weight · loss(features of transforms(canvas)) under a projection.

Canvas, losses, transforms, projection and optimiser are parts; a method is a short recipe of them.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
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
from fovea.engine.make.optimise.canvas import Canvas, Normalise, to_preview
from fovea.engine.make.optimise.folded_network import QuickNetwork
from fovea.engine.make.optimise.losses import Term, View, total
from fovea.engine.make.optimise.replay import Replay
from fovea.engine.make.optimise.transforms import Transform, compose

if TYPE_CHECKING:
    from fovea.engine.make.optimise.animation import Film
    from fovea.engine.make.optimise.projection import Projection
    from fovea.engine.method import Job

PREVIEW_SECONDS = 0.3
REDIRECT_STEPS = 16
"""Lucid lets gradients through closed ReLUs for the first 16 steps, so that a dead unit can wake up."""

LONGEST_STEP = 0.1
"""Of the range from black to white."""

Optimiser = Callable[[list[Tensor]], torch.optim.Optimizer]


class GradientSteps(torch.optim.Optimizer):
    """Steps of a fixed size against the gradient, each picture's gradient brought to length 1 first.

    `norm` "mean": divided by its mean |·| (DeepDream 2015); "sign": its sign (FGSM, Goodfellow 2015);
    "l2": divided by its Euclidean length. "progress": divided by its squared length, so that the loss falls by `lr`
    where it is linear (the Deep Visualization Toolbox's policy of that name, Yosinski et al. 2015), and no step's root
    mean square is over `LONGEST_STEP`.
    """

    def __init__(self, parameters: list[Tensor], lr: float, norm: str = "mean") -> None:
        super().__init__(parameters, {"lr": lr})
        self.norm = norm

    def step(self, closure: Any = None) -> Any:
        """One step."""
        loss = None if closure is None else closure()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter -= group["lr"] * self._direction(parameter.grad)
        return loss

    def _direction(self, gradient: Tensor) -> Tensor:
        if self.norm == "sign":
            return gradient.sign()
        flat = gradient.flatten(1)
        size = flat.abs().mean(1) if self.norm == "mean" else flat.norm(dim=1)
        if self.norm == "progress":
            size = size.square().maximum(size * self.defaults["lr"] / (LONGEST_STEP * flat.shape[1] ** 0.5))
        return gradient / size.clamp_min(1e-12).view(-1, *[1] * (gradient.ndim - 1))


def adam(learning_rate: float) -> Optimiser:
    """Adam with its usual constants."""
    return lambda parameters: torch.optim.Adam(parameters, lr=learning_rate, fused=True)


def gradient_steps(size: float, norm: str = "mean") -> Optimiser:
    """`GradientSteps` of this size."""
    return lambda parameters: GradientSteps(parameters, size, norm)


class GuardedLBFGS(torch.optim.LBFGS):
    """L-BFGS, one evaluation a step and no line search, as Gatys et al. used it; it turns back where it went astray.

    The first step, and each one after the history was forgotten, is along the gradient and as long as would bring a
    loss that is linear down to 0 (Polyak's step), so that it suits canvases and losses of any scale. Without a line
    search a step can go wrong by orders of magnitude: where the loss is over `ASTRAY` times the best so far, the
    parameters return to their best, the history is forgotten and steps are halved; each good step lengthens them
    again, up to `lr`.
    """

    ASTRAY = 1.5
    LONGER = 1.2

    def __init__(self, parameters: list[Tensor], lr: float) -> None:
        # No tolerance: the loop counts the steps, and a deep layer's gradient is small long before it is flat.
        super().__init__(parameters, lr=lr, max_iter=1, history_size=20, tolerance_grad=0, tolerance_change=0)
        self.best = math.inf
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.share = 1.0

    def step(self, closure: Any) -> Any:  # type: ignore[override]
        """One step; returns the loss before it."""
        (group,) = self.param_groups
        moved: list[Tensor] = group["params"]
        loss = float(closure())
        if loss > self.ASTRAY * self.best:
            self._turn_back(moved)
        else:
            self.share = min(1.0, self.share * self.LONGER)
            if loss <= self.best:
                self.best, self.kept = loss, [(one.detach().clone(), _gradient(one)) for one in moved]
        before = [one.detach().clone() for one in moved]
        group["lr"] = self.defaults["lr"] * self.share * (1.0 if self.state else self._first(moved))
        super().step(lambda: loss)  # type: ignore[no-untyped-call]
        if all(torch.equal(*pair) for pair in zip(before, moved, strict=True)):
            self.state.clear()  # its direction did not lead down: along the gradient next time
        return loss

    def _turn_back(self, moved: list[Tensor]) -> None:
        with torch.no_grad():
            for one, (kept, gradient) in zip(moved, self.kept, strict=True):
                one.copy_(kept)
                one.grad = gradient.clone()
        self.state.clear()
        self.share *= 0.5

    def _first(self, moved: list[Tensor]) -> float:
        """What torch's own first step, 1 / Σ|gradient| and at most 1, has to be multiplied with."""
        gradients = [_gradient(one) for one in moved]
        summed, squared = (sum(float(f(g)) for g in gradients) for f in (_length, _square))
        return abs(self.best) / max(squared, 1e-30) * max(1.0, summed)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "a closure leaves the gradients on the parameters"
    return parameter.grad


def _length(gradient: Tensor) -> Tensor:
    return gradient.abs().sum()


def _square(gradient: Tensor) -> Tensor:
    return gradient.square().sum()


def lbfgs(learning_rate: float = 1.0) -> Optimiser:
    """`GuardedLBFGS`."""
    return lambda parameters: GuardedLBFGS(parameters, learning_rate)


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
    """One optimisation on its way."""

    def __init__(
        self,
        job: Job,
        canvas: Canvas,
        terms: Sequence[Term],
        transforms: Sequence[Transform],
        seed: int,
        wake: bool = True,
        tile: int | None = None,
        steps: int = 1 << 30,
    ) -> None:
        self.wake, self.tile = wake, tile
        self.job = job
        self.normalise = Normalise(job.card.preprocessing, job.device)
        self.canvas = canvas
        self.terms = list(terms)
        taps = list(dict.fromkeys(tap for term in terms for tap in term.loss.taps))
        self.network = QuickNetwork(job.network.module(job.device), taps)
        self.transform = compose(transforms) if transforms else None
        self.replay = Replay(functools.partial(self._losses, "gradient"), steps)
        self.generator = torch.Generator().manual_seed(seed)
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
        if self.tile is not None:
            return self._backward_by_tiles(rule, self.tile)
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
        if self.wake and len(self.rows) < REDIRECT_STEPS:
            after = self.generator.get_state()
            self.generator.set_state(drawn)
            gradients = self._woken(gradients, each)
            self.generator.set_state(after)
        value, sums, values = _read(loss, gradients, each)
        row = {name: float(one.mean()) for name, one in values.items()}
        bad = [name for name, mean in row.items() if not math.isfinite(mean)]
        # A finite sum says in one pass that all values are.
        finite = [math.isfinite(one) or bool(torch.isfinite(g).all()) for one, g in zip(sums, gradients, strict=True)]
        if bad or not all(finite):
            raise _NotFinite(f"the term {bad[0]}" if bad else "the gradient")
        self.rows.append({"step": len(self.rows), "loss": value, **row})
        self.each.append(values)
        self.good = picture.detach().clone()
        for parameter, gradient in zip(self.canvas.parameters, gradients, strict=True):
            parameter.grad = gradient.contiguous()  # in the parameter's own order: optimisers read them side by side
        return value

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
    value, *sums = (float(one) for one in flat[: 1 + len(gradients)])
    ends = np.cumsum([term.numel() for term in each.values()])[:-1]
    return value, sums, dict(zip(each, np.split(flat[1 + len(gradients) :], ends), strict=True))


def _no_gradient(gradient: Tensor, count: int) -> Tensor:
    """Which pictures have no gradient at all, (N,); (1,) for a parameter that all of them share."""
    if len(gradient) != count:
        gradient = gradient[None]
    return ~gradient.flatten(1).any(1)


def _cool(mover: torch.optim.Optimizer, done: float) -> None:
    """Set each step size to its part of what it was at first; `done` from 0 to 1."""
    for group in mover.param_groups:
        first = group.setdefault("first_lr", group["lr"])
        group["lr"] = first * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def optimise(
    job: Job,
    canvas: Canvas,
    terms: Sequence[Term],
    *,
    steps: int,
    optimiser: Optimiser,
    transforms: Sequence[Transform] = (),
    projection: Projection | None = None,
    seed: int | None = None,
    portion: tuple[float, float] = (0.0, 1.0),
    message: str = "",
    preview: Callable[[Tensor], Any] = to_preview,
    cooling: bool = False,
    film: Film | None = None,
    wake: bool = True,
    tile: int | None = None,
    resumed: bool = False,
    enough: Callable[[int, Tensor], bool] | None = None,
) -> Made:
    """Move the canvas for `steps` steps so that the weighted sum of the terms falls.

    The network runs no further than the deepest tap that a term reads. `job.progress` is told after each step,
    with a picture at most every `PREVIEW_SECONDS`, as the fractions `portion` of the whole run; it may raise
    Cancelled. `preview` draws that picture, and the frames that `film` keeps. With `cooling` the optimiser's step
    falls to a twentieth along half a cosine, so that the last steps settle. `wake`: a picture without any gradient
    gets the redirected rule's in the first steps. With `tile` the network runs on one tile of at most that side after
    the other, so that its memory does not grow with the picture: for terms that are means over positions. `enough` is
    asked after each step, with the number of steps and the picture, whether to end there. Where a term or the gradient
    is not finite, the loop stops with the last good picture and warns which it was. Raises NetworkError if that happens
    before the first step, unless the loop goes on with what another one made (`resumed`), which then stays.
    """
    loop = _Loop(job, canvas, terms, transforms, job.seed if seed is None else seed, wake, tile, steps)
    mover = optimiser(canvas.parameters)
    shown, stopped = 0.0, ""
    for step in range(steps):
        if cooling:
            _cool(mover, step / max(1, steps - 1))
        try:
            mover.step(loop.evaluate)
        except _NotFinite as error:
            stopped = f"{error} was not finite in step {step + 1}: stopped, with the last good picture"
            if step == 0 and not resumed:
                raise NetworkError(f"{error} is not finite on the starting picture: the network overflows") from None
            job.warn(stopped)
            break
        if projection is not None:
            projection(canvas, step)
        now = time.monotonic()
        due, filmed = now - shown >= PREVIEW_SECONDS, film is not None and film.due()
        picture = preview(loop.good) if due or filmed else None
        if filmed and film is not None and picture is not None:
            film.add(picture)
        shown = now if due else shown
        fraction = portion[0] + (portion[1] - portion[0]) * (step + 1) / steps
        curve = {name: value for name, value in loop.rows[-1].items() if name != "step"}
        job.progress(fraction, f"{message or 'step'} {step + 1} of {steps}", picture if due else None, curve)
        if enough is not None and enough(step + 1, canvas.picture().detach()):
            break
    with torch.no_grad():
        last = canvas.picture().detach()
    return loop.made(loop.good if stopped or not bool(torch.isfinite(last).all()) else last.clone(), stopped)
