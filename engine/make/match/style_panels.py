"""What is shown of a style transfer: what it was made from, its curves, and the grid of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fovea.engine.explain.maps.pictures import as_colour
from fovea.engine.make.match.style_options import GRID, Weights
from fovea.engine.make.optimise.picture_size import photo_pixels
from fovea.engine.panels import CurvePanel, GalleryPanel, ImagePanel, Panel
from fovea.engine.panels.sheet import Sheet, fit_tile

if TYPE_CHECKING:
    from PIL import Image

    from fovea.engine.method import Job, Result

SOURCE_TILE = 192
"""Side in pixels of the tiles of content and styles beneath the picture."""


def sources(
    job: Job[Any], content: Image.Image, styles: Sequence[tuple[Image.Image, float]]
) -> tuple[NDArray[np.uint8], pd.DataFrame]:
    """The sheet of the content and the styles as they were before, and its captions."""
    photos = [content, *(photo for photo, _ in styles)]
    tiles = [fit_tile(as_colour(photo_pixels(job, photo, SOURCE_TILE)), SOURCE_TILE) for photo in photos]
    captions = [{"photo": "content", "part": ""}]
    captions += [{"photo": "style", "part": f"{share:.0%}"} for _, share in styles]
    return Sheet(SOURCE_TILE, len(tiles)).compose(tiles), pd.DataFrame(captions)


def style_photos(job: Job[Any], styles: Sequence[tuple[Image.Image, float]], side: int) -> dict[str, NDArray[np.uint8]]:
    """Images `style_photo`, `style_photo_2`, … as they were before, their long side brought to `side` pixels."""
    return {
        f"style_photo{'' if number == 1 else f'_{number}'}": as_colour(photo_pixels(job, photo, side))
        for number, (photo, _) in enumerate(styles, 1)
    }


def panels(photos: int, losses: pd.DataFrame) -> list[Panel]:
    """The picture, the `photos` that it was made from, a curve for content and style each, and how it grew."""
    shown: list[Panel] = [
        ImagePanel(
            title="The photo in the other's style",
            help="The network's features lie where they lie in the photo, and occur together as they do in the style "
            "photo.",
            image="style",
        ),
        GalleryPanel(
            title="What it was made from",
            help="The photo, and the photos whose style was taken, each with its part of the blend.",
            image="sources",
            table="sources",
            tile=SOURCE_TILE,
            columns=photos,
            caption=("photo", "part"),
        ),
    ]
    for kind, help in (
        ("content ", "The relative squared distance of the features from the photo's; it grows as the style comes in."),
        (
            "style ",
            "The relative squared distances of the statistics from the style's, before their weights; a jump is a new "
            "size.",
        ),
    ):
        columns = tuple(column for column in losses.columns if column.startswith(kind))
        if columns:
            shown.append(
                CurvePanel(
                    title=f"How far from the {kind.strip()}",
                    help=help,
                    table="losses",
                    x="step",
                    y=columns,
                    log=kind == "style ",
                )
            )
    shown.append(
        ImagePanel(title="How it grew", help="The picture on its way, from coarse to fine.", image="growth.gif")
    )
    return shown


def add_grid(result: Result, grid: Sequence[tuple[Weights, NDArray[np.uint8]]]) -> None:
    """Add the sheet of small pictures by their weights, row by row, its captions and its panel after the picture's."""
    side = max(grid[0][1].shape[:2])
    tiles = [fit_tile(as_colour(picture), side) for _, picture in grid]
    captions = [{"content": f"content {weights.content:g}", "style": f"style {weights.style:g}"} for weights, _ in grid]
    result.images["grid"] = Sheet(side, len(GRID)).compose(tiles)
    result.tables["grid"] = pd.DataFrame(captions)
    result.panels.insert(
        1,
        GalleryPanel(
            title="Content against style",
            help="Small pictures of the same photos: more content from row to row, more style from left to right.",
            image="grid",
            table="grid",
            tile=side,
            columns=len(GRID),
            caption=("content", "style"),
        ),
    )
