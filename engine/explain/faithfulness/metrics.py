"""Figures that say how far a map can be trusted: orders of pixels, areas under curves, likeness of two maps.

Petsiuk et al. 2018 (RISE), section 4.3, for deletion and insertion; Adebayo et al. 2018, section 3, for rank
correlation and SSIM between maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fovea.engine.explain.maps.map_tiles import scale_of

Values = NDArray[Any]

GRID = 14
"""Maps of different sharpness are compared on so many rows and columns."""

FLAT = 1e-6
"""A map whose values differ by no more than this share of the largest is rounding noise about a constant."""


def has_order(values: Values) -> bool:
    """Whether a map says that any pixel matters more than another; a constant or all-zero map does not."""
    spread = float(values.max() - values.min())
    return bool(np.isfinite(spread)) and spread > FLAT * float(np.abs(values).max())


def pixel_ranks(values: Values, seed: int = 0) -> NDArray[np.int64]:
    """The place of every pixel (H, W) in the order of falling `values`, from 0; ties are drawn with `seed`.

    Ties are common where a map was clipped at zero: by position they would follow the rows of the picture.
    """
    draws = np.random.default_rng(seed).random(values.size)
    order = np.lexsort((draws, -np.asarray(values, np.float64).ravel()))
    ranks = np.empty(values.size, np.int64)
    ranks[order] = np.arange(values.size)
    return ranks.reshape(values.shape)


def random_ranks(shape: tuple[int, int], seed: int) -> NDArray[np.int64]:
    """The pixels of a frame (H, W) in an order drawn with `seed`."""
    return np.random.default_rng(seed).permutation(shape[0] * shape[1]).reshape(shape)


def centre_blob(shape: tuple[int, int]) -> NDArray[np.float64]:
    """A map (H, W) that knows nothing but where the middle is: highest there, falling to the edges alike."""
    rows, columns = ((np.arange(side) + 0.5) / side - 0.5 for side in shape)
    return -(rows[:, None] ** 2 + columns[None, :] ** 2)


def curve_counts(pixels: int, steps: int) -> NDArray[np.int64]:
    """How many pixels are changed at each of the `steps` + 1 points of a curve, from none to all.

    The points lie close at both ends (a cosine's), for there the scores change: a hundredth of the pixels, if they
    are scattered, is often enough to lose the class.
    """
    return np.rint(pixels * (1 - np.cos(np.linspace(0, np.pi, steps + 1))) / 2).astype(np.int64)


def area(scores: Values, counts: Values) -> float:
    """The area under a curve over the share of pixels, in the score's units (trapezoids, as RISE has it)."""
    share = np.asarray(counts, np.float64) / counts[-1]
    return float(np.trapezoid(np.asarray(scores, np.float64), share))


def rank_correlation(first: Values, second: Values) -> float:
    """Spearman's rank correlation of two maps of one shape, in [-1, 1]; ties share their mean rank.

    NaN where either is constant: it has no order to compare.
    """
    from scipy.stats import spearmanr

    if not (has_order(first) and has_order(second)):
        return float("nan")
    return float(spearmanr(first.ravel(), second.ravel()).statistic)


def to_unit(values: Values) -> Values:
    """A map as it is drawn: divided by the value of full strength and clipped to [-1, 1]; zeros stay zero."""
    return np.clip(values / scale_of(values), -1.0, 1.0)


def similarity(first: Values, second: Values) -> float:
    """SSIM (Wang et al. 2004) of two maps as they are drawn, in [-1, 1]: windows of 7 x 7, values of range 1."""
    from skimage.metrics import structural_similarity

    window = min(7, *first.shape)
    odd, drawn = window - 1 + window % 2, (to_unit(first), to_unit(second))
    return float(structural_similarity(*drawn, win_size=odd, data_range=1.0))  # type: ignore[no-untyped-call]


def agreement(first: Values, second: Values, signed: tuple[bool, bool] = (False, False)) -> float:
    """Rank correlation of where two maps point, on GRID x GRID means, so that sharp and smooth maps compare.

    Where one map tells for and against (`signed`) and the other does not, only what speaks for is compared.
    """
    if signed[0] != signed[1]:
        first, second = np.maximum(first, 0), np.maximum(second, 0)
    return rank_correlation(coarse(first), coarse(second))


def agreement_matrix(maps: Sequence[Values]) -> NDArray[np.float64]:
    """The agreement of every two maps, (maps, maps), 1 on the diagonal and NaN beside a constant map."""
    signed = [bool((values < 0).any()) for values in maps]
    matrix = np.ones((len(maps), len(maps)))
    for row in range(len(maps)):
        for column in range(row):
            worth = agreement(maps[row], maps[column], (signed[row], signed[column]))
            matrix[row, column] = matrix[column, row] = worth
    return matrix


def coarse(values: Values, grid: int = GRID) -> NDArray[np.float32]:
    """The means of a map (H, W) over at most `grid` rows and columns of equal cells."""
    size = (min(grid, values.shape[1]), min(grid, values.shape[0]))
    return np.asarray(Image.fromarray(np.asarray(values, np.float32)).resize(size, Image.Resampling.BOX))
