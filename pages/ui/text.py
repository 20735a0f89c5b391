"""Words of the dashboard: errors as one line, durations, labels."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from fovea.engine.errors import FoveaError


@contextlib.contextmanager
def errors_as_lines() -> Iterator[None]:
    """Show a mistake that the user can mend as one line, where it happened."""
    try:
        yield
    except FoveaError as error:
        show_error(error)


def show_error(error: object) -> None:
    """One line in red; markdown in it is shown as it is."""
    st.error(plain(str(error)), icon=":material/error:")


def plain(text: str) -> str:
    """Text that Streamlit's markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]$<>~#|:])", r"\\\1", text)


def escaped(text: object) -> str:
    """Text inside HTML."""
    return html.escape(str(text), quote=True)


def ago(moment: Any) -> str:
    """How long ago a moment was: "just now", "5 min ago", "2026-03-01"."""
    when = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    if when is None:
        return ""
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    seconds = (datetime.now(UTC) - when).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 86400:
        return f"{seconds // 3600:.0f} h ago"
    return when.date().isoformat()


def sentence(text: str) -> str:
    """Text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def label(name: str, unit: str = "") -> str:
    """An option's name as a label: "top_k" -> "Top k"; its unit in brackets."""
    words = sentence(name.replace("_", " "))
    return f"{words} ({unit})" if unit and unit not in name else words


def value(number: Any) -> str:
    """A number or a short text of a run's summary."""
    if isinstance(number, bool):
        return "yes" if number else "no"
    if isinstance(number, float):
        return f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"
    if isinstance(number, int):
        return f"{number:,}"
    if isinstance(number, (list, tuple)):
        return ", ".join(value(part) for part in number)
    return str(number)
