"""How often a network is right on labelled images, as it is registered and with other ways of preparing a photo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fovea.models.card import OUTPUT, Preprocessing

if TYPE_CHECKING:
    from fovea.engine.data.dataset import Dataset
    from fovea.models.network import Network

IMAGES = 100
"""So many images are tried at most, evenly spread."""
BETTER = 5.0
"""Another way is told where it is right more often by so many percent points."""
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CAFFE = (123.68, 116.779, 103.939)
_PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def ways(known: Preprocessing) -> list[Preprocessing]:
    """The ways in which people prepare photos of three channels: ranges, orders, means and deviations."""
    if known.channels != 3:
        return []
    found = []
    for order in ("RGB", "BGR"):
        caffe = _CAFFE if order == "RGB" else _CAFFE[::-1]
        for limits, (mean, std) in (
            ((0.0, 1.0), _IMAGENET),
            ((0.0, 1.0), _PLAIN),
            ((0.0, 1.0), _HALF),
            ((0.0, 255.0), _PLAIN),
            ((0.0, 255.0), (caffe, _PLAIN[1])),
        ):
            change = {"order": order, "range": limits, "mean": mean, "std": std}
            found.append(known.model_copy(update=change))
    own = known.model_copy(update={"order": "BGR" if known.order == "RGB" else "RGB"})
    return [way for way in dict.fromkeys([*found, own]) if way != known]


def flags(way: Preprocessing) -> str:
    """The flags of a registration that prepare photos in this way."""

    def numbers(values: Sequence[float]) -> str:
        return ",".join(f"{value:g}" for value in values)

    return f"--order {way.order} --range {numbers(way.range)} --mean {numbers(way.mean)} --std {numbers(way.std)}"


def accuracy_lines(network: Network, dataset: Dataset) -> list[str]:
    """Top-1 on some labelled images, and a line with flags for each way (at most three) that is clearly better.

    Raises what `match_labels` raises.
    """
    from fovea.engine.data.dataset import spread
    from fovea.engine.look.checking.accuracy import match_labels, question
    from fovea.engine.look.probing.probe import Probe, batch_size
    from fovea.engine.method import Job
    from fovea.engine.options import Options

    card = network.card
    labels = match_labels(dataset, card)
    wanted = [index for index in range(len(dataset)) if dataset.label(index) in labels.classes]
    chosen = [wanted[place] for place in spread(len(wanted), IMAGES)]
    read = list(dataset.frames(card.preprocessing, chosen, unreadable=[]))
    if not read:
        return []
    probe = Probe(Job(network, Options(), provider="cpu"), [OUTPUT], question(card), holes=True)
    size = network.graph().batch or batch_size(probe.provider)

    def share(way: Preprocessing) -> float:
        right = 0
        for start in range(0, len(read), size):
            part = read[start : start + size]
            inputs = way.normalise(np.stack([frame for _, frame in part]))
            scores = probe.run({"inputs": inputs}, batched=("inputs",))["scores"]
            for (index, _), row in zip(part, scores, strict=True):
                right += int(np.argmax(row)) in labels.classes[dataset.label(index)]
        return 100 * right / len(read)

    own = share(card.preprocessing)
    lines = [f"Top-1 on {dataset.name}: {own:.1f} % of {len(read)} images."]
    others = sorted(((share(way), way) for way in ways(card.preprocessing)), key=lambda pair: -pair[0])
    for best, way in [pair for pair in others if pair[0] >= own + BETTER][:3]:
        lines.append(f"It would be {best:.1f} % with {flags(way)}.")
    return lines
