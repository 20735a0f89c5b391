"""One run, whole: its panels or its progress, its record, and what can be done with it."""

from __future__ import annotations

import streamlit as st

from fovea.engine.errors import FoveaError
from fovea.engine.method import find_method
from fovea.engine.run.estimate import duration
from fovea.engine.run.record import RunRecord
from fovea.engine.run.title import run_title
from fovea.engine.store.folder import StoredRun
from fovea.pages.ui import acts, reads, state
from fovea.pages.ui.forms.form import prefill
from fovea.pages.ui.leads import lead_buttons, values_button
from fovea.pages.ui.links import loopback_only, report_url, run_link, zip_url
from fovea.pages.ui.nav import method_page, page
from fovea.pages.ui.progress import show_run
from fovea.pages.ui.runs import STATUS
from fovea.pages.ui.text import ago, errors_as_lines, plain, show_error
from fovea.pages.ui.titles import method_title, network_title
from fovea.pages.ui.visitor import visitor


def headline(run: StoredRun) -> None:
    """Title, and one line with what, on what, when and how long."""
    record = run.record
    st.title(plain(run_title(record)), anchor=False)
    facts = [
        method_title(record.method),
        network_title(record.network.name),
        record.subject,
        f"seed {record.seed}" if record.seed else "",
        duration(record.seconds) if record.seconds else "",
        record.provider or record.device,
        ago(record.created),
        f"asked by {record.owner}" if record.owner else "",
    ]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(plain(" · ".join(filter(None, facts))))
        if record.status in STATUS:
            text, colour = STATUS[record.status]
            st.badge(text, color=colour)
        if record.imported:
            st.badge("imported", color="violet")
    if record.note:
        st.markdown(plain(record.note))


def actions(run: StoredRun) -> None:
    """Repeat, Repeat with changes, exports, link, name and note, pin, delete."""
    record = run.record
    finished = record.status == "done"
    over = record.status in reads.FINAL
    with st.container(horizontal=True, key="run-actions", gap="xsmall"):
        if finished:
            lead_buttons(run, "run")
        if st.button(
            "Repeat",
            icon=":material/replay:",
            disabled=not over or not visitor().may_run,
            help="Starts the same request once more, as a new run.",
        ):
            _repeat(record)
        if st.button(
            "Repeat with changes", icon=":material/tune:", help="Opens the method's form with these options filled in."
        ):
            _change(record)
        st.link_button(
            "Export HTML",
            report_url(record.id),
            icon=":material/html:",
            disabled=not finished,
            help="Saves the run as one HTML file that opens in any browser, also offline.",
        )
        st.link_button(
            "Export zip",
            zip_url(record.id),
            icon=":material/folder_zip:",
            disabled=not over,
            help="Saves the run's folder with its pictures, arrays and tables. A Fovea elsewhere opens it in Library.",
        )
        values_button(run)
        _copy_link(record.id)
        _edit(record)
        if st.button(
            "Unpin" if record.pinned else "Pin",
            icon=":material/keep_off:" if record.pinned else ":material/keep:",
            disabled=not visitor().may_change(record.owner),
        ):
            acts.edit(record.id, pinned=not record.pinned)
            st.rerun()
        _delete(record, over=over)


def _repeat(record: RunRecord) -> None:
    st.switch_page(page("run"), query_params={"id": acts.repeat(record.id)})


def _change(record: RunRecord) -> None:
    method = find_method(record.method)
    state.take_over(record.network.name, record.image)
    prefill(method, record.options)
    st.switch_page(method_page(method.name), query_params={"run": record.id})


def _copy_link(run_id: str) -> None:
    with st.popover("Copy link", icon=":material/link:"):
        st.code(run_link(run_id), language=None, wrap_lines=True)
        if loopback_only():
            st.caption(
                "This server listens on this machine only, so the link opens here alone. To serve a team, start the "
                "server with `make app HOST=0.0.0.0`, or send the exported HTML."
            )


def _edit(record: RunRecord) -> None:
    with st.popover("Name and note", icon=":material/edit_note:", disabled=not visitor().may_change(record.owner)):
        name = st.text_input("Name", record.name, placeholder=run_title(record), key=f"name:{record.id}")
        note = st.text_area("Note", record.note, key=f"note:{record.id}")
        if st.button("Save", type="primary", key=f"save:{record.id}"):
            with errors_as_lines():
                acts.edit(record.id, name=name, note=note)
                st.rerun()


def _delete(record: RunRecord, *, over: bool) -> None:
    with st.popover("Delete", icon=":material/delete:", disabled=not over or not visitor().may_change(record.owner)):
        st.markdown("Delete this run and all its files? This cannot be taken back.")
        if st.button("Delete it", type="primary", key=f"delete:{record.id}"):
            with errors_as_lines():
                acts.delete(record.id)
                st.switch_page(page("library"))


def record_of(run: StoredRun) -> None:
    """Everything that the run's record says, behind a fold."""
    with st.expander("Record", icon=":material/receipt_long:"):
        st.json(run.record.model_dump(mode="json", by_alias=True, exclude={"panels"}), expanded=2)


run_id = st.query_params.get("id", "")
if not run_id:
    st.title("Run", anchor=False)
    st.info("This page shows one run. Choose one in Library.", icon=":material/collections_bookmark:")
    st.page_link(page("library"), label="Library", icon=":material/collections_bookmark:")
else:
    try:
        run = reads.store().run(run_id)
    except FoveaError as error:
        show_error(error)
        st.page_link(page("library"), label="Library", icon=":material/collections_bookmark:")
    else:
        headline(run)
        with errors_as_lines():
            actions(run)
        with errors_as_lines():
            show_run(run.id, "run")
        record_of(run)
