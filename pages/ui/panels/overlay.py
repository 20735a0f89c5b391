"""A map over a picture, with its opacity and scale; a click on a cell shows what the network saw there."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from fovea.engine.panels import Cells, OverlayPanel
from fovea.pages.ui.panels.chart import draw_chart
from fovea.pages.ui.panels.classes import show_classes


def show_overlay(panel: OverlayPanel, run: Any, key: str) -> None:
    """The picture on the left, its controls and the clicked cell on the right."""
    picture, beside = st.columns([2, 1], gap="medium")
    with beside:
        opacity = st.slider("Opacity of the map", 0.0, 1.0, 0.6, 0.05, key=f"{key}:opacity")
        scale = st.segmented_control(
            "Scale",
            ("sequential", "diverging"),
            default=panel.scale,
            required=True,
            key=f"{key}:scale",
            width="stretch",
            help="The sequential scale runs from the smallest value to the largest. The diverging scale is centred on "
            "zero: choose it to tell positive values from negative ones.",
        )
    with picture:
        clicked = draw_chart(
            panel, run, key, clickable=panel.cells is not None, square=True, opacity=opacity, scale=scale
        )
    if panel.cells is None:
        return
    with beside:
        if clicked is None:
            st.info("Click a place on the picture to cover it.", icon=":material/touch_app:")
        else:
            show_cell(panel.cells, run, int(clicked[0]), int(clicked[1]))


def show_cell(cells: Cells, run: Any, row: int, column: int) -> None:
    """The occluded photo of one cell and its best classes."""
    st.image(covered_picture(cells, run, row, column), width="stretch")
    worth = float(run.array(cells.values)[row, column])
    st.caption(f"Window at row {row}, column {column}: {cells.label or 'value'} {worth:.3g}")
    if cells.table:
        table = run.table(cells.table)
        show_classes(table[(table["row"] == row) & (table["column"] == column)])


def covered_picture(cells: Cells, run: Any, row: int, column: int) -> np.ndarray:
    """The input frame (H, W, 3) with one cell's window replaced by the cover's pixels."""
    frame = np.array(run.image("photo").convert("RGB"))
    y, x = int(run.array(cells.ys)[row]), int(run.array(cells.xs)[column])
    top, left = max(y, 0), max(x, 0)
    window = (slice(top, max(y + cells.height, 0)), slice(left, max(x + cells.width, 0)))
    if cells.cover:
        frame[window] = np.array(run.image(cells.cover).convert("RGB"))[window]
    return frame
