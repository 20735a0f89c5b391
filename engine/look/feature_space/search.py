"""Nearest vectors: exact to a hundred thousand, then through an inverted file kept on disk; faiss does the work.

Whatever finds the candidates, their distances are taken again in float64 and ranked by (distance, index), so that
the answer does not depend on how a library sums. Bytes (pixels) are compared exactly, block by block from a file.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fovea.engine.progress import Progress
from fovea.models.home import whole

Metric = Literal["l2", "cosine"]
SILENT = Progress()
"""For whoever does not ask how far a search is."""

FLAT_LIMIT = 100_000
"""Up to this many vectors every one is compared, and nothing is trained."""
BLOCK = 65_536
"""So many vectors of an inverted file are in memory at a time while it is made."""
PROBED_SHARE = 0.01
"""So many of the lists are looked through for one query, at first."""
WANTED_RECALL = 0.995
"""Lists are added until this much of the ten nearest is found, by the vectors' own exact neighbours."""
TRIED = 64
"""So many vectors, evenly spread, are asked for that."""
SPARE = 16
"""So many candidates beyond k are ranked again."""
THREADED = 8
"""Fewer questions than this are answered by one thread: on a busy machine waiting for a second one takes longest."""
STREAMED = 1024
"""Rows of a file of bytes that are in memory at a time."""


class Space(Protocol):
    """Vectors that can be asked for the nearest ones."""

    def __len__(self) -> int:
        """How many there are."""

    def rows(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """These vectors, as `nearest` takes them."""

    def nearest(
        self, queries: NDArray[Any], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Indices and distances (q, k) of the nearest vectors to queries (q, C), nearest first.

        `allowed` restricts the answer to these indices. Where there are fewer than k, -1 and infinity follow.
        """


def directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors (n, C) at length one; a zero vector stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)


class Neighbors:
    """Vectors (n, C), in memory or in a file. Cosine distance is 1 - cos, from 0 to 2.

    Beyond `flat_limit` vectors an inverted file is made in `folder`, or found there; it is mapped and not loaded.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        metric: Metric = "l2",
        flat_limit: int = FLAT_LIMIT,
        folder: Path | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self.metric: Metric = metric
        self.vectors = vectors
        self.exact = len(vectors) <= flat_limit
        self._index: Any
        if self.exact:
            self._index = self._flat()
            return
        with _kept_in(folder) as kept:
            path = kept / f"{metric}.faiss"
            if not path.is_file():
                self._make(path, progress)
            self._open(path)

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """These vectors, (q, C)."""
        return np.asarray(self.vectors[indices], np.float32)

    def nearest(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Indices and distances (q, k) of the nearest vectors to queries (q, C), nearest first."""
        wanted = min(k + SPARE, len(self.vectors) if allowed is None else len(allowed))
        indices = np.full((len(queries), k), -1, np.int64)
        distances = np.full((len(queries), k), np.inf)
        if not wanted:
            return indices, distances
        for place, candidates in enumerate(self._candidates(queries, wanted, allowed)):
            candidates = candidates[candidates >= 0]
            apart = self._distances(queries[place], candidates)
            order = np.lexsort((candidates, apart))[:k]
            indices[place, : len(order)], distances[place, : len(order)] = candidates[order], apart[order]
        return indices, distances

    def _candidates(
        self, queries: NDArray[np.float32], wanted: int, allowed: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        import faiss

        kinds: Any = faiss
        selector = None if allowed is None else kinds.IDSelectorBatch(allowed.astype(np.int64))
        if self.exact:
            parameters = None if selector is None else kinds.SearchParameters(sel=selector)
        else:
            probed = self._index.nprobe if selector is None else self._probed_for(len(allowed))  # type: ignore[arg-type]
            parameters = kinds.SearchParametersIVF(sel=selector, nprobe=probed)
        threads = kinds.omp_get_max_threads()
        if len(queries) < THREADED:
            kinds.omp_set_num_threads(1)
        try:
            candidates: NDArray[np.int64] = self._index.search(self._placed(queries), wanted, params=parameters)[1]
        finally:
            kinds.omp_set_num_threads(threads)
        return candidates

    def _probed_for(self, allowed: int) -> int:
        """The fewer may be found, the further one has to look."""
        share = len(self.vectors) / max(allowed, 1)
        return int(min(self._index.nlist, np.ceil(self._index.nprobe * share)))

    def _placed(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors as the index holds them."""
        vectors = np.ascontiguousarray(vectors, np.float32)
        if self.metric == "cosine":
            return directions(vectors)
        # Sums of squares lose digits far from zero, and distances do not change when all vectors move.
        return np.ascontiguousarray(vectors - self._centre) if self.exact else vectors

    def _distances(self, query: NDArray[np.float32], candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        asked, others = query.astype(np.float64), self.vectors[candidates].astype(np.float64)
        if self.metric == "l2":
            return np.asarray(np.linalg.norm(others - asked, axis=1))
        lengths = [np.linalg.norm(vectors, axis=-1, keepdims=True) for vectors in (asked, others)]
        asked, others = (v / np.where(n > 0, n, 1) for v, n in zip((asked, others), lengths, strict=True))
        # Of vectors of length one: |a - b|² = 2 (1 - cos).
        return np.asarray(np.square(others - asked).sum(axis=1) / 2)

    # --- the two kinds of index

    def _flat(self) -> Any:
        import faiss

        self._centre = np.mean(self.vectors, axis=0, dtype=np.float64).astype(np.float32)
        index: Any = faiss.IndexFlatL2(self.vectors.shape[1])
        index.add(self._placed(self.vectors))
        return index

    def _make(self, path: Path, progress: Progress) -> None:
        """Train on a sample, then add block by block: the lists grow in files, and memory stays flat."""
        import faiss
        from faiss.contrib.ondisk import merge_ondisk

        kinds: Any = faiss
        count, width = self.vectors.shape
        lists = max(1, int(count**0.5))
        index: Any = kinds.IndexIVFFlat(kinds.IndexFlatL2(width), width, lists)
        index.cp.niter = 10
        progress(0.0, f"finding {lists} centres among {count:,} vectors")
        chosen = np.sort(np.random.default_rng(0).permutation(count)[: 40 * lists])
        index.train(self._placed(self.vectors[chosen]))
        with tempfile.TemporaryDirectory(prefix="blocks-", dir=path.parent) as scratch:
            trained = str(Path(scratch) / "trained")
            kinds.write_index(index, trained)
            parts = []
            for start in range(0, count, BLOCK):
                progress(0.2 + 0.5 * start / count, f"vector {start:,} of {count:,} into its list")
                block = self._placed(self.vectors[start : start + BLOCK])
                part = kinds.read_index(trained)
                part.add_with_ids(block, np.arange(start, start + len(block)))
                parts.append(f"{trained}.{start}")
                kinds.write_index(part, parts[-1])
            progress(0.7, "merging the lists")
            with _without_stdout():
                merge_ondisk(index, parts, str(path.with_suffix(".lists")))
        self._index = index
        self._settle_probes(progress.span(0.8, 1.0))
        with whole(path) as written:
            kinds.write_index(index, str(written))

    def _settle_probes(self, progress: Progress) -> None:
        """As many lists a query as find the nearest; the sample's exact neighbours tell."""
        index = self._index
        asked = self.vectors[np.linspace(0, len(self.vectors) - 1, TRIED).astype(int)]
        wanted = exact_nearest(self.vectors, asked, 10, self.metric, progress)
        index.nprobe = max(8, int(PROBED_SHARE * index.nlist))
        while index.nprobe < index.nlist and self._recall(asked, wanted) < WANTED_RECALL:
            index.nprobe = min(index.nlist, round(1.5 * index.nprobe))

    def _recall(self, asked: NDArray[np.float32], wanted: NDArray[np.int64]) -> float:
        """The share of the nearest vectors that the index answers with as it is set."""
        answers = self._index.search(self._placed(asked), wanted.shape[1])[1]
        return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(answers, wanted, strict=True)]))

    def _open(self, path: Path) -> None:
        import faiss

        kinds: Any = faiss
        self._index = kinds.read_index(str(path), kinds.IO_FLAG_READ_ONLY)


@contextlib.contextmanager
def _kept_in(folder: Path | None) -> Iterator[Path]:
    """The folder of an index that is kept, or one that goes once the index has been opened."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="fovea-index-") as own:
        yield Path(own)


@contextlib.contextmanager
def _without_stdout() -> Iterator[None]:
    """Where faiss would print a line of its own among what a script reads."""
    kept = os.dup(1)
    silent = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silent, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(silent)


def exact_nearest(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int, metric: Metric, progress: Progress = SILENT
) -> NDArray[np.int64]:
    """Indices (q, k) of the nearest, by comparing every vector, block by block from memory or a file."""
    import faiss

    kinds: Any = faiss
    placed = directions if metric == "cosine" else np.ascontiguousarray
    heap: Any = kinds.ResultHeap(len(queries), k)
    asked = placed(np.asarray(queries, np.float32))
    for start in range(0, len(vectors), BLOCK):
        progress(start / len(vectors), "comparing with an exact search")
        block = placed(np.asarray(vectors[start : start + BLOCK], np.float32))
        distances, places = kinds.knn(asked, block, min(k, len(block)))
        heap.add_result(distances, places + start)
    heap.finalize()
    return np.asarray(heap.I, np.int64)


class Pixels:
    """Vectors of bytes (n, P), in memory or in a file, compared exactly by L2 where white is 1 from black.

    Every vector is read for every question, STREAMED at a time: memory stays flat however many there are.
    """

    def __init__(self, pixels: NDArray[np.uint8], progress: Progress = SILENT) -> None:
        self.pixels = pixels
        self._progress = progress

    def __len__(self) -> int:
        return len(self.pixels)

    def rows(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """These vectors, (q, P)."""
        return np.asarray(self.pixels[indices], np.uint8)

    def nearest(
        self, queries: NDArray[np.uint8], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Indices and distances (q, k) of the nearest vectors to queries (q, P), nearest first."""
        # Products of bytes add up exactly in float64, so that ties are ties.
        asked = queries.astype(np.float64)
        squares = np.square(asked).sum(axis=1)[:, None]
        keep = None
        if allowed is not None:
            keep = np.zeros(len(self.pixels), bool)
            keep[allowed] = True
        indices = np.full((len(queries), k), -1, np.int64)
        distances = np.full((len(queries), k), np.inf)
        for start in range(0, len(self.pixels), STREAMED):
            self._progress(start / len(self.pixels), f"comparing the pixels of image {start:,} of {len(self.pixels):,}")
            block = self.pixels[start : start + STREAMED].astype(np.float64)
            apart = squares - 2 * asked @ block.T + np.square(block).sum(axis=1)
            if keep is not None:
                apart[:, ~keep[start : start + len(block)]] = np.inf
            indices, distances = _merged(indices, distances, apart, start)
        return np.where(np.isinf(distances), -1, indices), np.sqrt(distances) / 255


def _merged(
    indices: NDArray[np.int64], distances: NDArray[np.float64], apart: NDArray[np.float64], start: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The best k of those so far and of a block's, ties by index: what came earlier stands first."""
    together = np.concatenate([distances, apart], axis=1)
    block = np.broadcast_to(np.arange(start, start + apart.shape[1]), apart.shape)
    candidates = np.concatenate([indices, block], axis=1)
    order = np.argsort(together, axis=1, kind="stable")[:, : distances.shape[1]]
    return np.take_along_axis(candidates, order, 1), np.take_along_axis(together, order, 1)


def leave_one_out(
    space: Space, labels: NDArray[np.int64], asked: NDArray[np.int64], most: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Accuracy (most,) of the majority among the 1 … `most` nearest other vectors, and the votes of the last.

    `labels` (n,) of all vectors, -1 for none; `asked` (q,) the indices that are classified. Ties go to the label
    that is found first. Returns also the predicted labels (q,).
    """
    nearest, _ = space.nearest(space.rows(asked), most + 1)
    right = np.zeros(most)
    predicted = np.full(len(asked), -1, np.int64)
    for place, index in enumerate(asked):
        others = nearest[place][(nearest[place] != index) & (nearest[place] >= 0)][:most]
        votes = labels[others]
        for count in range(1, most + 1):
            here = votes[:count]
            values, first, counts = np.unique(here, return_index=True, return_counts=True)
            if len(values):
                predicted[place] = values[np.lexsort((first, -counts))[0]]
            right[count - 1] += predicted[place] == labels[index]
    return right / max(len(asked), 1), predicted
