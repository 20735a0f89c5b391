"""What is known of a network: its preprocessing, its layers in forward order, its classes.

A card holds no torch: pages, the command line and the report read it as JSON.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from fovea.models.errors import UnknownNameError, unknown
from fovea.models.output import MEANINGS, OutputKind, OutputMeaning

OUTPUT = "output"
"""The tap that names what the network returns (logits, for most classifiers)."""

INPUT_OF = "input of "
"""Before a layer's name it makes the tap of what that layer reads, where torch computes the taps."""

MOST_EXTRA_TOKENS = 16
"""So many class and register tokens may stand before those of the image."""

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Preprocessing(_Frozen):
    """How a photo becomes the network's input.

    `size` (H, W) of the input in pixels. `resize`: the short side is resized to this before the centre
    crop (None: the photo is stretched to `size`, no crop). `range`: the values of black and white before
    mean and std are applied, (0, 1) for most networks. `mean`, `std`: one value a channel, in that range.
    `order`: "RGB" or "BGR". `channels`: 1, 3 or 4.
    """

    size: tuple[int, int] = (224, 224)
    resize: int | None = 256
    interpolation: str = "bilinear"
    range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    channels: int = 3
    order: Literal["RGB", "BGR"] = "RGB"

    def frame(self, photo: Image.Image) -> NDArray[np.uint8]:
        """The photo as the network sees it, before normalisation: uint8 (H, W, C), RGB order.

        Pillow's resize of the short side and centre crop, bit-equal to torchvision's PIL transforms.
        """
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[self.channels]
        if photo.mode != mode:
            photo = photo.convert(mode)
        height, width = self.size
        resampling = RESAMPLING[self.interpolation]
        if self.resize is None:
            if photo.size != (width, height):
                photo = photo.resize((width, height), resampling)
        else:
            w, h = photo.size
            short, long = (w, h) if w <= h else (h, w)
            new_short, new_long = self.resize, int(self.resize * long / short)
            new = (new_short, new_long) if w <= h else (new_long, new_short)
            if new != (w, h):
                photo = photo.resize(new, resampling)
            w, h = photo.size
            if w < width or h < height:
                left, top = max((width - w) // 2, 0), max((height - h) // 2, 0)
                padded = Image.new(mode, (max(w, width), max(h, height)))
                padded.paste(photo, (left, top))
                photo, (w, h) = padded, padded.size
            left, top = round((w - width) / 2.0), round((h - height) / 2.0)
            photo = photo.crop((left, top, left + width, top + height))
        pixels = np.asarray(photo, dtype=np.uint8)
        return np.ascontiguousarray(pixels.reshape(height, width, self.channels))

    def normalise(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (..., H, W, C) in RGB order to the network's float32 input (..., C, H, W)."""
        values = np.moveaxis(frame, -1, -3).astype(np.float32) / np.float32(255)
        return self.normalise_unit(values)

    def normalise_unit(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (..., C, H, W) in [0, 1], RGB order, to the network's float32 input of that shape."""
        if self.order == "BGR":
            values = values[..., ::-1, :, :]
        low, high = self.range
        if (low, high) != (0.0, 1.0):
            values = values * np.float32(high - low) + np.float32(low)
        mean = np.asarray(self.mean, np.float32).reshape(-1, 1, 1)
        std = np.asarray(self.std, np.float32).reshape(-1, 1, 1)
        return np.ascontiguousarray((values - mean) / std, dtype=np.float32)

    def unit_values(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inverse of `normalise_unit`: network input (..., C, H, W) to values where 0 is black, 1 white."""
        mean = np.asarray(self.mean, np.float32).reshape(-1, 1, 1)
        std = np.asarray(self.std, np.float32).reshape(-1, 1, 1)
        low, high = self.range
        values = (inputs * std + mean - np.float32(low)) / np.float32(high - low)
        if self.order == "BGR":
            values = values[..., ::-1, :, :]
        return np.ascontiguousarray(values, dtype=np.float32)

    def pixels(self, inputs: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Network input (..., C, H, W) back to uint8 (..., H, W, C), rounded and clipped."""
        values = np.moveaxis(self.unit_values(inputs), -3, -1)
        return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)

    def value_limits(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The network inputs of black and of white, each (C,): the box of real pixel values."""
        ends = np.zeros((2, self.channels, 1, 1), np.float32)
        ends[1] = 1
        low, high = self.normalise_unit(ends)
        return low.reshape(-1), high.reshape(-1)


class ReceptiveField(_Frozen):
    """Which input pixels one position of a layer can see.

    `size`, `stride` and `offset` are (y, x) in input pixels; the unit at position (i, j) sees rows
    `offset[0] + i * stride[0]` up to that plus `size[0]` (exclusive), clipped to the image; `offset` is
    negative where the layer pads. `whole`: every position sees the whole image (attention, global pooling).
    """

    size: tuple[int, int]
    stride: tuple[float, float]
    offset: tuple[float, float]
    whole: bool = False

    def box(self, row: int, column: int, frame: tuple[int, int]) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) in input pixels, exclusive ends, of a position, clipped to `frame` (H, W)."""
        height, width = frame
        if self.whole:
            return 0, 0, width, height
        y0 = int(np.floor(self.offset[0] + row * self.stride[0]))
        x0 = int(np.floor(self.offset[1] + column * self.stride[1]))
        y1, x1 = y0 + self.size[0], x0 + self.size[1]
        return max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)


class Layer(_Frozen):
    """One call of one module. `shape` leaves the batch out, e.g. (64, 56, 56).

    `name` is the module's path, `path#2` for its second call. `kind` is the module's class name
    ("Conv2d"). `axes`: where the units lie: "NCHW", "NHWC", "tokens" (N, T, C) with `extra_tokens` before
    the grid, "vector" (N, C) or "none" (no unit axis: not tappable as units). `grid`: rows and columns of
    the positions, (1, 1) for a vector. `parameters` of the module itself, not of its children.
    `leaf`: it has no children. `activates`: the layer whose very output this one reads, if it is an activation that
    grows with each value above zero (ReLU, ELU, softplus): the units' best patches there are best here, too.
    `reached`: a gradient goes from it to the photo; none goes from layers that read only parameters.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    axes: Literal["NCHW", "NHWC", "tokens", "vector", "none"]
    units: int
    grid: tuple[int, int] = (1, 1)
    extra_tokens: int = 0
    parameters: int = 0
    leaf: bool = True
    activates: str = ""
    reached: bool = True
    receptive_field: ReceptiveField | None = None

    @property
    def spatial(self) -> bool:
        """Whether its positions form a map of more than one place."""
        return self.axes in ("NCHW", "NHWC", "tokens") and self.grid != (1, 1)


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").strip()


class Card(_Frozen):
    """Everything the rest of the product knows of a network without loading it.

    `output`: what the network returns. `weights`: where they come from ("bundled", "DEFAULT", "random",
    "as built", a file's name). `random`: weights are random, and every result says so. `sha256`: of the weights, the
    user's own code, the preprocessing and the kind of output: what makes it this network.
    `batch`: the only number of images that the network takes at once (None: any); with `larger_batches` its torch
    module takes any number above it, too. `squeezed`: axes of length one are
    taken off its scores. `output_name`: which of several outputs is read ("": the first). `varies`: it answers
    differently each time, but for the same seed. `gradients`: methods that need them work; where they do not,
    `no_gradients` says why in a sentence. `notes`: what a user should know (licence, accuracy, a choice made while
    loading), one line each.
    """

    name: str
    title: str
    architecture: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    layers: tuple[Layer, ...]
    parameters: int
    sha256: str
    weights: str
    random: bool = False
    gradients: bool = True
    no_gradients: str = ""
    varies: bool = False
    output: OutputKind = "logits"
    output_name: str = ""
    batch: int | None = None
    larger_batches: bool = False
    squeezed: bool = False
    notes: tuple[str, ...] = ()

    @property
    def meaning(self) -> OutputMeaning:
        """How its scores are read."""
        return MEANINGS[self.output]

    @property
    def has_classes(self) -> bool:
        """Whether it tells of classes."""
        return bool(self.classes) and self.meaning.has_classes

    @property
    def has_module(self) -> bool:
        """Whether there is a torch module; for an ONNX file there is none."""
        return self.architecture != "onnx"

    def layer(self, name: str) -> Layer:
        """The layer of that name. Raises UnknownNameError with near matches."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise unknown("layer", name, [layer.name for layer in self.layers], self.name)

    def unit(self, layer: str, unit: int) -> int:
        """`unit` if the layer has it. Raises UnknownNameError otherwise."""
        units = self.layer(layer).units
        if not 0 <= unit < units:
            raise UnknownNameError(f"layer {layer} of {self.name} has no unit {unit}: it has units 0 to {units - 1}")
        return unit

    def class_index(self, target: str | int) -> int:
        """The index of a class given by name (any case, spaces or underscores) or by number.

        A name comes first: a number, or its text, is an index where no class bears it; `#3` is always the index 3. Of
        classes that share a name the first is meant. Raises UnknownNameError with near matches.
        """
        count = len(self.classes)
        text = str(target).strip()
        names = self.classes if isinstance(target, str) else ()
        for alike in (str, _plain):
            for index, name in enumerate(names):
                if alike(name) == alike(text):
                    return index
        number = text.removeprefix("#")
        if number.lstrip("-").isdecimal():
            if 0 <= int(number) < count:
                return int(number)
            raise UnknownNameError(f"{self.name} has no class {text}: it has classes 0 to {count - 1}")
        raise unknown("class", text, self.classes, self.name)

    def class_number(self, index: int) -> str:
        """The text by which `class_index` finds the class with that index, also where another is called so."""
        text = str(index)
        return text if index >= len(self.classes) or self.class_index(text) == index else f"#{text}"

    def spatial_layers(self) -> tuple[Layer, ...]:
        """The layers whose units form maps, in forward order."""
        return tuple(layer for layer in self.layers if layer.spatial)

    def reached_layers(self) -> tuple[Layer, ...]:
        """Those of them from which a gradient goes to the photo; all of them where none does."""
        spatial = self.spatial_layers()
        return tuple(layer for layer in spatial if layer.reached) or spatial
