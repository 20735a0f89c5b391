"""Many small pictures, cut from one sheet."""

from __future__ import annotations

from typing import Literal

from fovea.engine.panels.base import TableView
from fovea.engine.panels.kinds import AnyPanel


class GalleryPanel(TableView):
    """Tiles of the sheet `image`, in the row order of `table` (or by its column `tile`).

    Tiles are `tile` pixels wide, `columns` of them a row. `caption` names the columns under each; rows that share the
    columns `group` form one group, drawn as a card with its best nine, and opened by a click. A click on a tile of a
    gallery without groups opens the panels `opens`, each narrowed to the rows with that tile's value in the column
    `key`, or to that channel.
    """

    kind: Literal["gallery"] = "gallery"
    image: str
    tile: int = 0
    columns: int = 0
    group: tuple[str, ...] = ()
    caption: tuple[str, ...] = ()
    key: str = ""
    opens: tuple[AnyPanel, ...] = ()
