"""How a network ends, seen by walking back from its output: through what only moves or copies numbers, to a softmax or
a sigmoid, whether one operation or spelled out in elementary ones. The walk is the same for ONNX graphs and for torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

End: TypeAlias = Literal["softmax", "log_softmax", "sigmoid", "log_sigmoid", "slice", ""]
"""What the output is: "slice" is a part of a softmax, whose sum is not 1; "" is none of these."""


@dataclass(frozen=True)
class Step:
    """One operation. `kind` is its name in the vocabulary of `_KINDS`; `inputs` are the names of the tensors that it
    reads, or numbers."""

    kind: str
    inputs: tuple[str | float, ...]


Steps: TypeAlias = Mapping[str, Step]
"""The operation that made each tensor; none for inputs and weights."""

_KINDS: Mapping[str, str] = {
    alias: kind
    for kind, aliases in {
        "same": "cast identity reshape flatten squeeze unsqueeze transpose dropout clip expand tile"
        " _to_copy to clone detach alias view _unsafe_view _reshape_alias permute t contiguous native_dropout clamp"
        " clamp_min clamp_max lift_fresh nan_to_num unflatten movedim copy castlike as_strided _conj resolve_conj",
        "slice": "slice gather split select index index_select narrow unbind chunk split_with_sizes",
        "concat": "concat cat stack sequence",
        "softmax": "softmax _softmax _safe_softmax special_softmax hardmax",
        "log_softmax": "logsoftmax log_softmax _log_softmax special_log_softmax",
        "sigmoid": "sigmoid hardsigmoid special_expit expit",
        "log_sigmoid": "log_sigmoid log_sigmoid_forward logsigmoid",
        "logsumexp": "logsumexp reducelogsumexp special_logsumexp",
        "sum": "sum reducesum",
        "mean": "mean reducemean",
        "exp": "exp",
        "log": "log",
        "add": "add",
        "sub": "sub",
        "rsub": "rsub",
        "mul": "mul",
        "div": "div true_divide",
        "reciprocal": "reciprocal",
        "neg": "neg negative",
        "tanh": "tanh",
        "pow": "pow",
    }.items()
    for alias in aliases.split()
}

_DEPTH = 40


def kind_of(operator: str) -> str:
    """The kind of an ONNX or ATen operator, "" for one that the walk does not know."""
    return _KINDS.get(operator.lower()) or _KINDS.get(operator.lower().removesuffix("_"), "")


def end_of(steps: Steps, tensor: str | float, depth: int = _DEPTH) -> End:
    """What a tensor is, by how it was made."""
    step = steps.get(tensor) if isinstance(tensor, str) else None
    if step is None or depth == 0 or not step.inputs:
        return ""

    def end(value: str | float) -> End:
        return end_of(steps, value, depth - 1)

    first = step.inputs[0]
    if step.kind in ("softmax", "log_softmax", "sigmoid", "log_sigmoid"):
        return step.kind  # type: ignore[return-value]
    if step.kind in ("same", "mean"):
        return end(first)
    if step.kind == "slice":
        inner = end(first)
        return "slice" if inner == "softmax" else inner
    if step.kind == "concat":
        ends = {end(value) for value in step.inputs if isinstance(value, str)}
        return ends.pop() if len(ends) == 1 else ""
    if step.kind == "exp":
        return _exponential(steps, first, end(first))
    if step.kind == "log":
        logarithms: Mapping[End, End] = {"softmax": "log_softmax", "sigmoid": "log_sigmoid"}
        return logarithms.get(end(first), "")
    return _arithmetic(steps, step, depth)


def _exponential(steps: Steps, read: str | float, inner: End) -> End:
    """The end of exp(read)."""
    powers: Mapping[End, End] = {"log_softmax": "softmax", "log_sigmoid": "sigmoid"}
    return powers.get(inner, "")


def _arithmetic(steps: Steps, step: Step, depth: int) -> End:
    """The end of a sum, difference, product or quotient."""
    at = _through(steps, step)
    if at.kind == "div" and len(at.inputs) > 1:
        return _quotient(steps, at.inputs[0], at.inputs[1], depth)
    if at.kind == "reciprocal":
        return "sigmoid" if _one_and_exp(steps, at.inputs[0]) is not None else ""
    if at.kind == "mul" and len(at.inputs) > 1:
        for one, other in (at.inputs[:2], at.inputs[1::-1]):
            below = _step(steps, other)
            if below is not None and below.kind == "reciprocal":
                return _quotient(steps, one, below.inputs[0], depth)
        return _scaled(steps, at, depth)
    if at.kind == "sub" and len(at.inputs) > 1:
        below = _step(steps, at.inputs[1])
        if below is not None and below.kind == "logsumexp":
            return "log_softmax"
        if below is not None and below.kind == "log" and _is_sum_of_exp(steps, below.inputs[0]):
            return "log_softmax"
    if at.kind in ("sub", "rsub", "add"):
        return _sum(steps, at, depth)
    return ""


def _quotient(steps: Steps, above: str | float, below: str | float, depth: int) -> End:
    """exp(z) / sum exp(z), 1 / (1 + exp(-z)), exp(z) / (1 + exp(z)), (1 + tanh) / 2, and the end of an average."""
    divisor, source = _step(steps, below), _root(steps, above)
    if divisor is not None and divisor.kind == "sum" and divisor.inputs and _root(steps, divisor.inputs[0]) == source:
        return "softmax"
    if _one_and_exp(steps, below) is not None:
        upper = _step(steps, above)
        if _number(above) == 1 or _is_constant(steps, above) or (upper is not None and upper.kind == "exp"):
            return "sigmoid"
    if _number(below) is not None or _is_constant(steps, below):
        return _plus_tanh(steps, above) or end_of(steps, above, depth - 1)
    return ""


def _scaled(steps: Steps, step: Step, depth: int) -> End:
    """The end of a constant times a tensor, or of a mask times it."""
    for one, other in (step.inputs[:2], step.inputs[1::-1]):
        if _number(one) is not None or _is_constant(steps, one):
            return _plus_tanh(steps, other) or end_of(steps, other, depth - 1)
    return ""


def _sum(steps: Steps, step: Step, depth: int) -> End:
    """1 - p, p + a little, p + q (of an average), and tanh / 2 + 1 / 2."""
    if len(step.inputs) < 2:
        return ""
    ends: set[End] = set()
    for value in step.inputs[:2]:
        inner = _step(steps, value)
        if _number(value) is not None or (isinstance(value, str) and inner is None and value not in steps):
            continue
        if inner is not None and inner.kind == "mul" and any(_is_tanh(steps, part) for part in inner.inputs):
            ends.add("sigmoid")
        elif inner is not None and inner.kind == "neg":
            ends.add(end_of(steps, inner.inputs[0], depth - 1))
        else:
            ends.add(end_of(steps, value, depth - 1))
    return ends.pop() if len(ends) == 1 else ""


def _plus_tanh(steps: Steps, tensor: str | float) -> End:
    """ "sigmoid" for tanh + 1."""
    step = _step(steps, tensor)
    if step is not None and step.kind == "add" and any(_is_tanh(steps, value) for value in step.inputs):
        return "sigmoid"
    return ""


def _is_tanh(steps: Steps, tensor: str | float) -> bool:
    step = _step(steps, tensor)
    return step is not None and step.kind == "tanh"


def _is_sum_of_exp(steps: Steps, tensor: str | float) -> bool:
    step = _step(steps, tensor)
    above = _step(steps, step.inputs[0]) if step is not None and step.kind == "sum" else None
    return above is not None and above.kind == "exp"


def _one_and_exp(steps: Steps, tensor: str | float) -> str | float | None:
    """The exponential in 1 + exp(z)."""
    step = _step(steps, tensor)
    if step is None or step.kind != "add":
        return None
    for value in step.inputs:
        inner = _step(steps, value)
        if inner is not None and inner.kind == "exp":
            return value
    return None


def _through(steps: Steps, step: Step) -> Step:
    """The operation behind what only copies."""
    while step.kind == "same" and step.inputs:
        behind = steps.get(str(step.inputs[0]))
        if behind is None:
            return step
        step = behind
    return step


def _step(steps: Steps, tensor: str | float) -> Step | None:
    step = steps.get(tensor) if isinstance(tensor, str) else None
    return None if step is None else _through(steps, step)


def _root(steps: Steps, tensor: str | float) -> str | float:
    """The tensor behind what only copies."""
    step = steps.get(tensor) if isinstance(tensor, str) else None
    while step is not None and step.kind == "same" and step.inputs:
        tensor = step.inputs[0]
        step = steps.get(tensor) if isinstance(tensor, str) else None
    return tensor


def _number(value: str | float) -> float | None:
    return None if isinstance(value, str) else value


def _is_constant(steps: Steps, tensor: str | float) -> bool:
    """Whether no operation that is known made it: a weight, a constant."""
    return not isinstance(tensor, str) or tensor not in steps


def ancestors(steps: Steps, tensor: str) -> set[str]:
    """The tensors that a tensor was made of."""
    seen: set[str] = set()
    waiting = [tensor]
    while waiting:
        step = steps.get(waiting.pop())
        for value in step.inputs if step is not None else ():
            if isinstance(value, str) and value not in seen:
                seen.add(value)
                waiting.append(value)
    return seen
