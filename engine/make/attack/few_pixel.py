"""Attacks on a few pixels, which need no gradient: differential evolution over their places and colours.

Su, Vargas and Sakurai 2019, section III: candidates of (row, column, colour) for each pixel, F 0.5, no crossover,
a child replaces its parent if it is better. Departures: SciPy's evolution, a uniform start for places and colours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.make.fool.evolution import finite_answers

Probabilities = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
"""Frames uint8 (N, H, W, C) to class probabilities (N, classes)."""


def with_pixels(frame: NDArray[np.uint8], candidates: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The frame (H, W, C) once for each candidate (N, pixels * (2 + C)), its pixels set, uint8 (N, H, W, C)."""
    height, width, channels = frame.shape
    genes = np.floor(candidates.reshape(len(candidates), -1, 2 + channels)).astype(int)
    frames = np.repeat(frame[None], len(candidates), axis=0)
    rows, columns = genes[..., 0].clip(0, height - 1), genes[..., 1].clip(0, width - 1)
    for place in range(genes.shape[1]):
        frames[np.arange(len(frames)), rows[:, place], columns[:, place]] = genes[:, place, 2:].clip(0, 255)
    return frames


def few_pixels(
    ask: Probabilities,
    frame: NDArray[np.uint8],
    label: int,
    *,
    target: int | None = None,
    pixels: int = 5,
    population: int = 400,
    generations: int = 100,
    seed: int = 0,
    told: Callable[[float, NDArray[np.uint8], NDArray[np.float64]], None] = lambda fraction, frame, found: None,
) -> NDArray[np.uint8]:
    """The frame with at most `pixels` of them changed, as near to success as the evolution came; it ends there.

    It lowers the probability of `label`, or raises that of `target`. `told` gets the best frame of each generation
    and its probabilities (classes,). Raises NetworkError where a probability is not finite.
    """
    from scipy.optimize import differential_evolution

    height, width, channels = frame.shape
    bounds = ([(0, height), (0, width)] + [(0, 256)] * channels) * pixels
    best: dict[str, Any] = {"cost": np.inf, "frame": frame, "found": None}
    generation = 0

    def cost(candidates: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal generation
        # SciPy hands over (genes, candidates).
        frames = with_pixels(frame, candidates.reshape(len(bounds), -1).T)
        found = finite_answers(ask, frames)
        costs = found[:, label] if target is None else -found[:, target]
        winner = int(costs.argmin())
        if costs[winner] < best["cost"]:
            best.update(cost=costs[winner], frame=frames[winner], found=found[winner])
        told(min(1.0, generation / max(1, generations)), best["frame"], best["found"])
        generation += 1
        return costs

    def succeeded(*_: Any, **__: Any) -> bool:
        first = int(best["found"].argmax())
        return first != label if target is None else first == target

    differential_evolution(
        cost,
        bounds,
        init=_start(bounds, population, seed),
        maxiter=generations,
        mutation=0.5,
        recombination=1.0,
        strategy="rand1bin",
        tol=0.0,
        polish=False,
        updating="deferred",
        vectorized=True,
        rng=np.random.default_rng(seed),
        callback=succeeded,
    )
    chosen: NDArray[np.uint8] = best["frame"]
    return chosen


def _start(bounds: Sequence[tuple[int, int]], population: int, seed: int) -> NDArray[np.float64]:
    """The first candidates (population, genes), uniform within their bounds."""
    low, high = np.array(bounds, np.float64).T
    return np.random.default_rng([seed, 1]).uniform(low, high, (max(5, population), len(bounds)))
