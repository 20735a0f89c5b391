"""Everything that training reads, computed once into a work folder: crops, the teacher's opinions, held-out photos."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from fovea.models.bundled import data
from fovea.models.bundled.net import INPUT_SIZE

T = TypeVar("T")
PHOTOS_AT_ONCE = 2
"""Photos whose crops the teacher judges in one batch; on a CPU few are twice as fast as many, for its cache."""


class Progress(Protocol):
    """What reports how far something has come."""

    def __call__(self, done: int, total: int, text: str) -> None: ...


@dataclass(frozen=True)
class Prepared:
    """Training material for P photos in V crops each, and the held-out photos.

    Attributes:
        views: uint8 (P, V, 128, 128, 3).
        labels: (P,), -1 where a photo has no class.
        teacher_logits: float16 (P, V, 1000), or None without a teacher.
        probe_logits: float16 (P, V, classes), or None without a teacher.
        held_out: uint8 (Q, 128, 128, 3), centre crops.
        held_out_labels: (Q,).
        names: readable class names in the order of the logits.
    """

    views: NDArray[np.uint8]
    labels: NDArray[np.int64]
    teacher_logits: NDArray[np.float16] | None
    probe_logits: NDArray[np.float16] | None
    held_out: NDArray[np.uint8]
    held_out_labels: NDArray[np.int64]
    names: list[str]


def prepare(
    root: Path,
    extra: Sequence[Path],
    teacher_weights: Path | None,
    work: Path,
    number: int,
    seed: int,
    device: str,
    report: Progress,
) -> Prepared:
    """Return the training material, computing it into `work` unless the same request is there already.

    Args:
        root: folder with one sub-folder of photos for each class.
        extra: folders of unlabelled photos; read only with a teacher.
        teacher_weights: state dict of the teacher as safetensors, or None to learn from the labels alone.
        work: folder for the crops (50 kB each) and the teacher's opinions.
        number: crops of each training photo.
        seed: of the split and of the crops.
        device: where the teacher runs.
        report: told how far it has come.

    Raises:
        FileNotFoundError: if `root` has no class folders, or the teacher's file is missing.
    """
    training, held_out = data.split(root, seed)
    if teacher_weights is not None:
        training = training + data.unlabelled(extra)
    request = {
        "photos": [f"{photo.path.parent.name}/{photo.path.name}" for photo in training],
        "held_out": [f"{photo.path.parent.name}/{photo.path.name}" for photo in held_out],
        "number": number,
        "seed": seed,
        "teacher": None if teacher_weights is None else [teacher_weights.name, teacher_weights.stat().st_size],
    }
    work.mkdir(parents=True, exist_ok=True)
    if not _is_done(work, request):
        _compute(training, held_out, teacher_weights, work, number, seed, device, report)
        (work / "request.json").write_text(json.dumps(request), encoding="utf-8")
    names = data.class_folders(root)
    taught = teacher_weights is not None
    return Prepared(
        views=np.load(work / "views.npy", mmap_mode="r"),
        labels=np.array([photo.label for photo in training]),
        teacher_logits=np.load(work / "teacher_logits.npy", mmap_mode="r") if taught else None,
        probe_logits=np.load(work / "probe_logits.npy") if taught else None,
        held_out=np.load(work / "held_out.npy"),
        held_out_labels=np.array([photo.label for photo in held_out]),
        names=[data.readable(name) for name in names],
    )


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def _is_done(work: Path, request: dict[str, object]) -> bool:
    path = work / "request.json"
    return path.exists() and json.loads(path.read_text(encoding="utf-8")) == request


def _compute(
    training: Sequence[data.Photo],
    held_out: Sequence[data.Photo],
    teacher_weights: Path | None,
    work: Path,
    number: int,
    seed: int,
    device: str,
    report: Progress,
) -> None:
    from fovea.models.bundled import teacher as teaching

    np.save(work / "held_out.npy", data.centre_crops(held_out))
    size = INPUT_SIZE
    shape = (len(training), number, size, size, 3)
    small = np.lib.format.open_memmap(work / "views.npy", mode="w+", dtype=np.uint8, shape=shape)
    side = teaching.SIZE if teacher_weights is not None else 8
    crops = data.views(training, number, seed, side)
    if teacher_weights is None:
        for index, (pixels, _) in enumerate(crops):
            small[index] = pixels
            report(index + 1, len(training), "cropping")
        small.flush()
        return
    teacher = teaching.Teacher(teacher_weights).to(device)
    features = np.empty((len(training), number, 1280), dtype=np.float16)
    logits = np.empty((len(training), number, 1000), dtype=np.float16)
    with torch.inference_mode():
        for start, group in enumerate(batched(crops, PHOTOS_AT_ONCE)):
            rows = slice(start * PHOTOS_AT_ONCE, start * PHOTOS_AT_ONCE + len(group))
            small[rows] = np.stack([pixels for pixels, _ in group])
            batch = torch.from_numpy(np.concatenate([large for _, large in group])).permute(0, 3, 1, 2).to(device)
            seen, opinion = teacher(batch)
            features[rows] = seen.view(len(group), number, -1).cpu().numpy()
            logits[rows] = opinion.view(len(group), number, -1).cpu().numpy()
            report(rows.stop, len(training), "asking the teacher")
    small.flush()
    np.save(work / "features.npy", features)
    np.save(work / "teacher_logits.npy", logits)
    report(0, 1, "fitting the teacher's probe")
    labels = np.array([photo.label for photo in training])
    opinions = teaching.probe_logits(features, labels, int(labels.max()) + 1, device)
    np.save(work / "probe_logits.npy", opinions.half().cpu().numpy())
    report(1, 1, "fitting the teacher's probe")
