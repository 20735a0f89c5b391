"""The figures of trust written out value by value, and a photo whose pixels are changed one at a time."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn


def area_by_trapezoids(scores: list[float], counts: list[int]) -> float:
    """The area under a curve over the share of pixels."""
    total = 0.0
    for left in range(len(scores) - 1):
        width = (counts[left + 1] - counts[left]) / counts[-1]
        total += width * (scores[left] + scores[left + 1]) / 2
    return total


def ranks_by_counting(values: list[float]) -> list[float]:
    """The rank of each value from 1; equal values share their mean rank."""
    found = []
    for value in values:
        below, equal = sum(other < value for other in values), sum(other == value for other in values)
        found.append(below + (equal + 1) / 2)
    return found


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of the ranks."""
    first, second = (ranks_by_counting(values.ravel().tolist()) for values in (one, other))
    mean_first, mean_second = sum(first) / len(first), sum(second) / len(second)
    product = sum((a - mean_first) * (b - mean_second) for a, b in zip(first, second, strict=True))
    squares = [sum((a - m) ** 2 for a in ranks) for ranks, m in ((first, mean_first), (second, mean_second))]
    return product / math.sqrt(squares[0] * squares[1])


def ssim(one: np.ndarray, other: np.ndarray, window: int = 7) -> float:
    """Wang et al. 2004, eq. 13, on values of range 1: the mean over all whole windows, sample covariances."""
    c1, c2 = 0.01**2, 0.03**2
    found = []
    for y in range(one.shape[0] - window + 1):
        for x in range(one.shape[1] - window + 1):
            a, b = one[y : y + window, x : x + window].ravel(), other[y : y + window, x : x + window].ravel()
            n = len(a)
            mean_a, mean_b = a.sum() / n, b.sum() / n
            variance_a, variance_b = ((a - mean_a) ** 2).sum() / (n - 1), ((b - mean_b) ** 2).sum() / (n - 1)
            covariance = ((a - mean_a) * (b - mean_b)).sum() / (n - 1)
            top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
            found.append(top / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)))
    return sum(found) / len(found)


def curve_by_hand(
    module: nn.Module, start: np.ndarray, end: np.ndarray, values: np.ndarray, counts: list[int], target: int
) -> list[float]:
    """The probability of a class while `start` (1, C, H, W) takes its pixels from `end`, highest of `values` first."""
    width = values.shape[1]
    order = sorted(range(values.size), key=lambda pixel: -float(values.flat[pixel]))
    scores = []
    for count in counts:
        picture = start.copy()
        for pixel in order[:count]:
            picture[0, :, pixel // width, pixel % width] = end[0, :, pixel // width, pixel % width]
        with torch.no_grad():
            scores.append(float(torch.softmax(module(torch.from_numpy(picture)), 1)[0, target]))
    return scores
