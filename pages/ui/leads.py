"""Where a finished run leads: buttons that start the next run on the same network and photo, and its values."""

from __future__ import annotations

from typing import Any, Literal

import streamlit as st

from fovea.engine.method import find_method, leads_of
from fovea.engine.run.record import Request
from fovea.pages.ui import acts, state
from fovea.pages.ui.forms.form import prefill
from fovea.pages.ui.links import artifact_url
from fovea.pages.ui.nav import method_page
from fovea.pages.ui.text import errors_as_lines


def values_button(run: Any, *, type: Literal["secondary", "tertiary"] = "secondary") -> None:
    """A link to the run's arrays as one file, if it has any; tables have a download of their own."""
    if run.arrays:
        st.link_button(
            "Values",
            artifact_url(run.record.id, "arrays.npz"),
            icon=":material/data_array:",
            type=type,
            help=f"Saves {', '.join(run.arrays[:6])} as one file in NumPy's format .npz. A table is saved as CSV "
            f"by the button at its top right.",
        )


def lead_buttons(run: Any, key: str) -> None:
    """A button for each question that the run's method leads to; a press starts that run and shows it."""
    record = run.record
    for place, lead in enumerate(leads_of(find_method(record.method))):
        if st.button(
            lead.title, icon=":material/verified:", key=f"lead:{key}:{place}", help=find_method(lead.method).summary
        ):
            with errors_as_lines():
                options = lead.options(record.options, record.summary)
                request = Request(
                    method=lead.method,
                    network=record.network.name,
                    image=record.image,
                    options=options,
                    seed=record.seed,
                    device=record.requested_device,
                    provider=record.requested_provider,
                )
                run_id = acts.submit(request)
                state.take_over(record.network.name, record.image)
                prefill(find_method(lead.method), options)
                st.switch_page(method_page(lead.method), query_params={"run": run_id})
