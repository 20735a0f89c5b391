"""The basic iterative method: many small steps of FGSM (Kurakin et al. 2017, section 2.1).

A step is 1/255, as in the paper, at the radius 8/255.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fovea.engine.make.attack.shared.attack import Attack, Batch
from fovea.engine.options import Options

if TYPE_CHECKING:
    from torch import Tensor


def run(batch: Batch[Options]) -> Tensor:
    """Each step: picture + step size · sign(gradient), then back into the ball, (N, C, H, W)."""
    from fovea.engine.make.attack.shared.ball import ball_attack
    from fovea.engine.make.optimise.optimisers import gradient_steps

    return ball_attack(batch, math.inf, gradient_steps(batch.step_size, "sign"))


ATTACK = Attack(
    name="bim",
    title="Basic iterative method",
    summary="takes small steps along the gradient's sign",
    paper="Kurakin et al. 2017",
    year=2017,
    norm=math.inf,
    run=run,
    options=Options,
    steps=10,
    epsilon=8 / 255,
    step=0.125,
)
