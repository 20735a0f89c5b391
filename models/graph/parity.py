"""How far an ONNX graph is from the torch network at every tap, and whether that is mere rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.models.card import OUTPUT
from fovea.models.errors import ParityError
from fovea.models.graph.sessions import Session

if TYPE_CHECKING:
    import onnx
    from torch import nn

Array = NDArray[Any]

PARITY_TOLERANCE = 1e-4
"""Largest difference between torch and ONNX at a tap, as a share of the tap's largest magnitude."""
_ROUNDINGS = 4
"""ONNX may be so many times as far from float64 as torch's float32 is: its additions come in another order."""


@dataclass(frozen=True)
class Gap:
    """How far ONNX is from torch at a tap, as a share of the tap's largest magnitude (inf: one of them is not finite
    where the other is), and whether that passes."""

    difference: float
    agrees: bool


def compare(
    module: nn.Module,
    model: onnx.ModelProto | Path,
    taps: Mapping[str, str],
    input_name: str,
    shape: Sequence[int],
    name: str,
    batch: int = 1,
    brightness: float = 0.0,
) -> dict[str, Gap]:
    """Torch against ONNX Runtime at every tap, in forward order.

    `shape` (C, H, W) of the input, which is `batch` images of normal noise about `brightness`: by default one image,
    since the graph was recorded with two, so that a batch size that stuck in it is found. Up to `PARITY_TOLERANCE`
    agrees. Where the two differ by more, torch in float64 decides: ONNX may be `_ROUNDINGS` times as far from it as
    torch's own float32 is (a sigmoid of hundreds is near to a step: there float32 has few digits whoever computes it).
    Raises ParityError where a shape differs, the graph does not run, or torch gives another answer each time.
    """
    import torch

    from fovea.models import torch_net

    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1)) + brightness
    with torch.no_grad():
        expected = {tap: value.numpy() for tap, value in torch_net.all_taps(module, x).items()}
        again = torch_net.all_taps(module, x)[OUTPUT].numpy()
    if expected[OUTPUT].shape != again.shape or _difference(expected[OUTPUT], again) > PARITY_TOLERANCE:
        # The exporter leaves dropout out; and noise is no measure for how near a graph is.
        raise ParityError(f"{name}: it gives another answer each time that it sees the same image")
    tensors = list(dict.fromkeys(taps.values()))
    session = Session(model, provider="cpu", optimise=False)
    try:
        computed = dict(zip(tensors, session.run({input_name: x.numpy()}, tensors), strict=True))
    except Exception as error:
        text = (str(error).splitlines() or [type(error).__name__])[-1]
        raise ParityError(f"{name}: the exported graph does not run with a batch of {batch}: {text[:200]}") from error
    differences: dict[str, float] = {}
    for tap, tensor in taps.items():
        want, got = expected[tap], computed[tensor]
        if want.shape != got.shape:
            raise ParityError(f"{name}: at layer {tap} torch gives shape {want.shape} and ONNX {got.shape}")
        differences[tap] = _difference(want, got)
    allowed = dict.fromkeys(taps, True)
    if not all(difference <= PARITY_TOLERANCE for difference in differences.values()):
        exact = _exact(module, x)
        rounding = _rounding(exact, expected)
        for tap, difference in differences.items():
            if not difference <= PARITY_TOLERANCE:
                bound = max(PARITY_TOLERANCE, _ROUNDINGS * rounding.get(tap, 0.0))
                allowed[tap] = tap in exact and _difference(exact[tap], computed[taps[tap]]) <= bound
    return {tap: Gap(differences[tap], allowed[tap]) for tap in taps}


def check_parity(
    module: nn.Module,
    model: onnx.ModelProto | Path,
    taps: Mapping[str, str],
    input_name: str,
    shape: Sequence[int],
    name: str,
    batch: int = 1,
    brightness: float = 0.0,
) -> dict[str, float]:
    """The differences that `compare` finds. Raises ParityError that names the first tap, in forward order, where torch
    and ONNX do not agree."""
    gaps = compare(module, model, taps, input_name, shape, name, batch, brightness)
    for tap, gap in gaps.items():
        if not gap.agrees:
            raise ParityError(
                f"{name}: torch and ONNX disagree at layer {tap} by {gap.difference:.1e} of its largest value "
                f"(allowed {PARITY_TOLERANCE:.0e})"
            )
    return {tap: gap.difference for tap, gap in gaps.items()}


def _exact(module: nn.Module, x: Any) -> dict[str, Array]:
    """Every tap in float64; nothing where the network cannot run in it."""
    import copy

    import torch

    from fovea.models import torch_net

    try:
        with torch.inference_mode():
            taps = torch_net.all_taps(copy.deepcopy(module).double(), x.double())
    except Exception:
        return {}
    return {tap: value.numpy() for tap, value in taps.items()}


def _rounding(exact: Mapping[str, Array], expected: Mapping[str, Array]) -> dict[str, float]:
    """How far torch's float32 is from `exact` at every tap or one before it."""
    largest, rounding = 0.0, {}
    for tap, value in exact.items():  # in forward order: what is lost early is not found again later
        if tap in expected:
            largest = max(largest, _difference(value, expected[tap]))
            rounding[tap] = largest
    return rounding


def _difference(want: Array, got: Array) -> float:
    if not want.size:
        return 0.0
    want, got = want.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(want)
    if not np.array_equal(finite, np.isfinite(got)):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.abs(want[finite]).max())
    gap = float(np.abs(want[finite] - got[finite]).max())
    return gap / scale if scale > 0 else gap
