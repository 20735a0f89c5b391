"""Class names from a file as other tools write them: text, CSV or JSON, with or without an index, in any encoding."""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fovea.models.errors import NetworkError

_split = str.split
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200e\u200f\u2060\0"))
_INDEX_WORDS = set(
    _split(
        """index idx id no nr number num class_id class_idx class_index classid classidx category_id label_id
        label_index target_id code # key"""
    )
)
_NAME_WORDS = set(
    _split(
        """name class label class_name classname category label_name labelname category_name title names classes labels
        categories human_readable display_name description target value"""
    )
)
_UNMISTAKABLE = {"class_name", "classname", "label_name", "labelname", "category_name", "class names", "class name"}
_HOLDERS = ("id2label", "label2id", "class_to_idx", "idx_to_class", "index_to_name", "classes", "class_names", "names",
            "labels", "categories")  # fmt: skip
"""Under these keys other tools keep the class names in a larger JSON file."""
_SYNSET = re.compile(r"n\d{8}")


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names in the order of the network's scores.

    One name a line; `0,cat`, `0 cat`, `0: cat` or `cat,0`, put into the order of their indices (from 0 or 1); a table
    with a header; or JSON: a list, index to name, name to index. Raises NetworkError for a missing, empty or unreadable
    file and for indices with gaps.
    """
    try:
        text = _decoded(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise NetworkError(f"class names cannot be read from {path}: {type(error).__name__}") from None
    names = _from_data(text, path) if text.lstrip()[:1] in ("{", "[") else None
    if names is None:
        names = _from_lines([line.strip() for line in text.splitlines() if line.strip()], path)
    if not names:
        raise NetworkError(f"{path} holds no class names: write one name on each line")
    return tuple(names)


def class_notes(names: Sequence[str]) -> list[str]:
    """What somebody who gave these class names should know: names that occur twice, numbers that are indices too."""
    notes = []
    places: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        places.setdefault(name, []).append(index)
    twice = {name: indices for name, indices in places.items() if len(indices) > 1}
    if twice:
        some = "; ".join(f"{name!r} (classes {', '.join(map(str, at))})" for name, at in list(twice.items())[:3])
        more = f"; and {len(twice) - 3} more" if len(twice) > 3 else ""
        notes.append(f"Some classes bear the same name: {some}{more}. The name alone means the first of them.")
    both = [name for i, name in enumerate(names) if name.isdecimal() and int(name) != i and int(name) < len(names)]
    if both:
        notes.append(
            f"Some classes are called by numbers that are indices of other classes, such as {both[0]!r}: a target or a "
            f"label means the class of that name. #{both[0]} means the class with that index."
        )
    return notes


def _decoded(data: bytes) -> str:
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
    ):  # fmt: skip
        if data.startswith(mark):
            return data.decode(encoding).translate(_INVISIBLE)
    if b"\0" in data[:200]:
        # UTF-16 without its mark: the zeros are the high bytes.
        return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le").translate(_INVISIBLE)
    try:
        return data.decode("utf-8").translate(_INVISIBLE)
    except UnicodeDecodeError:
        return data.decode("cp1252")


# --- JSON ----------------------------------------------------------------------------------------------------


def _from_data(text: str, path: Path) -> list[str] | None:
    """The names in JSON, or in a Python literal, which ImageNet's best known list is; None if it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        names = _names_in(value, path)
        if names is None:
            raise NetworkError(
                f"{path} holds no class names: expected a list of names, or a table from index to name or name to index"
            )
        return names
    return None


def _names_in(value: Any, path: Path) -> list[str] | None:
    if isinstance(value, Mapping):
        for key in _HOLDERS:
            if isinstance(value.get(key), Mapping | list):
                return _names_in(value[key], path)
        pairs = list(value.items())
        if pairs and all(_whole(key) is not None for key, _ in pairs):
            return _ordered([(int(str(key)), _name_of(item)) for key, item in pairs], path)
        if pairs and all(_whole(item) is not None for _, item in pairs):
            return _ordered([(int(str(item)), str(key)) for key, item in pairs], path)
        return None
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(item, Mapping) for item in value):
        keys = ("id", "index", "class_id", "idx", "label_id")
        number = next((key for key in keys if all(key in item for item in value)), None)
        if number and all(_whole(item[number]) is not None for item in value):
            # Numbers with gaps, as COCO's, are no indices: the order is the list's.
            indices = sorted(int(item[number]) for item in value)
            if indices in (list(range(len(value))), list(range(1, len(value) + 1))):
                return _ordered([(int(item[number]), _name_of(item)) for item in value], path)
    return [_name_of(item) for item in value]


def _name_of(item: Any) -> str:
    """A class's name where a list holds more of it: Keras' `["n01440764", "tench"]`, or a table with a name."""
    if isinstance(item, Mapping):
        found = next((item[key] for key in ("name", "label", "class_name", "title", "class") if key in item), None)
        return str(found if found is not None else next(iter(item.values()), ""))
    if isinstance(item, list | tuple) and item:
        return str(item[-1])
    return str(item)


def _whole(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    return int(value) if isinstance(value, int) or (isinstance(value, str) and value.strip().isdecimal()) else None


def _ordered(pairs: Sequence[tuple[int, str]], path: Path) -> list[str]:
    """Names by their indices, which run from 0 or from 1 without a gap. Raises NetworkError."""
    pairs = sorted(pairs)
    start = 1 if pairs[0][0] == 1 else 0
    for expected, (index, name) in enumerate(pairs, start):
        if index != expected:
            what = f"two names for index {index}" if index < expected else f"no name for index {expected}"
            raise NetworkError(f"{path} has {what} ({name!r} has {index}): give each class one index, from 0 on")
    return [name.strip() for _, name in pairs]


# --- lines ---------------------------------------------------------------------------------------------------


def _from_lines(lines: list[str], path: Path) -> list[str]:
    table = _from_table(lines, path)
    if table is not None:
        return table
    lines = _without_header(lines, path)
    leading = [re.fullmatch(r"(\d+)\s*[,;:\t| ]\s*(.+?)[,;]?", line) for line in lines]
    trailing = [re.fullmatch(r"(.+?)\s*[,;:\t| ]\s*(\d+)[,;]?", line) for line in lines]
    for matches, at, name in ((leading, 1, 2), (trailing, 2, 1)):
        pairs = [(int(m[at]), _bare(m[name])) for m in matches if m is not None]
        if len(pairs) == len(lines) and _is_index(pairs):
            return _ordered(pairs, path)
    return [_bare(line) for line in lines]


def _is_index(pairs: Sequence[tuple[int, str]]) -> bool:
    """Whether numbers beside names count them: each once, from 0 or 1, and the names differ without them.

    "class 0, class 1" and "1 euro, 2 euro" are names.
    """
    indices = sorted(index for index, _ in pairs)
    counted = indices in (list(range(len(pairs))), list(range(1, len(pairs) + 1)))
    return counted and (len(pairs) == 1 or len({name for _, name in pairs}) > 1)


def _without_header(lines: list[str], path: Path) -> list[str]:
    """The lines without a first one that only says what stands below."""
    if len(lines) < 2:
        return lines
    words = [word.strip().strip("\"'").lower() for word in re.split(r"[,;:\t| ]", lines[0]) if word.strip()]
    known = [word in _INDEX_WORDS or word in _NAME_WORDS for word in words]
    rest_counted = all(re.match(r"\d+\s*[,;:\t| ]\s*\S|.*\S\s*[,;:\t| ]\s*\d+$", line) for line in lines[1:])
    first = lines[0].strip("\"'").lower()
    is_header = (len(words) > 1 and all(known) and rest_counted) or first in _UNMISTAKABLE
    is_header |= path.suffix.lower() in (".csv", ".tsv") and len(words) == 1 and words[0] in _NAME_WORDS
    return lines[1:] if is_header else lines


def _from_table(lines: list[str], path: Path) -> list[str] | None:
    """The names of a table: of the column that its header calls so, or the last of more than two; None if none."""
    if len(lines) < 2:
        return None
    for delimiter in (",", ";", "\t", "|"):
        rows = [[_bare(cell) for cell in row] for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True)]
        width = len(rows[0])
        if width < 2 or any(len(row) != width for row in rows):
            continue
        header = [cell.lower().replace(" ", "_") for cell in rows[0]]
        header = header if _all_words(header) else [""] * width
        index = next((i for i, cell in enumerate(header) if cell in _INDEX_WORDS), None)
        name = next(
            (i for words in _preferred() for i, cell in enumerate(header) if cell in words and i != index), None
        )
        body = rows[1:]
        if name is not None and index is None and width == 2:
            index = next((i for i in range(2) if i != name and all(row[i].isdecimal() for row in body)), None)
        if name is not None and index is not None and all(row[index].isdecimal() for row in body):
            return _ordered([(int(row[index]), row[name]) for row in body], path)
        if name is not None and (index is None or not header[index]):
            return [row[name] for row in body]
        if rows[0][0].isdecimal():
            pairs = [(int(row[0]), _rest(row[1:], delimiter)) for row in rows if row[0].isdecimal()]
            if len(pairs) == len(rows) and _is_index(pairs):
                return _ordered(pairs, path)
    return None


def _preferred() -> tuple[set[str], ...]:
    return {"name", "class_name", "classname", "label_name", "category_name", "display_name"}, _NAME_WORDS


def _all_words(header: Sequence[str]) -> bool:
    return all(re.fullmatch(r"[a-z_#][\w#]*", cell) for cell in header)


def _rest(cells: Sequence[str], delimiter: str) -> str:
    """What stands behind the index: the name, which may itself have the delimiter; a synset before it is left out."""
    cells = list(cells)
    if len(cells) > 1 and _SYNSET.fullmatch(cells[0]):
        cells = cells[1:]
    return f"{delimiter} ".join(cell for cell in cells if cell).strip()


def _bare(text: str) -> str:
    """A name without quotes around it and without the comma that a list leaves behind it."""
    text = text.strip().rstrip(",;").strip() if re.search(r"[\"'\w)][,;]$", text.strip()) else text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return text
