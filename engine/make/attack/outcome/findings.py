"""One photo under attack: what the network said of it, what was tried on it, and what came of that."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.make.attack.shared.attack import Attack
from fovea.engine.make.attack.shared.radius import Trial

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from fovea.engine.make.attack.outcome.twins import Twins
    from fovea.engine.progress import Progress

STEP_ROWS = 400
"""At most so many steps are kept for the curve."""
PREVIEW_SECONDS = 0.3


@dataclass(frozen=True)
class AttackedPhoto:
    """A photo and where it is driven; classes by index.

    `frame` (H, W, C) is what the network sees of it and `names` are its classes. `ask` gives class probabilities
    (N, classes) of frames (N, H, W, C), and `before` (classes,) are those of this frame: its class is `label`. The
    photo is driven to `target`, or away from its label where that is None. `truth` is what it really shows, if told.
    """

    frame: NDArray[np.uint8]
    names: tuple[str, ...]
    ask: Callable[[NDArray[np.uint8]], NDArray[np.float64]]
    before: NDArray[np.float64]
    label: int
    target: int | None
    truth: int | None

    def fools(self, index: int) -> bool:
        """Whether this class is a success."""
        return index == self.target if self.target is not None else index != self.label

    @property
    def errs(self) -> bool:
        """Whether the network is wrong about the photo before anything is done to it."""
        return self.truth is not None and self.truth != self.label


class Watch:
    """Hears of each step of an attack (see `Told`): passes on how far it is, and keeps class probabilities.

    `rows` of them (classes,), and the `steps` that they were met at, from 0; `taken` counts the steps that were told.
    """

    def __init__(self, photo: AttackedPhoto, progress: Progress) -> None:
        self._photo, self._progress, self._last, self._shown = photo, progress, -1, 0.0
        self.rows: list[NDArray[Any]] = []
        self.steps: list[int] = []
        self.taken = 0

    def __call__(self, fraction: float, message: str, pictures: Tensor, probabilities: Tensor) -> None:
        """Keep these probabilities, unless there are many already. Raises Cancelled."""
        from fovea.engine.make.optimise.canvas import to_preview

        values = probabilities[0].cpu().numpy()
        place = int(fraction * STEP_ROWS)
        if place != self._last:
            self.rows.append(values)
            self.steps.append(self.taken)
            self._last = place
        self.taken += 1
        now = time.monotonic()
        due = now - self._shown >= PREVIEW_SECONDS
        self._shown = now if due else self._shown
        photo = self._photo
        watched = [photo.label] if photo.target is None else [photo.label, photo.target]
        curve = {f"probability of {photo.names[index]}": float(values[index]) for index in watched}
        self._progress(fraction, message, to_preview(pictures) if due else None, curve)


@dataclass(frozen=True)
class Attempt:
    """An attacked frame (H, W, C), 8-bit, and the way to it.

    `raw_class` is that of the picture before rounding, None where it was not asked. `epsilon` is the radius of the
    ball; `lengthened` by how much the change was multiplied for want of one; `trials` the radii that were searched.
    """

    frame: NDArray[np.uint8]
    raw_class: int | None
    watch: Watch
    epsilon: float = math.inf
    lengthened: float = 1.0
    trials: list[Trial] = field(default_factory=list)


@dataclass(frozen=True)
class Findings:
    """What an attack found.

    `pixels` (H, W, C) is the attacked frame as it is saved and read back, and `after` (classes,) its class
    probabilities. `sizes`: the norms of the change by name. `survival` and `transfer` are the tables of
    `outcome/survival.py`; there is no `transfer` where no other network was named, and no `twins` without gradients.
    """

    attack: Attack[Any]
    photo: AttackedPhoto
    attempt: Attempt
    pixels: NDArray[np.uint8]
    after: NDArray[np.float64]
    sizes: dict[str, float]
    survival: pd.DataFrame
    transfer: pd.DataFrame | None
    twins: Twins | None

    @property
    def now(self) -> int:
        """The class of the saved picture."""
        return int(self.after.argmax())
