"""A change in whole grey levels stays in its ball and in the box."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fovea.engine.make.attack.shared.rounding import attacked_frames, rounded_change
from fovea.engine.make.optimise.canvas import PixelCanvas, to_picture
from fovea.engine.make.optimise.projection import Ball


@pytest.mark.parametrize("levels", [1, 2, 8, 16])
def test_a_rounded_change_has_at_most_its_levels_and_stays_in_the_box(levels: int) -> None:
    rng = np.random.default_rng(levels)
    frames = rng.integers(0, 256, (4, 9, 11, 3), dtype=np.uint8)
    frames[0], frames[1] = 0, 255
    clean = to_picture(frames)
    canvas = PixelCanvas(clean + torch.from_numpy(rng.normal(0, 1, clean.shape)).float())
    Ball(clean, levels / 255)(canvas, 0)
    moved = canvas.pixels.detach()
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    attacked = attacked_frames(frames, (moved - clean).double().numpy(), math.inf, levels / 255)
    assert np.abs(attacked.astype(int) - frames).max() == levels
    assert attacked.dtype == np.uint8


@pytest.mark.parametrize("length", [0.05, 0.3, 1.0, 5.0])
def test_a_change_in_l2_is_as_long_as_its_ball_allows(length: float) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    change = rng.normal(0, 1, (3, 3, 32, 32))
    change *= length / np.linalg.norm(change.reshape(3, -1), axis=1)[:, None, None, None]
    levels = rounded_change(change, 2.0, length)
    for one in levels:
        assert np.linalg.norm(one / 255) <= length + 1e-9
        if length >= 0.3:
            assert np.linalg.norm(one / 255) > 0.9 * length
    attacked = attacked_frames(frames, change, 2.0, length).astype(int)
    assert np.linalg.norm((attacked - frames).reshape(3, -1) / 255, axis=1).max() <= length + 1e-9
