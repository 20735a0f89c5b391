"""A network as attacks run it over and over: a part of the batch on each core, forward and back.

Threads that share the work inside every operator wait for one another, much so on a busy machine; a thread that has
pictures of its own waits for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fovea.engine.make.optimise.folded_network import FoldedNetwork
from fovea.models.card import OUTPUT
from fovea.models.network import Network

T = TypeVar("T")


class _Threads:
    """Threads that run torch on one core each."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, "attack", initializer=self._alone)
        met = threading.Barrier(count + 1)
        for _ in range(count):
            self._pool.submit(met.wait)
        met.wait()
        # The number of threads is each thread's own setting, but new threads begin with what was set last.
        torch.set_num_threads(count)

    @staticmethod
    def _alone() -> None:
        torch.set_num_threads(1)

    def run(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """What the tasks return, in their order."""
        return [future.result() for future in [self._pool.submit(task) for task in tasks]]


_lock = threading.Lock()
_known: dict[int, _Threads] = {}


def _threads() -> _Threads:
    """As many as torch may use; made once a process."""
    count = torch.get_num_threads()
    with _lock:
        if count not in _known:
            _known[count] = _Threads(count)
        return _known[count]


class _Spread(torch.autograd.Function):
    """A network run on the parts of its batch at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[Tensor], Tensor], graph: bool) -> Tensor:
        """The output (N, ...) for x (N, C, H, W); `graph`: whether a gradient may be asked for."""
        threads = _threads()
        parts = [part.detach().requires_grad_(graph) for part in x.chunk(threads.count)]

        def answer(part: Tensor) -> Tensor:
            with torch.set_grad_enabled(graph):
                return run(part)

        outputs = threads.run([lambda part=part: answer(part) for part in parts])  # type: ignore[misc]
        ctx.threads, ctx.parts, ctx.outputs = threads, parts, outputs
        return torch.cat([output.detach() for output in outputs])

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of x. It may be asked for more than once, as DeepFool does."""

        def gradient_of(output: Tensor, part: Tensor, gradient: Tensor) -> Tensor:
            return torch.autograd.grad(output, part, gradient, retain_graph=True)[0]

        cuts = torch.split(above[0], [len(part) for part in ctx.parts])
        tasks = [
            lambda output=output, part=part, cut=cut: gradient_of(output, part, cut)
            for output, part, cut in zip(ctx.outputs, ctx.parts, cuts, strict=True)
        ]
        return torch.cat(ctx.threads.run(tasks)), None, None


class ParallelModule(nn.Module):
    """A network's output (N, ...) for x (N, C, H, W), differentiable, quick; its layers cannot be tapped.

    On a CPU, where the batch has several pictures; elsewhere it is the quick network alone.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._quick, self._seen = FoldedNetwork(module, [OUTPUT]), False

    def _run(self, x: Tensor) -> Tensor:
        return self._quick(x)[OUTPUT]

    def forward(self, x: Tensor) -> Tensor:
        """What the network returns."""
        if len(x) < 2 or x.device.type != "cpu" or torch.get_num_threads() < 2:
            return self._run(x)
        if not self._seen:  # it watches its first pass, which must be one thread's alone
            with torch.no_grad():
                self._run(x[:1])
            self._seen = True
        spread: Callable[..., Tensor] = _Spread.apply
        return spread(x, self._run, torch.is_grad_enabled() and x.requires_grad)


class ParallelNetwork:
    """A network with the same card whose modules are `ParallelModule`s."""

    def __init__(self, network: Network) -> None:
        self.name, self.card, self.graph = network.name, network.card, network.graph
        self._network = network

    def module(self, device: str = "cpu") -> nn.Module:
        """The torch module on `device`."""
        return ParallelModule(self._network.module(device))
