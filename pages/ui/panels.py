"""Panels -> charts: every kind of panel of a finished run, with its controls and clicks. Nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
import streamlit as st

from fovea.engine.errors import FoveaError
from fovea.engine.panels import Cells, GalleryPanel, Look, Panel
from fovea.pages.ui.gallery import show_gallery
from fovea.pages.ui.opened import show_opened
from fovea.pages.ui.peek import peek
from fovea.pages.ui.text import escaped, label, show_error

CHART = {"displaylogo": False, "showSendToCloud": False, "scrollZoom": False, "displayModeBar": False}
"""Plotly's settings: no logo, nothing that sends data anywhere."""

WHOLE_ROWS = 16
"""A table of no more rows is shown whole, a longer one scrolls."""


def show_panels(run: Any, key: str) -> None:
    """All panels of a run: pictures across the whole width, small charts two in a row, sister galleries in turn."""
    for row in _rows(_sisters(run.record.panels)):
        first = row[0]
        if len(first) > 1:
            st.fragment(_in_turn)(first, run, f"{key}:{first[0][0]}")
        else:
            _row([group[0] for group in row], run, key)


Group = list[tuple[int, Panel]]
"""A panel with its place, or several that are shown in turn."""


def _rows(groups: list[Group]) -> list[list[Group]]:
    """Which groups stand in one row: those that say so, and small charts two by two."""
    rows: list[list[Group]] = []
    for place, group in enumerate(groups):
        panel, last = group[0][1], rows[-1] if rows else []
        leads = place + 1 < len(groups) and groups[place + 1][0][1].beside
        pairs = len(last) == 1 and not leads and all(len(one) == 1 and one[0][1].small for one in (group, *last))
        joins = panel.beside and bool(last) and len(group) == len(last[-1]) == 1
        if joins or (pairs and not panel.beside):
            last.append(group)
        else:
            rows.append([group])
    return rows


def _sisters(panels: list[Panel]) -> list[Group]:
    """The panels in order; galleries of one table that differ in `where` alone stand together."""
    groups: list[Group] = []
    for index, panel in enumerate(panels):
        before = groups[-1][-1][1] if groups else None
        sisters = isinstance(panel, GalleryPanel) and isinstance(before, GalleryPanel)
        if sisters and panel.where and panel.table == before.table:
            groups[-1].append((index, panel))
        else:
            groups.append([(index, panel)])
    return groups


def _in_turn(group: Group, run: Any, key: str) -> None:
    """One of several sister galleries, chosen by what each keeps of the table."""
    names = [", ".join(str(value) for value in panel.where.values()) for _, panel in group]
    columns = ", ".join(group[0][1].where)
    chosen = st.segmented_control(
        columns.capitalize(),
        range(len(group)),
        default=len(group) - 1,
        required=True,
        key=f"{key}:turn",
        format_func=names.__getitem__,
    )
    index, panel = group[chosen]
    show_panel(panel, run, f"{key}:{index}")


def _row(panels: Group, run: Any, key: str) -> None:
    if len(panels) == 1:
        show_panel(panels[0][1], run, f"{key}:{panels[0][0]}")
        return
    for column, (index, panel) in zip(st.columns(len(panels), gap="large"), panels, strict=True):
        with column:
            show_panel(panel, run, f"{key}:{index}", narrow=True)


def show_panel(panel: Panel, run: Any, key: str, narrow: bool = False) -> None:
    """One panel under its title; a picture that cannot be read is one line, and the others stay.

    A `narrow` one shares its row: a map over a picture has no room for its controls there.
    """
    with st.container(key=f"panel-{key}".replace(":", "-")):
        if panel.title:
            st.subheader(panel.title, anchor=False)
        if panel.help:
            st.caption(panel.help)
        st.fragment(_draw)(panel, run, key, narrow)


def _draw(panel: Panel, run: Any, key: str, narrow: bool) -> None:
    """The panel, or one line; inside its fragment, because what a fragment raises reaches nobody outside of it."""
    try:
        if narrow and panel.kind == "overlay":
            _square_chart(panel.figure(run, Look(_theme())), key)
        else:
            _WIDGETS.get(panel.kind, _chart)(panel, run, key)
    except (FoveaError, OSError, KeyError, ValueError) as error:
        show_error(f"This panel cannot be drawn: {error}")


def _theme() -> Literal["light", "dark"]:
    """Which of the theme's two faces this browser shows."""
    return "dark" if st.context.theme.type == "dark" else "light"


def _chart(panel: Panel, run: Any, key: str) -> None:
    chart = panel.figure(run, Look(_theme()))
    if chart is not None:
        st.plotly_chart(chart, key=f"{key}:chart", config=CHART, theme=None)


def _image(panel: Panel, run: Any, key: str) -> None:
    picture = run.image(panel.image)
    if getattr(picture, "is_animated", False):  # only the file itself still moves
        st.image(run.image_path(panel.image).read_bytes(), width="content")
        return
    width, height = picture.size
    if max(width, height) < 900:
        factor = max(1, 900 // max(width, height))
        picture = picture.resize((width * factor, height * factor), 0 if factor > 1 else None)
    st.image(picture, width="stretch" if picture.width > 900 else "content")


def _overlay(panel: Panel, run: Any, key: str) -> None:
    """The map over the picture, its opacity and scale; a click on a cell shows what the network saw there."""
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
            help="Sequential runs from the smallest value to the largest; diverging is centred on zero.",
        )
    chart = panel.figure(run, Look(_theme(), opacity=opacity, scale=scale))
    with picture:
        event = _square_chart(chart, key, clickable=panel.cells is not None)
    if panel.cells is None:
        return
    with beside:
        cell = clicked_cell(event)
        if cell is None:
            st.info("Click a place on the picture to cover it.", icon=":material/touch_app:")
        else:
            show_cell(panel.cells, run, *cell)


def _square_chart(chart: Any, key: str, *, clickable: bool = False) -> Any:
    """A picture with a colour bar under it, as wide as its column and as high as that asks for."""
    chart.update_layout(height=None)
    with st.container(key=f"square-{key}".replace(":", "-")):
        return st.plotly_chart(
            chart,
            key=f"{key}:chart",
            config=CHART,
            theme=None,
            height="stretch",
            on_select="rerun" if clickable else "ignore",
            selection_mode="points",
        )


def clicked_cell(event: Any) -> tuple[int, int] | None:
    """Row and column of the cell that was clicked, from a chart's selection."""
    points = (event or {}).get("selection", {}).get("points", [])
    for point in points:
        data = point.get("customdata")
        if isinstance(data, dict):
            data = list(data.values())
        if data is not None and len(data) >= 2:
            return int(data[0]), int(data[1])
    return None


def covered_picture(cells: Cells, run: Any, row: int, column: int) -> np.ndarray:
    """The input frame (H, W, 3) with one cell's window replaced by the cover's pixels."""
    frame = np.array(run.image("photo").convert("RGB"))
    y, x = int(run.array(cells.ys)[row]), int(run.array(cells.xs)[column])
    top, left = max(y, 0), max(x, 0)
    window = (slice(top, max(y + cells.height, 0)), slice(left, max(x + cells.width, 0)))
    if cells.cover:
        frame[window] = np.array(run.image(cells.cover).convert("RGB"))[window]
    return frame


def show_cell(cells: Cells, run: Any, row: int, column: int) -> None:
    """The occluded photo of one cell and its best classes."""
    st.image(covered_picture(cells, run, row, column), width="stretch")
    worth = float(run.array(cells.values)[row, column])
    st.caption(f"Window at row {row}, column {column}: {cells.label or 'value'} {worth:.3g}")
    if cells.table:
        table = run.table(cells.table)
        best = table[(table["row"] == row) & (table["column"] == column)]
        show_bars(best)


def show_bars(table: pd.DataFrame) -> None:
    """Rows of `class` and `probability` as labelled bars, widest first."""
    bars = []
    for name, share in zip(table["class"], table["probability"], strict=True):
        bars.append(
            f'<div class="fovea-bar"><span class="fovea-bar-name">{escaped(name)}</span>'
            f'<span class="fovea-bar-share">{share:.1%}</span><div class="fovea-bar-track">'
            f'<div class="fovea-bar-fill" style="width:{max(share, 0.004):.2%}"></div></div></div>'
        )
    st.html("".join(bars))


def _channels(panel: Panel, run: Any, key: str) -> None:
    """All channels as one picture of tiles; one of them, large, over the image."""
    event = st.plotly_chart(
        panel.figure(run, Look(_theme())),
        key=f"{key}:chart",
        config=CHART,
        theme=None,
        on_select="rerun",
        selection_mode="points",
    )
    count = len(run.array(panel.array))
    clicked = clicked_channel(event)
    if clicked is not None and st.session_state.get(f"{key}:clicked") != clicked:
        st.session_state[f"{key}:clicked"] = clicked
        st.session_state[f"{key}:channel"] = clicked
    channel = st.number_input("Channel", 0, count - 1, key=f"{key}:channel", help=f"0 to {count - 1}", width=160)
    channel_chart(panel, run, int(channel), f"{key}:one")


def channel_chart(panel: Panel, run: Any, channel: int, key: str) -> None:
    """One channel of a `channels` panel, over its image."""
    one = panel.figure(run, Look(_theme(), channel=channel))
    st.plotly_chart(one, key=f"{key}:channel", config=CHART, theme=None)


def _scatter(panel: Panel, run: Any, key: str) -> None:
    """The points, coloured by what is chosen; pointing shows a point's picture, a click opens it."""
    if not panel.image:
        _chart(panel, run, key)
        return
    table = run.table(panel.table)
    colour = _colour_choice(panel, table, key)
    place = f"scatter-{key}".replace(":", "-")
    with st.container(key=place):
        event = st.plotly_chart(
            panel.figure(run, Look(_theme(), colour=colour, height=620)),
            key=f"{key}:chart",
            config=CHART | {"scrollZoom": True},
            theme=None,
            on_select="rerun",
            selection_mode="points",
        )
    peek(panel, run, place, key)
    clicked = clicked_channel(event)
    if clicked is not None and clicked in table.index:
        show_opened(panel, run, table.loc[clicked], key)


def _colour_choice(panel: Panel, table: pd.DataFrame, key: str) -> str:
    """Which caption colours the points: those with a few values, or numbers."""
    names = [
        name
        for name in panel.caption
        if name in table and (table[name].dtype.kind in "fi" or 1 < table[name].nunique() <= len(table) / 2)
    ]
    if len(names) < 2:
        return names[0] if names else ""
    return str(
        st.segmented_control(
            "Colour by", names, default=names[0], required=True, key=f"{key}:colour", format_func=label
        )
    )


def clicked_channel(event: Any) -> int | None:
    """The channel that was clicked, from a chart's selection."""
    for point in (event or {}).get("selection", {}).get("points", []):
        data = point.get("customdata")
        if isinstance(data, dict):
            data = list(data.values())
        if isinstance(data, (list, tuple)) and data:
            return int(data[0])
        if isinstance(data, (int, float)):
            return int(data)
    return None


def _table(panel: Panel, run: Any, key: str) -> None:
    table = panel.rows(run)
    told = [name for name in table if not (table[name].isna() | (table[name].astype(str) == "")).all()]
    height: Literal["content", "auto"] = "content" if len(table) <= WHOLE_ROWS else "auto"
    st.dataframe(table[told] if told else table, hide_index=True, key=f"{key}:table", height=height)


_WIDGETS: dict[str, Callable[[Panel, Any, str], None]] = {
    "image": _image,
    "overlay": _overlay,
    "gallery": show_gallery,
    "scatter": _scatter,
    "channels": _channels,
    "table": _table,
}
"""What a kind of panel has beside its figure: controls, clicks. Any other kind is its figure alone."""
