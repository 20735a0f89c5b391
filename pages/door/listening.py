"""What this server was told when it was started: the address it listens on, and the names that it answers to."""

from __future__ import annotations

import logging
from functools import cache

import streamlit as st
from streamlit import config

from fovea.pages.door.hosts import Allowed, allowed, from_environment


@cache
def allowed_here() -> Allowed:
    """What this server answers to, by its settings as they were at the start."""
    address = str(st.get_option("server.address") or "")
    return allowed(address, [*from_environment(), *st.get_option("server.allowedHosts")])


def open_door() -> None:
    """Say what is allowed, and have Streamlit's own checks of its WebSocket agree with it."""
    allowed = allowed_here()
    hosts = ["localhost", "127.0.0.1", "::1", *sorted(allowed.hosts)]
    config.set_option("server.allowedHosts", hosts)
    origins = [f"{scheme}://{host}:{port}" for scheme, host, port in sorted(allowed.origins)]
    config.set_option("server.corsAllowedOrigins", [*st.get_option("server.corsAllowedOrigins"), *origins])
    logging.getLogger("fovea").warning("Fovea answers to these hosts and no others: %s", allowed.told())
