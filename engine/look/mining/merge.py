"""What one pass over a part of a data set found, and how such parts are put together.

`merge` is a pure function of partial results: associative, commutative and idempotent, so that shards may be
mined in any order, by one process or by many machines, and a shard that is counted twice changes nothing.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCALE = 2**16
"""Sums of scores are kept in steps of 1/SCALE as integers: their order cannot change them."""
LARGEST = 2.0**20
"""A score beyond this counts as this in sums, so that 2**26 images cannot overflow them."""

_SHIFT = 22
_LOWEST, _HIGHEST = (int(np.float32(2.0**power).view(np.int32)) >> _SHIFT for power in (-8, 14))
HISTOGRAM_BINS = 2 * (_HIGHEST - _LOWEST) + 1


@dataclass(frozen=True)
class LayerPart:
    """What is known of one layer's C units.

    `scores` (C, k) float32, best first, with `images` (C, k) int64, the rank of the image's key among the
    sorted keys, or -1 where there is no further image, and `places` (C, k) int64, row * columns + column.
    Of the images' maxima: `largest` (C,) float32, -inf where there is none; `histogram` (C, HISTOGRAM_BINS); `silent`
    (C,) images whose maximum is not above zero; `count` (C,) images that have one; `total` (C,) and `by_label`
    (C, labels), sums in 1/SCALE.
    """

    scores: NDArray[np.float32]
    images: NDArray[np.int64]
    places: NDArray[np.int64]
    largest: NDArray[np.float32]
    histogram: NDArray[np.int64]
    silent: NDArray[np.int64]
    count: NDArray[np.int64]
    total: NDArray[np.int64]
    by_label: NDArray[np.int64]


@dataclass(frozen=True)
class Partial:
    """What is known after some shards. `labels` counts the images of each label, `unreadable` holds their ranks."""

    shards: tuple[int, ...]
    layers: Mapping[str, LayerPart]
    images: int
    labels: NDArray[np.int64]
    unreadable: tuple[int, ...]


def merge(partials: Iterable[Partial]) -> Partial:
    """All that the partial results know, together.

    Scores are ranked by (-score, key of the image); one image has one place. Raises ValueError if there is
    nothing to merge, or if two parts share some shards and neither holds all of the other's.
    """
    parts: list[Partial] = []
    seen: set[int] = set()
    for partial in sorted(partials, key=lambda part: (-len(part.shards), part.shards)):
        shards = set(partial.shards)
        if shards <= seen and parts:
            continue
        if shards & seen:
            raise ValueError(f"partial results overlap in shards {sorted(shards & seen)}: merge them shard by shard")
        parts.append(partial)
        seen |= shards
    if not parts:
        raise ValueError("there is no partial result to merge")
    if len(parts) == 1:
        return parts[0]
    return Partial(
        shards=tuple(sorted(seen)),
        layers={name: _merge_layer([part.layers[name] for part in parts]) for name in parts[0].layers},
        images=sum(part.images for part in parts),
        labels=np.sum([part.labels for part in parts], axis=0),
        unreadable=tuple(sorted(rank for part in parts for rank in part.unreadable)),
    )


def _merge_layer(parts: list[LayerPart]) -> LayerPart:
    top = max(part.scores.shape[1] for part in parts)
    scores = np.concatenate([part.scores for part in parts], axis=1)
    images = np.concatenate([part.images for part in parts], axis=1)
    places = np.concatenate([part.places for part in parts], axis=1)
    order = np.lexsort((images, -scores, images < 0), axis=1)[:, :top]

    def summed(name: str) -> NDArray[np.int64]:
        return np.asarray(np.sum([getattr(part, name) for part in parts], axis=0), np.int64)

    scores, images, places = (np.take_along_axis(values, order, axis=1) for values in (scores, images, places))
    largest = np.max([part.largest for part in parts], axis=0)
    counts = (summed(name) for name in ("histogram", "silent", "count", "total", "by_label"))
    return LayerPart(scores, images, places, largest, *counts)


def layer_part(
    scores: NDArray[np.float32],
    places: NDArray[np.int64],
    images: NDArray[np.int64],
    labels: NDArray[np.int64] | None,
    label_count: int,
    top: int,
    maxima: NDArray[np.float32] | None = None,
) -> LayerPart:
    """One shard's part of a layer, from `scores` and `places` (n, C) of `images` (n,), the ranks of their keys.

    A score that is NaN is dropped. `labels` (n,) is each image's label, -1 where it has none; or None. `maxima` (n, C)
    where images are ranked by another score.
    """
    order = np.argsort(images, kind="stable")
    # Minus zero is zero; sorting by key first lets a stable sort break ties by key.
    scores = np.ascontiguousarray((scores[order] + np.float32(0)).T)
    maxima = scores if maxima is None else np.ascontiguousarray((maxima[order] + np.float32(0)).T)
    places, images = places[order].T, images[order]
    known = ~np.isnan(scores)
    everywhere = np.broadcast_to(images, scores.shape)
    best = np.argsort(np.where(known, -scores, np.float32(np.nan)), axis=1, kind="stable")[:, :top]
    there = np.take_along_axis(known, best, axis=1)
    fixed = fixed_point(maxima)
    by_label = np.zeros((len(scores), label_count), np.int64)
    if labels is not None and label_count:
        ordered = labels[order]
        for label in np.unique(ordered[ordered >= 0]):
            by_label[:, label] = fixed[:, ordered == label].sum(axis=1)
    width = top - best.shape[1]

    def padded(values: NDArray[Any], empty: float) -> NDArray[Any]:
        return np.pad(values, ((0, 0), (0, width)), constant_values=empty) if width > 0 else values

    return LayerPart(
        scores=padded(np.where(there, np.take_along_axis(scores, best, 1), np.float32(-np.inf)), -np.inf),
        images=padded(np.where(there, np.take_along_axis(everywhere, best, 1), -1), -1),
        places=padded(np.where(there, np.take_along_axis(places, best, 1), 0), 0),
        largest=np.fmax.reduce(maxima, axis=1, initial=-np.inf),
        histogram=histogram(maxima),
        silent=(maxima <= 0).sum(axis=1),
        count=(~np.isnan(maxima)).sum(axis=1),
        total=fixed.sum(axis=1),
        by_label=by_label,
    )


def fixed_point(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Scores in steps of 1/SCALE, int64; NaN is 0."""
    clipped = np.clip(np.nan_to_num(scores.astype(np.float64), nan=0.0), -LARGEST, LARGEST)
    return np.asarray(np.rint(clipped * SCALE), np.int64)


def histogram(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many of each row's scores (C, n) fall into each bin, (C, HISTOGRAM_BINS); NaN into none.

    Bins are the same for every unit and data set, or parts could not be added: two an octave from 2^-8 to
    2^14 on either side of zero (see `histogram_edges`); they are read off the bits of the float.
    """
    magnitude = (np.abs(scores).view(np.int32) >> _SHIFT).astype(np.int64)
    step = np.clip(magnitude, _LOWEST - 1, _HIGHEST - 1) - (_LOWEST - 1)
    middle = HISTOGRAM_BINS // 2
    bins = middle + np.where(scores < 0, -step, step)
    units = np.arange(len(scores))[:, None] * HISTOGRAM_BINS
    kept = ~np.isnan(scores)
    counts = np.bincount((bins + units)[kept], minlength=len(scores) * HISTOGRAM_BINS)
    return counts.reshape(len(scores), HISTOGRAM_BINS).astype(np.int64)


def histogram_edges() -> NDArray[np.float64]:
    """The limits of the bins, (HISTOGRAM_BINS + 1,); the outermost ones are infinite.

    A bin above zero holds its lower limit, one below zero its upper, the middle one neither.
    """
    above = (np.arange(_LOWEST, _HIGHEST, dtype=np.int32) << _SHIFT).view(np.float32).astype(np.float64)
    return np.concatenate([[-np.inf], -above[::-1], above, [np.inf]])


def to_bytes(partial: Partial, signature: str) -> bytes:
    """A partial result as a file's content; `signature` tells what it is a part of."""
    facts = {
        "signature": signature,
        "shards": partial.shards,
        "images": partial.images,
        "unreadable": partial.unreadable,
        "layers": list(partial.layers),
    }
    arrays: dict[str, NDArray[Any]] = {"labels": partial.labels}
    for index, part in enumerate(partial.layers.values()):
        arrays |= {f"{index}.{name}": values for name, values in vars(part).items()}
    buffer = io.BytesIO()
    np.savez(buffer, facts=np.array(json.dumps(facts)), **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def from_bytes(content: bytes, signature: str) -> Partial | None:
    """The partial result that `to_bytes` wrote, or None if it is a part of something else or damaged."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            facts = json.loads(str(archive["facts"]))
            if facts["signature"] != signature:
                return None
            fields = LayerPart.__dataclass_fields__
            layers = {
                name: LayerPart(**{field: archive[f"{index}.{field}"] for field in fields})
                for index, name in enumerate(facts["layers"])
            }
            labels = archive["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Partial(tuple(facts["shards"]), layers, facts["images"], labels, tuple(facts["unreadable"]))
