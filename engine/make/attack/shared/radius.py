"""What the name of an attack stands for, and its change in whole grey levels. No torch here: forms read it, too."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Attack:
    """`norm` 0, 2 or inf; `epsilon` the radius of its ball, inf without one; `step` a part of epsilon.

    `momentum` is Dong's mu. `gradients`: it needs the torch network. `targeted`: it can be given a class to reach.
    """

    norm: float
    epsilon: float = math.inf
    step: float = 0.0
    steps: int = 1
    random_start: bool = False
    momentum: float = 0.0
    gradients: bool = True
    targeted: bool = True

    @property
    def bounded(self) -> bool:
        """Whether it stays in a ball."""
        return math.isfinite(self.epsilon)


ATTACKS = {
    "fgsm": Attack(math.inf, 8 / 255, 1.0, 1),
    "bim": Attack(math.inf, 8 / 255, 0.125, 10),
    "momentum": Attack(math.inf, 8 / 255, 0.1, 10, momentum=1.0),
    "pgd": Attack(math.inf, 8 / 255, 0.25, 10, True),
    "pgd_l2": Attack(2.0, 1.0, 0.2, 10, True),
    "deepfool": Attack(2.0, steps=50, targeted=False),
    "carlini_wagner": Attack(2.0, steps=1000),
    "few_pixel": Attack(0.0, steps=100, gradients=False),
}
"""bim: steps of 1/255 at 8/255. momentum: epsilon / steps. pgd and pgd_l2: 2/255 at 8/255 and 0.2 at 1.0."""


def fraction(value: Any) -> Any:
    """A fraction such as "8/255" as its number; anything else as it is. Raises ValueError."""
    if isinstance(value, str) and value.count("/") == 1:
        above, below = value.split("/")
        try:
            return float(above) / float(below)
        except (ValueError, ZeroDivisionError):
            raise ValueError("expected a number or a fraction such as 8/255") from None
    return value


def as_fraction(epsilon: float) -> str:
    """A radius for people: 8/255 where it is whole grey levels."""
    levels = epsilon * 255
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 and 1 <= round(levels) < 255 else f"{epsilon:g}"


def rounded_change(change: NDArray[Any], attack: Attack, epsilon: float) -> NDArray[Any]:
    """A change (..., C, H, W) of pixel values as whole grey levels, int, that stay in the ball.

    In L-infinity no level is above epsilon·255. In L2 the levels are rounded; where that makes a change too long, the
    values that grew most by it are rounded towards zero instead, as few as it takes.
    """
    import numpy as np

    levels: NDArray[Any] = np.rint(change * 255).astype(int)
    if not attack.bounded:
        return levels
    if attack.norm == math.inf:
        most = math.floor(epsilon * 255 + 1e-6)
        return levels.clip(-most, most)
    pairs = zip(levels.reshape(-1, *levels.shape[-3:]), change.reshape(-1, *levels.shape[-3:]), strict=True)
    return np.stack([_shortened(whole, exact * 255, epsilon * 255) for whole, exact in pairs]).reshape(levels.shape)


def _shortened(levels: NDArray[Any], exact: NDArray[Any], radius: float) -> NDArray[Any]:
    """Rounded levels of one picture brought back to a length of at most `radius`."""
    import numpy as np

    excess = float((levels**2).sum()) - radius**2
    if excess <= 0:
        return levels
    sizes, flat = np.abs(levels).ravel(), levels.ravel().copy()
    grown = sizes - np.abs(exact).ravel()
    order = np.argsort(-grown, kind="stable")[: int((grown > 0).sum())]
    saved = np.cumsum(2 * sizes[order] - 1)
    chosen = order[: int(np.searchsorted(saved, excess)) + 1]
    flat[chosen] -= np.sign(flat[chosen])
    return flat.reshape(levels.shape)


def attacked_frames(frames: NDArray[Any], changes: NDArray[Any], attack: Attack, epsilon: float) -> NDArray[Any]:
    """Frames uint8 (N, H, W, C) with changes (N, C, H, W) of pixel values, rounded within the ball and the box."""
    import numpy as np

    levels = np.moveaxis(rounded_change(changes, attack, epsilon), 1, -1)
    return np.ascontiguousarray(np.clip(frames + levels, 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Trial:
    """One radius that was tried, and whether the attack worked within it."""

    epsilon: float
    works: bool


def smallest_radius(
    works: Callable[[float], bool], first: float, *, levels: bool, largest: float, tolerance: float = 0.02
) -> tuple[float | None, list[Trial]]:
    """The smallest radius at which an attack works, by doubling from `first` and then bisection; and all trials.

    `levels`: only whole grey levels are tried, `first` rounded down to one (at least 1/255), and it ends at neighbours;
    otherwise at a relative `tolerance`. An attack may fail at a larger radius than one where it works: what is found
    works, and the next smaller one tried does not. None where it does not work up to `largest`.
    """
    trials: list[Trial] = []

    def tried(radius: float) -> bool:
        trials.append(Trial(radius, works(radius)))
        return trials[-1].works

    def allowed(radius: float) -> float:
        return max(1, math.floor(radius * 255 + 1e-6)) / 255 if levels else radius

    high, low = allowed(first), 0.0
    while not tried(high):
        if high >= allowed(largest):
            return None, trials
        low, high = high, allowed(min(2 * high, largest))
    while (high - low > 1.5 / 255) if levels else (high - low > tolerance * high):
        middle = allowed((low + high) / 2)
        if tried(middle):
            high = middle
        else:
            low = middle
    return high, trials
