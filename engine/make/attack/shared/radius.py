"""Radii of balls: how people write them, and the smallest one at which an attack works. No torch: forms read it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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
