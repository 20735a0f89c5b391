"""Occlusion without the work that a window does not change.

A window changes only the part of an early layer's maps that sees it. So the graph is cut at tensors that everything
passes through; before each, only a crop around the changed part is computed, and its outcome is pasted into the clean
photo's maps. Nothing is approximated: the crops carry the margin that their convolutions look at, and at the border
of the frame they lie flush with it, so that zero padding stays where it was. The idea is that of Nakandala, Kumar and
Papakonstantinou, "Incremental and Approximate Inference for Faster Occlusion-based Deep CNN Explanations" (2019),
section 4; which cuts pay is planned here from the cost of every node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from fovea.engine.look.probing.probe import Answer, Build, Probe

if TYPE_CHECKING:
    from fovea.engine.method import Job
    from fovea.models.graph.sessions import Session

COPY_COST = 250.0
"""Multiplications that take as long as bringing one number of a map from one part of the graph to the next."""
NODE_COST = 30.0
"""Multiplications that take as long as writing one number of a map."""
LEAST_GAIN = 0.95
"""A plan is worth it when it does at most this share of the whole network's work."""

Ints = NDArray[np.int64]
Maps = NDArray[np.float32]

_ACTIVATIONS = "Relu LeakyRelu Elu Selu PRelu Clip Sigmoid HardSigmoid HardSwish Tanh Softplus Erf"
_ARITHMETIC = "Add Sub Mul Div Max Min Sqrt Abs Neg Exp"
_ELEMENTWISE = frozenset(f"{_ACTIVATIONS} {_ARITHMETIC} Identity Dropout BatchNormalization LRN".split())
_OF_CHANNELS = frozenset(("BatchNormalization", "Clip", "Dropout"))
"""Their constants are numbers, or one for each channel, whatever their shape."""
_FUSED = frozenset(("Identity", "BatchNormalization", "Relu", "Clip", "Dropout"))
"""They cost nothing behind a convolution."""
UNKNOWN = (-1,)
"""The shape of a constant that is worked out in the graph."""
_POOLS = frozenset(("MaxPool", "AveragePool", "LpPool"))


@dataclass(frozen=True)
class Reach:
    """What output i along an axis sees of an earlier tensor: [i * stride + low, i * stride + high)."""

    stride: int = 1
    low: int = 0
    high: int = 1

    def then(self, stride: int, low: int, high: int) -> Reach:
        """The reach of a layer behind this one, which sees i * stride + low … + high of it."""
        first, last = low * self.stride + self.low, (high - 1) * self.stride + self.high
        return Reach(self.stride * stride, first, last)

    def union(self, other: Reach) -> Reach:
        """What both see together; they must have one stride."""
        return Reach(self.stride, min(self.low, other.low), max(self.high, other.high))

    def changed(self, start: Ints, end: Ints, length: int) -> tuple[Ints, Ints]:
        """Outputs [first, last) of `length` that see any of the places [start, end); empty where there are none."""
        first = (start - self.high) // self.stride + 1
        last = -((self.low - end) // self.stride)
        first, last = first.clip(0, length), last.clip(0, length)
        empty = (start >= end) | (first >= last)
        return np.where(empty, 0, first), np.where(empty, 0, last)


@dataclass(frozen=True)
class LocalTensor:
    """A tensor that is a local function of an earlier one: its reach along rows and columns, its shape (C, h, w)."""

    rows: Reach
    columns: Reach
    shape: tuple[int, int, int]


@dataclass
class CutPlan:
    """The tensors at which the graph is cut, the input first; for each but the last the size of the crops behind it.

    `seen`: what each sees of the input; `onward`: what the next one sees of it; `share`: the work that is left, of
    the whole network's.
    """

    tensors: list[str]
    shapes: list[tuple[int, int, int]]
    seen: list[tuple[Reach, Reach]]
    onward: list[tuple[Reach, Reach]]
    crops: list[tuple[int, int]]
    share: float


class Locality:
    """Which tensors of a graph are local functions of its input, and what each node of that part costs.

    Args:
        model: a graph whose one input is (N, C, H, W); nodes in an order in which they can run.
        name: the input's name.
        shape: its (C, H, W).
    """

    def __init__(self, model: onnx.ModelProto, name: str, shape: tuple[int, int, int]) -> None:
        self.model, self.name = model, name
        self.constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
        self.start = shape
        self.costs: list[float] = []
        self.waists: list[tuple[int, str]] = [(0, name)]
        self._measure()

    def _measure(self) -> None:
        nodes = list(self.model.graph.node)
        readers: dict[str, int] = {}
        for index, node in enumerate(nodes):
            for tensor in node.input:
                readers[tensor] = index
        for value in self.model.graph.output:
            readers[value.name] = len(nodes)
        places = {self.name: LocalTensor(Reach(), Reach(), self.start)}
        living = {self.name}
        for index, node in enumerate(nodes):
            if all(not tensor or tensor in self.constants for tensor in node.input):
                self._remember_constant(node)
                self.costs.append(0.0)
                continue
            place = self.follow(node, places)
            if place is None:
                break
            places[node.output[0]] = place
            self.costs.append(self._cost(node, place))
            living.add(node.output[0])
            living = {tensor for tensor in living if readers.get(tensor, -1) > index}
            if living == {node.output[0]}:
                if self.waists[-1][0] and not any(self.costs[self.waists[-1][0] :]):
                    del self.waists[-1]  # only what is fused into the node before lies between the two
                self.waists.append((index + 1, node.output[0]))
        self.places = places

    def _remember_constant(self, node: onnx.NodeProto) -> None:
        shape: tuple[int, ...] = UNKNOWN
        if node.op_type == "Constant":
            attributes = {item.name: item for item in node.attribute}
            if "value" in attributes:
                shape = tuple(attributes["value"].t.dims)
            elif "value_float" in attributes or "value_int" in attributes:
                shape = ()
        elif node.op_type == "Identity":
            shape = self.constants[node.input[0]]
        self.constants.update(dict.fromkeys(node.output, shape))

    def follow(self, node: onnx.NodeProto, places: Mapping[str, LocalTensor]) -> LocalTensor | None:
        """The place of a node's output, or None if it is not a local function of the places it reads."""
        reads = [places[tensor] for tensor in node.input if tensor in places]
        others = [tensor for tensor in node.input if tensor and tensor not in places]
        if len(node.output) > 1 and any(node.output[1:]):
            return None
        if not reads or any(tensor not in self.constants for tensor in others):
            return None
        if node.op_type == "Conv" or node.op_type in _POOLS:
            return self._window(node, reads[0]) if node.input[0] in places and len(reads) == 1 else None
        if node.op_type == "Concat":
            return _joined(reads, sum(place.shape[0] for place in reads)) if _axis(node) == 1 and not others else None
        if node.op_type in _ELEMENTWISE and all(self._spread(node, tensor) for tensor in others):
            return _joined(reads, max(place.shape[0] for place in reads))
        return None

    def _spread(self, node: onnx.NodeProto, tensor: str) -> bool:
        """Whether a constant is the same at every position: a number, or one for each channel."""
        if node.op_type in _OF_CHANNELS:
            return True
        shape = self.constants[tensor]
        number = shape != UNKNOWN and int(np.prod(shape, dtype=np.int64)) == 1
        return number or (len(shape) >= 3 and shape[-2:] == (1, 1))

    def _window(self, node: onnx.NodeProto, place: LocalTensor) -> LocalTensor | None:
        facts = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if facts.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            return None
        channels = place.shape[0]
        if node.op_type == "Conv":
            weight = self.constants[node.input[1]]
            if len(weight) != 4:
                return None
            channels, kernel = weight[0], weight[2:]
        else:
            kernel = tuple(facts["kernel_shape"])
        strides, dilations = facts.get("strides", [1, 1]), facts.get("dilations", [1, 1])
        pads = facts.get("pads", [0, 0, 0, 0])
        if min(pads) < 0 or len(kernel) != 2:
            return None
        ends, sizes = [], []
        for axis, reach in enumerate((place.rows, place.columns)):
            span = dilations[axis] * (kernel[axis] - 1) + 1
            room = place.shape[1 + axis] + pads[axis] + pads[axis + 2] - span
            if room < 0:
                return None
            steps = -(-room // strides[axis]) if facts.get("ceil_mode") else room // strides[axis]
            if facts.get("ceil_mode") and steps * strides[axis] >= place.shape[1 + axis] + pads[axis]:
                steps -= 1
            sizes.append(steps + 1)
            ends.append(reach.then(strides[axis], -pads[axis], span - pads[axis]))
        return LocalTensor(ends[0], ends[1], (channels, sizes[0], sizes[1]))

    def _cost(self, node: onnx.NodeProto, place: LocalTensor) -> float:
        numbers = float(np.prod(place.shape))
        if node.op_type == "Conv":
            return numbers * (float(np.prod(self.constants[node.input[1]][1:])) + NODE_COST)
        return 0.0 if node.op_type in _FUSED else numbers * NODE_COST

    def onward(self, start: int) -> Iterator[tuple[int, LocalTensor]]:
        """The waists behind waist `start` (a number into `waists`), as functions of it."""
        first, name = self.waists[start]
        places = {name: LocalTensor(Reach(), Reach(), self.places[name].shape)}
        ends = {index: number for number, (index, _) in enumerate(self.waists) if number > start}
        for index, node in enumerate(self.model.graph.node[first : self.waists[-1][0]], start=first + 1):
            if any(tensor in places for tensor in node.input):
                place = self.follow(node, places)
                if place is not None:
                    places[node.output[0]] = place
            if index in ends:
                yield ends[index], places[self.waists[ends[index]][1]]


def _axis(node: onnx.NodeProto) -> int:
    return next((int(item.i) for item in node.attribute if item.name == "axis"), 0)


def _joined(places: Sequence[LocalTensor], channels: int) -> LocalTensor | None:
    """The place of maps of one size that are joined element by element, or channel after channel."""
    first = places[0]
    rows, columns = first.rows, first.columns
    for place in places[1:]:
        same = place.shape[1:] == first.shape[1:]
        if not same or (place.rows.stride, place.columns.stride) != (rows.stride, columns.stride):
            return None
        rows, columns = rows.union(place.rows), columns.union(place.columns)
    return LocalTensor(rows, columns, (channels, *first.shape[1:]))


Way = tuple[float, tuple[int, int], LocalTensor]
"""From one cut tensor to another: its cost, the crops' size, and the place of the second as seen from the first."""


def crop_length(changed: int, reach: Reach, length: int) -> int:
    """How long the crops along one axis of `length` must be so that `changed` neighbouring outputs come out right."""
    margin = (reach.low // reach.stride) * reach.stride
    needed = max(changed - 1, 0) * reach.stride + reach.high - margin
    # The crop that lies flush with the far border must start at a multiple of the stride as well.
    return min(length, needed + (length - needed) % reach.stride)


def crop_start(first: Ints, reach: Reach, length: int, size: int) -> Ints:
    """Where the crops begin whose first wanted outputs are `first`."""
    start: Ints = (first + reach.low // reach.stride) * reach.stride
    return start.clip(0, length - size)


def plan_cuts(locality: Locality, window: int, ys: Ints, xs: Ints) -> CutPlan:
    """The cheapest way through the graph for windows at `ys` × `xs`; with no crops where none would pay."""
    waists, costs = locality.waists, locality.costs
    height, width = locality.start[1:]
    whole = sum(costs)
    changed = []
    for _, name in waists:
        place = locality.places[name]
        spans = []
        for corners, reach, full, length in (
            (ys, place.rows, height, place.shape[1]),
            (xs, place.columns, width, place.shape[2]),
        ):
            first, last = reach.changed(corners, np.minimum(corners + window, full), length)
            spans.append(int((last - first).max()))
        changed.append(spans)
    best, before = [0.0], [-1]
    ways: dict[tuple[int, int], Way] = {}
    for start in range(len(waists) - 1):
        shape = locality.places[waists[start][1]].shape
        for end, place in locality.onward(start):
            size = (
                crop_length(changed[end][0], place.rows, shape[1]),
                crop_length(changed[end][1], place.columns, shape[2]),
            )
            share = size[0] * size[1] / (shape[1] * shape[2])
            cost = share * sum(costs[waists[start][0] : waists[end][0]]) + COPY_COST * shape[0] * size[0] * size[1]
            ways[start, end] = cost, size, place
    for end in range(1, len(waists)):
        costs_to_here = [(best[start] + ways[start, end][0], start) for start in range(end) if (start, end) in ways]
        cost, start = min(costs_to_here, default=(float("inf"), -1))
        best.append(cost)
        before.append(start)
    totals = [
        best[end] + sum(costs[waists[end][0] :]) + COPY_COST * float(np.prod(locality.places[waists[end][1]].shape))
        for end in range(1, len(waists))
    ]
    if not totals or min(totals) > LEAST_GAIN * whole:
        return _plan(locality, [0], {}, 1.0)
    path = [1 + int(np.argmin(totals))]
    while path[-1]:
        path.append(before[path[-1]])
    return _plan(locality, path[::-1], ways, min(totals) / whole)


def _plan(
    locality: Locality,
    path: Sequence[int],
    ways: Mapping[tuple[int, int], Way],
    share: float,
) -> CutPlan:
    names = [locality.waists[index][1] for index in path]
    places = [locality.places[name] for name in names]
    taken = [ways[start, end] for start, end in pairwise(path)]
    return CutPlan(
        tensors=names,
        shapes=[place.shape for place in places],
        seen=[(place.rows, place.columns) for place in places],
        onward=[(place.rows, place.columns) for _, _, place in taken],
        crops=[size for _, size, _ in taken],
        share=share,
    )


def plan_for(job: Job[Any], taps: Sequence[str], window: int, ys: Ints, xs: Ints) -> CutPlan | None:
    """A plan for a question about `taps` under windows at `ys` × `xs`, or None where the whole graph is as good.

    Crops pay on a CPU, whose time is the arithmetic; a GPU is kept busy by whole frames in large batches.
    """
    from fovea.models.graph.providers import first_provider

    if first_provider(job.provider) != "cpu":
        return None
    graph = job.network.graph()
    if graph.apart or graph.batch is not None:  # the clean photo goes through by itself, and the windows by the batch
        return None
    model = graph.cut(list(taps))
    initial = {tensor.name for tensor in model.graph.initializer}
    value = next(value for value in model.graph.input if value.name not in initial)
    if value.type.tensor_type.elem_type != TensorProto.FLOAT:
        return None
    channels, (height, width) = job.card.preprocessing.channels, job.card.preprocessing.size
    plan = plan_cuts(Locality(model, value.name, (channels, height, width)), window, ys, xs)
    return plan if plan.crops else None


def part_of(
    model: onnx.ModelProto, starts: Mapping[str, Sequence[int | str]], ends: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """The part of a graph that makes `ends` from the float32 tensors `starts` (name to shape)."""
    wanted, nodes = {value.name for value in ends}, []
    for node in reversed(model.graph.node):
        if any(tensor in wanted for tensor in node.output) and not any(tensor in starts for tensor in node.output):
            nodes.append(node)
            wanted.update(node.input)
    graph = helper.make_graph(
        nodes[::-1],
        "part",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in starts.items()],
        list(ends),
        [tensor for tensor in model.graph.initializer if tensor.name in wanted],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


@dataclass
class ChangedParts:
    """What was computed of a tensor for a batch of windows.

    Attributes:
        maps: (N, C, h, w), or (1, C, h, w) where all windows share them.
        ys, xs: where each of the maps lies in the whole tensor, (N,).
        tops, bottoms, lefts, rights: the changed part of the whole tensor, (N,) each; empty if bottom <= top.
    """

    maps: Maps
    ys: Ints
    xs: Ints
    tops: Ints
    bottoms: Ints
    lefts: Ints
    rights: Ints

    def paste(self, number: int, target: Maps, y: int, x: int) -> None:
        """Put the changed part for a window into `target` (C, h, w), which lies at y, x of the whole tensor."""
        top, bottom = max(int(self.tops[number]), y), min(int(self.bottoms[number]), y + target.shape[1])
        left, right = max(int(self.lefts[number]), x), min(int(self.rights[number]), x + target.shape[2])
        if top >= bottom or left >= right:
            return
        maps = self.maps[number if len(self.maps) > 1 else 0]
        oy, ox = int(self.ys[number]), int(self.xs[number])
        target[:, top - y : bottom - y, left - x : right - x] = maps[:, top - oy : bottom - oy, left - ox : right - ox]


class IncrementalProbe(Probe):
    """A probe that answers a question about occluded photos by the crops of a plan. It runs on the CPU.

    Its feeds are those of `reducers.occluded_input`: `photo` and `cover` (1, C, H, W), corners `ys`, `xs` (N,).

    Args:
        job: the network and the photo.
        plan: where the graph is cut.
        window: side of the covered square, in pixels of the frame.
        taps, build: the question, as for any probe; it leaves the network's input as it is.
    """

    def __init__(self, job: Job[Any], plan: CutPlan, window: int, taps: Sequence[str], build: Build) -> None:
        self.plan, self.window = plan, window
        self._photo: Maps | None = None
        self._clean: list[Maps] = []
        super().__init__(job, taps, build)

    def open(self, model: onnx.ModelProto, provider: str, threads: int | None) -> tuple[Answer, str]:
        """Open a session for every part of the plan."""
        from fovea.models.graph.sessions import Session

        plan = self.plan
        shapes = [("N", shape[0], "rows", "columns") for shape in plan.shapes]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in plan.tensors]
        self._parts = [
            Session(part_of(model, {first: shape}, [end]), "cpu", threads, yielding=True)
            for first, shape, end in zip(plan.tensors, shapes, ends[1:], strict=False)
        ]
        last = {plan.tensors[-1]: ("N", *plan.shapes[-1])}
        self._rest = Session(part_of(model, last, list(model.graph.output)), "cpu", threads, yielding=True)
        return self._occluded, "cpu"

    def _occluded(self, feeds: Mapping[str, NDArray[Any]], answers: Sequence[str]) -> list[NDArray[Any]]:
        self._see_clean(feeds["photo"])
        ys, xs = feeds["ys"], feeds["xs"]
        height, width = feeds["photo"].shape[2:]
        bottoms, rights = np.minimum(ys + self.window, height), np.minimum(xs + self.window, width)
        nowhere = np.zeros(len(ys), np.int64)
        changed = ChangedParts(feeds["cover"], nowhere, nowhere, ys, bottoms, xs, rights)
        for step, part in enumerate(self._parts):
            changed = self._onward(step, part, changed, (ys, bottoms, xs, rights))
        whole = np.repeat(self._clean[-1], len(ys), axis=0)
        for number, maps in enumerate(whole):
            changed.paste(number, maps, 0, 0)
        return self._rest.run({self.plan.tensors[-1]: whole}, answers)

    def _see_clean(self, photo: Maps) -> None:
        """Keep what every cut tensor is for the photo as it is."""
        if self._photo is not None and np.array_equal(photo, self._photo):
            return
        self._photo, self._clean = photo, [photo]
        for name, part in zip(self.plan.tensors, self._parts, strict=False):
            self._clean.append(part.run({name: self._clean[-1]})[0])

    def _onward(
        self, step: int, part: Session, changed: ChangedParts, window: tuple[Ints, Ints, Ints, Ints]
    ) -> ChangedParts:
        """The changed part of the next cut tensor, from that of tensor `step`."""
        plan, clean = self.plan, self._clean[step][0]
        (rows, columns), (seen_rows, seen_columns) = plan.onward[step], plan.seen[step + 1]
        size, (_, next_height, next_width) = plan.crops[step], plan.shapes[step + 1]
        tops, bottoms = seen_rows.changed(window[0], window[1], next_height)
        lefts, rights = seen_columns.changed(window[2], window[3], next_width)
        ys = crop_start(tops, rows, clean.shape[1], size[0])
        xs = crop_start(lefts, columns, clean.shape[2], size[1])
        crops = np.empty((len(tops), clean.shape[0], *size), np.float32)
        for number, crop in enumerate(crops):
            y, x = int(ys[number]), int(xs[number])
            crop[:] = clean[:, y : y + size[0], x : x + size[1]]
            changed.paste(number, crop, y, x)
        maps = part.run({plan.tensors[step]: crops})[0]
        return ChangedParts(maps, ys // rows.stride, xs // columns.stride, tops, bottoms, lefts, rights)
