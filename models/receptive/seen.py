"""A tensor that stands for an activation of a torch network and carries the coordinates of what it depends on.

Every operation on it is answered by a rule from `RULES` (torch_network fills the table), by what the operation is
composed of, or else by the rule that everything is seen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from fovea.models.receptive.coordinates import NOTHING, PLANES

Roles = tuple[int | None, int | None, int | None]
"""The axes that hold channels, rows and columns, as far as they can be followed."""
NO_ROLES: Roles = (None, None, None)

Rule = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""What an operation (an overload of torch's own) makes of its positional and named arguments."""
RULES: dict[str, Rule] = {}
"""The rule of each operation by its name without namespace, overload and the underscore of those in place."""


def by_name(rule: Rule, names: str) -> dict[str, Rule]:
    """The part of a table that gives `rule` to each of `names`, separated by spaces."""
    return dict.fromkeys(names.split(), rule)


class _Mode(threading.local):
    """Lean: activations that depend on the same pixels share one tensor of coordinates, and channels of a
    convolution share one map. A network that writes into slices of its activations needs copies instead."""

    lean = True


_mode = _Mode()


class SharedWrite(NotImplementedError):
    """A slice is written to whose coordinates are shared: run again within `copying()`."""


@contextmanager
def copying() -> Iterator[None]:
    """Within it, every activation has coordinates of its own."""
    _mode.lean = False
    try:
        yield
    finally:
        _mode.lean = True


class Seen(Tensor):
    """Stands for an activation; `seen` (same shape, float32) holds its coordinates, `roles` its axes."""

    seen: Tensor
    roles: Roles
    is_view: bool
    has_views: bool
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor, roles: Roles = NO_ROLES, dtype: torch.dtype = torch.float32) -> Seen:
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=dtype)

    def __init__(self, inner: Tensor, roles: Roles = NO_ROLES, dtype: torch.dtype = torch.float32) -> None:
        self.seen = inner
        self.roles = roles
        self.is_view = False
        self.has_views = False

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return dispatch(func, args, kwargs or {})


def own(x: Tensor) -> Tensor:
    """`x` itself, or a copy of it within `copying()`."""
    return x if _mode.lean else x.clone(memory_format=torch.contiguous_format)


def dispatch(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an operation on activations gives, in place or not."""
    name = func.name().split("::")[-1].split(".")[0]
    in_place = name.endswith("_") and not name.endswith("__") and name not in ("lift_fresh_",)
    rule = RULES.get(name.rstrip("_") if in_place else name)
    if name == "copy_":
        return copy_into(args[0], args[1])
    if rule is None and not in_place and _decomposes(func):
        result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
    result = (rule or sees_everything)(func, args, kwargs)
    if in_place and isinstance(args[0], Seen):
        write(args[0], result.seen.expand(args[0].shape))
        return args[0]
    return result


def write(target: Seen, seen: Tensor) -> None:
    """Give an activation other coordinates, as an operation in place does. Raises SharedWrite."""
    if not target.is_view and not target.has_views:
        target.seen = seen
    elif _mode.lean:
        raise SharedWrite
    else:
        target.seen.copy_(seen)


def copy_into(target: Tensor, source: Tensor) -> Tensor:
    """`target.copy_(source)`: what is no activation sees nothing."""
    if not isinstance(target, Seen):
        raise NotImplementedError("an activation is written into a plain tensor")
    if isinstance(source, Seen):
        write(target, source.seen.expand(target.shape))
        target.roles = target.roles if target.roles != NO_ROLES else source.roles
    else:
        write(target, torch.tensor(NOTHING).expand(target.shape))
    return target


def _decomposes(func: Any) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"))


def sees_everything(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The rule of last resort: every output element sees what any argument sees."""
    if func.name().startswith("aten::_local_scalar_dense"):
        raise NotImplementedError("a value is read out of the network")
    seen = tracked((args, kwargs))
    total = torch.full((PLANES,), NOTHING)
    for item in seen:
        if item.dim() == 0 or item.shape[0] % PLANES:
            raise NotImplementedError(f"{func.name()} on a tensor without a batch axis")
        total = torch.maximum(total, item.seen.reshape(PLANES, -1).amax(1))

    def fill(out: Any) -> Any:
        if not isinstance(out, Tensor):
            return out
        if out.dim() == 0 or out.shape[0] % PLANES:
            raise NotImplementedError(f"{func.name()} returns a tensor without a batch axis")
        planes = total.view(PLANES, 1).expand(PLANES, out.numel() // PLANES)
        return Seen(planes.reshape(out.shape).contiguous(), NO_ROLES, out.dtype)

    return tree_map(fill, shape_of(func, args, kwargs))


def tracked(args: Any) -> list[Seen]:
    """The activations among arguments, however nested."""
    return [leaf for leaf in tree_leaves(args) if isinstance(leaf, Seen)]


def inner_of(value: Any) -> Any:
    """The coordinates of an activation; anything else is itself."""
    return value.seen if isinstance(value, Seen) else value


def _meta(value: Any) -> Any:
    return torch.empty(value.shape, dtype=value.dtype, device="meta") if isinstance(value, Tensor) else value


def shape_of(func: Any, args: Any, kwargs: Any) -> Any:
    """What the operation returns, as meta tensors."""
    return func(
        *tree_map(_meta, args), **{**tree_map(_meta, kwargs), **({"device": "meta"} if "device" in kwargs else {})}
    )


def arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every argument by its name, defaults filled in."""
    values = {}
    for index, argument in enumerate(func._schema.arguments):
        if index < len(args):
            values[argument.name] = args[index]
        elif argument.name in kwargs:
            values[argument.name] = kwargs[argument.name]
        else:
            values[argument.name] = argument.default_value if argument.has_default_value() else None
    return values
