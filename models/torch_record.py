"""What torch computes in one forward pass, operation by operation, also where autograd is off or inside TorchScript."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fovea.models.output_end import Step, kind_of

_DRAWS = ("bernoulli", "rand", "normal", "native_dropout", "multinomial", "poisson", "uniform", "exponential", "rrelu")
_MADE_LIKE = ("_like", "new_")


class Record(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, it notes every operation of this thread. All tensors are kept until it goes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: dict[str, Step] = {}
        self.draws = False
        self._kept: list[Tensor] = []
        self._latest: dict[int, str] = {}
        self._places: dict[tuple[int, tuple[int, ...]], str] = {}

    def __torch_dispatch__(
        self, func: Any, types: Iterable[Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by torch for each operation."""
        kwargs = kwargs or {}
        operator = str(func._schema.name).partition("::")[2]
        self.draws |= any(operator.startswith(draw) for draw in _DRAWS)
        copied = operator.startswith("copy_") and len(args) > 1
        read = [self._read(value) for value in tree_leaves((args[1:] if copied else args, kwargs))]
        made = func(*args, **kwargs)
        inputs = tuple(value for value in read if value is not None)
        if any(part in operator for part in _MADE_LIKE):
            inputs = ()
        kind = "same" if copied else kind_of(operator)
        for value in tree_leaves(made):
            if isinstance(value, Tensor):
                self._note(value, Step(kind, inputs))
        return made

    def _read(self, value: Any) -> str | float | None:
        if isinstance(value, Tensor):
            return self.name(value) or self._note(value, None)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    def _note(self, value: Tensor, step: Step | None) -> str:
        name = f"t{len(self._kept)}"
        self._kept.append(value)
        self._latest[id(value)] = name
        self._places[_place(value)] = name
        if step is not None:
            self.steps[name] = step
        return name

    def name(self, value: Tensor) -> str:
        """The name of a tensor that was seen, "" for another."""
        known = self._latest.get(id(value), "")
        return known or self._places.get(_place(value), "")


def _place(value: Tensor) -> tuple[int, tuple[int, ...]]:
    try:
        return value.data_ptr(), tuple(value.shape)
    except RuntimeError:  # a tensor of another kind, without memory of its own
        return id(value), tuple(value.shape)


def recorded(run: Callable[[Tensor], Any], x: Tensor) -> tuple[Any, Record]:
    """What `run` returns for `x`, and the record of how, without gradients."""
    record = Record()
    with torch.no_grad(), record:
        value = run(x)
    return value, record
