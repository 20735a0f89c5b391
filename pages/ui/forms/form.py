"""Options -> form: every option is drawn by the control that its kind asks for; nothing else is known of options."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

import streamlit as st

from fovea.engine.method import Method
from fovea.engine.options import ClassKind, LayerKind, PositionKind, UnitKind, declared
from fovea.engine.run.machine import DEVICES, PROVIDERS
from fovea.models.card import Card
from fovea.pages.ui import state
from fovea.pages.ui.forms import controls as folder
from fovea.pages.ui.forms.field import CONTROLS, NOTHING, Control, Field, key_of


@functools.cache
def controls() -> Mapping[str, Control]:
    """Every control by the name of its widget, found in the files of `controls/`."""
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
    return CONTROLS


def prefill_key(method: str, name: str) -> str:
    """The session's key of a value that waits for an option's control to be drawn."""
    return f"prefill:{method}:{name}"


def subject_key(method: str) -> str:
    """The session's key of the switch between a class and a unit."""
    return key_of(method, "@subject")


def prefill(method: Method, options: Mapping[str, Any]) -> None:
    """Set the controls of a method to a run's options; call before the form is drawn."""
    if _subject(method):
        about = any(options.get(name) for name in method.options.names(LayerKind))
        st.session_state[subject_key(method.name)] = "unit" if about else "class"
    for name, info in method.options.model_fields.items():
        if name not in options:
            continue
        shared = controls()[declared(info).kind.widget].shared
        if shared and options[name] not in (None, ""):
            state.choose(**{shared: str(options[name])})
        else:
            st.session_state[prefill_key(method.name, name)] = options[name]


def options_form(method: Method, card: Card) -> dict[str, Any]:
    """Draw the controls of a method and return what they say; advanced ones behind a fold.

    Where a method takes a class or else a unit, one switch says which, and only that one's controls are drawn.
    """
    fields = method.options.model_fields
    subject = _subject(method)
    hidden = _class_or_unit(method, card, subject) if subject else ()
    advanced = [name for name, info in fields.items() if declared(info).advanced and name not in subject]
    values: dict[str, Any] = {name: fields[name].default for name in hidden}
    for name in sorted(fields, key=lambda name: name not in subject):
        if name not in hidden and name not in advanced:
            values[name] = _draw(method, name, card)
    with st.expander("More options", icon=":material/tune:"):
        values |= {name: _draw(method, name, card) for name in advanced}
        _ask_where_it_runs(method)
    return values


def where_it_runs(method: Method) -> dict[str, Any]:
    """Seed, device and provider as the form has them, for the request."""
    chosen = str(st.session_state.get(key_of(method.name, "@device"), "auto"))
    return {
        "seed": int(st.session_state.get(key_of(method.name, "@seed"), 0)),
        "device": chosen if method.gradients else "auto",
        "provider": "auto" if method.gradients else chosen,
    }


def _ask_where_it_runs(method: Method) -> None:
    st.number_input(
        "Seed",
        min_value=0,
        max_value=2**31 - 1,
        value=0,
        key=key_of(method.name, "@seed"),
        persist_state="session",
        help="The seed sets all random choices of the run. The same seed gives the same result.",
    )
    st.selectbox(
        "Device" if method.gradients else "Provider",
        DEVICES if method.gradients else PROVIDERS,
        key=key_of(method.name, "@device"),
        persist_state="session",
        help="This says where the run is computed. With auto it is the fastest that works on this machine.",
    )


def _subject(method: Method) -> tuple[str, ...]:
    """The options that name what is looked at, if the method takes a class or else a unit."""
    classes = tuple(method.options.names(ClassKind))
    layers = tuple(name for name in method.options.names(LayerKind) if not method.options.model_fields[name].default)
    units = tuple(method.options.names(UnitKind))
    if not classes or not layers or not units:
        return ()
    return classes + layers + units + tuple(method.options.names(PositionKind))


def _class_or_unit(method: Method, card: Card, subject: tuple[str, ...]) -> tuple[str, ...]:
    """Draw the switch between a class and a unit; the options that it leaves out."""
    key = subject_key(method.name)
    if key not in st.session_state:
        st.session_state[key] = "class" if card.classes and not state.layer() else "unit"
    st.segmented_control(
        "About",
        ("class", "unit"),
        key=key,
        required=True,
        format_func=lambda kind: f"a {kind}",
        help="Choose whether the method looks at a class of the network's output or at one unit of a layer inside it.",
        width="stretch",
        persist_state="session",
    )
    classes = tuple(method.options.names(ClassKind))
    return classes if st.session_state[key] == "unit" else tuple(name for name in subject if name not in classes)


def _draw(method: Method, name: str, card: Card) -> Any:
    """One option's control; its value as the options class takes it."""
    field = Field(method, name, card, st.session_state.pop(prefill_key(method.name, name), NOTHING))
    if field.start is not NOTHING:
        st.session_state.pop(field.key, None)
    with st.container(key=f"field-{method.name}-{name}".replace("_", "-"), gap=None):
        return controls()[field.kind.widget].draw(field)
