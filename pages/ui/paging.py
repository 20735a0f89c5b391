"""A long list, a page at a time."""

from __future__ import annotations

from typing import Any


def choose_page(
    place: Any, count: int, size: int, *, key: str | None = None, always: bool = False
) -> tuple[int, slice]:
    """Let the user choose a page of `size` of the `count` things, where there are several; its number and its part.

    `place` is where the choice is drawn; `always`: also where there is but one page.
    """
    pages = max(1, -(-count // size))
    page = 1
    if pages > 1 or always:
        page = place.number_input(
            "Page", 1, pages, 1, key=key, width=140, help=f"{count:,} in all, {size} on each of {pages:,} pages."
        )
    return page, slice((page - 1) * size, page * size)
