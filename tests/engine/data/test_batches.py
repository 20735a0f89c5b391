"""Batches hold every frame once, in order, and none reaches over the border of two parts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fovea.engine.data.batches import batches


def frames(indices: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    return ((index, np.full((2, 3, 1), index, np.uint8)) for index in indices)


@pytest.mark.parametrize("size", [1, 3, 4, 100])
@pytest.mark.parametrize("shard", [1, 4, 100])
def test_every_frame_is_in_one_batch_of_its_part(size: int, shard: int) -> None:
    indices = [0, 1, 2, 4, 5, 6, 7, 8, 11]
    made = list(batches(frames(indices), size, part=lambda index: index // shard))
    assert [index for batch in made for index in batch.indices] == indices
    for batch in made:
        assert 1 <= len(batch.indices) <= size
        assert len({index // shard for index in batch.indices}) == 1
        assert batch.frames.shape == (len(batch.indices), 2, 3, 1)
        assert batch.frames[:, 0, 0, 0].tolist() == batch.indices
    full = [len(batch.indices) == size for batch in made]
    assert shard < 100 or all(full[:-1])


def test_without_frames_there_is_no_batch() -> None:
    assert list(batches(frames([]), 4)) == []


def test_frames_are_read_as_they_are_needed() -> None:
    read: list[int] = []

    def counted() -> Iterator[tuple[int, np.ndarray]]:
        for index, frame in frames(list(range(10))):
            read.append(index)
            yield index, frame

    next(batches(counted(), 3))
    assert read == [0, 1, 2]
