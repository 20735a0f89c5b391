"""Where a run runs: the device, and the versions of what shapes its result."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import re
from pathlib import Path

from fovea.engine.errors import ProviderError
from fovea.models.home import home
from fovea.version import __version__

ACCELERATORS = {"cuda": "CUDA device", "mps": "Apple GPU"}
"""Where torch computes besides the CPU, the first one first, and what each is called."""
DEVICES = ("auto", "cpu", *ACCELERATORS)
PROVIDERS = ("auto", "cpu", "cuda", "tensorrt")
PACKAGES = ("torch", "torchvision", "onnxruntime", "onnxruntime-gpu", "onnx", "numpy", "pandas", "pillow", "timm")
"""Whose versions are recorded, where they are installed."""


def resolve_device(device: str) -> str:
    """ "cpu", "cuda" or "mps"; "auto" is the first of `ACCELERATORS` that torch has. Raises ProviderError. Imports
    torch."""
    if device == "cpu":
        return "cpu"
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    fastest = next((name for name in ACCELERATORS if there[name]), "cpu")
    _remember_fastest(fastest)
    if device == "auto":
        return fastest
    if not there[device]:
        raise ProviderError(
            f"device {device} was asked for, and torch finds no {ACCELERATORS[device]} here: use --device cpu or auto"
        )
    return device


def remembered_device(device: str) -> str | None:
    """As `resolve_device` told it last on this machine, without importing torch; None if it never has."""
    if device != "auto":
        return device
    try:
        machine = json.loads(_machine_file().read_text(encoding="utf-8"))
        if machine["host"] == platform.node() and machine["fastest"] in DEVICES:
            return str(machine["fastest"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def device_limit(device: str, error: BaseException) -> ProviderError | None:
    """What torch says of an operation that a device lacks, in one line; None for any other error."""
    text = str(error)
    if device == "cpu" or (device.upper() not in text and device not in text):
        return None
    operator = re.search(r"operator '([\w:.]+)' is not currently implemented", text)
    lacks = f"has no {operator[1]}" if operator else "has no numbers of 64 bits" if "float64" in text else ""
    return ProviderError(f"device {device} {lacks}, which this needs: use --device cpu") if lacks else None


def _machine_file() -> Path:
    return home() / "machine.json"


def _remember_fastest(device: str) -> None:
    """Note it, so that a page can tell a request's fingerprint without importing torch."""
    text = json.dumps({"fastest": device, "host": platform.node()})
    with contextlib.suppress(OSError):
        if not _machine_file().exists() or _machine_file().read_text(encoding="utf-8") != text:
            _machine_file().write_text(text, encoding="utf-8")


def versions() -> dict[str, str]:
    """The versions of Fovea, Python and the packages that shape results, without importing them."""
    installed = {"fovea": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed
