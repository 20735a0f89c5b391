"""From one attribution per input value (C, H, W) to one per pixel (H, W)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class Reduction:
    """`apply(values, x)` maps attributions and input, both (C, H, W), to (H, W); `scale` is how it is drawn."""

    apply: Callable[[Tensor, Tensor], Tensor]
    scale: Literal["sequential", "diverging"]
    words: str


REDUCTIONS: dict[str, Reduction] = {
    "max_abs": Reduction(
        lambda values, x: values.abs().amax(0), "sequential", "the largest absolute value of the channels"
    ),
    "sum": Reduction(lambda values, x: values.sum(0), "diverging", "the signed sum over the channels"),
    "positive": Reduction(
        lambda values, x: values.clamp_min(0).amax(0), "sequential", "the largest positive value of the channels"
    ),
    "grad_times_input": Reduction(
        lambda values, x: (values * x).sum(0), "diverging", "the gradient times the input, summed over the channels"
    ),
}
"""max_abs is Simonyan's section 3.1; grad_times_input is Shrikumar's 2016 form, on the normalised input."""
