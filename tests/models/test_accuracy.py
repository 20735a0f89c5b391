"""Real weights on real photos: the preprocessing, the weights and the export are right all the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import accuracy
from fovea.models import zoo

PHOTOS = 100


@pytest.mark.parametrize(("name", "top1"), [("squeezenet", 51.0), ("googlenet", 70.0)])
def test_top1_on_photos(name: str, top1: float, data: Path, own_home: Path) -> None:
    """`top1` in percent on the first 100 photos; benchmarks/accuracy.py checks the stated figures on all 1000."""
    accuracy.register(name, data)
    paths, classes = accuracy.photos(data, PHOTOS)
    network = zoo.load(name)
    assert not network.card.random
    ours, exported = accuracy.scores(network, paths)
    assert np.abs(ours - exported).max() < 1e-4 * np.abs(ours).max()
    for values in (ours, exported):
        assert abs(accuracy.top(values, classes, 1) - top1) <= 0.5
