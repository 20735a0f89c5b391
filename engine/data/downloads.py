"""Public image sets that one call fetches and registers: what to look at beyond the sample photos.

torchvision knows where each lies and checks its hash; nothing is fetched unless it is asked for by name.
"""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fovea.engine.data.catalogue import register_dataset
from fovea.engine.data.dataset import Dataset
from fovea.engine.errors import DatasetError, unknown
from fovea.models.home import home, write_whole

Rows = Iterable[tuple[Path, str]]


@dataclass(frozen=True)
class Download:
    """A public image set: how many images and MB it has, its licence, and how torchvision's class lists it.

    `make(datasets, root)` downloads into `root` with `torchvision.datasets` and returns a folder that is
    labelled by its sub-folders, or (file, label) of every image.
    """

    name: str
    title: str
    images: int
    megabytes: int
    licence: str
    home: str
    make: Callable[[Any, Path], Path | Rows]


def _caltech(datasets: Any, root: Path) -> Path:
    datasets.Caltech101(root, download=True)
    return root / "caltech101" / "101_ObjectCategories"


def _imagenette(datasets: Any, root: Path) -> Rows:
    for split in ("train", "val"):
        found = datasets.Imagenette(root, split=split, size="320px", download=True)
        yield from ((Path(path), found.classes[label][0]) for path, label in found._samples)


def _flowers(datasets: Any, root: Path) -> Rows:
    for split in ("train", "val", "test"):
        found = datasets.Flowers102(root, split=split, download=True)
        yield from zip(found._image_files, (found.classes[label] for label in found._labels), strict=True)


def _textures(datasets: Any, root: Path) -> Path:
    datasets.DTD(root, download=True)
    return root / "dtd" / "dtd" / "images"


def _pets(datasets: Any, root: Path) -> Rows:
    for split in ("trainval", "test"):
        found = datasets.OxfordIIITPet(root, split=split, download=True)
        yield from zip(found._images, (found.classes[label] for label in found._labels), strict=True)


DOWNLOADS: dict[str, Download] = {
    download.name: download
    for download in (
        Download(
            "imagenette",
            "Imagenette, ten ImageNet classes at 320 px",
            13_394,
            342,
            "pictures under ImageNet's terms: research and teaching, not for sale",
            "https://github.com/fastai/imagenette",
            _imagenette,
        ),
        Download(
            "caltech101",
            "Caltech-101, objects of 101 kinds",
            9_144,
            137,
            "CC BY 4.0",
            "https://data.caltech.edu/records/mzrjq-6wc02",
            _caltech,
        ),
        Download(
            "flowers102",
            "Oxford Flowers, 102 kinds",
            8_189,
            345,
            "no licence stated: pictures from the web, for research",
            "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
            _flowers,
        ),
        Download(
            "textures",
            "Describable Textures (DTD), 47 kinds",
            5_640,
            625,
            "for research",
            "https://www.robots.ox.ac.uk/~vgg/data/dtd/",
            _textures,
        ),
        Download(
            "pets",
            "Oxford-IIIT Pets, 37 breeds of cats and dogs",
            7_349,
            811,
            "CC BY-SA 4.0",
            "https://www.robots.ox.ac.uk/~vgg/data/pets/",
            _pets,
        ),
    )
}
"""The sets that `download_dataset` knows, by the name under which they are registered."""


def download_dataset(name: str, folder: Path | None = None) -> Dataset:
    """Fetch a public set into `folder` (default `$FOVEA_HOME/datasets`), register it under its name, and open it.

    What is there already is not fetched again. Progress goes to stderr. Raises UnknownNameError, and
    DatasetError without a connection or with a damaged archive.
    """
    try:
        wanted = DOWNLOADS[name]
    except KeyError:
        raise unknown("public data set", name, DOWNLOADS) from None
    import fovea.models.torchvision_compat  # noqa: F401 - before torchvision

    from torchvision import datasets  # isort: skip

    root = (folder or home() / "datasets").expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(sys.stderr):
            made = wanted.make(datasets, root)
            place = made if isinstance(made, Path) else _write_list(root / f"{name}.csv", made)
    except (OSError, RuntimeError, EOFError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DatasetError(
            f"{wanted.title} ({wanted.megabytes} MB) could not be fetched into {root} ({reason}): try again, or get it "
            f"from {wanted.home} and register its folder with: datasets add {name} FOLDER"
        ) from None
    return register_dataset(name, place)


def _write_list(file: Path, rows: Rows) -> Path:
    """A list file beside the pictures, with paths relative to it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label"])
    for path, label in rows:
        writer.writerow([path.relative_to(file.parent).as_posix(), label])
    write_whole(file, text.getvalue().encode("utf-8"))
    return file
