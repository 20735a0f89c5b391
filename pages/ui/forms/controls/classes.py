"""Controls for one class of the network, and for several."""

from __future__ import annotations

from typing import Any

import streamlit as st

from fovea.engine.options import class_indices
from fovea.pages.ui.forms.field import Field, control


def _of_classes(field: Field) -> dict[str, Any]:
    """What both controls are given: the classes by index, named; nothing to choose where the network has none."""
    classes = field.card.classes
    return field.kept | {
        "options": range(len(classes)),
        "format_func": lambda index: f"{classes[index]} ({index})",
        "placeholder": field.placeholder if classes else "This network has no classes",
        "disabled": not classes,
    }


@control("class")
def draw_class(field: Field) -> Any:
    """One class, by its index as text."""
    field.begin(lambda value: field.card.class_index(value) if field.card.classes and value not in (None, "") else None)
    field.forget_unless(range(len(field.card.classes)))
    chosen = st.selectbox(index=None, **_of_classes(field))
    return field.default if chosen is None else field.card.class_number(chosen)


@control("classes")
def draw_classes(field: Field) -> str:
    """Several classes, their indices as a comma list."""
    field.begin(lambda value: class_indices(field.card, value) if field.card.classes else [])
    st.session_state[field.key] = [i for i in st.session_state[field.key] if i < len(field.card.classes)]
    return ",".join(field.card.class_number(index) for index in st.multiselect(**_of_classes(field)))
