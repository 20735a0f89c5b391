"""Addresses: of the server's own routes (artifacts, photos, exports) and of runs."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote, urlsplit

import streamlit as st

from fovea.pages.door.listening import allowed_here, team_here


def _route(path: str) -> str:
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}/{path}" if base else f"/{path}"


def artifact_url(run_id: str, name: str) -> str:
    """Where the server gives a run's file, e.g. `/artifacts/ID/images/ascent.png`."""
    return _route(f"artifacts/{quote(run_id)}/{quote(name)}")


def photo_url(reference: str, size: int = 320) -> str:
    """Where the server gives a photo as a JPEG of at most `size` pixels."""
    return _route(f"photos/{quote(reference, safe=':')}?size={size}")


def report_url(run_id: str) -> str:
    """Where the server gives a run as one HTML file."""
    return _route(f"exports/{quote(run_id)}.html")


def zip_url(run_id: str) -> str:
    """Where the server gives a run as a zip of its folder."""
    return _route(f"exports/{quote(run_id)}.zip")


def run_link(run_id: str) -> str:
    """The run's address for other people, with the host that this browser used."""
    here = urlsplit(st.context.url or "")
    origin = f"{here.scheme}://{here.netloc}" if here.netloc else ""
    return f"{origin}{_route('run')}?id={quote(run_id)}"


def loopback_only() -> bool:
    """Whether the server serves this machine alone: it listens on loopback, and no proxy or log-in stands before it."""
    if team_here() is not None or allowed_here().hosts:
        return False
    address = str(st.get_option("server.address") or "")
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
