"""Files that bring a whole network, and can run code: TorchScript, torch.export archives, pickled torch modules."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from fovea.models.checkpoint import kind_of, one_line
from fovea.models.errors import FoveaError, NetworkError, WeightsError
from fovea.models.opaque import KINDS, plain_module
from fovea.models.user_code import open_project

TRUST = (
    "{name} brings a network of its own, as {kind}: using it can run any code on this machine. Say --trust if you "
    "trust whoever made it"
)


def open_file(path: Path, trust: bool, key: str = "") -> nn.Module:
    """The network that a file brings whole: TorchScript, a torch.export archive, or a pickled torch module.

    This can run code from the file. Raises WeightsError without `trust`, and for a file that brings none.
    """
    kind = kind_of(path)
    if kind == "safetensors":
        raise WeightsError(f"{path.name} holds weights only: name its architecture, and the file as the weights")
    if not trust:
        raise WeightsError(TRUST.format(name=path.name, kind=KINDS.get(kind, "a pickled module")))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "torchscript":
                made: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
            elif kind == "export":
                made = torch.export.load(path)
            else:
                made = _unpickled(path, key)
    except FoveaError:
        raise
    except Exception as error:
        raise NetworkError(f"{path.name} cannot be opened: {type(error).__name__}: {one_line(error)}") from error
    module = plain_module(made)
    if module is None:
        raise WeightsError(
            f"{path.name} holds an object of type {type(made).__name__}, no module: name its architecture, and the "
            "file as the weights"
        )
    return module


def _unpickled(path: Path, key: str) -> Any:
    """The module in a pickle, whose classes are found in the file's own folder first."""
    project = open_project(path)

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module == "__main__":
                raise NetworkError(
                    f"{path.name} was saved by a script that defined {name} itself: name that script and its class as "
                    "the architecture, and this file as the weights"
                )
            if not project.owns(module):
                return super().find_class(module, name)
            found: Any = project.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
            return found

    reader = ModuleType("pickle")
    vars(reader).update({**vars(pickle), "Unpickler": Unpickler, "load": lambda file, **_: Unpickler(file).load()})
    with project.paths():
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader)
    if isinstance(content, Mapping):
        modules = {str(name): item for name, item in content.items() if isinstance(item, nn.Module)}
        if key and key not in modules:
            raise WeightsError(f"{path.name} has no module under {key!r}: it has {', '.join(modules) or 'none'}")
        averages = [name for name in modules if "ema" in name.lower()]
        content = modules[key or [*averages, *modules][0]] if modules else content
    return content
