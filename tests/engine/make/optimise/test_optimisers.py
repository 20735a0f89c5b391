"""Optimisers: a cooled one's step falls along half a cosine."""

from __future__ import annotations

import math

import pytest
import torch

from fovea.engine.make.optimise.optimisers import cooled, gradient_steps


def test_a_cooled_step_falls_to_a_twentieth_along_half_a_cosine() -> None:
    pixels = torch.zeros(1, 3, 2, 2, requires_grad=True)
    mover, steps = cooled(gradient_steps(1.0), 5)([pixels]), []
    for _ in range(5):
        before = pixels.detach().clone()
        pixels.grad = torch.ones_like(pixels)
        mover.step()
        steps.append(float((before - pixels.detach()).mean()))
    expected = [0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(5)]
    assert steps == pytest.approx(expected, rel=1e-5)
    assert steps[-1] == pytest.approx(0.05, rel=1e-5)
