"""Carlini and Wagner's attack: the shortest change that fools, found by an optimiser (2017, section VI.A).

The constants are those of their code. Departure: a search ends early where a tenth of its steps brought nothing, and
1000 steps a search are taken where the paper allows 10000.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from fovea.engine.make.attack.shared.attack import Attack, Batch, Told, silent
from fovea.engine.options import Options, option

if TYPE_CHECKING:
    from torch import Tensor


class CarliniWagnerOptions(Options):
    """What this attack alone is told."""

    searches: int = option(
        9,
        "How often the weight of fooling against shortness is adjusted by a binary search. The authors' code uses 9; "
        "fewer are faster and find longer changes.",
        ge=1,
        le=20,
        advanced=True,
    )
    constant: float = option(
        1e-3,
        "The weight of fooling against shortness in the first search. The authors' code uses 0.001; a larger one finds "
        "something sooner where there are few searches.",
        gt=0,
        le=1e6,
        advanced=True,
    )
    rate: float = option(
        0.01, "The learning rate of the optimiser, Adam. The authors' code uses 0.01.", gt=0, le=1, advanced=True
    )
    confidence: float = option(
        0.0,
        "By how much the logit of the new class must lead over that of the old one (kappa in the paper). The authors' "
        "code uses 0; raise it for changes that survive rounding or fool other networks.",
        ge=0,
        le=1000,
        advanced=True,
    )


def run(batch: Batch[CarliniWagnerOptions]) -> Tensor:
    """The nearest pictures (N, C, H, W) that fool; the clean one where none was met."""
    from fovea.engine.make.attack.shared.scores import scores_of

    options = batch.options
    return carlini_wagner(
        scores_of(batch.job, quick=True),
        batch.clean,
        batch.classes,
        targeted=batch.targeted,
        steps=batch.steps,
        searches=options.searches,
        rate=options.rate,
        constant=options.constant,
        confidence=options.confidence,
        told=batch.told,
    )


def carlini_wagner(
    scores: Callable[[Tensor], Tensor],
    clean: Tensor,
    classes: Tensor,
    *,
    targeted: bool = False,
    steps: int = 1000,
    searches: int = 9,
    rate: float = 0.01,
    constant: float = 1e-3,
    confidence: float = 0.0,
    told: Told = silent,
) -> Tensor:
    """The nearest pictures in L2 that leave their class, or `targeted` reach it; the clean one where none was met.

    Adam on w with picture = (tanh(w) + 1) / 2 lowers ‖change‖² + c · max(0, margin + confidence); a binary search for
    each picture finds the smallest c that works (Carlini and Wagner 2017, section VI.A, with the constants of their
    code). A search ends early where a tenth of its steps brought nothing.
    """
    import torch

    start = torch.atanh((2 * clean - 1) * 0.999999)
    reference = (torch.tanh(start) + 1) / 2
    constants = torch.full((len(clean),), constant, dtype=clean.dtype, device=clean.device)
    low, high = torch.zeros_like(constants), torch.full_like(constants, math.inf)
    best, nearest = clean.clone(), torch.full_like(constants, math.inf)
    for search in range(searches):
        moved = torch.zeros_like(clean, requires_grad=True)
        adam = torch.optim.Adam([moved], lr=rate)
        worked = torch.zeros(len(clean), dtype=torch.bool, device=clean.device)
        before = math.inf
        for step in range(steps):
            with torch.enable_grad():
                pictures = (torch.tanh(start + moved) + 1) / 2
                logits = scores(pictures)
                margin = _margin(logits, classes, targeted) + confidence
                lengths = (pictures - reference).flatten(1).square().sum(1)
                loss = (constants * margin.clamp_min(0) + lengths).sum()
                (moved.grad,) = torch.autograd.grad(loss, moved)
            adam.step()
            fools = margin.detach() < 0 if confidence == 0 else margin.detach() <= 0
            away = (pictures.detach() - clean).flatten(1).norm(dim=1)
            closer = fools & (away < nearest)
            best[closer], nearest[closer] = pictures.detach()[closer], away[closer]
            worked |= fools
            done = (search + (step + 1) / steps) / searches
            message = f"search {search + 1} of {searches}, step {step + 1} of at most {steps}"
            told(done, message, pictures.detach(), logits.detach().softmax(1))
            if step % math.ceil(steps / 10) == 0:
                if not float(loss.detach()) <= 0.9999 * before:
                    break
                before = float(loss.detach())
        high, low = torch.where(worked, constants, high), torch.where(worked, low, constants)
        constants = torch.where(high.isinf(), constants * 10, (low + high) / 2)
    return best


def _margin(scores: Tensor, classes: Tensor, targeted: bool) -> Tensor:
    """How far each picture is from success, (N,), negative beyond the border."""
    own = scores.gather(1, classes[:, None])[:, 0]
    other = scores.scatter(1, classes[:, None], -math.inf).amax(1)
    return other - own if targeted else own - other


ATTACK = Attack(
    name="carlini_wagner",
    title="Carlini-Wagner",
    summary="looks for the shortest change with an optimiser",
    paper="Carlini and Wagner 2017",
    year=2017,
    norm=2.0,
    run=run,
    options=CarliniWagnerOptions,
    steps=1000,
    work=lambda steps, options: 3.0 * options.searches * min(steps, 500),
)
