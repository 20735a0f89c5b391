"""Cards with tiles of a run's sheet, and the words under them.

The sheet stays one picture that the browser fetches once; each tile is a window onto it (`tiles.js`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import streamlit as st
from PIL import Image

from fovea.engine.panels import GalleryPanel, SheetView
from fovea.pages.ui.links import artifact_url
from fovea.pages.ui.text import value

LONG = 32
"""A path of more characters is shortened under its picture; pointing at the picture tells all of it."""

_FILE = Path(__file__)
_cards = st.components.v2.component(
    "fovea_gallery",
    css=_FILE.with_suffix(".css").read_text(encoding="utf-8"),
    js=_FILE.with_suffix(".js").read_text(encoding="utf-8"),
)


class Card(TypedDict):
    """What a card shows: tiles of the sheet by number, each with a `titles` for the pointer; `id` is what it opens."""

    id: Any
    name: str
    note: str
    tiles: list[int]
    titles: list[str]


def sheet_of(panel: SheetView, run: Any) -> dict[str, Any]:
    """Where the panel's sheet lies and how many tiles it has across and down."""
    name = panel.image if "." in panel.image else f"{panel.image}.png"
    with Image.open(run.image_path(panel.image)) as header:  # a sheet has many megapixels: its pixels stay undecoded
        width, height = header.size
    return {
        "sheet": artifact_url(run.record.id, f"images/{name}"),
        "columns": panel.sheet(width).columns,
        "rows": panel.sheet_rows((width, height)),
    }


def show_cards(
    panel: GalleryPanel, run: Any, cards: Sequence[Card], key: str, *, width: int, opened: Callable[[Any], None] | None
) -> None:
    """Draw cards at least `width` pixels wide; a click calls `opened` with the card's id, if there is such."""

    def on_opened() -> None:
        if opened is not None:
            opened(st.session_state[key]["opened"])

    data = sheet_of(panel, run) | {"cards": cards, "card": width, "opens": opened is not None}
    _cards(key=key, data=data, on_opened_change=on_opened)


def bare(item: Any) -> Any:
    """A table's value as a plain Python one."""
    return item.item() if isinstance(item, np.generic) else item


def words_of(row: Any, columns: Sequence[str]) -> str:
    """A row's values in these columns in a line: texts, long paths by their ends, numbers with their column's name."""
    return " · ".join(filter(None, (_word(column, getattr(row, column)) for column in columns if hasattr(row, column))))


def shortened_in(row: Any, columns: Sequence[str]) -> str:
    """The texts that stand shortened under the picture, in full."""
    texts = (getattr(row, column) for column in columns if hasattr(row, column))
    return " · ".join(text for text in texts if isinstance(text, str) and _word("", text) != text)


def _word(column: str, item: Any) -> str:
    """Nothing for what is not known."""
    if isinstance(item, str):
        return item if len(item) <= LONG or "/" not in item else f"…/{item.rsplit('/', 1)[-1]}"
    number = bare(item)
    return "" if isinstance(number, float) and math.isnan(number) else f"{column} {value(number)}"
