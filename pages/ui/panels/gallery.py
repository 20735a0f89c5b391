"""A gallery of a sheet's tiles: groups as cards with their best nine, or every tile by itself; a click opens one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from fovea.engine.panels import GalleryPanel, Panel
from fovea.pages.ui.paging import choose_page
from fovea.pages.ui.panels.opened import show_opened, unit_link
from fovea.pages.ui.panels.tiles import Card, bare, shortened_in, show_cards, words_of

CARDS_A_PAGE = 48
TILES_ON_A_CARD = 9

Narrowed = Callable[[Panel, Any, str, Any, str], None]
"""Draws another panel of the run with the rows of one value alone: `(panel, run, column, value, key)`."""


def show_gallery(panel: GalleryPanel, run: Any, key: str, narrowed: Narrowed) -> None:
    """Draw a gallery; what is opened stands in its place, with the panels that the gallery `opens` narrowed to it."""
    table = panel.rows(run)
    if table.empty:
        st.info("There is nothing in this gallery.", icon=":material/image_not_supported:")
        return
    opened = st.session_state.get(f"opened:{key}")
    if not panel.group:
        _single(panel, run, table, opened, key, narrowed)
    elif opened is not None:
        _one_group(panel, run, table, opened, key)
    else:
        _all_groups(panel, run, table, key)


def _opens(key: str) -> Callable[[Any], None]:
    """What a click does: remember what is opened in this gallery."""

    def opened(name: Any) -> None:
        st.session_state[f"opened:{key}"] = name

    return opened


def _back(key: str) -> None:
    """The button from what is opened to the whole gallery."""
    st.button(
        "All",
        icon=":material/arrow_back:",
        key=f"{key}:back",
        on_click=st.session_state.pop,
        args=(f"opened:{key}",),
    )


def _single(
    panel: GalleryPanel, run: Any, table: pd.DataFrame, opened: str | None, key: str, narrowed: Narrowed
) -> None:
    """Every tile by itself; where the panel says by which column, a click opens it."""
    rows = table[table[panel.key].astype(str) == opened] if opened is not None and panel.key else table.head(0)
    if rows.empty:
        _tiles(panel, run, table, key, width=max(120, panel.tile))
        return
    place, row = int(table.index.get_loc(rows.index[0])), rows.iloc[0]
    with st.container(horizontal=True, vertical_alignment="center"):
        _back(key)
        for name, step, icon in (("Previous", -1, ":material/chevron_left:"), ("Next", 1, ":material/chevron_right:")):
            there = 0 <= place + step < len(table)
            other = str(table[panel.key].iloc[place + step]) if there else ""
            st.button(name, icon=icon, key=f"{key}:{name}", disabled=not there, on_click=_opens(key), args=(other,))

    def beside() -> None:
        for number, inner in enumerate(panel.opens):
            narrowed(inner, run, panel.key, row[panel.key], f"{key}:open:{number}")

    show_opened(panel, run, row, key, words=(*panel.caption, panel.key), beside=beside if panel.opens else None)


def _tiles(panel: GalleryPanel, run: Any, table: pd.DataFrame, key: str, width: int) -> None:
    """Every row as a card of its own."""
    names = table[panel.key].astype(str).tolist() if panel.key else [""] * len(table)
    numbered = bool(panel.key) and table[panel.key].dtype.kind in "iu"
    rest = tuple(column for column in panel.caption if not numbered or column != panel.key)
    cards = [
        Card(
            id=name,
            name=f"{panel.key} {name}" if numbered else "",
            note=words_of(row, rest),
            tiles=[int(row.tile)],
            titles=[shortened_in(row, rest)],
        )
        for name, row in zip(names, table.itertuples(index=False), strict=True)
    ]
    show_cards(panel, run, cards, f"{key}:tiles", width=width, opened=_opens(key) if panel.key else None)


def _all_groups(panel: GalleryPanel, run: Any, table: pd.DataFrame, key: str) -> None:
    """The groups as cards, a page at a time, within one value of the first grouping column."""
    first, rest = panel.group[0], panel.group[1:]
    names = list(dict.fromkeys(table[first]))
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    if rest and len(names) > 1:
        chosen = bar.selectbox(first.capitalize(), names, key=f"{key}:first", width=320)
        table = table[table[first] == chosen]
    grouped = _groups(panel, table)
    if len(grouped) > 12 and rest:
        wanted = bar.text_input(
            rest[-1].capitalize(),
            key=f"{key}:find",
            placeholder="All",
            width=120,
            help=f"Type the number of one {rest[-1]} to see it alone.",
        )
        if wanted.strip():
            grouped = [(name, places) for name, places in grouped if str(bare(name[-1])) == wanted.strip()]
    page, part = choose_page(bar, len(grouped), CARDS_A_PAGE, key=f"{key}:page")
    shown = grouped[part]
    if not shown:
        what = rest[-1] if rest else first
        st.info(f"There is no {what} of that number here. Empty the field to see all of them.")
        return
    # The table is cut once for all cards: one cut for each takes most of a second.
    best = [places[:TILES_ON_A_CARD] for _, places in shown]
    rows = iter(list(table.iloc[np.concatenate(best)].itertuples(index=False)))
    cards = [
        _card(panel, name, list(itertools.islice(rows, len(places))))
        for (name, _), places in zip(shown, best, strict=True)
    ]
    show_cards(panel, run, cards, f"{key}:groups:{page}", width=176, opened=_opens(key))


def _groups(panel: GalleryPanel, table: pd.DataFrame) -> list[tuple[tuple[Any, ...], np.ndarray[Any, Any]]]:
    """The groups' names, in the table's order, with the places of their rows."""
    grouped = table.groupby(list(panel.group), sort=False).indices.items()
    named = [(name if isinstance(name, tuple) else (name,), places) for name, places in grouped]
    return sorted(named, key=lambda group: group[1][0])


def _card(panel: GalleryPanel, name: tuple[Any, ...], rows: list[Any]) -> Card:
    """A group's card, from its best rows; it is headed by the last grouping value: "unit 12"."""
    return Card(
        id=[str(bare(part)) for part in name],
        name=f"{panel.group[-1]} {bare(name[-1])}",
        note=words_of(rows[0], panel.caption[:1]),
        tiles=[int(row.tile) for row in rows],
        titles=[words_of(row, panel.caption) for row in rows],
    )


def _one_group(panel: GalleryPanel, run: Any, table: pd.DataFrame, opened: list[str], key: str) -> None:
    """One group in full, every tile large, with its captions and the way to the unit's own page."""
    names = dict(zip(panel.group, opened, strict=True))
    rows = _rows_of_group(table, names)
    with st.container(horizontal=True, vertical_alignment="center"):
        _back(key)
        st.markdown("**" + " · ".join(f"{column} {name}" for column, name in names.items()) + "**")
        if {"layer", "unit"} <= set(names) and not rows.empty:
            unit_link(run, names["layer"], int(names["unit"]))
    if rows.empty:
        st.info("This run holds nothing of that group.")
        return
    _tiles(panel, run, rows, f"{key}:full", width=220)


def _rows_of_group(table: pd.DataFrame, group: Mapping[str, str]) -> pd.DataFrame:
    keep = np.ones(len(table), bool)
    for column, wanted in group.items():
        keep &= (table[column].astype(str) == wanted).to_numpy()
    return table[keep]


def show_units(
    panel: GalleryPanel, run: Any, units: Mapping[int, str], key: str, opened: Callable[[int], None]
) -> None:
    """Several units of the panel's layer as cards, each with its note and its best four tiles; a click opens one."""
    table = panel.rows(run)
    cards = []
    for unit, note in units.items():
        tiles = [int(tile) for tile in table[table["unit"] == unit]["tile"].head(4)]
        cards.append(Card(id=str(unit), name=f"unit {unit}", note=note, tiles=tiles, titles=[""] * len(tiles)))
    show_cards(panel, run, cards, f"{key}:units", width=108, opened=lambda unit: opened(int(unit)))


def show_group(panel: GalleryPanel, run: Any, group: Mapping[str, str], key: str, above: float = -math.inf) -> bool:
    """One group's tiles, large, under the panel's title, of scores `above` that; whether the run holds any."""
    rows = _rows_of_group(panel.rows(run), group)
    if above > -math.inf:
        rows = rows[rows["score"] > above]
    if rows.empty:
        return False
    st.subheader(panel.title, anchor=False)
    _tiles(panel, run, rows, f"{key}:group", width=220)
    return True
