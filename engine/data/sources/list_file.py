"""A list file: one image a line, with its label if there is one."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fovea.engine.data.dataset import Dataset
from fovea.engine.data.pictures import shown
from fovea.engine.data.source import Source
from fovea.engine.errors import DatasetError

LISTS = (".txt", ".csv", ".tsv")

PATH_COLUMNS = ("path", "file", "filename", "image", "photo", "key")

LABEL_COLUMNS = ("label", "class", "target", "category")


class ListDataset(Dataset):
    """The images that a text or table file names, one a line, with an optional label column.

    Paths are taken from the list's own folder. In .csv and .tsv a first line with a column called path, file,
    filename, image, photo or key is a header, and a column called label, class, target or category the label;
    without a header the first column is the path and the second the label. In .txt a line is a path, and what
    follows a tab is its label. An image that is named again gets the key `PATH#2`.
    """

    def __init__(self, file: Path, name: str = "") -> None:
        self.root = file.parent
        self.file = file
        keys: list[str] = []
        labels: list[str] = []
        self._files: list[str] = []
        seen: Counter[str] = Counter()
        for path, label in _lines(file):
            seen[path] += 1
            self._files.append(path)
            keys.append(PurePosixPath(path).as_posix() + (f"#{seen[path]}" if seen[path] > 1 else ""))
            labels.append(sys.intern(label))
        super().__init__(name or file.name, keys, labels if any(labels) else None)

    def path(self, index: int) -> Path:
        return self.root / Path(self._files[index]).expanduser()


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """(path, label) of every line of a list file. Raises DatasetError."""
    try:
        with open(file, encoding="utf-8-sig", newline="", errors="surrogateescape") as lines:
            if file.suffix.lower() == ".txt":
                for line in lines:
                    path, _, label = line.rstrip("\r\n").partition("\t")
                    if path.strip() and not path.startswith("#"):
                        yield path.strip(), label.strip()
                return
            rows = csv.reader(lines, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
            where, what = 0, 1
            for number, row in enumerate(rows):
                cells = [cell.strip() for cell in row]
                if number == 0:
                    header = [cell.lower() for cell in cells]
                    named = [header.index(column) for column in PATH_COLUMNS if column in header]
                    if named:
                        labelled = [header.index(column) for column in LABEL_COLUMNS if column in header]
                        where, what = named[0], (labelled[0] if labelled else len(row))
                        continue
                if len(cells) > where and cells[where]:
                    yield cells[where], cells[what] if len(cells) > what else ""
    except (OSError, csv.Error) as error:
        raise DatasetError(f"list {shown(file.name)} cannot be read ({error})") from None


SOURCE = Source(
    title=f"a list ({', '.join(LISTS)})",
    takes=lambda path: path.suffix.lower() in LISTS,
    open=ListDataset,
)
