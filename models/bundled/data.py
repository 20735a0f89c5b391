"""The photos that the network learns from: which there are, which are held out, and the crops that are shown.

Caltech-101 is read as folders, its background class included. The held-out split is fixed by a seed and by the file
names alone, so it is the same on every machine. Each training photo is cropped a fixed number of times; teacher and
student look at the very same crops (Beyer et al. 2022, "Knowledge distillation: a good teacher is patient and
consistent").
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fovea.models.bundled.net import INPUT_SIZE, RESIZE

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
HELD_OUT_SHARE = 0.1
HELD_OUT_LEAST = 3
SAME_PHOTOS = (("Faces", "Faces_easy"),)
"""Folders that hold the same photographs under the same file names: a picture's side is the same in both."""

READABLE = {
    "BACKGROUND_Google": "background",
    "Faces": "face",
    "Faces_easy": "face close-up",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
    "airplanes": "airplane",
    "water_lilly": "water lily",
    "yin_yang": "yin-yang",
    "garfield": "Garfield",
    "snoopy": "Snoopy",
    "brontosaurus": "Brontosaurus",
    "stegosaurus": "Stegosaurus",
    "windsor_chair": "Windsor chair",
    "joshua_tree": "Joshua tree",
    "car_side": "car side",
}
"""Class names where the folder's name without underscores is not already the readable one."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Photo:
    """One photo: its file, and its class as an index into the sorted folders (-1 where it has none)."""

    path: Path
    label: int


def readable(folder: str) -> str:
    """Return the class name to show for a folder of Caltech-101: `wild_cat` is "wild cat"."""
    return READABLE.get(folder, folder.replace("_", " "))


def class_folders(root: Path) -> list[str]:
    """Return the sorted names of the sub-folders of `root`: the classes, in the order of the logits.

    Raises:
        FileNotFoundError: if `root` is not a folder with sub-folders in it.
    """
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
    if not names:
        raise FileNotFoundError(f"expected a folder with one sub-folder of images for each class, got {root}")
    return names


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def split(root: Path, seed: int = 0) -> tuple[list[Photo], list[Photo]]:
    """Return (training photos, held-out photos) of a folder of class folders.

    Of each class a tenth, at least three and at most half, is held out. The choice depends on the seed, the class's
    name and the sorted file names, on nothing else.
    """
    twins = {second: first for first, second in SAME_PHOTOS}
    training: list[Photo] = []
    held_out: list[Photo] = []
    for label, name in enumerate(class_folders(root)):
        paths = _images(root / name)
        count = min(max(HELD_OUT_LEAST, round(HELD_OUT_SHARE * len(paths))), len(paths) // 2)
        order = random.Random(f"{seed}/{twins.get(name, name)}").sample(range(len(paths)), len(paths))
        chosen = set(order[:count])
        for index, path in enumerate(paths):
            (held_out if index in chosen else training).append(Photo(path, label))
    return training, held_out


def unlabelled(folders: Iterable[Path]) -> list[Photo]:
    """Return every image below the folders, without a class."""
    return [Photo(path, -1) for folder in folders for path in _images(Path(folder))]


def open_rgb(path: Path) -> Image.Image:
    """Return the photo at `path` as an 8-bit RGB Pillow image."""
    with Image.open(path) as image:
        return image.convert("RGB")


def centre_crop(image: Image.Image, size: int = INPUT_SIZE, resize: int = RESIZE) -> Pixels:
    """Return the network's view of a photo as uint8 (size, size, 3): short side resized (bilinear), centre cropped."""
    width, height = image.size
    short = min(width, height)
    new = (int(resize * width / short), int(resize * height / short))
    image = image.resize(new, Image.Resampling.BILINEAR)
    left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def centre_crops(photos: Sequence[Photo]) -> Pixels:
    """Return `centre_crop` of every photo as uint8 (N, 128, 128, 3)."""
    with ThreadPoolExecutor(2) as pool:
        return np.stack(list(pool.map(lambda photo: centre_crop(open_rgb(photo.path)), photos)))


def random_box(
    width: int, height: int, dice: random.Random, scale: tuple[float, float] = (0.35, 1.0)
) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of a random resized crop (Szegedy et al. 2014), in pixels.

    Its area is a share in `scale` of the photo's, its aspect ratio lies between 3:4 and 4:3.
    """
    for _ in range(10):
        area = width * height * dice.uniform(*scale)
        ratio = math.exp(dice.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = dice.randint(0, width - w), dice.randint(0, height - h)
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def views(photos: Sequence[Photo], number: int, seed: int, teacher_size: int) -> Iterator[tuple[Pixels, Pixels]]:
    """Yield, photo by photo, its `number` random crops as the student's and as the teacher's pixels.

    Yields:
        uint8 (number, 128, 128, 3) and uint8 (number, teacher_size, teacher_size, 3) of the same crops.
    """

    def crops(photo: Photo) -> tuple[Pixels, Pixels]:
        image = open_rgb(photo.path)
        dice = random.Random(f"{seed}/{photo.path.parent.name}/{photo.path.name}")
        boxes = [random_box(*image.size, dice) for _ in range(number)]
        small, large = (
            np.stack([np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box)) for box in boxes])
            for side in (INPUT_SIZE, teacher_size)
        )
        return small, large

    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(photos), 64):
            # As a list: cropping and whoever uses the crops must not compete for the cores.
            yield from list(pool.map(crops, photos[start : start + 64]))
