"""Projected gradient descent in Euclidean length from a random start (Madry et al. 2018, section 2.1).

A step is 0.2 at the radius 1, as long a way in ten steps as PGD's in L-infinity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fovea.engine.make.attack.shared.attack import Attack, Batch
from fovea.engine.options import Options

if TYPE_CHECKING:
    from torch import Tensor


def run(batch: Batch[Options]) -> Tensor:
    """From a random place in the ball, each step: picture + step size · gradient / its length, then back."""
    from fovea.engine.make.attack.shared.ball import ball_attack, random_start
    from fovea.engine.make.optimise.optimisers import gradient_steps

    return ball_attack(batch, 2.0, gradient_steps(batch.step_size, "l2"), random_start(batch, 2.0))


ATTACK = Attack(
    name="pgd_l2",
    title="PGD in L2",
    summary="takes small steps from a random start and bounds the Euclidean length of the change",
    paper="Madry et al. 2018",
    year=2018,
    norm=2.0,
    run=run,
    options=Options,
    steps=10,
    epsilon=1.0,
    step=0.2,
)
