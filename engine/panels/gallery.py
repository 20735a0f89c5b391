"""Many small pictures, cut from one sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from fovea.engine.panels.base import Reads, ReportPart, RunView, SheetView
from fovea.engine.panels.data_uri import data_uri
from fovea.engine.panels.figure_parts import empty_figure, lay_below, set_picture_axes
from fovea.engine.panels.kinds import AnyPanel
from fovea.engine.panels.look import USUAL, Look
from fovea.engine.panels.words import captions, words

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

CARDS = 1024
GALLERY_PIXELS = 16_000_000
"""So many cards of a gallery, and pixels of all their tiles, are put into a report."""


class GalleryPanel(SheetView):
    """Tiles of the sheet `image`, in the row order of `table` (or by its column `tile`).

    Tiles are `tile` pixels wide, `columns` of them a row. `caption` names the columns under each; rows that share the
    columns `group` form one group, drawn as a card with its best nine, and opened by a click. A click on a tile of a
    gallery without groups opens the panels `opens`, each narrowed to the rows with that tile's value in the column
    `key`, or to that channel.
    """

    kind: Literal["gallery"] = "gallery"
    image: str
    group: tuple[str, ...] = ()
    caption: tuple[str, ...] = ()
    key: str = ""
    opens: tuple[AnyPanel, ...] = ()

    def rows(self, run: RunView) -> pd.DataFrame:
        """The rows that `where` keeps, with the column `tile`: which tile of the sheet belongs to each."""
        rows = super().rows(run)
        return rows if "tile" in rows else rows.assign(tile=np.arange(len(run.table(self.table)))[rows.index])

    def figure(self, run: RunView, look: Look = USUAL) -> go.Figure:
        """The sheet as it lies, its captions on hover. `customdata` of a point is [tile]."""
        import plotly.graph_objects as go

        picture = run.image(self.image)
        table = self.rows(run)
        tiles = table["tile"].to_numpy()
        down, across = self.sheet(picture.width).middles(tiles)
        drawn = empty_figure(look, 640)
        lay_below(drawn, picture, picture.size)
        drawn.add_trace(
            go.Scatter(
                x=across.tolist(),
                y=down.tolist(),
                mode="markers",
                marker={"size": 16, "opacity": 0},
                customdata=[[int(tile)] for tile in tiles],
                text=captions(table, (*self.group, *self.caption)),
                hovertemplate="%{text}<extra></extra>",
                name="tiles",
                showlegend=False,
            )
        )
        drawn.update_layout(hoverdistance=-1, clickmode="event+select")
        set_picture_axes(drawn, *picture.size)
        return drawn

    def report(self, run: RunView) -> ReportPart:
        """For each card its name, its tiles cut from the sheet as one strip, and their captions.

        A strip for each card instead of the sheet for all: a browser decodes only those that are in sight.
        """
        table = self.rows(run)
        group = [column for column in self.group if column in table]
        # A column that is the same for every card names nothing.
        naming = [column for column in group if table[column].nunique() > 1] or group[-1:]
        cards = list(table.groupby(group, sort=False).indices.values()) if group else [[n] for n in range(len(table))]
        shown = cards[:CARDS]
        strips = _Strips(run.image(self.image), self, sum(len(places) for places in shown))
        tiles = table["tile"].to_numpy()
        names = captions(table, naming, " · ", escaped=False)
        below = [" · ".join(map(words, row)) for row in _values(table, self.caption)]
        data = {
            "cards": [
                {
                    "name": names[places[0]],
                    "strip": strips.cut(tiles[places]),
                    "size": f"{len(places) * 100}% 100%",
                    "tiles": [
                        {"at": f"{100 * number / max(1, len(places) - 1):.4f}% 0", "caption": below[place]}
                        for number, place in enumerate(places)
                    ],
                }
                for places in shown
            ],
            "left_out": len(cards) - len(shown),
            "grouped": bool(group),
            "tile": max(96, self.tile),
        }
        return ReportPart("gallery.html", data=data)

    def reads(self) -> Reads:
        """The table with the columns that it names, the sheet, and what its inner panels read."""
        columns = {*self.group, *self.caption, *filter(None, [self.key])}
        everything = super().reads() | Reads(tables={self.table: columns})
        for panel in self.opens:
            everything |= panel.reads()
        return everything


def _values(table: pd.DataFrame, columns: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    """The values of these columns, where there are such, row by row."""
    there = [column for column in columns if column in table]
    return table[there].itertuples(index=False, name=None) if there else ((),) * len(table)


class _Strips:
    """Strips of tiles cut from a sheet, all of them together within GALLERY_PIXELS."""

    def __init__(self, picture: Image.Image, panel: GalleryPanel, tiles: int) -> None:
        self.sheet = panel.sheet(picture.width)
        self.side = max(24, min(self.sheet.tile, math.isqrt(GALLERY_PIXELS // max(1, tiles))))
        self.pixels = np.asarray(picture.convert("RGB"))

    def cut(self, tiles: Iterable[int]) -> str:
        """These tiles beside each other, as a data URI."""
        strip = np.concatenate([self.sheet.cut(self.pixels, int(tile)) for tile in tiles], axis=1)
        picture = Image.fromarray(strip)
        if self.side != self.sheet.tile:
            count = strip.shape[1] // self.sheet.tile
            picture = picture.resize((count * self.side, self.side), Image.Resampling.BOX)
        return data_uri(picture, longest=65_000, lossy=True)
