"""One tile or point of a panel, opened: large, with what the run and its data set know of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from fovea.engine.data.catalogue import open_dataset
from fovea.engine.errors import FoveaError
from fovea.engine.method import Method, find_method
from fovea.engine.options import DatasetKind, ItemKind
from fovea.engine.panels import SheetView
from fovea.engine.panels.words import words as in_words
from fovea.pages.ui import acts, reads, state
from fovea.pages.ui.nav import page
from fovea.pages.ui.text import errors_as_lines, label, plain

LARGE = 420
"""An opened picture's longer side is enlarged to about so many pixels."""


def show_opened(
    panel: SheetView,
    run: Any,
    row: pd.Series[Any],
    key: str,
    *,
    words: Sequence[str],
    beside: Callable[[], None] | None = None,
) -> None:
    """The row's picture, its values in the columns `words`, and its ways on; `beside` draws what stands next to it."""
    left, right = st.columns([1, 1] if beside is None else [1, 2], gap="large")
    with left:
        if beside is not None:
            _picture(panel, run, row)
        _tell(words, row)
        _ways_on(run, row, key)
    with right:
        if beside is None:
            _picture(panel, run, row)
        else:
            beside()


def _picture(panel: SheetView, run: Any, row: pd.Series[Any]) -> None:
    """The image itself where it can still be read, else its tile, enlarged."""
    if "image" in row.index:
        with contextlib.suppress(FoveaError):
            st.image(reads.dataset_picture(reads.root(), _dataset_of(run), str(row["image"])), width="content")
            return
    if panel.image and row.get("tile", -1) >= 0:
        st.image(tile_picture(panel, run, int(row["tile"])), width="content")


def tile_picture(panel: SheetView, run: Any, tile: int) -> np.ndarray[Any, Any]:
    """A tile of the panel's sheet, enlarged by whole pixels, uint8 (h, w, 3)."""
    pixels = np.asarray(run.image(panel.image).convert("RGB"))
    cut = panel.sheet(pixels.shape[1]).cut(pixels, tile)
    factor = max(1, LARGE // max(cut.shape[:2]))
    return cut.repeat(factor, axis=0).repeat(factor, axis=1)


def _tell(words: Sequence[str], row: pd.Series[Any]) -> None:
    """The row's values, one a line; what is not known is left out."""
    names = [name for name in dict.fromkeys(words) if name and name in row.index]
    told = [(name, row[name]) for name in names if not (isinstance(row[name], float) and np.isnan(row[name]))]
    st.markdown("  \n".join(f"{label(name)} **{plain(in_words(value))}**" for name, value in told if str(value) != ""))


def _dataset_of(run: Any) -> str:
    """The data set that the run's images are of."""
    method = _method(run)
    names = method.options.names(DatasetKind) if method else []
    return next((str(run.record.options[name]) for name in names if run.record.options.get(name)), "")


def _method(run: Any) -> Method | None:
    """The run's method, if this Fovea knows it."""
    with contextlib.suppress(FoveaError):
        return find_method(run.record.method)
    return None


def _ways_on(run: Any, row: pd.Series[Any], key: str) -> None:
    """The unit's own page; the image as a question of its own, or as the photo of all pages."""
    with st.container(horizontal=True):
        if {"layer", "unit"} <= set(row.index):
            unit_link(run, str(row["layer"]), int(row["unit"]))
        if "image" in row.index and _dataset_of(run):
            with errors_as_lines():
                _image_ways(run, str(row["image"]), key)


def unit_link(run: Any, layer: str, unit: int) -> None:
    """A link to the unit's own page."""
    query = {"network": run.record.network.name, "layer": layer, "unit": str(unit)}
    st.page_link(page("unit"), label="All about this unit", icon=":material/hub:", query_params=query)


def _image_ways(run: Any, image: str, key: str) -> None:
    method = _method(run)
    item = next(iter(method.options.names(ItemKind)), "") if method else ""
    if item and st.button("Ask about this one", icon=":material/search:", key=f"{key}:ask"):
        request = run.record.request()
        again = request.model_copy(update={"options": request.options | {item: image}, "name": ""})
        state.show_next(run.record.method, acts.submit(again))
        st.rerun()
    if st.button("Take it as the photo", icon=":material/photo:", key=f"{key}:take"):
        dataset = open_dataset(_dataset_of(run))
        state.change(photo=acts.keep_photo(dataset.photo(dataset.index_of(image)), image))
        st.rerun()
