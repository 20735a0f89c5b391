"""The object that a map speaks of, cut out of the photo by its colours, without any supervision.

Simonyan et al. 2013, section 3.2: pixels above the map's 95 % quantile give a Gaussian mixture of the object's colours,
those below its 30 % quantile one of the background's; a graph cut settles every pixel, and the largest connected part
is the object. Departures: the map is smoothed, where the paper means it over ten crops and mirrored crops; the cut is
OpenCV's, and is repeated with mixtures learnt anew from its result (Rother et al. 2004, "GrabCut").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MIXTURE = 5
"""Gaussians in each of GrabCut's two mixtures; it cannot learn one from fewer pixels."""
SMOOTHING = 0.01
"""Standard deviation of the map's smoothing, as a part of the frame's longer side: a gradient flickers by pixels."""
ANY = (0, 0, 1, 1)
"""OpenCV's rectangle, which is not read where a mask is given."""


def segment(
    frame: NDArray[np.uint8],
    strength: NDArray[np.floating],
    *,
    foreground: float = 0.95,
    background: float = 0.3,
    rounds: int = 2,
    seed: int = 0,
) -> NDArray[np.bool_] | None:
    """The object's mask (H, W), from a frame uint8 (H, W, 3) and a map of how much each pixel matters (H, W).

    `foreground`, `background`: the map's quantiles above and below which a pixel is a seed; `rounds` times the mixtures
    are learnt anew. None where the map has no seeds (it is flat), or the seeds of both have the same colours, so
    that the cut leaves no object or nothing else.
    """
    import cv2
    from scipy import ndimage

    strength = ndimage.gaussian_filter(strength, SMOOTHING * max(strength.shape))
    inside = strength > np.quantile(strength, foreground)
    outside = strength < np.quantile(strength, background)
    if min(int(inside.sum()), int(outside.sum())) < MIXTURE:
        return None
    cv2.setRNGSeed(seed)
    of_background, of_object = np.zeros((1, 13 * MIXTURE)), np.zeros((1, 13 * MIXTURE))
    # The seeds alone, as a picture one pixel high, teach the mixtures; in the photo no pixel is bound to its seed.
    colours = np.concatenate([frame[inside], frame[outside]])[None]
    labels = np.repeat(np.array([cv2.GC_FGD, cv2.GC_BGD], np.uint8), [inside.sum(), outside.sum()])[None]
    cv2.grabCut(colours, labels, ANY, of_background, of_object, 1, cv2.GC_INIT_WITH_MASK)
    mask: NDArray[np.uint8] = np.where(inside, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    frame = np.ascontiguousarray(frame)
    cv2.grabCut(frame, mask, ANY, of_background, of_object, 1, cv2.GC_EVAL_FREEZE_MODEL)
    if rounds and _both(mask == cv2.GC_PR_FGD):
        cv2.grabCut(frame, mask, ANY, of_background, of_object, rounds, cv2.GC_EVAL)
    largest = _largest_part(mask == cv2.GC_PR_FGD)
    return None if largest is None or largest.all() else largest


def _both(mask: NDArray[np.bool_]) -> bool:
    """Whether object and background have enough pixels to learn a mixture from."""
    return MIXTURE <= int(mask.sum()) <= mask.size - MIXTURE


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    from scipy import ndimage

    parts, count = ndimage.label(mask)
    if not count:
        return None
    largest: NDArray[np.bool_] = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    return largest


def cut_out(frame: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The frame (H, W, 3) with its object opaque and the rest transparent, uint8 (H, W, 4)."""
    return np.dstack([frame, np.where(mask, 255, 0).astype(np.uint8)])
