"""Pickers of the shell: which network, which photo."""

from __future__ import annotations

from typing import Any

import streamlit as st

from fovea.engine.errors import FoveaError
from fovea.models.home import home
from fovea.pages.ui import reads, state
from fovea.pages.ui.links import photo_url
from fovea.pages.ui.text import escaped, show_error

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
        help="Type to search: the bundled network, those registered with `python -m engine networks add`, "
        "and torchvision's. `@random` stands for untrained weights.",
        on_change=lambda: change(network=st.session_state["picker:network"], layer="", unit=""),
    )


def network_title(name: str) -> str:
    """A network's name as people read it."""
    if name == "fovea":
        return "fovea (bundled)"
    family, _, rest = name.partition(":")
    if not rest:
        return name
    architecture, _, weights = rest.partition("@")
    return f"{architecture} · {weights} weights" if weights == "random" else f"{architecture} · {weights or family}"


def change(**values: str) -> None:
    """Choose a network or a photo: the runs shown on the pages belong to the old one, so they are let go."""
    for key in [key for key in st.session_state if str(key).startswith("shown:")]:
        del st.session_state[key]
    if "run" in st.query_params:
        del st.query_params["run"]
    state.choose(**values)


def photo_title(reference: str) -> str:
    """A photo's name as people read it."""
    from fovea.engine.data.photos import photo_name
    from fovea.engine.data.samples import SAMPLES

    kind, _, name = reference.partition(":")
    if kind == "sample":
        return SAMPLES[name].title if name in SAMPLES else name
    return photo_name(reference)


def photo_picker() -> None:
    """The current photo's picture, and the dialog that changes it."""
    reference = str(st.session_state["shell:photo"])
    if state.PHOTO.fullmatch(reference):
        title = photo_title(reference)
        st.html(
            f'<div class="fovea-current"><img src="{escaped(photo_url(reference, 200))}" alt="">'
            f"<span>{escaped(title)}</span></div>"
        )
    words = "A sample, an upload, or an item of a data set."
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
                change(photo=reference)
                st.rerun()


def _samples() -> None:
    from fovea.engine.data.samples import SAMPLES

    _thumbnails([f"sample:{name}" for name, sample in SAMPLES.items() if name == sample.picture], "sample")
    st.caption("Whole pictures, as they were before the crop")
    _thumbnails([f"sample:{name}" for name, sample in SAMPLES.items() if name != sample.picture], "sample")


def kept_photos(limit: int = 8) -> list[str]:
    """The newest photos that were uploaded here."""
    folder = home() / "photos"
    files = sorted(folder.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True) if folder.is_dir() else []
    found = [f"photo:{path.stem}" for path in files if path.suffix != ".name"]
    return [reference for reference in found if state.PHOTO.fullmatch(reference)][:limit]


def _upload() -> None:
    from fovea.engine.data.photos import keep_photo

    given = st.file_uploader(
        "A photo of yours",
        type=UPLOAD_TYPES,
        max_upload_size=20,
        help="At most 20 MB and 50 megapixels. It stays on this machine, in Fovea's own folder.",
    )
    if given is not None:
        try:
            reference = keep_photo(given.getvalue(), given.name)
        except FoveaError as error:
            show_error(error)
        else:
            change(photo=reference)
            st.rerun()
    earlier = kept_photos()
    if earlier:
        st.caption("Uploaded before")
        _thumbnails(earlier, "kept")


def _dataset_item() -> None:
    from fovea.engine.data.catalogue import open_dataset
    from fovea.engine.data.photos import keep_photo

    name = st.selectbox("Data set", reads.known_datasets(), key="picker:dataset")
    try:
        dataset: Any = open_dataset(name)
        count = len(dataset)
        page = st.number_input("Page", 1, max(1, -(-count // 12)), 1, help=f"{count:,} images, twelve a page")
        columns = st.columns(4)
        for place, index in enumerate(range((page - 1) * 12, min(page * 12, count))):
            with columns[place % 4]:
                try:
                    st.image(dataset.thumbnail(index, 240), width="stretch")
                except FoveaError as error:
                    show_error(error)
                    continue
                if st.button("Take this", key=f"item:{name}:{index}", width="stretch", help=str(dataset.keys[index])):
                    change(photo=keep_photo(dataset.photo(index), str(dataset.keys[index])))
                    st.rerun()
    except FoveaError as error:
        show_error(error)
