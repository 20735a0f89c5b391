"""A probe asks a network a question: taps, and what is reduced inside the graph; then it runs batches.

It opens one session on the graph cut at its deepest tap, records which provider really runs,
and halves the batch when memory runs out. Of a long row of batches a CPU runs several at once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import not_finite
from fovea.engine.look.probing.reducers import Editor
from fovea.models.card import OUTPUT

if TYPE_CHECKING:
    import onnx

    from fovea.engine.method import Job

Answer = Callable[[Mapping[str, NDArray[Any]], Sequence[str]], list[NDArray[Any]]]
Build = Callable[[Editor, Mapping[str, str]], None]
"""Adds a question's nodes: told the editor, and the name of the tensor behind each tap."""

MOST_PARALLEL = 8
"""Batches that run at once at most: each holds the maps of a whole batch in memory."""

T = TypeVar("T")


class Probe:
    """A session that answers one question about some taps of a network.

    `build(editor, tensors)` adds the nodes and names the answers; `provider` is the one that really runs: "cpu",
    "cuda" or "tensorrt", or "torch" (on a GPU "torch:cuda") where the network has no ONNX graph, which the run then
    says. `holes`: who asks can do with answers that are NaN or infinite for some inputs. `parallel`: batches that
    `stream` runs at once on a CPU, among which the cores are divided.
    Raises UnknownNameError for a tap that is not there, ProviderError if the provider asked for does not work.
    """

    def __init__(
        self,
        job: Job[Any],
        taps: Sequence[str],
        build: Build,
        threads: int | None = None,
        parallel: int = 1,
        holes: bool = False,
    ) -> None:
        graph = job.network.graph()
        if graph.reason:
            job.warn(f"The network ran in PyTorch, which is slower, because {graph.reason}.")
        editor = Editor(graph.question(list(taps)))
        build(editor, {tap: graph.taps[tap] for tap in taps})
        model = editor.build()
        self.answers = [value.name for value in model.graph.output]
        if parallel > 1:
            threads = max(1, cores() // parallel)
        self._taps, self._holes = list(taps), holes
        self._graph, self._device = graph, job.device
        self._answer, self.provider = self.open(model, job.provider, threads)
        self.parallel = parallel if self.provider == "cpu" else 1
        self._largest: int | None = None
        self._fixed = graph.batch
        job.record(provider=self.provider, precision=_precision(editor))

    def open(self, model: onnx.ModelProto, provider: str, threads: int | None) -> tuple[Answer, str]:
        """What runs a batch of feeds, and the provider that it really runs on."""
        session = self._graph.session(model, provider, threads, self._device)
        return session.run, session.provider

    def run(self, feeds: Mapping[str, NDArray[Any]], batched: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The answers by name, each with the batch first.

        `batched` names the feeds that are cut along their first axis when memory runs out; the others are fed
        whole each time. A size that once ran out of memory is not tried again. A graph that takes one batch size
        alone (some users' networks) gets that, the last row repeated, and its answers are cut off again.

        Raises NetworkError where an answer is not finite, unless the probe takes `holes`.
        """
        from fovea.models.memory import run_halving

        def answer(rows: Sequence[int]) -> list[NDArray[Any]]:
            part = {
                name: filled(array[rows[0] : rows[-1] + 1], self._fixed) if name in batched else array
                for name, array in feeds.items()
            }
            answers = self._answer(part, self.answers)
            return [each[: len(rows)] for each in answers] if self._fixed else answers

        rows = range(len(feeds[batched[0]]))
        parts = []
        if self._fixed:  # less memory cannot be had: it takes no smaller batch
            parts = [answer(rows[start : start + self._fixed]) for start in rows[:: self._fixed]]
        else:
            answered = 0
            for answers, size in run_halving(answer, rows, self._largest or len(rows)):
                parts.append(answers)
                answered += size
                if answered < len(rows):  # only the last batch may be small for another reason than memory
                    self._largest = size
        joined = parts[0] if len(parts) == 1 else [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        if not self._holes and any(spoiled(array) for array in joined):
            raise not_finite(self._taps[0] if len(self._taps) == 1 else OUTPUT)
        return dict(zip(self.answers, joined, strict=True))

    def stream(
        self, batches: Iterable[tuple[T, Mapping[str, NDArray[Any]]]], batched: Sequence[str]
    ) -> Iterator[tuple[T, dict[str, NDArray[Any]]]]:
        """The answers to many batches, each with what came beside its feeds, in their order.

        Each thread runs a whole batch by itself: threads that share the work inside every operator spend up to half
        of their time waiting for one another. One batch more than `parallel` is in flight, so memory is flat.
        """
        waiting: deque[tuple[T, Future[dict[str, NDArray[Any]]]]] = deque()
        pool = ThreadPoolExecutor(self.parallel, thread_name_prefix="probe")
        try:
            for beside, feeds in batches:
                waiting.append((beside, pool.submit(self.run, feeds, batched)))
                if len(waiting) > self.parallel:
                    first, answers = waiting.popleft()
                    yield first, answers.result()
            while waiting:
                first, answers = waiting.popleft()
                yield first, answers.result()
        finally:
            pool.shutdown(cancel_futures=True)


def spoiled(values: NDArray[Any]) -> bool:
    """Whether some value is NaN or infinite. Minus infinity is none: so networks mask what they rule out."""
    return values.dtype.kind == "f" and bool((np.isnan(values) | np.isposinf(values)).any())


def filled(batch: NDArray[Any], size: int | None) -> NDArray[Any]:
    """A batch of `size` rows: the last is repeated. None: as it is."""
    missing = (size or 0) - len(batch)
    return np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing > 0 else batch


def batch_size(provider: str, parallel: int = 1) -> int:
    """A batch that keeps the provider busy: small on a CPU, whose caches are what counts, large on a GPU."""
    if provider in ("cpu", "torch"):
        return 4 if parallel > 1 else 8
    return 64


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_batches() -> int:
    """One batch at once for each core, as long as memory for their maps is modest."""
    return min(cores(), MOST_PARALLEL)


def _precision(editor: Editor) -> str:
    return "fp16" if editor.input_type == "float16" else "fp32"
