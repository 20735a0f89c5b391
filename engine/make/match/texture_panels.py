"""What is shown of a texture beside its picture: the quality to expect, and the series of ever deeper layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fovea.engine.explain.maps.pictures import as_colour
from fovea.engine.make.optimise.layers import ENLARGED, fine_layers
from fovea.engine.panels import GalleryPanel
from fovea.engine.panels.sheet import Sheet, fit_tile

if TYPE_CHECKING:
    from fovea.engine.method import Result
    from fovea.models.card import Card, Layer


@dataclass
class Series:
    """Textures of ever more layers: their names, uint8 pictures (H, W, C), and the losses of all by step."""

    names: list[str]
    pictures: list[NDArray[np.uint8]]
    losses: pd.DataFrame


def expectation(card: Card, layers: list[Layer], scales: int, fine: bool) -> str:
    """What quality these layers can give, from what the card says of their fields."""
    first, deepest = layers[0].receptive_field, layers[-1].receptive_field
    lines = []
    if card.random:
        lines.append("The weights are random: colours and fine grain will be right, shapes will not.")
    if first is not None and not first.whole:
        stride = max(first.stride)
        enlarged = fine and bool(fine_layers(card, layers))
        if stride <= (ENLARGED if enlarged else 1):
            lines.append("The first layer sees every pixel: expect sharp detail (as with VGG, of which this is known).")
        else:
            lines.append(
                f"The first layer looks at every {round(stride)}th pixel only: the finest detail comes from the "
                "statistics of neighbouring pixels alone, and is softer than with networks whose first layers see "
                "every pixel (VGG)."
            )
    if deepest is not None and not deepest.whole:
        reach = max(deepest.size) * 2 ** (scales - 1)
        lines.append(f"Structures up to about {reach} pixels of the pattern hold together; larger ones are shuffled.")
    return " ".join(lines)


def add_series(result: Result, series: Series, photo: NDArray[np.uint8], side: int) -> None:
    """Add the series' sheet in tiles of `side` pixels after the photo, its captions, its losses and its panel."""
    tiles = [fit_tile(as_colour(picture), side) for picture in [photo, *series.pictures]]
    shows = ["", "neighbouring pixels alone", *("" for _ in series.names[1:])]
    result.images["depths"] = Sheet(side, len(tiles)).compose(tiles)
    result.tables["depths"] = pd.DataFrame({"layers": ["photo", *series.names], "shows": shows})
    result.tables["depth_losses"] = series.losses.reset_index(drop=True)
    result.panels.append(
        GalleryPanel(
            title="Ever deeper layers",
            help="The same photo's texture, first from neighbouring pixels alone, then with one layer more each time: "
            "grain comes first, then larger and larger shapes (Gatys 2015, figure 2).",
            image="depths",
            table="depths",
            tile=side,
            columns=len(tiles),
            caption=("layers", "shows"),
        )
    )
