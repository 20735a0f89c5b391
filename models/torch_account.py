"""What a network that is registered turns out to be, tried on noise: which output it gives, what that means, whether it
answers alike each time, and what gradients reach.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fovea.models.card import Layer, Preprocessing
from fovea.models.errors import NO_GRADIENT, NetworkError
from fovea.models.meaning import Seen, Stance, named_classes, told_kind, trial_images
from fovea.models.output import MEANINGS, OutputKind
from fovea.models.output_end import End, ancestors, end_of
from fovea.models.outputs import Choice, Output, choose, find_entry, note_of
from fovea.models.torch_net import adapt, all_taps, first_tensor, trace
from fovea.models.torch_output import read_as, tensors_of
from fovea.models.torch_record import Record, recorded
from fovea.models.torch_trial import try_module

ALIKE = 1e-6
"""Two answers are the same up to this share of the largest value."""
MORE_TRIES = 6
"""So often a network that draws random numbers is run again, if it has answered alike."""


@dataclass(frozen=True)
class Reading:
    """The output that is read: its path ("": the first tensor), how the network ends there, and what to tell."""

    name: str = ""
    end: End = ""
    draws: bool = False
    notes: tuple[str, ...] = ()


def read_outputs(
    module: nn.Module, shape: Sequence[int], wanted: str, classes: int, features: bool, network: str
) -> Reading:
    """Run a prepared `module` once and choose what it returns. Nothing is told of a network that does not run so.

    Raises UnknownNameError where `wanted` is no output of it.
    """
    for size in (2, 1):
        x = torch.randn(size, *shape, generator=torch.Generator().manual_seed(2))
        try:
            value, record = recorded(read_as(module), x.to(_like(module)))
        except Exception:
            continue
        tensors = tensors_of(value)
        if not tensors:
            continue
        return _chosen(value, tensors, record, size, wanted, classes, features, network)
    if wanted:
        raise NetworkError(f"{network} does not run on noise, so its output {wanted} cannot be found")
    return Reading()


def _like(module: nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def _chosen(
    value: Any,
    tensors: Mapping[str, Tensor],
    record: Record,
    size: int,
    wanted: str,
    classes: int,
    features: bool,
    network: str,
) -> Reading:
    names = {path: record.name(tensor) for path, tensor in tensors.items()}
    ends = {path: end_of(record.steps, name) for path, name in names.items()}
    made_of = {path: ancestors(record.steps, name) for path, name in names.items()}

    def is_inner(path: str) -> bool:
        """Whether another output was made of it, and says more than which of its classes are likely."""
        return any(
            names[path] in above and not (tensors[other].shape == tensors[path].shape and ends[other])
            for other, above in made_of.items()
            if other != path
        )

    outputs = [
        Output(
            path,
            tuple(tensor.shape[1:] if tensor.shape[:1] == (size,) else tensor.shape),
            tensor.is_floating_point(),
            is_inner(path),
        )
        for path, tensor in tensors.items()
    ]
    choice = Choice(find_entry(outputs, wanted, network), "") if wanted else choose(outputs, classes, features)
    path = choice.output.path
    first = tensors[path] is first_tensor(value)
    notes = (note_of(choice, outputs, bool(wanted)),) if len(outputs) > 1 else ()
    return Reading("" if first else path, ends[path], record.draws, notes)


def answers_differ(module: nn.Module, shape: Sequence[int], draws: bool) -> tuple[bool, str]:
    """Whether the same images give other outputs at another call, and a note of how it was seen."""
    from fovea.models.user_code import seeded

    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(3)).to(_like(module))

    def answer(seed: int) -> Tensor | None:
        try:
            with torch.no_grad(), seeded(seed):
                value = first_tensor(module(x))
                return None if value is None else value.clone()
        except Exception:
            return None

    first = answer(0)
    if first is None:
        return False, ""
    for seed in range(1, 2 + MORE_TRIES * draws):
        if not _alike(first, answer(seed)):
            if _alike(first, answer(0)):
                return True, VARIES_NOTE
            return True, f"{VARIES_NOTE} Even a seed does not settle it: it keeps a state from call to call."
    return (False, "") if _alike(first, answer(0)) else (True, f"{VARIES_NOTE} It keeps a state from call to call.")


VARIES_NOTE = (
    "It answers differently each time that it sees the same image, because it draws random numbers even in evaluation "
    "mode (a dropout or noise that is always on, for example) or keeps a state. Each call of a run draws those of the "
    "run's seed, so that the same seed gives the same result and another seed another one; it is computed in PyTorch."
)


def _alike(a: Tensor, b: Tensor | None) -> bool:
    if b is None or a.shape != b.shape:
        return False
    finite = a[torch.isfinite(a)].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    return bool(torch.allclose(a, b, rtol=0, atol=max(ALIKE * largest, 1e-30), equal_nan=True))


def gradients_of(module: nn.Module, shape: Sequence[int]) -> tuple[bool, dict[str, bool]]:
    """Whether a gradient goes from the output to the image, and for each tap whether one goes from there."""
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(4)).to(_like(module)).requires_grad_(True)
    try:
        with torch.enable_grad():
            taps = all_taps(module, x)
    except Exception:
        return False, {}
    reached = {tap: value.requires_grad for tap, value in taps.items()}
    return next(reversed(reached.values())), reached


def stances(module: nn.Module, images: Tensor) -> Stance:
    """The outputs for some images, each by itself, as far as they are finite."""
    rows: list[Tensor] = []
    with torch.no_grad():
        for image in images.to(_like(module)):
            output = first_tensor(module(image[None]))
            if output is not None and bool(torch.isfinite(output).all()):
                rows.append(output.float().flatten())
    return Stance.of([row.cpu().double().numpy() for row in rows])


def meaning_of(
    module: nn.Module, reading: Reading, declared: OutputKind | None, units: int, images: Tensor
) -> tuple[OutputKind, str]:
    """What the scores of a network mean, as declared or as seen, and the note that tells it."""
    try:
        stance = stances(module, images)
    except Exception:
        stance = Stance.of([])
    return told_kind(Seen(reading.end, stance, units), declared)


@dataclass(frozen=True)
class Tried:
    """What a network turned out to be, for its card. `no_gradients`: why it has none, "" where it has; `account`: what
    was tried and seen, for who registered it; `notes`: what everybody should know."""

    layers: tuple[Layer, ...]
    output: OutputKind
    output_name: str
    classes: tuple[str, ...]
    batch: int | None
    larger_batches: bool
    squeezed: bool
    varies: bool
    no_gradients: str
    account: tuple[str, ...]
    notes: tuple[str, ...]


def try_out(
    module: nn.Module,
    name: str,
    preprocessing: Preprocessing,
    declared: OutputKind | None,
    output_name: str,
    classes: tuple[str, ...],
) -> Tried:
    """Try a prepared `module`: its outputs, one image and two, the same twice, its layers, gradients, what it means.

    Raises NetworkError where it does not run, or its scores do not fit what is declared of it.
    """
    shape = (preprocessing.channels, *preprocessing.size)
    features = declared == "features"
    reading = read_outputs(module, shape, output_name, len(classes), features, name)
    read_as(module, reading.name)
    trial = try_module(module, shape)
    varies, told_varies = answers_differ(module, shape, reading.draws)
    batch = trial.batch or (1 if varies else None)  # so that each photo meets the same noise, alone as among others
    read_as(module, reading.name, varies=varies)
    try:
        layers, output = trace(adapt(module, batch, trial.larger), shape)
    except Exception as error:
        text = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise NetworkError(f"{name} does not run on an input of shape {shape}: {text}") from error
    kind, told_meaning, squeezed = declared or "logits", "Output: features, as registered.", False
    if not features:
        squeezed = len(output) > 1 and max(output) == math.prod(output)  # (C, 1, 1), (1, C)
        units = max(output) if squeezed or len(output) == 1 else int(not output)
        if not units:
            raise NetworkError(
                f"{name} returns an output of shape {output}, not one score for each class: "
                "register it with output = 'features'"
            )
        images = (
            torch.from_numpy(trial_images(preprocessing)) if declared in (None, "binary") else torch.empty(0, *shape)
        )
        kind, told_meaning = meaning_of(module, reading, declared, units, images)
        squeezed = squeezed and not MEANINGS[kind].sides
        classes, told_classes = named_classes(name, kind, units, classes)
    else:
        classes, told_classes = (), ""
    gradients, reached = gradients_of(module, shape)
    layers = tuple(layer.model_copy(update={"reached": reached.get(layer.name, False)}) for layer in layers)
    ways = ["one image alone", "two at once", "the same twice", "with gradients" if gradients else "for gradients"]
    account = (
        *reading.notes,
        told_meaning,
        *filter(None, [told_classes]),
        f"Tried on noise: {', '.join(ways[:-1])} and {ways[-1]}.",
        *_unreached(layers, gradients),
    )
    return Tried(
        layers=layers,
        output=kind,
        output_name=reading.name,
        classes=classes,
        batch=batch,
        larger_batches=trial.larger,
        squeezed=squeezed,
        varies=varies,
        no_gradients="" if gradients else NO_GRADIENT,
        account=account,
        notes=(*trial.notes, *filter(None, [told_varies]), *([] if gradients else [NO_GRADIENT])),
    )


def _unreached(layers: Sequence[Layer], gradients: bool) -> list[str]:
    """What is told of layers that read only parameters."""
    names = [layer.name for layer in layers if not layer.reached and layer.axes != "none"]
    if not gradients or not names:
        return []
    some = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    return [f"No gradient goes from {len(names)} of its layers to the photo, so they are not offered for that: {some}."]
