"""Options -> form: every control is made from the option's own declaration, its type, limits, kind and help."""

from __future__ import annotations

import contextlib
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

import annotated_types
import streamlit as st

from fovea.engine.errors import FoveaError
from fovea.engine.method import Method, find_method
from fovea.engine.options import (
    ClassKind,
    DatasetKind,
    LayerKind,
    PositionKind,
    UnitKind,
    class_indices,
    declared,
    parts_of,
)
from fovea.models.card import Card, Layer
from fovea.pages.ui import reads, state
from fovea.pages.ui.links import loopback_only
from fovea.pages.ui.text import label, plain

Control = Callable[[str, Any, str, Card], Any]


def key_of(method: str, name: str) -> str:
    """The session's key of one option's control."""
    return f"option:{method}:{name}"


def prefill_key(method: str, name: str) -> str:
    """The session's key of a value that waits for an option's control to be drawn."""
    return f"prefill:{method}:{name}"


def subject_key(method: str) -> str:
    """The session's key of the switch between a class and a unit."""
    return key_of(method, "@subject")


def prefill(method: Method, options: Mapping[str, Any]) -> None:
    """Set the controls of a method to a run's options; call before the form is drawn."""
    subject = _subject(method)
    if subject:
        about = any(options.get(name) for name in method.options.names(LayerKind))
        st.session_state[subject_key(method.name)] = "unit" if about else "class"
    for name, info in method.options.model_fields.items():
        if name in options:
            kind, value = declared(info).kind.name, options[name]
            if kind == "layer" and value:
                state.choose(layer=str(value))
            elif kind == "unit" and value is not None:
                state.choose(unit=str(value))
            else:
                st.session_state[prefill_key(method.name, name)] = value


def options_form(method: Method, card: Card) -> dict[str, Any]:
    """Draw the controls of a method and return what they say; advanced ones behind a fold.

    Where a method takes a class or else a unit, one switch says which, and only that one's controls are drawn.
    """
    fields = method.options.model_fields
    hidden = _class_or_unit(method, card)
    values: dict[str, Any] = {name: fields[name].default for name in hidden}
    subject = _subject(method)
    for name in sorted(fields, key=lambda name: name not in subject):
        if name not in hidden and (name in subject or not declared(fields[name]).advanced):
            values[name] = _control(method, name, fields[name], card)
    return values | _advanced(method, card, subject)


def _subject(method: Method) -> tuple[str, ...]:
    """The options that name what is looked at, if the method takes a class or else a unit."""
    classes = tuple(method.options.names(ClassKind))
    layers = tuple(name for name in method.options.names(LayerKind) if not method.options.model_fields[name].default)
    units = tuple(method.options.names(UnitKind))
    if not classes or not layers or not units:
        return ()
    return classes + layers + units + tuple(method.options.names(PositionKind))


def _class_or_unit(method: Method, card: Card) -> tuple[str, ...]:
    """Draw the switch between a class and a unit; the options that it leaves out."""
    subject = _subject(method)
    if not subject:
        return ()
    key = subject_key(method.name)
    if key not in st.session_state:
        st.session_state[key] = "class" if card.classes and not state.layer() else "unit"
    st.segmented_control(
        "About",
        ("class", "unit"),
        key=key,
        required=True,
        format_func=lambda kind: f"a {kind}",
        help="A class of the network's output, or one unit of a layer inside it.",
        width="stretch",
        persist_state="session",
    )
    classes = tuple(method.options.names(ClassKind))
    return classes if st.session_state[key] == "unit" else tuple(name for name in subject if name not in classes)


def _advanced(method: Method, card: Card, drawn: tuple[str, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    with st.expander("More options", icon=":material/tune:"):
        for name, info in method.options.model_fields.items():
            if declared(info).advanced and name not in drawn:
                values[name] = _control(method, name, info, card)
        st.number_input(
            "Seed",
            min_value=0,
            max_value=2**31 - 1,
            value=0,
            key=key_of(method.name, "@seed"),
            persist_state="session",
            help="The same seed gives the same result.",
        )
        st.selectbox(
            "Device" if method.gradients else "Provider",
            ("auto", "cpu", "cuda") if method.gradients else ("auto", "cpu", "cuda", "tensorrt"),
            key=key_of(method.name, "@device"),
            persist_state="session",
            help="Where it is computed; auto takes the fastest that works on this machine.",
        )
    return values


def where_it_runs(method: Method) -> dict[str, Any]:
    """Seed, device and provider as the form has them, for the request."""
    chosen = str(st.session_state.get(key_of(method.name, "@device"), "auto"))
    return {
        "seed": int(st.session_state.get(key_of(method.name, "@seed"), 0)),
        "device": chosen if method.gradients else "auto",
        "provider": "auto" if method.gradients else chosen,
    }


def _control(method: Method, name: str, info: Any, card: Card) -> Any:
    """One option's control; its value as the options class takes it."""
    key = key_of(method.name, name)
    waiting = prefill_key(method.name, name)
    start = st.session_state.pop(waiting) if waiting in st.session_state else _MISSING
    if start is not _MISSING:
        st.session_state.pop(key, None)
    kind = declared(info).kind.name
    draw = _KINDS.get(kind, _plain)
    with st.container(key=f"field-{method.name}-{name}".replace("_", "-"), gap=None):
        return draw(key, info, label(name, declared(info).unit), card, start)


class _Missing:
    """No value was handed over."""


_MISSING: Any = _Missing()


def _initial(key: str, value: Any, start: Any) -> None:
    """Give a control its first value once; after that the session owns it."""
    if start is not _MISSING:
        st.session_state[key] = start
    elif key not in st.session_state:
        st.session_state[key] = value


def _kept_valid(key: str, valid: typing.Container[Any], fallback: Any) -> None:
    """Forget a kept value that this network or data set does not have."""
    if st.session_state.get(key) not in valid and st.session_state.get(key) is not None:
        st.session_state[key] = fallback


def layer_label(card: Card) -> Callable[[str], str]:
    """How a picker shows a layer: name, kind and output shape."""
    layers = {layer.name: layer for layer in card.layers}

    def text(name: str) -> str:
        layer = layers.get(name)
        return f"{name} · {layer.kind} · {' × '.join(map(str, layer.shape))}" if layer else name

    return text


def layers_for(card: Card, needs: str) -> list[Layer]:
    """The layers that an option can name: with units; maps, or with weights, where it needs them."""
    layers = [layer for layer in card.layers if layer.axes != "none"]
    if needs == "spatial":
        return [layer for layer in layers if layer.spatial]
    if needs == "weights":
        return [layer for layer in layers if layer.parameters > 0 and layer.leaf]
    return layers


def _layer(key: str, info: Any, text: str, card: Card, start: Any) -> str:
    names = [layer.name for layer in layers_for(card, declared(info).kind.needs)]
    chosen = state.layer() or str(info.default or "")
    st.session_state[key] = chosen if chosen in names else None
    st.selectbox(
        text,
        names,
        index=None,
        key=key,
        format_func=layer_label(card),
        placeholder="any layer" if not info.default else "choose a layer",
        help=info.description,
        on_change=lambda: state.choose(layer=st.session_state[key] or "", unit=""),
    )
    if chosen and chosen not in names:
        there = any(layer.name == chosen for layer in card.layers)
        why = f"layer {chosen} cannot be asked here" if there else f"{card.title} has no layer {chosen}"
        st.caption(plain(f"{why}: choose one, or leave it to the method."))
    return st.session_state[key] or ""


def _unit(key: str, info: Any, text: str, card: Card, start: Any) -> int | None:
    last = None
    for layer in card.layers:
        if layer.name == state.layer():
            last = max(layer.units - 1, 0)
    value = state.unit() if state.unit() is not None else info.default
    st.session_state[key] = value if value is None or last is None else min(int(value), last)
    st.number_input(
        text,
        min_value=0,
        max_value=last,
        value=None,
        step=1,
        key=key,
        placeholder="none" if last is None else f"0 to {last}",
        help=info.description,
        on_change=lambda: state.choose(unit="" if st.session_state[key] is None else str(st.session_state[key])),
    )
    if last is not None and value is not None and int(value) > last:
        st.caption(plain(f"{state.layer()} has no unit {value}: its last is taken."))
    return st.session_state[key]


def _layers(key: str, info: Any, text: str, card: Card, start: Any) -> str:
    names = [layer.name for layer in layers_for(card, declared(info).kind.needs)]
    given = str(info.default if start is _MISSING else start)
    listed = [name for name in (part.strip() for part in given.split(",")) if name in names]
    _initial(key, listed, listed if start is not _MISSING else _MISSING)
    st.session_state[key] = [name for name in st.session_state[key] if name in names]
    st.multiselect(
        text,
        names,
        key=key,
        format_func=layer_label(card),
        placeholder="the method's own choice",
        help=info.description,
        persist_state="session",
    )
    return ",".join(st.session_state[key])


def _left_empty(help: str) -> str:
    """What an option's help says of leaving it empty."""
    found = re.search(r"(?:empty|default): ([^;(),]+)", help)
    return found.group(1).strip() if found else "none"


def _class(key: str, info: Any, text: str, card: Card, start: Any) -> Any:
    indices = list(range(len(card.classes)))

    def index_of(given: Any) -> int | None:
        return card.class_index(given) if given not in (None, "") and card.classes else None

    _initial(key, index_of(info.default), index_of(start) if start is not _MISSING else _MISSING)
    _kept_valid(key, indices, None)
    st.selectbox(
        text,
        indices,
        index=None,
        key=key,
        format_func=lambda index: f"{card.classes[index]} ({index})",
        placeholder=_left_empty(info.description) if card.classes else "this network has no classes",
        disabled=not card.classes,
        help=info.description,
        persist_state="session",
    )
    chosen = st.session_state[key]
    if chosen is None:
        return info.default
    return chosen if int in _types_of(info) else str(chosen)


def _dataset(key: str, info: Any, text: str, card: Card, start: Any) -> str:
    names = reads.known_datasets()
    _initial(key, info.default or None, start if start is _MISSING else start or None)
    current = st.session_state[key]
    options = names if current in names or not current else [*names, current]
    optional: dict[str, Any] = {} if info.default else {"index": None, "placeholder": "none"}
    st.selectbox(
        text,
        options,
        key=key,
        **optional,
        help=f"{info.description} {'A path can be typed in.' if loopback_only() else ''}".strip(),
        accept_new_options=loopback_only(),
        persist_state="session",
    )
    return str(st.session_state[key] or "")


def _label(key: str, info: Any, text: str, card: Card, start: Any) -> str:
    """A label of the data set that is chosen above."""
    method = key.split(":")[1]
    chosen = [st.session_state.get(key_of(method, name)) for name in find_method(method).options.names(DatasetKind)]
    labels: list[str] = []
    with contextlib.suppress(FoveaError):
        labels = reads.dataset_labels(reads.root(), str(chosen[0])) if chosen and chosen[0] else []
    _initial(key, info.default or None, start if start is _MISSING else start or None)
    _kept_valid(key, labels, None)
    st.selectbox(
        text,
        labels,
        index=None,
        key=key,
        placeholder="all labels" if labels else "this data set has no labels",
        disabled=not labels,
        help=info.description,
        persist_state="session",
    )
    return str(st.session_state[key] or "")


def _photo(key: str, info: Any, text: str, card: Card, start: Any) -> str:
    from fovea.engine.data.samples import SAMPLES
    from fovea.pages.ui.pickers import kept_photos, photo_title

    options = [f"sample:{name}" for name in SAMPLES] + kept_photos()
    _initial(key, info.default or None, start if start is _MISSING else start or None)
    if st.session_state[key] and st.session_state[key] not in options:
        options.append(st.session_state[key])
    optional: dict[str, Any] = {} if info.default else {"index": None, "placeholder": "none"}
    st.selectbox(
        text,
        options,
        key=key,
        format_func=photo_title,
        help=info.description,
        persist_state="session",
        **optional,
    )
    return str(st.session_state[key] or "")


def _network(key: str, info: Any, text: str, card: Card, start: Any) -> str:
    names = reads.known_networks()
    _initial(key, info.default or None, start)
    st.selectbox(text, names, index=None, key=key, help=info.description, persist_state="session")
    return st.session_state[key] or info.default


def _networks(key: str, info: Any, text: str, card: Card, start: Any) -> str:
    names = reads.known_networks()
    given = parts_of(str(info.default if start is _MISSING else start))
    _initial(key, given, given if start is not _MISSING else _MISSING)
    known = [*names, *(name for name in st.session_state[key] if name not in names)]
    st.multiselect(text, known, key=key, placeholder="none", help=info.description, persist_state="session")
    return ",".join(st.session_state[key])


def _classes(key: str, info: Any, text: str, card: Card, start: Any) -> str:
    given = class_indices(card, str(info.default if start is _MISSING else start)) if card.classes else []
    _initial(key, given, given if start is not _MISSING else _MISSING)
    st.session_state[key] = [index for index in st.session_state[key] if index < len(card.classes)]
    st.multiselect(
        text,
        range(len(card.classes)),
        key=key,
        format_func=lambda index: f"{card.classes[index]} ({index})",
        placeholder="the method's own choice" if card.classes else "this network has no classes",
        disabled=not card.classes,
        help=info.description,
        persist_state="session",
    )
    return ",".join(str(index) for index in st.session_state[key])


def _plain(key: str, info: Any, text: str, card: Card, start: Any) -> Any:
    """By type: choices, a switch, a number within its limits, or a line of text."""
    choices = _choices_of(info)
    _initial(key, info.default, start)
    if choices:
        return _choice(key, info, text, choices)
    kinds = _types_of(info)
    if kinds == {bool}:
        return st.toggle(text, key=key, help=info.description, persist_state="session")
    if kinds <= {int, float, types.NoneType} and kinds & {int, float}:
        return _number(key, info, text, float if float in kinds else int)
    given = st.text_input(
        text,
        key=key,
        help=info.description,
        placeholder="left to the method" if info.default in (None, "") else "",
        persist_state="session",
    )
    return None if given == "" and types.NoneType in kinds else given


def _choice(key: str, info: Any, text: str, choices: tuple[Any, ...]) -> Any:
    _kept_valid(key, choices, info.default)
    shown: Callable[[Any], str] = lambda choice: str(choice).replace("_", " ")  # noqa: E731
    letters = sum(len(str(choice)) for choice in choices)
    if letters <= (24 if len(choices) == 2 else 14) and len(choices) <= 3:
        return st.segmented_control(
            text,
            choices,
            key=key,
            required=True,
            format_func=shown,
            help=info.description,
            width="stretch",
            persist_state="session",
        )
    return st.selectbox(text, choices, key=key, format_func=shown, help=info.description, persist_state="session")


def _number(key: str, info: Any, text: str, kind: type) -> Any:
    low, high = _limits_of(info, kind)
    # Only an option that may be empty gets the button that empties it.
    optional = types.NoneType in _types_of(info)
    blank: dict[str, Any] = {"value": None, "placeholder": "left to the method"} if optional else {}
    if st.session_state[key] is not None:
        st.session_state[key] = kind(st.session_state[key])
    if declared(info).slider:
        return st.slider(
            text, low, high, step=kind((high - low) / 100), key=key, help=info.description, persist_state="session"
        )
    if kind is float:
        default = abs(float(info.default or 1.0))
        step = 10.0 ** (len(str(int(default))) - 2) if default >= 1 else _tenth(default)
        digits = max(2, 1 - _exponent(step))
        return st.number_input(
            text,
            min_value=low,
            max_value=high,
            step=step,
            format=f"%.{digits}f" if step >= 1e-4 else "%g",
            key=key,
            help=info.description,
            persist_state="session",
            **blank,
        )
    return st.number_input(
        text,
        min_value=low,
        max_value=high,
        step=1,
        key=key,
        help=info.description,
        persist_state="session",
        **blank,
    )


def _exponent(number: float) -> int:
    return int(f"{number:e}".partition("e")[2])


def _tenth(number: float) -> float:
    """The step of a small number: a tenth of it, as a power of ten."""
    return 10.0 ** (_exponent(number) - 1)


def _choices_of(info: Any) -> tuple[Any, ...]:
    for annotation in (info.annotation, *typing.get_args(info.annotation)):
        if typing.get_origin(annotation) is Literal:
            return typing.get_args(annotation)
    return ()


def _types_of(info: Any) -> set[type]:
    annotation = info.annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return set(typing.get_args(annotation))
    return {annotation}


def _limits_of(info: Any, kind: type) -> tuple[Any, Any]:
    """The smallest and largest value that the option's declaration allows, for a control."""
    low = high = None
    nudge = 1 if kind is int else 1e-6
    for limit in info.metadata:
        if isinstance(limit, annotated_types.Ge):
            low = kind(limit.ge)
        elif isinstance(limit, annotated_types.Gt):
            low = kind(limit.gt) + nudge
        elif isinstance(limit, annotated_types.Le):
            high = kind(limit.le)
        elif isinstance(limit, annotated_types.Lt):
            high = kind(limit.lt) - nudge
    return low, high


_KINDS: dict[str, Callable[..., Any]] = {
    "layer": _layer,
    "layers": _layers,
    "unit": _unit,
    "class": _class,
    "dataset": _dataset,
    "label": _label,
    "photo": _photo,
    "network": _network,
    "networks": _networks,
    "classes": _classes,
}
