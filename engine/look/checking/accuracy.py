"""How often a network is right on labelled images, and what their labels mean to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.data.batches import batches
from fovea.engine.data.dataset import Dataset, Unreadable, spread
from fovea.engine.errors import DatasetError, UnsupportedError
from fovea.models.card import OUTPUT, Card

if TYPE_CHECKING:
    from fovea.engine.look.probing.probe import Build
    from fovea.engine.look.probing.reducers import Editor
    from fovea.engine.method import Job
    from fovea.engine.progress import Progress

NAMED = 4
"""So many labels and classes are named in an error."""


@dataclass(frozen=True)
class Labels:
    """What a data set's labels mean to a network.

    `classes`: label to the indices of the classes that it stands for (names can occur twice). `how`: "names" or
    "indices". `unmatched`: the labels that are none of the network's classes.
    """

    classes: Mapping[str, tuple[int, ...]]
    how: str
    unmatched: tuple[str, ...]


def demand_classes(card: Card) -> None:
    """Raises UnsupportedError for a network without classes."""
    if not card.has_classes:
        raise UnsupportedError(f"{card.name} has no classes, so it has no accuracy: check it without a data set")


def match_labels(dataset: Dataset, card: Card) -> Labels:
    """Match labels to class names (any case, spaces or underscores), or else to class indices.

    Labels that are numbers are indices where some of them are no class's name and all are indices of classes. Raises
    UnsupportedError for a network without classes, DatasetError for a data set without labels, or if none of them is a
    class of the network.
    """
    demand_classes(card)
    labels = dataset.classes
    if not labels:
        raise DatasetError(
            f"data set {dataset.name} has no labels: accuracy needs a folder with a sub-folder for each class, "
            f"or a list with a label column"
        )
    by_name: dict[str, tuple[int, ...]] = {}
    for index, name in enumerate(card.classes):
        by_name[_spelling(name)] = (*by_name.get(_spelling(name), ()), index)
    meanings = {label: by_name[_spelling(label)] for label in labels if _spelling(label) in by_name}
    how = "names"
    indices: dict[str, tuple[int, ...]] = {
        label: (int(label),) for label in labels if label.isdecimal() and int(label) < len(card.classes)
    }
    if not meanings or len(meanings) < len(labels) == len(indices):
        how, meanings = "indices", indices
    if not meanings:
        raise DatasetError(
            f"no label of data set {dataset.name} ({_some(labels)}) is a class of {card.name} ({_some(card.classes)}) "
            f"or the index of one: rename the labels, or register the network with its class names"
        )
    return Labels(meanings, how, tuple(label for label in labels if label not in meanings))


def _spelling(name: str) -> str:
    """A name however it is written: any case, spaces or underscores between its words."""
    return " ".join(name.lower().replace("_", " ").split())


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (" …" if len(names) > NAMED else "")


@dataclass
class Accuracy:
    """How often the right class is the network's best, or among its best five.

    `right1`, `right5`, `images` by label; `taken_for`: (label, predicted class) to how often, where it was wrong.
    `left_out`: images whose label is no class, or that have none.
    """

    labels: Labels
    images: dict[str, int] = field(default_factory=dict)
    right1: dict[str, int] = field(default_factory=dict)
    right5: dict[str, int] = field(default_factory=dict)
    taken_for: dict[tuple[str, int], int] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)
    left_out: int = 0

    @property
    def count(self) -> int:
        """How many images were classified."""
        return sum(self.images.values())

    def share(self, right: Mapping[str, int]) -> float:
        """`right` of all images, in percent. Raises DatasetError if there was none."""
        if not self.count:
            raise DatasetError("none of the labelled images can be read, so there is no accuracy")
        return 100 * sum(right.values()) / self.count

    def add(self, label: str, scores: NDArray[np.floating[Any]]) -> None:
        """Count one image with this label, given its scores (classes,)."""
        classes = self.labels.classes[label]
        # The order that a stable sort gives: of equal scores the lower index first.
        best = np.argsort(-scores, kind="stable")[:5]
        self.images[label] = self.images.get(label, 0) + 1
        self.right1[label] = self.right1.get(label, 0) + int(best[0] in classes)
        self.right5[label] = self.right5.get(label, 0) + int(np.isin(best, classes).any())
        if best[0] not in classes:
            taken = (label, int(best[0]))
            self.taken_for[taken] = self.taken_for.get(taken, 0) + 1


def measure_accuracy(job: Job[Any], dataset: Dataset, limit: int, progress: Progress) -> Accuracy:
    """Classify the labelled images of `dataset` in ONNX, as they come: memory stays flat.

    `limit`: at most so many, evenly spread (0: all). Images that cannot be read are skipped and listed. Raises what
    `match_labels` raises, and ProviderError.
    """
    from fovea.engine.look.probing.probe import Probe, batch_size

    labels = match_labels(dataset, job.card)
    wanted = [index for index in range(len(dataset)) if dataset.label(index) in labels.classes]
    accuracy = Accuracy(labels, left_out=len(dataset) - len(wanted))
    chosen = [wanted[place] for place in spread(len(wanted), limit or None)]
    probe = Probe(job, [OUTPUT], _scores(job.card))
    job.record(decoder=dataset.decoder)
    done, size = 0, job.network.graph().batch or batch_size(probe.provider)
    frames_of = dataset.frames(job.card.preprocessing, chosen, unreadable=accuracy.unreadable)
    for indices, frames in batches(frames_of, size):
        inputs = job.card.preprocessing.normalise(frames)
        scores = probe.run({"inputs": inputs}, batched=("inputs",))["scores"]
        for index, row in zip(indices, scores, strict=True):
            accuracy.add(dataset.label(index), row.reshape(-1))
        done += len(indices)
        progress(done / len(chosen), f"{done:,} of {len(chosen):,} images")
    return accuracy


def _scores(card: Card) -> Build:
    """The question: what the network returns for normalised inputs."""
    shape = (card.preprocessing.channels, *card.preprocessing.size)

    def build(editor: Editor, tensors: Mapping[str, str]) -> None:
        editor.replace_input(editor.feed("inputs", "float32", ["batch", *shape]))
        editor.answer(tensors[OUTPUT], "scores")

    return build
