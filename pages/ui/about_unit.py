"""What finished runs know of one unit, and the runs that would know more; each method says itself what it holds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from fovea.engine.errors import FoveaError
from fovea.engine.look.kernels.weights import weighted_layers
from fovea.engine.look.mining.mined import Mined, by_maximum
from fovea.engine.method import Method, methods
from fovea.engine.options import LayerKind, LayersKind, UnitKind, declared
from fovea.engine.panels import CurvePanel, Panel, TableView
from fovea.engine.run.record import Request
from fovea.engine.run.resolve import resolve
from fovea.engine.run.title import run_title
from fovea.engine.work.runs import submit
from fovea.models.card import Card
from fovea.pages.ui import reads, state
from fovea.pages.ui.gallery import show_group, show_units
from fovea.pages.ui.links import artifact_url
from fovea.pages.ui.nav import page
from fovea.pages.ui.panels import channel_chart, show_panel
from fovea.pages.ui.text import duration, escaped, label, plain, value

RUNS_READ = 60
BINS = 32
POLL_SECONDS = 0.8


def methods_of_every_unit() -> list[Method]:
    """The methods whose result holds each unit of a layer."""
    return [method for method in methods().values() if method.every_unit]


def methods_of_one_unit() -> list[Method]:
    """The methods that can be asked about one unit."""
    return [method for method in methods().values() if method.options.names(UnitKind) and not method.every_unit]


def layer_for(method: Method, card: Card, layer: str) -> str:
    """The layer to ask this method about: where it needs weights, the nearest one before with the same units."""
    needs = {declared(method.options.model_fields[name]).kind.needs for name in method.options.names(LayerKind)}
    names = [one.name for one in card.layers]
    weighted = weighted_layers(card)
    if "weights" not in needs or layer in weighted:
        return layer
    before = [one for one in names[: names.index(layer)] if one in weighted]
    same = [one for one in before if card.layer(one).units == card.layer(layer).units]
    return same[-1] if same else layer


def request_for(method: Method, card: Card, layer: str, unit: int) -> Request:
    """The run that would tell of this unit, with the method's defaults."""
    options: dict[str, Any] = {name: layer_for(method, card, layer) for name in method.options.names(LayerKind)[:1]}
    if method.every_unit:
        options |= {name: layer for name in method.options.names(LayersKind)}
    else:
        options |= {name: unit for name in method.options.names(UnitKind)[:1]}
    image = state.photo() if method.takes_photo else None
    return Request(method=method.name, network=card.name, image=image, options=options)


def runs_for(method: Method, card: Card, layer: str, unit: int) -> Iterator[Any]:
    """The runs that tell of this unit with the network's present weights, newest first, unfinished ones too."""
    request = request_for(method, card, layer, unit)
    singles = {name: value for name, value in request.options.items() if name not in method.options.names(LayersKind)}
    words = " ".join(f"{name}={value}" for name, value in singles.items())
    store = reads.store()
    for row in store.list(method=method.name, network=card.name, text=words or None, limit=RUNS_READ):
        if row.status not in ("done", "queued", "running") or (method.takes_photo and row.image != request.image):
            continue
        record = store.run(row.id).record
        if record.network.sha256 not in ("", card.sha256):
            continue
        if any(record.options.get(name) != wanted for name, wanted in singles.items()):
            continue
        if method.every_unit and method.options.names(LayersKind) and not _mined(record, method, layer):
            continue
        yield store.run(row.id)


def _mined(record: Any, method: Method, layer: str) -> bool:
    """Whether a run over several layers holds this one."""
    asked = {name.strip() for option in method.options.names(LayersKind) for name in record.options[option].split(",")}
    return layer in asked or any(
        isinstance(panel, TableView) and panel.where.get("layer") == layer for panel in record.panels
    )


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


def neighbours_of(card: Card, layer: str) -> dict[str, str]:
    """The layers in whose place this one's best patches are the same above zero, each with what it is to this one."""
    behind = {one.name: f"the {one.kind} behind {layer}" for one in card.layers if one.activates == layer}
    before = card.layer(layer).activates
    return behind | ({before: f"what this {card.layer(layer).kind} reads"} if before else {})


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
                st.caption(plain(f"Patches of {other}, {what}: above zero both have the same, in this order."))
                _source(run)
                return True
    return False


def _share(panel: Panel, run: Any, card: Card, layer: str, unit: int, key: str) -> None:
    if panel.kind == "gallery" and {"layer", "unit"} <= set(panel.group):
        if panel.where.get("layer", layer) == layer:
            show_group(panel, run, {"layer": layer, "unit": str(unit)}, key)
    elif panel.kind == "channels" and not panel.beside and panel.image:
        st.subheader("On this photo", anchor=False)
        channel_chart(panel, run, unit, key)
    elif panel.kind == "table":
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
    told = {name: one for name, one in row.items() if name not in ("layer", "unit", "tile") and str(one) != ""}
    facts = "".join(
        f'<div class="fovea-fact"><span>{escaped(label(str(name)))}</span><b>{escaped(_word(one))}</b></div>'
        for name, one in told.items()
    )
    st.html(f'<div class="fovea-facts">{facts}</div>')


def _word(one: Any) -> str:
    return value(one.item() if isinstance(one, np.generic) else one)


def _neighbours(rows: pd.DataFrame, card: Card, layer: str, key: str) -> None:
    """Other units with how alike they are; with their best patches where these were mined."""
    if rows.empty:
        st.info("No other unit is like this one: it answers the same to every image.", icon=":material/hub:")
        return
    measure = next(name for name in rows if name not in ("layer", "unit", "rank", "other", "tile"))
    notes = {int(row["other"]): f"{measure} {row[measure]:.2f}" for _, row in rows.iterrows()}
    found = _mined_gallery(card, layer)
    if found is not None:
        show_units(*found, notes, key, lambda other: state.choose(unit=str(other)))
        return
    with st.container(horizontal=True):
        for other, note in notes.items():
            st.button(
                f"unit {other}",
                help=note,
                key=f"{key}:{other}",
                on_click=lambda other=other: state.choose(unit=str(other)),
            )


def _mined_gallery(card: Card, layer: str) -> tuple[Panel, Any] | None:
    """The newest gallery of patches of this layer, or of an activation before or behind it, and its run."""
    mining = [method for method in methods_of_every_unit() if method.options.names(LayersKind)]
    for name in (layer, *neighbours_of(card, layer)):
        for run in itertools.chain.from_iterable(runs_for(method, card, name, 0) for method in mining):
            panel = Mined(run).gallery(name) if name == layer or by_maximum(run) else None
            if panel is not None:
                return panel, run
    return None


class _OneTable:
    """A table that is drawn as a panel without being a run's."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table

    def table(self, name: str) -> pd.DataFrame:
        """The table, whatever its name."""
        return self._table


def _histogram(run: Any, layer: str, unit: int) -> None:
    """How many images give which maximum."""
    units = run.table("units")
    row = np.nonzero(((units["layer"] == layer) & (units["unit"] == unit)).to_numpy())[0]
    if not len(row):
        return
    table = even_bins(run.array("histograms")[row[0]], run.array("histogram_edges"))
    panel = CurvePanel(
        title="How strongly it answers",
        help="How many images have this as the largest value of the unit's map.",
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


def _source(run: Any) -> None:
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


def _ask(method: Method, card: Card, layer: str, unit: int, run: Any, button: str = "") -> None:
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
    about = f"{method.question} With the defaults; its own page has all options."
    if st.button(plain(button or "Find out"), key=f"unit:ask:{method.name}", icon=":material/play_arrow:", help=about):
        try:
            submit(request)
        except FoveaError as error:
            st.caption(plain(str(error)))
            return
        st.rerun()


def _waiting(run_id: str) -> None:
    live = reads.store().live(run_id)
    if live is None:
        st.rerun()
    left = f" · about {duration(live.seconds_left)} left" if live.seconds_left and live.seconds > 1.5 else ""
    st.progress(min(max(live.fraction, 0.0), 1.0), text=plain(live.message + left))
