"""Evolution of pictures by forward passes alone: one picture for each class, changed patch by patch.

Nguyen et al. 2015, section 2.2: MAP-Elites keeps the best picture that was met for each class, whoever's child it is.
Departures. They mutate pixels one by one, which takes thousands of generations, or evolve the picture's formula (CPPN);
here a child is its parent with one patch of random size and place more: a block, as in the Square Attack
(Andriushchenko et al. 2020), an oval, or a wave under a Gaussian (Gabor), which first layers answer to. Patches that
help by themselves are also tried together, since a picture has room for many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fovea.engine.make.judge.classifier import Ask, finite_probabilities

Frames = NDArray[np.uint8]
JOINED = (2, 3, 4, 6, 8, 12)
"""How many of the best patches are tried together; one batch a generation."""
FINEST, COARSEST = 1 / 32, 0.6
"""Sides of patches, and wave lengths up to a quarter, as parts of the longer side of the frame."""
CONTRAST = 80.0
"""Standard deviation of a patch's colour, in grey levels."""
STARTS = 12
"""Random mosaics at first, of each of four fine and coarse grids."""


@dataclass
class Elites:
    """The best 8-bit frame (H, W, C) of each class, (N, H, W, C), and its probability, (N,)."""

    frames: Frames
    probabilities: NDArray[np.float64]


def mosaic(cells: NDArray[np.float64], size: tuple[int, int]) -> Frames:
    """Cells (N, rows, columns, C) of grey levels as frames uint8 (N, H, W, C), each cell a block of pixels."""
    height, width = size
    rows, columns = (-(-length // count) for length, count in zip(size, cells.shape[1:3], strict=True))
    levels = np.clip(np.rint(cells), 0, 255).astype(np.uint8)
    return levels.repeat(rows, axis=1).repeat(columns, axis=2)[:, :height, :width]


def _starts(rng: np.random.Generator, size: tuple[int, int], channels: int) -> Frames:
    """Mosaics of 2, 4, 8 and 16 cells a side."""
    grids = [tuple(min(count, length) for length in size) for count in (2, 4, 8, 16)]
    return np.concatenate([mosaic(rng.uniform(0, 255, (STARTS, *grid, channels)), size) for grid in grids])


def patched(rng: np.random.Generator, parent: Frames) -> Frames:
    """The frame (H, W, C) with one random patch added, uint8."""
    height, width, channels = parent.shape
    longer = max(height, width)
    side = np.exp(rng.uniform(np.log(max(1.0, FINEST * longer)), np.log(max(1.0, COARSEST * longer))))
    high, wide = (int(np.clip(side * np.exp(rng.normal(0, 0.4)), min(2, length), length)) for length in (height, width))
    top, left = int(rng.integers(0, height - high + 1)), int(rng.integers(0, width - wide + 1))
    # A third of the patches is grey.
    colour = rng.normal(0, CONTRAST, channels) if rng.random() < 2 / 3 else np.full(channels, rng.normal(0, CONTRAST))
    mask = (_block, _oval, _wave)[int(rng.integers(3))](rng, high, wide, longer)
    child = parent.copy()
    region = child[top : top + high, left : left + wide]
    region[:] = np.clip(np.rint(region + mask[..., None] * colour), 0, 255)
    return child


def _block(rng: np.random.Generator, high: int, wide: int, longer: int) -> NDArray[np.float64]:
    return np.ones((high, wide))


def _from_centre(high: int, wide: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows (high, 1) and columns (1, wide), from -1 to 1."""
    rows, columns = np.ogrid[0:high, 0:wide]
    return (2 * rows + 1) / high - 1, (2 * columns + 1) / wide - 1


def _oval(rng: np.random.Generator, high: int, wide: int, longer: int) -> NDArray[np.float64]:
    rows, columns = _from_centre(high, wide)
    return (rows**2 + columns**2 <= 1).astype(np.float64)


def _wave(rng: np.random.Generator, high: int, wide: int, longer: int) -> NDArray[np.float64]:
    rows, columns = _from_centre(high, wide)
    length = np.exp(rng.uniform(np.log(max(2.0, FINEST * longer)), np.log(max(2.0, longer / 4))))
    turn, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    along = np.pi / length * (rows * high * np.sin(turn) + columns * wide * np.cos(turn))
    wave: NDArray[np.float64] = 1.5 * np.sin(along + phase) * np.exp(-2 * (rows**2 + columns**2))
    return wave


class _Evolution:
    """All classes on their way."""

    def __init__(self, ask: Ask, wanted: Sequence[int], start: Frames) -> None:
        self.ask, self.wanted = ask, list(wanted)
        self.best = Elites(start[[0] * len(self.wanted)], np.full(len(self.wanted), -1.0))
        self.meet(start)

    def meet(self, frames: Frames) -> NDArray[np.float64]:
        """Ask for the frames, and let each class keep what is better than what it had; (N, wanted)."""
        probabilities = finite_probabilities(self.ask, frames)[:, self.wanted]
        for place, row in enumerate(probabilities.argmax(0)):
            if probabilities[row, place] > self.best.probabilities[place]:
                self.best.frames[place], self.best.probabilities[place] = frames[row], probabilities[row, place]
        return probabilities

    def advance(self, place: int, population: int, rng: np.random.Generator) -> None:
        """One generation of a class."""
        parent, before = self.best.frames[place].copy(), self.best.probabilities[place]
        children = np.stack([patched(rng, parent) for _ in range(population)])
        probabilities = self.meet(children)[:, place]
        better = [int(row) for row in np.argsort(-probabilities, kind="stable") if probabilities[row] > before]
        if len(better) < 2:
            return
        changes = np.cumsum(children[better[: max(JOINED)]].astype(np.int32) - parent, axis=0)
        counts = [count - 1 for count in JOINED if count <= len(changes)]
        self.meet(np.clip(parent + changes[counts], 0, 255).astype(np.uint8))


def evolve(
    ask: Ask,
    wanted: Sequence[int],
    size: tuple[int, int],
    channels: int,
    *,
    population: int,
    generations: int,
    enough: float,
    seed: int,
    told: Callable[[int, Elites], None] = lambda generation, best: None,
) -> Elites:
    """The best picture of each class after `generations`, or once all are at least `enough` probable.

    A class that is done costs nothing more. `told` hears after each generation of each class. Raises NetworkError where
    a probability is not finite.
    """
    rng = np.random.default_rng(seed)
    evolution = _Evolution(ask, wanted, _starts(rng, size, channels))
    for generation in range(generations):
        for place in range(len(evolution.wanted)):
            if evolution.best.probabilities[place] < enough:
                evolution.advance(place, population, rng)
                told(generation, evolution.best)
        if evolution.best.probabilities.min() >= enough:
            break
    return evolution.best
