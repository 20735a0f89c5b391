"""What the loop tells after each step, and how a person is shown it: progress, a preview now and then, an animation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fovea.engine.make.optimise.canvas import Canvas, to_preview

if TYPE_CHECKING:
    from fovea.engine.make.optimise.animation import Animation
    from fovea.engine.progress import Tell

PREVIEW_SECONDS = 0.3
"""A picture on its way is shown at most so often."""


@dataclass(frozen=True)
class Iterate:
    """Where the loop stands after `step` of `steps` steps, counted from 1.

    `losses` has "loss", the weighted sum, and each term's mean over the pictures, as they were of `picture`
    (N, C, H, W), which the step began with; `canvas` is what the step made of it.
    """

    step: int
    steps: int
    picture: Tensor
    losses: Mapping[str, float]
    canvas: Canvas


class Growth:
    """A callback of the loop that tells progress after each step, with a picture at most every `PREVIEW_SECONDS`.

    `message` stands before the step's number; `draw` makes uint8 (H, W, 3) of a picture (N, C, H, W), for the preview
    and for the frames of `animation`.
    """

    def __init__(
        self,
        tell: Tell,
        message: str = "step",
        *,
        draw: Callable[[Tensor], NDArray[np.uint8]] = to_preview,
        animation: Animation | None = None,
    ) -> None:
        self.tell, self.message, self.draw, self.animation = tell, message, draw, animation
        self.shown = 0.0

    def __call__(self, iterate: Iterate) -> bool:
        """Tell it; never ends the loop. Raises Cancelled if the user stopped the run."""
        now = time.monotonic()
        due = now - self.shown >= PREVIEW_SECONDS
        filmed = self.animation if self.animation is not None and self.animation.due() else None
        picture = self.draw(iterate.picture) if due or filmed is not None else None
        if filmed is not None and picture is not None:
            filmed.add(picture)
        self.shown = now if due else self.shown
        message = f"{self.message} {iterate.step} of {iterate.steps}"
        self.tell(iterate.step / iterate.steps, message, picture if due else None, iterate.losses)
        return False
