"""The control for a second photo."""

from __future__ import annotations

from typing import Any

import streamlit as st

from fovea.engine.data.samples import SAMPLES
from fovea.pages.ui import reads
from fovea.pages.ui.forms.field import Field, control
from fovea.pages.ui.titles import photo_title


@control("photo")
def draw_photo(field: Field) -> str:
    """A sample or a photo that was uploaded before."""
    field.begin(lambda value: value or None)
    references = field.with_kept([f"sample:{name}" for name in SAMPLES] + reads.kept_photos())
    optional: dict[str, Any] = {} if field.default else {"index": None, "placeholder": field.placeholder}
    return str(st.selectbox(options=references, format_func=photo_title, **field.kept, **optional) or "")
