"""The network as the loop runs it, step after step: the same values up to rounding, sooner; its weights stay untouched.

A batch norm in eval mode is a scale and a shift, which go into the convolution before it (Jacob et al. 2018, section
3.2). On the CPU maps lie with channels last: 1x1 convolutions multiply what lies side by side then, and torch pools
many channels at once, which takes a tenth of the time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fovea.engine.explain.backward.rules import Rule, backward_rule
from fovea.engine.make.optimise.adapted_network import CONV_NAMES, named
from fovea.models.torch_net import forward_taps

_CONVOLUTIONS = {F.conv2d, torch.conv2d}
_NORM_NAMES = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


class _Watch(TorchFunctionMode):
    """While it is entered, it notes this thread's convolutions, and who reads what they give."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions: list[tuple[dict[str, Any], Tensor]] = []
        self.norms: list[dict[str, Any]] = []
        self.outputs: set[int] = set()
        self.readers: Counter[int] = Counter()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Called by torch for each function of the forward pass."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if isinstance(out, (Tensor, tuple, list, float)) and not isinstance(out, torch.Size):
            read = (id(tensor) for tensor in _tensors((*args, *kwargs.values())))
            self.readers.update(tensor for tensor in read if tensor in self.outputs)
        if func in _CONVOLUTIONS:
            self.convolutions.append((named(CONV_NAMES, args, kwargs), out))
            self.outputs.add(id(out))
        elif func is F.batch_norm:
            self.norms.append(named(_NORM_NAMES, args, kwargs))
        return out

    def folds(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Each convolution that runs once and is read by one batch norm alone, with that norm; as what they got."""
        used = Counter(id(call["weight"]) for call, _ in self.convolutions)
        means = Counter(id(call.get("running_mean")) for call in self.norms)
        norms = {id(call["input"]): call for call in self.norms}
        for call, out in self.convolutions:
            norm = norms.get(id(out))
            if norm is None or norm.get("training") or norm.get("running_mean") is None:
                continue
            if self.readers[id(out)] == used[id(call["weight"])] == means[id(norm["running_mean"])] == 1:
                yield call, norm

    def layout(self) -> torch.memory_format:
        """The faster order of maps in memory."""
        on_cpu = all(out.device.type == "cpu" for _, out in self.convolutions)
        return torch.channels_last if on_cpu else torch.contiguous_format


def _folded(call: Mapping[str, Any], norm: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what it and its batch norm did."""
    weight, bias = call["weight"], call.get("bias")
    mean, gain, shift = norm["running_mean"], norm.get("weight"), norm.get("bias")
    factor = (norm["running_var"] + norm.get("eps", 1e-5)).rsqrt()
    factor = factor if gain is None else factor * gain
    moved = (0 if bias is None else bias) - mean
    return weight * factor.view(-1, 1, 1, 1), moved * factor + (0 if shift is None else shift)


class _Run(TorchFunctionMode):
    """While it is entered, this thread's convolutions take other weights, and folded batch norms do nothing."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        # The originals are kept, so that no other tensor can get their place in memory, by which they are known.
        self.originals = [call["weight"] for call, _ in watch.convolutions]
        self.parameters = {id(call["weight"]): (call["weight"], call.get("bias")) for call, _ in watch.convolutions}
        self.passed: dict[int, Tensor] = {}
        for call, norm in watch.folds():
            self.parameters[id(call["weight"])] = _folded(call, norm)
            self.passed[id(norm["running_mean"])] = norm["running_mean"]
        self.lay(watch.layout())

    def lay(self, layout: torch.memory_format) -> None:
        """Bring the weights into this order."""
        self.layout = layout
        self.parameters = {
            key: (weight.contiguous(memory_format=layout), bias) for key, (weight, bias) in self.parameters.items()
        }

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Called by torch for each function of the forward pass."""
        kwargs = kwargs or {}
        if func in _CONVOLUTIONS:
            call = named(CONV_NAMES, args, kwargs)
            if id(call["weight"]) in self.parameters:
                call["weight"], call["bias"] = self.parameters[id(call["weight"])]
                return func(**call)
        elif func is F.batch_norm:
            call = named(_NORM_NAMES, args, kwargs)
            if id(call.get("running_mean")) in self.passed:
                return call["input"]
        return func(*args, **kwargs)


class FoldedNetwork:
    """`network(x)` gives what `forward_taps` gives for the `taps` of `module`, up to rounding, with gradients to `x`.

    The first call runs the network as it is and watches it; those that follow run it folded and in the faster layout.
    A network that relies on the order of its maps in memory (a view of them) runs folded in that order, and one that
    cannot be run like this either as it is.
    """

    def __init__(self, module: nn.Module, taps: Sequence[str]) -> None:
        self.module, self.taps = module, list(taps)
        self.run: _Run | None = None
        # Blocks that are computed a second time on the way back must meet what they met the first time.
        self.plain = bool(getattr(module, "recompute", False))

    def __call__(self, x: Tensor, rule: Rule = "gradient") -> dict[str, Tensor]:
        """Each tap's output for x (N, C, H, W); ReLUs have the backward pass of `rule`."""
        if not self.taps:
            return {}
        with backward_rule(rule):
            return self._called(x)

    def _called(self, x: Tensor) -> dict[str, Tensor]:
        if self.plain:
            return self._forward(x, nullcontext())
        if self.run is None:
            watch = _Watch()
            features = self._forward(x, watch)
            self.run = _Run(watch)
            return features
        try:
            return self._forward(x.contiguous(memory_format=self.run.layout), self.run)
        except RuntimeError:
            if x.is_cuda and torch.cuda.is_current_stream_capturing():
                raise  # it cannot be recorded: see `Replay`
            if self.run.layout == torch.contiguous_format:
                self.plain = True
            else:
                self.run.lay(torch.contiguous_format)
            return self._called(x)

    def _forward(self, x: Tensor, mode: AbstractContextManager[Any]) -> dict[str, Tensor]:
        with mode:
            return forward_taps(self.module, x, self.taps)
