"""How a canvas is moved: Adam, steps of a fixed size along the gradient, and an L-BFGS that turns back.

Each function here gives what makes an optimiser of parameters, as the loop wants it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Optimiser = Callable[[list[Tensor]], torch.optim.Optimizer]
"""Makes the optimiser of a canvas's parameters."""

LONGEST_STEP = 0.1
"""The largest root mean square of a step, as a part of the range from black to white."""


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
                self.best = loss
                self.kept = [(parameter.detach().clone(), _gradient(parameter)) for parameter in moved]
        before = [parameter.detach().clone() for parameter in moved]
        group["lr"] = self.defaults["lr"] * self.share * (1.0 if self.state else self._first(moved))
        super().step(lambda: loss)  # type: ignore[no-untyped-call]
        if all(torch.equal(*pair) for pair in zip(before, moved, strict=True)):
            self.state.clear()  # its direction did not lead down: along the gradient next time
        return loss

    def _turn_back(self, moved: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, (kept, gradient) in zip(moved, self.kept, strict=True):
                parameter.copy_(kept)
                parameter.grad = gradient.clone()
        self.state.clear()
        self.share *= 0.5

    def _first(self, moved: list[Tensor]) -> float:
        """What torch's own first step, 1 / Σ|gradient| and at most 1, has to be multiplied with."""
        gradients = [_gradient(parameter) for parameter in moved]
        summed = sum(float(gradient.abs().sum()) for gradient in gradients)
        squared = sum(float(gradient.square().sum()) for gradient in gradients)
        return abs(self.best) / max(squared, 1e-30) * max(1.0, summed)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "a closure leaves the gradients on the parameters"
    return parameter.grad


def lbfgs(learning_rate: float = 1.0) -> Optimiser:
    """`GuardedLBFGS`."""
    return lambda parameters: GuardedLBFGS(parameters, learning_rate)


def cooled(optimiser: Optimiser, steps: int) -> Optimiser:
    """The optimiser with its step falling to a twentieth along half a cosine over `steps` steps, so that it settles."""

    def make(parameters: list[Tensor]) -> torch.optim.Optimizer:
        made, taken = optimiser(parameters), itertools.count()
        first = [group["lr"] for group in made.param_groups]

        def cool(*_: Any) -> None:
            done = next(taken) / max(1, steps - 1)
            for group, rate in zip(made.param_groups, first, strict=True):
                group["lr"] = rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))

        made.register_step_pre_hook(cool)
        return made

    return make
