"""How a timm network wants its photos prepared."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fovea.models.card import RESAMPLING, Preprocessing

if TYPE_CHECKING:
    from torch import nn


def timm_preprocessing(module: nn.Module) -> Preprocessing:
    """What the network's own configuration says."""
    timm: Any = importlib.import_module("timm")
    config = timm.data.resolve_model_data_config(module)
    channels, height, width = config["input_size"]
    resize = int(min(height, width) / float(config.get("crop_pct") or 1.0))
    return Preprocessing(
        size=(height, width),
        resize=None if config.get("crop_mode") == "squash" else resize,
        interpolation=config["interpolation"] if config["interpolation"] in RESAMPLING else "bicubic",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        channels=channels,
    )
