"""A clicked cell of a map: what the network saw with its window covered."""

from __future__ import annotations

import numpy as np
from PIL import Image

from fovea.engine.panels import Cells
from fovea.pages.ui.panels.overlay import covered_picture


def test_covered_picture_replaces_one_window() -> None:
    class View:
        def image(self, name: str) -> Image.Image:
            return Image.new("RGB", (8, 6), "white" if name == "photo" else "black")

        def array(self, name: str) -> np.ndarray:
            return np.array({"ys": [0, 4], "xs": [0, 4, 7]}[name])

    cells = Cells(ys="ys", xs="xs", height=4, width=4, values="score", cover="cover")
    shown = covered_picture(cells, View(), 1, 2)
    assert shown.shape == (6, 8, 3)
    assert (shown[4:, 7:] == 0).all()
    assert shown[:4].min() == 255
    assert shown[:, :7].min() == 255
