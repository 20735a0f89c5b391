"""What an entry of networks.toml may say, and what it means: paths, class names, preprocessing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from fovea.models.card import RESAMPLING, Preprocessing
from fovea.models.class_list import read_classes
from fovea.models.errors import NetworkError, unknown
from fovea.models.home import home
from fovea.models.output import OutputKind

IMAGENET = "imagenet"
"""Stands for ImageNet's class names where a file of names is asked for."""

_FIELDS = {
    "architecture": str, "weights": str, "weights_key": str, "random": bool, "trust": bool, "classes": str,
    "input": dict, "output": str, "output_name": str, "arguments": dict, "title": str,
}  # fmt: skip
_INPUT_FIELDS = ("size", "resize", "crop", "interpolation", "mean", "std", "range", "channels", "order")
_OUTPUTS = get_args(OutputKind)
_NAMES = {str: "a text", dict: "a table", bool: "true or false"}


def resolve(path: str) -> Path:
    """A path of networks.toml, relative ones against its folder."""
    return (home() / Path(path).expanduser()).resolve()


def class_names(source: str) -> tuple[str, ...]:
    """What `classes` of networks.toml stands for: a file's names, names with commas between them, or `imagenet`, its
    1000 in their usual order.

    Raises NetworkError.
    """
    if written := written_names(source):
        return written
    if source != IMAGENET:
        return read_classes(resolve(source))
    importlib.import_module("fovea.models.torchvision_compat")
    from torchvision.models import AlexNet_Weights

    return tuple(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])


def written_names(source: str) -> tuple[str, ...]:
    """The class names that `classes` of networks.toml holds itself, as in "no,yes"; none where it names a file."""
    if "," not in source or resolve(source).is_file():
        return ()
    return tuple(name.strip() for name in source.split(",") if name.strip())


def preprocessing_from(fields: Mapping[str, Any], default: Preprocessing, name: str) -> Preprocessing:
    """`default` with what the `input` table of networks.toml says instead. Raises NetworkError."""
    extra = [key for key in fields if key not in _INPUT_FIELDS]
    if extra:
        raise NetworkError(f"{name}: input has no field {extra[0]!r}: it has the fields {', '.join(_INPUT_FIELDS)}")
    facts: dict[str, Any] = default.model_dump()
    size = fields.get("crop", fields.get("size"))
    if size is not None:
        facts["size"] = (size, size) if isinstance(size, int) else tuple(size)
    if "resize" in fields:
        facts["resize"] = fields["resize"] or None
    elif size is not None and tuple(facts["size"]) != default.size:
        # The usual margin about a centre crop.
        facts["resize"] = round(min(facts["size"]) * 256 / 224)
    for key in ("interpolation", "channels", "order"):
        if key in fields:
            facts[key] = fields[key]
    if "range" in fields:
        facts["range"] = tuple(fields["range"])
    channels = int(facts["channels"])
    for key, plain in (("mean", 0.0), ("std", 1.0)):
        if key in fields:
            value = fields[key]
            facts[key] = (float(value),) * channels if isinstance(value, (int, float)) else tuple(value)
        elif channels != default.channels or "range" in fields:
            facts[key] = (plain,) * channels
        if len(facts[key]) != channels:
            raise NetworkError(
                f"{name}: {key} has {len(facts[key])} values, but the input has {channels} channels: give one for each"
            )
    if facts["interpolation"] not in RESAMPLING:
        raise unknown("interpolation", str(facts["interpolation"]), RESAMPLING, name)
    if channels not in (1, 3, 4):
        raise NetworkError(f"{name}: channels is {channels}, but it must be 1, 3 or 4")
    try:
        return Preprocessing(**facts)
    except ValueError as error:
        lines = str(error).splitlines()
        raise NetworkError(f"{name}: input {' '.join(x.strip() for x in lines[1:3])}") from None


def check_entry(name: str, entry: Any) -> None:
    if not isinstance(entry, dict):
        raise NetworkError(f"networks.toml: {name} is not a table: write [networks.{name}] and its fields below it")
    for key, value in entry.items():
        if key not in _FIELDS:
            raise NetworkError(f"{name}: an entry has no field {key!r}: it has the fields {', '.join(_FIELDS)}")
        if not isinstance(value, _FIELDS[key]):
            raise NetworkError(f"{name}: {key} is {value!r}, but it must be {_NAMES[_FIELDS[key]]}")
    architecture = entry.get("architecture", "")
    if ":" not in architecture:
        raise NetworkError(
            f"{name}: architecture is {architecture!r}, but it must be torchvision:NAME, timm:NAME, onnx:PATH, "
            "hf:FOLDER, torch:PATH, package.module:callable or /path/net.py:Net"
        )
    if entry.get("random") and entry.get("weights"):
        raise NetworkError(f"{name}: random is true, but weights names a file: say one or the other")
    if entry.get("output", "logits") not in _OUTPUTS:
        raise NetworkError(f"{name}: output is {entry['output']!r}, but it must be one of {', '.join(_OUTPUTS)}")
    if isinstance(entry.get("input"), dict):
        preprocessing_from(entry["input"], Preprocessing(), name)
