"""A list file: one image a line, with its label if there is one. What was taken for what is told in the set's notes."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path, PurePosixPath

from fovea.engine.data.dataset import Dataset
from fovea.engine.data.list_reader import LISTS, ListReader
from fovea.engine.data.source import Source


class ListDataset(Dataset):
    """The images that a text or table file names, one a line, with an optional label column.

    Paths are taken from the list's own folder. How encoding, separator, header and columns are found out is said in
    `ListReader`. Columns that are neither path nor label are kept as `attributes`. An image that is named again gets
    the key `PATH#2`. Raises DatasetError.
    """

    def __init__(self, file: Path, name: str = "") -> None:
        self.root = file.parent
        self.file = file
        reader = ListReader(file)
        keys: list[str] = []
        labels: list[str] = []
        attributes: dict[str, list[str]] = {column: [] for column in reader.attributes}
        self._files: list[str] = []
        seen: Counter[str] = Counter()
        for path, label, others in reader.rows():
            seen[path] += 1
            self._files.append(path)
            keys.append(PurePosixPath(path).as_posix() + (f"#{seen[path]}" if seen[path] > 1 else ""))
            labels.append(sys.intern(label))
            for values, value in zip(attributes.values(), others, strict=True):
                values.append(sys.intern(value))
        super().__init__(name or file.name, keys, labels if any(labels) else None)
        self.attributes, self.notes = attributes, reader.notes

    def path(self, index: int) -> Path:
        return self.root / Path(self._files[index]).expanduser()


SOURCE = Source(
    title=f"a list ({', '.join(LISTS)})",
    takes=lambda path: path.suffix.lower() in LISTS,
    open=ListDataset,
)
