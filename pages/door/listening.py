"""What this server was told when it was started: the address it listens on, and the names that it answers to."""

from __future__ import annotations

import importlib.util
import logging
from functools import cache
from pathlib import Path

import streamlit as st
from streamlit import config
from streamlit.auth_util import get_origin_from_redirect_uri
from streamlit.errors import StreamlitSecretNotFoundError

from fovea.engine.errors import OptionsError
from fovea.pages.door.hosts import Allowed, allowed, from_environment
from fovea.pages.door.team import Team, team_of


@cache
def allowed_here() -> Allowed:
    """What this server answers to, by its settings as they were at the start."""
    address, team = str(st.get_option("server.address") or ""), team_here()
    names = [*from_environment(), *st.get_option("server.allowedHosts")]
    return allowed(address, names, [team.origin] if team is not None else [])


@cache
def team_here() -> Team | None:
    """The log-in and roles of this server, as they were at the start; None where everybody is let in.

    Raises OptionsError for secrets that cannot be read: they may hold a log-in.
    """
    try:
        secrets = st.secrets.to_dict()
    except StreamlitSecretNotFoundError as error:
        if any(Path(path).exists() for path in st.get_option("secrets.files")):
            raise OptionsError(f"secrets.toml cannot be read: {' '.join(str(error).split())[:200]}") from None
        return None
    team = team_of(secrets, get_origin_from_redirect_uri() if "auth" in secrets else None)
    if team is not None and importlib.util.find_spec("authlib") is None:
        raise OptionsError('a log-in needs Authlib, which is not installed: pip install "fovea-vision[team]"')
    return team


def open_door() -> None:
    """Say what is allowed, and have Streamlit's own checks of its WebSocket agree with it.

    Raises OptionsError, and the server does not start, where the settings are half made.
    """
    allowed, team = allowed_here(), team_here()
    hosts = ["localhost", "127.0.0.1", "::1", *sorted(allowed.hosts)]
    config.set_option("server.allowedHosts", hosts)
    origins = [f"{scheme}://{host}:{port}" for scheme, host, port in sorted(allowed.origins)]
    config.set_option("server.corsAllowedOrigins", [*st.get_option("server.corsAllowedOrigins"), *origins])
    log = logging.getLogger("fovea")
    log.warning("Fovea answers to these hosts and no others: %s", allowed.told())
    if team is not None:
        log.warning("Fovea asks everybody to log in; after that, %s is opened", team.origin)
