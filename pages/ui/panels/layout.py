"""Which panels of a run share a row, and which galleries are shown in turn."""

from __future__ import annotations

from collections.abc import Sequence

from fovea.engine.panels import GalleryPanel, Panel

Group = list[tuple[int, Panel]]
"""A panel with its place, or several that are shown in turn."""


def rows_of(panels: Sequence[Panel]) -> list[list[Group]]:
    """The panels in order: those that say so stand in one row, small charts two by two, sister galleries in turn."""
    groups = _sisters(panels)
    rows: list[list[Group]] = []
    for place, group in enumerate(groups):
        panel, last = group[0][1], rows[-1] if rows else []
        leads = place + 1 < len(groups) and groups[place + 1][0][1].beside
        pairs = len(last) == 1 and not leads and all(len(other) == 1 and other[0][1].small for other in (group, *last))
        joins = panel.beside and bool(last) and len(group) == len(last[-1]) == 1
        if joins or (pairs and not panel.beside):
            last.append(group)
        else:
            rows.append([group])
    return rows


def _sisters(panels: Sequence[Panel]) -> list[Group]:
    """The panels in order; galleries of one table that differ in `where` alone stand together."""
    groups: list[Group] = []
    for index, panel in enumerate(panels):
        before = groups[-1][-1][1] if groups else None
        sisters = isinstance(panel, GalleryPanel) and isinstance(before, GalleryPanel)
        if sisters and panel.where and panel.table == before.table:
            groups[-1].append((index, panel))
        else:
            groups.append([(index, panel)])
    return groups
