"""A network in use: what methods ask of it, and the network that holds a torch module."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fovea.models.card import Card
from fovea.models.errors import NetworkError
from fovea.models.home import home, write_whole

if TYPE_CHECKING:
    from torch import nn

    from fovea.models.graph.cut import TappedGraph

EXPORT_VERSION = 2
"""Raised when an export of the same network would come out different."""
EXPORTER_VERSION = 1
"""Raised when more networks can be exported than before: those that could not are tried again."""


class Network(Protocol):
    """What methods ask of a network. Safe to share between threads."""

    @property
    def name(self) -> str:
        """What it was loaded as, `torchvision:resnet18` for example."""

    @property
    def card(self) -> Card:
        """What is known of it without running it."""

    def module(self, device: str = "cpu") -> nn.Module:
        """The torch module on `device` ("cpu", "cuda:1", "mps"): in eval mode, frozen, nothing in it works in place.

        Raises NetworkError if there is none, or if it cannot be moved there.
        """

    def graph(self) -> TappedGraph:
        """What answers a question about its layers: an ONNX graph with every layer as a named output.

        Where none can be had, or it disagrees with torch, torch answers in its place and `reason` says why.
        """


class TorchNetwork:
    """A network that holds a prepared torch module (see `torch_net.prepare`); its graph is exported when asked for."""

    def __init__(self, name: str, card: Card, module: nn.Module) -> None:
        from fovea.models import torch_net
        from fovea.models.torch_output import read_as

        self.name = name
        self.card = card
        read_as(module, card.output_name, card.output, card.varies)
        self._modules = {"cpu": torch_net.adapt(module, card.batch, card.larger_batches, card.squeezed)}
        self._graph: TappedGraph | None = None
        self._lock = threading.RLock()

    def module(self, device: str = "cpu") -> nn.Module:
        """The torch module on `device`, one copy for each. Raises NetworkError if it cannot be moved there."""
        import torch

        key = str(torch.device(device))
        with self._lock:
            if key not in self._modules:
                self._modules[key] = _on_device(self._modules["cpu"], key)
            return self._modules[key]

    def graph(self) -> TappedGraph:
        """The ONNX graph with every layer as a named output; exported and checked on the first use, then cached.

        Torch in its place, and a note on the card, where it cannot be exported or disagrees with torch.
        """
        with self._lock:
            if self._graph is None:
                self._graph = _exported(self)
                if self._graph.reason:
                    note = f"Methods that only look run in PyTorch, which is slower, because {self._graph.reason}."
                    self.card = self.card.model_copy(update={"notes": (*self.card.notes, note)})
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
    except (RuntimeError, AssertionError, TypeError) as error:
        raise NetworkError(f"the network cannot be moved to {device}: {str(error).splitlines()[0]}") from None


def _exported(network: TorchNetwork) -> TappedGraph:
    from filelock import FileLock

    from fovea.models.graph import export
    from fovea.models.graph.cut import TappedGraph
    from fovea.models.graph.torch_graph import TorchGraph

    card = network.card
    shape = (card.preprocessing.channels, *card.preprocessing.size)
    facts = [card.sha256, card.architecture, shape, EXPORT_VERSION]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    folder = home() / "exports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key}.onnx"
    failed = path.with_suffix(".failed")
    reason = "" if path.is_file() else _why_failed(failed)
    if not path.is_file() and not reason:
        # Two processes must not export the same network at the same time: it takes seconds and memory.
        with FileLock(str(path.with_suffix(".lock"))):
            reason = "" if path.is_file() else _why_failed(failed)
            if not path.is_file() and not reason:
                try:
                    if card.varies:  # an export leaves its noise out, or keeps one draw of it for ever
                        raise NetworkError("it gives another answer each time that it sees the same image")
                    export.export(network.module("cpu"), card, path)
                except NetworkError as error:
                    reason = str(error).removeprefix(f"{card.name}: ").rstrip(".")
                    write_whole(failed, json.dumps([_exporter(), reason]).encode("utf-8"))
    return TorchGraph(network.module, card, reason) if reason else TappedGraph.open(path, shape)


def _exporter() -> list[int | str]:
    """What an export depends on beside the network: with another one it is tried again."""
    from importlib.metadata import version

    from fovea.models.graph.providers import runtime

    return [EXPORT_VERSION, EXPORTER_VERSION, version("torch"), str(runtime().__version__)]


def _why_failed(path: Path) -> str:
    """Why the same network could not be exported before, "" if that was never tried with what is installed now."""
    try:
        exporter, reason = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(reason) if exporter == _exporter() else ""
