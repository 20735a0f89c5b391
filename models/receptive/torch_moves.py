"""Rules for operations of torch that only move data: coordinates move as activations do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from fovea.models.receptive.coordinates import NOTHING
from fovea.models.receptive.seen import NO_ROLES, Roles, Rule, Seen, by_name, inner_of, tracked


def _moves(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = func.name().split("::")[-1].split(".")[0]
    source = args[0]
    if not isinstance(source, Seen):
        raise NotImplementedError(f"{func.name()} of a plain tensor by an activation")
    plain = tuple(tree_map(inner_of, args))
    x = source.seen
    if name in ("view", "_unsafe_view", "_reshape_alias"):
        # The stand-in claims to be contiguous; its coordinates may not be.
        if isinstance(args[1], torch.dtype):
            raise NotImplementedError("a view as another type")
        out: Any = x.reshape(args[1])
    elif name == "view_as":
        out = x.reshape(args[1].shape)
    else:
        out = func(*plain, **{key: inner_of(value) for key, value in kwargs.items()})
    source.has_views = True
    if isinstance(out, Tensor):
        return _view(out, _moved_roles(name, source, out, plain), source.dtype)
    return type(out)(_view(part, _moved_roles(name, source, part, plain), source.dtype) for part in out)


def _view(seen: Tensor, roles: Roles, dtype: torch.dtype) -> Seen:
    made = Seen(seen, roles, dtype)
    made.is_view = True
    return made


def _joins(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    """cat and stack: what is no activation sees nothing."""
    seen = tracked(args)
    plain = [inner_of(p) if isinstance(p, Seen) else torch.full(p.shape, NOTHING) for p in args[0]]
    dim = int(args[1] if len(args) > 1 else kwargs.get("dim", 0))
    stacked = "stack" in func.name()
    out = torch.stack(plain, dim) if stacked else torch.cat(plain, dim)
    return Seen(out, NO_ROLES if stacked else seen[0].roles, seen[0].dtype)


def _moved_roles(name: str, source: Seen, out: Tensor, args: tuple[Any, ...]) -> Roles:
    """Where the axes of `source` are after an operation that moves data."""
    n = source.dim()
    if name in ("permute", "transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT", "moveaxis", "movedim"):
        probe = torch.empty(tuple(range(2, n + 2)), device="meta")
        order: dict[str, Callable[[], Tensor]] = {
            "permute": lambda: probe.permute(args[1]),
            "t": lambda: probe.t(),
            "mT": lambda: probe.mT,
            "numpy_T": lambda: probe.permute(*range(n - 1, -1, -1)),
            "moveaxis": lambda: probe.movedim(args[1], args[2]),
            "movedim": lambda: probe.movedim(args[1], args[2]),
        }
        moved = order[name]() if name in order else probe.transpose(args[1], args[2])
        places = {size - 2: dim for dim, size in enumerate(moved.shape)}
        return roles_from(None if d is None else places[d] for d in source.roles)
    if name in ("slice", "roll", "flip", "chunk", "split", "split_with_sizes", "narrow", "index_select", "tensor_split",
                "unsafe_split", "unsafe_chunk", "channel_shuffle", "reflection_pad2d", "replication_pad2d",
                "upsample_nearest2d", "_upsample_nearest_exact2d"):  # fmt: skip
        return source.roles
    if name in ("pixel_shuffle", "pixel_unshuffle"):
        return (1, 2, 3)
    if name in ("select", "unbind"):
        gone = int(args[1] if len(args) > 1 else 0) % n
        return roles_from(None if d is None or d == gone else d - (d > gone) for d in source.roles)
    channels, rows, columns = source.roles
    return (
        _minor_place(source.shape, out.shape, channels),
        _major_place(source.shape, out.shape, rows),
        _major_place(source.shape, out.shape, columns),
    )


def roles_from(axes: Iterable[int | None]) -> Roles:
    """The three axes of channels, rows and columns as `Roles`."""
    channels, rows, columns = axes
    return channels, rows, columns


def _major_place(before: Sequence[int], after: Sequence[int], dim: int | None) -> int | None:
    """Where axis `dim` is in a reshaped tensor: the axis with as many elements before it, and of the same size, or the
    slower part of two (rows that are merged in pairs: every second row)."""
    if dim is None:
        return None
    left = math.prod(before[:dim])
    places = [place for place in range(1, len(after)) if math.prod(after[:place]) == left]
    whole = [place for place in places if after[place] == before[dim]]
    parts = [place for place in places if after[place] > 1 and before[dim] % after[place] == 0]
    return next(iter(whole + parts), None)


def _minor_place(before: Sequence[int], after: Sequence[int], dim: int | None) -> int | None:
    """The same for channels, which may also be joined with slower axes (the pixels of a patch) or split from them (the
    heads of an attention): then the axis with as many elements after it."""
    whole = _major_place(before, after, dim)
    if dim is None or (whole is not None and after[whole] == before[dim]):
        return whole
    right = math.prod(before[dim + 1 :])
    for place in range(1, len(after)):
        fits = after[place] % before[dim] == 0 or before[dim] % after[place] == 0
        if after[place] > 1 and fits and math.prod(after[place + 1 :]) == right:
            return place
    return None


RULES: dict[str, Rule] = {
    **by_name(
        _moves,
        """view reshape permute transpose slice select roll flip squeeze unsqueeze flatten unflatten expand repeat chunk
        split split_with_sizes unbind pixel_shuffle pixel_unshuffle channel_shuffle index_select movedim narrow tile
        _unsafe_view t swapaxes swapdims unfold im2col moveaxis view_as expand_as _reshape_alias numpy_T tensor_split
        unsafe_split unsafe_chunk repeat_interleave index upsample_nearest2d _upsample_nearest_exact2d
        upsample_nearest1d reflection_pad1d reflection_pad2d replication_pad2d mT""",
    ),
    **by_name(_joins, "cat concat concatenate stack"),
}
