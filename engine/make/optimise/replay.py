"""A function of tensors recorded once and replayed: on a GPU the hundreds of small operations of a step start as one.

At one picture a step a GPU computes faster than Python can tell it what to do: a forward and backward of ResNet-18
takes 4 ms told operation by operation and 1 ms as a CUDA graph (one H200).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[..., dict[str, Tensor]]

RECORD_AT = 8
"""The call with the same shapes that is recorded; by then a network is settled, and a dead unit has often woken."""
WORTH = 32
"""Calls under which nothing is recorded: recording takes as long as five of them."""
LARGEST = 1 << 22
"""Values of an input over which the GPU is busy for longer than Python, and memory for a recording is dear."""


class Replay:
    """`replay(*tensors)` gives what `function(*tensors)` gives; from the `RECORD_AT`th call on from a CUDA graph.

    The calls that count have the same shapes, one after the other. What is given lies where the next call writes, and
    its gradient may be asked for once: this is for a loop that is done with one step before the next, of a function
    that does the same each time. One that cannot be recorded (it waits for the GPU, or there is too little memory)
    goes on being called, and so does one of which few calls are `expected`.
    """

    def __init__(self, function: Function, expected: int) -> None:
        self.function = function
        self.shapes: list[torch.Size] = []
        self.calls = 0
        self.recorded: Function | None = None
        self.refused = expected < WORTH

    def __call__(self, *tensors: Tensor) -> dict[str, Tensor]:
        """The function's tensors, by name."""
        if not all(tensor.is_cuda and tensor.requires_grad for tensor in tensors):
            return self.function(*tensors)
        shapes = [tensor.shape for tensor in tensors]
        if shapes != self.shapes:
            self.shapes, self.calls, self.recorded = shapes, 0, None
        self.calls += 1
        if self.calls == RECORD_AT and not self.refused and max(tensor.numel() for tensor in tensors) <= LARGEST:
            self._record(tensors)
        return self.function(*tensors) if self.recorded is None else self.recorded(*tensors)

    def _record(self, tensors: tuple[Tensor, ...]) -> None:
        like = tuple(tensor.detach().clone().requires_grad_(True) for tensor in tensors)
        try:
            with warnings.catch_warnings():
                # Recording has a stream of its own, and torch warns of gradients that meet another: none do.
                warnings.simplefilter("ignore")
                made = torch.cuda.make_graphed_callables(self.function, like, allow_unused_input=True)
            self.recorded = made  # type: ignore[assignment]
        except RuntimeError:
            self.refused = True
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
