"""Networks whose inside cannot be looked at: TorchScript and exported programs."""

from __future__ import annotations

import copy
import hashlib
import io
import warnings
from typing import Any

import torch
from torch import Tensor, nn

OPAQUE_NOTE = (
    "It is {kind}: it is run as it is, and its inner layers cannot be looked at (filters, activations, Grad-CAM and "
    "all else that needs a layer). Register the Python class with these weights to see them."
)
KINDS = {"torchscript": "TorchScript", "export": "an exported program (torch.export)"}


_kept: list[Any] = []
"""Functions that were traced: an export points into them after the call."""


class Opaque(nn.Module):
    """A network that torch runs as a whole: (N, C, H, W) in, what it returns out. Nothing in it is hooked or frozen."""

    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.network = network
        self.kind = kind
        code = "".join(str(getattr(part, "code", "")) for part in network.modules())
        # The code belongs to what a network is: it is in `repr`, which its fingerprint reads.
        self.code = hashlib.sha256(code.encode()).hexdigest()[:16]

    def forward(self, x: Tensor) -> Any:
        """What the network returns."""
        if torch._C._is_tracing() and isinstance(self.network, torch.jit.ScriptModule):
            return _as_function(self.network)(x)
        return self.network(x)

    def train(self, mode: bool = True) -> Opaque:
        """An exported program has no modes; TorchScript is put into eval mode once, when it is opened."""
        self.training = mode
        return self

    def extra_repr(self) -> str:
        """Its kind and code."""
        return f"{self.kind}, {self.code}"


def _as_function(script: torch.jit.ScriptModule) -> Any:
    """The same network with its weights as constants: an export follows a function, but no module of TorchScript."""
    graph = torch.jit.freeze(script, optimize_numerics=False).graph.copy()
    graph.eraseInput(0)
    function = torch._C._create_function_from_graph("forward", graph)
    _kept.append(function)
    return function


def copied(module: nn.Module) -> nn.Module:
    """A copy that shares no weights with `module`; a deep copy of TorchScript has parameters that are no leaves."""
    if not isinstance(module, torch.jit.ScriptModule):
        return copy.deepcopy(module)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(module, buffer)
        buffer.seek(0)
        made: nn.Module = torch.jit.load(buffer, map_location="cpu")  # type: ignore[no-untyped-call]
    return made


def plain_module(made: Any) -> nn.Module | None:
    """What a user's code returned as a module that is looked at: wrappers for training off; None if it is no module."""
    if isinstance(made, torch.export.ExportedProgram):
        return Opaque(made.module(), KINDS["export"])
    if not isinstance(made, nn.Module):
        return None
    while True:
        inner = getattr(made, "_orig_mod", None)  # torch.compile
        if inner is None and isinstance(made, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = made.module
        if not isinstance(inner, nn.Module):
            break
        made = inner
    if isinstance(made, torch.jit.ScriptModule):
        made.eval()
        return Opaque(made.cpu(), KINDS["torchscript"])
    module: nn.Module = made.cpu()
    return module
