"""DeepFool: the shortest way over the nearest border between classes (Moosavi-Dezfooli et al. 2016, algorithm 2).

It looks for the smallest change instead of staying in a ball: each step treats the network as linear, and goes to the
border that is nearest then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from fovea.engine.make.attack.shared.attack import Attack, Batch, Told, silent
from fovea.engine.options import Options, option

if TYPE_CHECKING:
    from torch import Tensor


class DeepFoolOptions(Options):
    """What DeepFool alone is told."""

    overshoot: float = option(
        0.02,
        "How far the picture goes beyond the border, as a part of the way to it. The paper's value is 0.02; raise it "
        "where the change is lost when the picture is rounded.",
        ge=0,
        le=1,
        advanced=True,
    )


def run(batch: Batch[DeepFoolOptions]) -> Tensor:
    """The pictures (N, C, H, W) that DeepFool ends at."""
    from fovea.engine.make.attack.shared.scores import scores_of

    scores = scores_of(batch.job, quick=True)
    overshoot = batch.options.overshoot
    return deepfool(scores, batch.clean, batch.classes, steps=batch.steps, overshoot=overshoot, told=batch.told)


def deepfool(
    scores: Callable[[Tensor], Tensor],
    clean: Tensor,
    labels: Tensor,
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    tried: int = 10,
    told: Told = silent,
) -> Tensor:
    """The pictures (N, C, H, W) that DeepFool ends at, among the `tried` best classes of each clean one.

    A picture that is no longer its label rests, and costs nothing more. One gradient a border, from one forward.
    """
    import torch

    pictures, change = clean.clone(), torch.zeros_like(clean)
    active = torch.arange(len(clean), device=clean.device)
    others: Tensor | None = None
    latest = torch.empty(0)
    for step in range(steps):
        x = pictures[active].requires_grad_(True)
        with torch.enable_grad():
            logits = scores(x)
            if others is None:
                others = _best_others(logits.detach(), labels, tried)
                latest = logits.detach().clone()
            latest[active] = logits.detach()
            rows = torch.arange(len(active), device=clean.device)
            still = (logits.detach().argmax(1) == labels[active]).nonzero()[:, 0]
            told((step + 1) / steps, f"step {step + 1} of at most {steps}", pictures, latest.softmax(1))
            if not len(still):
                break
            borders = logits[rows[:, None], others[active]] - logits[rows, labels[active]][:, None]
            directions = [
                torch.autograd.grad(borders[:, k].sum(), x, retain_graph=k + 1 < borders.shape[1])[0]
                for k in range(borders.shape[1])
            ]
        moves = nearest_border(borders.detach()[still], torch.stack(directions, 1)[still])
        active = active[still]
        change[active] += moves
        pictures[active] = (clean[active] + (1 + overshoot) * change[active]).clamp(0, 1)
    return pictures


def _best_others(scores: Tensor, labels: Tensor, tried: int) -> Tensor:
    """The best classes beside each label, (N, tried − 1)."""
    without = scores.scatter(1, labels[:, None], -math.inf)
    order: Tensor = without.argsort(stable=True, dim=1, descending=True)
    return order[:, : max(1, min(tried, scores.shape[1]) - 1)]


def nearest_border(differences: Tensor, directions: Tensor) -> Tensor:
    """The shortest steps (N, C, H, W) to the nearest border of networks that were linear.

    `differences` (N, k) of the scores of k other classes and the label's, `directions` (N, k, C, H, W) their
    gradients. Moosavi-Dezfooli et al. 2016, eq. 8 and 9; their code adds 1e-4 to the distance, so that it is crossed.
    """
    import torch

    lengths = directions.flatten(2).norm(dim=2).clamp_min(1e-12)
    distances = differences.abs() / lengths
    rows = torch.arange(len(distances), device=distances.device)
    nearest = distances.argmin(1)
    size = (distances[rows, nearest] + 1e-4) / lengths[rows, nearest]
    moves: Tensor = size.view(-1, 1, 1, 1) * directions[rows, nearest]
    return moves


ATTACK = Attack(
    name="deepfool",
    title="DeepFool",
    summary="looks for the shortest change that crosses the nearest border between classes",
    paper="Moosavi-Dezfooli et al. 2016",
    year=2016,
    norm=2.0,
    run=run,
    options=DeepFoolOptions,
    steps=50,
    targeted=False,
    # One gradient for each of nine borders; it is done long before its last step.
    work=lambda steps, options: 19.0 * min(steps, 8),
)
