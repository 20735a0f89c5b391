"""A trial of a torch network on noise: how many images it takes at once, and whether its output is finite."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fovea.models.torch_net import first_tensor

ALIKE = 1e-3
"""Two outputs are alike up to this share of the largest value: torch adds in another order in another batch."""
LARGER_BATCHES = (4, 8, 16, 32, 64)
"""Batches that are tried where a network takes neither one image nor two."""

_ONE = "It takes one photo at a time, and several are run one after another"


@dataclass(frozen=True)
class Trial:
    """`batch`: the only number of images that the network may be given at once, None: any; `larger`: more will do, too.
    `notes`: what to tell."""

    batch: int | None
    notes: tuple[str, ...] = ()
    larger: bool = False


def try_module(module: nn.Module, input_shape: Sequence[int]) -> Trial:
    """Run a prepared `module` on an image of noise and on two; what torch gives for one alone is right."""
    noise = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
    noise[1] = 0.3 * noise[1] + 1.0  # as unlike the first as photos are: what is mixed within a batch then shows
    alone, pair = _output(module, noise[:1]), _output(module, noise)
    if alone is None and pair is None:
        trial = _larger(module, noise[:1])
    elif alone is None:
        told = "It does not run on one photo alone: it is given two, the same one twice."
        trial = Trial(2, (told,), _takes_more(module, noise, pair))
    elif pair is None or pair.shape[:1] != (2,):
        trial = Trial(1, (f"{_ONE}: its code is written for a batch of one.",))
    else:
        trial = _compared(module, noise, alone, pair)
    outputs = [value for value in (alone, pair) if value is not None]
    if outputs and not all(bool(torch.isfinite(value).all()) for value in outputs):
        trial = replace(trial, notes=(*trial.notes, _not_finite(module)))
    return trial


def _compared(module: nn.Module, noise: Tensor, alone: Tensor, pair: Tensor) -> Trial:
    """Both run: whether the first image gives in a batch what it gives alone."""
    same = alone.numel() == pair[0].numel()
    if same and not _alike(alone.flatten(), pair[0].flatten()):
        same = _is_random(module, noise[:1], alone) or _alike_in_float64(module, noise)
    if not same:
        return Trial(1, (f"{_ONE}: a photo among others gets another answer than alone.",))
    if alone.shape == (1, *pair.shape[1:]):
        return Trial(None)
    told = "It drops the batch axis where it is given one photo alone: it is given two, the same one twice."
    return Trial(2, (told,), _takes_more(module, noise, pair))


def _takes_more(module: nn.Module, noise: Tensor, pair: Tensor | None) -> bool:
    """Whether three images give for the first two what those give by themselves."""
    three = _output(module, torch.cat([noise, noise[:1]]))
    return three is not None and pair is not None and three.shape == (3, *pair.shape[1:]) and _alike(three[:2], pair)


def _larger(module: nn.Module, image: Tensor) -> Trial:
    """A batch size that is built in, of those that people use; none where the network does not run at all."""
    for size in LARGER_BATCHES:
        output = _output(module, image.expand(size, *image.shape[1:]))
        if output is not None and output.shape[:1] == (size,):
            return Trial(size, (f"It takes exactly {size} photos at once: fewer are filled up with the last one.",))
    return Trial(None)


def runs_on(module: nn.Module, input_shape: Sequence[int]) -> bool:
    """Whether a module in eval mode takes float32 images of that shape (C, H, W), one or two at once."""
    return any(_output(module, torch.zeros(size, *input_shape)) is not None for size in (1, 2))


def _output(module: nn.Module, x: Tensor) -> Tensor | None:
    """What the network returns, None where it does not run on a batch of this size."""
    try:
        with torch.no_grad():
            return first_tensor(module(x))
    except Exception:
        return None


def _alike(a: Tensor, b: Tensor) -> bool:
    finite = a[torch.isfinite(a)].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    return bool(torch.allclose(a, b, rtol=0, atol=max(ALIKE * largest, 1e-12), equal_nan=True))


def _is_random(module: nn.Module, x: Tensor, before: Tensor) -> bool:
    again = _output(module, x)
    return again is not None and again.shape == before.shape and not _alike(again, before)


def _alike_in_float64(module: nn.Module, noise: Tensor) -> bool:
    """Whether only rounding, which a deep network can blow up, told the first image of two from the same alone."""
    exact = copy.deepcopy(module).double()
    alone, pair = _output(exact, noise[:1].double()), _output(exact, noise.double())
    return alone is not None and pair is not None and _alike(alone.flatten(), pair[0].flatten())


def _not_finite(module: nn.Module) -> str:
    """The note for an output that is not finite; where it is the weights, it names the first of them."""
    wrong = [name for name, value in module.state_dict().items() if not bool(torch.isfinite(value).all())]
    if not wrong:
        return "Its output on noise is not finite: it overflows, or its code makes NaN."
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return (
        f"Its output is not finite: the weights hold NaN or infinity ({wrong[0]}{more}). "
        "Methods that read its output refuse it."
    )
