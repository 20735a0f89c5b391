"""Data sets by name or path: `sample`, the names in `datasets.toml`, and whatever a source takes."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path, PurePosixPath

from PIL import Image

from fovea.engine.data.dataset import Dataset
from fovea.engine.data.pictures import open_file, shown
from fovea.engine.data.sample_set import SAMPLE, SampleDataset
from fovea.engine.data.source import sources
from fovea.engine.errors import DatasetError, ImageError, UnknownNameError, unknown
from fovea.models.toml_tables import TomlTables

_TABLES = TomlTables("datasets.toml", "datasets", DatasetError)


def open_dataset(name_or_path: str | Path, *, check: bool = True) -> Dataset:
    """The data set of that name (`sample`, a registered one) or path (a folder, a .txt, .csv or .tsv list).

    Raises DatasetError if it is empty or, with `check`, only has broken images; UnknownNameError with near
    matches for a name that is not registered.
    """
    text = str(name_or_path).strip()
    if not text:
        raise DatasetError(f"expected the name or path of a data set, got nothing: try {SAMPLE}")
    registered = _registered()
    path = registered.get(text)
    if text == SAMPLE:
        found: Dataset = SampleDataset()
    else:
        location = path if path is not None else Path(text).expanduser()
        if not _exists(location):
            if path is None and "/" not in text and os.sep not in text and not location.suffix:
                raise unknown("data set", shown(text), [SAMPLE, *registered])
            called = f"data set {text}: " if path is not None else ""
            raise DatasetError(
                f"{called}no folder or list file at {shown(str(location))}: check the path, or try {SAMPLE}"
            )
        source = next((source for source in sources() if source.takes(location)), None)
        if source is None:
            titles = ", or ".join(source.title for source in sources())
            raise DatasetError(f"{shown(location.name)} is not a data set: give {titles}")
        found = source.open(location, text if path is not None else "")
    found.named = text == SAMPLE or path is not None
    if check or not found.keys:
        found.require_readable()
    return found


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def open_item(reference: str) -> Image.Image:
    """The photo that `item:NAME/KEY` names, without scanning a folder. Raises ImageError."""
    name, _, key = reference.removeprefix("item:").partition("/")
    try:
        root = _registered().get(name)
        if root is not None and root.is_dir():
            parts = PurePosixPath(key).parts
            if not parts or key.startswith("/") or ".." in parts or "\0" in key:
                raise ImageError(f"{shown(key)!r} is not the key of an image in data set {name}")
            return open_file(root / key)
        if root is None and name != SAMPLE:
            raise unknown("data set", shown(name), known_datasets())
        found = _opened(name)
        return found.photo(found.index_of(key))
    except (UnknownNameError, DatasetError) as error:
        raise ImageError(str(error)) from None


@functools.lru_cache(maxsize=2)
def _opened(name: str) -> Dataset:
    return open_dataset(name, check=False)


def known_datasets() -> dict[str, str]:
    """Every name that can be opened and where it lies, `sample` first.

    Raises DatasetError if `datasets.toml` cannot be read.
    """
    return {SAMPLE: "crops of the sample photos", **{name: str(path) for name, path in _registered().items()}}


def _registered() -> dict[str, Path]:
    try:
        return {name: Path(str(entry["path"])).expanduser() for name, entry in sorted(_TABLES.read().items())}
    except (KeyError, TypeError):
        raise DatasetError(f'{_TABLES.path} cannot be read: each [datasets.NAME] needs path = "…"') from None


def register_dataset(name: str, path: str | Path) -> Dataset:
    """Give a folder or list file a name, for `--dataset NAME` and the pickers; returns it, opened.

    Raises DatasetError for a bad name, or if nothing in it can be read.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name) or name == SAMPLE:
        raise DatasetError(
            f"a data set's name has letters, digits, '.', '-' and '_', and is not {SAMPLE!r}: not {shown(name)!r}"
        )
    found = open_dataset(Path(path).expanduser().absolute())
    _TABLES.put(name, {"path": str(Path(path).expanduser().absolute())})
    found.name, found.named = name, True
    _opened.cache_clear()
    return found


def unregister_dataset(name: str) -> None:
    """Forget a name; its images stay where they are. Raises UnknownNameError."""
    known = _registered()
    if name not in known:
        raise unknown("data set", shown(name), known)
    _TABLES.remove(name)
    _opened.cache_clear()
