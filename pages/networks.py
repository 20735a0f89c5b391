"""Networks: the bundled one and those of one's own, with their cards; add, check, remove.

Users' own Python is registered from the command line only; loading and checking are a worker's work.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from fovea.engine.data.uploads import (
    WEIGHTS_BYTES,
    check_architecture,
    check_new_name,
    forget_unused,
    keep_classes,
    keep_weights,
    remove_network,
)
from fovea.engine.errors import FoveaError, OptionsError, WeightsError
from fovea.engine.run.record import Request
from fovea.engine.work.cards import card_status, request_card
from fovea.engine.work.runs import submit
from fovea.models.card import RESAMPLING, Card
from fovea.models.registry import register, registered
from fovea.models.weights import TORCHVISION_WEIGHTS
from fovea.pages.ui import reads, state
from fovea.pages.ui.cards import card_or_wait
from fovea.pages.ui.nav import page
from fovea.pages.ui.pickers import change
from fovea.pages.ui.progress import show_run
from fovea.pages.ui.text import errors_as_lines, escaped, plain, show_error

CHECK = "check"
ADDING, PROBLEM, ROUND = "networks:adding", "networks:problem", "networks:round"
OWN_PYTHON = """python -m engine networks add mynet --architecture /path/net.py:Net \\
    --weights /path/weights.safetensors --classes /path/classes.txt --size 224 --resize 256"""


def overview() -> None:
    """The bundled network and the registered ones; a click on a row chooses it."""
    entries = {"fovea": {"architecture": "bundled"}, **registered()}
    rows = []
    for name, entry in entries.items():
        try:
            card = reads.card(name)
        except FoveaError:
            card = None
        rows.append(
            {
                "network": name,
                "architecture": _short(entry["architecture"]),
                "weights": card.weights if card else Path(str(entry.get("weights", ""))).name,
                "input": _input(card) if card else "",
                "classes": len(card.classes) if card else None,
                "parameters": card.parameters if card else None,
            }
        )
    event: Any = st.dataframe(
        pd.DataFrame(rows).astype({"classes": "Int64", "parameters": "Int64"}),
        hide_index=True,
        key="networks:table",
        on_select="rerun",
        selection_mode="single-row",
        column_config={"parameters": st.column_config.NumberColumn(format="localized")},
    )
    chosen = [rows[index]["network"] for index in event.selection.rows if index < len(rows)]
    if chosen and st.session_state.get("networks:clicked") != chosen[0]:
        st.session_state["networks:clicked"] = chosen[0]
        if chosen[0] != state.network():
            change(network=chosen[0], layer="", unit="")
            st.rerun()
    st.caption(
        "A click on the box before a row chooses that network everywhere. torchvision's are in the picker of the "
        "sidebar, and need no registering."
    )


def _short(architecture: str) -> str:
    """An architecture without the folders of its file."""
    place, colon, name = architecture.rpartition(":")
    if place == "onnx":
        return f"onnx:{Path(name).name}"
    return f"{Path(place).name}{colon}{name}" if place.endswith(".py") else architecture


def _input(card: Card) -> str:
    height, width = card.preprocessing.size
    return f"{card.preprocessing.channels} × {height} × {width}"


def show_card(card: Card) -> None:
    """What is known of the network, and its layers as a table."""
    p = card.preprocessing
    facts = {
        "Architecture": _short(card.architecture),
        "Weights": card.weights,
        "Parameters": f"{card.parameters:,}",
        "Layers": len(card.layers),
        "Classes": len(card.classes) or "none",
        "Returns": card.output,
        "Input": f"{_input(card)} {p.order if p.channels > 1 else 'grey'}",
        "Resize": f"{p.resize} px, {p.interpolation}" if p.resize else f"stretched, {p.interpolation}",
        "Values": f"{p.range[0]:g} to {p.range[1]:g}",
        "Mean": ", ".join(f"{value:g}" for value in p.mean),
        "Std": ", ".join(f"{value:g}" for value in p.std),
        "Gradients": "yes" if card.gradients else "no: an ONNX file",
    }
    st.html(
        '<div class="fovea-facts">'
        + "".join(f'<div class="fovea-fact"><span>{k}</span><b>{escaped(v)}</b></div>' for k, v in facts.items())
        + "</div>"
    )
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
            "gives": st.column_config.TextColumn(help="The shape of its output, without the batch."),
            "parameters": st.column_config.NumberColumn(
                format="localized", help="Of the layer itself, not of the layers in it."
            ),
            "sees": st.column_config.TextColumn(help="The receptive field: how much of the input one unit can see."),
            "stride": st.column_config.TextColumn(help="How far apart neighbouring units look, in pixels."),
        },
    )


def _sees(layer: Any) -> str:
    if layer.axes == "none":
        return "no units to show"
    field = layer.receptive_field
    if field is None:
        return ""
    return "whole image" if field.whole else f"{field.size[0]} × {field.size[1]} px"


def _stride(layer: Any) -> str:
    field = layer.receptive_field
    if field is None or field.whole:
        return ""
    return " × ".join(f"{step:g}" for step in dict.fromkeys(field.stride)) + " px"


def show_check(name: str) -> None:
    """Start a check of the network as a run, and see it."""
    st.markdown(
        "Compares torch with ONNX at every layer. With labelled images it also measures how often the network is "
        "right: labels are class names or class indices."
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        dataset = st.selectbox(
            "Labelled images",
            reads.known_datasets(),
            index=None,
            placeholder="none",
            key="networks:dataset",
            help="A registered data set whose labels are the network's classes.",
            width=260,
        )
        images = st.number_input(
            "Images",
            0,
            None,
            0,
            key="networks:images",
            help="At most so many, evenly spread; 0: all of them.",
            width=140,
        )
        pressed = st.button("Check", type="primary", icon=":material/fact_check:", key="networks:check")
    shown = f"networks:checked:{name}"
    if pressed:
        with errors_as_lines():
            options = {"dataset": dataset or "", "images": images}
            st.session_state[shown] = submit(Request(method=CHECK, network=name, options=options))
    run_id = st.session_state.get(shown) or reads.newest_run(CHECK, name, "", failed=True)
    if run_id:
        with errors_as_lines():
            show_run(run_id, "networks-check")
            st.page_link(
                page("run"), label="Open this run", icon=":material/open_in_full:", query_params={"id": run_id}
            )


def remove(name: str) -> None:
    """Ask, then take a registered network out of the list."""
    if name not in registered():
        return
    with st.popover("Remove", icon=":material/delete:"):
        st.markdown(f"Remove **{plain(name)}** from the list? Its runs stay in the Library.")
        if st.button("Remove it", type="primary", key="networks:remove"):
            with errors_as_lines():
                remove_network(name)
                reads.forget_networks()
                change(network=state.DEFAULTS["network"], layer="", unit="")
                st.rerun()


def add() -> None:
    """The form for weights of one's own; then the worker reads them, and this tells how it went."""
    adding = st.session_state.get(ADDING)
    if adding and not _settle(adding):
        return
    if problem := st.session_state.get(PROBLEM):
        show_error(problem)
    number = st.session_state.setdefault(ROUND, 0)
    left, right = st.columns(2, gap="large")
    with left:
        name = st.text_input(
            "Name", key=f"networks:name:{number}", placeholder="mynet", help="Letters, digits, '_', '.' and '-'."
        )
        architecture = _architecture(number)
        weights = st.file_uploader(
            "Weights",
            type=["safetensors", "pt", "pth", "ckpt", "bin"],
            key=f"networks:weights:{number}",
            max_upload_size=WEIGHTS_BYTES >> 20,
            help="safetensors, or a state dict that torch.save wrote; at most 1 GB. No code in it is run. A head of "
            "another size than ImageNet's is found from the file.",
        )
    with right:
        classes = st.file_uploader(
            "Class names (optional)",
            type=["txt"],
            key=f"networks:classes:{number}",
            max_upload_size=1,
            help="A text file with one class name a line, in the order of the network's outputs.",
        )
        given = _preprocessing(number)
    if st.button("Add the network", type="primary", icon=":material/add:", key="networks:add"):
        st.session_state.pop(PROBLEM, None)
        try:
            _register(name, architecture, weights, classes, given)
        except FoveaError as error:
            st.session_state[PROBLEM] = str(error)
        st.rerun()
    st.divider()
    st.markdown(
        "An architecture in **Python of your own**, or an ONNX file, is registered from the command line, where you "
        "decide what is run; it then appears here and in the picker:"
    )
    st.code(OWN_PYTHON, language="bash")


def _architecture(number: int) -> str:
    timm = importlib.util.find_spec("timm") is not None
    more = " timm is installed: timm:NAME can be typed in." if timm else ""
    return str(
        st.selectbox(
            "Architecture",
            [f"torchvision:{name}" for name in TORCHVISION_WEIGHTS],
            index=None,
            key=f"networks:architecture:{number}",
            placeholder="torchvision:… or timm:…" if timm else "torchvision:…",
            accept_new_options=timm,
            help="What the weights were trained as." + more,
        )
        or ""
    )


def _preprocessing(number: int) -> dict[str, Any]:
    """The `input` table of networks.toml: only what differs from the architecture's own."""
    own = st.toggle(
        "Preprocessing of my own",
        key=f"networks:own:{number}",
        help="Off: as the architecture's authors trained it. A wrong value range is the commonest silent mistake.",
    )
    if not own:
        return {}
    size, resize, kind = st.columns(3)
    given: dict[str, Any] = {
        "size": size.text_input("Input size (px)", "224", help="224, or height and width: 224, 320."),
        "resize": resize.text_input("Resize (px)", "256", help="The short side before the centre crop; 0: stretched."),
        "interpolation": kind.selectbox("Interpolation", list(RESAMPLING), index=list(RESAMPLING).index("bilinear")),
    }
    mean, std, values = st.columns(3)
    given |= {
        "mean": mean.text_input("Mean", "0.485, 0.456, 0.406", help="One value a channel, or one for all."),
        "std": std.text_input("Std", "0.229, 0.224, 0.225", help="One value a channel, or one for all."),
        "range": values.text_input("Black, white", "0, 1", help="Their values before mean and std: 0, 1 or 0, 255."),
    }
    order, channels = st.columns(2)
    given["order"] = order.selectbox("Order of colours", ["RGB", "BGR"])
    given["channels"] = channels.selectbox("Channels", [3, 1, 4])
    return given


def _numbers(name: str, text: Any) -> Any:
    """The numbers in a text field. Raises OptionsError."""
    try:
        found = [float(part) for part in str(text).split(",")]
    except ValueError:
        raise OptionsError(f"{name} must be numbers with commas between them, not {text!r}") from None
    whole = [int(value) if value.is_integer() else value for value in found]
    return whole[0] if len(whole) == 1 else whole


def _register(name: str, architecture: str, weights: Any, classes: Any, given: dict[str, Any]) -> None:
    """Keep the files, write the entry and have a worker read it. Raises FoveaError."""
    name = check_new_name(name)
    architecture = check_architecture(architecture)
    if weights is None:
        raise WeightsError("weights must be given: a safetensors file, or a state dict that torch.save wrote")
    numbers = ("size", "resize", "mean", "std", "range")
    fields: dict[str, Any] = {"architecture": architecture}
    if given:
        fields["input"] = {key: _numbers(key, value) if key in numbers else value for key, value in given.items()}
    kept: list[Path] = []
    try:
        kept.append(keep_weights(weights, weights.name))
        fields["weights"] = str(kept[-1])
        if classes is not None:
            kept.append(keep_classes(classes, classes.name))
            fields["classes"] = str(kept[-1])
        register(name, **fields)
    except FoveaError:
        forget_unused(*kept)
        raise
    request_card(name)
    st.session_state[ADDING] = name


def _settle(name: str) -> bool:
    """How the worker got on with a new network; whether the form may be shown again."""
    status = card_status(name)
    if status.state == "error":
        st.session_state[PROBLEM] = status.error
        del st.session_state[ADDING]
        with errors_as_lines():
            remove_network(name)
        return True
    if status.state == "ready":
        st.session_state[ROUND] = st.session_state.get(ROUND, 0) + 1
        reads.forget_networks()
        return _added(name)
    st.fragment(_wait, run_every=0.5)(name)
    return False


def _added(name: str) -> bool:
    st.success(f"{plain(name)} is registered.", icon=":material/check_circle:")
    with st.container(horizontal=True):
        use = st.button("Use it", type="primary", icon=":material/play_arrow:", key="networks:use")
        another = st.button("Add another", icon=":material/add:", key="networks:another")
    if use or another:
        del st.session_state[ADDING]
    if use:
        change(network=name, layer="", unit="")
        st.switch_page(page("home"))
    if another:
        st.rerun()
    return False


def _wait(name: str) -> None:
    if card_status(name).state != "pending":
        st.rerun()
    st.status(f"reading the network {plain(name)}…", state="running")


st.title("Networks", anchor=False)
with errors_as_lines():
    overview()
about, checking, adding = st.tabs(["The chosen network", "Check", "Add"], key="networks:tab", on_change="rerun")
with about, errors_as_lines():
    heading = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center")
    heading.subheader(plain(state.network()), anchor=False)
    with heading:
        remove(state.network())
    found = card_or_wait(state.network())
    if found is not None:
        show_card(found)
with checking, errors_as_lines():
    show_check(state.network())
with adding, errors_as_lines():
    add()
