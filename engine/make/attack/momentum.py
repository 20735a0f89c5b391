"""The momentum iterative method: steps along the sign of gathered gradients (Dong et al. 2018, algorithm 1).

The paper's decay factor mu is 1, and a step is the radius divided by the steps.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fovea.engine.make.attack.shared.attack import Attack, Batch
from fovea.engine.options import Options

if TYPE_CHECKING:
    from torch import Tensor


def run(batch: Batch[Options]) -> Tensor:
    """Each step: picture + step size · sign(Σ of all gradients so far, each divided by its own Σ|·|), (N, C, H, W)."""
    import torch

    from fovea.engine.make.attack.shared.ball import ball_attack, steps_along

    gathered = torch.zeros_like(batch.clean)

    def direction(gradient: Tensor) -> Tensor:
        size = gradient.flatten(1).abs().sum(1).clamp_min(1e-30).view(-1, 1, 1, 1)
        gathered.add_(gradient / size)
        return gathered.sign()

    return ball_attack(batch, math.inf, steps_along(direction, batch.step_size))


ATTACK = Attack(
    name="momentum",
    title="Momentum iterative method",
    summary="takes steps along the sign of all gradients gathered so far",
    paper="Dong et al. 2018",
    year=2018,
    norm=math.inf,
    run=run,
    options=Options,
    steps=10,
    epsilon=8 / 255,
    step=0.1,
)
