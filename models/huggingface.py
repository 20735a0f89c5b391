"""`hf:FOLDER`: an image classification model as `save_pretrained` (transformers) or `save_for_hf` (timm) writes it.

Everything is read from the folder: nothing is fetched, and no code in it is run. `config.json` names the
architecture and the classes, `preprocessor_config.json` says how photos are prepared, and the weights are safetensors
or a state dict.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.models.card import Preprocessing
from fovea.models.errors import NetworkError, WeightsError

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
FILES = ("config.json", "preprocessor_config.json", *WEIGHTS)
"""What is read of a folder; each of them decides what the network is."""

_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers, which the file uses."""
_KNOWN = frozenset(
    {"crop_pct", "crop_size", "do_center_crop", "do_convert_rgb", "do_flip_channel_order", "do_normalize", "do_rescale"}
    | {"do_resize", "image_mean", "image_processor_type", "image_std", "resample", "rescale_factor", "size"}
    | {"feature_extractor_type", "processor_class", "data_format", "return_tensors", "input_data_format", "device"}
)


@dataclass(frozen=True)
class Saved:
    """What a folder brings: the module with its weights, how photos are prepared, its classes, and notes."""

    module: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    weights: str
    notes: tuple[str, ...]


def open_folder(folder: Path) -> Saved:
    """The network in a folder. Raises NetworkError or WeightsError, one line."""
    if not folder.is_dir():
        raise NetworkError(f"there is no folder at {folder}: hf: takes the folder that save_pretrained wrote")
    config = _json(folder / "config.json")
    if "architecture" in config:
        return _open_timm(folder, config)
    return _open_transformers(folder, config)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NetworkError(
            f"{path.parent.name} holds no {path.name}: hf: takes the folder that save_pretrained wrote"
        ) from None
    except (OSError, ValueError) as error:
        raise NetworkError(f"{path} cannot be read as JSON: {(str(error).splitlines() or [''])[0][:120]}") from None
    if not isinstance(content, dict):
        raise NetworkError(f"{path} holds a {type(content).__name__}, not an object with names and values")
    return content


def _need(package: str, folder: Path) -> Any:
    if importlib.util.find_spec(package) is None:
        extra = "hf" if package == "transformers" else package
        raise NetworkError(f'{folder.name} needs the package {package}: pip install "fovea-vision[{extra}]"')
    importlib.import_module("fovea.models.torchvision_compat")
    return importlib.import_module(package)


def _weights_file(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    if any(folder.glob("*.index.json")):
        raise WeightsError(f"{folder.name} keeps its weights in several files: save it again as one (max_shard_size)")
    raise WeightsError(f"{folder.name} holds no weights: it must hold {' or '.join(WEIGHTS)}")


def _fill(module: nn.Module, folder: Path, title: str) -> str:
    """Put the folder's weights into the module; the name of their file."""
    from fovea.models.checkpoint import read_checkpoint
    from fovea.models.fitting import load_into

    path = _weights_file(folder)
    load_into(lambda: module, {}, read_checkpoint(path), title)
    return path.name


# -- timm --------------------------------------------------------------------------------------------------------------


def _open_timm(folder: Path, config: Mapping[str, Any]) -> Saved:
    from fovea.models.timm_input import timm_preprocessing

    timm = _need("timm", folder)
    name, arguments = str(config["architecture"]), dict(config.get("model_args") or {})
    facts = dict(config.get("pretrained_cfg") or {})
    if config.get("num_classes") is not None:
        arguments.setdefault("num_classes", int(config["num_classes"]))
    try:
        module = timm.create_model(name, pretrained=False, pretrained_cfg_overlay=facts, **arguments)
    except Exception as error:
        text = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise NetworkError(f"{folder.name}: timm cannot build its architecture {name}: {text}") from None
    names = config.get("label_names") or facts.get("label_names") or ()
    weights = _fill(module, folder, f"timm's {name}")
    told = "the preprocessing and the class names are" if names else "and the preprocessing are"
    note = f"The architecture {name}{',' if names else ''} {told} from its config.json."
    return Saved(module, timm_preprocessing(module), tuple(str(label) for label in names), weights, (note,))


# -- transformers ------------------------------------------------------------------------------------------------------


def _open_transformers(folder: Path, config: Mapping[str, Any]) -> Saved:
    kind = str(config.get("model_type") or "")
    if not kind or "auto_map" in config:
        why = "brings code of its own, which is not run" if "auto_map" in config else "names no model_type"
        raise NetworkError(f"{folder.name}: its config.json {why}: register its architecture as /path/net.py:Net")
    if kind == "timm_wrapper":
        return _open_timm(folder, {**config, "architecture": config.get("architecture") or config.get("model_name")})
    transformers = _need("transformers", folder)
    weights = _weights_file(folder).name
    try:
        # Its own loader, because names of weights have changed from version to version; it runs no code of the folder.
        module: nn.Module = transformers.AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        text = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise NetworkError(
            f"{folder.name}: transformers builds no image classifier of model_type {kind}: {text}"
        ) from None
    names = {int(index): str(label) for index, label in dict(config.get("id2label") or {}).items()}
    classes = tuple(names[index] for index in sorted(names))
    if sorted(names) != list(range(len(names))) or classes == tuple(f"LABEL_{index}" for index in range(len(names))):
        classes = ()
    preprocessing, notes = _preprocessing(folder, module.config)
    what = "and the class names are" if classes else "is"
    named = f"The architecture {type(module).__name__} {what} from its config.json."
    return Saved(module, preprocessing, classes, weights, (named, *notes))


def _preprocessing(folder: Path, config: Any) -> tuple[Preprocessing, list[str]]:
    """How its image processor prepares a photo, and what of it could not be taken over."""
    size = getattr(config, "image_size", None) or 224
    size = (size, size) if isinstance(size, int) else tuple(size)
    channels = int(getattr(config, "num_channels", 3) or 3)
    if not (folder / "preprocessor_config.json").is_file():
        note = "It has no preprocessor_config.json: photos are prepared as for ImageNet (--size, --mean … change it)."
        return Preprocessing(size=size, resize=round(min(size) * 256 / 224)), [note]
    facts = _json(folder / "preprocessor_config.json")
    wanted = facts.get("size")
    crop = _sides(facts.get("crop_size")) if facts.get("do_center_crop") else None
    resize: int | None = None
    if not facts.get("do_resize", True):
        size = crop or size
        resize = min(size)
    elif (isinstance(wanted, Mapping) and "shortest_edge" in wanted) or isinstance(wanted, int):
        edge = int(wanted["shortest_edge"] if isinstance(wanted, Mapping) else wanted)
        if crop is not None:
            size, resize = crop, edge
        elif facts.get("crop_pct") and edge < 384:  # ConvNeXt's way: the crop is the edge, resized a little larger
            size, resize = (edge, edge), int(edge / float(facts["crop_pct"]))
        else:
            size, resize = (edge, edge), None if facts.get("crop_pct") else edge
    else:
        whole = _sides(wanted) or size
        size, resize = (crop, min(whole)) if crop is not None and crop != whole else (whole, None)
    stretched = isinstance(wanted, Mapping) and "height" in wanted and resize is not None
    scale = float(facts.get("rescale_factor", 1 / 255)) if facts.get("do_rescale", True) else 1.0
    normal = facts.get("do_normalize", True)
    flipped = bool(facts.get("do_flip_channel_order"))
    mean = (
        tuple(float(value) for value in facts.get("image_mean") or (0.0,) * channels) if normal else (0.0,) * channels
    )
    std = tuple(float(value) for value in facts.get("image_std") or (1.0,) * channels) if normal else (1.0,) * channels
    notes = ["Photos are prepared as its preprocessor_config.json says."]
    if stretched:
        notes.append("Photos keep their shape before the crop; its image processor stretches them to a square first.")
    odd = sorted(key for key, value in facts.items() if key not in _KNOWN and value not in (None, False, "", 0, {}, []))
    if odd:
        notes.append(f"What its preprocessor_config.json says of {', '.join(odd)} is not done here.")
    return (
        Preprocessing(
            size=size,
            resize=resize,
            interpolation=_RESAMPLE.get(int(facts.get("resample", 2)), "bilinear"),
            range=(0.0, round(255 * scale, 6)),
            mean=mean,
            std=std,
            channels=channels,
            order="BGR" if flipped else "RGB",
        ),
        notes,
    )


def _sides(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if isinstance(value, Mapping) and {"height", "width"} <= set(value):
        return int(value["height"]), int(value["width"])
    return None
