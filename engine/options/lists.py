"""Options that take several values: a comma list on the command line and in run.json, a tuple in the code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema


def parts_of(value: Any) -> tuple[str, ...]:
    """The parts of a comma list, each once; a list or tuple keeps its own parts, and a number is one part.

    Raises ValueError for what is neither.
    """
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str | Iterable):
        raise ValueError("expected values with commas between them")
    parts = value.split(",") if isinstance(value, str) else map(str, value)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


CommaList = Annotated[
    tuple[str, ...],
    BeforeValidator(parts_of),
    PlainSerializer(",".join, return_type=str),
    WithJsonSchema({"type": "string"}),
]
"""Several names or values, e.g. "stage2,stage4"; empty is an empty tuple."""
