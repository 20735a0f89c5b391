"""The control of a plain value, by its type: choices, a switch, a number within its limits, or a line of text."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any, Literal

import annotated_types
import streamlit as st

from fovea.engine.options import declared
from fovea.pages.ui.forms.field import Field, control

LETTERS, LETTERS_OF_TWO = 14, 24
"""Choices of no more letters in all stand side by side; two choices may have more."""


@control("plain")
def draw_plain(field: Field) -> Any:
    """By the option's type."""
    choices = _choices_of(field)
    if choices:
        return _choice(field, choices)
    kinds = _types_of(field)
    if kinds == {bool}:
        field.begin()
        return st.toggle(**field.kept)
    if kinds == {bool, types.NoneType}:
        return _yes_or_no(field)
    if kinds <= {int, float, types.NoneType}:
        return _number(field, float if float in kinds else int, optional=types.NoneType in kinds)
    return _text(field, optional=types.NoneType in kinds)


def _text(field: Field, *, optional: bool) -> str | None:
    """A line of text; a list is written with commas."""
    field.begin(lambda value: value if value is None or isinstance(value, str) else ", ".join(map(str, value)))
    empty = field.default in (None, "", ())
    text = st.text_input(placeholder=field.placeholder if empty else "", **field.kept)
    return None if text == "" and optional else text


def _choice(field: Field, choices: tuple[Any, ...]) -> Any:
    field.begin()
    field.forget_unless(choices, field.default)
    shown: Callable[[Any], str] = lambda choice: str(choice).replace("_", " ")  # noqa: E731
    letters = sum(len(str(choice)) for choice in choices)
    if letters <= (LETTERS_OF_TWO if len(choices) == 2 else LETTERS) and len(choices) <= 3:
        return st.segmented_control(options=choices, required=True, format_func=shown, width="stretch", **field.kept)
    return st.selectbox(options=choices, format_func=shown, **field.kept)


def _yes_or_no(field: Field) -> bool | None:
    """A switch that may also be left to the method."""
    field.begin()
    return st.selectbox(
        options=(True, False),
        index=None,
        format_func=lambda choice: "yes" if choice else "no",
        placeholder=field.placeholder,
        **field.kept,
    )


def _number(field: Field, kind: type, *, optional: bool) -> Any:
    field.begin(lambda value: None if value is None else kind(value))
    low, high = _limits_of(field, kind)
    limits = {"min_value": low, "max_value": high}
    if declared(field.info).slider:
        return st.slider(step=kind((high - low) / 100), **limits, **field.kept)
    # Only an option that may be empty gets the button that empties it.
    blank: dict[str, Any] = {"value": None, "placeholder": field.placeholder} if optional else {}
    return st.number_input(
        **_steps_of(field.default) if kind is float else {"step": 1}, **limits, **field.kept, **blank
    )


def _steps_of(default: Any) -> dict[str, Any]:
    """How far one press goes from a fraction, about a tenth of it, and with how many digits it is written."""
    size = abs(float(default or 1.0))
    step = 10.0 ** (len(str(int(size))) - 2) if size >= 1 else 10.0 ** (_exponent(size) - 1)
    digits = max(2, 1 - _exponent(step))
    return {"step": step, "format": f"%.{digits}f" if step >= 1e-4 else "%g"}


def _exponent(number: float) -> int:
    return int(f"{number:e}".partition("e")[2])


def _choices_of(field: Field) -> tuple[Any, ...]:
    """The values to choose from: those of a `Literal` type, or those that the kind lists."""
    annotation = field.info.annotation
    for part in (annotation, *typing.get_args(annotation)):
        if typing.get_origin(part) is Literal:
            return typing.get_args(part)
    return field.kind.choices()


def _types_of(field: Field) -> set[Any]:
    annotation = field.info.annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return set(typing.get_args(annotation))
    return {annotation}


def _limits_of(field: Field, kind: type) -> tuple[Any, Any]:
    """The smallest and largest value that the option's declaration allows, for a control."""
    low = high = None
    nudge = 1 if kind is int else 1e-6
    for limit in field.info.metadata:
        if isinstance(limit, annotated_types.Ge):
            low = kind(limit.ge)
        elif isinstance(limit, annotated_types.Gt):
            low = kind(limit.gt) + nudge
        elif isinstance(limit, annotated_types.Le):
            high = kind(limit.le)
        elif isinstance(limit, annotated_types.Lt):
            high = kind(limit.lt) - nudge
    return low, high
