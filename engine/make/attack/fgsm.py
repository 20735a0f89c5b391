"""The fast gradient sign method: one step of the whole radius (Goodfellow et al. 2015, section 4)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fovea.engine.make.attack.shared.attack import Attack, Batch
from fovea.engine.options import Options

if TYPE_CHECKING:
    from torch import Tensor


def run(batch: Batch[Options]) -> Tensor:
    """picture + epsilon · sign(gradient of the cross-entropy), (N, C, H, W)."""
    from fovea.engine.make.attack.shared.ball import ball_attack
    from fovea.engine.make.optimise.optimisers import gradient_steps

    return ball_attack(batch, math.inf, gradient_steps(batch.step_size, "sign"))


ATTACK = Attack(
    name="fgsm",
    title="FGSM",
    summary="takes one step along the gradient's sign",
    paper="Goodfellow et al. 2015",
    year=2015,
    norm=math.inf,
    run=run,
    options=Options,
    steps=1,
    epsilon=8 / 255,
    step=1.0,
)
