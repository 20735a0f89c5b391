"""The frame around every page: navigation from the registry, and the network and photo that all pages share."""

from __future__ import annotations

import streamlit as st

from pages.ui import state
from pages.ui.nav import navigation
from pages.ui.pickers import network_picker, photo_picker
from pages.ui.style import style
from pages.ui.text import errors_as_lines

st.set_page_config(page_title="Fovea", page_icon=":material/visibility:", layout="wide")
state.sync()
style()
current = st.navigation(navigation(), expanded=True)
with st.sidebar:
    with errors_as_lines():
        network_picker()
    with errors_as_lines():
        photo_picker()
with errors_as_lines():
    current.run()
