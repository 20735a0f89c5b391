"""Where a run runs: the device, and the versions of what shapes its result."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
from pathlib import Path

from fovea.engine.errors import ProviderError
from fovea.models.home import home
from fovea.version import __version__

DEVICES = ("auto", "cpu", "cuda")
PROVIDERS = ("auto", "cpu", "cuda", "tensorrt")
PACKAGES = ("torch", "torchvision", "onnxruntime", "onnxruntime-gpu", "onnx", "numpy", "pandas", "pillow", "timm")
"""Whose versions are recorded, where they are installed."""


def resolve_device(device: str) -> str:
    """ "cpu" or "cuda"; "auto" is CUDA where torch has it. Raises ProviderError. Imports torch."""
    if device == "cpu":
        return "cpu"
    import torch

    cuda = torch.cuda.is_available()
    _remember_cuda(cuda)
    if device == "cuda" and not cuda:
        raise ProviderError("device cuda was asked for, and torch finds no CUDA device here: use --device cpu or auto")
    return "cuda" if cuda else "cpu"


def remembered_device(device: str) -> str | None:
    """As `resolve_device` told it last on this machine, without importing torch; None if it never has."""
    if device != "auto":
        return device
    try:
        machine = json.loads(_machine_file().read_text(encoding="utf-8"))
        if machine["host"] == platform.node():
            return "cuda" if machine["cuda"] else "cpu"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _machine_file() -> Path:
    return home() / "machine.json"


def _remember_cuda(cuda: bool) -> None:
    """Note it, so that a page can tell a request's fingerprint without importing torch."""
    text = json.dumps({"cuda": cuda, "host": platform.node()})
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
