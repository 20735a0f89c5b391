"""A few pixels are changed, without gradients: differential evolution of their places and colours.

Su, Vargas and Sakurai 2019, section III: candidates of (row, column, colour) for each pixel, F 0.5, no crossover,
a child replaces its parent if it is better. Departures: SciPy's evolution, a uniform start for places and colours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.make.attack.shared.attack import Attack, Batch
from fovea.engine.options import Options, option

if TYPE_CHECKING:
    from torch import Tensor

    from fovea.engine.make.judge.classifier import Ask


class FewPixelOptions(Options):
    """What this attack alone is told."""

    pixels: int = option(
        5,
        "How many pixels may change. The paper tries 1, 3 and 5; raise it where the photo stays what it is.",
        ge=1,
        le=1000,
        advanced=True,
    )
    population: int = option(
        400,
        "How many candidates each generation has. The paper uses 400; fewer are faster and find less.",
        ge=5,
        le=10000,
        advanced=True,
    )


def run(batch: Batch[FewPixelOptions]) -> Tensor:
    """The pictures (N, C, H, W) with a few pixels changed; the network is asked through ONNX Runtime."""
    import torch

    from fovea.engine.make.judge.classifier import RuntimeClassifier
    from fovea.engine.make.optimise.canvas import to_picture, to_pixels

    ask = RuntimeClassifier(batch.job)
    frames = to_pixels(batch.clean)

    def tell(
        n: int, fraction: float, message: str, frame: NDArray[np.uint8], probabilities: NDArray[np.float64]
    ) -> None:
        done = (n + fraction) / len(frames)
        batch.told(done, message, to_picture(frame), torch.from_numpy(probabilities[None]))

    for n, (frame, label, seed) in enumerate(zip(frames, batch.classes.tolist(), batch.seeds, strict=True)):
        frames[n] = few_pixels(
            ask,
            frame.copy(),
            label,
            targeted=batch.targeted,
            pixels=batch.options.pixels,
            population=batch.options.population,
            generations=batch.steps,
            seed=seed,
            told=functools.partial(tell, n),
        )
    return to_picture(frames, batch.job.device)


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
    ask: Ask,
    frame: NDArray[np.uint8],
    index: int,
    *,
    targeted: bool = False,
    pixels: int = 5,
    population: int = 400,
    generations: int = 100,
    seed: int = 0,
    told: Callable[[float, str, NDArray[np.uint8], NDArray[np.float64]], None] = lambda *_: None,
) -> NDArray[np.uint8]:
    """The frame with at most `pixels` of them changed, as near to success as the evolution came; it ends there.

    It lowers the probability of the class `index`, or `targeted` raises it. `told` gets the part that is
    done, a few words, the best frame so far and its probabilities (classes,). Raises NetworkError where a
    probability is not finite.
    """
    from scipy.optimize import differential_evolution

    from fovea.engine.make.judge.classifier import finite_probabilities

    height, width, channels = frame.shape
    bounds = ([(0, height), (0, width)] + [(0, 256)] * channels) * pixels
    best: dict[str, Any] = {"cost": np.inf, "frame": frame, "probabilities": None}
    generation = 0

    def cost(candidates: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal generation
        # SciPy hands over (genes, candidates).
        frames = with_pixels(frame, candidates.reshape(len(bounds), -1).T)
        probabilities = finite_probabilities(ask, frames)
        costs = -probabilities[:, index] if targeted else probabilities[:, index]
        winner = int(costs.argmin())
        if costs[winner] < best["cost"]:
            best.update(cost=costs[winner], frame=frames[winner], probabilities=probabilities[winner])
        message = f"generation {generation} of at most {generations}"
        told(min(1.0, generation / max(1, generations)), message, best["frame"], best["probabilities"])
        generation += 1
        return costs

    def succeeded(*_: Any, **__: Any) -> bool:
        return (int(best["probabilities"].argmax()) == index) is targeted

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


ATTACK = Attack(
    name="few_pixel",
    title="Few pixels",
    summary="changes a few pixels and needs no gradients",
    paper="Su et al. 2019",
    year=2019,
    norm=0.0,
    run=run,
    options=FewPixelOptions,
    steps=100,
    gradients=False,
    whole_levels=True,
    stronger=("pixels",),
    # It ends as soon as it fools.
    work=lambda steps, options: float(options.population * min(steps, 20)),
)
