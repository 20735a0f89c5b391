"""What attacks ask of a network: its class scores as a function of pixel values, and their cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fovea.engine.make.attack.shared.parallel import ParallelNetwork
from fovea.engine.make.optimise.canvas import Normalise
from fovea.engine.make.optimise.losses import View
from fovea.models.card import OUTPUT
from fovea.models.output import MEANINGS, OutputMeaning
from fovea.models.torch_net import forward_taps

if TYPE_CHECKING:
    from fovea.engine.method import Job

Scores = Callable[[Tensor], Tensor]
"""Pictures (N, C, H, W) to class scores (N, classes), differentiable: logits, or logarithms of probabilities."""


def scores_of(job: Job[Any], *, quick: bool = False) -> Scores:
    """The job's network as a function of pixel values from 0 to 1, its normalisation inside.

    `quick`: as it is run over and over, equal but for rounding (see engine/make/attack/shared/parallel.py).
    """
    network = ParallelNetwork(job.network) if quick else job.network
    module = network.module(job.device)
    normalise = Normalise(job.card.preprocessing, job.device)
    read = job.card.meaning.torch_rivals

    def scores(pictures: Tensor) -> Tensor:
        return read(forward_taps(module, normalise(pictures), [OUTPUT])[OUTPUT])

    return scores


class CrossEntropy:
    """The cross-entropy of each picture with a class of its own, (N,); `latest` are its last class probabilities."""

    taps = (OUTPUT,)

    def __init__(self, classes: Tensor, meaning: OutputMeaning = MEANINGS["logits"]) -> None:
        self.classes, self.meaning = classes, meaning
        self.latest: Tensor | None = None

    def __call__(self, view: View) -> Tensor:
        """One number per picture."""
        logarithms = self.meaning.torch_logarithms(view.features[OUTPUT])
        self.latest = logarithms.detach().exp()
        return -logarithms.gather(1, self.classes[:, None])[:, 0]
