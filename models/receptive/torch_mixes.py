"""Rules for operations of torch that compute: element by element, along axes, and products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from fovea.models.receptive.coordinates import distinct, reach, union
from fovea.models.receptive.seen import NO_ROLES, Rule, Seen, arguments, by_name, own, sees_everything, shape_of
from fovea.models.receptive.torch_moves import roles_from


def _unary(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x = args[0]
    named = arguments(func, args, kwargs)
    if not isinstance(x, Seen):
        return _broadcast(func, tuple(a for a in args if isinstance(a, Tensor)), {})
    if named.get("training") and func.name().startswith(("aten::batch_norm", "aten::cudnn", "aten::miopen")):
        return _over(x, [d for d in range(2, x.dim())])
    dtype = named.get("dtype") if isinstance(named.get("dtype"), torch.dtype) else x.dtype
    out = Seen(own(x.seen), x.roles, cast(torch.dtype, dtype))
    returns = len(func._schema.returns)
    return out if returns == 1 else (out, *(torch.zeros(0) for _ in range(returns - 1)))


def _broadcast(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
    shape = broadcast_shape(*[t.shape for t in tensors])
    seen = [t for t in tensors if isinstance(t, Seen)]
    out = own(union([t.seen for t in seen], shape))
    roles: list[int | None] = [None, None, None]
    for item in seen:
        shift = len(shape) - item.dim()
        for role, dim in enumerate(item.roles):
            if roles[role] is None and dim is not None and shape[dim + shift] == item.shape[dim]:
                roles[role] = dim + shift
    return Seen(out, (roles[0], roles[1], roles[2]), seen[0].dtype)


def _constant(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    out = shape_of(func, args, kwargs)
    return torch.zeros(out.shape, dtype=out.dtype)


def broadcast_shape(*shapes: Sequence[int]) -> tuple[int, ...]:
    return tuple(np.broadcast_shapes(*[tuple(s) for s in shapes]))


def _over(x: Seen, dims: Sequence[int]) -> Seen:
    """Every element along `dims` sees what any of them sees; the shape stays."""
    if not dims:
        return Seen(own(x.seen), x.roles, x.dtype)
    return Seen(own(reach(x.seen, dims).expand(x.shape)), x.roles, x.dtype)


def _reduces(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    named = arguments(func, args, kwargs)
    x = args[0]
    if isinstance(named.get("other"), Tensor):
        return _broadcast(func, args, kwargs)
    dims = named.get("dim")
    dims = [dims] if isinstance(dims, int) else list(dims or [])
    if not isinstance(x, Seen) or not dims:
        return sees_everything(func, args, kwargs)
    dims = sorted(d % x.dim() for d in dims)
    if named.get("keepdim"):
        inner, roles = reach(x.seen, dims), x.roles
    else:
        inner = distinct(x.seen, dims).amax(dims)
        roles = roles_from(None if d is None or d in dims else d - sum(g < d for g in dims) for d in x.roles)
    out = Seen(inner, roles, x.dtype)
    returns = len(func._schema.returns)
    return out if returns == 1 else tuple(Seen(own(inner), roles, x.dtype) for _ in range(returns))


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
    named = arguments(func, args, kwargs)
    x = args[0]
    groups = int(named.get("num_groups") or named.get("group") or 1)
    inner = reach(x.seen.reshape(x.shape[0], groups, -1), [2])
    inner = inner.expand(x.shape[0], groups, x[0].numel() // groups).reshape(x.shape).contiguous()
    out = Seen(inner, x.roles, x.dtype)
    return out if len(func._schema.returns) == 1 else (out, torch.zeros(0), torch.zeros(0))


def _instance_norm(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    x = args[0]
    return _over(x, range(2, x.dim()))


def _linear(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    x, weight = args[0], args[1]
    if not isinstance(x, Seen) or isinstance(weight, Seen):
        return cast(Seen, sees_everything(func, args, kwargs))
    inner = own(reach(x.seen, [-1]).expand(*x.shape[:-1], weight.shape[0]))
    return Seen(inner, (x.dim() - 1, x.roles[1], x.roles[2]), x.dtype)


def _matmul(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    """Products of matrices: row i of the first with column j of the second."""
    a, b = args[-2:] if func.name().startswith(("aten::addmm", "aten::baddbmm")) else args[:2]
    if a.dim() < 2 or b.dim() < 2:
        return cast(Seen, sees_everything(func, args, kwargs))
    shape = shape_of(torch.matmul, (a, b), {}).shape
    parts = [reach(m.seen, [dim]) for m, dim in ((a, -1), (b, -2)) if isinstance(m, Seen)]
    out = own(union(parts, shape))
    roles = NO_ROLES
    if isinstance(a, Seen) and not isinstance(b, Seen):
        roles = (len(shape) - 1, a.roles[1], a.roles[2])
    return Seen(out, roles, a.dtype)


def _attention(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    query, key, value = args[:3]
    shape = (*broadcast_shape(query.shape[:-2], value.shape[:-2]), query.shape[-2], value.shape[-1])
    uses = ((query, (-1,)), (key, (-1, -2)), (value, (-2,)))
    seen = [reach(m.seen, axes) for m, axes in uses if isinstance(m, Seen)]
    return Seen(own(union(seen, shape)), NO_ROLES, query.dtype)


RULES: dict[str, Rule] = {
    **by_name(
        _unary,
        """relu relu6 gelu silu sigmoid tanh hardtanh hardswish hardsigmoid leaky_relu elu selu celu prelu rrelu mish
        softplus softsign log_sigmoid threshold hardshrink softshrink abs neg exp log log2 log10 log1p sqrt rsqrt
        square sin cos erf sign floor ceil round clamp clamp_min clamp_max clip reciprocal dropout alpha_dropout
        feature_dropout feature_alpha_dropout native_dropout batch_norm to _to_copy contiguous clone detach alias
        float type_as lift_fresh nan_to_num logical_not bitwise_not positive _prelu_kernel isnan isinf trunc frac
        expm1 cudnn_batch_norm miopen_batch_norm native_batch_norm _native_batch_norm_legit_no_training
        _batch_norm_impl_index masked_fill""",
    ),
    **by_name(
        _broadcast,
        """add sub mul div rsub maximum minimum fmax fmin pow where lerp addcmul addcdiv remainder fmod floor_divide
        true_divide eq ne lt le gt ge logical_and logical_or bitwise_and bitwise_or multiply divide subtract atan2""",
    ),
    **by_name(
        _reduces,
        """mean sum amax amin logsumexp var std norm linalg_vector_norm max min prod nanmean argmax argmin all any""",
    ),
    **by_name(
        _constant,
        """new_zeros new_ones new_full new_empty zeros_like ones_like full_like empty_like rand_like randn_like
        new_empty_strided""",
    ),
    **by_name(_spreads, "softmax _softmax log_softmax _log_softmax cumsum"),
    **by_name(_layer_norm, "layer_norm native_layer_norm rms_norm _fused_rms_norm"),
    **by_name(_group_norm, "group_norm native_group_norm"),
    **by_name(_instance_norm, "instance_norm"),
    **by_name(_linear, "linear"),
    **by_name(_matmul, "matmul mm bmm addmm baddbmm"),
    **by_name(_attention, "scaled_dot_product_attention"),
}
