"""Controls for a data set, and for a label of the data set that the form has chosen."""

from __future__ import annotations

import contextlib
from typing import Any

import streamlit as st

from fovea.engine.errors import FoveaError
from fovea.engine.options import DatasetKind
from fovea.pages.ui import reads
from fovea.pages.ui.forms.field import Field, control, key_of
from fovea.pages.ui.links import loopback_only


@control("dataset")
def draw_dataset(field: Field) -> str:
    """A data set by its name; where the server serves this machine alone, also a typed path."""
    field.begin(lambda value: value or None)
    optional: dict[str, Any] = {} if field.default else {"index": None, "placeholder": field.placeholder}
    typed = " You can also type in the path of a folder or a list file." if loopback_only() else ""
    chosen = st.selectbox(
        options=field.with_kept(reads.known_datasets()),
        accept_new_options=loopback_only(),
        **field.kept | optional | {"help": f"{field.info.description}{typed}"},
    )
    return str(chosen or "")


@control("label")
def draw_label(field: Field) -> str:
    """A label of the data set that is chosen in the same form."""
    datasets = field.method.options.names(DatasetKind)
    chosen = st.session_state.get(key_of(field.method.name, datasets[0])) if datasets else None
    labels: list[str] = []
    with contextlib.suppress(FoveaError):
        labels = reads.dataset_labels(reads.root(), str(chosen)) if chosen else []
    field.begin(lambda value: value or None)
    field.forget_unless(labels)
    label = st.selectbox(
        options=labels,
        index=None,
        placeholder=field.placeholder if labels else "This data set has no labels",
        disabled=not labels,
        **field.kept,
    )
    return str(label or "")
