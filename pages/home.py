"""Home, the first five minutes: the photo, the five best classes beside it, and three ways on."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from fovea.engine.errors import FoveaError
from fovea.engine.method import Method, methods
from fovea.engine.run.record import Request
from fovea.pages.ui import acts, reads, state
from fovea.pages.ui.cards import card_or_wait
from fovea.pages.ui.links import photo_url
from fovea.pages.ui.nav import method_page, page
from fovea.pages.ui.panels.classes import show_classes
from fovea.pages.ui.progress import POLL_SECONDS, show_unfinished
from fovea.pages.ui.runs import run_cards
from fovea.pages.ui.text import errors_as_lines, escaped, plain
from fovea.pages.ui.titles import network_title, photo_title
from fovea.pages.ui.visitor import visitor


def _sees() -> Method:
    """The method whose table `classes` stands beside the photo."""
    return next(method for method in methods().values() if method.tells_classes)


def classes_beside() -> None:
    """The five best classes: a run like any other, started here if there is none yet."""
    card = card_or_wait(state.network())
    if card is None:
        return
    if not card.classes:
        st.info("This network has no classes. The views of its layers and units all work.")
        return
    run_id = reads.newest_run(_sees(), state.network(), state.photo(), failed=True)
    if run_id is None and not visitor().may_run:
        st.info("Nobody has asked this network about this photo yet.")
        return
    if run_id is None:
        request = Request(method=_sees().name, network=state.network(), image=state.photo())
        run_id = acts.submit(request)
    run = reads.store().run(run_id)
    if run.record.status not in reads.FINAL:
        st.fragment(_wait, run_every=POLL_SECONDS)(run_id)
    elif run.record.status == "done":
        show_classes(run.table("classes").head(5))
        st.caption(f"It knows {len(card.classes):,} classes, such as {plain(_some(card.classes))}, and no others.")
        for line in run.record.warnings or []:
            st.caption(plain(line))
    else:
        show_unfinished(run)
        if st.button("Try again", icon=":material/refresh:", key="home:again"):
            acts.repeat(run.id)
            st.rerun()


def _some(classes: Sequence[str], most: int = 4) -> str:
    """A few class names from all over the list."""
    return ", ".join(classes[len(classes) * place // most] for place in range(min(most, len(classes))))


def _wait(run_id: str) -> None:
    if reads.store().run(run_id).record.status in reads.FINAL:
        st.rerun()
    st.status("Looking at the photo…", state="running")


def ways_on() -> None:
    """A large button for each way on: it starts a run with the defaults, or finds the one there is, and shows it."""
    ways = [method for method in methods().values() if method.home]
    with st.container(key="home-verbs"):
        for column, method in zip(st.columns(len(ways)), ways, strict=True):
            if column.button(method.home, key=f"go:{method.name}", width="stretch", type="primary"):
                _start(method.name)
            column.caption(plain(method.summary))


def _start(name: str) -> None:
    method = methods()[name]
    request = Request(method=name, network=state.network(), image=state.photo_for(method))
    try:
        run_id = acts.submit(request)
    except FoveaError:
        st.switch_page(method_page(name))
    state.show_next(name, run_id)
    st.switch_page(method_page(name), query_params={"run": run_id})


def newest() -> None:
    """The newest pictures of the library."""
    rows = [row for row in reads.store().list(status="done", limit=12) if row.method != _sees().name][:6]
    if rows:
        st.subheader("Newest runs", anchor=False)
        run_cards(rows, columns=6, key="home")
        st.page_link(page("library"), label="All runs", icon=":material/arrow_forward:")


st.title("See what your network sees", anchor=False)
with errors_as_lines():
    picture, classes = st.columns([3, 2], gap="large")
    with picture:
        st.html(
            f'<img class="fovea-hero" src="{escaped(photo_url(state.photo(), 1400))}" '
            f'alt="{escaped(photo_title(state.photo()))}">'
        )
    with classes:
        st.subheader(f"What {plain(network_title(state.network()))} sees", anchor=False)
        with errors_as_lines():
            classes_beside()
with errors_as_lines():
    ways_on()
with errors_as_lines():
    newest()
