"""The occlusion map computed by torch, for a changed copy of a network: it has no ONNX graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fovea.engine.look.occluding.covers import cover_picture
from fovea.engine.look.occluding.windows import corners, mean_drop
from fovea.engine.scores import batch_for, class_score
from fovea.engine.unit_maps import unit_maps
from fovea.models.torch_net import forward_taps

if TYPE_CHECKING:
    from fovea.engine.look.occlusion import OcclusionOptions
    from fovea.engine.maps import ClassOrUnit
    from fovea.engine.method import Job


def occlude_in_torch(job: Job[OcclusionOptions], explained: ClassOrUnit) -> NDArray[np.float32]:
    """The heatmap (H, W): for every pixel the mean drop of the score under the windows that cover it."""
    options, card = job.options, job.card
    height, width = card.preprocessing.size
    ys, xs = corners(height, options.window, options.stride), corners(width, options.window, options.stride)
    module = job.network.module(job.device)
    photo = torch.from_numpy(job.input).to(job.device)
    cover = torch.from_numpy(np.ascontiguousarray(cover_picture(job))).to(job.device)

    def watched(pictures: Tensor) -> NDArray[np.float32]:
        output = forward_taps(module, pictures, [explained.tap])[explained.tap]
        if explained.layer:
            values = unit_maps(output, card.layer(explained.layer))[:, explained.unit].amax((1, 2))
        else:
            values = class_score(card, output[:1], explained.target, options.score).of(output)
        return np.asarray(values.float().cpu().numpy())

    windows, batch = [(y, x) for y in ys for x in xs], batch_for(photo)
    scores: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        clean = watched(photo)[0]
        for start in range(0, len(windows), batch):
            part = windows[start : start + batch]
            pictures = photo.repeat(len(part), 1, 1, 1)
            for picture, (y, x) in zip(pictures, part, strict=True):
                window = (slice(None), slice(y, y + options.window), slice(x, x + options.window))
                picture[window] = cover[0][window]
            scores.append(watched(pictures))
            job.progress((start + len(part)) / len(windows), f"window {start + len(part)} of {len(windows)}")
    drop = np.asarray(clean - np.concatenate(scores).reshape(len(ys), len(xs)), np.float32)
    return mean_drop(drop, ys, xs, options.window, (height, width))
