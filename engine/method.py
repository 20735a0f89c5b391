"""What a method is: its options, its function, its panels; and the registry that finds them all.

A method is one file under `look/`, `explain/` or `make/` that ends in `METHOD = Method(…)`. The command
line, the forms, the run page and the report read this registry; nobody asks for a method by name.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fovea.engine.errors import UnsupportedError, needs_photo, unknown
from fovea.engine.options import LayerKind, LayersKind, Options, declared, parts_of
from fovea.engine.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

    from fovea.engine.data.dataset import Dataset
    from fovea.engine.maps import Map
    from fovea.engine.panels import Panel, RunView
    from fovea.models.card import Card
    from fovea.models.network import Network

VERBS = {"look": "Look", "explain": "Explain", "make": "Make"}
"""The folders that hold methods, in the order of the navigation, with their titles."""


@dataclass
class Result:
    """What a method's function returns; `fovea.engine.run` saves it.

    `arrays`: name to array. `tables`: name to data frame. `images`: name to uint8 (H, W), (H, W, 3) or
    (H, W, 4), or a Pillow picture; saved as PNG, or in the format that the name's suffix tells ("sheet.jpg",
    "ascent.gif" as bytes). `summary`: a few numbers or short texts that name the outcome. `preview`: the name
    of the image, or a picture, for lists of runs (default: the first image, or the photo).
    """

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    images: dict[str, NDArray[np.uint8] | Image.Image | bytes] = field(default_factory=dict)
    panels: list[Panel] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    preview: str | Image.Image | NDArray[np.uint8] = ""


OptionsT = TypeVar("OptionsT", bound=Options, covariant=True)
FindingsT = TypeVar("FindingsT")


@dataclass
class Job(Generic[OptionsT]):
    """What a method's function receives.

    `photo`: the photo as read (Pillow, upright), or None; `frame`: what the network sees of it, uint8
    (H, W, C), RGB. `device`: "cpu", "cuda" or "mps", for torch. `provider`: what the user asked of ONNX Runtime
    ("auto", "cpu", "cuda", "tensorrt"). `checkpoints`: a folder that outlives an interrupted run and is found
    again by the same request. `open_dataset` and `open_photo` read what an option names; `find_runs` gives the
    finished runs of a method on this network.
    """

    network: Network
    options: OptionsT
    seed: int = 0
    device: str = "cpu"
    provider: str = "auto"
    photo: Image.Image | None = None
    checkpoints: Path | None = None
    progress: Progress = field(default_factory=Progress)
    open_dataset: Callable[[str], Dataset] | None = None
    open_photo: Callable[[str], Image.Image] | None = None
    find_runs: Callable[[str], Iterator[RunView]] | None = None
    warnings: list[str] = field(default_factory=list)
    ran: dict[str, str] = field(default_factory=dict)

    @property
    def card(self) -> Card:
        """The network's card."""
        return self.network.card

    @functools.cached_property
    def frame(self) -> NDArray[np.uint8]:
        """The photo in the network's input frame, uint8 (H, W, C). Raises OptionsError without a photo."""
        if self.photo is None:
            raise needs_photo("this")
        return self.card.preprocessing.frame(self.photo)

    @functools.cached_property
    def input(self) -> NDArray[np.float32]:
        """The network's normalised input, float32 (1, C, H, W)."""
        return self.card.preprocessing.normalise(self.frame)[None]

    def dataset(self, name: str) -> Dataset:
        """The data set of that name or path. Raises DatasetError."""
        assert self.open_dataset is not None, "the caller of this job gave no way to open data sets"
        return self.open_dataset(name)

    def read_photo(self, reference: str) -> Image.Image:
        """Another photo (`sample:NAME`, `photo:SHA`, a path). Raises ImageError."""
        assert self.open_photo is not None, "the caller of this job gave no way to open photos"
        return self.open_photo(reference)

    def finished_runs(self, method: str) -> Iterator[RunView]:
        """The finished runs of a method on this very network, newest first: what was mined need not be mined again.

        The fingerprint knows nothing of them: use only what the options and the data set already settle.
        """
        return iter(()) if self.find_runs is None else self.find_runs(method)

    def warn(self, text: str) -> None:
        """Keep one line that is shown on the result."""
        if text not in self.warnings:
            self.warnings.append(text)

    def record(self, **what: str) -> None:
        """Record what really ran, e.g. `provider="cpu"`, `precision="fp32"`, `decoder="simplejpeg 1.9.0"`."""
        self.ran.update(what)


@dataclass(frozen=True)
class Lead:
    """The question that a finished run leads to: a run of `method` on the same network and photo.

    `title` is its button. `options(options, summary)` gives the new run's options from the finished run's.
    """

    title: str
    method: str
    options: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


class Needs(NamedTuple):
    """What a run takes, in bytes: `memory` of its process at its peak, `files` of its folder when it is done."""

    memory: int
    files: int


@dataclass(frozen=True)
class Method(Generic[OptionsT, FindingsT]):
    """One method of the registry.

    `name` is the command; `title` and `question` are for people ("Occlusion", "Where does it look?"); `family`
    is its row in the navigation; `summary` says in one sentence what it does and which paper it follows.
    `photo`: it needs one; `uses_photo`: it needs none, but shows more where there is one. `gradients`: it needs
    the torch network; `gradient_free`: option to those values with which it does not. `version` rises when
    results change. `work(card, options, images)` is the number of forward passes of one picture that it costs (a
    backward counts as two), for the estimate; `images` is the size of the chosen data set, or 0. `long`: it runs in the
    lane for long work. `check(card, options)` raises before the run is queued when they do not go together.
    `reads`: the methods whose finished runs it shows beside its own; a new one of them makes it a new request.
    `every_unit`: its result holds each unit of its layer, so that a unit's page shows its share.
    `needs(card, options, images)` is what a run over a data set takes, told with the estimate before it starts.
    `home`: what the large button says with which Home offers it. `tells_classes`: it needs nothing but the photo, and
    its table `classes` stands beside the photo there.
    `example`: a sample photo that shows it well, which its page takes until somebody chooses a photo.
    `maps`: the maps of the photo that it draws and that other methods may show. `leads_from(method)`: what a finished
    run of that method leads to by this one, None for nothing.
    """

    name: str
    title: str
    verb: Literal["look", "explain", "make"]
    family: str
    question: str
    summary: str
    options: type[OptionsT]
    compute: Callable[[Job[OptionsT]], FindingsT]
    report: Callable[[Job[OptionsT], FindingsT], Result]
    work: Callable[[Card, OptionsT, int], float]
    photo: bool = True
    uses_photo: bool = False
    gradients: bool = False
    gradient_free: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    long: bool = False
    version: int = 1
    check: Callable[[Card, OptionsT], None] | None = None
    reads: tuple[str, ...] = ()
    every_unit: bool = False
    needs: Callable[[Card, OptionsT, int], Needs] | None = None
    home: str = ""
    tells_classes: bool = False
    example: str = ""
    maps: tuple[Map, ...] = ()
    leads_from: Callable[[Method[Any, Any]], Lead | None] | None = None

    @property
    def takes_photo(self) -> bool:
        """Whether a form gives it the photo that is chosen."""
        return self.photo or self.uses_photo

    def run(self, job: Job[Any]) -> Result:
        """Compute and report. Raises FoveaError where the method cannot work, Cancelled if it was stopped."""
        return self.report(job, self.compute(job))

    def verify(self, card: Card, options: Options) -> None:
        """Raise, in one line, if the options name what the network lacks, or the method cannot work on it."""
        if not card.gradients:
            self._refuse_gradients(card, options)
        elif self.gradients:
            self._refuse_unreached(card, options)
        for name, info in self.options.model_fields.items():
            declared(info).kind.verify(self.name, getattr(options, name), options, card)
        if self.check is not None:
            self.check(card, cast(Any, options))

    def _refuse_gradients(self, card: Card, options: Options) -> None:
        """Raise UnsupportedError if these options need gradients, which an ONNX file, and some networks, have not."""
        if not self.gradients or any(getattr(options, name) in free for name, free in self.gradient_free.items()):
            return
        if card.no_gradients:
            raise UnsupportedError(card.no_gradients)
        instead = " or ".join(f"{name} {value}" for name, free in self.gradient_free.items() for value in free)
        raise UnsupportedError(
            f"{self.name} needs gradients, and {card.name} is an ONNX file: register the torch network, or "
            f"{f'choose {instead}, which needs none' if instead else 'use a forward-only method such as occlusion'}"
        )

    def _refuse_unreached(self, card: Card, options: Options) -> None:
        """Raise UnsupportedError if these options name a layer from which no gradient goes to the photo."""
        for kind in (LayerKind, LayersKind):
            for text in options.values(kind).values():
                for name in parts_of(text or ""):
                    if any(layer.name == name and not layer.reached for layer in card.layers):
                        near = ", ".join(layer.name for layer in card.reached_layers()[-3:])
                        raise UnsupportedError(
                            f"{self.name} needs a layer that depends on the photo, and no gradient goes from {name} to "
                            f"it: {name} reads only parameters, or autograd is off before it; choose one such as {near}"
                        )


@functools.cache
def methods() -> dict[str, Method[Any, Any]]:
    """All methods by name: every file at the top of a verb's folder is one; in the order of verbs and of files."""
    found: list[Method[Any, Any]] = []
    for verb in VERBS:
        folder = importlib.import_module(f"fovea.engine.{verb}")
        files = sorted(module.name for module in pkgutil.iter_modules(folder.__path__) if not module.ispkg)
        found += [importlib.import_module(f"{folder.__name__}.{name}").METHOD for name in files]
    return {method.name: method for method in found}


def find_method(name: str) -> Method[Any, Any]:
    """The method of that name. Raises UnknownNameError with near matches."""
    try:
        return methods()[name]
    except KeyError:
        raise unknown("method", name, methods()) from None


def leads_of(method: Method[Any, Any]) -> list[Lead]:
    """What a finished run of the method leads to."""
    leads = [other.leads_from(method) for other in methods().values() if other.leads_from is not None]
    return [lead for lead in leads if lead is not None]
