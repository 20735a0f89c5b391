"""Lists of images as other tools write them: the encoding, the separator, the header and the columns are found out.

What is found out is decided on the first lines and told in one note; the lines themselves are streamed.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fovea.engine.data.pictures import SUFFIXES, shown
from fovea.engine.errors import DatasetError

LISTS = (".txt", ".csv", ".tsv")
LOOKED_AT = 200
"""So many lines decide what the separator and the columns are."""
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
PATHS = (
    *("path", "file", "filename", "filepath", "image", "imagepath", "imagefile", "imagename", "imagefilename"),
    *("photo", "picture", "img", "imgpath", "key", "name", "uri", "location"),
)
LABELS = (
    *("label", "labels", "labelname", "class", "classname", "category", "categoryname", "target", "targetname"),
    *("species", "groundtruth", "gt", "y", "classid", "labelid", "categoryid", "targetid", "classindex", "labelindex"),
    *("classidx", "labelidx", "targetidx", "categoryidx"),
)
"""Columns by which tools name image and label, in lower case without spaces, dashes and underscores; first ones win."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NAMED_IMAGE = re.compile(
    rf"(?P<path>.*?(?:{'|'.join(re.escape(suffix) for suffix in sorted(SUFFIXES, key=len, reverse=True))}))"
    r"(?:\s*[\t ,;|]\s*(?P<label>.*))?",
    re.IGNORECASE,
)


class ListReader:
    """How one list is to be read, and its rows.

    In .txt a line is a path; what follows the image's suffix, behind a tab, space, comma or semicolon, is the label.
    A .txt whose first line names columns is a table. In tables the separator is the one by which the lines fall into
    equally many cells; the first line is a header where it names columns and no image; the path is the column whose
    cells are image files (a known name decides between two), the label the column that a known name calls so, or the
    second of two where nothing has a name. `attributes` are the other columns. Raises DatasetError, one line, where
    columns cannot be told apart.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.encoding = _encoding(file)
        self.notes: list[str] = []
        self.attributes: list[str] = []
        self._header: list[str] = []
        self._path, self._label = 0, -1
        sample = [line for line in itertools.islice(self._lines(), LOOKED_AT) if line.strip()]
        self._separator = self._find_separator(sample)
        self._label_first = False
        if self._separator:
            table = list(csv.reader(sample, delimiter=self._separator))
            self._find_columns([[cell.strip() for cell in row] for row in table] or [[""]])
        else:
            self._look_at_lines([line for line in sample if not line.startswith("#")])
        names = [name for row in self._sample_paths(sample) for name in row]
        self._windows = any("\\" in name and not (file.parent / name).is_file() for name in names)
        if self._windows:
            self.notes.append("its paths are written with backslashes and were read with slashes")
        if self.encoding not in ("utf-8", "utf-8-sig"):
            self.notes.append(f"it is written in {self.encoding.upper()}")

    def rows(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """(path, label or "", the values of `attributes`) of every image, line by line. Raises DatasetError."""
        others = [place for place, name in enumerate(self._header) if name and place not in (self._path, self._label)]
        for cells in self._cells():
            if len(cells) > self._path and cells[self._path]:
                label = cells[self._label] if 0 <= self._label < len(cells) else ""
                values = tuple(cells[place] if place < len(cells) else "" for place in others)
                path = cells[self._path]
                yield path.replace("\\", "/") if self._windows else path, label, values

    def _cells(self) -> Iterator[list[str]]:
        if not self._separator:
            lines = (line for line in self._lines() if line.strip() and not line.startswith("#"))
            yield from (self._of_line(line) for line in itertools.islice(lines, bool(self._header), None))
            return
        rows = csv.reader(self._lines(), delimiter=self._separator)
        try:
            yield from ([cell.strip() for cell in row] for row in itertools.islice(rows, bool(self._header), None))
        except csv.Error as error:
            raise DatasetError(f"list {shown(self.file.name)} cannot be read ({error})") from None

    def _lines(self) -> Iterator[str]:
        try:
            with open(self.file, encoding=self.encoding, newline="", errors="surrogateescape") as lines:
                yield from lines
        except (OSError, UnicodeError) as error:
            raise DatasetError(f"list {shown(self.file.name)} cannot be read ({error})") from None

    def _of_line(self, line: str) -> list[str]:
        """[path, label] of one line of a plain list: the label stands behind a tab or behind the image's suffix."""
        text = line.rstrip("\r\n")
        path, tab, label = text.partition("\t")
        if not tab:
            named = _NAMED_IMAGE.fullmatch(text.strip())
            path, label = (named["path"], named["label"] or "") if named else (text, "")
            if self._label_first:
                label, _, path = path.strip().partition(" ")
        return [path.strip(), label.strip()]

    def _look_at_lines(self, lines: list[str]) -> None:
        """Whether the first line of a plain list is a header, and whether labels stand before the paths."""
        self._label = 1
        images = [bool(_NAMED_IMAGE.fullmatch(line.strip())) for line in lines]
        if lines[1:] and not images[0] and sum(images) > len(images) / 2:
            self._header = ["path", ""]
            self.notes.append(
                f"its first line, {shown(lines[0].strip(), 60)}, names no image and was taken for a header"
            )
        found = [self._of_line(line) for line in lines[bool(self._header) :]]
        there = [(self.file.parent / path).is_file() for path, _ in found]
        behind = [(self.file.parent / path.partition(" ")[2]).is_file() for path, _ in found]
        if found and not any(there) and all(behind):
            self._label_first = True
            self.notes.append("its labels stand before the paths")

    def _sample_paths(self, sample: Sequence[str]) -> Iterator[list[str]]:
        for line in sample:
            if not self._separator:
                yield self._of_line(line)[:1]
            else:
                cells = next(csv.reader([line], delimiter=self._separator), [])
                yield [cells[self._path].strip()] if len(cells) > self._path else []

    def _find_separator(self, sample: Sequence[str]) -> str:
        """The separator of a table, or "" for a list of one path a line."""
        usual = {".tsv": "\t", ".csv": ","}.get(self.file.suffix.lower(), "")
        lines = [line for line in sample if not line.startswith("#")]
        if not usual and (not lines or _NAMED_IMAGE.fullmatch(lines[0].strip())):
            return ""
        fits = [mark for mark in SEPARATORS if _is_table(sample, mark)]
        if usual in fits or not fits:
            return usual
        if usual or any(_normal(cell) in PATHS for cell in lines[0].split(fits[0])):
            self.notes.append(f"its columns are separated by {SEPARATORS[fits[0]]}")
            return fits[0]
        return ""

    def _find_columns(self, table: list[list[str]]) -> None:
        """Which column is the path, which the label, and whether the first line is a header."""
        first, rest = table[0], table[1:]
        width = max(len(row) for row in table)
        shares = [
            sum(_is_image(row[place]) for row in rest if place < len(row)) / max(1, len(rest)) for place in range(width)
        ]
        named = any(_normal(cell) in PATHS for cell in first)
        if any(_is_image(cell) for cell in first) or not (named or (rest and max(shares) > 0.5)):
            images = [place for place, cell in enumerate(first) if _is_image(cell)]
            self._path = images[0] if images else 0
            others = [place for place in range(width) if place != self._path]
            self._label = others[0] if others else -1
            return
        self._header = [*first, *[""] * (width - len(first))]
        self._path = self._path_column(shares, bool(rest))
        called = [_normal(cell) for cell in self._header]
        known = [called.index(name) for name in LABELS if name in called and called.index(name) != self._path]
        self._label = known[0] if known else -1
        places = [place for place, name in enumerate(self._header) if name and place not in (self._path, self._label)]
        self.attributes = [self._header[place] for place in places]
        told = f"of its columns {self._header[self._path]} is the image"
        told += f" and {self._header[self._label]} the label" if known else " and none a label that is known"
        if known[1:] or not known or self.attributes:
            kept = f"; kept as attributes: {', '.join(shown(name, 40) for name in self.attributes)}"
            hint = "" if known else " (call a column label to make it one)"
            self.notes.append(told + (kept if self.attributes else "") + hint)

    def _path_column(self, shares: Sequence[float], judged: bool) -> int:
        called = [_normal(cell) for cell in self._header]
        known = [called.index(name) for name in PATHS if name in called]
        images = [place for place, share in enumerate(shares) if share > 0.5] if judged else known
        both = [place for place in known if place in images]
        if both or len(images) == 1:
            return both[0] if both else images[0]
        columns = ", ".join(shown(name, 40) for name in self._header)
        if known and not images:
            return known[0]
        some = "none" if not images else " and ".join(self._header[place] for place in images)
        raise DatasetError(
            f"list {shown(self.file.name)} has the columns {columns}, and {some} of them hold image files: "
            f"call the one that names the images path"
        )


def _encoding(file: Path) -> str:
    """By the mark at its start, by the zeros of UTF-16 without one, else UTF-8."""
    try:
        with open(file, "rb") as raw:
            head = raw.read(4096)
    except OSError as error:
        raise DatasetError(f"list {shown(file.name)} cannot be read ({error.strerror or error})") from None
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if head[1::2].count(0) > len(head) // 4:
        return "utf-16-le"
    return "utf-16-be" if head[::2].count(0) > len(head) // 4 else "utf-8"


def _normal(name: str) -> str:
    return re.sub(r"[\s_\-.]+", "", name.strip().strip('"').lower())


def _is_image(cell: str) -> bool:
    return cell.strip().lower().endswith(tuple(SUFFIXES)) and len(cell.strip()) > 4


def _is_table(sample: Sequence[str], separator: str) -> bool:
    """Whether this separator cuts every line into the same number of cells, more than one."""
    try:
        widths = {len(row) for row in csv.reader(sample, delimiter=separator) if row}
    except csv.Error:
        return False
    return len(widths) == 1 and widths.pop() > 1
