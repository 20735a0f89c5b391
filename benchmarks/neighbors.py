"""Nearest neighbours among a million clustered vectors: time of one question and recall@10 against an exact search.

    python -m benchmarks.neighbors [--quick] [--count 1000000] [--width 512] [--questions 100] [--threads 2]

The vectors lie in a file, as a data set's features do. Also: 10,000 vectors, which need no training step.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import machine, parser, table

BLOCK = 50_000
CLUSTERS = 1000
SPREAD = 1.0
"""Standard deviation within a cluster; the clusters' centres have the same, so that they overlap in every axis."""


def clustered(path: Path, count: int, width: int) -> NDArray[np.float32]:
    """Clustered vectors (count, width) in a file, made block by block from a fixed seed."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, width), np.float32)
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (count, width))
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        vectors[start : start + size] = centres[rng.integers(0, CLUSTERS, size)]
        vectors[start : start + size] += SPREAD * rng.standard_normal((size, width), np.float32)
    vectors.flush()
    return vectors


def measured(folder: Path, count: int, width: int, questions: int, metric: str) -> list[str]:
    """One row: how it is searched, seconds to make and to open, milliseconds a question, recall@10."""
    from fovea.engine.look.feature_space.search import Neighbors, exact_nearest

    path = folder / f"{count}.npy"
    vectors = np.load(path, mmap_mode="r") if path.is_file() else clustered(path, count, width)
    rng = np.random.default_rng(1)
    asked = np.asarray(vectors[np.sort(rng.choice(count, questions, replace=False))])
    asked = asked + 0.1 * rng.standard_normal(asked.shape, np.float32)
    started = time.perf_counter()
    index = Neighbors(vectors, metric, folder=folder / f"{count}")
    made = time.perf_counter()
    index = Neighbors(vectors, metric, folder=folder / f"{count}")
    opened = time.perf_counter()
    seconds, found = [], []
    for question in asked:
        began = time.perf_counter()
        found.append(index.nearest(question[None], 10)[0][0])
        seconds.append(time.perf_counter() - began)
    wanted = exact_nearest(vectors, asked, 10, metric)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, wanted, strict=True)])
    worst = sorted(seconds)[int(0.95 * len(seconds))]
    return [
        f"{count:,} × {width}",
        metric,
        "every vector" if index.exact else "inverted file",
        f"{made - started:.1f}",
        f"{opened - made:.2f}",
        f"{statistics.median(seconds) * 1000:.1f}",
        f"{worst * 1000:.1f}",
        f"{recall:.4f}",
    ]


def main() -> None:
    """Print the table."""
    ask = parser(__doc__, "few vectors: only that it works")
    ask.add_argument("--count", type=int, default=1_000_000)
    ask.add_argument("--width", type=int, default=512)
    ask.add_argument("--questions", type=int, default=100)
    ask.add_argument("--threads", type=int, default=2)
    ask.add_argument("--metrics", default="l2", help="comma list of l2, cosine")
    ask.add_argument("--folder", type=Path, default=None, help="where the vectors lie (default: a temporary folder)")
    chosen = ask.parse_args()
    import faiss

    faiss.omp_set_num_threads(chosen.threads)
    count, width, questions = (120_000, 64, 20) if chosen.quick else (chosen.count, chosen.width, chosen.questions)
    print(machine())
    head = ["vectors", "metric", "compares", "made, s", "opened, s", "ms a question", "95 % below", "recall@10"]
    rows = []
    with tempfile.TemporaryDirectory(prefix="fovea-neighbors-", dir=chosen.folder) as folder:
        for metric in chosen.metrics.split(","):
            rows += [measured(Path(folder), size, width, questions, metric) for size in (10_000, count)]
    print(table(head, rows))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform != "darwin" else 2**30)
    print(f"peak memory {peak:.1f} GB, files that are mapped included")


if __name__ == "__main__":
    main()
