"""What outlives a page: network, photo, layer and unit. The session holds them, the address mirrors them.

The address wins when it names one (a bookmark, a link, the back button); a page switch empties the
address, and then the session fills it again.
"""

from __future__ import annotations

import re

import streamlit as st

from fovea.engine.errors import ImageError, NetworkError
from fovea.engine.method import Method
from fovea.models import bundled

DEFAULTS = {"network": bundled.NAME, "photo": "sample:motorcycle", "layer": "", "unit": ""}
"""The shell's names in the address, with their values on a first visit. `unit` is a number as text."""

PHOTO = re.compile(r"(sample:[\w.-]{1,80}|photo:[0-9a-f]{64})")
"""The photos that an address may name: never a path of the server's disk."""

NETWORK = re.compile(r"((torchvision|timm):[\w./@-]{1,120}|[\w.-]{1,80})")
"""The networks that an address may name: known or registered ones, never a file of the server's disk."""


def sync() -> None:
    """Take over what the address names and write back what it leaves out; once at the top of each run."""
    for name, default in DEFAULTS.items():
        if name in st.query_params:
            st.session_state[f"shell:{name}"] = st.query_params[name]
        value = st.session_state.setdefault(f"shell:{name}", default)
        _mirror(name, value)


def _mirror(name: str, value: str) -> None:
    if value:
        if st.query_params.get(name) != value:
            st.query_params[name] = value
    elif name in st.query_params:
        del st.query_params[name]


def choose(**values: str) -> None:
    """Set what the shell owns, in the session and in the address; "" forgets a layer or unit."""
    for name, value in values.items():
        st.session_state[f"shell:{name}"] = value
        _mirror(name, value)


def change(**values: str) -> None:
    """Choose a network or a photo: the runs shown on the pages belong to the old one, so they are let go."""
    for key in [key for key in st.session_state if str(key).startswith("shown:")]:
        del st.session_state[key]
    if "run" in st.query_params:
        del st.query_params["run"]
    choose(**values)


def take_over(network: str, photo: str | None) -> None:
    """Choose the network and photo of a run, as far as an address may name them; layer and unit are forgotten."""
    choose(network=network, layer="", unit="")
    if photo and PHOTO.fullmatch(photo):
        choose(photo=photo)


def show_next(method: str, run_id: str) -> None:
    """Make a run the one that its method's page shows, also after a reload."""
    st.session_state[f"shown:{method}"] = run_id
    st.query_params["run"] = run_id


def shown(method: str) -> str:
    """The run that the page of a method shows: the one in the address, else the one shown last; "" if there is none."""
    return str(st.query_params.get("run") or st.session_state.get(f"shown:{method}") or "")


def network() -> str:
    """The chosen network's name. Raises NetworkError if the address names something else."""
    value = str(st.session_state.get("shell:network", DEFAULTS["network"]))
    if not NETWORK.fullmatch(value):
        raise NetworkError(
            f"The address must name a network such as fovea or torchvision:resnet18, not {value[:80]!r}. "
            f"Register files of your own with: python -m engine networks add"
        )
    return value


def photo() -> str:
    """The chosen photo, `sample:NAME` or `photo:SHA256`. Raises ImageError if the address names something else."""
    value = str(st.session_state.get("shell:photo", DEFAULTS["photo"]))
    if not PHOTO.fullmatch(value):
        raise ImageError(
            f"The address must name a photo as sample:NAME or photo:SHA256, not {value[:80]!r}. "
            f"Choose a photo in the sidebar."
        )
    return value


def photo_for(method: Method) -> str | None:
    """The chosen photo where the method takes one. Raises ImageError as `photo` does."""
    return photo() if method.takes_photo else None


def layer() -> str:
    """The chosen layer, or ""."""
    return str(st.session_state.get("shell:layer", ""))


def unit() -> int | None:
    """The chosen unit, or None."""
    value = str(st.session_state.get("shell:unit", ""))
    return int(value) if value.isdecimal() else None
