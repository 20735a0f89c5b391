"""A network's card on a page: what is known of it, and its layers as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from fovea.models.card import Card, Layer
from fovea.pages.ui.facts import show_facts
from fovea.pages.ui.text import plain


def short(architecture: str) -> str:
    """An architecture without the folders of its file."""
    place, colon, name = architecture.rpartition(":")
    if place == "onnx":
        return f"onnx:{Path(name).name}"
    return f"{Path(place).name}{colon}{name}" if place.endswith(".py") else architecture


def input_of(card: Card) -> str:
    """The shape of the network's input, without the batch."""
    height, width = card.preprocessing.size
    return f"{card.preprocessing.channels} × {height} × {width}"


def _gradients(card: Card) -> str:
    if card.gradients:
        return "yes"
    return "no, as autograd is off in its code" if card.has_module else "no, as this is an ONNX file"


def show_card(card: Card) -> None:
    """What is known of the network, and its layers as a table."""
    p = card.preprocessing
    facts: dict[str, Any] = {
        "Architecture": short(card.architecture),
        "Weights": card.weights,
        "Parameters": f"{card.parameters:,}",
        "Layers": len(card.layers),
        "Classes": len(card.classes) or "none",
        "Returns": card.meaning.words,
        "Input": f"{input_of(card)} {p.order if p.channels > 1 else 'grey'}",
        "Resize": f"{p.resize} px, {p.interpolation}" if p.resize else f"stretched, {p.interpolation}",
        "Values": f"{p.range[0]:g} to {p.range[1]:g}",
        "Mean": ", ".join(f"{value:g}" for value in p.mean),
        "Std": ", ".join(f"{value:g}" for value in p.std),
        "Gradients": _gradients(card),
    }
    show_facts(facts)
    for note in card.notes:
        st.caption(plain(note))
    if card.classes:
        with st.expander(f"{len(card.classes):,} classes"):
            st.dataframe(pd.DataFrame({"index": range(len(card.classes)), "class": card.classes}), hide_index=True)
    st.dataframe(
        pd.DataFrame(
            {
                "layer": [layer.name for layer in card.layers],
                "kind": [layer.kind for layer in card.layers],
                "gives": [" × ".join(map(str, layer.shape)) for layer in card.layers],
                "units": [layer.units for layer in card.layers],
                "parameters": [layer.parameters for layer in card.layers],
                "sees": [_sees(layer) for layer in card.layers],
                "stride": [_stride(layer) for layer in card.layers],
            }
        ),
        hide_index=True,
        key="networks:layers",
        height=460,
        column_config={
            "gives": st.column_config.TextColumn(help="This is the shape of the layer's output, without the batch."),
            "parameters": st.column_config.NumberColumn(
                format="localized",
                help="These are the parameters of the layer itself, without those of the layers inside it.",
            ),
            "sees": st.column_config.TextColumn(
                help="This is the receptive field: how much of the input one unit can see."
            ),
            "stride": st.column_config.TextColumn(
                help="This is how far apart neighbouring units look, in pixels of the input."
            ),
        },
    )


def _sees(layer: Layer) -> str:
    if layer.axes == "none":
        return "no units to show"
    field = layer.receptive_field
    if field is None:
        return ""
    return "whole image" if field.whole else f"{field.size[0]} × {field.size[1]} px"


def _stride(layer: Layer) -> str:
    field = layer.receptive_field
    if field is None or field.whole:
        return ""
    return " × ".join(f"{step:g}" for step in dict.fromkeys(field.stride)) + " px"
