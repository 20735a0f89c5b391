"""A photo and its attacked twin, explained side by side: where the network looks, and at which depth the two part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fovea.engine.explain.backward.attribution import explain
from fovea.engine.explain.backward.reductions import REDUCTIONS
from fovea.engine.explain.gradcam import class_activation_map
from fovea.engine.scores import class_score
from fovea.engine.unit_maps import unit_maps
from fovea.models.card import OUTPUT
from fovea.models.torch_net import all_taps, forward_taps, in_float64

if TYPE_CHECKING:
    from fovea.engine.method import Job

Frame = NDArray[np.uint8]

ATTACKED, SHUFFLED = "the attack", "a shuffled change"
"""The columns of the distances."""


@dataclass(frozen=True)
class Twins:
    """What explains a photo and its attacked twin.

    `maps` (H, W) by name: `saliency_photo`, `saliency_adversarial`, and `gradcam_…` where a layer has maps. `depth`:
    how far the activations of each layer are from the photo's (see `distances`).
    """

    maps: dict[str, NDArray[np.float32]]
    depth: pd.DataFrame


def twins_of(job: Job[Any], attacked: Frame, label: int, now: int) -> Twins:
    """Explain the job's photo for the class `label`, and the attacked frame (H, W, C) for its class `now`."""
    twins = {"photo": (job.frame, label), "adversarial": (attacked, now)}
    maps = {f"saliency_{name}": saliency_of(job, *twin) for name, twin in twins.items()}
    for name, twin in twins.items():
        values = gradcam_of(job, *twin)
        if values is not None:
            maps[f"gradcam_{name}"] = values
    mixed = shuffled_change(job.frame, attacked, job.seed)
    return Twins(maps, distances(job, job.frame, {ATTACKED: attacked, SHUFFLED: mixed}))


def _input(job: Job[Any], frames: Frame) -> Tensor:
    return torch.from_numpy(job.card.preprocessing.normalise(frames)).to(job.device)


def saliency_of(job: Job[Any], frame: Frame, label: int) -> NDArray[np.float32]:
    """The largest |gradient| of the class's logit at each pixel, (H, W) (Simonyan et al. 2013)."""
    x = _input(job, frame[None])
    module = job.network.module(job.device)
    backward = explain(module, x, OUTPUT, lambda output: class_score(job.card, output, str(label), "logit"))
    values: NDArray[np.float32] = REDUCTIONS["max_abs"].apply(backward.gradient[0], x[0]).cpu().numpy()
    return values


def gradcam_of(job: Job[Any], frame: Frame, label: int) -> NDArray[np.float32] | None:
    """Grad-CAM of the class at the last layer with maps, (H, W); None where there is no such layer."""
    spatial = job.card.reached_layers()
    if not spatial:
        return None
    layer, x = spatial[-1], _input(job, frame[None])
    with torch.enable_grad():
        taps = forward_taps(job.network.module(job.device), x.requires_grad_(True), [layer.name, OUTPUT])
        score = class_score(job.card, taps[OUTPUT].detach(), str(label), "logit").of(taps[OUTPUT]).sum()
        (gradients,) = torch.autograd.grad(score, taps[layer.name], allow_unused=True, materialize_grads=True)
    maps, weights = (unit_maps(values.detach(), layer)[0] for values in (taps[layer.name], gradients))
    coarse = class_activation_map(maps, weights)
    fine = F.interpolate(coarse[None, None], tuple(x.shape[-2:]), mode="bilinear", align_corners=False)[0, 0]
    values: NDArray[np.float32] = fine.cpu().numpy()
    return values


def shuffled_change(frame: Frame, attacked: Frame, seed: int) -> Frame:
    """The photo with the attack's change, its values shuffled: as large in every norm, and without any aim.

    (Where a shuffled value leaves 0 … 255 it is cut, so it can come out a little smaller.)
    """
    levels = (attacked.astype(int) - frame).ravel()
    mixed = np.random.default_rng(seed).permutation(levels).reshape(frame.shape)
    twin: Frame = np.clip(frame + mixed, 0, 255).astype(np.uint8)
    return twin


def distances(job: Job[Any], frame: Frame, others: dict[str, Frame]) -> pd.DataFrame:
    """How far the activations of other pictures are from the frame's, by layer in forward order.

    Columns layer, and for each name ‖a − b‖ / ‖a‖ over all of the layer's values.
    """
    module = job.network.module(job.device)
    leaves = {layer.name for layer in job.card.layers if layer.leaf}
    with torch.no_grad():
        taps = all_taps(module, _input(job, np.stack([frame, *others.values()])))
    rows = []
    for tap, values in taps.items():
        if (tap in leaves or tap == OUTPUT) and len(values) == 1 + len(others) and values.is_floating_point():
            flat = in_float64(values.flatten(1))
            apart = (flat[1:] - flat[0]).norm(dim=1) / flat[0].norm().clamp_min(1e-12)
            rows.append((tap, *apart.tolist()))
    return pd.DataFrame(rows, columns=["layer", *others])
