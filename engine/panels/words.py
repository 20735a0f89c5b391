"""Values of tables in words, and users' texts as Plotly may show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def words(value: Any) -> str:
    """A value for people: numbers to four digits, lists with commas."""
    if isinstance(value, list | tuple):
        return ", ".join(words(part) for part in value)
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}"
    return str(value)


def captions(table: pd.DataFrame, columns: Sequence[str], joint: str = "<br>", escaped: bool = True) -> list[str]:
    """One text a row with the names and values of those columns that are there; `escaped` for Plotly's hover text."""
    there = [column for column in columns if column in table]
    if not there:
        return [""] * len(table)
    clean = for_plotly if escaped else str
    rows = table[there].itertuples(index=False, name=None)
    return [
        joint.join(clean(f"{column} {words(value)}") for column, value in zip(there, row, strict=True)) for row in rows
    ]


def for_plotly(text: str) -> str:
    """A user's text for Plotly, which reads some tags and %{…} templates in its texts."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "% {")


def shortened(text: str, longest: int = 32) -> str:
    """At most so many characters of a user's text, for Plotly."""
    return for_plotly(text if len(text) <= longest else text[: longest - 1].rstrip() + "…")
