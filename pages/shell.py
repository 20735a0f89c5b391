"""The frame around every page: navigation from the registry, and the network and photo that all pages share."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.ui import state
from pages.ui.nav import menu, navigation
from pages.ui.pickers import network_picker, photo_picker
from pages.ui.style import style
from pages.ui.text import errors_as_lines

UI = Path(__file__).resolve().parent / "ui"

st.set_page_config(page_title="Fovea", page_icon=str(UI / "icon.svg"), layout="wide")
st.logo(str(UI / "logo.svg"), size="large", icon_image=str(UI / "icon.svg"))
state.sync()
style()
sections = navigation()
current = st.navigation(sections, position="hidden")
with st.sidebar:
    with errors_as_lines():
        network_picker()
    with errors_as_lines():
        photo_picker()
    menu(sections)
with errors_as_lines():
    current.run()
