"""Evolution of pictures: it ends when it is sure, classes take each other's children, a patch changes one place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fovea.engine.make.fool.evolution import _Evolution, evolve, mosaic, patched


def red_and_blue(frames: np.ndarray) -> np.ndarray:
    """How red the left half is, and how blue the right one."""
    left, right = frames[:, :, :8].astype(float), frames[:, :, 8:].astype(float)
    red = (left[..., 0] - left[..., 1:].mean(-1)).mean((1, 2)) / 510 + 0.5
    blue = (right[..., 2] - right[..., :2].mean(-1)).mean((1, 2)) / 510 + 0.5
    return np.stack([red, np.zeros(len(frames)), blue], axis=1)


def test_evolution_ends_when_it_is_sure_of_every_class() -> None:
    seen: list[tuple[int, float]] = []
    given: dict[str, Any] = {"population": 16, "generations": 200, "enough": 0.9, "seed": 0}
    found = evolve(
        red_and_blue,
        [2, 0],
        (10, 16),
        3,
        told=lambda generation, best: seen.append((generation, float(best.probabilities.min()))),
        **given,
    )
    assert found.frames.shape == (2, 10, 16, 3)
    assert found.frames.dtype == np.uint8
    assert found.probabilities.min() >= 0.9
    np.testing.assert_array_equal(found.probabilities, red_and_blue(found.frames)[[0, 1], [2, 0]])
    assert seen[-1][0] < 199
    least = [value for _, value in seen]
    assert least == sorted(least)
    again = evolve(red_and_blue, [2, 0], (10, 16), 3, **given)
    np.testing.assert_array_equal(again.frames, found.frames)


def test_a_class_may_take_the_child_of_another() -> None:
    """Nobody works for the second class, whose picture gets better all the same."""

    def ask(frames: np.ndarray) -> np.ndarray:
        red = red_and_blue(frames)[:, 0]
        return np.stack([red, red / 2], axis=1)

    rng = np.random.default_rng(0)
    evolution = _Evolution(ask, [0, 1], rng.integers(0, 256, (5, 10, 16, 3), dtype=np.uint8))
    before = evolution.best.probabilities.copy()
    for _ in range(5):
        evolution.advance(0, 8, rng)
    assert (evolution.best.probabilities > before).all()
    np.testing.assert_array_equal(ask(evolution.best.frames)[[0, 1], [0, 1]], evolution.best.probabilities)


@pytest.mark.parametrize("size", [(10, 16), (5, 3), (64, 1)])
def test_a_patch_changes_one_place(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        parent = rng.integers(0, 256, (*size, channels), dtype=np.uint8)
        before = parent.copy()
        children = [patched(rng, parent) for _ in range(30)]
        np.testing.assert_array_equal(parent, before)
        assert all(child.shape == parent.shape and child.dtype == np.uint8 for child in children)
        assert sum(bool((child != parent).any()) for child in children) > 20


def test_a_mosaic_covers_the_frame() -> None:
    cells = np.arange(4.0).reshape(1, 2, 2, 1) * 60
    assert mosaic(cells, (3, 4))[0, :, :, 0].tolist() == [[0, 0, 60, 60], [0, 0, 60, 60], [120, 120, 180, 180]]
