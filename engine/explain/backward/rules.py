"""What a ReLU does on the way back: the gradient's rule, the deconvnet's, guided backprop's.

The rules act through a mode of the calling thread that intercepts the calls of ReLUs, whether they are modules,
functions, tensor methods or in place. Nothing is attached to the network, so threads can share it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Rule = Literal["gradient", "deconvnet", "guided", "redirected"]
"""With R the gradient that arrives at a ReLU and x its input, what goes on to the layer below:

- gradient: R where x > 0.
- deconvnet: R where R > 0 (Zeiler and Fergus 2014, section 2.1).
- guided: R where both x > 0 and R > 0 (Springenberg et al. 2015, section 3.4).
- redirected: R everywhere, so that a unit which is dead at the start of an ascent gets a gradient.

A ReLU6 is a ReLU with a second bend: x > 0 becomes 0 < x < 6.
"""


class _Rectify(torch.autograd.Function):
    """min(max(x, 0), ceiling) with a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ceiling: float, rule: Rule) -> Tensor:
        ctx.rule = rule
        if rule in ("gradient", "guided"):
            ctx.save_for_backward((x > 0) & (x < ceiling))
        return x.clamp(0, None if ceiling == float("inf") else ceiling)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (above,) = gradients
        below = above
        if ctx.rule in ("deconvnet", "guided"):
            below = below.clamp_min(0)
        if ctx.rule in ("gradient", "guided"):
            below = below * ctx.saved_tensors[0]
        return below, None, None


def _rectifier_ceiling(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float | None:
    """Where the rectifier that this call computes stops rising (infinity for a ReLU), None if it is not one."""
    if function in _RELUS:
        return float("inf")
    if function is F.relu6:
        return 6.0
    if function in _CLAMPS:
        names, low, high = _CLAMPS[function]
        limits = dict(zip(names, args[1:], strict=False)) | dict(kwargs)
        low, high = limits.get(names[0], low), limits.get(names[1], high) if len(names) > 1 else None
        if isinstance(low, int | float) and low == 0 and (high is None or isinstance(high, int | float)):
            return float("inf") if high is None else float(high)
    return None


_RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_CLAMPS: dict[Any, tuple[tuple[str, ...], float | None, float | None]] = {
    F.hardtanh: (("min_val", "max_val"), -1.0, 1.0),
    F.hardtanh_: (("min_val", "max_val"), -1.0, 1.0),
    torch.clamp: (("min", "max"), None, None),
    torch.clamp_: (("min", "max"), None, None),
    torch.clip: (("min", "max"), None, None),
    Tensor.clamp: (("min", "max"), None, None),
    Tensor.clamp_: (("min", "max"), None, None),
    Tensor.clip: (("min", "max"), None, None),
    torch.clamp_min: (("min",), None, None),
    torch.clamp_min_: (("min",), None, None),
    Tensor.clamp_min: (("min",), None, None),
    Tensor.clamp_min_: (("min",), None, None),
}
_IN_PLACE = {
    F.relu_,
    torch.relu_,
    Tensor.relu_,
    F.hardtanh_,
    torch.clamp_,
    Tensor.clamp_,
    torch.clamp_min_,
    Tensor.clamp_min_,
}
_OTHERS: dict[Any, str] = {
    F.hardswish: "hard-swish",
    F.silu: "SiLU",
    torch.sigmoid: "sigmoid",
    Tensor.sigmoid: "sigmoid",
    F.hardsigmoid: "hard-sigmoid",
    F.gelu: "GELU",
    F.leaky_relu: "leaky ReLU",
    F.prelu: "PReLU",
    F.elu: "ELU",
    F.selu: "SELU",
    F.mish: "Mish",
    F.softplus: "softplus",
    F.hardtanh: "hardtanh",
    torch.tanh: "tanh",
    Tensor.tanh: "tanh",
}


class ReluRule(TorchFunctionMode):
    """While it is entered, every rectifier that this thread calls has the backward pass of `rule`.

    Rectifiers are ReLU, ReLU6, hardtanh and clamp from 0 up. Other activations (hard-swish, SiLU, GELU, leaky
    ReLU, …) bend softly and keep their own derivative. `relus` counts the rectifiers that were called, `ceilings`
    those that end at a value such as ReLU6's, `others` the other activations by name.
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.relus = 0
        self.ceilings: Counter[float] = Counter()
        self.others: Counter[str] = Counter()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Called by torch for each function of the forward pass."""
        kwargs = kwargs or {}
        ceiling = _rectifier_ceiling(func, args, kwargs)
        if ceiling is None:
            if func in _OTHERS:
                self.others[_OTHERS[func]] += 1
            return func(*args, **kwargs)
        self.relus += 1
        if ceiling != float("inf"):
            self.ceilings[ceiling] += 1
        x: Tensor = args[0] if args else kwargs["input"]
        y = _Rectify.apply(x, ceiling, self.rule)  # type: ignore[no-untyped-call]
        if func in _IN_PLACE or kwargs.get("inplace", False) or (func is F.relu and args[1:2] == (True,)):
            return x.copy_(y)
        return y

    def notes(self) -> list[str]:
        """Lines for the user about activations on which this rule changes nothing, after a forward pass."""
        names = ", ".join(f"{count} {name}" for name, count in sorted(self.others.items()))
        if not self.relus:
            why = f"only {names}" if names else "none that it called before this layer"
            return [f"the network has no ReLU here ({why}), so the {self.rule} rule is the plain gradient"]
        lines = [f"the {self.rule} rule acts on {self.relus} ReLUs; {names} keep their own derivative"] if names else []
        for ceiling, count in sorted(self.ceilings.items()):
            does = f"lets nothing through where their input is below 0 or above {ceiling:g}"
            if self.rule == "deconvnet":
                does = "does not ask where their input lies"
            lines.append(f"{count} of the ReLUs end at {ceiling:g} (ReLU6, hardtanh): the {self.rule} rule {does}")
        return lines


def backward_rule(rule: Rule) -> AbstractContextManager[ReluRule | None]:
    """A context in which this thread's ReLUs follow `rule`; for "gradient" it does nothing at all."""
    return nullcontext() if rule == "gradient" else ReluRule(rule)
