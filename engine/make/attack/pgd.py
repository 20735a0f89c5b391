"""Projected gradient descent in L-infinity from a random start (Madry et al. 2018, section 2.1).

A step is 2/255, as in the paper, at the radius 8/255.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fovea.engine.make.attack.shared.attack import Attack, Batch
from fovea.engine.options import Options

if TYPE_CHECKING:
    from torch import Tensor


def run(batch: Batch[Options]) -> Tensor:
    """From a random place in the ball, each step: picture + step size · sign(gradient), then back, (N, C, H, W)."""
    from fovea.engine.make.attack.shared.ball import ball_attack, random_start
    from fovea.engine.make.optimise.optimisers import gradient_steps

    start = random_start(batch, math.inf)
    return ball_attack(batch, math.inf, gradient_steps(batch.step_size, "sign"), start)


ATTACK = Attack(
    name="pgd",
    title="PGD",
    summary="takes small steps from a random start",
    paper="Madry et al. 2018",
    year=2018,
    norm=math.inf,
    run=run,
    options=Options,
    steps=10,
    epsilon=8 / 255,
    step=0.25,
)
