"""What a method is: its options, its function, its panels; and the registry that finds them all.

A method is one file under `look/`, `explain/` or `make/` that ends in `METHOD = Method(…)`. The command
line, the forms, the run page and the report read this registry; nobody asks for a method by name.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fovea.engine.errors import OptionsError, UnknownNameError, UnsupportedError, unknown

if TYPE_CHECKING:
    import pandas as pd

    from fovea.engine.data.dataset import Dataset
    from fovea.engine.figures import RunView
    from fovea.models.card import Card
    from fovea.models.network import Network

VERBS = {"look": "Look", "explain": "Explain", "make": "Make"}
"""The folders that hold methods, in the order of the navigation, with their titles."""

OptionKind = Literal[
    "plain",
    "layer",
    "layers",
    "unit",
    "class",
    "classes",
    "dataset",
    "label",
    "item",
    "photo",
    "network",
    "networks",
    "position",
]


class Options(BaseModel):
    """A method's options: the only place where they are declared.

    Flags, widgets, validation, run.json and the documentation read the fields; declare each with `option`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Options:
        """Validated options. Raises OptionsError: one line with the option, the limit and the value."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]) or "options"
            if first["type"] == "extra_forbidden":
                raise OptionsError(str(unknown("option", name, cls.model_fields, cls.__name__))) from None
            message = first["msg"].removeprefix("Value error, ")
            message = (
                message.replace("Input should be", f"{name} must be", 1) if "Input" in message else f"{name}: {message}"
            )
            raise OptionsError(f"{message}, not {first['input']!r}") from None


def option(
    default: Any,
    help: str,
    *,
    kind: OptionKind = "plain",
    unit: str = "",
    advanced: bool = False,
    needs: str = "",
    slider: bool = False,
    **limits: Any,
) -> Any:
    """Declare one option: its default, its one-line help, its unit ("px", "steps") and its limits.

    `kind` tells forms and flags what the value names: a "layer", several "layers" (comma list), a "unit"
    of the chosen layer, a "class", several "classes" or "networks" (comma lists), a "dataset", a "label" or an
    "item" (an image, by its key) of the chosen data set, a second "photo", another "network", a "position".
    `advanced` options sit behind a fold. `needs` restricts a layer option to "spatial" layers or "weights".
    `slider`: a number with limits on both sides, which a form draws as a slider. `limits` are pydantic's (ge, gt,
    le, lt, max_length, …). Choices are a `Literal` type on the field.
    """
    extra: dict[str, Any] = {"kind": kind, "unit": unit, "advanced": advanced, "needs": needs, "slider": slider}
    return Field(default, description=help, json_schema_extra=extra, **limits)


class Cells(BaseModel):
    """The clickable windows of an overlay: cell (i, j) covers rows `ys[i]` … + `height`, columns `xs[j]` … + `width`.

    `ys`, `xs`, `values` name arrays; `values` (rows, cols) is shown on hover as `label` (e.g. "probability").
    `cover` names an image of the frame's size whose pixels replace the window when a cell is clicked; `table`
    names a table with columns `row`, `column` whose matching rows are listed beside it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ys: str
    xs: str
    height: int
    width: int
    values: str
    label: str = ""
    cover: str = ""
    table: str = ""


class Panel(BaseModel):
    """One view of a result. `kind` says how it is drawn and which fields it reads:

    - image: `image`, the name of a saved picture.
    - overlay: `array` (H, W) over the picture `image` ("photo" is the network's input frame), with `scale`,
      `units` and optional clickable `cells`.
    - heatmap: `array` (rows, cols) by itself.
    - gallery: tiles of the sheet `image`, `tile` pixels wide, `columns` tiles a row, in the row order of
      `table` (or by its column `tile`); `caption` columns under each; rows that share the columns `group` form
      one group, drawn as a card with its best nine, and opened by a click. A click on a tile of a gallery without
      groups opens the panels `opens`, each narrowed to the rows with that tile's value in the column `key`, or to
      that channel.
    - curve: columns `y` of `table` against column `x`; `log` for a logarithmic y axis. The columns `low` and `high`,
      one for each of `y`, are drawn as a band about it, e.g. a confidence interval.
    - bars: column `y[0]` of `table` by label column `x`.
    - scatter: points of `table` at `x`, `y[0]`, coloured by `caption[0]`, named by the other captions; with a sheet
      `image` of `tile`, `columns`, each shows the tile of its column `tile` when it is pointed at.
    - channels: `array` (C, h, w) as one picture of C tiles, in the order of the column `unit` of `table` if there
      is one; a click shows one of them over `image`, each value at its place in `cells` if these are given.
    - table: `table` as it is.
    - text: `title` and `help` alone.

    `beside`: it stands in one row with the panel before it, where the window is wide enough.
    `where` keeps only the table's rows with these values. `scale`: "sequential" from the smallest value,
    "diverging" about zero. `help` is the sentence under the title that says how to read it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["image", "overlay", "heatmap", "gallery", "curve", "bars", "scatter", "channels", "table", "text"]
    title: str
    help: str = ""
    image: str = ""
    array: str = ""
    table: str = ""
    scale: Literal["sequential", "diverging"] = "sequential"
    units: str = ""
    cells: Cells | None = None
    tile: int = 0
    columns: int = 0
    group: tuple[str, ...] = ()
    caption: tuple[str, ...] = ()
    key: str = ""
    opens: tuple[Panel, ...] = ()
    where: dict[str, str | int] = Field(default_factory=dict)
    x: str = ""
    y: tuple[str, ...] = ()
    low: tuple[str, ...] = ()
    high: tuple[str, ...] = ()
    log: bool = False
    beside: bool = False


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


class Progress(Protocol):
    """Told how far a run is; raises Cancelled if the user stopped it."""

    def __call__(
        self,
        fraction: float,
        message: str,
        preview: NDArray[np.uint8] | None = None,
        curve: Mapping[str, float] | None = None,
    ) -> None:
        """`fraction` in [0, 1]; `message` a few words; `preview` uint8 (H, W, 3); `curve` losses by term now."""


def _silent(
    fraction: float,
    message: str,
    preview: NDArray[np.uint8] | None = None,
    curve: Mapping[str, float] | None = None,
) -> None:
    return


@dataclass
class Job:
    """What a method's function receives.

    `photo`: the photo as read (Pillow, upright), or None; `frame`: what the network sees of it, uint8
    (H, W, C), RGB. `device`: "cpu" or "cuda", for torch. `provider`: what the user asked of ONNX Runtime
    ("auto", "cpu", "cuda", "tensorrt"). `checkpoints`: a folder that outlives an interrupted run and is found
    again by the same request. `open_dataset` and `open_photo` read what an option names; `find_runs` gives the
    finished runs of a method on this network.
    """

    network: Network
    options: Any
    seed: int = 0
    device: str = "cpu"
    provider: str = "auto"
    photo: Image.Image | None = None
    checkpoints: Path | None = None
    progress: Progress = _silent
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
            raise OptionsError("this needs a photo: give --image PATH or --image sample:cat")
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
class Method:
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
    """

    name: str
    title: str
    verb: Literal["look", "explain", "make"]
    family: str
    question: str
    summary: str
    options: type[Options]
    run: Callable[[Job], Result]
    work: Callable[[Card, Any, int], float]
    photo: bool = True
    uses_photo: bool = False
    gradients: bool = False
    gradient_free: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    long: bool = False
    version: int = 1
    check: Callable[[Card, Any], None] | None = None
    reads: tuple[str, ...] = ()
    every_unit: bool = False
    needs: Callable[[Card, Any, int], Needs] | None = None
    home: str = ""
    tells_classes: bool = False
    example: str = ""
    leads: tuple[Lead, ...] = ()

    @property
    def takes_photo(self) -> bool:
        """Whether a form gives it the photo that is chosen."""
        return self.photo or self.uses_photo

    def options_of_kind(self, kind: OptionKind) -> list[str]:
        """The names of the options whose value names a thing of that kind."""
        return [name for name, info in self.options.model_fields.items() if option_extra(info)["kind"] == kind]

    def verify(self, card: Card, options: Options) -> None:
        """Raise, in one line, if the options name what the network lacks, or the method cannot work on it."""
        if not card.gradients:
            self._refuse_gradients(card, options)
        for name in self.options_of_kind("layer"):
            value = getattr(options, name)
            if value:
                layer = card.layer(value)
                needs = option_extra(self.options.model_fields[name])["needs"]
                if needs == "spatial" and not layer.spatial:
                    near = ", ".join(spatial.name for spatial in card.spatial_layers()[-3:])
                    raise UnsupportedError(
                        f"{self.name} needs a layer whose units are maps, and {value} has shape {layer.shape}: "
                        f"choose one such as {near}"
                    )
                for unit in self.options_of_kind("unit"):
                    if getattr(options, unit) is not None:
                        card.unit(value, int(getattr(options, unit)))
        for name in self.options_of_kind("layers"):
            for value in filter(None, (part.strip() for part in getattr(options, name).split(","))):
                card.layer(value)
        for name in self.options_of_kind("class"):
            value = getattr(options, name)
            if value not in (None, ""):
                if not card.classes:
                    raise UnsupportedError(f"{card.name} has no classes: choose a layer and a unit instead")
                card.class_index(value)
        for name in self.options_of_kind("classes"):
            listed_classes(card, getattr(options, name))
        for name in self.options_of_kind("networks"):
            from fovea.models.zoo import cached_card

            for other in listed(getattr(options, name)):
                cached_card(other)
        if self.check is not None:
            self.check(card, options)

    def _refuse_gradients(self, card: Card, options: Options) -> None:
        """Raise UnsupportedError if these options need gradients, which an ONNX file has not."""
        if not self.gradients or any(getattr(options, name) in free for name, free in self.gradient_free.items()):
            return
        instead = " or ".join(f"{name} {value}" for name, free in self.gradient_free.items() for value in free)
        raise UnsupportedError(
            f"{self.name} needs gradients, and {card.name} is an ONNX file: register the torch network, or "
            f"{f'choose {instead}, which needs none' if instead else 'use a forward-only method such as occlusion'}"
        )


def option_extra(info: Any) -> dict[str, Any]:
    """What `option` declared beside pydantic's own: kind, unit, advanced, needs."""
    extra = {"kind": "plain", "unit": "", "advanced": False, "needs": "", "slider": False}
    extra.update(info.json_schema_extra or {})
    return extra


def listed(text: str) -> list[str]:
    """The parts of a comma list, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def listed_classes(card: Card, text: str) -> list[int]:
    """The indices of a comma list of classes, by number or name; a name may itself have a comma if it stands alone.

    Raises UnknownNameError with near matches, UnsupportedError where the network has no classes.
    """
    if not text.strip():
        return []
    if not card.classes:
        raise UnsupportedError(f"{card.name} has no classes: choose a layer and a unit instead")
    try:
        return [card.class_index(text)]
    except UnknownNameError:
        return list(dict.fromkeys(card.class_index(part) for part in listed(text)))


@functools.cache
def methods() -> dict[str, Method]:
    """All methods, by name, in the order of verbs and then of families and names.

    A file is a method's when it assigns METHOD at its top level; shared parts are not imported here, because
    they may import torch.
    """
    found: list[Method] = []
    for verb in VERBS:
        for path in sorted((Path(__file__).parent / verb).glob("*.py")):
            if re.search(r"^METHOD\b", path.read_text(encoding="utf-8"), re.MULTILINE):
                found.append(importlib.import_module(f"fovea.engine.{verb}.{path.stem}").METHOD)
    return {method.name: method for method in found}


def find_method(name: str) -> Method:
    """The method of that name. Raises UnknownNameError with near matches."""
    try:
        return methods()[name]
    except KeyError:
        raise unknown("method", name, methods()) from None
