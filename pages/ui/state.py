"""What outlives a page: network, photo, layer and unit. The session holds them, the address mirrors them.

The address wins when it names one (a bookmark, a link, the back button); a page switch empties the
address, and then the session fills it again.
"""

from __future__ import annotations

import re

import streamlit as st

from fovea.engine.errors import ImageError, NetworkError

DEFAULTS = {"network": "fovea", "photo": "sample:motorcycle", "layer": "", "unit": ""}
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


def network() -> str:
    """The chosen network's name. Raises NetworkError if the address names something else."""
    value = str(st.session_state.get("shell:network", DEFAULTS["network"]))
    if not NETWORK.fullmatch(value):
        raise NetworkError(
            f"network: a name such as fovea or torchvision:resnet18 is expected, not {value[:80]!r}; "
            f"register files of your own with python -m engine networks add"
        )
    return value


def photo() -> str:
    """The chosen photo, `sample:NAME` or `photo:SHA256`. Raises ImageError if the address names something else."""
    value = str(st.session_state.get("shell:photo", DEFAULTS["photo"]))
    if not PHOTO.fullmatch(value):
        raise ImageError(
            f"photo: sample:NAME or photo:SHA256 is expected, not {value[:80]!r}; choose one in the sidebar"
        )
    return value


def layer() -> str:
    """The chosen layer, or ""."""
    return str(st.session_state.get("shell:layer", ""))


def unit() -> int | None:
    """The chosen unit, or None."""
    value = str(st.session_state.get("shell:unit", ""))
    return int(value) if value.isdecimal() else None
