"""The frame around every page: navigation from the registry, and the network and photo that all pages share."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st

from fovea.pages.ui import state
from fovea.pages.ui.nav import menu, navigation, remember
from fovea.pages.ui.pickers import network_picker, photo_picker
from fovea.pages.ui.style import style
from fovea.pages.ui.text import errors_as_lines, plain
from fovea.pages.ui.visitor import account, admitted

UI = Path(__file__).resolve().parent / "ui"

st.set_page_config(page_title="Fovea", page_icon=str(UI / "icon.svg"), layout="wide")
if not admitted():
    st.stop()
st.logo(str(UI / "logo.svg"), size="large", icon_image=str(UI / "icon.svg"))
state.sync()
style()
sections = navigation()
current = st.navigation(sections, position="hidden")
remember(current)
with st.sidebar:
    with errors_as_lines():
        network_picker()
    with errors_as_lines():
        photo_picker()
    menu(sections)
    account()
asked = urlsplit(st.context.url or "").path.removesuffix("/").removeprefix("/" + st.get_option("server.baseUrlPath"))
if not current.url_path and asked.strip("/") not in ("", "home"):
    st.warning(
        f"There is no page {plain(asked)}, so this is Home. A new method gets its page when the server is restarted."
    )
with errors_as_lines():
    current.run()
