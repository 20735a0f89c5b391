"""Runs as pictures: the cards of Home, Library and Unit."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from fovea.engine.store.index import RunRow
from fovea.pages.ui import reads
from fovea.pages.ui.links import artifact_url
from fovea.pages.ui.nav import page
from fovea.pages.ui.text import ago, escaped, plain
from fovea.pages.ui.titles import method_title, network_title

STATUS = {
    "queued": ("waiting", "gray"),
    "running": ("running", "blue"),
    "failed": ("failed", "red"),
    "cancelled": ("cancelled", "gray"),
    "interrupted": ("interrupted", "orange"),
}
"""How a run that is not done is marked."""


def card_title(row: RunRow) -> str:
    """What a card is headed with."""
    return row.name or method_title(row.method)


def run_cards(rows: Sequence[RunRow], *, columns: int, key: str, selectable: bool = False) -> list[str]:
    """Draw runs as cards with their previews; the ids of those that are ticked, if they can be."""
    ticked: list[str] = []
    for start in range(0, len(rows), columns):
        for column, row in zip(st.columns(columns), rows[start : start + columns], strict=False):
            with column, st.container(border=True, gap="xsmall"):
                _card(row)
                if selectable and st.checkbox("Compare", key=f"{key}:tick:{row.id}"):
                    ticked.append(row.id)
    return ticked


def _growing(row: RunRow) -> bool:
    """Whether a running run has a picture to show."""
    live = reads.store().live(row.id) if row.status == "running" else None
    return live is not None and live.preview is not None


def _card(row: RunRow) -> None:
    if row.preview is not None or _growing(row):
        source = artifact_url(row.id, "preview.png")
        st.html(f'<img class="fovea-preview" loading="lazy" src="{escaped(source)}" alt="{escaped(card_title(row))}">')
    else:
        st.html('<div class="fovea-preview"></div>')
    pin = ":material/keep: " if row.pinned else ""
    st.page_link(page("run"), label=f"{pin}{plain(card_title(row))}", query_params={"id": row.id})
    about = " · ".join(filter(None, [row.subject, network_title(row.network), ago(row.created)]))
    st.caption(plain(about))
    if row.status in STATUS:
        text, colour = STATUS[row.status]
        st.badge(text, color=colour)
