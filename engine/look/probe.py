"""A probe asks a network a question: taps, and what is reduced inside the graph; then it runs batches.

It opens one ONNX Runtime session on the graph cut at its deepest tap, records which provider really runs,
and halves the batch when memory runs out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.look.reducers import Editor

if TYPE_CHECKING:
    import onnx

    from engine.method import Job

Answer = Callable[[Mapping[str, NDArray[Any]], Sequence[str]], list[NDArray[Any]]]
Build = Callable[[Editor, Mapping[str, str]], None]
"""Adds a question's nodes: told the editor, and the name of the tensor behind each tap."""


class Probe:
    """A session that answers one question about some taps of a network.

    `build(editor, tensors)` adds the nodes and names the answers; `provider` is the one that really runs: "cpu",
    "cuda" or "tensorrt". Raises UnknownNameError for a tap that is not there, ProviderError if the provider asked
    for does not work.
    """

    def __init__(self, job: Job, taps: Sequence[str], build: Build, threads: int | None = None) -> None:
        graph = job.network.graph()
        editor = Editor(graph.cut(list(taps)))
        build(editor, {tap: graph.taps[tap] for tap in taps})
        model = editor.build()
        self.answers = [value.name for value in model.graph.output]
        self._answer, self.provider = self.open(model, job.provider, threads)
        self._largest: int | None = None
        job.record(provider=self.provider, precision=_precision(editor))

    def open(self, model: onnx.ModelProto, provider: str, threads: int | None) -> tuple[Answer, str]:
        """What runs a batch of feeds, and the provider that it really runs on."""
        from models.onnx_net import Session

        session = Session(model, provider, threads)
        return session.run, session.provider

    def run(self, feeds: Mapping[str, NDArray[Any]], batched: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The answers by name, each with the batch first.

        `batched` names the feeds that are cut along their first axis when memory runs out; the others are fed
        whole each time. A size that once ran out of memory is not tried again.
        """
        from models.onnx_net import out_of_memory

        count = len(feeds[batched[0]])
        parts = []
        start = 0
        while start < count:
            size = min(self._largest or count, count - start)
            part = {name: array[start : start + size] if name in batched else array for name, array in feeds.items()}
            try:
                parts.append(self._answer(part, self.answers))
            except Exception as error:
                if size == 1 or not out_of_memory(error):
                    raise
                self._largest = size // 2
                continue
            start += size
        if len(parts) == 1:
            return dict(zip(self.answers, parts[0], strict=True))
        joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        return dict(zip(self.answers, joined, strict=True))


def batch_size(provider: str) -> int:
    """A batch that keeps the provider busy: small on a CPU, whose caches are what counts, large on a GPU."""
    return 8 if provider == "cpu" else 64


def _precision(editor: Editor) -> str:
    return "fp16" if editor.input_type == "float16" else "fp32"
