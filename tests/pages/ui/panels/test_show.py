"""Panels on a page: a kind without a widget is its figure, and what cannot be drawn is one line."""

from __future__ import annotations

from typing import Any, Literal

import plotly.graph_objects as go
import pytest

from fovea.engine.errors import UnsupportedError
from fovea.engine.panels import Look, Panel, RunView, TextPanel


class DialPanel(Panel):
    """A kind of panel that the pages have never heard of."""

    kind: Literal["dial"] = "dial"
    value: float

    def figure(self, run: RunView, look: Look | None = None) -> go.Figure:
        if self.value < 0:
            raise UnsupportedError("a dial shows no negative value")
        return go.Figure(go.Indicator(value=self.value))


@pytest.fixture(autouse=True)
def forgotten() -> Any:
    """The registry of kinds knows nothing of these tests afterwards."""
    from fovea.engine.panels import panel_kinds

    yield
    panel_kinds.cache_clear()


def page(panels: list) -> None:
    """A run of these panels; runs in the app's own process."""
    from types import SimpleNamespace

    from fovea.pages.ui.panels.show import show_panels

    show_panels(SimpleNamespace(record=SimpleNamespace(panels=panels)), "test")


def shown(*panels: Panel) -> Any:
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_function(page, default_timeout=60, args=(list(panels),)).run()
    assert not app.exception
    return app


def test_a_new_kind_of_panel_needs_no_widget() -> None:
    app = shown(DialPanel(title="Speed", help="How fast it goes.", value=3))
    assert not app.error
    assert [str(head.value) for head in app.subheader] == ["Speed"]
    assert len(app.get("plotly_chart")) == 1


def test_a_panel_that_cannot_be_drawn_is_one_line_and_the_others_stay() -> None:
    app = shown(DialPanel(title="Below", value=-1), DialPanel(title="Above", value=1))
    assert ["no negative value" in str(line.value) for line in app.error] == [True]
    assert len(app.get("plotly_chart")) == 1


def test_a_text_is_its_title_and_its_help() -> None:
    app = shown(TextPanel(title="Nothing", help="There is nothing to draw."))
    assert not app.error
    assert [str(head.value) for head in app.subheader] == ["Nothing"]
    assert not app.get("plotly_chart")
