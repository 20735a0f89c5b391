"""A pass of noise through a user's ONNX graph: does it run, with which batches, and what comes out where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.models.errors import FoveaError, NetworkError
from fovea.models.graph.sessions import Session

if TYPE_CHECKING:
    import onnx

TRIAL_BATCH = 2
_DRAWS = (
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """What a pass on noise told: all tensors by name, those whose first axis holds the images, the only batch size
    that the graph takes (None: any), and what to tell."""

    values: Mapping[str, NDArray[Any]]
    stacked: frozenset[str]
    batch: int | None
    notes: tuple[str, ...] = ()


def try_graph(
    model: onnx.ModelProto,
    input_name: str,
    shape: tuple[int, ...],
    own: Sequence[str],
    declared: Sequence[int],
    path: Path,
) -> Trial:
    """Try the graph with two images and with the first of them alone, and else with the batch sizes it declares."""
    try:
        session = Session(model, "cpu", optimise=False)
    except FoveaError as error:
        raise NetworkError(f"{path.name} cannot be run: {error}") from None
    noise = np.random.default_rng(0).standard_normal((max(TRIAL_BATCH, *declared, 1), *shape)).astype(np.float32)
    passes: dict[int, dict[str, NDArray[Any]]] = {}
    reason = ""
    for batch in dict.fromkeys((TRIAL_BATCH, 1, *declared)):
        if batch in (1, TRIAL_BATCH) or not passes:
            try:
                arrays = session.run({input_name: noise[:batch]})
            except FoveaError as error:
                reason = reason or str(error)
                continue
            named = zip(session.outputs, arrays, strict=True)
            passes[batch] = {name: value for name, value in named if isinstance(value, np.ndarray)}
    if not passes:
        raise NetworkError(f"{path.name} does not run on an input of shape {shape}: {reason}")
    if {1, TRIAL_BATCH} <= set(passes) and _loses_batch(passes[1], passes[TRIAL_BATCH], own):
        values = passes[TRIAL_BATCH]
        stacked = frozenset(name for name, value in values.items() if value.shape[:1] == (TRIAL_BATCH,))
        note = "The graph drops the batch axis of one photo alone: it is given two, the same one twice."
        return Trial(values, stacked, TRIAL_BATCH, (note,))
    if {1, TRIAL_BATCH} <= set(passes) and _alike(passes[1], passes[TRIAL_BATCH], own):
        wide = {name for name, value in passes[TRIAL_BATCH].items() if value.shape[:1] == (TRIAL_BATCH,)}
        stacked = frozenset(name for name in wide if passes[1][name].shape[:1] == (1,))
        return Trial(passes[1], stacked, None)
    batch = min(passes)
    stacked = frozenset(name for name, value in passes[batch].items() if value.shape[:1] == (batch,))
    return Trial(passes[batch], stacked, batch, (f"The graph takes batches of exactly {batch}.",))


def _loses_batch(alone: Mapping[str, NDArray[Any]], together: Mapping[str, NDArray[Any]], own: Sequence[str]) -> bool:
    """Whether one image alone gives what the first of two gives, but without the axis of the batch."""
    for name in own:
        single, batch = alone.get(name), together.get(name)
        if single is None or batch is None or single.dtype.kind != "f":
            continue
        if single.ndim < batch.ndim and batch.shape[:1] == (TRIAL_BATCH,) and batch[0].size == single.size:
            return _near(batch[0].ravel(), single.ravel())
    return False


def _near(a: NDArray[Any], b: NDArray[Any]) -> bool:
    largest = np.abs(b[np.isfinite(b)]).max(initial=0)
    return np.allclose(a, b, atol=largest / 100, equal_nan=True)


def _alike(alone: Mapping[str, NDArray[Any]], together: Mapping[str, NDArray[Any]], own: Sequence[str]) -> bool:
    """Whether the first of two images gives what it gives alone, in the file's own outputs: a reshape to a fixed size
    can move the images of a batch into one another without any error."""
    for name in own:
        single, batch = alone.get(name), together.get(name)
        if single is not None and batch is not None and single.dtype.kind == "f" and single.shape[:1] == (1,):
            if batch.shape != (TRIAL_BATCH, *single.shape[1:]):
                return False
            if not _near(batch[:1], single):
                return False
    return True


VARIES_NOTE = (
    "It answers differently each time that it sees the same image, because the graph draws random numbers; for an ONNX "
    "file no seed settles them."
)


def run_each(
    model: onnx.ModelProto, input_name: str, images: NDArray[np.float32], tensor: str, batch: int | None
) -> list[NDArray[np.float64]]:
    """A tensor's values (units,) for each of some images by itself, as far as they are finite; nothing where it does
    not run."""
    session = Session(model, "cpu", optimise=False)
    rows: list[NDArray[np.float64]] = []
    for image in images:
        try:
            (value,) = session.run({input_name: np.repeat(image[None], batch or 1, axis=0)}, [tensor])
        except FoveaError:
            return []
        row = np.asarray(value, np.float64).reshape(batch or 1, -1)[0]
        if np.isfinite(row).all():
            rows.append(row)
    return rows


def answers_differ(
    model: onnx.ModelProto, input_name: str, images: NDArray[np.float32], tensor: str, batch: int | None
) -> bool:
    """Whether the same image gives other values of a tensor at another call."""
    times = 8 if any(node.op_type in _DRAWS for node in model.graph.node) else 2
    rows = run_each(model, input_name, images.repeat(times, axis=0), tensor, batch)
    return any(not np.allclose(row, rows[0], rtol=0, atol=1e-6 * np.abs(rows[0]).max()) for row in rows[1:])
