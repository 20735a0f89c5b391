"""Which output of a torch network is read, and as what: two scores for one number, the same noise for each seed."""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fovea.models.errors import NetworkError
from fovea.models.output import MEANINGS, OutputKind
from fovea.models.outputs import entries
from fovea.models.torch_net import adapt, first_tensor

_READ = "_fovea_read"
"""Where a network keeps how its output is read, and its own forward."""


class _Reading(NamedTuple):
    own: Any
    name: str
    kind: OutputKind
    varies: bool


class _Noise:
    """The seed from which networks that draw random numbers draw them: the same at every call of a run."""

    def __init__(self) -> None:
        self.seed = 0
        self.lock = threading.RLock()


_noise = _Noise()


def seed_noise(seed: int) -> None:
    """From now on networks that draw random numbers draw those of this seed, at every call anew."""
    _noise.seed = seed % 2**32


@contextmanager
def _same_noise() -> Iterator[None]:
    from fovea.models.user_code import seeded

    with _noise.lock, seeded(_noise.seed):
        yield


def tensors_of(value: Any) -> dict[str, Tensor]:
    """Every tensor that a network returned, by its path."""
    return entries(value, lambda item: isinstance(item, Tensor))


def read_as(module: nn.Module, name: str = "", kind: OutputKind = "logits", varies: bool = False) -> nn.Module:
    """Let a prepared network return the output of that name ("": its first) as the scores of its kind; returns it.

    `varies`: it draws random numbers, which are the same at every call from now on. It may be told again, and anew;
    what `adapt` made of the network is taken off. A network that needs nothing of this is left as it is.
    """
    adapt(module, None)
    state = vars(module)
    own = state[_READ].own if _READ in state else state.get("forward")
    state.pop("forward", None)
    state.pop(_READ, None)
    if own is not None:
        state["forward"] = own
    if name or MEANINGS[kind].sides or varies:
        state[_READ] = _Reading(own, name, kind, varies)
        state["forward"] = types.MethodType(_read_forward, module)
    return module


def _read_forward(module: nn.Module, *inputs: Any, **named: Any) -> Any:
    reading: _Reading = vars(module)[_READ]
    run = reading.own if reading.own is not None else functools.partial(type(module).forward, module)
    with _same_noise() if reading.varies else nullcontext():
        value = run(*inputs, **named)
    if reading.name:
        outputs = tensors_of(value)
        if reading.name not in outputs:
            raise NetworkError(f"the network returned no output {reading.name}: it returned {', '.join(outputs)}")
        value = outputs[reading.name]
    meaning = MEANINGS[reading.kind]
    if not meaning.sides:
        return value
    scores = first_tensor(value)
    if scores is None:
        raise NetworkError("the network returned no tensor")
    return meaning.torch_scores(scores if torch.is_floating_point(scores) else scores.float())
