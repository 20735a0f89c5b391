"""Rules for operations of torch that slide windows over maps: convolutions, pools, padding, resizing."""

from __future__ import annotations

from typing import Any, cast

import torch

from fovea.models.receptive.coordinates import NOTHING, distinct, pad, reach, windows
from fovea.models.receptive.seen import NO_ROLES, Roles, Rule, Seen, arguments, by_name, own, sees_everything, shape_of


def _tuple(value: Any, count: int, default: int = 1) -> list[int]:
    if value is None or (isinstance(value, (list, tuple)) and not value):
        return [default] * count
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    return [int(v) for v in (items * count if len(items) == 1 else items)]


def _convolution(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    named = arguments(func, args, kwargs)
    x, weight = args[0], args[1]
    dims = weight.dim() - 2
    if not isinstance(x, Seen) or x.dim() != dims + 2:
        return cast(Seen, sees_everything(func, args, kwargs))
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
        size = list(shape_of(func, args, kwargs).shape[2:])
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
        inner = own(inner.expand(x.shape[0], channels, *size))
    else:
        inner = inner.unsqueeze(2).expand(x.shape[0], groups, channels // groups, *size)
        inner = inner.reshape(x.shape[0], channels, *size)
    return Seen(inner, _map_roles(dims), x.dtype)


def _map_roles(dims: int) -> Roles:
    return (1, 2, 3) if dims == 2 else NO_ROLES


def _pool(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    named = arguments(func, args, kwargs)
    x = args[0]
    dims = 1 if "1d" in func.name() else 3 if "3d" in func.name() else 2
    kernel = _tuple(named["kernel_size"], dims)
    stride = _tuple(named["stride"], dims) if named.get("stride") else kernel
    padding, dilation = _tuple(named.get("padding"), dims, 0), _tuple(named.get("dilation"), dims)
    shape = shape_of(func, args, kwargs)
    size = (shape[0] if isinstance(shape, (tuple, list)) else shape).shape
    spatial = range(x.dim() - dims, x.dim())
    inner = distinct(x.seen, [d for d in range(x.dim()) if d not in spatial])
    for i, dim in enumerate(spatial):
        inner = windows(inner, dim, kernel[i], stride[i], dilation[i], padding[i], size[dim])
    out = Seen(own(inner.expand(size)), x.roles, x.dtype)
    return out if len(func._schema.returns) == 1 else (out, torch.zeros(0))


def _adaptive_pool(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x = args[0]
    dims = 1 if "1d" in func.name() else 3 if "3d" in func.name() else 2
    shape = shape_of(func, args, kwargs)
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
    result = Seen(own(inner.expand(size)), x.roles, x.dtype)
    return result if len(func._schema.returns) == 1 else (result, torch.zeros(0))


def _constant_pad(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    named = arguments(func, args, kwargs)
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
    size = shape_of(func, args, kwargs).shape[2:]
    inner = x.seen
    for dim in (2, 3):
        inner = windows(inner, dim, 2 * blend + 1, 1, 1, blend, inner.shape[dim])
    return Seen(torch.nn.functional.interpolate(inner, size=tuple(size), mode="nearest"), x.roles, x.dtype)


RULES: dict[str, Rule] = {
    **by_name(
        _convolution,
        """conv1d conv2d conv3d convolution _convolution conv_transpose1d conv_transpose2d conv_transpose3d""",
    ),
    **by_name(
        _pool,
        """max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices
        max_pool3d_with_indices""",
    ),
    **by_name(
        _adaptive_pool,
        """adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d adaptive_max_pool1d
        adaptive_max_pool2d _adaptive_avg_pool3d""",
    ),
    **by_name(_constant_pad, "pad constant_pad_nd"),
    **by_name(_upsample, "upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa"),
}
