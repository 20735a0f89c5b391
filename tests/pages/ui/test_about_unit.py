"""What a unit's page works out by itself: a histogram of even bins."""

from __future__ import annotations

import numpy as np
import pytest

from fovea.pages.ui.about_unit import even_bins


def test_a_histogram_of_uneven_bins_keeps_its_counts() -> None:
    edges = np.array([-np.inf, -1.0, 0.5, 1.0, 2.0, 4.0, np.inf])
    table = even_bins(np.array([0, 3, 0, 5, 8, 0]), edges)
    assert table["images"].sum() == pytest.approx(16)
    assert table["largest value"].between(-1, 4).all()
    assert table[table["largest value"] < 0.5]["images"].sum() == pytest.approx(3, rel=0.2)
    assert even_bins(np.array([0, 0, 0, 0, 0, 4]), edges)["images"].sum() == pytest.approx(4)
    assert even_bins(np.zeros(6, int), edges)["images"].tolist() == [0]
