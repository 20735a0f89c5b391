"""A gallery of a sheet's tiles: groups as cards with their best nine, opened by a click.

The sheet stays one picture that the browser fetches once; each tile is a window onto it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from fovea.engine.panels import Panel
from fovea.pages.ui.links import artifact_url
from fovea.pages.ui.opened import show_opened, unit_link
from fovea.pages.ui.text import value

CARDS_A_PAGE = 48
TILES_ON_A_CARD = 9
LONG = 32
"""A path of more characters is shortened under its picture; pointing at the picture tells all of it."""

_CSS = """
.cards { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(var(--card, 168px), 1fr)); }
.card { display: flex; flex-direction: column; justify-content: flex-start; }
.card { font: inherit; color: inherit; text-align: left; padding: 8px; cursor: pointer; min-width: 0;
  background: var(--st-secondary-background-color); border: 1px solid var(--st-border-color); border-radius: 8px; }
.card:hover, .card:focus-visible { border-color: var(--st-primary-color); outline: 2px solid var(--st-primary-color);
  outline-offset: 0; }
.card.still { cursor: default; outline: none; border-color: var(--st-border-color); }
.tiles { display: grid; grid-template-columns: repeat(var(--across, 3), 1fr); gap: 2px; border-radius: 4px;
  overflow: hidden; }
.tile { aspect-ratio: 1; background-repeat: no-repeat; min-width: 0; }
.empty { background: repeating-linear-gradient(45deg, transparent 0 6px, var(--st-border-color) 6px 7px); }
.name { display: block; margin-top: 6px; font-weight: 600; font-size: 0.86rem; overflow-wrap: anywhere; }
.note { display: block; font-size: 0.78rem; opacity: 0.72; overflow-wrap: anywhere; }
"""

_JS = """
export default function ({ data, parentElement, setTriggerValue }) {
  let root = parentElement.querySelector('.cards');
  if (!root) { root = document.createElement('div'); root.className = 'cards'; parentElement.appendChild(root); }
  root.style.setProperty('--card', data.card + 'px');
  root.replaceChildren();
  const { columns, rows } = data;
  const tile = (index, title) => {
    const box = document.createElement('div');
    box.className = 'tile';
    if (index < 0) { box.classList.add('empty'); return box; }
    const x = index % columns, y = Math.floor(index / columns);
    box.style.backgroundImage = `url("${data.sheet}")`;
    box.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
    box.style.backgroundPosition =
      `${columns > 1 ? (100 * x) / (columns - 1) : 0}% ${rows > 1 ? (100 * y) / (rows - 1) : 0}%`;
    if (title) box.title = title;
    return box;
  };
  for (const card of data.cards) {
    const box = document.createElement(data.opens ? 'button' : 'div');
    box.className = data.opens ? 'card' : 'card still';
    const tiles = document.createElement('div');
    tiles.className = 'tiles';
    tiles.style.setProperty('--across', Math.min(3, Math.ceil(Math.sqrt(card.tiles.length))));
    card.tiles.forEach((index, place) => tiles.appendChild(tile(index, card.titles[place])));
    box.appendChild(tiles);
    for (const [kind, text] of [['name', card.name], ['note', card.note]]) {
      if (!text) continue;
      const line = document.createElement('span');
      line.className = kind;
      line.textContent = text;
      box.appendChild(line);
    }
    if (data.opens) {
      box.setAttribute('aria-label', 'Open ' + (card.name || card.note));
      box.onclick = () => setTriggerValue('opened', card.id);
    }
    root.appendChild(box);
  }
}
"""

_cards = st.components.v2.component("fovea_gallery", css=_CSS, js=_JS)


def show_gallery(panel: Panel, run: Any, key: str) -> None:
    """Draw a gallery panel; a click on a group shows it in full. Computes nothing: it reads the finished run."""
    table = panel.rows(run)
    if table.empty:
        st.info("There is nothing in this gallery.", icon=":material/image_not_supported:")
        return
    opened = st.session_state.get(f"opened:{key}")
    if not panel.group:
        _single(panel, run, table, opened, key)
        return
    if opened is not None:
        _one_group(panel, run, table, opened, key)
    else:
        _all_groups(panel, run, table, key)


def _single(panel: Panel, run: Any, table: pd.DataFrame, opened: str | None, key: str) -> None:
    """Every tile by itself; where the panel says by which column, a click opens it."""
    rows = table[table[panel.key].astype(str) == opened] if opened is not None and panel.key else table.head(0)
    if rows.empty:
        _tiles(panel, run, table, key, card=max(120, panel.tile))
        return
    place = int(table.index.get_loc(rows.index[0]))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "All",
            icon=":material/arrow_back:",
            key=f"{key}:back",
            on_click=st.session_state.pop,
            args=(f"opened:{key}",),
        )
        for name, step, icon in (("Previous", -1, ":material/chevron_left:"), ("Next", 1, ":material/chevron_right:")):
            there = 0 <= place + step < len(table)
            other = str(table[panel.key].iloc[place + step]) if there else ""
            st.button(
                name,
                icon=icon,
                key=f"{key}:{name}",
                disabled=not there,
                on_click=st.session_state.__setitem__,
                args=(f"opened:{key}", other),
            )
    show_opened(panel, run, rows.iloc[0], key)


def sheet_of(panel: Panel, run: Any) -> dict[str, Any]:
    """Where the sheet lies and how many tiles it has across and down."""
    name = panel.image if "." in panel.image else f"{panel.image}.png"
    with Image.open(run.image_path(panel.image)) as header:  # a sheet has many megapixels: its pixels stay undecoded
        width, height = header.size
    return {
        "sheet": artifact_url(run.record.id, f"images/{name}"),
        "columns": panel.sheet(width).columns,
        "rows": panel.sheet_rows((width, height)),
    }


def _words(row: Any, columns: tuple[str, ...]) -> str:
    return " · ".join(filter(None, (_word(column, getattr(row, column)) for column in columns if hasattr(row, column))))


def _paths(row: Any, columns: tuple[str, ...]) -> str:
    """The texts that stand shortened under the picture, in full."""
    texts = (getattr(row, column) for column in columns if hasattr(row, column))
    return " · ".join(text for text in texts if isinstance(text, str) and _word("", text) != text)


def _word(column: str, item: Any) -> str:
    """A text, a long path by its end, a number with its column's name; nothing for what is not known."""
    if isinstance(item, str):
        return item if len(item) <= LONG or "/" not in item else f"…/{item.rsplit('/', 1)[-1]}"
    number = _plain(item)
    return "" if isinstance(number, float) and math.isnan(number) else f"{column} {value(number)}"


def _plain(item: Any) -> Any:
    return item.item() if isinstance(item, np.generic) else item


def _tiles(panel: Panel, run: Any, table: pd.DataFrame, key: str, card: int) -> None:
    """Every row as a card of its own."""
    names = table[panel.key].astype(str).tolist() if panel.key else [""] * len(table)
    numbered = bool(panel.key) and table[panel.key].dtype.kind in "iu"
    titles = [f"{panel.key} {name}" for name in names] if numbered else [""] * len(names)
    rest = tuple(column for column in panel.caption if not numbered or column != panel.key)
    cards = [
        {"id": name, "name": title, "note": _words(row, rest), "tiles": [int(row.tile)], "titles": [_paths(row, rest)]}
        for name, title, row in zip(names, titles, table.itertuples(index=False), strict=True)
    ]
    data = sheet_of(panel, run) | {"cards": cards, "card": card, "opens": bool(panel.key)}

    def opened() -> None:
        st.session_state[f"opened:{key}"] = st.session_state[f"{key}:tiles"]["opened"]

    _cards(key=f"{key}:tiles", data=data, on_opened_change=opened)


def _all_groups(panel: Panel, run: Any, table: pd.DataFrame, key: str) -> None:
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
            placeholder="all",
            width=120,
            help="Show one alone, by its number.",
        )
        if wanted.strip():
            grouped = [(name, places) for name, places in grouped if str(_plain(name[-1])) == wanted.strip()]
    pages = max(1, -(-len(grouped) // CARDS_A_PAGE))
    page = 1
    if pages > 1:
        page = bar.number_input("Page", 1, pages, 1, key=f"{key}:page", width=140, help=f"{len(grouped)} in all")
    shown = grouped[(page - 1) * CARDS_A_PAGE : page * CARDS_A_PAGE]
    if not shown:
        st.info(f"No {rest[-1] if rest else first} of that number here: empty the field to see all.")
        return
    # The table is cut once for all cards: one cut for each takes most of a second.
    best = [places[:TILES_ON_A_CARD] for _, places in shown]
    rows = iter(list(table.iloc[np.concatenate(best)].itertuples(index=False)))
    cards = [
        _card(panel, name, list(itertools.islice(rows, len(places))))
        for (name, _), places in zip(shown, best, strict=True)
    ]
    place = f"{key}:groups:{page}"

    def opened() -> None:
        st.session_state[f"opened:{key}"] = st.session_state[place]["opened"]

    _cards(
        key=place,
        data=sheet_of(panel, run) | {"cards": cards, "card": 176, "opens": True},
        on_opened_change=opened,
    )


def _groups(panel: Panel, table: pd.DataFrame) -> list[tuple[tuple[Any, ...], np.ndarray[Any, Any]]]:
    """The groups' names, in the table's order, with the places of their rows."""
    found = table.groupby(list(panel.group), sort=False).indices.items()
    named = [(name if isinstance(name, tuple) else (name,), places) for name, places in found]
    return sorted(named, key=lambda group: group[1][0])


def _card(panel: Panel, name: tuple[Any, ...], rows: list[Any]) -> dict[str, Any]:
    """A group's card, from its best rows."""
    return {
        "id": [str(_plain(part)) for part in name],
        "name": _group_name(panel, name),
        "note": _words(rows[0], panel.caption[:1]),
        "tiles": [int(row.tile) for row in rows],
        "titles": [_words(row, panel.caption) for row in rows],
    }


def _group_name(panel: Panel, name: tuple[Any, ...]) -> str:
    """The last grouping value with its column's name: "unit 12"."""
    return f"{panel.group[-1]} {_plain(name[-1])}"


def _one_group(panel: Panel, run: Any, table: pd.DataFrame, opened: list[str], key: str) -> None:
    """One group in full, every tile large, with its captions and the way to the unit's own page."""
    rows = _rows_of_group(table, dict(zip(panel.group, opened, strict=True)))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "All",
            icon=":material/arrow_back:",
            key=f"{key}:back",
            on_click=st.session_state.pop,
            args=(f"opened:{key}",),
        )
        st.markdown(
            "**" + " · ".join(f"{column} {name}" for column, name in zip(panel.group, opened, strict=True)) + "**"
        )
        if {"layer", "unit"} <= set(panel.group) and not rows.empty:
            names = dict(zip(panel.group, opened, strict=True))
            unit_link(run, names["layer"], int(names["unit"]))
    if rows.empty:
        st.info("This run holds nothing of that group.")
        return
    _tiles(panel, run, rows, f"{key}:full", card=220)


def _rows_of_group(table: pd.DataFrame, group: dict[str, str]) -> pd.DataFrame:
    keep = np.ones(len(table), bool)
    for column, wanted in group.items():
        keep &= (table[column].astype(str) == wanted).to_numpy()
    return table[keep]


def show_units(panel: Panel, run: Any, units: Mapping[int, str], key: str, opened: Callable[[int], None]) -> None:
    """Several units of the panel's layer as cards, each with its note and its best four tiles; a click opens one."""
    table = panel.rows(run)
    cards = []
    for unit, note in units.items():
        tiles = [int(tile) for tile in table[table["unit"] == unit]["tile"].head(4)]
        cards.append(
            {"id": str(unit), "name": f"unit {unit}", "note": note, "tiles": tiles, "titles": [""] * len(tiles)}
        )

    def on_opened() -> None:
        opened(int(st.session_state[f"{key}:units"]["opened"]))

    data = sheet_of(panel, run) | {"cards": cards, "card": 108, "opens": True}
    _cards(key=f"{key}:units", data=data, on_opened_change=on_opened)


def show_group(panel: Panel, run: Any, group: dict[str, str], key: str, above: float = -math.inf) -> bool:
    """One group's tiles, large, under the panel's title, of scores `above` that; whether the run holds any."""
    rows = _rows_of_group(panel.rows(run), group)
    if above > -math.inf:
        rows = rows[rows["score"] > above]
    if rows.empty:
        return False
    st.subheader(panel.title, anchor=False)
    _tiles(panel, run, rows, f"{key}:group", card=220)
    return True
