"""Mining: one streaming pass through a data set, shard by shard, that goes on where an interrupted one was."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fovea.engine.data.batches import Batch, batches
from fovea.engine.errors import DatasetError
from fovea.engine.look.mining.checkpoints import Checkpoints
from fovea.engine.look.mining.merge import LayerPart, Partial, layer_part, merge
from fovea.engine.look.mining.question import Maxima, MaximaProbe, joined, no_maxima

if TYPE_CHECKING:
    from fovea.engine.data.dataset import Dataset
    from fovea.engine.look.patches import PatchesOptions
    from fovea.engine.method import Job
    from fovea.models.card import Layer

VERSION = 2
"""Rises when what is mined changes: parts of an older one are not gone on with."""
SHARD = 256
"""Images a shard: after each its part is kept, so that a killed run loses little more than this."""
KEPT_BYTES = 160 * 2**20
"""Decoded frames are kept up to this much, so that a small data set is decoded once and not again for the crops."""
LABEL_SUMS = 20_000_000
"""Sums by label are kept up to this many units times labels."""


class Miner:
    """One request's way through a data set, shard by shard.

    A shard is a run of consecutive images; `mine_shard` is all that another engine needs to drive. `ranks` (n,) tells
    the place of each image's key among the sorted keys, `by_rank` (n,) the image at each place: parts name images by
    rank, so that the order of the images changes nothing.
    """

    def __init__(self, job: Job[PatchesOptions], layers: Sequence[Layer]) -> None:
        self.job, self.options, self.layers = job, job.options, layers
        self.dataset: Dataset = job.dataset(self.options.dataset)
        self.ranks = np.empty(len(self.dataset), np.int64)
        self.ranks[np.argsort(np.array(self.dataset.keys, dtype=object), kind="stable")] = np.arange(len(self.dataset))
        self.by_rank = np.argsort(self.ranks)
        self.label_names, self.labels = self._read_labels()
        self.checkpoints = Checkpoints(job.checkpoints, self._signature() if job.checkpoints else "")
        self._question: MaximaProbe | None = None
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def _read_labels(self) -> tuple[list[str], NDArray[np.int64] | None]:
        names = self.dataset.classes
        if not names:
            return [], None
        units = sum(layer.units for layer in self.layers)
        if units * len(names) > LABEL_SUMS:
            many = f"{units:,} units times {len(names):,} labels"
            self.job.warn(f"The labels that excite a unit most are not told: {many} are too many sums to keep.")
            return [], None
        index = {name: position for position, name in enumerate(names)}
        return names, np.array([index.get(label, -1) for label in self.dataset.labels or []], np.int64)

    def _signature(self) -> str:
        """What a checkpoint must have been made of to be of use here."""
        facts = [
            VERSION,
            self.job.card.sha256,
            self.job.card.preprocessing.model_dump(mode="json"),
            self.dataset.manifest_sha256(),
            [layer.name for layer in self.layers],
            self.options.top,
            self.options.rank,
            self.options.batch,
            self.job.provider,
            SHARD,
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def shards(self) -> int:
        """How many shards the data set has."""
        return -(-len(self.dataset) // SHARD)

    @property
    def question(self) -> MaximaProbe:
        """The session that answers with maxima and their places; opened on first use."""
        if self._question is None:
            self._question = MaximaProbe(self.job, self.layers)
            self.job.record(decoder=self.dataset.decoder)
        return self._question

    def mine(self) -> Partial:
        """All shards, going on from the last checkpoint; the result does not depend on where it was stopped."""
        done = self.checkpoints.read()
        left = [shard for shard in range(self.shards) if done is None or shard not in done.shards]
        for part in self.mine_shards(left):
            done = part if done is None else merge([done, part])
            self.checkpoints.write(part, done)
            self._forget_frames(done)
        if done is None:
            raise DatasetError(f"the data set {self.dataset.name} has no images")
        return done

    def mine_shard(self, shard: int) -> Partial:
        """The partial result of one shard."""
        return next(self.mine_shards([shard]))

    def mine_shards(self, shards: Sequence[int]) -> Iterator[Partial]:
        """The partial result of each shard, in order; the network goes on to the next while one is put together."""
        if not shards:
            return
        count = len(self.dataset)
        left = deque(shards)
        done = count - sum(len(self._indices(shard)) for shard in shards)
        progress = self.job.progress.span(0.0, 0.98)
        read: list[int] = []
        maxima: list[list[Maxima]] = []
        feeds = ((batch, {"pixels": batch.frames}) for batch in self._batches(shards))
        for batch, answers in self.question.probe.stream(feeds, batched=("pixels",)):
            while left[0] != batch.indices[0] // SHARD:
                yield self._part(left.popleft(), read, maxima)
                read, maxima = [], []
            maxima.append(self.question.maxima(answers, batch.frames))
            read += batch.indices
            done += len(batch.indices)
            progress(done / count, f"image {done} of {count}")
        for shard in left:
            yield self._part(shard, read, maxima)
            read, maxima = [], []

    def _indices(self, shard: int) -> range:
        return range(shard * SHARD, min((shard + 1) * SHARD, len(self.dataset)))

    def _part(self, shard: int, read: list[int], maxima: list[list[Maxima]]) -> Partial:
        """What the images `read` of one shard say, put together; `maxima` batch by batch, of every layer."""
        ranks = self.ranks[read]
        labels = None if self.labels is None else self.labels[read]
        missing = list(set(self._indices(shard)) - set(read))
        layers = {}
        for index, layer in enumerate(self.layers):
            together = joined([batch[index] for batch in maxima]) if maxima else no_maxima(layer.units)
            layers[layer.name] = self._layer_part(together, ranks, labels)
        return Partial(
            shards=(shard,),
            layers=layers,
            images=len(read),
            labels=_label_counts(labels, len(self.label_names)),
            unreadable=tuple(sorted(int(rank) for rank in self.ranks[missing])),
        )

    def _layer_part(self, maxima: Maxima, ranks: NDArray[np.int64], labels: NDArray[np.int64] | None) -> LayerPart:
        scores = maxima.means if self.options.rank == "mean" else maxima.scores
        names, top = len(self.label_names), self.options.top
        return layer_part(scores, maxima.places, ranks, labels, names, top, maxima.scores)

    # --- frames

    def _batches(self, shards: Sequence[int]) -> Iterator[Batch]:
        """The readable images of these shards in order. No batch has images of two shards."""
        from fovea.engine.look.probing.probe import batch_size

        probe = self.question.probe
        size = self.options.batch or batch_size(probe.provider, probe.parallel)
        indices = itertools.chain.from_iterable(self._indices(shard) for shard in shards)
        return batches(self._remembered(self._frames(indices)), size, part=lambda index: index // SHARD)

    def _frames(self, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        from fovea.engine.look.probing.probe import cores

        threads = self.options.threads or cores()
        yield from self.dataset.frames(self.job.card.preprocessing, indices, threads=threads, unreadable=[])

    def _remembered(self, frames: Iterable[tuple[int, NDArray[np.uint8]]]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """The frames as they come; each is kept for the crops while there is room."""
        for index, frame in frames:
            if (len(self._kept) + 1) * frame.nbytes <= KEPT_BYTES:
                self._kept[index] = frame
            yield index, frame

    def _forget_frames(self, done: Partial) -> None:
        """Keep the frames of images that are in some unit's list, and of shards that are not in `done` yet."""
        best = np.unique(np.concatenate([part.images.ravel() for part in done.layers.values()]))
        wanted = set(self.by_rank[best[best >= 0]].tolist())
        over = set(done.shards)
        self._kept = {i: frame for i, frame in self._kept.items() if i in wanted or i // SHARD not in over}

    def frames_again(self, indices: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Frames of images that were mined: those still in memory first, the others decoded once more."""
        yield from ((index, self._kept[index]) for index in indices if index in self._kept)
        yield from self._frames(index for index in indices if index not in self._kept)


def _label_counts(labels: NDArray[np.int64] | None, count: int) -> NDArray[np.int64]:
    """How many images have each label; -1 is none."""
    known = labels[labels >= 0] if labels is not None else np.empty(0, np.int64)
    return np.bincount(known, minlength=count).astype(np.int64)
