"""Torch in the place of ONNX Runtime, for networks that cannot be exported: the same questions, answered alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fovea.models.card import INPUT_OF, OUTPUT, Card
from fovea.models.graph.apart import ApartGraph, ApartSession, Array, network_outputs
from fovea.models.graph.cut import OWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    from torch import nn


class TorchGraph(ApartGraph):
    """A network whose taps torch computes. `module(device)` gives its module there; `reason` says why, in words."""

    def __init__(self, module: Callable[[str], nn.Module], card: Card, reason: str) -> None:
        names = [*(layer.name for layer in card.layers), OUTPUT]
        taps = {name: f"{OWN}{name}" for name in names}
        taps |= {f"{INPUT_OF}{layer.name}": f"{OWN}{INPUT_OF}{layer.name}" for layer in card.layers if layer.parameters}
        shape = (card.preprocessing.channels, *card.preprocessing.size)
        input_name = "input" if "input" not in names else "network_input"
        super().__init__(Path(card.name), taps, f"{OWN}{input_name}", shape, batch=card.batch)
        self.reason = reason
        self._module = module

    def cut(self, taps: Sequence[str]) -> onnx.ModelProto:
        """The network is one node, which cannot be cut further. Raises UnknownNameError."""
        return self.question(taps)

    def session(
        self, model: onnx.ModelProto, provider: str, threads: int | None = None, device: str = "cpu"
    ) -> ApartSession:
        """What runs a question: torch on `device`, and so with no regard to `provider`. The session's own provider is
        "torch", or "torch:cuda" where that is not the CPU."""
        import torch

        from fovea.models.torch_net import forward_taps

        tap_of = {tensor: tap for tap, tensor in self.taps.items()}
        tensors, module = network_outputs(model), self._module(device)

        def compute(x: Array) -> dict[str, Array]:
            with torch.no_grad():
                values = forward_taps(module, torch.from_numpy(x).to(device), [tap_of[tensor] for tensor in tensors])
            return {tensor: values[tap_of[tensor]].float().cpu().numpy() for tensor in tensors}

        return ApartSession(model, compute, "torch" if device == "cpu" else f"torch:{device}", threads)
