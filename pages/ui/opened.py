"""One tile or point of a panel, opened: large, with what the run and its data set know of it."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from fovea.engine.errors import FoveaError
from fovea.engine.method import Method, find_method
from fovea.engine.options import DatasetKind, ItemKind
from fovea.engine.panels import Panel
from fovea.engine.panels.words import words
from fovea.pages.ui import reads
from fovea.pages.ui.text import errors_as_lines, label, plain

LARGE = 420


def show_opened(panel: Panel, run: Any, row: pd.Series[Any], key: str) -> None:
    """The row's picture, its words and its ways on; beside them the panel's own panels, narrowed to it."""
    beside = bool(panel.opens)
    left, right = st.columns([1, 2] if beside else [1, 1], gap="large")
    with left:
        if beside:
            _picture(panel, run, row)
        _said(panel, row)
        _ways_on(run, row, key)
    with right:
        if not beside:
            _picture(panel, run, row)
        for place, inner in enumerate(panel.opens):
            narrowed(inner, run, panel.key, row[panel.key], f"{key}:open:{place}")


def _picture(panel: Panel, run: Any, row: pd.Series[Any]) -> None:
    """The image itself where it can still be read, else its tile, enlarged."""
    if "image" in row.index:
        with contextlib.suppress(FoveaError):
            st.image(reads.dataset_picture(reads.root(), _dataset_of(run), str(row["image"])), width="content")
            return
    if panel.image and row.get("tile", -1) >= 0:
        st.image(tile_picture(panel, run, int(row["tile"])), width="content")


def tile_picture(panel: Panel, run: Any, tile: int) -> np.ndarray[Any, Any]:
    """A tile of the panel's sheet, enlarged by whole pixels, uint8 (h, w, 3)."""
    pixels = np.asarray(run.image(panel.image).convert("RGB"))
    cut = panel.sheet(pixels.shape[1]).cut(pixels, tile)
    factor = max(1, LARGE // max(cut.shape[:2]))
    return cut.repeat(factor, axis=0).repeat(factor, axis=1)


def _said(panel: Panel, row: pd.Series[Any]) -> None:
    names = [name for name in dict.fromkeys((*panel.caption, panel.key)) if name and name in row.index]
    told = [(name, row[name]) for name in names if not (isinstance(row[name], float) and np.isnan(row[name]))]
    st.markdown("  \n".join(f"{label(name)} **{plain(words(value))}**" for name, value in told if str(value) != ""))


def _dataset_of(run: Any) -> str:
    """The data set that the run's images are of."""
    names = _method(run).options.names(DatasetKind) if _method(run) else []
    return next((str(run.record.options[name]) for name in names if run.record.options.get(name)), "")


def _method(run: Any) -> Method | None:
    try:
        return find_method(run.record.method)
    except FoveaError:
        return None


def _ways_on(run: Any, row: pd.Series[Any], key: str) -> None:
    """The unit's own page; the image as a question of its own, or as the photo of all pages."""
    with st.container(horizontal=True):
        if {"layer", "unit"} <= set(row.index):
            unit_link(run, str(row["layer"]), int(row["unit"]))
        if "image" in row.index and _dataset_of(run):
            _image_ways(run, str(row["image"]), key)


def unit_link(run: Any, layer: str, unit: int) -> None:
    """A link to the unit's own page."""
    from fovea.pages.ui.nav import page

    query = {"network": run.record.network.name, "layer": layer, "unit": str(unit)}
    st.page_link(page("unit"), label="All about this unit", icon=":material/hub:", query_params=query)


def _image_ways(run: Any, image: str, key: str) -> None:
    from fovea.engine.work.runs import submit
    from fovea.pages.ui.pickers import change
    from fovea.pages.ui.workbench import show_next

    with errors_as_lines():
        item = next(iter(_method(run).options.names(ItemKind)), "") if _method(run) else ""
        if item and st.button("Ask about this one", icon=":material/search:", key=f"{key}:ask"):
            request = run.record.request()
            again = request.model_copy(update={"options": request.options | {item: image}, "name": ""})
            show_next(run.record.method, submit(again))
            st.rerun()
        if st.button("Take it as the photo", icon=":material/photo:", key=f"{key}:take"):
            from fovea.engine.data.catalogue import open_dataset
            from fovea.engine.data.photos import keep_photo

            dataset = open_dataset(_dataset_of(run))
            change(photo=keep_photo(dataset.photo(dataset.index_of(image)), image))
            st.rerun()


def narrowed(panel: Panel, run: Any, column: str, value: Any, key: str) -> None:
    """A panel of which only one value of a column is shown, or one channel."""
    from fovea.pages.ui.panels import channel_chart, show_panel

    if panel.kind == "channels":
        st.subheader(panel.title, anchor=False)
        channel_chart(panel, run, int(value), key)
        return
    item = value.item() if isinstance(value, np.generic) else value
    update: dict[str, Any] = {"where": {**panel.where, column: item}, "group": ()}
    show_panel(panel.model_copy(update=update), run, key)
