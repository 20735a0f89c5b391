"""Pickers of the shell: which network, which photo."""

from __future__ import annotations

from typing import Any

import streamlit as st

from fovea.engine.data.catalogue import open_dataset
from fovea.engine.data.samples import SAMPLES
from fovea.engine.errors import FoveaError
from fovea.pages.ui import acts, reads, state
from fovea.pages.ui.links import photo_url
from fovea.pages.ui.paging import choose_page
from fovea.pages.ui.text import escaped, show_error
from fovea.pages.ui.titles import network_title, photo_title

THUMBNAILS_A_PAGE = 12
UPLOAD_TYPES = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"]


def network_picker() -> None:
    """The network, searchable; what it names is kept across pages."""
    names = reads.known_networks()
    current = str(st.session_state["shell:network"])
    if current not in names:
        names = [current, *names]
    st.session_state["picker:network"] = current
    st.selectbox(
        "Network",
        names,
        key="picker:network",
        format_func=network_title,
        help="Type to search among the bundled network, those that you registered and those of torchvision. Names with "
        "`@random` stand for untrained weights. Register a network of your own with "
        "`python -m engine networks add`.",
        on_change=lambda: state.change(network=st.session_state["picker:network"], layer="", unit=""),
    )


def photo_picker() -> None:
    """The current photo's picture, and the dialog that changes it."""
    reference = str(st.session_state["shell:photo"])
    if state.PHOTO.fullmatch(reference):
        title = photo_title(reference)
        st.html(
            f'<div class="fovea-current"><img src="{escaped(photo_url(reference, 200))}" alt="">'
            f"<span>{escaped(title)}</span></div>"
        )
    words = "Take a sample, upload a photo, or take an image of a data set."
    if st.button("Change photo", icon=":material/photo_library:", width="stretch", key="picker:photo", help=words):
        choose_photo()


@st.dialog("Choose a photo", width="large")
def choose_photo() -> None:
    """Samples with thumbnails, an upload, or an item of a data set."""
    samples, upload, dataset = st.tabs(["Samples", "Upload", "From a data set"])
    with samples:
        _samples()
    with upload:
        _upload()
    with dataset:
        _dataset_item()


def _thumbnails(references: list[str], prefix: str) -> None:
    columns = st.columns(4)
    for index, reference in enumerate(references):
        with columns[index % 4]:
            title = photo_title(reference)
            st.html(f'<img class="fovea-thumb" src="{escaped(photo_url(reference, 240))}" alt="{escaped(title)}">')
            if st.button(title, key=f"{prefix}:{reference}", width="stretch"):
                state.change(photo=reference)
                st.rerun()


def _samples() -> None:
    _thumbnails([f"sample:{name}" for name, sample in SAMPLES.items() if name == sample.picture], "sample")
    st.caption("These are the whole pictures, as they were before they were cropped.")
    _thumbnails([f"sample:{name}" for name, sample in SAMPLES.items() if name != sample.picture], "sample")


def _upload() -> None:
    upload = st.file_uploader(
        "A photo of yours",
        type=UPLOAD_TYPES,
        max_upload_size=20,
        help="A photo may have at most 20 MB and 50 megapixels. It stays on this machine, in Fovea's own folder.",
    )
    if upload is not None:
        try:
            reference = acts.keep_photo(upload.getvalue(), upload.name)
        except FoveaError as error:
            show_error(error)
        else:
            state.change(photo=reference)
            st.rerun()
    earlier = reads.kept_photos()
    if earlier:
        st.caption("You uploaded these before.")
        _thumbnails(earlier, "kept")


def _dataset_item() -> None:
    name = st.selectbox("Data set", reads.known_datasets(), key="picker:dataset")
    try:
        dataset: Any = open_dataset(name)
        _, part = choose_page(st, len(dataset), THUMBNAILS_A_PAGE, always=True)
        columns = st.columns(4)
        for place, index in enumerate(range(len(dataset))[part]):
            with columns[place % 4]:
                try:
                    st.image(dataset.thumbnail(index, 240), width="stretch")
                except FoveaError as error:
                    show_error(error)
                    continue
                if st.button("Take this", key=f"item:{name}:{index}", width="stretch", help=str(dataset.keys[index])):
                    state.change(photo=acts.keep_photo(dataset.photo(index), str(dataset.keys[index])))
                    st.rerun()
    except FoveaError as error:
        show_error(error)
