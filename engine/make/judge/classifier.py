"""Class probabilities of 8-bit pictures in batches: by ONNX Runtime, or by torch where gradients are at work anyway."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import not_finite
from fovea.models.card import OUTPUT

if TYPE_CHECKING:
    from fovea.engine.look.probing.reducers import Editor
    from fovea.engine.method import Job

TORCH_BATCH = 16

Ask = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
"""Frames uint8 (N, H, W, C) to class probabilities (N, classes)."""


class RuntimeClassifier:
    """A session of ONNX Runtime with the normalisation inside; batches run on several cores at once."""

    def __init__(self, job: Job[Any]) -> None:
        from fovea.engine.look.probing.probe import Probe, batch_size, parallel_batches
        from fovea.engine.look.probing.reducers import normalised_input

        def build(editor: Editor, tensors: Mapping[str, str]) -> None:
            normalised_input(editor, job.card.preprocessing)
            editor.answer(editor.float32(tensors[OUTPUT]), "scores")

        self._probe = Probe(job, [OUTPUT], build, parallel=parallel_batches())
        self.batch = job.network.graph().batch or batch_size(self._probe.provider, self._probe.parallel)
        self._meaning = job.card.meaning

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Probabilities (N, classes) of frames uint8 (N, H, W, C)."""
        starts = range(0, len(frames), self.batch)
        batches = ((start, {"pixels": frames[start : start + self.batch]}) for start in starts)
        parts = [answers["scores"] for _, answers in self._probe.stream(batches, ("pixels",))]
        return self._meaning.probabilities(np.concatenate(parts))


class TorchClassifier:
    """The torch network that gradients are taken of: its verdict is the attack's own."""

    def __init__(self, job: Job[Any]) -> None:
        self._job = job
        self.batch = TORCH_BATCH

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Probabilities (N, classes) of frames uint8 (N, H, W, C)."""
        import torch

        from fovea.engine.scores import probabilities
        from fovea.models.torch_net import forward_taps

        job, parts = self._job, []
        for start in range(0, len(frames), self.batch):
            x = torch.from_numpy(job.card.preprocessing.normalise(frames[start : start + self.batch])).to(job.device)
            with torch.no_grad():
                output = forward_taps(job.network.module(job.device), x, [OUTPUT])[OUTPUT]
            parts.append(probabilities(job.card, output).cpu().double().numpy())
        return np.concatenate(parts)


Classifier = RuntimeClassifier | TorchClassifier


def classifier(job: Job[Any]) -> Classifier:
    """By torch where the network has gradients, else by ONNX Runtime."""
    return TorchClassifier(job) if job.card.gradients else RuntimeClassifier(job)


def finite_probabilities(ask: Ask, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The class probabilities (N, classes) of frames (N, H, W, C). Raises NetworkError where one is not finite."""
    probabilities = ask(frames)
    if not np.isfinite(probabilities).all():
        raise not_finite(OUTPUT)
    return probabilities
