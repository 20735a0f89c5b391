"""The losses and the Fourier canvas written out in NumPy, number by number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def total_variation(picture: Array, beta: float) -> float:
    """Mean of (Δx² + Δy²)^(beta/2) over a picture (C, H, W)."""
    channels, height, width = picture.shape
    values = [
        ((picture[c, y + 1, x] - picture[c, y, x]) ** 2 + (picture[c, y, x + 1] - picture[c, y, x]) ** 2) ** (beta / 2)
        for c in range(channels)
        for y in range(height - 1)
        for x in range(width - 1)
    ]
    return float(np.mean(values))


def gram(maps: Array) -> Array:
    """Gram matrix of maps (C, h, w), divided by h·w."""
    count, height, width = maps.shape
    out = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            for y in range(height):
                for x in range(width):
                    out[i, j] += maps[i, y, x] * maps[j, y, x] / (height * width)
    return out


def gatys_layer_loss(maps: Array, wanted_maps: Array) -> float:
    """Gatys et al. 2015, eq. 4: Σ (G − A)² / (4 N² M²), with undivided Gram matrices of one size."""
    units, places = maps.shape[0], maps.shape[1] * maps.shape[2]
    g = gram(maps) * places
    a = gram(wanted_maps) * places
    return float(((g - a) ** 2).sum() / (4 * units**2 * places**2))


def centred_distance(maps: Array, wanted_maps: Array) -> float:
    """Relative squared distances of Gram matrices about the wanted means, and of means."""
    mean = wanted_maps.mean((1, 2))
    shifted, wanted = maps - mean[:, None, None], wanted_maps - mean[:, None, None]
    a = gram(wanted)
    means = ((maps.mean((1, 2)) - mean) ** 2).sum() / np.trace(a)
    return float(((gram(shifted) - a) ** 2).sum() / (a**2).sum() + means)


def wasserstein(maps: Array, wanted_maps: Array) -> float:
    """Squared distance of the normal distributions of the maps' means and covariances, relative; by scipy's root."""
    from scipy.linalg import sqrtm

    def moments(values: Array) -> tuple[Array, Array]:
        mean = values.mean((1, 2))
        return mean, gram(values - mean[:, None, None])

    (mean, cov), (wanted_mean, wanted) = moments(maps), moments(wanted_maps)
    half = sqrtm(wanted)
    apart = np.trace(cov + wanted - 2 * np.real(sqrtm(half @ cov @ half)))
    return float((apart + ((mean - wanted_mean) ** 2).sum()) / np.trace(wanted))


def similarity(maps: Array, other: Array) -> float:
    """Cosine of two pictures' Gram matrices."""
    a, b = gram(maps), gram(other)
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


def fourier_picture(spectrum: Array, height: int, width: int, decay: float, colours: Array) -> Array:
    """Lucid's parameterisation of one picture from (C, H, W//2+1, 2), by a sum over all frequencies."""
    channels = spectrum.shape[0]
    coefficients = spectrum[..., 0] + 1j * spectrum[..., 1]
    plain = np.zeros((channels, height, width))
    full = np.zeros((channels, height, width), complex)
    for v in range(height):
        for u in range(width // 2 + 1):
            fy = (v if v < (height + 1) // 2 else v - height) / height
            fx = u / width
            frequency = max((fy**2 + fx**2) ** 0.5, 1 / max(height, width))
            full[:, v, u] = coefficients[:, v, u] / frequency**decay * (height * width) ** 0.5
    for v in range(height):
        for u in range(width // 2 + 1, width):
            full[:, v, u] = np.conj(full[:, -v % height, width - u])
    y, x = np.mgrid[:height, :width]
    for v in range(height):
        for u in range(width):
            wave = np.exp(2j * np.pi * (v * y / height + u * x / width))
            plain += np.real(full[:, v, u, None, None] * wave) / (height * width)
    mixed = np.einsum("cd,dyx->cyx", colours, plain / 4)
    return 1 / (1 + np.exp(-mixed))
