"""What the network says of a finished picture, read from its 8-bit pixels as they are saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from fovea.engine.errors import UnknownNameError, UnsupportedError
from fovea.engine.make.optimise.canvas import to_picture
from fovea.engine.make.optimise.losses import Loss, View
from fovea.engine.scores import probabilities
from fovea.models.card import OUTPUT
from fovea.models.torch_net import forward_taps

if TYPE_CHECKING:
    from fovea.engine.method import Job
    from fovea.models.card import Card
    from fovea.models.network import Network


def _features(
    job: Job[Any], pixels: NDArray[np.uint8], taps: tuple[str, ...]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return _forward(job.network, job.device, pixels, taps)


def _forward(
    network: Network, device: str, pixels: NDArray[np.uint8], taps: tuple[str, ...]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    x = torch.from_numpy(network.card.preprocessing.normalise(pixels)[None]).to(device)
    with torch.no_grad():
        return x, forward_taps(network.module(device), x, taps) if taps else {}


def activation_on(job: Job[Any], loss: Loss, pixels: NDArray[np.uint8]) -> float:
    """The loss's own value on an 8-bit picture (H, W, C)."""
    x, features = _features(job, pixels, loss.taps)
    with torch.no_grad():
        return float(loss(View(to_picture(pixels, job.device), x, features))[0])


def probabilities_of(job: Job[Any], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Class probabilities (classes,) of an 8-bit picture (H, W, C) of the network's input size."""
    output = _features(job, pixels, (OUTPUT,))[1][OUTPUT]
    values: NDArray[np.float32] = probabilities(job.card, output)[0].cpu().numpy()
    return values


class SecondOpinion:
    """What another network says of a finished picture, which it gets through its own preprocessing.

    Raises UnsupportedError for a network without classes.
    """

    def __init__(self, network: Network, device: str) -> None:
        if not network.card.has_classes:
            raise UnsupportedError(f"{network.card.name} has no classes to say what it sees: choose another network")
        self.network, self.device = network, device

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities (classes,) of an 8-bit picture (H, W, C)."""
        card = self.network.card
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        output = _forward(self.network, self.device, card.preprocessing.frame(picture), (OUTPUT,))[1][OUTPUT]
        values: NDArray[np.float32] = probabilities(card, output)[0].cpu().numpy()
        return values

    def class_like(self, card: Card, target: int) -> int | None:
        """Its class of the name that `target` has in `card`, or None; by number where both know the same classes.

        Those are as many, most with the same first name: ImageNet's lists differ in their synonyms.
        """
        own, other = card.classes, self.network.card.classes
        try:
            return self.network.card.class_index(own[target])
        except (UnknownNameError, IndexError):
            pairs = zip(own, other, strict=False)
            alike = sum(a.split(",")[0].strip().lower() == b.split(",")[0].strip().lower() for a, b in pairs)
            return target if len(own) == len(other) < 2 * alike else None


def second_opinion(job: Job[Any], name: str) -> SecondOpinion | None:
    """The network of that name, None where it is empty. Raises UnsupportedError if it has no classes."""
    if not name:
        return None
    from fovea.models.zoo import load

    return SecondOpinion(load(name), job.device)


def best_classes(job: Job[Any], pixels: NDArray[np.uint8], count: int = 5) -> pd.DataFrame | None:
    """The best classes of an 8-bit picture, columns class and probability; None where there are no classes."""
    if not job.card.has_classes:
        return None
    values = probabilities_of(job, pixels)
    best = np.argsort(-values, kind="stable")[:count]
    names = [job.card.classes[i] if i < len(job.card.classes) else str(i) for i in best]
    return pd.DataFrame({"class": names, "probability": values[best].astype(float)})
