"""Which panels of a run stand side by side."""

from __future__ import annotations

from typing import Any

from fovea.engine.panels import Panel, panel_kinds
from fovea.pages.ui.panels.layout import rows_of


def kinds(*panels: Panel) -> list[list[Any]]:
    """The titles row by row; sisters as a list of their own."""
    rows = rows_of(panels)
    return [[one[0][1].title if len(one) == 1 else [p.title for _, p in one] for one in row] for row in rows]


def panel(title: str, kind: str = "image", **more: Any) -> Panel:
    needs = {"image": {"image": "i"}, "curve": {"x": "x", "y": ("y",)}, "bars": {"x": "x", "y": ("y",)}}
    needs["gallery"] = needs["image"]
    return panel_kinds()[kind](title=title, **needs.get(kind, {}), **more)


def test_small_charts_stand_two_by_two_and_others_alone() -> None:
    curve = [panel(str(n), "curve") for n in range(3)]
    assert kinds(*curve) == [["0", "1"], ["2"]]
    assert kinds(curve[0], panel("a"), curve[1]) == [["0"], ["a"], ["1"]]


def test_a_panel_beside_another_joins_its_row() -> None:
    row = [panel("a"), panel("b", beside=True), panel("c", "table", beside=True)]
    assert kinds(*row, panel("d")) == [["a", "b", "c"], ["d"]]
    lead = [panel("x", "curve"), panel("y", "curve"), panel("z", "bars", beside=True)]
    assert kinds(*lead) == [["x"], ["y", "z"]]


def test_sisters_are_shown_in_turn() -> None:
    sisters = [panel(n, "gallery", table="t", where={"layer": n}) for n in ("a", "b")]
    assert kinds(*sisters, panel("c", "curve")) == [[["a", "b"]], ["c"]]
