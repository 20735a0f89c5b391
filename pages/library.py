"""Library: all runs as pictures; found by method, network, date and words; two of them side by side."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st

from fovea.engine.errors import FoveaError
from fovea.engine.method import methods
from fovea.engine.run.title import run_title
from fovea.pages.ui import acts, reads
from fovea.pages.ui.nav import page
from fovea.pages.ui.paging import choose_page
from fovea.pages.ui.progress import show_run
from fovea.pages.ui.runs import run_cards
from fovea.pages.ui.text import errors_as_lines, plain, show_error
from fovea.pages.ui.titles import method_title, network_title

CARDS_A_PAGE = 24
SINCE = {"any time": None, "today": 1, "the last 7 days": 7, "the last 30 days": 30}


def filters() -> dict[str, str | None]:
    """The row of filters; what the store is asked for."""
    words, method, network, since = st.columns([2, 1, 1, 1])
    text = words.text_input(
        "Words", key="library:text", placeholder="Name, note, option, class …", persist_state="session"
    )
    chosen = method.selectbox(
        "Method",
        list(methods()),
        index=None,
        key="library:method",
        format_func=method_title,
        placeholder="Any",
        persist_state="session",
    )
    net = network.selectbox(
        "Network",
        reads.store().networks(),
        index=None,
        key="library:network",
        format_func=network_title,
        placeholder="Any",
        persist_state="session",
    )
    days = SINCE[since.selectbox("When", list(SINCE), key="library:since", persist_state="session")]
    moment = (datetime.now(UTC) - timedelta(days=days)).isoformat() if days else None
    return {"text": text or None, "method": chosen, "network": net, "since": moment}


def compare(ids: list[str]) -> None:
    """Two runs side by side, each with its panels and what differs in their options."""
    runs = [reads.store().run(run_id) for run_id in ids]
    if st.button("Back to all runs", icon=":material/arrow_back:"):
        del st.session_state["library:compare"]
        st.rerun()
    same_method = runs[0].record.method == runs[1].record.method
    named = [
        {
            "method": run.record.method,
            "network": run.record.network.name,
            "photo": run.record.image,
            "seed": run.record.seed,
            **(run.record.options if same_method else {}),
        }
        for run in runs
    ]
    differ = [name for name in dict.fromkeys([*named[0], *named[1]]) if named[0].get(name) != named[1].get(name)]
    for place, (column, run) in enumerate(zip(st.columns(2, gap="medium"), runs, strict=True)):
        with column, errors_as_lines():
            st.subheader(plain(run_title(run.record)), anchor=False)
            told = {name: named[place].get(name) for name in differ}
            line = " · ".join(f"{name}: {'default' if one in ('', None) else one}" for name, one in told.items())
            st.caption(plain(line or "the same request"))
            st.page_link(
                page("run"), label="Open this run", icon=":material/open_in_full:", query_params={"id": run.id}
            )
            show_run(run.id, f"compare{place}")


def import_a_zip() -> None:
    """Take in a run that a team-mate exported."""
    with st.popover("Import a run", icon=":material/upload:"):
        upload = st.file_uploader(
            "A zip that “Export zip” has saved", type=["zip"], key="library:zip", max_upload_size=200
        )
        if upload is not None and st.button("Import", type="primary"):
            try:
                run_id = acts.import_zip(upload.getvalue())
            except FoveaError as error:
                show_error(error)
            else:
                st.switch_page(page("run"), query_params={"id": run_id})


def all_runs() -> None:
    """The filters, the cards and their pages."""
    wanted = filters()
    count = reads.store().count(**wanted)
    bar = st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute")
    bar.markdown(f"**{count:,}** {'run' if count == 1 else 'runs'}")
    _, part = choose_page(bar, count, CARDS_A_PAGE, key="library:page")
    compare_here = bar.empty()
    with bar:
        import_a_zip()
    if not count:
        if any(wanted.values()):
            st.info("No run fits these filters. Empty a filter to see more.", icon=":material/filter_alt_off:")
        else:
            st.info(
                "There are no runs yet. Start one from Home: **Where does it look?** takes a few seconds.",
                icon=":material/home:",
            )
            st.page_link(page("home"), label="Home", icon=":material/home:")
        return
    rows = reads.store().list(**wanted, limit=CARDS_A_PAGE, offset=part.start)
    ticked = run_cards(rows, columns=4, key="library", selectable=True)
    if len(ticked) == 2:
        if compare_here.button("Show the two side by side", type="primary", icon=":material/compare:"):
            st.session_state["library:compare"] = ticked
            st.rerun()
    elif ticked:
        compare_here.caption(f"{len(ticked)} ticked. Tick two runs to see them side by side.")


st.title("Library", anchor=False)
with errors_as_lines():
    chosen = st.session_state.get("library:compare")
    if chosen:
        compare(chosen)
    else:
        all_runs()
