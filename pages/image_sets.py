"""Data sets: what there is to mine, with counts, labels, pictures and broken images; add and remove."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st
from PIL import ImageOps

from fovea.engine.data.catalogue import known_datasets, open_dataset
from fovea.engine.data.dataset import Dataset
from fovea.engine.data.downloads import DOWNLOADS
from fovea.engine.data.sample_set import SAMPLE
from fovea.engine.data.survey import inspect_dataset, mean_image
from fovea.engine.errors import DatasetError, FoveaError
from fovea.models.home import home
from fovea.pages.ui import acts, state
from fovea.pages.ui.cards import card_or_wait
from fovea.pages.ui.links import loopback_only
from fovea.pages.ui.nav import page
from fovea.pages.ui.paging import choose_page
from fovea.pages.ui.text import errors_as_lines, escaped, plain, show_error

TILES, TILE = 32, 114
"""Pictures a page, and their width in pixels."""

AVERAGED = 1000
"""So many images, at most, are averaged here."""

LOOKED_AT = 1000
"""So many images are opened, at most, when broken ones are looked for here; the command line opens all."""


@st.cache_resource(show_spinner="Listing the images…", ttl=60, max_entries=4)
def _opened(root: str, name: str, path: str) -> Dataset:
    """A data set's list of images, kept for a minute: a folder of a million takes seconds to list."""
    return open_dataset(name, check=False)


def choose(known: dict[str, str]) -> str:
    """The data set that is shown."""
    if st.session_state.get("sets:name") not in known:
        st.session_state["sets:name"] = SAMPLE
    return str(
        st.selectbox(
            "Data set",
            list(known),
            key="sets:name",
            format_func=lambda name: f"{name}: {known[name]}",
            help="The set `sample` is always there. Register others on the tab Add or with "
            "`python -m engine datasets add`.",
            persist_state="session",
        )
    )


def facts(dataset: Dataset) -> None:
    """How many images, and how many of each label."""
    labels = Counter(label for label in dataset.labels or () if label)
    words = [f"**{len(dataset):,}** images", f"**{len(labels):,}** labels" if labels else "no labels"]
    bare = sum(1 for label in dataset.labels or () if not label)
    if labels and bare:
        words.append(f"{bare:,} without one")
    st.markdown(" · ".join(words))
    for note in dataset.notes:
        st.caption(plain(f"When it was read, {note}."))
    if labels:
        with st.expander("Images by label"):
            rows = sorted(labels.items(), key=lambda item: (-item[1], item[0]))
            st.dataframe(
                pd.DataFrame(rows, columns=["label", "images"]),
                hide_index=True,
                key="sets:labels",
                column_config={
                    "images": st.column_config.ProgressColumn(
                        max_value=max(labels.values()), format="%d", color="primary"
                    )
                },
            )


def pictures(dataset: Dataset) -> None:
    """A page of thumbnails; one of them becomes the photo that all methods look at."""
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    label = bar.selectbox(
        "Label",
        dataset.classes,
        index=None,
        placeholder="All",
        key="sets:label",
        disabled=not dataset.classes,
        width=260,
    )
    wanted = [index for index in range(len(dataset)) if label is None or dataset.label(index) == label]
    _, part = choose_page(bar, len(wanted), TILES, key=f"sets:page:{label}", always=True)
    row = st.container(horizontal=True, gap="small")
    for index in wanted[part]:
        with row.container(width=TILE, gap="xsmall"):
            _tile(dataset, index)


def _tile(dataset: Dataset, index: int) -> None:
    key = dataset.keys[index]
    try:
        st.image(ImageOps.fit(dataset.thumbnail(index, 320), (200, 200)), width="stretch", output_format="JPEG")
    except FoveaError as error:
        show_error(error)
        return
    if st.button("Look at it", key=f"sets:item:{index}", width="stretch", help=plain(key), type="tertiary"):
        with errors_as_lines():
            state.change(photo=acts.keep_photo(dataset.photo(index), key))
            st.switch_page(page("home"))


def broken(dataset: Dataset, name: str) -> None:
    """Open images and list those that cannot be read."""
    some = len(dataset) > LOOKED_AT
    label = f"Open {LOOKED_AT:,} of them, evenly spread" if some else "Open every image"
    if st.button(
        label, icon=":material/troubleshoot:", key="sets:inspect", help="This finds images that cannot be read."
    ):
        acts.compute_here()
        bar = st.progress(0.0, text="Opening images")
        inspection = inspect_dataset(
            dataset,
            limit=LOOKED_AT,
            progress=lambda done, total: bar.progress(done / total, text=f"Opened {done:,} of {total:,}"),
        )
        bar.empty()
        st.session_state[f"sets:inspected:{name}"] = inspection
    seen = st.session_state.get(f"sets:inspected:{name}")
    if seen is None:
        return
    st.caption(plain(" · ".join(f"{fact} {value}" for fact, value in seen.summary().items())))
    if seen.unreadable:
        st.dataframe(
            pd.DataFrame(seen.unreadable, columns=["image", "why it is skipped"]),
            hide_index=True,
            key="sets:unreadable",
        )
    else:
        st.success("All of them can be read.", icon=":material/check_circle:")
    if some:
        st.code(f"python -m engine datasets inspect {name}", language="bash")


def mean(dataset: Dataset, name: str) -> None:
    """The mean image and the mean colour in the frame of the network that is chosen; occlusion can fill with it."""
    card = card_or_wait(state.network())
    if card is None:
        return
    some = f" of {AVERAGED:,} of them, evenly spread" if len(dataset) > AVERAGED else ""
    about = f"The mean is taken in the input frame of {card.title}. Occlusion can cover its window with it."
    key = f"sets:mean:{name}:{card.name}"
    if st.button("Mean image and colour", icon=":material/blur_on:", key="sets:average", help=about):
        acts.compute_here()
        with st.spinner(f"Taking the mean{some or ' of all images'}"):
            st.session_state[key] = mean_image(dataset, card.preprocessing, limit=AVERAGED)
    average = st.session_state.get(key)
    if average is None:
        return
    colour = np.rint(average.mean((0, 1))).astype(int).tolist()
    picture = np.rint(average).astype(np.uint8)
    st.image(picture if picture.shape[2] > 1 else picture[..., 0], width=320)
    swatch = "rgb({}, {}, {})".format(*(colour * 3)[:3] if len(colour) == 1 else colour[:3])
    square = f"display:inline-block;width:1.1em;height:1.1em;vertical-align:middle;background:{swatch}"
    told = escaped(f"mean colour {' · '.join(map(str, colour))}, of 255{some}")
    st.html(f'<span style="{square}"></span> {told}')


def remove(name: str) -> None:
    """Ask, then forget a registered data set's name."""
    if name == SAMPLE:
        return
    with st.popover("Remove", icon=":material/delete:"):
        st.markdown(f"Forget the name **{plain(name)}**? Its images stay where they are.")
        if st.button("Remove it", type="primary", key="sets:remove"):
            with errors_as_lines():
                acts.unregister_dataset(name)
                del st.session_state["sets:name"]
                st.rerun()


def add() -> None:
    """Register a folder or list: here where the server serves this machine alone, else from the command line."""
    if loopback_only():
        with st.form("sets:add", border=False):
            left, right = st.columns([1, 3])
            name = left.text_input(
                "Name", placeholder="birds", help="A name may have letters, digits, '.', '-' and '_'."
            )
            path = right.text_input(
                "Folder, or list file",
                placeholder="/path/to/images",
                help="Give a folder of images, whose sub-folders are labels, or a .csv, .tsv or .txt list with a path "
                "and, if there is one, a label on each line.",
            )
            if st.form_submit_button("Add the data set", type="primary", icon=":material/add:"):
                with errors_as_lines():
                    _register(name, path)
    else:
        st.markdown("This server listens to other machines, so register a folder from its command line:")
        st.code("python -m engine datasets add birds /path/to/images", language="bash")
    st.markdown("These **public sets** are fetched by one command each:")
    st.dataframe(
        pd.DataFrame(
            [
                (
                    each.title,
                    each.images,
                    each.megabytes,
                    each.licence,
                    f"python -m engine datasets download {each.name}",
                )
                for each in DOWNLOADS.values()
            ],
            columns=["set", "images", "MB", "licence", "command"],
        ),
        hide_index=True,
        key="sets:public",
    )


def _register(name: str, path: str) -> None:
    if not path.strip():
        raise DatasetError("A folder or a list file must be given.")
    if name.strip() in known_datasets():
        raise DatasetError(
            f"A data set named {name.strip()!r} is there already. Take another name, or remove it first."
        )
    with st.spinner("Opening the data set"):
        acts.register_dataset(name.strip(), Path(path.strip()))
    st.session_state["sets:next"] = name.strip()
    st.session_state["sets:told"] = f"{name.strip()} is registered. You can look at it on the tab Look, or mine it."
    st.rerun()


st.title("Data sets", anchor=False)
with errors_as_lines():
    known = known_datasets()
    if "sets:next" in st.session_state:
        st.session_state["sets:name"] = st.session_state.pop("sets:next")
    name = choose(known)
    shown, adding = st.tabs(["Look", "Add"], key="sets:tab", on_change="rerun")
    if told := st.session_state.pop("sets:told", ""):
        st.success(plain(told), icon=":material/check_circle:")
    with shown, errors_as_lines():
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.subheader(plain(name), anchor=False)
            remove(name)
        dataset = _opened(str(home()), name, known[name])
        facts(dataset)
        pictures(dataset)
        broken(dataset, name)
        mean(dataset, name)
    with adding, errors_as_lines():
        add()
