"""What is asked of an attacked picture: how alike it is, and what saving leaves of it."""

from __future__ import annotations

import numpy as np
import pytest

from fovea.engine.make.attack.outcome.survival import saved_and_read, similarity


def test_similarity_and_saving() -> None:
    rng = np.random.default_rng(0)
    for shape in ((32, 40, 3), (8, 8, 1)):
        one = rng.integers(0, 256, shape, dtype=np.uint8)
        assert similarity(one, one) == pytest.approx(1)
        assert similarity(one, 255 - one) < 0.5
        np.testing.assert_array_equal(saved_and_read(one), one)
