"""Receptive fields and layouts of every layer, found by running the network on coordinates in place of pixels.

The input is a batch of four planes: minus the top row, the bottom row (exclusive), minus the left column and the
right column (exclusive) of the pixels that each element depends on. In this form the union of two dependencies is
their elementwise maximum, so a convolution becomes a maximum over its window and its channels, an addition becomes
a maximum, a softmax or a mean spreads the maximum over its axes, and whatever only moves data (reshape, roll,
concatenation, window partition, channel shuffle) moves coordinates exactly as it moves activations. Branches,
functional code and attention need no case of their own, and no weight is ever multiplied.

Zero padding does not see anything, but is given the coordinates that its place would have, so that the field of a
unit at the border has the size that it has in the middle. An operation that is not in the tables below is taken to
see everything that its arguments see: a field may come out too large there, never too small.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from fovea.models.card import ReceptiveField

PLANES = 4


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


NOTHING = -1e9
"""The coordinate of what depends on no pixel (weights, class tokens, padding of uneven maps)."""

Roles = tuple[int | None, int | None, int | None]
"""The axes that hold channels, rows and columns, as far as they can be followed."""
NO_ROLES: Roles = (None, None, None)


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
        return _dispatch(func, args, kwargs or {})


def coordinates(channels: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> Seen:
    """The input (4, channels, height, width) that claims to be of `dtype`: every element depends on its own pixel."""
    rows = torch.arange(height, dtype=torch.float32).view(1, height, 1).expand(channels, height, width)
    columns = torch.arange(width, dtype=torch.float32).view(1, 1, width).expand(channels, height, width)
    return Seen(torch.stack([-rows, rows + 1, -columns, columns + 1]), (1, 2, 3), dtype)


def field(planes: Tensor, frame: tuple[int, int]) -> ReceptiveField | None:
    """The receptive field of positions whose coordinates are `planes` (4, rows, columns), in a `frame` (H, W).

    None where the positions depend on no pixel.
    """
    if float(planes.amax()) <= NOTHING / 2:
        return None
    top, bottom = -planes[0].amax(1), planes[1].amax(1)
    left, right = -planes[2].amax(0), planes[3].amax(0)
    height, width = frame
    y_size, y_stride, y_offset, y_even = _fit(top, bottom, height)
    x_size, x_stride, x_offset, x_even = _fit(left, right, width)
    covers = bool(
        (planes[0] >= 0).all() and (planes[1] >= height).all() and (planes[2] >= 0).all() and (planes[3] >= width).all()
    )
    marching = y_even and x_even and (y_stride > 0 or x_stride > 0)
    if covers and not marching:
        return ReceptiveField(size=frame, stride=(0.0, 0.0), offset=(0.0, 0.0), whole=True)
    return ReceptiveField(size=(y_size, x_size), stride=(y_stride, x_stride), offset=(y_offset, x_offset))


def _fit(low: Tensor, high: Tensor, length: int) -> tuple[int, float, float, bool]:
    """Size, stride and offset of evenly spaced intervals that contain [low[i], high[i]); whether they equal them.

    Where they are not even (windows of attention, uneven pooling), the stride that needs the smaller size is taken:
    that from end to end, or the positions spread evenly over the frame's `length`.
    """
    count = len(low)
    if count == 1:
        return math.ceil(float(high[0]) - math.floor(float(low[0]))), 0.0, float(low[0]), True
    lows, highs = low.tolist(), high.tolist()
    ends = (lows[-1] + highs[-1] - lows[0] - highs[0]) / (2 * (count - 1))
    even = all(
        lo == lows[0] + i * ends and hi == highs[0] + i * ends
        for i, (lo, hi) in enumerate(zip(lows, highs, strict=True))
    )
    best: tuple[int, float, float] | None = None
    for stride in (ends,) if even else (ends, length / count):
        offset = min(lo - i * stride for i, lo in enumerate(lows))
        size = math.ceil(max(hi - math.floor(offset + i * stride) for i, hi in enumerate(highs)))
        if best is None or size < best[0]:
            best = (size, stride, offset)
    assert best is not None
    return (*best, even)


# --- the tables ----------------------------------------------------------------------------------------------


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_UNARY = _words(
    """relu relu6 gelu silu sigmoid tanh hardtanh hardswish hardsigmoid leaky_relu elu selu celu prelu rrelu mish
    softplus softsign log_sigmoid threshold hardshrink softshrink abs neg exp log log2 log10 log1p sqrt rsqrt
    square sin cos erf sign floor ceil round clamp clamp_min clamp_max clip pow reciprocal dropout alpha_dropout
    feature_dropout feature_alpha_dropout native_dropout batch_norm to _to_copy contiguous clone detach alias
    float type_as lift_fresh nan_to_num logical_not bitwise_not positive _prelu_kernel isnan isinf trunc frac
    expm1 cudnn_batch_norm miopen_batch_norm _batch_norm_impl_index masked_fill"""
)
_BROADCAST = _words(
    """add sub mul div rsub maximum minimum fmax fmin pow where lerp addcmul addcdiv remainder fmod floor_divide
    true_divide eq ne lt le gt ge logical_and logical_or bitwise_and bitwise_or multiply divide subtract atan2"""
)
_MOVES = _words(
    """view reshape permute transpose slice select roll flip squeeze unsqueeze flatten unflatten expand repeat chunk
    split split_with_sizes unbind pixel_shuffle pixel_unshuffle channel_shuffle index_select movedim narrow tile
    _unsafe_view t swapaxes swapdims unfold im2col moveaxis view_as expand_as _reshape_alias numpy_T tensor_split
    unsafe_split unsafe_chunk repeat_interleave index upsample_nearest2d _upsample_nearest_exact2d
    upsample_nearest1d reflection_pad1d reflection_pad2d replication_pad2d mT"""
)
_REDUCTIONS = _words(
    """mean sum amax amin logsumexp var std norm linalg_vector_norm max min prod nanmean argmax argmin all any"""
)
_CONSTANTS = _words(
    """new_zeros new_ones new_full new_empty zeros_like ones_like full_like empty_like rand_like randn_like
    new_empty_strided"""
)


def _dispatch(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = func.name().split("::")[-1].split(".")[0]
    in_place = name.endswith("_") and not name.endswith("__") and name not in ("lift_fresh_",)
    rule = _rule(name.rstrip("_") if in_place else name)
    if name == "copy_":
        return _copy(args[0], args[1])
    if rule is None and not in_place and _decomposes(func):
        result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
    result = (rule or _sees_everything)(func, args, kwargs)
    if in_place and isinstance(args[0], Seen):
        _write(args[0], result.seen.expand(args[0].shape))
        return args[0]
    return result


def _write(target: Seen, seen: Tensor) -> None:
    if not target.is_view and not target.has_views:
        target.seen = seen
    elif _mode.lean:
        raise SharedWrite
    else:
        target.seen.copy_(seen)


def _own(x: Tensor) -> Tensor:
    """`x` itself, or a copy of it within `copying()`."""
    return x if _mode.lean else x.clone(memory_format=torch.contiguous_format)


def distinct(x: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """`x` with each of `dims` (all, unless given) cut to one element along which `x` is a repetition of it."""
    places = range(x.dim()) if dims is None else dims
    index = [slice(0, 1) if d in places and x.stride(d) == 0 else slice(None) for d in range(x.dim())]
    return x[tuple(index)]


def reach(x: Tensor, dims: Sequence[int]) -> Tensor:
    """What any element along `dims` (which stay, with size 1) sees."""
    dims = [d % x.dim() for d in dims]
    return distinct(x, dims).amax(dims, keepdim=True)


def union(tensors: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """The maximum of tensors that are broadcast to `shape`."""
    wide = [t.expand(tuple(shape)) for t in tensors]
    repeated = [all(t.stride(d) == 0 for t in wide) for d in range(len(shape))]
    index = tuple(slice(0, 1) if r else slice(None) for r in repeated)
    out = wide[0][index]
    for t in wide[1:]:
        out = torch.maximum(out, t[index])
    return _own(out.expand(tuple(shape)))


def _decomposes(func: Any) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"))


def _rule(name: str) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], Any] | None:
    if name in _SPECIAL:
        return _SPECIAL[name]
    if name in _BROADCAST:
        return _broadcast
    if name in _UNARY:
        return _unary
    if name in _MOVES:
        return _moves
    if name in _REDUCTIONS:
        return _reduces
    if name in _CONSTANTS:
        return _constant
    return None


def _tracked(args: Any) -> list[Seen]:
    found: list[Seen] = []
    tree_map(lambda a: found.append(a) if isinstance(a, Seen) else None, args)
    return found


def _inner(value: Any) -> Any:
    return value.seen if isinstance(value, Seen) else value


def _meta(value: Any) -> Any:
    return torch.empty(value.shape, dtype=value.dtype, device="meta") if isinstance(value, Tensor) else value


def _shape_of(func: Any, args: Any, kwargs: Any) -> Any:
    """What the operation returns, as meta tensors."""
    return func(
        *tree_map(_meta, args), **{**tree_map(_meta, kwargs), **({"device": "meta"} if "device" in kwargs else {})}
    )


def _arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
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


def _sees_everything(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The rule of last resort: every output element sees what any argument sees."""
    if func.name().startswith("aten::_local_scalar_dense"):
        raise NotImplementedError("a value is read out of the network")
    seen = _tracked((args, kwargs))
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

    return tree_map(fill, _shape_of(func, args, kwargs))


def _constant(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    out = _shape_of(func, args, kwargs)
    return torch.zeros(out.shape, dtype=out.dtype)


def _copy(target: Tensor, source: Tensor) -> Tensor:
    if not isinstance(target, Seen):
        raise NotImplementedError("an activation is written into a plain tensor")
    if isinstance(source, Seen):
        _write(target, source.seen.expand(target.shape))
        target.roles = target.roles if target.roles != NO_ROLES else source.roles
    else:
        _write(target, torch.tensor(NOTHING).expand(target.shape))
    return target


def _unary(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x = args[0]
    named = _arguments(func, args, kwargs)
    if not isinstance(x, Seen):
        return _broadcast(func, tuple(a for a in args if isinstance(a, Tensor)), {})
    if named.get("training") and func.name().startswith(("aten::batch_norm", "aten::cudnn", "aten::miopen")):
        return _over(x, [d for d in range(2, x.dim())])
    dtype = named.get("dtype") if isinstance(named.get("dtype"), torch.dtype) else x.dtype
    out = Seen(_own(x.seen), x.roles, cast(torch.dtype, dtype))
    returns = len(func._schema.returns)
    return out if returns == 1 else (out, *(torch.zeros(0) for _ in range(returns - 1)))


def _broadcast(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
    shape = _broadcast_shape(*[t.shape for t in tensors])
    seen = [t for t in tensors if isinstance(t, Seen)]
    out = union([t.seen for t in seen], shape)
    roles: list[int | None] = [None, None, None]
    for item in seen:
        shift = len(shape) - item.dim()
        for role, dim in enumerate(item.roles):
            if roles[role] is None and dim is not None and shape[dim + shift] == item.shape[dim]:
                roles[role] = dim + shift
    return Seen(out, (roles[0], roles[1], roles[2]), seen[0].dtype)


def _moves(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = func.name().split("::")[-1].split(".")[0]
    source = args[0]
    if not isinstance(source, Seen):
        raise NotImplementedError(f"{func.name()} of a plain tensor by an activation")
    plain = tuple(tree_map(_inner, args))
    x = source.seen
    if name in ("view", "_unsafe_view", "_reshape_alias"):
        # The stand-in claims to be contiguous; its coordinates may not be.
        if isinstance(args[1], torch.dtype):
            raise NotImplementedError("a view as another type")
        out: Any = x.reshape(args[1])
    elif name == "view_as":
        out = x.reshape(args[1].shape)
    else:
        out = func(*plain, **{key: _inner(value) for key, value in kwargs.items()})
    source.has_views = True
    if isinstance(out, Tensor):
        return _view(out, _moved_roles(name, source, out, plain), source.dtype)
    return type(out)(_view(part, _moved_roles(name, source, part, plain), source.dtype) for part in out)


def _view(seen: Tensor, roles: Roles, dtype: torch.dtype) -> Seen:
    made = Seen(seen, roles, dtype)
    made.is_view = True
    return made


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
        return _roles(None if d is None else places[d] for d in source.roles)
    if name in ("slice", "roll", "flip", "chunk", "split", "split_with_sizes", "narrow", "index_select", "tensor_split",
                "unsafe_split", "unsafe_chunk", "channel_shuffle", "reflection_pad2d", "replication_pad2d",
                "upsample_nearest2d", "_upsample_nearest_exact2d"):  # fmt: skip
        return source.roles
    if name in ("pixel_shuffle", "pixel_unshuffle"):
        return (1, 2, 3)
    if name in ("select", "unbind"):
        gone = int(args[1] if len(args) > 1 else 0) % n
        return _roles(None if d is None or d == gone else d - (d > gone) for d in source.roles)
    channels, rows, columns = source.roles
    return (
        _minor_place(source.shape, out.shape, channels),
        _major_place(source.shape, out.shape, rows),
        _major_place(source.shape, out.shape, columns),
    )


def _roles(dims: Any) -> Roles:
    channels, rows, columns = dims
    return (channels, rows, columns)


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


def _broadcast_shape(*shapes: Sequence[int]) -> tuple[int, ...]:
    return tuple(np.broadcast_shapes(*[tuple(s) for s in shapes]))


def _over(x: Seen, dims: Sequence[int]) -> Seen:
    """Every element along `dims` sees what any of them sees; the shape stays."""
    if not dims:
        return Seen(_own(x.seen), x.roles, x.dtype)
    return Seen(_own(reach(x.seen, dims).expand(x.shape)), x.roles, x.dtype)


def _reduces(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    named = _arguments(func, args, kwargs)
    x = args[0]
    if isinstance(named.get("other"), Tensor):
        return _broadcast(func, args, kwargs)
    dims = named.get("dim")
    dims = [dims] if isinstance(dims, int) else list(dims or [])
    if not isinstance(x, Seen) or not dims:
        return _sees_everything(func, args, kwargs)
    dims = sorted(d % x.dim() for d in dims)
    if named.get("keepdim"):
        inner, roles = reach(x.seen, dims), x.roles
    else:
        inner = distinct(x.seen, dims).amax(dims)
        roles = _roles(None if d is None or d in dims else d - sum(g < d for g in dims) for d in x.roles)
    out = Seen(inner, roles, x.dtype)
    returns = len(func._schema.returns)
    return out if returns == 1 else tuple(Seen(_own(inner), roles, x.dtype) for _ in range(returns))


def _spreads(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    """softmax and its kin: along one axis, everything sees everything."""
    x = args[0]
    return _over(x, [int(args[1] if len(args) > 1 else kwargs["dim"]) % x.dim()])


def _layer_norm(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x = args[0]
    out = _over(x, range(x.dim() - len(args[1]), x.dim()))
    # A norm over the last axis alone is a norm over channels.
    out.roles = (x.dim() - 1, x.roles[1], x.roles[2]) if len(args[1]) == 1 else x.roles
    return out if len(func._schema.returns) == 1 else (out, torch.zeros(0), torch.zeros(0))


def _group_norm(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    named = _arguments(func, args, kwargs)
    x = args[0]
    groups = int(named.get("num_groups") or named.get("group") or 1)
    inner = reach(x.seen.reshape(x.shape[0], groups, -1), [2])
    inner = inner.expand(x.shape[0], groups, x[0].numel() // groups).reshape(x.shape).contiguous()
    out = Seen(inner, x.roles, x.dtype)
    return out if len(func._schema.returns) == 1 else (out, torch.zeros(0), torch.zeros(0))


def _instance_norm(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    x = args[0]
    return _over(x, range(2, x.dim()))


def _joins(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    """cat and stack: what is no activation sees nothing."""
    seen = _tracked(args)
    plain = [_inner(p) if isinstance(p, Seen) else torch.full(p.shape, NOTHING) for p in args[0]]
    dim = int(args[1] if len(args) > 1 else kwargs.get("dim", 0))
    stacked = "stack" in func.name()
    out = torch.stack(plain, dim) if stacked else torch.cat(plain, dim)
    return Seen(out, NO_ROLES if stacked else seen[0].roles, seen[0].dtype)


def _linear(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    x, weight = args[0], args[1]
    if not isinstance(x, Seen) or isinstance(weight, Seen):
        return cast(Seen, _sees_everything(func, args, kwargs))
    inner = _own(reach(x.seen, [-1]).expand(*x.shape[:-1], weight.shape[0]))
    return Seen(inner, (x.dim() - 1, x.roles[1], x.roles[2]), x.dtype)


def _matmul(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    """Products of matrices: row i of the first with column j of the second."""
    a, b = args[-2:] if func.name().startswith(("aten::addmm", "aten::baddbmm")) else args[:2]
    if a.dim() < 2 or b.dim() < 2:
        return cast(Seen, _sees_everything(func, args, kwargs))
    shape = _shape_of(torch.matmul, (a, b), {}).shape
    parts = [reach(m.seen, [dim]) for m, dim in ((a, -1), (b, -2)) if isinstance(m, Seen)]
    out = union(parts, shape)
    roles = NO_ROLES
    if isinstance(a, Seen) and not isinstance(b, Seen):
        roles = (len(shape) - 1, a.roles[1], a.roles[2])
    return Seen(out, roles, a.dtype)


def _attention(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    query, key, value = args[:3]
    shape = (*_broadcast_shape(query.shape[:-2], value.shape[:-2]), query.shape[-2], value.shape[-1])
    uses = ((query, (-1,)), (key, (-1, -2)), (value, (-2,)))
    return Seen(union([reach(m.seen, d) for m, d in uses if isinstance(m, Seen)], shape), NO_ROLES, query.dtype)


def _tuple(value: Any, count: int, default: int = 1) -> list[int]:
    if value is None or (isinstance(value, (list, tuple)) and not value):
        return [default] * count
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    return [int(v) for v in (items * count if len(items) == 1 else items)]


def pad(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    """`x` longer (or, where negative, shorter) along `dim`; evenly spaced coordinates are continued outwards."""
    if before < 0 or after < 0:
        x = x.narrow(dim, max(-before, 0), x.shape[dim] - max(-before, 0) - max(-after, 0))
        before, after = max(before, 0), max(after, 0)
    if not before and not after:
        return x
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
    if x.shape[dim] > 1:
        steps = x.diff(dim=dim)
        step = steps.narrow(dim, 0, 1)
        even = (steps == step).all(dim, keepdim=True)
    else:
        step, even = torch.zeros_like(first), torch.ones_like(first, dtype=torch.bool)
    shape = [1] * x.dim()
    shape[dim] = -1
    outwards_before = first - step * torch.arange(before, 0, -1).view(shape)
    outwards_after = last + step * torch.arange(1, after + 1).view(shape)
    nothing = torch.tensor(NOTHING)
    return torch.cat([torch.where(even, outwards_before, nothing), x, torch.where(even, outwards_after, nothing)], dim)


def windows(x: Tensor, dim: int, kernel: int, stride: int, dilation: int, before: int, out: int) -> Tensor:
    """Maximum over sliding windows along one axis, `out` of them, the first starting `before` elements early."""
    length = (out - 1) * stride + dilation * (kernel - 1) + 1
    padded = pad(x, dim, before, length - before - x.shape[dim])
    best: Tensor | None = None
    for tap in range(kernel):
        index = [slice(None)] * x.dim()
        index[dim] = slice(tap * dilation, tap * dilation + (out - 1) * stride + 1, stride)
        part = padded[tuple(index)]
        best = part if best is None else torch.maximum(best, part)
    assert best is not None
    return best


def _convolution(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    named = _arguments(func, args, kwargs)
    x, weight = args[0], args[1]
    dims = weight.dim() - 2
    if not isinstance(x, Seen) or x.dim() != dims + 2:
        return cast(Seen, _sees_everything(func, args, kwargs))
    stride, dilation = _tuple(named["stride"], dims), _tuple(named["dilation"], dims)
    groups = int(named["groups"])
    transposed = bool(named.get("transposed")) or "transpose" in func.name()
    kernel = list(weight.shape[2:])
    if isinstance(named["padding"], str):
        extent = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        padding = [r // 2 if named["padding"] == "same" else 0 for r in extent]
        size = [s if named["padding"] == "same" else s - r for s, r in zip(x.shape[2:], extent, strict=True)]
    else:
        padding = _tuple(named["padding"], dims, 0)
        size = list(_shape_of(func, args, kwargs).shape[2:])
    if groups == 1:
        inner = reach(x.seen, [1])
    else:
        inner = x.seen.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
        inner = reach(inner, [2]).squeeze(2)
    for i in range(dims):
        if transposed:
            stuffed = [*inner.shape]
            stuffed[i + 2] = (inner.shape[i + 2] - 1) * stride[i] + 1
            sparse = torch.full(stuffed, NOTHING)
            index = [slice(None)] * inner.dim()
            index[i + 2] = slice(None, None, stride[i])
            sparse[tuple(index)] = inner
            inner = windows(
                sparse, i + 2, kernel[i], 1, dilation[i], dilation[i] * (kernel[i] - 1) - padding[i], size[i]
            )
        else:
            inner = windows(inner, i + 2, kernel[i], stride[i], dilation[i], padding[i], size[i])
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    if groups == 1:
        inner = _own(inner.expand(x.shape[0], channels, *size))
    else:
        inner = inner.unsqueeze(2).expand(x.shape[0], groups, channels // groups, *size)
        inner = inner.reshape(x.shape[0], channels, *size)
    return Seen(inner, _map_roles(dims), x.dtype)


def _map_roles(dims: int) -> Roles:
    return (1, 2, 3) if dims == 2 else NO_ROLES


def _pool(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    named = _arguments(func, args, kwargs)
    x = args[0]
    dims = 1 if "1d" in func.name() else 3 if "3d" in func.name() else 2
    kernel = _tuple(named["kernel_size"], dims)
    stride = _tuple(named["stride"], dims) if named.get("stride") else kernel
    padding, dilation = _tuple(named.get("padding"), dims, 0), _tuple(named.get("dilation"), dims)
    shape = _shape_of(func, args, kwargs)
    size = (shape[0] if isinstance(shape, (tuple, list)) else shape).shape
    spatial = range(x.dim() - dims, x.dim())
    inner = distinct(x.seen, [d for d in range(x.dim()) if d not in spatial])
    for i, dim in enumerate(spatial):
        inner = windows(inner, dim, kernel[i], stride[i], dilation[i], padding[i], size[dim])
    out = Seen(_own(inner.expand(size)), x.roles, x.dtype)
    return out if len(func._schema.returns) == 1 else (out, torch.zeros(0))


def _adaptive_pool(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x = args[0]
    dims = 1 if "1d" in func.name() else 3 if "3d" in func.name() else 2
    shape = _shape_of(func, args, kwargs)
    size = (shape[0] if isinstance(shape, (tuple, list)) else shape).shape
    spatial = range(x.dim() - dims, x.dim())
    inner = distinct(x.seen, [d for d in range(x.dim()) if d not in spatial])
    for dim in spatial:
        length, out = inner.shape[dim], size[dim]
        cells = [
            inner.narrow(dim, i * length // out, -(-(i + 1) * length // out) - i * length // out).amax(dim)
            for i in range(out)
        ]
        inner = torch.stack(cells, dim)
    result = Seen(_own(inner.expand(size)), x.roles, x.dtype)
    return result if len(func._schema.returns) == 1 else (result, torch.zeros(0))


def _constant_pad(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    named = _arguments(func, args, kwargs)
    x = args[0]
    if named.get("mode", "constant") != "constant":
        inner = torch.nn.functional.pad(x.seen, list(args[1]), mode=named["mode"])
        return Seen(inner, x.roles, x.dtype)
    inner = x.seen
    for i in range(len(args[1]) // 2):
        inner = pad(inner, x.dim() - 1 - i, int(args[1][2 * i]), int(args[1][2 * i + 1]))
    return Seen(inner.contiguous(), x.roles, x.dtype)


def _upsample(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    """Bilinear and bicubic: the neighbours that are blended, and then the nearest of them."""
    x = args[0]
    blend = 2 if "bicubic" in func.name() else 1
    size = _shape_of(func, args, kwargs).shape[2:]
    inner = x.seen
    for dim in (2, 3):
        inner = windows(inner, dim, 2 * blend + 1, 1, 1, blend, inner.shape[dim])
    return Seen(torch.nn.functional.interpolate(inner, size=tuple(size), mode="nearest"), x.roles, x.dtype)


_SPECIAL: dict[str, Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]] = {
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax", "cumsum"), _spreads),
    **dict.fromkeys(("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm"), _layer_norm),
    **dict.fromkeys(("group_norm", "native_group_norm"), _group_norm),
    "instance_norm": _instance_norm,
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), _joins),
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm", "bmm", "addmm", "baddbmm"), _matmul),
    "native_batch_norm": _unary,
    "_native_batch_norm_legit_no_training": _unary,
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(
        ("conv1d", "conv2d", "conv3d", "convolution", "_convolution", "conv_transpose1d", "conv_transpose2d",
         "conv_transpose3d"), _convolution),
    **dict.fromkeys(
        ("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
         "max_pool2d_with_indices", "max_pool3d_with_indices"), _pool),
    **dict.fromkeys(
        ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d",
         "adaptive_max_pool1d", "adaptive_max_pool2d", "_adaptive_avg_pool3d"), _adaptive_pool),
    **dict.fromkeys(("pad", "constant_pad_nd"), _constant_pad),
    **dict.fromkeys(("upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa"), _upsample),
}  # fmt: skip


def settle_roles(value: Tensor, given: Tensor | None) -> None:
    """Complete the axes of a module's output `value`, where they were lost on the way, from its input `given`."""
    if not isinstance(value, Seen) or value.dim() != 4 or None not in value.roles:
        return
    if isinstance(given, Seen) and given.shape == value.shape and None not in given.roles:
        value.roles = given.roles
    elif value.roles[1:] == (2, 3):
        value.roles = (1, 2, 3)


def roles_of(value: Tensor) -> Roles:
    """The axes of a module's output. Of a plain tensor (the network could not be followed): NCHW, or (N, T, C)."""
    if isinstance(value, Seen):
        return value.roles
    return (1, 2, 3) if value.dim() == 4 else (2, None, None) if value.dim() == 3 else NO_ROLES
