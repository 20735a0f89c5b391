"""What finished runs know of one unit, drawn, and the buttons of the runs that would know more."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from fovea.engine.errors import FoveaError
from fovea.engine.look.mining.mined import Mined, by_maximum
from fovea.engine.method import Method
from fovea.engine.options import LayersKind
from fovea.engine.panels import ChannelsPanel, CurvePanel, GalleryPanel, Panel, TablePanel
from fovea.engine.run.resolve import resolve
from fovea.engine.run.title import run_title
from fovea.engine.store.folder import StoredRun
from fovea.models.card import Card
from fovea.pages.ui import acts, reads, state
from fovea.pages.ui.facts import show_facts
from fovea.pages.ui.links import artifact_url
from fovea.pages.ui.nav import page
from fovea.pages.ui.panels.channels import show_channel
from fovea.pages.ui.panels.gallery import show_group, show_units
from fovea.pages.ui.panels.show import show_panel
from fovea.pages.ui.panels.tiles import bare
from fovea.pages.ui.progress import POLL_SECONDS, show_bar
from fovea.pages.ui.text import escaped, label, plain, value
from fovea.pages.ui.unit_runs import layer_for, mined_gallery, neighbours_of, request_for, runs_for

BINS = 32

# --- every unit of the layer


def share_of(method: Method, card: Card, layer: str, unit: int) -> bool:
    """Draw what the newest run of a method holds of this unit, or the button that starts one; whether it was drawn."""
    run = next(runs_for(method, card, layer, unit), None)
    if run is None or run.record.status != "done":
        if _borrowed(method, card, layer, unit):
            _ask(method, card, layer, unit, run, f"Find those of {layer} itself")
            return True
        st.subheader(method.title, anchor=False)
        _ask(method, card, layer, unit, run)
        return False
    for index, panel in enumerate(run.record.panels):
        _share(panel, run, card, layer, unit, f"unit:{run.id}:{index}")
    if "histograms" in run.arrays:
        _histogram(run, layer, unit)
    _source(run)
    return True


def _borrowed(method: Method, card: Card, layer: str, unit: int) -> bool:
    """Draw the unit's best patches as an activation before or behind the layer has them, if they were mined there."""
    if not method.options.names(LayersKind):
        return False
    for other, what in neighbours_of(card, layer).items():
        for run in runs_for(method, card, other, unit):
            if run.record.status != "done" or not by_maximum(run):
                continue
            panel, group = Mined(run).gallery(other), {"layer": other, "unit": str(unit)}
            if panel is not None and show_group(panel, run, group, f"unit:borrowed:{run.id}", above=0.0):
                st.caption(
                    plain(f"These are the patches of {other}, {what}. Above zero both have the same, in this order.")
                )
                _source(run)
                return True
    return False


def _share(panel: Panel, run: StoredRun, card: Card, layer: str, unit: int, key: str) -> None:
    """What one panel of a run over the whole layer holds of the unit."""
    if isinstance(panel, GalleryPanel) and {"layer", "unit"} <= set(panel.group):
        if panel.where.get("layer", layer) == layer:
            show_group(panel, run, {"layer": layer, "unit": str(unit)}, key)
    elif isinstance(panel, ChannelsPanel) and not panel.beside and panel.image:
        st.subheader("On this photo", anchor=False)
        show_channel(panel, run, unit, key)
    elif isinstance(panel, TablePanel):
        _share_of_table(panel, run, card, layer, unit, key)


def _share_of_table(panel: TablePanel, run: StoredRun, card: Card, layer: str, unit: int, key: str) -> None:
    """The unit's row; or, where the table tells of pairs of units, its neighbours."""
    table = run.table(panel.table)
    if "unit" not in table:
        return
    keep = (table["unit"] == unit) & (table["layer"] == layer if "layer" in table else True)
    if "other" in table:
        st.subheader(panel.title, anchor=False)
        st.caption(panel.help)
        _neighbours(table[keep], card, layer, key)
    elif keep.any():
        _facts(table[keep].iloc[0])


def _facts(row: pd.Series[Any]) -> None:
    """A row of a table of units: its numbers in a line."""
    told = {name: item for name, item in row.items() if name not in ("layer", "unit", "tile") and str(item) != ""}
    show_facts({label(str(name)): value(bare(item)) for name, item in told.items()})


def _neighbours(rows: pd.DataFrame, card: Card, layer: str, key: str) -> None:
    """Other units with how alike they are; with their best patches where these were mined."""
    if rows.empty:
        st.info(
            "No other unit is like this one, because this one answers the same to every image.", icon=":material/hub:"
        )
        return
    measure = next(name for name in rows if name not in ("layer", "unit", "rank", "other", "tile"))
    notes = {int(row["other"]): f"{measure} {row[measure]:.2f}" for _, row in rows.iterrows()}
    mined = mined_gallery(card, layer)
    if mined is not None:
        show_units(*mined, notes, key, lambda other: state.choose(unit=str(other)))
        return
    with st.container(horizontal=True):
        for other, note in notes.items():
            st.button(
                f"unit {other}",
                help=note,
                key=f"{key}:{other}",
                on_click=lambda other=other: state.choose(unit=str(other)),
            )


class _OneTable:
    """A table that is drawn as a panel without being a run's."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table

    def table(self, name: str) -> pd.DataFrame:
        """The table, whatever its name."""
        return self._table


def _histogram(run: StoredRun, layer: str, unit: int) -> None:
    """How many images give which maximum."""
    units = run.table("units")
    row = np.nonzero(((units["layer"] == layer) & (units["unit"] == unit)).to_numpy())[0]
    if not len(row):
        return
    table = even_bins(run.array("histograms")[row[0]], run.array("histogram_edges"))
    panel = CurvePanel(
        title="How strongly it answers",
        help="This curve shows how many images have each value as the largest one in the unit's map.",
        table="histogram",
        x="largest value",
        y=("images",),
    )
    show_panel(panel, _OneTable(table), f"unit:histogram:{run.id}:{layer}")


def even_bins(counts: np.ndarray[Any, Any], edges: np.ndarray[Any, Any]) -> pd.DataFrame:
    """A histogram of uneven bins as one of even ones: each count is spread evenly over its own bin."""
    there = np.nonzero(counts)[0]
    if not len(there):
        return pd.DataFrame({"largest value": [0.0], "images": [0.0]})
    low, high = edges[there[0]], edges[there[-1] + 1]
    low = edges[there[0] + 1] if math.isinf(low) else low
    high = edges[there[-1]] if math.isinf(high) else high
    if high <= low:
        return pd.DataFrame({"largest value": [low], "images": [float(counts.sum())]})
    lines = np.linspace(low, high, BINS + 1)
    # What lies beyond the finite edges is put at them.
    grid = np.clip(edges[there[0] : there[-1] + 2], low, high)
    below = np.interp(lines, grid, np.concatenate([[0], np.cumsum(counts[there[0] : there[-1] + 1])]))
    below[0], below[-1] = 0, counts.sum()
    return pd.DataFrame({"largest value": (lines[1:] + lines[:-1]) / 2, "images": np.diff(below)})


def _source(run: StoredRun) -> None:
    about = plain(f"From: {run_title(run.record)}, {run.record.started[:16].replace('T', ' ')}")
    st.page_link(page("run"), label=about, query_params={"id": run.id}, icon=":material/open_in_full:")


# --- one unit


def card_of(method: Method, card: Card, layer: str, unit: int) -> None:
    """A method's picture of this unit, its progress, or the button that starts it."""
    run = next(runs_for(method, card, layer, unit), None)
    with st.container(border=True, gap="small"):
        asked = layer_for(method, card, layer)
        st.markdown(f"**{plain(method.title)}**" + (f" of {plain(asked)}" if asked != layer else ""))
        if run is None or run.record.status != "done":
            _ask(method, card, layer, unit, run)
            return
        if run.preview is not None:
            source = artifact_url(run.id, "preview.png")
            st.html(f'<img class="fovea-preview" loading="lazy" src="{escaped(source)}" alt="{escaped(method.title)}">')
        st.page_link(page("run"), label="Open", query_params={"id": run.id}, icon=":material/open_in_full:")


def _ask(method: Method, card: Card, layer: str, unit: int, run: StoredRun | None, button: str = "") -> None:
    """How far the unfinished run is, or the button that starts one, or why there can be none.

    `button` names what is asked where something is shown already; without it the method is introduced.
    """
    if run is not None:
        st.fragment(_waiting, run_every=POLL_SECONDS)(run.id)
        return
    request = request_for(method, card, layer, unit)
    try:
        resolve(request)
    except FoveaError as error:
        st.caption(plain(str(error)))
        return
    if not button:
        st.caption(plain(method.summary))
    about = f"{method.question} This starts a run with the defaults. The method's own page has all options."
    if st.button(plain(button or "Find out"), key=f"unit:ask:{method.name}", icon=":material/play_arrow:", help=about):
        try:
            acts.submit(request)
        except FoveaError as error:
            st.caption(plain(str(error)))
            return
        st.rerun()


def _waiting(run_id: str) -> None:
    live = reads.store().live(run_id)
    if live is None:
        st.rerun()
    show_bar(live)
