"""Sets of images: a folder, a list file, a registered name, or `sample`, which is always there.

Each image has a stable key; an unreadable one is skipped, counted and listed, never fatal. Scanning reads names
only, so that a folder of a million images opens in seconds; frames are decoded a few ahead, in order.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import os
import re
import sys
import tomllib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fovea.engine.data.image import SUFFIXES, decoder, open_photo, shown, thumbnail
from fovea.engine.data.samples import sample_pictures
from fovea.engine.errors import DatasetError, ImageError, UnknownNameError, unknown
from fovea.models.card import Preprocessing
from fovea.models.home import home, write_whole

SAMPLE = "sample"
"""The data set that needs nothing: crops of the sample photos."""

LISTS = (".txt", ".csv", ".tsv")
PATH_COLUMNS = ("path", "file", "filename", "image", "photo", "key")
LABEL_COLUMNS = ("label", "class", "target", "category")
TRIES = 1000
"""So many images in a row are tried before a data set counts as broken."""


class Unreadable(NamedTuple):
    """An image that was skipped: its key, and the one line that says why."""

    key: str
    reason: str


class Dataset:
    """Images with stable keys, and labels if there are any.

    `keys`: one posix-style text an image, unique, in sorted (folder) or given (list) order. `labels`: one an
    image, "" where an image has none; or None where the set has no labels at all. `name`: `sample`, the
    registered name, or the last part of the path; `named`: it is not a path.
    """

    def __init__(self, name: str, keys: list[str], labels: list[str] | None) -> None:
        self.name = name
        self.named = False
        self.keys = keys
        self.labels = labels
        self.decoder = decoder()

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"<data set {self.name}: {len(self):,} images>"

    def path(self, index: int) -> Path | None:
        """The image's file, or None for a crop."""
        raise NotImplementedError

    def photo(self, index: int) -> Image.Image:
        """The image, RGB and upright, at its own size. Raises ImageError, one line, if it cannot be read."""
        path = self.path(index)
        assert path is not None
        return open_photo(path)

    def label(self, index: int) -> str:
        """The image's label, "" without one."""
        return self.labels[index] if self.labels is not None else ""

    @property
    def classes(self) -> list[str]:
        """The different labels, sorted."""
        return sorted({label for label in self.labels or () if label})

    @functools.cached_property
    def _positions(self) -> dict[str, int]:
        return {key: index for index, key in enumerate(self.keys)}

    def index_of(self, key: str) -> int:
        """The position of the image with that key. Raises UnknownNameError."""
        try:
            return self._positions[key]
        except KeyError:
            near = key.rsplit("/", 1)[-1]
            some = [k for k in self.keys if near in k][:5] or self.keys[:200]
            raise unknown("image", shown(key), some, f"data set {self.name}") from None

    def thumbnail(self, index: int, size: int = 160) -> Image.Image:
        """The image with its longer side at most `size` pixels. Raises ImageError."""
        return thumbnail(self.photo(index), size)

    def frame(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """The image as the network sees it, uint8 (H, W, C). Raises ImageError."""
        return preprocessing.frame(self.photo(index))

    def reference(self, index: int) -> str:
        """What `open_photo` takes to read this image: `item:NAME/KEY`, or its path where the set has no name."""
        if self.named:
            return f"item:{self.name}/{self.keys[index]}"
        return str(self.path(index))

    def _stat(self, index: int) -> tuple[int, int]:
        """(size in bytes, time of change in nanoseconds) of the file; zeros when it is gone."""
        path = self.path(index)
        try:
            found = os.stat(path) if path is not None else None
        except OSError:
            found = None
        return (found.st_size, found.st_mtime_ns) if found else (0, 0)

    @functools.cached_property
    def _manifest(self) -> str:
        digest = hashlib.sha256()
        for index, key in enumerate(self.keys):
            size, changed = self._stat(index)
            digest.update(f"{key}\0{size}\0{changed}\0{self.label(index)}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def manifest_sha256(self) -> str:
        """What identifies the set's content: the sha256 over every image's key, size, time of change and label."""
        return self._manifest

    def frames(
        self,
        preprocessing: Preprocessing,
        indices: Iterable[int],
        *,
        threads: int = 2,
        unreadable: list[Unreadable] | None = None,
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(index, frame uint8 (H, W, C)) of the readable images among `indices`, in their order.

        `threads` decode ahead; at most 4 frames a thread wait, so memory stays flat however many images come.
        What cannot be read is skipped and appended to `unreadable`.
        """
        threads = max(1, threads)
        wanted = iter(indices)
        waiting: deque[tuple[int, Future[NDArray[np.uint8]]]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        try:
            for index in wanted:
                waiting.append((index, pool.submit(self.frame, index, preprocessing)))
                if len(waiting) < 4 * threads:
                    continue
                yield from self._settled(*waiting.popleft(), unreadable)
            while waiting:
                yield from self._settled(*waiting.popleft(), unreadable)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _settled(
        self, index: int, future: Future[NDArray[np.uint8]], unreadable: list[Unreadable] | None
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        try:
            yield index, future.result()
        except ImageError as error:
            if unreadable is not None:
                unreadable.append(Unreadable(self.keys[index], str(error)))

    def require_readable(self) -> None:
        """Raise DatasetError if the set is empty, or if none of its first thousand images can be read."""
        if not self.keys:
            raise DatasetError(
                f"data set {self.name} has no images: it needs files such as .jpg, .png or .webp, "
                f"nested or not, or a list of them"
            )
        reason = ""
        for index in range(min(len(self), TRIES)):
            try:
                self.photo(index)
                return
            except ImageError as error:
                reason = reason or str(error)
        tried = f"none of its {len(self):,} images" if len(self) <= TRIES else f"none of its first {TRIES:,} images"
        raise DatasetError(f"data set {self.name}: {tried} can be read; the first: {reason}")


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
        for path, label in _listed(file):
            seen[path] += 1
            self._files.append(path)
            keys.append(PurePosixPath(path).as_posix() + (f"#{seen[path]}" if seen[path] > 1 else ""))
            labels.append(sys.intern(label))
        super().__init__(name or file.name, keys, labels if any(labels) else None)

    def path(self, index: int) -> Path:
        return self.root / Path(self._files[index]).expanduser()


class SampleDataset(Dataset):
    """Crops of the sample photos that never overlap, at several scales, labelled by their photo.

    Each picture is laid out in square blocks of half its shorter side; by turns a block stays whole or is cut
    into 2 × 2 or 3 × 3 crops. No pixel is in two crops, so nine best patches are never nine copies.
    """

    SMALLEST = 64

    def __init__(self) -> None:
        self._boxes: list[tuple[str, tuple[int, int, int, int]]] = []
        keys: list[str] = []
        for picture, sample in sample_pictures().items():
            with Image.open(sample.path) as header:
                size = header.size
            for box in _crops(size, self.SMALLEST):
                self._boxes.append((picture, box))
                keys.append(f"{picture}/x{box[0]}-y{box[1]}-s{box[2] - box[0]}")
        super().__init__(SAMPLE, keys, [picture for picture, _ in self._boxes])

    def path(self, index: int) -> None:
        return None

    def photo(self, index: int) -> Image.Image:
        picture, box = self._boxes[index]
        return _sample_picture(picture).crop(box)

    def _stat(self, index: int) -> tuple[int, int]:
        """The pictures come with the packages: their size tells their content, and an install's date nothing."""
        picture, _ = self._boxes[index]
        return sample_pictures()[picture].path.stat().st_size, 0


@functools.lru_cache(maxsize=32)
def _sample_picture(picture: str) -> Image.Image:
    return open_photo(f"sample:{sample_pictures()[picture].name}")


def _crops(size: tuple[int, int], smallest: int) -> Iterator[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of square crops of a picture of that (width, height), none overlapping another."""
    width, height = size
    block = min(width, height) // 2
    left, top = (width % block) // 2, (height % block) // 2
    for row in range(height // block):
        for column in range(width // block):
            parts = 1 + (2 * row + column) % 3
            while parts > 1 and block // parts < smallest:
                parts -= 1
            side = block // parts
            for i in range(parts):
                for j in range(parts):
                    x, y = left + column * block + j * side, top + row * block + i * side
                    yield x, y, x + side, y + side


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


def _listed(file: Path) -> Iterator[tuple[str, str]]:
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
        if location.is_dir():
            found = FolderDataset(location, text if path is not None else "")
        elif location.suffix.lower() in LISTS:
            found = ListDataset(location, text if path is not None else "")
        else:
            raise DatasetError(
                f"{shown(location.name)} is not a data set: give a folder of images, or a list ({', '.join(LISTS)})"
            )
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
            return open_photo(root / key)
        if root is None and name != SAMPLE:
            raise unknown("data set", shown(name), known_datasets())
        found = _opened(name)
        return found.photo(found.index_of(key))
    except (UnknownNameError, DatasetError) as error:
        raise ImageError(str(error)) from None


@functools.lru_cache(maxsize=2)
def _opened(name: str) -> Dataset:
    return open_dataset(name, check=False)


# -- The names of datasets.toml ----------------------------------------------------------------------------------------


def _registry_file() -> Path:
    return home() / "datasets.toml"


def known_datasets() -> dict[str, str]:
    """Every name that can be opened and where it lies, `sample` first.

    Raises DatasetError if `datasets.toml` cannot be read.
    """
    return {SAMPLE: "crops of the sample photos", **{name: str(path) for name, path in _registered().items()}}


def _registered() -> dict[str, Path]:
    file = _registry_file()
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("datasets", {})
        return {name: Path(entry["path"]).expanduser() for name, entry in sorted(table.items())}
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise DatasetError(f'{file} cannot be read ({error!r}): each [datasets.NAME] needs path = "…"') from None


def register_dataset(name: str, path: str | Path) -> Dataset:
    """Give a folder or list file a name, for `--dataset NAME` and the pickers; returns it, opened.

    Raises DatasetError for a bad name, or if nothing in it can be read.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name) or name == SAMPLE:
        raise DatasetError(
            f"a data set's name has letters, digits, '.', '-' and '_', and is not {SAMPLE!r}: not {shown(name)!r}"
        )
    found = open_dataset(Path(path).expanduser().absolute())
    _write_registry({**_registered(), name: Path(path).expanduser().absolute()})
    found.name, found.named = name, True
    _opened.cache_clear()
    return found


def unregister_dataset(name: str) -> None:
    """Forget a name; its images stay where they are. Raises UnknownNameError."""
    known = _registered()
    if name not in known:
        raise unknown("data set", shown(name), known)
    del known[name]
    _write_registry(known)
    _opened.cache_clear()


def _write_registry(known: dict[str, Path]) -> None:
    text = "".join(
        f"[datasets.{json.dumps(name)}]\npath = {json.dumps(str(path), ensure_ascii=False)}\n\n"
        for name, path in sorted(known.items())
    )
    try:
        write_whole(_registry_file(), text.encode("utf-8"))
    except OSError as error:
        raise DatasetError(f"{_registry_file()} cannot be written ({error.strerror or error})") from None


# -- Looking at a data set as a whole ----------------------------------------------------------------------------------


@dataclass
class Inspection:
    """What a data set is made of.

    `labels`: images of each label ("" for none). `looked_at`: how many were opened; `sizes`: (width, height) of
    those that could be read, with `unreadable` for the others.
    """

    name: str
    images: int
    labels: dict[str, int]
    looked_at: int
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    unreadable: list[Unreadable] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """A few numbers and short texts for a table."""
        widths = [width for width, _ in self.sizes.elements()]
        heights = [height for _, height in self.sizes.elements()]
        facts: dict[str, Any] = {"images": self.images}
        if set(self.labels) - {""}:
            facts["labels"] = len(set(self.labels) - {""})
        facts["looked at"] = self.looked_at
        facts["unreadable"] = len(self.unreadable)
        if widths:
            facts["smallest side"] = f"{min(*widths, *heights)} px"
            facts["median size"] = f"{int(np.median(widths))} × {int(np.median(heights))} px"
        return facts


def inspect_dataset(
    dataset: Dataset, *, limit: int | None = None, threads: int = 2, progress: Callable[[int, int], None] | None = None
) -> Inspection:
    """Open every image (or `limit` of them, evenly spread) and report counts by label, sizes and what is broken."""
    wanted = spread(len(dataset), limit)
    report = Inspection(dataset.name, len(dataset), dict(Counter(dataset.labels or [""] * len(dataset))), len(wanted))

    def size(index: int) -> tuple[int, int] | Unreadable:
        try:
            return dataset.photo(index).size
        except ImageError as error:
            return Unreadable(dataset.keys[index], str(error))

    with ThreadPoolExecutor(max(1, threads)) as pool:
        for start in range(0, len(wanted), 256):
            for found in pool.map(size, wanted[start : start + 256]):
                if isinstance(found, Unreadable):
                    report.unreadable.append(found)
                else:
                    report.sizes[found] += 1
            if progress is not None:
                progress(min(start + 256, len(wanted)), len(wanted))
    return report


def spread(count: int, limit: int | None) -> Sequence[int]:
    """All of `count` indices, or `limit` of them at even distances."""
    if limit is None or limit >= count:
        return range(count)
    return [index * count // limit for index in range(limit)]


def mean_image(
    dataset: Dataset, preprocessing: Preprocessing, *, limit: int | None = 2000, threads: int = 2
) -> NDArray[np.float32]:
    """The mean of the images in the network's frame: float32 (H, W, C), 0 to 255, RGB.

    Of at most `limit` images, evenly spread. Raises DatasetError if none can be read.
    """
    height, width = preprocessing.size
    total = np.zeros((height, width, preprocessing.channels), np.float64)
    count = 0
    for _, frame in dataset.frames(preprocessing, spread(len(dataset), limit), threads=threads):
        total += frame
        count += 1
    if not count:
        raise DatasetError(f"data set {dataset.name}: none of its images can be read, so it has no mean image")
    return (total / count).astype(np.float32)


def mean_colour(
    dataset: Dataset, preprocessing: Preprocessing, *, limit: int | None = 2000, threads: int = 2
) -> NDArray[np.float32]:
    """The mean colour of the images in the network's frame: float32 (C,), 0 to 255, RGB. Raises DatasetError."""
    mean: NDArray[np.float32] = mean_image(dataset, preprocessing, limit=limit, threads=threads).mean((0, 1))
    return mean
