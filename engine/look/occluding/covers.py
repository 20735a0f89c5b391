"""What fills the windows of an occlusion: a whole picture of the network's input, out of which each window is cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fovea.engine.look.occlusion import OcclusionOptions
    from fovea.engine.method import Job

Cover = NDArray[np.float32]
"""Network input (1, C, H, W), normalised."""


def cover_picture(job: Job[OcclusionOptions]) -> Cover:
    """What fills the windows, as network input float32 (1, C, H, W)."""
    return _COVERS[job.options.fill](job)


def _network_mean(job: Job[OcclusionOptions]) -> Cover:
    """Zero, which is the network's mean after normalisation."""
    return np.zeros(job.input.shape, np.float32)


def _photo_mean(job: Job[OcclusionOptions]) -> Cover:
    colour = job.input.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    return np.broadcast_to(colour, job.input.shape).astype(np.float32)


def _black(job: Job[OcclusionOptions]) -> Cover:
    return job.card.preprocessing.normalise_unit(np.full(job.input.shape, 0.0, np.float32))


def _grey(job: Job[OcclusionOptions]) -> Cover:
    return job.card.preprocessing.normalise_unit(np.full(job.input.shape, 0.5, np.float32))


def _noise(job: Job[OcclusionOptions]) -> Cover:
    frame = np.random.default_rng(job.seed).integers(0, 256, job.frame.shape, dtype=np.uint8)
    return job.card.preprocessing.normalise(frame)[None]


def _blur(job: Job[OcclusionOptions]) -> Cover:
    """The photo so blurred that nothing of a window's size is left in it."""
    from scipy.ndimage import gaussian_filter

    radius = job.options.window / 2
    smooth = gaussian_filter(job.frame.astype(np.float32), (radius, radius, 0), mode="nearest")
    frame = np.asarray(np.clip(np.rint(smooth), 0, 255), np.uint8)
    return job.card.preprocessing.normalise(frame)[None]


def _dataset_mean(job: Job[OcclusionOptions]) -> Cover:
    """The mean frame of a data set."""
    from fovea.engine.data.survey import mean_image

    job.progress(0.0, "taking the mean of the data set")
    mean = mean_image(job.dataset(job.options.dataset or "sample"), job.card.preprocessing)
    return job.card.preprocessing.normalise_unit(np.moveaxis(mean / np.float32(255), -1, 0))[None]


_COVERS: Mapping[str, Callable[[Job[OcclusionOptions]], Cover]] = {
    "mean": _network_mean,
    "photo": _photo_mean,
    "black": _black,
    "grey": _grey,
    "noise": _noise,
    "blur": _blur,
    "dataset": _dataset_mean,
}
