"""The photos that are always there: named, object-centred crops of pictures that scikit-image and scikit-learn
ship inside their packages. Nothing is downloaded, and neither package is imported."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from fovea.engine.errors import ImageError

FOLDERS = {"scikit-image": ("skimage", "data"), "scikit-learn": ("sklearn", "datasets/images")}
"""Package on the index -> (its import name, the folder of pictures in it)."""

CC0 = "CC0 1.0"
PUBLIC = "public domain"
FREE = "no known copyright restrictions"
CC_BY = "CC BY 2.0"


@dataclass(frozen=True)
class Sample:
    """A named photo: `box` (left, top, right, bottom) in pixels of `file`, or None for all of it.

    `picture` names the photo that it is a part of; `texture` says that any crop of it looks alike, which is what
    texture synthesis and style transfer want.
    """

    name: str
    title: str
    package: str
    file: str
    licence: str
    credit: str
    picture: str
    box: tuple[int, int, int, int] | None = None
    texture: bool = False

    @property
    def source(self) -> str:
        """Where it comes from, e.g. "chelsea.png in scikit-image"."""
        return f"{self.file} in {self.package}"

    @property
    def path(self) -> Path:
        """The picture's file. Raises ImageError where the package lacks it."""
        path = package_folder(self.package) / self.file
        if not path.is_file():
            raise ImageError(
                f"sample:{self.name} needs {self.file} of {self.package}, which this installation lacks: "
                f"reinstall {self.package}"
            )
        return path


@functools.cache
def package_folder(package: str) -> Path:
    """The folder of pictures in an installed package, found without importing it. Raises ImageError."""
    module, inside = FOLDERS[package]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ImageError(f"the sample photos need {package}: pip install {package}")
    return Path(next(iter(spec.submodule_search_locations))) / inside


def _table() -> dict[str, Sample]:
    image, learn = "scikit-image", "scikit-learn"
    rows: list[tuple[str, str, str, str, str, str, tuple[int, int, int, int] | None]] = [
        ("cat", "Chelsea the cat", image, "chelsea.png", CC0, "Stéfan van der Walt", (115, 0, 415, 300)),
        ("face", "Eileen Collins, astronaut", image, "astronaut.png", PUBLIC, "NASA", (112, 10, 336, 234)),
        ("coffee", "A cup of coffee", image, "coffee.png", CC0, "Rachel Michetti", (78, 0, 478, 400)),
        (
            "motorcycle",
            "A motorcycle in a garage",
            image,
            "motorcycle_left.png",
            "terms of the Middlebury 2014 stereo data; shipped by scikit-image",
            "D. Scharstein et al., Middlebury 2014 stereo",
            (150, 0, 650, 500),
        ),
        ("temple", "A temple in Beijing", learn, "china.jpg", CC_BY, "Daniel Büchele", (5, 0, 420, 415)),
        ("flower", "A dahlia", learn, "flower.jpg", CC_BY, "vultilion, Flickr", (130, 45, 480, 395)),
        ("rocket", "Falcon 9 on its pad", image, "rocket.jpg", PUBLIC, "SpaceX", (106, 0, 533, 427)),
        ("camera", "A man with a camera", image, "camera.png", CC0, "Lav Varshney", (60, 20, 400, 360)),
        ("coins", "Greek coins from Pompeii", image, "coins.png", FREE, "Brooklyn Museum", (80, 0, 383, 303)),
        ("retina", "The back of an eye", image, "retina.jpg", CC0, "Mikael Häggström", None),
        ("moon", "The surface of the moon", image, "moon.png", FREE, "scikit-image", None),
        ("hubble", "Hubble eXtreme Deep Field", image, "hubble_deep_field.jpg", PUBLIC, "NASA", (350, 240, 862, 752)),
        ("tissue", "Stained colon tissue", image, "ihc.png", FREE, "CMMI", None),
        ("brick", "A brick wall", image, "brick.png", CC0, "CC0Textures", None),
        ("grass", "Grass", image, "grass.png", CC0, "linolafett, DeviantArt", None),
        ("gravel", "Gravel", image, "gravel.png", CC0, "CC0Textures", None),
    ]
    textures = {"hubble", "tissue", "brick", "grass", "gravel"}
    found: dict[str, Sample] = {}
    for name, title, package, file, licence, credit, box in rows:
        found[name] = Sample(name, title, package, file, licence, credit, name, box, name in textures)
    for name, title, package, file, licence, credit, box in rows:
        if box is not None:
            whole = f"{name}-full"
            found[whole] = Sample(whole, f"{title}, whole picture", package, file, licence, credit, name)
    return found


SAMPLES: dict[str, Sample] = _table()
"""Every sample photo by name, object-centred crops first, then the whole pictures (`NAME-full`)."""


def sample_pictures() -> dict[str, Sample]:
    """The whole pictures, each once, by the name of its subject: what the data set `sample` is cut from."""
    whole = {sample.picture: sample for sample in SAMPLES.values() if sample.box is None}
    return {name: whole[name] for name in SAMPLES if name in whole}
