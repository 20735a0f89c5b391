"""Nearest vectors equal an exact search in float64; an inverted file finds nearly all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fovea.engine.look.feature_space.search import Neighbors, Pixels, leave_one_out


def exact(vectors: np.ndarray, query: np.ndarray, k: int, metric: str, allowed: np.ndarray | None = None) -> tuple:
    """Indices and distances by sorting all of them, in float64."""
    vectors, query = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "cosine":
        distances = 1 - vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    else:
        distances = np.sqrt(((vectors - query) ** 2).sum(1))
    candidates = np.arange(len(vectors)) if allowed is None else allowed
    order = candidates[np.lexsort((candidates, distances[candidates]))][:k]
    return order, distances[order]


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("restricted", [False, True])
def test_equals_an_exact_search(metric: str, restricted: bool) -> None:
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(500, 24)).astype(np.float32), rng.normal(size=(5, 24)).astype(np.float32)
    allowed = np.arange(3, 500, 7) if restricted else None
    indices, distances = Neighbors(vectors, metric).nearest(queries, 10, allowed)
    for place, query in enumerate(queries):
        wanted, apart = exact(vectors, query, 10, metric, allowed)
        np.testing.assert_array_equal(indices[place], wanted)
        np.testing.assert_allclose(distances[place], apart, rtol=1e-5, atol=1e-6)


def test_ties_go_to_the_first_and_too_few_are_filled_up() -> None:
    vectors = np.ones((4, 3), np.float32)
    indices, distances = Neighbors(vectors).nearest(vectors[:1], 6)
    assert indices[0].tolist() == [0, 1, 2, 3, -1, -1]
    assert distances[0].tolist() == [0, 0, 0, 0, np.inf, np.inf]
    assert Neighbors(vectors).nearest(vectors[:1], 2, np.empty(0, np.int64))[0].tolist() == [[-1, -1]]


def test_inverted_file_finds_nearly_all_of_clustered_vectors() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(100, 16)) * 3
    vectors = (centres[rng.integers(0, 100, 6000)] + rng.normal(size=(6000, 16))).astype(np.float32)
    queries = vectors[:50] + 0.1
    found, _ = Neighbors(vectors, flat_limit=1000).nearest(queries, 10)
    wanted, _ = Neighbors(vectors).nearest(queries, 10)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, wanted, strict=True)]) >= 0.99


def test_leave_one_out_by_hand() -> None:
    vectors = np.array([[0.0], [1.0], [2.1], [10.0], [11.0], [12.5]], np.float32)
    labels = np.array([0, 0, 1, 1, 1, 0])
    accuracy, predicted = leave_one_out(Neighbors(vectors), labels, np.arange(6), 2)
    # Nearest others: 1, 0, 1, 4, 3, 4.
    assert accuracy[0] == pytest.approx(4 / 6)
    assert predicted.tolist() == [0, 0, 0, 1, 1, 1]


def test_an_inverted_file_is_kept_and_holds_filters(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(40, 12))[rng.integers(0, 40, 3000)] * 4 + rng.normal(size=(3000, 12))).astype(
        np.float32
    )
    made = Neighbors(vectors, "cosine", flat_limit=1000, folder=tmp_path)
    kept = tmp_path / "cosine.faiss"
    before = kept.stat().st_mtime_ns
    again = Neighbors(vectors, "cosine", flat_limit=1000, folder=tmp_path)
    assert kept.stat().st_mtime_ns == before
    allowed = np.arange(5, 3000, 50)
    for index in (made, again):
        found, apart = index.nearest(vectors[:3], 10, allowed)
        for place in range(3):
            wanted, distances = exact(vectors, vectors[place], 10, "cosine", allowed)
            assert len(set(found[place]) & set(wanted)) >= 9
            np.testing.assert_allclose(apart[place][:3], distances[:3], atol=1e-6)


@pytest.mark.parametrize("restricted", [False, True])
def test_pixels_equal_an_exact_search_and_may_lie_in_a_file(tmp_path: Path, restricted: bool) -> None:
    rng = np.random.default_rng(0)
    pixels = np.lib.format.open_memmap(tmp_path / "pixels.npy", "w+", np.uint8, (2500, 27))
    pixels[:] = rng.integers(0, 256, (2500, 27))
    pixels[2001] = pixels[17]
    allowed = np.arange(1, 2500, 2) if restricted else None
    indices, distances = Pixels(pixels).nearest(np.asarray(pixels[[17, 900]]), 5, allowed)
    for place, query in enumerate((17, 900)):
        wanted, apart = exact(np.asarray(pixels) / 255, pixels[query] / 255, 5, "l2", allowed)
        np.testing.assert_array_equal(indices[place], wanted)
        np.testing.assert_allclose(distances[place], apart, atol=1e-6)
    assert indices[0][:2].tolist() == [17, 2001]
    assert Pixels(pixels).nearest(np.asarray(pixels[:1]), 2, np.empty(0, np.int64))[0].tolist() == [[-1, -1]]
