"""A network run for the making of pictures: other pooling, other padding, less memory; the network stays as it is."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from fovea.engine.make.optimise.circular import pad_around
from fovea.engine.options import Options
from fovea.models.network import Network

if TYPE_CHECKING:
    from fovea.engine.method import Job

OptionsT = TypeVar("OptionsT", bound=Options)

AVERAGE_SCALE = 2.0
"""An average is smaller than a maximum; style-transfer-pytorch (Crowson 2021) makes up for it with this factor."""

_MAX_POOLS = {F.max_pool2d, torch.max_pool2d}
_POOL_NAMES = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
CONV_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def named(names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """A call's arguments by name, whichever way they were given."""
    return dict(zip(names, args, strict=False)) | dict(kwargs)


def _pair(value: Any) -> tuple[int, int]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    return (int(values[0]), int(values[-1]))


class _Surroundings(TorchFunctionMode):
    """While it is entered, this thread's max pooling averages, and what it computes sees copies beyond the edge."""

    def __init__(self, average: bool, circular: bool) -> None:
        super().__init__()
        self.average = average
        self.circular = circular

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Called by torch for each function of the forward pass."""
        kwargs = kwargs or {}
        if func in _MAX_POOLS and (self.average or self.circular):
            call = named(_POOL_NAMES, args, kwargs)
            kernel = _pair(call["kernel_size"])
            call |= {"stride": call.get("stride") or kernel}
            call = _wrapped(call, kernel) if self.circular else call
            return _averaged(call) if self.average else func(**call)
        if self.circular and func in (F.conv2d, torch.conv2d):
            call = named(CONV_NAMES, args, kwargs)
            return func(**_wrapped(call, _pair(call["weight"].shape[-2:])))
        return func(*args, **kwargs)


def _averaged(call: Mapping[str, Any]) -> Tensor:
    """The average over what the max pooling would have looked at."""
    padding, ceil = _pair(call.get("padding", 0)), bool(call.get("ceil_mode", False))
    kernel, stride = _pair(call["kernel_size"]), _pair(call["stride"])
    return AVERAGE_SCALE * F.avg_pool2d(call["input"], kernel, stride, padding, ceil, count_include_pad=False)


def _wrapped(call: dict[str, Any], kernel: tuple[int, int]) -> dict[str, Any]:
    """What a convolution or pooling is called with, with what leaves on one side coming in on the other.

    So also where it pads nothing and would leave the last rows out: each of its steps starts once around the picture.
    """
    padding, x = call.get("padding", 0), call["input"]
    if isinstance(padding, str):
        return call
    steps, dilation = _pair(call.get("stride", 1)), _pair(call.get("dilation", 1))
    sides: list[int] = []
    for before, size, step, spread in zip(_pair(padding), kernel, steps, dilation, strict=True):
        sides = [before, max(before, spread * (size - 1) + 1 - step - before), *sides]
    if not any(sides) or max(sides[:2]) > x.shape[-1] or max(sides[2:]) > x.shape[-2]:
        return call
    return call | {"input": pad_around(x, sides), "padding": 0}


class AdaptedModule(nn.Module):
    """A network as it is run to make pictures: `forward_taps` takes it as it takes that, by the same names.

    With `recompute` the activations between blocks are kept only, and those inside are computed a second time on the
    way back: memory falls to about the largest block's, time grows by about a third (Chen et al. 2016, "Training Deep
    Nets with Sublinear Memory Cost"). It then runs on a copy of the modules that shares the weights.
    """

    def __init__(self, network: nn.Module, *, average: bool, circular: bool, recompute: bool) -> None:
        super().__init__()
        self.average = average
        self.circular = circular
        self.recompute = recompute
        if recompute:
            shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
            network = copy.deepcopy(network, cast("dict[int, Any]", shared))
            _checkpoint_blocks(network, lambda: (nullcontext(), self._mode()))
        self.network = network

    def _mode(self) -> AbstractContextManager[Any]:
        return _Surroundings(self.average, self.circular) if self.average or self.circular else nullcontext()

    def forward(self, x: Tensor) -> Any:
        """What the network returns."""
        with self._mode():
            return self.network(x)


class AdaptedNetwork:
    """A network with the same card whose modules are `AdaptedModule`s, one for each device."""

    def __init__(self, network: Network, *, average: bool, circular: bool, recompute: bool) -> None:
        self.name, self.card, self.graph = network.name, network.card, network.graph
        self._of = functools.cache(
            lambda device: AdaptedModule(
                network.module(device), average=average, circular=circular, recompute=recompute
            )
        )

    def module(self, device: str = "cpu") -> nn.Module:
        """The torch module on `device`."""
        return self._of(device)


def adapted_job(
    job: Job[OptionsT], *, pooling: str = "max", circular: bool = False, recompute: bool = False
) -> Job[OptionsT]:
    """The job with its network run in another way; the network itself is left as it is.

    `pooling` "average" in the place of max pooling gives smoother gradients and better looking pictures (Gatys et
    al. 2016, section 2). `circular`: convolutions see the opposite edge where they would see zeros, for pictures that
    tile. `recompute` saves memory, see `AdaptedModule`.
    """
    network = AdaptedNetwork(job.network, average=pooling == "average", circular=circular, recompute=recompute)
    return dataclasses.replace(job, network=network)


Contexts = Callable[[], tuple[AbstractContextManager[Any], AbstractContextManager[Any]]]


def _checkpoint_blocks(module: nn.Module, contexts: Contexts) -> None:
    """Let every outermost block of `module` forget what it computed inside."""
    for child in module.children():
        leaves = [part for part in child.modules() if not any(part.children())]
        if len(leaves) < 2:
            continue
        if not isinstance(child, (nn.Sequential, nn.ModuleList)):
            vars(child)["forward"] = _forgetting(child.forward, contexts)
        elif isinstance(child, nn.Sequential) and all(not any(part.children()) for part in child):
            vars(child)["forward"] = functools.partial(_run_in_segments, child, contexts)
        else:
            _checkpoint_blocks(child, contexts)


def _forgetting(forward: Callable[..., Any], contexts: Contexts) -> Callable[..., Any]:
    return functools.partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


def _run_in_segments(chain: nn.Sequential, contexts: Contexts, x: Tensor) -> Tensor:
    """A chain of n layers in about √n segments, each of which forgets what it computed inside."""
    layers = list(chain)
    length = math.ceil(len(layers) / max(1, round(len(layers) ** 0.5)))
    for start in range(0, len(layers), length):
        segment = layers[start : start + length]
        x = _forgetting(functools.partial(_run, segment), contexts)(x)
    return x


def _run(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x
