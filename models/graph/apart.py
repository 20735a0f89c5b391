"""Questions to a network that is computed apart from them: by torch, or by ONNX Runtime in an older set of operators.

A question adds its nodes before and behind the network, which is one node here. Those nodes run in ONNX Runtime, and
between them the taps come from whoever computes the network. So every reduction is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.models.graph import OPSET
from fovea.models.graph.cut import TappedGraph
from fovea.models.graph.sessions import Session

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]

DOMAIN = "fovea"
"""The domain of the operator that stands for the network; no runtime knows it."""

Compute = Callable[[Array], Mapping[str, Array]]
"""From normalised images (N, C, H, W) to every tensor that a question reads."""


class ApartGraph(TappedGraph):
    """An ONNX graph whose questions are asked in `OPSET`, whatever set of operators it is written in."""

    apart = True

    def question(self, taps: Sequence[str]) -> onnx.ModelProto:
        """A model of one node that stands for the network, whose outputs are `taps`. Raises UnknownNameError."""
        from onnx import TensorProto, helper

        tensors = list(dict.fromkeys(self.tensor(tap) for tap in taps))
        value = helper.make_tensor_value_info(self.input, TensorProto.FLOAT, ["batch", *self.input_shape])
        outputs = [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None) for tensor in tensors]
        node = helper.make_node("Network", [self.input], tensors, domain=DOMAIN)
        graph = helper.make_graph([node], "apart", [value], outputs)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def session(
        self, model: onnx.ModelProto, provider: str, threads: int | None = None, device: str = "cpu"
    ) -> Session | ApartSession:
        """What runs a question. Raises ProviderError if a provider that is asked for by name does not work."""
        tap_of = {tensor: tap for tap, tensor in self.taps.items()}
        tensors = network_outputs(model)
        network = Session(self.cut([tap_of[tensor] for tensor in tensors]), provider, threads)

        def compute(x: Array) -> dict[str, Array]:
            return dict(zip(tensors, network.run({self.input: x}, tensors), strict=True))

        return ApartSession(model, compute, network.provider, threads)


def network_outputs(model: onnx.ModelProto) -> list[str]:
    """The tensors that a question reads of the network."""
    return list(next(node for node in model.graph.node if node.domain == DOMAIN).output)


class ApartSession:
    """Answers a question as `Session` does, with the network computed by `compute` on `provider`."""

    def __init__(self, model: onnx.ModelProto, compute: Compute, provider: str, threads: int | None) -> None:
        node = next(node for node in model.graph.node if node.domain == DOMAIN)
        self.provider = provider
        self.outputs = [value.name for value in model.graph.output]
        self._compute = compute
        self._input = node.input[0]
        front = _part(model, [], [self._input])
        self._front = Session(front, "cpu", threads) if front.graph.node else None
        self._tail = Session(_part(model, list(node.output), self.outputs), "cpu", threads)

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """The outputs (all, unless named) for `feeds` (input name to array)."""
        values: dict[str, Array] = dict(feeds)
        if self._front is not None:
            (values[self._input],) = self._front.run({name: feeds[name] for name in self._front.inputs})
        values.update(self._compute(np.ascontiguousarray(values[self._input], np.float32)))
        return self._tail.run({name: values[name] for name in self._tail.inputs}, outputs)


def _part(model: onnx.ModelProto, starts: Sequence[str], ends: Sequence[str]) -> onnx.ModelProto:
    """The part of a question that makes `ends` from its own inputs and from `starts`; the network is in no part."""
    from onnx import TensorProto, helper

    wanted, nodes = set(ends), []
    for node in reversed(model.graph.node):
        if node.domain != DOMAIN and any(tensor in wanted for tensor in node.output):
            nodes.append(node)
            wanted.update(node.input)
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in starts if name in wanted]
    known = {value.name: value for value in model.graph.output}
    outputs = [known.get(name) or helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ends]
    graph = helper.make_graph(
        nodes[::-1],
        "part",
        [*(value for value in model.graph.input if value.name in wanted), *floats],
        outputs,
        [tensor for tensor in model.graph.initializer if tensor.name in wanted],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
