"""What can be measured of filters without a picture: their stripes, which repeat another, which are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

DEAD = 1e-3
"""A filter whose norm is below this share of the layer's median is called dead."""
SAME = 0.99
"""Two filters whose cosine is above this are called duplicates."""
LIKENESS_LIMIT = 4096
"""More filters than this are not ordered by likeness: the tree of all pairs would take too long."""
_FREQUENCIES = 64


def filters_table(layer: str, filters: NDArray[np.float32]) -> pd.DataFrame:
    """A row for each filter of (units, inputs, rows, columns): layer, unit, norm, orientation, frequency, dead,
    duplicate_of (-1: of none), and the last two in words, `remarks`."""
    import pandas as pd

    norm = np.sqrt((filters.astype(np.float64) ** 2).sum(axis=(1, 2, 3)))
    orientation, frequency = stripes(filters)
    table = pd.DataFrame(
        {
            "layer": layer,
            "unit": np.arange(len(filters)),
            "norm": norm,
            "orientation": orientation,
            "frequency": frequency,
            "dead": norm <= DEAD * np.median(norm),
            "duplicate_of": duplicates(filters),
        }
    )
    table["remarks"] = [
        "dead" if dead else (f"repeats {other}" if other >= 0 else "")
        for dead, other in zip(table["dead"], table["duplicate_of"], strict=True)
    ]
    return table


def stripes(filters: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Orientation in degrees (0 to 180, 0 is horizontal stripes) and frequency in cycles a pixel of each filter.

    They are those of the strongest wave in the filter, of all its channels' spectra together, without the mean;
    NaN for a filter without any (1 × 1, or flat). `filters` (units, inputs, rows, columns).
    """
    count, _, rows, columns = filters.shape
    nothing = np.full(count, np.nan)
    if rows == 1 and columns == 1:
        return nothing, nothing.copy()
    centred = filters - filters.mean(axis=(2, 3), keepdims=True)
    frequencies = max(_FREQUENCIES, rows, columns)
    power = np.zeros((count, frequencies, frequencies // 2 + 1))
    for channel in range(filters.shape[1]):
        power += np.abs(np.fft.rfft2(centred[:, channel], s=(frequencies, frequencies))) ** 2
    best = power.reshape(count, -1).argmax(axis=1)
    y = np.fft.fftfreq(frequencies)[best // power.shape[2]]
    x = np.fft.rfftfreq(frequencies)[best % power.shape[2]]
    flat = power.reshape(count, -1).max(axis=1) <= 1e-12
    # Stripes run across the direction in which the wave goes; rows count downwards, angles upwards.
    orientation = np.rad2deg(np.arctan2(x, y)) % 180
    return np.where(flat, np.nan, orientation), np.where(flat, np.nan, np.hypot(x, y))


def duplicates(filters: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each filter the first other one before it that it equals but for its size, or -1."""
    directions = _directions(filters)
    originals = np.full(len(directions), -1, np.int64)
    for unit in range(1, len(directions)):
        alike = np.nonzero(directions[:unit] @ directions[unit] > SAME)[0]
        if len(alike):
            originals[unit] = alike[0]
    return originals


def _directions(filters: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filters as rows of length one; a filter that is all zero stays zero."""
    flat = filters.reshape(len(filters), -1)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.where(norm > 0, norm, 1), np.float32)


def likeness_order(filters: NDArray[np.float32]) -> NDArray[np.int64]:
    """The filters so ordered that alike lie beside alike: the leaves of a tree of average linkage by cosine.

    A filter and its negative count as alike, since both see the same stripes. Fewer than three filters, or more than
    LIKENESS_LIMIT, stay as they are.
    """
    if not 2 < len(filters) <= LIKENESS_LIMIT:
        return np.arange(len(filters))
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    directions = _directions(filters - filters.mean(axis=(2, 3), keepdims=True) if filters.shape[2] > 1 else filters)
    distance = 1 - np.abs(directions @ directions.T).clip(0, 1)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=len(filters) <= 512)
    return np.asarray(leaves_list(tree), np.int64)
