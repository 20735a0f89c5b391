"""The page of a family of methods: its form on the left, its newest result large on the right."""

from __future__ import annotations

import contextlib
from typing import Any

import streamlit as st

from fovea.engine.errors import FoveaError
from fovea.engine.method import Method, find_method
from fovea.engine.options import DatasetKind
from fovea.engine.run.estimate import expect, in_words
from fovea.engine.run.record import Request
from fovea.engine.run.resolve import resolve
from fovea.models.card import Card
from fovea.pages.ui import acts, reads, state
from fovea.pages.ui.cards import card_or_wait
from fovea.pages.ui.forms.form import options_form, where_it_runs
from fovea.pages.ui.leads import lead_buttons, values_button
from fovea.pages.ui.links import report_url
from fovea.pages.ui.nav import family_of, page
from fovea.pages.ui.progress import show_run
from fovea.pages.ui.text import errors_as_lines, plain, show_error
from fovea.pages.ui.titles import method_title, photo_title
from fovea.pages.ui.visitor import visitor


def workbench(*names: str, about: str = "") -> None:
    """Draw the page of these methods: choose one, set its options, run it, see it.

    `about`: a paragraph under the summary, on what the family is for.
    """
    method = _choose(names)
    st.title(method.question or method.title, anchor=False)
    st.markdown(plain(method.summary))
    if about:
        st.caption(about)
    form, result = st.columns([1, 3], gap="large")
    with form, st.container(key="workbench-form"), errors_as_lines():
        card = card_or_wait(state.network())
        if card is not None:
            _form(method, card)
    with result, errors_as_lines():
        _result(method)


def family_page(name: str, about: str = "") -> None:
    """Draw the page of the family that a method belongs to; `about` as in `workbench`."""
    workbench(*family_of(name).names, about=about)


def _choose(names: tuple[str, ...]) -> Method:
    """The family's method of the moment: that of the run in the address when it is new there, then the user's."""
    if len(names) == 1:
        return find_method(names[0])
    key, seen, run_id = f"family:{names[0]}", f"seen:{names[0]}", st.query_params.get("run", "")
    if run_id and st.session_state.get(seen) != run_id:
        st.session_state[seen] = run_id
        with contextlib.suppress(FoveaError):
            method = reads.store().run(run_id).record.method
            if method in names:
                st.session_state[key] = method
    st.session_state.setdefault(key, names[0])
    return find_method(
        st.segmented_control(
            "Method",
            names,
            key=key,
            required=True,
            format_func=method_title,
            label_visibility="collapsed",
            persist_state="session",
        )
    )


def _takes_example(method: Method) -> bool:
    """Whether the method has an example photo, and nobody has chosen another yet."""
    return bool(method.example) and state.photo() == state.DEFAULTS["photo"]


def _photo_of(method: Method) -> str | None:
    """The photo that the method takes, if it does: the chosen one, or its example as long as that is wanted."""
    wanted = _takes_example(method) and st.session_state.get(f"example:{method.name}", True)
    return method.example if wanted else state.photo_for(method)


def _form(method: Method, card: Card) -> None:
    if _takes_example(method):
        st.toggle(
            f"Example photo: {photo_title(method.example)}",
            value=True,
            key=f"example:{method.name}",
            help="The method runs on this photo, which shows it well, in place of the photo in the sidebar. Turn this "
            "off, or choose another photo in the sidebar, to run it on that one.",
            persist_state="session",
        )
    values = options_form(method, card)
    request = problem = None
    try:
        request = Request(
            method=method.name,
            network=state.network(),
            image=_photo_of(method),
            options=values,
            **where_it_runs(method),
        )
        resolve(request)
    except FoveaError as error:
        problem = error
    if problem is not None:
        show_error(problem)
    if st.button(
        "Run",
        type="primary",
        icon=":material/play_arrow:",
        width="stretch",
        disabled=problem is not None or not visitor().may_run,
        key=f"run:{method.name}",
    ):
        assert request is not None
        with errors_as_lines():
            state.show_next(method.name, acts.submit(request))
            st.rerun()
    if problem is None:
        st.caption(_estimate(method, values))


def _estimate(method: Method, values: dict[str, Any]) -> str:
    """What it will take, before it is pressed."""
    images = 0
    for name in filter(values.get, method.options.names(DatasetKind)):
        try:
            images = max(images, reads.dataset_size(reads.root(), str(values[name])))
        except FoveaError:
            return ""
    return in_words(expect(reads.store(), method.name, state.network(), values, images), images)


def _result(method: Method) -> None:
    """The run in the address, else the one shown last, else the newest that fits, else what to do."""
    run_id: str | None = state.shown(method.name)
    if run_id and not _belongs(run_id, method):
        run_id = None
    if not run_id:
        run_id = reads.newest_run(method, state.network(), _photo_of(method))
    if not run_id:
        st.info(
            f"There is nothing here yet for this network{' and photo' if method.takes_photo else ''}. "
            f"Press **Run**: the defaults give a first picture.",
            icon=":material/arrow_back:",
        )
        return
    state.show_next(method.name, run_id)
    # What the page itself puts into the address is no news to it: it must not undo the user's choice of a method.
    st.session_state[f"seen:{family_of(method.name).names[0]}"] = run_id
    run = show_run(run_id, "bench")
    _footer(run_id, run)


def _belongs(run_id: str, method: Method) -> bool:
    """Whether the run exists and is of this method."""
    try:
        return bool(reads.store().run(run_id).record.method == method.name)
    except FoveaError as error:
        show_error(error)
        return False


def _footer(run_id: str, run: Any) -> None:
    """Where to go from a run; `run` is None while it is not finished."""
    with st.container(horizontal=True, vertical_alignment="center", key="workbench-footer"):
        if run is not None:
            lead_buttons(run, "bench")
        st.page_link(page("run"), label="Open this run", icon=":material/open_in_full:", query_params={"id": run_id})
        if run is not None:
            st.link_button("Export HTML", report_url(run_id), icon=":material/download:", type="tertiary")
            values_button(run, type="tertiary")
