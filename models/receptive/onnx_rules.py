"""Rules for ONNX's operators: what each element of a node's outputs sees, from what those of its inputs see.

An operator without a rule is taken to see all that its arguments see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from fovea.models.receptive.coordinates import NOTHING, PLANES, distinct, pad, reach, union, windows


@dataclass(frozen=True)
class Call:
    """One node: its attributes; of each input the coordinates (None: it depends on no pixel), value and shape."""

    op: str
    attributes: Mapping[str, Any]
    inputs: list[Tensor | None]
    values: list[NDArray[Any] | None]
    shapes: list[tuple[int, ...]]
    out: list[tuple[int, ...]]
    opset: int
    node: onnx.NodeProto

    @property
    def data(self) -> Tensor:
        """The coordinates of the first input. Raises ValueError where it is not the only one that has any."""
        if self.inputs[0] is None or any(x is not None for x in self.inputs[1:]):
            raise ValueError("coordinates elsewhere than in the first input")
        return self.inputs[0]

    def integers(self, name: str, index: int, default: Sequence[int] | None = None) -> list[int] | None:
        """An attribute; where later opsets give it as an input, that stands at `index` (-1: none does)."""
        if name in self.attributes:
            value = self.attributes[name]
            return [int(v) for v in value] if isinstance(value, Sequence) else [int(value)]
        if 0 < index < len(self.values) and self.values[index] is not None:
            return [int(v) for v in np.asarray(self.values[index]).reshape(-1)]
        return None if default is None else list(default)


def everything(call: Call) -> list[Tensor | None]:
    """The rule of last resort: every element sees what any argument sees."""
    total = torch.full((PLANES,), NOTHING)
    for x in call.inputs:
        if x is not None and x.numel():
            total = torch.maximum(total, distinct(x).reshape(PLANES, -1).amax(1))
    return [total.view(PLANES, *(1 for _ in shape)).expand(PLANES, *shape) for shape in call.out]


def _elementwise(call: Call) -> list[Tensor | None]:
    shape = call.out[0]
    tracked = [x.reshape(PLANES, *[1] * (len(shape) + 1 - x.dim()), *x.shape[1:]) for x in call.inputs if x is not None]
    out = union(tracked, (PLANES, *shape))
    return [out] + [out if other == shape else None for other in call.out[1:]]


def _parameters(call: Call) -> list[Tensor | None]:
    """Batch norm, quantisation: one tensor, and parameters that broadcast in their own way."""
    return [call.data] + [None for _ in call.out[1:]]


def _reshape(call: Call) -> list[Tensor | None]:
    return [call.data.reshape(PLANES, *call.out[0])]


def _transpose(call: Call) -> list[Tensor | None]:
    x = call.data
    order = call.attributes.get("perm", list(range(x.dim() - 1))[::-1])
    return [x.permute(0, *(int(axis) + 1 for axis in order))]


def _concat(call: Call) -> list[Tensor | None]:
    axis = int(call.attributes["axis"])
    dim = axis + 1 if axis >= 0 else axis
    parts = [
        torch.tensor(NOTHING).expand(PLANES, *shape) if x is None else x
        for x, shape in zip(call.inputs, call.shapes, strict=True)
    ]
    return [torch.cat(parts, dim)]


def _moves(call: Call) -> list[Tensor | None]:
    """What only moves data is run as it is, once for each plane, with coordinates for data."""
    from onnx.reference import ReferenceEvaluator

    planes = call.data.contiguous().numpy()
    run = ReferenceEvaluator(call.node, opsets={"": call.opset})
    others = {n: v for n, v in zip(call.node.input[1:], call.values[1:], strict=True) if n and v is not None}
    moved = [run.run(None, {call.node.input[0]: plane, **others}) for plane in planes]
    return [
        torch.from_numpy(np.stack(planes_of_output).astype(np.float32)) for planes_of_output in zip(*moved, strict=True)
    ]


def _pads(call: Call) -> list[Tensor | None]:
    if call.attributes.get("mode", b"constant") != b"constant":
        return _moves(call)
    x, pads = call.data, call.integers("pads", 1) or []
    axes = call.integers("axes", 3, range(x.dim() - 1)) or []
    for place, axis in enumerate(axes):
        x = pad(x, axis % (x.dim() - 1) + 1, pads[place], pads[place + len(axes)])
    return [x]


def _window(call: Call, weight: int | None) -> list[Tensor | None]:
    """Convolutions and pools: a maximum over windows, and of a convolution over the channels of a group."""
    x, shape = call.data, call.out[0]
    dims = len(shape) - 2
    kernel = call.integers("kernel_shape", -1)
    if kernel is None:
        kernel = list(call.shapes[1 if weight is None else weight][2:])
    steps, apart = call.integers("strides", -1, [1] * dims), call.integers("dilations", -1, [1] * dims)
    assert steps is not None
    assert apart is not None
    extents = [d * (k - 1) + 1 for d, k in zip(apart, kernel, strict=True)]
    before = _before(call, x.shape[3:], shape[2:], extents, steps)
    groups = int(call.attributes.get("group", 1)) if weight is not None else 0
    x = reach(x, [2]) if groups == 1 else distinct(x, [2])
    if groups > 1 and x.shape[2] > 1:
        x = reach(x.reshape(PLANES, x.shape[1], groups, -1, *x.shape[3:]), [3]).squeeze(3)
    for i in range(dims):
        x = windows(x, i + 3, kernel[i], steps[i], apart[i], before[i], shape[i + 2])
    if groups > 1 and x.shape[2] > 1:
        x = x.repeat_interleave(shape[1] // groups, 2)
    out = x.expand(PLANES, *shape)
    return [out] + [out if other == shape else None for other in call.out[1:]]


def _before(
    call: Call, size: Sequence[int], out: Sequence[int], extents: Sequence[int], steps: Sequence[int]
) -> list[int]:
    """The padding before the first element along each spatial axis."""
    auto = call.attributes.get("auto_pad", b"NOTSET")
    if auto in (b"NOTSET", b""):
        return (call.integers("pads", -1, [0] * 2 * len(size)) or [])[: len(size)]
    if auto == b"VALID":
        return [0] * len(size)
    totals = [max((o - 1) * s + e - n, 0) for n, o, e, s in zip(size, out, extents, steps, strict=True)]
    return [total // 2 if auto == b"SAME_UPPER" else total - total // 2 for total in totals]


def _convolution(call: Call) -> list[Tensor | None]:
    return _window(call, 1)


def _quantised_convolution(call: Call) -> list[Tensor | None]:
    return _window(call, 3)


def _pool(call: Call) -> list[Tensor | None]:
    return _window(call, None)


def _transposed(call: Call) -> list[Tensor | None]:
    """Elements with gaps between them, and a window that slides over these by one."""
    x, shape = call.data, call.out[0]
    dims, groups = len(shape) - 2, int(call.attributes.get("group", 1))
    if groups != 1 or call.attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in call.attributes:
        return everything(call)
    kernel = list(call.shapes[1][2:])
    steps, apart = call.integers("strides", -1, [1] * dims), call.integers("dilations", -1, [1] * dims)
    pads = call.integers("pads", -1, [0] * 2 * dims)
    assert steps is not None
    assert apart is not None
    assert pads is not None
    x = reach(x, [2])
    for i in range(dims):
        stuffed = list(x.shape)
        stuffed[i + 3] = (x.shape[i + 3] - 1) * steps[i] + 1
        sparse = torch.full(stuffed, NOTHING)
        index = [slice(None)] * x.dim()
        index[i + 3] = slice(None, None, steps[i])
        sparse[tuple(index)] = x
        x = windows(sparse, i + 3, kernel[i], 1, apart[i], apart[i] * (kernel[i] - 1) - pads[i], shape[i + 2])
    return [x.expand(PLANES, *shape)]


def _over(call: Call, axes: Sequence[int]) -> list[Tensor | None]:
    """Along `axes` of the first input everything sees everything; the shape stays."""
    x = call.data
    out = reach(x, [axis % (x.dim() - 1) + 1 for axis in axes]).expand(x.shape) if axes else x
    return [out if tuple(out.shape[1:]) == shape else None for shape in call.out]


def _softmax(call: Call) -> list[Tensor | None]:
    rank = len(call.shapes[0])
    if call.opset < 13:  # before, it was over this axis and all that follow
        return _over(call, range(int(call.attributes.get("axis", 1)) % rank, rank))
    return _over(call, [int(call.attributes.get("axis", -1))])


def _layer_norm(call: Call) -> list[Tensor | None]:
    rank = len(call.shapes[0])
    out = _over(call, range(int(call.attributes.get("axis", -1)) % rank, rank))[0]
    return [out] + [None for _ in call.out[1:]]


def _instance_norm(call: Call) -> list[Tensor | None]:
    return _over(call, range(2, len(call.shapes[0])))


def _group_norm(call: Call) -> list[Tensor | None]:
    x, groups = call.data, int(call.attributes["num_groups"])
    inner = reach(x.reshape(PLANES, x.shape[1], groups, -1), [3])
    return [inner.expand(PLANES, x.shape[1], groups, x[0, 0].numel() // groups).reshape(x.shape)]


def _local_response(call: Call) -> list[Tensor | None]:
    return _over(call, [1])


def _cumulative(call: Call) -> list[Tensor | None]:
    return _over(call, call.integers("axis", 1) or [0])


def _mean_variance(call: Call) -> list[Tensor | None]:
    return _over(call, [axis for axis in (call.integers("axes", -1, [0, 2, 3]) or []) if axis])


def _reduction(call: Call) -> list[Tensor | None]:
    x, rank = call.data, len(call.shapes[0])
    axes = call.integers("axis", -1) if "Arg" in call.op else call.integers("axes", 1)
    if "Arg" in call.op and axes is None:
        axes = [0]
    if not axes and call.attributes.get("noop_with_empty_axes", 0):
        return [x]
    dims = [axis % rank + 1 for axis in (axes or range(rank))]
    return [reach(x, dims).reshape(PLANES, *call.out[0])]


def _global_pool(call: Call) -> list[Tensor | None]:
    return [reach(call.data, range(3, call.data.dim()))]


def _matrix_product(call: Call) -> list[Tensor | None]:
    """Row i of the first with column j of the second."""
    first, second = call.inputs[:2]
    if min(len(shape) for shape in call.shapes[:2]) < 2:
        return everything(call)
    parts = []
    for x, dim in ((first, -1), (second, -2)):
        if x is not None:
            x = reach(x, [dim])
            parts.append(x.reshape(PLANES, *[1] * (len(call.out[0]) + 1 - x.dim()), *x.shape[1:]))
    return [union(parts, (PLANES, *call.out[0]))]


def _gemm(call: Call) -> list[Tensor | None]:
    if call.attributes.get("transA", 0):
        return everything(call)
    return [reach(call.data, [-1]).expand(PLANES, *call.out[0])]


def _resize(call: Call) -> list[Tensor | None]:
    """Each axis by itself: the elements that are blended, or the nearest."""
    x = call.data
    how = call.attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    if how == "tf_crop_and_resize" or call.attributes.get("antialias", 0):
        return everything(call)
    if call.op == "Upsample":
        how = "asymmetric"
    mode = call.attributes.get("mode", b"nearest").decode()
    for axis, (size, wanted) in enumerate(zip(call.shapes[0], call.out[0], strict=True)):
        if size == wanted:
            continue
        places = _places(how, size, wanted)
        if mode == "nearest":
            rounded = _ROUND[call.attributes.get("nearest_mode", b"round_prefer_floor").decode()](places)
            near = [rounded]
        else:
            blend = (0, 1) if mode == "linear" else (-1, 0, 1, 2)
            near = [np.floor(places) + offset for offset in blend]
        picks = [torch.from_numpy(np.clip(one, 0, size - 1).astype(np.int64)) for one in near]
        taken = [x.index_select(axis + 1, pick) for pick in picks]
        x = taken[0]
        for other in taken[1:]:
            x = torch.maximum(x, other)
    return [x]


def _places(how: str, size: int, wanted: int) -> NDArray[np.float64]:
    """Where along the old axis each element of the new one lies."""
    places = np.arange(wanted, dtype=np.float64)
    if how == "align_corners":
        return places * (size - 1) / max(wanted - 1, 1)
    if how == "asymmetric":
        return places * size / wanted
    if how == "pytorch_half_pixel" and wanted == 1:
        return places
    return (places + 0.5) * size / wanted - 0.5


_ROUND: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}

_Rule = Callable[[Call], list[Tensor | None]]


def _table(rule: _Rule, names: str) -> dict[str, _Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, _Rule] = {
    **_table(
        _elementwise,
        """Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast
        CastLike Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf Exp Expand Floor Gelu Greater GreaterOrEqual
        HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg
        Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum
        Swish Tan Tanh ThresholdedRelu Where Xor""",
    ),
    **_table(_parameters, "BatchNormalization QuantizeLinear DequantizeLinear"),
    **_table(_reshape, "Reshape Flatten Squeeze Unsqueeze"),
    **_table(_moves, "Slice Split Gather GatherElements GatherND Tile DepthToSpace SpaceToDepth ReverseSequence"),
    **_table(_convolution, "Conv ConvInteger"),
    **_table(_pool, "MaxPool AveragePool LpPool"),
    **_table(_global_pool, "GlobalAveragePool GlobalMaxPool GlobalLpPool"),
    **_table(_reduction, """ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum
        ReduceLogSumExp ReduceSumSquare ArgMax ArgMin"""),
    **_table(_softmax, "Softmax LogSoftmax Hardmax LpNormalization"),
    **_table(_layer_norm, "LayerNormalization RMSNormalization"),
    **_table(_matrix_product, "MatMul MatMulInteger"),
    **_table(_resize, "Resize Upsample"),
    "QLinearConv": _quantised_convolution,
    "ConvTranspose": _transposed,
    "Concat": _concat,
    "Transpose": _transpose,
    "Pad": _pads,
    "Gemm": _gemm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "MeanVarianceNormalization": _mean_variance,
    "LRN": _local_response,
    "CumSum": _cumulative,
}  # fmt: skip
