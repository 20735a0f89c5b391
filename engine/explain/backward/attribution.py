"""One gradient of one score with respect to the normalised input, under a rule for the ReLUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fovea.engine.errors import NetworkError
from fovea.engine.explain.backward.rules import Rule, backward_rule
from fovea.engine.scores import Score
from fovea.models.memory import out_of_memory
from fovea.models.torch_net import forward_taps


@dataclass(frozen=True)
class Explained:
    """The `score` that was chosen, its `gradient` (N, C, H, W), its values (N,), and the tap's whole `output`.

    `notes`: what the rule for the ReLUs has to say to the user.
    """

    score: Score
    gradient: Tensor
    values: Tensor
    output: Tensor
    notes: tuple[str, ...] = ()


def explain(
    module: nn.Module, x: Tensor, tap: str, choose: Callable[[Tensor], Score], rule: Rule = "gradient"
) -> Explained:
    """The gradient at each input of the batch `x` (N, C, H, W) of the score that `choose(output of tap)` picks.

    One forward and one backward pass; the network runs no further than the tap. Raises NetworkError where the
    gradient is not finite, or nothing connects score and input.
    """
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        with backward_rule(rule) as mode:
            output = forward_taps(module, x, [tap])[tap]
        score = choose(output.detach())
        values = score.of(output)
        if not values.requires_grad:
            raise NetworkError(f"no gradient reaches the input from {score.words}: is it computed without autograd?")
        (gradient,) = torch.autograd.grad(values.sum(), x, materialize_grads=True)
    if not bool(torch.isfinite(gradient).all()):
        raise NetworkError(f"the gradient of {score.words} is not finite: the network overflows on this input")
    notes = tuple(mode.notes()) if mode is not None else ()
    return Explained(score, gradient, values.detach(), output.detach(), notes)


def gradient_of(module: nn.Module, score: Score, rule: Rule = "gradient") -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """What a sampling asks: a function from inputs (N, C, H, W) to the score's gradients and values (N,).

    A batch that does not fit memory is halved until it does. Raises NetworkError if not even one input fits.
    """

    def gradient(x: Tensor) -> tuple[Tensor, Tensor]:
        try:
            explained = explain(module, x, score.tap, lambda output: score, rule)
            return explained.gradient, explained.values
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        # Outside of the handler, so that what the failed pass held is free again.
        if len(x) == 1:
            raise NetworkError(f"the memory is too small for one backward pass at {x.shape[-2]} x {x.shape[-1]} pixels")
        halves = [gradient(half) for half in x.chunk(2)]
        return torch.cat([half[0] for half in halves]), torch.cat([half[1] for half in halves])

    return gradient
