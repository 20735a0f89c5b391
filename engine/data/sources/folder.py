"""A folder of images, nested or not: labelled by its sub-folders, which may lie below splits such as train and val."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from fovea.engine.data.dataset import Dataset
from fovea.engine.data.pictures import SUFFIXES, shown
from fovea.engine.data.source import Source
from fovea.engine.errors import DatasetError


class FolderDataset(Dataset):
    """The images below a folder, nested or not, by path; labelled by the first sub-folder if there is one.

    Sub-folders that are all called like splits (train, val, test, …) are no labels: the folders below them are, and the
    split is kept as the attribute `split`. A sub-folder that holds everything and only folders is passed through.
    """

    def __init__(self, root: Path, name: str = "") -> None:
        self.root = root
        keys = list(_image_files(root))
        above, splits = _above_labels(keys)
        labels: list[str] | None = [sys.intern(_folder(key, above)) for key in keys]
        super().__init__(name or root.absolute().name, keys, labels if any(labels or ()) else None)
        if splits:
            self.attributes["split"] = [sys.intern(_folder(key, above - 1)) for key in keys]
            told = ", ".join(sorted(set(self.attributes["split"])))
            below = "labels are the folders below" if self.labels else "there are no labels below them"
            self.notes.append(f"its folders {told} are splits; {below}")
        elif above:
            whole = "/".join(keys[0].split("/")[:above])
            self.notes.append(f"everything lies in {whole}; labels are the folders below")

    def path(self, index: int) -> Path:
        return self.root / self.keys[index]


SPLITS = frozenset(
    {"train", "training", "trn", "val", "valid", "validation", "validate", "dev", "test", "testing", "tst", "eval"}
    | {"evaluation", "holdout", "trainval", "minival", "unseen"}
)
"""What splits are called, without digits, dashes and words such as set or data."""
_ADDED = re.compile(r"[\d\s_\-.]+|sets?|data|split|images?|imgs?|photos?|pictures?|folder|files?")


def _is_split(folder: str) -> bool:
    return _ADDED.sub("", folder.lower()) in SPLITS or folder.lower() in SPLITS


def _folder(key: str, depth: int) -> str:
    """The folder at that depth above the image, "" where there is none."""
    parts = key.split("/")
    return parts[depth] if len(parts) > depth + 1 else ""


def _above_labels(keys: list[str]) -> tuple[int, bool]:
    """How many levels of folders lie above the labels, and whether the last of these are splits."""
    above = 0
    while True:
        folders = {_folder(key, above) for key in keys}
        if folders and "" not in folders and all(_is_split(folder) for folder in folders):
            return above + 1, True
        if len(folders) != 1 or "" in folders:
            return above, False
        below = {_folder(key, above + 1) for key in keys}
        if "" in below or len(below) < 2:
            return above, False
        above += 1


def _image_files(root: Path) -> Iterator[str]:
    """The keys of all images below `root`: posix paths relative to it, sorted folder by folder, hidden ones left out.

    A folder that is a link to one of its own ancestors is not entered again. Raises DatasetError.
    """

    def walk(folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
        try:
            with os.scandir(folder or ".") as entries:
                found = sorted(
                    (entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith((".", "__MACOSX"))
                )
            status = os.stat(folder or ".")
        except OSError as error:
            if prefix:
                return
            raise DatasetError(f"folder {shown(folder)} cannot be read ({error.strerror or error})") from None
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        for name, is_folder in found:
            if is_folder:
                yield from walk(os.path.join(folder, name), f"{prefix}{name}/", (*above, here))
            elif os.path.splitext(name)[1].lower() in SUFFIXES:
                yield prefix + name

    return walk(str(root), "", ())


SOURCE = Source(title="a folder of images", takes=Path.is_dir, open=FolderDataset)
