"""A folder of images, nested or not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from fovea.engine.data.dataset import Dataset
from fovea.engine.data.pictures import SUFFIXES, shown
from fovea.engine.data.source import Source
from fovea.engine.errors import DatasetError


class FolderDataset(Dataset):
    """The images below a folder, nested or not, by path; labelled by the first sub-folder if there is one."""

    def __init__(self, root: Path, name: str = "") -> None:
        self.root = root
        keys = list(_image_files(root))
        labels: list[str] | None = None
        if any("/" in key for key in keys):
            labels = [sys.intern(key.split("/", 1)[0]) if "/" in key else "" for key in keys]
        super().__init__(name or root.absolute().name, keys, labels)

    def path(self, index: int) -> Path:
        return self.root / self.keys[index]


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
