"""A network in use: its card, its frozen torch module on each device, its tapped ONNX graph."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from fovea.models.card import Card
from fovea.models.errors import NetworkError
from fovea.models.home import home

if TYPE_CHECKING:
    from torch import nn

    from fovea.models.graph.cut import TappedGraph

EXPORT_VERSION = 2
"""Raised when an export of the same network would come out different."""


class Network:
    """`name`, `card`, and on demand `module(device)` and `graph()`. Safe to share between threads.

    `graph` is given for a network that is an ONNX file; `module` is None then.
    """

    def __init__(self, name: str, card: Card, module: nn.Module | None, graph: TappedGraph | None = None) -> None:
        self.name = name
        self.card = card
        self._modules: dict[str, nn.Module] = {} if module is None else {"cpu": module}
        self._graph = graph
        self._lock = threading.RLock()

    def module(self, device: str = "cpu") -> nn.Module:
        """The torch module on `device` ("cpu", "cuda", "cuda:1"), one copy for each: eval mode, frozen, no `inplace`.

        Raises NetworkError if the network is an ONNX file, which has no gradients.
        """
        import torch

        key = str(torch.device(device))
        with self._lock:
            if "cpu" not in self._modules:
                raise NetworkError(f"{self.name} is an ONNX file: gradients need the torch network (use a look method)")
            if key not in self._modules:
                self._modules[key] = _on_device(self._modules["cpu"], key)
            return self._modules[key]

    def graph(self) -> TappedGraph:
        """The ONNX graph with every layer as a named output; exported and checked on the first use, then cached.

        Raises NetworkError if it cannot be exported, ParityError if it disagrees with torch.
        """
        with self._lock:
            if self._graph is None:
                self._graph = _exported(self.card, lambda: self.module("cpu"))
            return self._graph


def _on_device(module: nn.Module, device: str) -> nn.Module:
    """A copy there. On a GPU convolutions are exact single precision and give the same bits each time.

    By default torch rounds their inputs to ten bits of mantissa (TF32) and takes algorithms that sum in any order.
    """
    import copy

    import torch

    if device.startswith("cuda"):
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    try:
        return copy.deepcopy(module).to(device)
    except (RuntimeError, AssertionError) as error:
        raise NetworkError(f"the network cannot be moved to {device}: {str(error).splitlines()[0]}") from None


def _exported(card: Card, module: Callable[[], nn.Module]) -> TappedGraph:
    from filelock import FileLock

    from fovea.models.graph import export
    from fovea.models.graph.cut import TappedGraph

    shape = (card.preprocessing.channels, *card.preprocessing.size)
    facts = [card.sha256, card.architecture, shape, EXPORT_VERSION]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    folder = home() / "exports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key}.onnx"
    if not path.is_file():
        # Two processes must not export the same network at the same time: it takes seconds and memory.
        with FileLock(str(path.with_suffix(".lock"))):
            if not path.is_file():
                export.export(module(), card, path)
    return TappedGraph.open(path, shape)
