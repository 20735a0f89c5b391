"""Colours of one picture taken over by another: by histogram, by covariance, or all but the light."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def matched_histogram(pixels: NDArray[Any], reference: NDArray[Any]) -> NDArray[Any]:
    """uint8 (H, W, C) with each channel's values replaced by the reference's of the same rank."""
    out = np.empty_like(pixels)
    for channel in range(pixels.shape[-1]):
        values, wanted = pixels[..., channel].ravel(), np.sort(reference[..., channel].ravel())
        ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
        places = np.rint(ranks * (len(wanted) - 1) / max(1, len(values) - 1)).astype(int)
        out[..., channel] = wanted[places].reshape(pixels.shape[:-1])
    return out


def matched_colours(pixels: NDArray[Any], reference: NDArray[Any]) -> NDArray[Any]:
    """uint8 (H, W, C) whose colours have the reference's mean and covariance, then its histograms.

    The linear map of Gatys et al. 2017, "Controlling Perceptual Factors", appendix; a grey photo gives grey.
    """

    def root(flat: NDArray[Any], inverse: bool) -> NDArray[Any]:
        values, vectors = np.linalg.eigh(np.cov(flat.T) + 1e-3 * np.eye(flat.shape[1]))
        made: NDArray[Any] = (vectors * values ** (-0.5 if inverse else 0.5)) @ vectors.T
        return made

    channels = pixels.shape[-1]
    if channels == 1:
        return matched_histogram(pixels, reference)
    flat, wanted = pixels.reshape(-1, channels).astype(float), reference.reshape(-1, channels).astype(float)
    moved = (flat - flat.mean(0)) @ root(flat, True) @ root(wanted, False) + wanted.mean(0)
    moved = np.clip(np.rint(moved), 0, 255).astype(np.uint8).reshape(pixels.shape)
    return matched_histogram(moved, reference)


def with_colours_of(pixels: NDArray[Any], photo: NDArray[Any]) -> NDArray[Any]:
    """uint8 (H, W, 3): the light (Y of YCbCr) of `pixels`, the colours of `photo` of that size."""
    if pixels.shape[-1] != 3:
        return pixels
    light = Image.fromarray(pixels).convert("YCbCr").split()[0]
    _, blue, red = Image.fromarray(photo).convert("YCbCr").split()
    return np.asarray(Image.merge("YCbCr", (light, blue, red)).convert("RGB"))
