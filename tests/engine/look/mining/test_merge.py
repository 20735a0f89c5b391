"""Partial results can be put together in any order, in any grouping, and twice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fovea.engine.look.mining.merge import (
    HISTOGRAM_BINS,
    SCALE,
    LayerPart,
    Partial,
    from_bytes,
    histogram,
    histogram_edges,
    layer_part,
    merge,
    to_bytes,
)

UNITS, TOP, LABELS = 4, 3, 2


def shard(number: int, images: int = 5, seed: int = 0) -> Partial:
    rng = np.random.default_rng([seed, number])
    # Few distinct scores, so that there are ties everywhere.
    scores = rng.integers(-2, 3, (images, UNITS)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = np.nan
    ranks = rng.permutation(images) * 10 + number
    labels = rng.integers(0, LABELS, images)
    part = layer_part(scores, rng.integers(0, 9, scores.shape), ranks, labels, LABELS, TOP)
    return Partial((number,), {"layer": part}, images, np.bincount(labels, minlength=LABELS), (1000 + number,))


def equal(one: Partial, other: Partial) -> bool:
    same = all(
        np.array_equal(getattr(one.layers["layer"], name), getattr(other.layers["layer"], name))
        for name in LayerPart.__dataclass_fields__
    )
    facts = (one.shards, one.images, one.unreadable, tuple(one.labels))
    return same and facts == (other.shards, other.images, other.unreadable, tuple(other.labels))


def test_any_order_any_grouping_and_twice() -> None:
    parts = [shard(number) for number in range(4)]
    whole = merge(parts)
    for order in itertools.permutations(parts):
        assert equal(merge(order), whole)
        assert equal(merge([merge(order[:1]), merge(order[1:3]), order[3]]), whole)
    assert equal(merge([whole, parts[2], whole]), whole)
    assert equal(merge([parts[1]]), parts[1])


def test_it_ranks_by_score_and_then_by_key() -> None:
    parts = [shard(number) for number in range(3)]
    found = merge(parts).layers["layer"]
    for unit in range(UNITS):
        entries = {
            (-score, image)
            for part in parts
            for score, image in zip(part.layers["layer"].scores[unit], part.layers["layer"].images[unit], strict=True)
            if image >= 0
        }
        wanted = sorted(entries)[:TOP]
        images = found.images[unit]
        assert list(zip(-found.scores[unit], images, strict=True))[: len(wanted)] == wanted
        assert (images[len(wanted) :] == -1).all()


def test_parts_that_overlap_are_refused() -> None:
    one, two, three = (shard(number) for number in range(3))
    with pytest.raises(ValueError, match=r"overlap in shards \[1\]"):
        merge([merge([one, two]), merge([two, three])])
    with pytest.raises(ValueError, match="no partial result"):
        merge([])


def test_one_shard_drops_nan_keeps_minus_infinity_and_fills_up() -> None:
    scores = np.array([[np.nan, -np.inf, 1.0], [np.nan, np.nan, -0.0]], np.float32)
    part = layer_part(scores, np.zeros((2, 3), np.int64), np.array([7, 3]), None, 0, 3)
    np.testing.assert_array_equal(part.images, [[-1, -1, -1], [7, -1, -1], [7, 3, -1]])
    np.testing.assert_array_equal(part.count, [0, 1, 2])
    np.testing.assert_array_equal(part.silent, [0, 1, 1])
    np.testing.assert_array_equal(part.total[2], SCALE)
    assert not np.signbit(part.scores[2, 1])


def test_histogram_counts_between_its_edges() -> None:
    rng = np.random.default_rng(0)
    scores = (rng.normal(size=(3, 500)) * np.exp(rng.normal(size=(3, 500)) * 4)).astype(np.float32)
    scores[0, :3] = 0, np.nan, 1e9
    counts, edges = histogram(scores), histogram_edges()
    assert counts.shape == (3, HISTOGRAM_BINS)
    assert len(edges) == HISTOGRAM_BINS + 1
    assert (np.diff(edges) > 0).all()
    for unit in range(3):
        known = scores[unit][~np.isnan(scores[unit])]
        assert counts[unit].sum() == len(known)
        for bin in range(HISTOGRAM_BINS):
            low, high = edges[bin], edges[bin + 1]
            wanted = (known >= low) & (known < high) if low > 0 else (known > low) & (known <= high)
            if low < 0 < high:
                wanted = (known > low) & (known < high)
            assert counts[unit, bin] == wanted.sum(), (low, high)


def test_a_saved_part_comes_back_and_a_damaged_or_foreign_one_does_not() -> None:
    part = merge([shard(0), shard(1)])
    content = to_bytes(part, "here")
    back = from_bytes(content, "here")
    assert back is not None
    assert equal(back, part)
    assert from_bytes(content, "elsewhere") is None
    assert from_bytes(content[: len(content) // 2], "here") is None
    assert from_bytes(b"", "here") is None
