"""Whether the ONNX graph computes what the torch network does, at every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fovea.engine.errors import UnsupportedError
from fovea.models.card import OUTPUT

if TYPE_CHECKING:
    from fovea.models.graph.parity import Gap
    from fovea.models.network import Network

BATCHES = (1, 3)
"""The batch sizes that are compared; an export is recorded with another, so that one that stuck in it shows."""


def parity(network: Network) -> dict[str, Gap]:
    """How far torch and ONNX differ at each layer and at the output, in forward order, and whether they agree.

    The worst of the batch sizes `BATCHES`, on normal noise. Raises UnsupportedError for an ONNX file, which has no
    torch twin, or whose network has no ONNX graph, and ParityError if the graph disagrees in a shape.
    """
    from fovea.models.graph.parity import Gap, compare

    if not network.card.has_module:
        raise UnsupportedError(f"{network.name} is an ONNX file: it has no torch twin to compare with")
    graph, module = network.graph(), network.module("cpu")
    by_batch = [
        compare(module, graph.path, graph.taps, graph.input, graph.input_shape, network.name, batch)
        for batch in ((graph.batch,) if graph.batch is not None else BATCHES)
    ]
    order = [*(layer.name for layer in network.card.layers), OUTPUT]
    return {
        tap: Gap(max(gaps[tap].difference for gaps in by_batch), all(gaps[tap].agrees for gaps in by_batch))
        for tap in order
        if tap in graph.taps
    }
