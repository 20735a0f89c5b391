"""An ONNX graph whose taps have names, and the part of it that a question needs."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.models.errors import unknown

if TYPE_CHECKING:
    import onnx

    from fovea.models.graph.apart import ApartSession
    from fovea.models.graph.sessions import Session

OWN = "net/"
"""Every tensor's name begins with this."""
TAPS = "fovea.taps"
"""The file's own entry that says which tensor each tap is, as JSON."""
INPUT = "fovea.input"
"""The file's own entry that names its input."""
BATCH = "fovea.batch"
"""The file's own entry for the only batch size that it takes."""


def own_names(graph: onnx.GraphProto) -> None:
    """Let every tensor's name begin with `OWN`, so that what a question adds to the graph cannot meet it."""
    sparse = [tensor.values for tensor in graph.sparse_initializer]
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer, *sparse):
        value.name = f"{OWN}{value.name}"
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [name and f"{OWN}{name}" for name in names]
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                own_names(inner)


class TappedGraph:
    """An ONNX graph with named taps. `taps`: tap to tensor; `input`: the input's name; `input_shape`: (C, H, W);
    `batch`: the only batch size that it takes, None where any does (all but some users' networks); `reason`: why torch
    answers in the place of ONNX Runtime (see `TorchGraph`), "" where it does not."""

    reason = ""
    apart = False
    """Whether a question stands apart from the network's own nodes (see `ApartGraph`)."""

    def __init__(
        self,
        path: Path,
        taps: Mapping[str, str],
        input_name: str,
        input_shape: Sequence[int],
        model: onnx.ModelProto | None = None,
        batch: int | None = None,
    ) -> None:
        self.path = path
        self.taps = dict(taps)
        self.input = input_name
        self.input_shape = tuple(input_shape)
        self.batch = batch
        self._model = model
        self._extractor: Any = None
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, input_shape: Sequence[int]) -> TappedGraph:
        """The graph that `export` wrote to `path`."""

        graph = cls(path, {}, "", input_shape)
        model: onnx.ModelProto = graph._load().model
        facts = {entry.key: entry.value for entry in model.metadata_props}
        graph.taps, graph.input = dict(json.loads(facts[TAPS])), facts[INPUT]
        graph.batch = int(facts[BATCH]) if BATCH in facts else None
        return graph

    def tensor(self, tap: str) -> str:
        """The tensor that a tap names. Raises UnknownNameError."""
        if tap not in self.taps:
            raise unknown("layer", tap, self.taps, self.path.stem)
        return self.taps[tap]

    def cut(self, taps: Sequence[str]) -> onnx.ModelProto:
        """A new model, the caller's own, that ends at `taps`: what they do not need is gone.

        Its outputs are the taps' tensors (see `taps`), each once, in the order given. Raises UnknownNameError.
        """
        tensors = list(dict.fromkeys(self.tensor(tap) for tap in taps))
        with self._lock:
            model: onnx.ModelProto = self._load().extract_model([self.input], tensors)
        return model

    def question(self, taps: Sequence[str]) -> onnx.ModelProto:
        """A model, the caller's own, to which a question about `taps` adds its nodes; a session runs it then."""
        return self.cut(taps)

    def session(
        self, model: onnx.ModelProto, provider: str, threads: int | None = None, device: str = "cpu"
    ) -> Session | ApartSession:
        """What runs a question: a `model` that was made of `question`. `device` is where torch would compute.

        Raises ProviderError if a provider that is asked for by name does not work.
        """
        from fovea.models.graph.sessions import Session

        return Session(model, provider, threads)

    def _load(self) -> Any:
        if self._extractor is None:
            import onnx
            import onnx.utils

            model = self._model or onnx.load(str(self.path), load_external_data=False)
            self._extractor = onnx.utils.Extractor(model)
        return self._extractor
