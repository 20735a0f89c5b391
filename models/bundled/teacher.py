"""The teacher: an ImageNet network whose opinion of every crop is written down once, before training.

Its 1000 ImageNet logits guide the student's second, discarded head. Its pooled features carry a linear probe for the
classes of the data, fitted on training photos alone, whose probabilities guide the student's own head.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fovea.models.bundled.net import normalise

ARCHITECTURE = "mobilenetv2_100"
SIZE = 160
"""Side of the teacher's crops in pixels."""
PROBE_FOLDS = 4


class Teacher(nn.Module):
    """MobileNetV2 (Sandler et al. 2018): uint8 pixels (N, 3, H, W) to features (N, 1280) and logits (N, 1000)."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        from safetensors.torch import load_file

        import fovea.models.torchvision_compat  # noqa: F401

        # isort: split
        import timm

        self.net: Any = timm.create_model(ARCHITECTURE, pad_type="same")
        self.net.load_state_dict(load_file(str(weights)))
        self.eval().requires_grad_(False)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = normalise(pixels).contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, dtype=torch.bfloat16):
            features = self.net.forward_head(self.net.forward_features(x), pre_logits=True)
        return features.float(), self.net.classifier(features.float())


def fit_probe(features: Tensor, labels: Tensor, classes: int, decay: float = 1e-4, steps: int = 60) -> nn.Linear:
    """Fit multinomial logistic regression with L-BFGS.

    Args:
        features: (N, d), standardised.
        labels: (N,) class indices.
        classes: number of classes.
        decay: weight of half the squared norm of the weights, beside the mean cross-entropy.
        steps: L-BFGS iterations.
    """
    probe = nn.Linear(features.shape[1], classes).to(features.device)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    solver = torch.optim.LBFGS(probe.parameters(), max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = nn.functional.cross_entropy(probe(features), labels) + decay / 2 * probe.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return probe.requires_grad_(False)


def probe_logits(features: NDArray[np.float16], labels: NDArray[np.int64], classes: int, device: str) -> Tensor:
    """Return the linear probe's logits (P, V, classes) for features (P, V, d) of P photos in V views each.

    Out of fold: a labelled photo is judged by a probe that was fitted on the others, so that the teacher does not
    repeat what it learnt by heart. A photo without a class (label -1) is judged by the mean of the probes.
    """
    photos, number, width = features.shape
    flat = torch.from_numpy(features.reshape(-1, width)).to(device).float()
    flat = (flat - flat.mean(0)) / (flat.std(0) + 1e-3)
    flat = flat.view(photos, number, width)
    target = torch.from_numpy(labels).to(device)
    fold = torch.arange(photos, device=device) % PROBE_FOLDS
    fold[target < 0] = -1
    logits = torch.zeros(photos, number, classes, device=device)
    for held in range(PROBE_FOLDS):
        fit = (fold != held) & (fold >= 0)
        seen = flat[fit][:, : min(number, 3)]
        probe = fit_probe(seen.reshape(-1, width), target[fit].repeat_interleave(seen.shape[1]), classes)
        mine = fold == held
        logits[mine] = probe(flat[mine])
        logits[fold < 0] += probe(flat[fold < 0]) / PROBE_FOLDS
    return logits
