"""Evolution of a whole picture, cell by cell, by forward passes alone.

A population about one parent, ranked by the network and recombined with weights: Rechenberg's evolution strategy with
the weights of Hansen (2016, "The CMA Evolution Strategy: a tutorial", eq. 49), mirrored pairs (Brockhoff et al. 2010)
and the scale of change ruled by success. Nguyen et al. (2015, section 2.2) mutate pixels one by one, which takes some
thousand generations; cells of several pixels take some tens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Fitness = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
"""Frames uint8 (N, H, W, C) to the probability (N,) that is to be raised."""

SHRINK, GROW = 0.85, 1.05
SCALES = (3.0, 80.0)
"""The scale of change, in grey levels, stays between these."""


@dataclass
class Evolved:
    """The best 8-bit `frame` (H, W, C) that was met, and its `probability`."""

    frame: NDArray[np.uint8]
    probability: float


def painted(cells: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Cells (N, rows, columns, C) of grey levels as frames uint8 (N, H, W, C), each cell a block of pixels."""
    height, width = size
    rows, columns = (-(-length // count) for length, count in zip(size, cells.shape[1:3], strict=True))
    levels = np.clip(np.rint(cells), 0, 255).astype(np.uint8)
    return levels.repeat(rows, axis=1).repeat(columns, axis=2)[:, :height, :width]


def evolve(
    fitness: Fitness,
    size: tuple[int, int],
    channels: int,
    *,
    cell: int,
    population: int,
    generations: int,
    enough: float,
    seed: int,
    scale: float = 40.0,
    told: Callable[[int, Evolved], None] = lambda generation, best: None,
) -> Evolved:
    """The best picture after `generations`, or the first whose probability is at least `enough`.

    It starts from noise, uniform in every cell of `cell` x `cell` pixels. `told` hears of every generation.
    """
    rng = np.random.default_rng(seed)
    grid = (-(-size[0] // cell), -(-size[1] // cell))
    half = max(2, population // 2)
    weights = np.log(half + 0.5) - np.log(np.arange(1, half + 1))
    weights = (weights / weights.sum())[:, None, None, None]
    parent = rng.uniform(0, 255, (*grid, channels))
    best = Evolved(painted(parent[None], size)[0], 0.0)
    for generation in range(generations):
        draws = rng.normal(size=(half, *parent.shape))
        children = np.clip(parent + scale * np.concatenate([draws, -draws]), 0, 255)
        # The parent is asked with its children, so that a generation is one batch.
        frames = painted(np.concatenate([parent[None], children]), size)
        found = fitness(frames)
        winner = int(found.argmax())
        if found[winner] > best.probability:
            best = Evolved(frames[winner], float(found[winner]))
        told(generation, best)
        if best.probability >= enough:
            break
        order = np.argsort(-found[1:], kind="stable")[:half]
        parent = (weights * children[order]).sum(0)
        # A parent above all of its children: they were thrown too far.
        scale = float(np.clip(scale * (SHRINK if winner == 0 else GROW), *SCALES))
    return best
