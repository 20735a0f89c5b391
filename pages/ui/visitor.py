"""Who looks at this page, and the page that asks for a log-in where one is set up."""

from __future__ import annotations

import streamlit as st

from fovea.pages.door.listening import team_here
from fovea.pages.door.team import ANYBODY, Visitor
from fovea.pages.ui.text import plain

STRANGER = Visitor("", "stranger")


def visitor() -> Visitor:
    """The visitor of this page, as its cookies tell; whoever it is where no log-in is set up."""
    team = team_here()
    return ANYBODY if team is None else team.visitor(st.context.cookies) or STRANGER


def admitted() -> bool:
    """Whether the page may be shown; otherwise the log-in is asked for in its place."""
    here = visitor()
    if here.may_look:
        return True
    st.title("Fovea", anchor=False)
    if here.name:
        st.warning(f"{plain(here.name)} has no access here. Ask an admin of this server, or log in as somebody else.")
    else:
        st.markdown("See what your network sees. This server is for a team: log in to go on.")
    for provider in _providers():
        if st.button(
            f"Log in with {provider}" if provider else "Log in",
            type="primary",
            icon=":material/login:",
            key=f"login:{provider}",
        ):
            st.login(provider or None)
    if here.name and st.button("Log out", icon=":material/logout:", key="login:out"):
        st.logout()
    return False


def _providers() -> list[str]:
    """The names of the log-in's providers, "" for the one that needs none."""
    auth = st.secrets["auth"]
    named = [name for name, value in auth.items() if hasattr(value, "to_dict") and "client_id" in value]
    return [*([""] if "client_id" in auth else []), *named]


def account() -> None:
    """Who is logged in, and the way out; nothing where no log-in is set up."""
    here = visitor()
    if here.name:
        with st.container(horizontal=True, vertical_alignment="center", key="account"):
            st.caption(plain(here.name) + ("" if here.role == "member" else f" ({here.role})"))
            if st.button("Log out", type="tertiary", icon=":material/logout:", key="account:out"):
                st.logout()
