"""The form that registers weights of one's own; a worker reads them, and the form tells how it went."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import streamlit as st

from fovea.engine.data.uploads import (
    WEIGHTS_BYTES,
    check_architecture,
    check_new_name,
    forget_unused,
)
from fovea.engine.errors import FoveaError, OptionsError, WeightsError
from fovea.engine.work.cards import card_status
from fovea.models.card import RESAMPLING
from fovea.models.weights import TORCHVISION_WEIGHTS
from fovea.pages.ui import acts, reads, state
from fovea.pages.ui.cards import wait_for
from fovea.pages.ui.nav import page
from fovea.pages.ui.text import errors_as_lines, plain, sentence, show_error

ADDING, PROBLEM, ROUND = "networks:adding", "networks:problem", "networks:round"
OWN_PYTHON = """python -m engine networks add mynet --architecture /path/net.py:Net \\
    --weights /path/weights.safetensors --classes /path/classes.txt --size 224 --resize 256"""


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
            "Name",
            key=f"networks:name:{number}",
            placeholder="mynet",
            help="A name may have letters, digits, '_', '.' and '-'.",
        )
        architecture = _architecture(number)
        weights = st.file_uploader(
            "Weights",
            type=["safetensors", "pt", "pth", "ckpt", "bin"],
            key=f"networks:weights:{number}",
            max_upload_size=WEIGHTS_BYTES >> 20,
            help="Upload a safetensors file, or a state dict that torch.save wrote, of at most 1 GB. No code in it is "
            "run. The number of classes is read from the file.",
        )
    with right:
        classes = st.file_uploader(
            "Class names (optional)",
            type=["txt", "csv", "tsv", "json"],
            key=f"networks:classes:{number}",
            max_upload_size=1,
            help="Upload a text file with one class name on each line, in the order of the network's outputs.",
        )
        preprocessing = _preprocessing(number)
    if st.button("Add the network", type="primary", icon=":material/add:", key="networks:add"):
        st.session_state.pop(PROBLEM, None)
        try:
            _register(name, architecture, weights, classes, preprocessing)
        except FoveaError as error:
            st.session_state[PROBLEM] = str(error)
        st.rerun()
    st.divider()
    st.markdown(
        "Register an architecture in **Python of your own**, or an ONNX file, from the command line, where you decide "
        "what code is run. It then appears here and in the sidebar:"
    )
    st.code(OWN_PYTHON, language="bash")


def _architecture(number: int) -> str:
    timm = importlib.util.find_spec("timm") is not None
    more = " You can also type in timm:NAME, as timm is installed." if timm else ""
    return str(
        st.selectbox(
            "Architecture",
            [f"torchvision:{name}" for name in TORCHVISION_WEIGHTS],
            index=None,
            key=f"networks:architecture:{number}",
            placeholder="torchvision:… or timm:…" if timm else "torchvision:…",
            accept_new_options=timm,
            help="Choose the architecture that the weights were trained with." + more,
        )
        or ""
    )


def _preprocessing(number: int) -> dict[str, Any]:
    """The `input` table of networks.toml: only what differs from the architecture's own."""
    own = st.toggle(
        "Preprocessing of my own",
        key=f"networks:own:{number}",
        help="Turn this on if your network was trained with other preprocessing than its architecture's authors used. "
        "A wrong range of values is the most common mistake that nothing reports.",
    )
    if not own:
        return {}
    size, resize, kind = st.columns(3)
    fields: dict[str, Any] = {
        "size": size.text_input(
            "Input size (px)", "224", help="Give one number for a square, or height and width, such as 224, 320."
        ),
        "resize": resize.text_input(
            "Resize (px)",
            "256",
            help="The photo's short side gets this length before the centre is cut out. With 0, it is stretched.",
        ),
        "interpolation": kind.selectbox("Interpolation", list(RESAMPLING), index=list(RESAMPLING).index("bilinear")),
    }
    mean, std, values = st.columns(3)
    fields |= {
        "mean": mean.text_input(
            "Mean", "0.485, 0.456, 0.406", help="Give one value for each channel, or one for all of them."
        ),
        "std": std.text_input(
            "Std", "0.229, 0.224, 0.225", help="Give one value for each channel, or one for all of them."
        ),
        "range": values.text_input(
            "Black, white",
            "0, 1",
            help="Give the values of black and white before mean and std are applied: 0, 1 or 0, 255.",
        ),
    }
    order, channels = st.columns(2)
    fields["order"] = order.selectbox("Order of colours", ["RGB", "BGR"])
    fields["channels"] = channels.selectbox("Channels", [3, 1, 4])
    return fields


def _numbers(name: str, text: Any) -> Any:
    """The numbers in a text field. Raises OptionsError."""
    try:
        numbers = [float(part) for part in str(text).split(",")]
    except ValueError:
        raise OptionsError(f"{sentence(name)} must be numbers with commas between them, not {text!r}.") from None
    whole = [int(value) if value.is_integer() else value for value in numbers]
    return whole[0] if len(whole) == 1 else whole


def _register(name: str, architecture: str, weights: Any, classes: Any, preprocessing: dict[str, Any]) -> None:
    """Keep the files, write the entry and have a worker read it. Raises FoveaError."""
    name = check_new_name(name)
    architecture = check_architecture(architecture)
    if weights is None:
        raise WeightsError("Weights must be given: upload a safetensors file, or a state dict that torch.save wrote.")
    numbers = ("size", "resize", "mean", "std", "range")
    fields: dict[str, Any] = {"architecture": architecture}
    if preprocessing:
        fields["input"] = {
            key: _numbers(key, value) if key in numbers else value for key, value in preprocessing.items()
        }
    kept: list[Path] = []
    try:
        kept.append(acts.keep_weights(weights))
        fields["weights"] = str(kept[-1])
        if classes is not None:
            kept.append(acts.keep_classes(classes))
            fields["classes"] = str(kept[-1])
        acts.register_network(name, **fields)
    except FoveaError:
        forget_unused(*kept)
        raise
    acts.read_network(name)
    st.session_state[ADDING] = name


def _settle(name: str) -> bool:
    """How the worker got on with a new network; whether the form may be shown again."""
    status = card_status(name)
    if status.state == "error":
        st.session_state[PROBLEM] = status.error
        del st.session_state[ADDING]
        with errors_as_lines():
            acts.take_back_network(name)
        return True
    if status.state == "ready":
        st.session_state[ROUND] = st.session_state.get(ROUND, 0) + 1
        reads.forget_networks()
        return _added(name)
    wait_for(name)
    return False


def _added(name: str) -> bool:
    st.success(f"{plain(name)} is registered.", icon=":material/check_circle:")
    with st.container(horizontal=True):
        use = st.button("Use it", type="primary", icon=":material/play_arrow:", key="networks:use")
        another = st.button("Add another", icon=":material/add:", key="networks:another")
    if use or another:
        del st.session_state[ADDING]
    if use:
        state.change(network=name, layer="", unit="")
        st.switch_page(page("home"))
    if another:
        st.rerun()
    return False
