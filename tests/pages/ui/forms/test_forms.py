"""Forms: a control for every kind of option, what an empty one says, and values that the options class takes back."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from fovea.engine.method import Method, Result, methods
from fovea.engine.options import (
    ClassesKind,
    ClassKind,
    CommaList,
    DatasetKind,
    Kind,
    LabelKind,
    LayersKind,
    NetworksKind,
    Options,
    PhotoKind,
    declared,
    option,
)
from tests.pages.conftest import NETWORK


class Trial(Options):
    """One option of each kind of control."""

    way: Literal["fast", "careful"] = option("fast", "How it is done.")
    sizes: CommaList = option("1, 2", "The sizes that are tried.")
    rows: CommaList = option("", "The rows that are shown.", empty="every row")
    blur: bool | None = option(None, "Whether it is blurred.", empty="what the preset says")
    most: int | None = option(None, "How many at most.", ge=1)
    share: float = option(0.5, "The share that is kept.", ge=0.0, le=1.0, slider=True)
    target: str = option("", "The class.", kind=ClassKind(), empty="the network's top class")
    classes: CommaList = option("", "Several classes.", kind=ClassesKind())
    layers: CommaList = option("", "Several layers.", kind=LayersKind(), empty="the last layer of each resolution")
    networks: CommaList = option("", "Other networks.", kind=NetworksKind())
    dataset: str = option("sample", "The data set.", kind=DatasetKind())
    label: str = option("", "A label of it.", kind=LabelKind(), empty="all labels")
    second: str = option("", "Another photo.", kind=PhotoKind(), empty="no other photo")


TRIAL: Method[Trial, Any] = Method(
    name="trial",
    title="Trial",
    verb="look",
    family="Trial",
    question="Does it work?",
    summary="Tries every control.",
    options=Trial,
    compute=lambda job: None,
    report=lambda job, nothing: Result(),
    work=lambda card, options, images: 1.0,
)


def draw(network: str, options: dict | None) -> None:
    """A page with the form alone; runs in the app's own process."""
    import streamlit as st

    from fovea.models.zoo import load
    from fovea.pages.ui import state
    from fovea.pages.ui.forms.form import options_form, prefill
    from tests.pages.ui.forms.test_forms import TRIAL

    state.sync()
    if options is not None and "filled" not in st.session_state:
        st.session_state["filled"] = True
        prefill(TRIAL, options)
    st.session_state["values"] = options_form(TRIAL, load(network).card)


def form(options: dict[str, Any] | None = None) -> Any:
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_function(draw, default_timeout=60, args=(NETWORK, options)).run()
    assert not app.exception
    assert not app.error
    return app


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_option_has_a_control(name: str) -> None:
    from fovea.pages.ui.forms.form import controls

    for option_name, info in methods()[name].options.model_fields.items():
        assert declared(info).kind.widget in controls(), option_name


def test_a_kind_of_option_needs_no_control_of_its_own() -> None:
    class ColourKind(Kind):
        """A kind that nobody knows."""

    from fovea.pages.ui.forms.form import controls

    assert ColourKind().widget in controls()


def test_a_form_gives_back_the_defaults(fovea_home: Any) -> None:
    app = form()
    assert Trial.parse(app.session_state["values"]) == Trial()


def test_an_empty_control_says_what_is_taken(fovea_home: Any) -> None:
    app = form()
    drawn = [*app.selectbox, *app.multiselect, *app.text_input, *app.number_input]
    placeholders = {one.key: one.proto.placeholder for one in drawn}
    assert placeholders["option:trial:target"] == "The network's top class"
    assert placeholders["option:trial:layers"] == "The last layer of each resolution"
    assert placeholders["option:trial:label"] == "All labels"
    assert placeholders["option:trial:second"] == "No other photo"
    assert placeholders["option:trial:rows"] == "Every row"
    assert placeholders["option:trial:blur"] == "What the preset says"
    assert placeholders["option:trial:most"] == "Left to the method"


def test_a_run_fills_the_form(fovea_home: Any) -> None:
    wanted = Trial.parse(
        {
            "way": "careful",
            "sizes": "3,4",
            "rows": ("5", "6"),
            "blur": False,
            "most": 7,
            "share": 0.25,
            "target": "3",
            "classes": "4,5",
            "layers": "features.0,features.3.squeeze",
            "networks": "fovea",
            "label": "face",
            "second": "sample:cat",
        }
    )
    record = wanted.model_dump(mode="json")
    assert Trial.parse(form(record).session_state["values"]) == wanted
