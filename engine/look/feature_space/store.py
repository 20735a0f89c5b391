"""The features of a data set: computed once, kept in files, found again by every run that asks for the same.

`$FOVEA_HOME/features/KEY/` holds for every readable image its features (pooled over space), its pixels at 32 by 32,
the class that the network gives it, and thumbnails for a map. All are mapped files: memory stays flat however many
images there are, a killed run goes on where it was, and an index of faiss lies beside them. What was used longest ago
is dropped when all together grow too large (`cache`).
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fovea.engine.data.batches import Batch, batches
from fovea.engine.errors import DatasetError, OptionsError, StoreError, UnsupportedError, not_finite
from fovea.engine.look.feature_space.cache import drop_unused, mark_used
from fovea.engine.look.feature_space.search import Metric, Neighbors, Pixels
from fovea.engine.look.kernels.weights import weighted_layers
from fovea.engine.look.probing.layers import with_units
from fovea.models.card import OUTPUT
from fovea.models.home import home, write_whole

if TYPE_CHECKING:
    from fovea.engine.data.dataset import Dataset, Unreadable
    from fovea.engine.look.probing.probe import Probe
    from fovea.engine.look.probing.reducers import Editor
    from fovea.engine.method import Job
    from fovea.engine.progress import Progress
    from fovea.models.card import Card

SIDE = 32
"""Pixel space is the frame at this side, as bytes: what is lost cannot be seen in a thumbnail either."""
THUMBS = 4000
"""Thumbnails are kept of at most so many images, evenly spread: those that a map shows."""
THUMB = 64
SAVED = 512
"""After so many images the work so far is safe in its files."""
VERSION = 1


def check_layer(card: Card, layer: str) -> None:
    """Raises UnknownNameError or UnsupportedError if the layer has no features."""
    if layer:
        with_units(card, layer)
    elif not weighted_layers(card):
        raise UnsupportedError(f"{card.name} has no layer of weights: name the layer whose features are compared")


@dataclass
class Features:
    """Of the readable images of a data set, in its order; all but `indices` may be mapped files.

    `indices` (n,): their positions in the data set. `vectors` (n, C) float32. `pixels` (n, 32·32·channels) uint8.
    `classes` (n,) int32: the network's own best class, -1 without classes. `shown` (m,): the rows that have
    `thumbs` (m, 64, 64, 3) uint8. `unreadable`: how many images were left out.
    """

    folder: Path
    layer: str
    indices: NDArray[np.int64]
    vectors: NDArray[np.float32]
    pixels: NDArray[np.uint8]
    classes: NDArray[np.int32]
    shown: NDArray[np.int64]
    thumbs: NDArray[np.uint8]
    unreadable: int = 0
    _spaces: dict[Metric, Neighbors] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def bytes(self) -> int:
        """What the files take on disk."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    def space(self, metric: Metric, progress: Progress) -> Neighbors:
        """The features, to be asked for neighbours; an index that takes training is made once."""
        if metric not in self._spaces:
            with _alone(progress, self.folder):
                self._spaces[metric] = Neighbors(
                    self.vectors, metric, folder=self.folder, progress=progress.span(0.7, 0.8)
                )
        return self._spaces[metric]

    def pixel_space(self, progress: Progress) -> Pixels:
        """The pixels, to be asked for neighbours."""
        return Pixels(self.pixels, progress.span(0.8, 0.85))

    def remembered(self, name: str, compute: Callable[[], Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Arrays that follow from the features alone: computed once, then read."""
        path = self.folder / f"{name}.npz"
        if path.is_file():
            try:
                with np.load(path, allow_pickle=False) as kept:
                    return {key: kept[key] for key in kept.files}
            except (OSError, ValueError, KeyError, EOFError):
                path.unlink(missing_ok=True)
        made = dict(compute())
        buffer = io.BytesIO()
        np.savez(buffer, **made)  # type: ignore[arg-type]
        with suppress(FileNotFoundError):  # dropped while a long run was reading it: nobody will look for this
            write_whole(path, buffer.getvalue())
        return made


@contextmanager
def _alone(progress: Progress, folder: Path) -> Iterator[None]:
    """Nobody else writes these files meanwhile: who comes second waits, and then finds them."""
    from fovea.engine.store.lock import Lock

    lock = Lock(folder.with_suffix(".lock"))
    while not lock.acquire():
        progress(0.0, "waiting for another run that computes the same features")
        time.sleep(0.2)
    try:
        yield
    finally:
        lock.release()


@dataclass
class Source:
    """Where features come from: a layer's output, or what the network's last weights read."""

    probe: Probe
    name: str


def open_source(job: Job[Any], layer: str) -> Source:
    """The session that takes frames and answers with features pooled over space, and with the best class.

    They are those of `layer`; where it is empty, of what the last layer of weights reads, which need not be the
    output of any module.
    """
    from fovea.engine.look.kernels.weights import input_tap, weighted_node
    from fovea.engine.look.probing import reducers
    from fovea.engine.look.probing.probe import Probe

    named = layer or weighted_layers(job.card)[-1]
    read = reducers.read_layer(job.card, named)
    apart = job.network.graph().apart
    tap = input_tap(job.network, named) if apart and not layer else named
    classes = job.card.has_classes

    def build(editor: Editor, tensors: Mapping[str, str]) -> None:
        reducers.normalised_input(editor, job.card.preprocessing)
        tensor = tensors[tap]
        if apart and not layer:
            tensor = editor.float32(tensor)
            if read.axes == "NCHW":
                tensor = reducers.spatial_mean(editor, tensor)
        elif layer:
            tensor = reducers.spatial_mean(editor, reducers.as_maps(editor, tensor, read))
        else:
            node = weighted_node(editor.model, tensor)
            tensor = editor.float32(node.input[0])
            if node.op_type == "Conv":
                tensor = reducers.spatial_mean(editor, tensor)
        editor.answer(tensor, "features")
        if classes:
            scores = editor.float32(tensors[OUTPUT])
            editor.answer(editor.reduce("ReduceSum", scores, [1]), "sum")  # NaN where a score is
            best = editor.node("ArgMax", scores, axis=1, keepdims=0)
            editor.answer(editor.node("Reshape", best, editor.constant([-1])), "class", "int64")

    probe = Probe(job, [tap, OUTPUT] if classes else [tap], build, holes=True)
    return Source(probe, layer or f"input of {named}")


def dataset_features(job: Job[Any], dataset: Dataset, source: Source) -> Features:
    """The features of a data set, computed once for a network, a layer and a state of the data set, then kept.

    Raises DatasetError if no image is readable, OptionsError if the disk has no room for them.
    """
    facts: list[Any] = [VERSION, job.card.sha256, job.card.architecture, source.name, SIDE, THUMBS, THUMB]
    facts += [job.card.preprocessing.model_dump(mode="json"), dataset.manifest_sha256(), source.probe.provider]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    folder = home() / "features" / key
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(job.progress, folder):
        features = _read(folder, source.name)
        if features is None:
            _Writer(job, dataset, source, folder).write()
            features = _read(folder, source.name)
    if features is not None:
        mark_used(folder)
    drop_unused(folder.parent, keep=folder)
    if features is None or not len(features):
        raise DatasetError(f"the data set {dataset.name} has no readable image: {len(dataset)} were tried")
    if features.unreadable:
        job.warn(f"{features.unreadable} of {len(dataset)} images could not be read and are left out.")
    return features


def _read(folder: Path, layer: str) -> Features | None:
    """What is kept, if it is finished and whole."""
    try:
        facts = json.loads((folder / "features.json").read_text(encoding="utf-8"))
        if not facts["done"]:
            return None
        count, thumbs = facts["rows"], facts["thumbs"]
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in facts["arrays"]}
        if any(len(array) < (thumbs if name in ("shown", "thumbs") else count) for name, array in arrays.items()):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Features(
        folder=folder,
        layer=layer,
        indices=np.array(arrays["indices"][:count]),
        vectors=arrays["vectors"][:count],
        pixels=arrays["pixels"][:count],
        classes=np.array(arrays["classes"][:count]),
        shown=np.array(arrays["shown"][:thumbs]),
        thumbs=arrays["thumbs"][:thumbs],
        unreadable=facts["unreadable"],
    )


class _Writer:
    """One way through a data set, which goes on where an interrupted one was."""

    def __init__(self, job: Job[Any], dataset: Dataset, source: Source, folder: Path) -> None:
        self.job, self.dataset, self.source, self.folder = job, dataset, source, folder
        self.to_show = set(np.linspace(0, len(dataset) - 1, min(len(dataset), THUMBS)).astype(int).tolist())
        self.arrays: dict[str, NDArray[Any]] = {}
        self.state: dict[str, Any] = {"next": 0, "rows": 0, "thumbs": 0, "unreadable": 0, "done": False, "arrays": []}

    def write(self) -> None:
        """All images that are not yet there."""
        self._resume()
        begun, count = self.state["next"], len(self.dataset)
        progress = self.job.progress.span(0.0, 0.7)
        unreadable: list[Unreadable] = []
        for start in range(begun, count, SAVED):
            part = range(start, min(start + SAVED, count))
            for batch in self._batches(part, unreadable):
                self._ask(batch)
                last = batch.indices[-1]
                progress(last / count, f"image {last + 1:,} of {count:,}")
            self._save(part.stop, len(unreadable))
        self.job.record(decoder=self.dataset.decoder)
        if self.arrays:
            self._save(count, len(unreadable), done=True)

    def _resume(self) -> None:
        """Open the files of an interrupted run, if they fit."""
        try:
            state = json.loads((self.folder / "features.json").read_text(encoding="utf-8"))
            self.arrays = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r+") for name in state["arrays"]}
            self.state = state if self.arrays else self.state
            self._unreadable_before = int(state["unreadable"])
        except (OSError, ValueError, KeyError, TypeError):
            self.arrays = {}
            self._unreadable_before = 0

    def _batches(self, part: range, unreadable: list[Unreadable]) -> Iterator[Batch]:
        from fovea.engine.look.probing.probe import batch_size

        frames = self.dataset.frames(self.job.card.preprocessing, part, threads=2, unreadable=unreadable)
        return batches(frames, batch_size(self.source.probe.provider))

    def _ask(self, batch: Batch) -> None:
        indices, frames = batch
        answers = self.source.probe.run({"pixels": frames}, batched=("pixels",))
        vectors = np.asarray(answers["features"], np.float32).reshape(len(indices), -1)
        if np.isnan(vectors).any(1).all() or np.isnan(answers.get("sum", np.zeros(1))).all():
            raise not_finite(OUTPUT)  # not one picture that overflows, which counts as zeros: all of a batch
        if not self.arrays:
            self._make(vectors.shape[1], frames.shape[3])
        classes = answers.get("class", np.full(len(indices), -1))
        for index, frame, vector, best in zip(indices, frames, vectors, classes, strict=True):
            row = self.state["rows"]
            self.arrays["indices"][row] = index
            self.arrays["vectors"][row] = np.nan_to_num(vector)
            self.arrays["pixels"][row] = small_pixels(frame)
            self.arrays["classes"][row] = best
            if index in self.to_show:
                self.arrays["shown"][self.state["thumbs"]] = row
                self.arrays["thumbs"][self.state["thumbs"]] = thumbnail(frame, THUMB)
                self.state["thumbs"] += 1
            self.state["rows"] += 1

    def _make(self, width: int, channels: int) -> None:
        """The files, at their full size; the system gives them room as they fill."""
        count, shown = len(self.dataset), len(self.to_show)
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "indices": ((count,), np.int64),
            "vectors": ((count, width), np.float32),
            "pixels": ((count, SIDE * SIDE * channels), np.uint8),
            "classes": ((count,), np.int32),
            "shown": ((shown,), np.int64),
            "thumbs": ((shown, THUMB, THUMB, 3), np.uint8),
        }
        needed = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in shapes.values())
        free = shutil.disk_usage(self.folder).free
        if needed > 0.95 * free and drop_unused(self.folder.parent, keep=self.folder, limit=0):
            free = shutil.disk_usage(self.folder).free
        if needed > 0.95 * free:
            raise OptionsError(
                f"dataset is too large: the features of {count:,} images take {needed / 1e9:.1f} GB, and "
                f"{self.folder.parent} has {free / 1e9:.1f} GB left: make room, name a layer with fewer units, or set "
                "FOVEA_HOME elsewhere"
            )
        try:
            for name, (shape, kind) in shapes.items():
                self.arrays[name] = np.lib.format.open_memmap(self.folder / f"{name}.npy", "w+", kind, shape)
        except OSError as error:
            raise StoreError(f"the features cannot be kept in {self.folder}: {error.strerror or error}") from None
        self.state["arrays"] = list(shapes)

    def _save(self, reached: int, unreadable: int, done: bool = False) -> None:
        """What is in the files now is safe before the note says that it is there."""
        for array in self.arrays.values():
            array.flush()  # type: ignore[attr-defined]
        self.state |= {"next": reached, "unreadable": self._unreadable_before + unreadable, "done": done}
        write_whole(self.folder / "features.json", json.dumps(self.state).encode())


def small_pixels(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame as a vector of pixel space, uint8 (SIDE · SIDE · channels,)."""
    picture = Image.fromarray(frame[..., 0] if frame.shape[2] == 1 else frame)
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(-1)


def thumbnail(frame: NDArray[np.uint8], tile: int) -> NDArray[np.uint8]:
    """The whole frame inside a tile, uint8 (tile, tile, 3)."""
    from fovea.engine.panels.sheet import fit_tile

    return fit_tile(frame[..., 0] if frame.shape[2] == 1 else frame[..., :3], tile)
