"""Attacks by gradient, in batches of pictures (N, C, H, W) of pixel values from 0 to 1.

Those with a ball are the one loop under a projection. DeepFool (Moosavi-Dezfooli et al. 2016, algorithm 2) and
Carlini-Wagner (2017, section VI.A) look for the shortest change and have loops of their own, which keep for every
picture the best it met.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fovea.engine.make.attack.choices import Attack
from fovea.engine.make.attack.lanes import LanesNetwork
from fovea.engine.make.optimise.canvas import Normalise, PixelCanvas
from fovea.engine.make.optimise.growth import Growth
from fovea.engine.make.optimise.loop import LoopSettings, Made, optimise
from fovea.engine.make.optimise.losses import Term, View, ascend
from fovea.engine.make.optimise.optimisers import Optimiser, gradient_steps
from fovea.engine.make.optimise.projection import Ball
from fovea.engine.progress import Progress
from fovea.models.card import OUTPUT
from fovea.models.torch_net import forward_taps

if TYPE_CHECKING:
    from fovea.engine.method import Job

Scores = Callable[[Tensor], Tensor]
"""Pictures (N, C, H, W) to class scores (N, classes), differentiable: logits, or logarithms of probabilities."""

Told = Callable[[float, Tensor, Tensor], None]
"""Called after each step with the fraction that is done, the pictures and their scores; raises Cancelled."""


def _silent(fraction: float, pictures: Tensor, scores: Tensor) -> None:
    return


def scores_of(job: Job, *, quick: bool = False) -> Scores:
    """The job's network as a function of pixel values, its normalisation inside.

    `quick`: as it is run over and over, equal but for rounding (see engine/make/attack/lanes.py).
    """
    network = LanesNetwork(job.network) if quick else job.network
    module = network.module(job.device)
    normalise = Normalise(job.card.preprocessing, job.device)
    read = _logarithms if job.card.output == "probabilities" else _as_they_are

    def scores(pictures: Tensor) -> Tensor:
        return read(forward_taps(module, normalise(pictures), [OUTPUT])[OUTPUT])

    return scores


def _logarithms(output: Tensor) -> Tensor:
    return output.clamp_min(1e-12).log()


def _as_they_are(output: Tensor) -> Tensor:
    return output


# --- in a ball -------------------------------------------------------------------------------------------------


class CrossEntropy:
    """The cross-entropy of each picture with a class of its own, (N,); `latest` are its last class probabilities."""

    taps = (OUTPUT,)

    def __init__(self, classes: Tensor, probabilities: bool = False) -> None:
        self.classes, self.probabilities = classes, probabilities
        self.latest: Tensor | None = None

    def __call__(self, view: View) -> Tensor:
        """One number per picture."""
        output = view.features[OUTPUT]
        logarithms = _logarithms(output) if self.probabilities else F.log_softmax(output, 1)
        self.latest = logarithms.detach().exp()
        return -logarithms.gather(1, self.classes[:, None])[:, 0]


class MomentumSteps(torch.optim.Optimizer):
    """Steps of a fixed size along the sign of gathered gradients (MI-FGSM, Dong et al. 2018, eq. 6 and 7).

    The gradient of each picture is divided by its sum of |·| and added to `momentum` times what was gathered.
    """

    def __init__(self, parameters: list[Tensor], lr: float, momentum: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    def step(self, closure: Any = None) -> Any:
        """One step."""
        loss = None if closure is None else closure()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    gradient = parameter.grad
                    size = gradient.flatten(1).abs().sum(1).clamp_min(1e-30).view(-1, 1, 1, 1)
                    gathered = self.state[parameter].get("gathered", torch.zeros_like(parameter))
                    gathered = group["momentum"] * gathered + gradient / size
                    self.state[parameter]["gathered"] = gathered
                    parameter -= group["lr"] * gathered.sign()
        return loss


def random_start(clean: Tensor, epsilon: float, norm: float, seeds: Sequence[int]) -> Tensor:
    """Pictures uniformly drawn from the ball about each clean one, then put into [0, 1] (Madry et al. 2018).

    Each picture has a seed of its own, so that its start does not depend on which others share its batch.
    """
    starts = []
    for picture, seed in zip(clean, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        if norm == math.inf:
            noise = (2 * torch.rand(picture.shape, generator=generator) - 1) * epsilon
        else:
            noise = torch.randn(picture.shape, generator=generator)
            part = float(torch.rand(1, generator=generator)) ** (1 / picture.numel())
            noise *= epsilon * part / noise.norm()
        starts.append((picture + noise.to(picture)).clamp(0, 1))
    return torch.stack(starts)


def _steps_of(attack: Attack, size: float) -> Optimiser:
    if attack.momentum:
        return lambda parameters: MomentumSteps(parameters, size, attack.momentum)
    return gradient_steps(size, "sign" if attack.norm == math.inf else "l2")


def ball_attack(
    job: Job,
    clean: Tensor,
    classes: Tensor,
    attack: Attack,
    epsilon: float,
    *,
    targeted: bool = False,
    steps: int | None = None,
    step_size: float | None = None,
    seeds: Sequence[int] | None = None,
    portion: tuple[float, float] = (0.0, 1.0),
    told: Callable[[Tensor], Mapping[str, float]] | None = None,
) -> Made:
    """Drive each clean picture away from its class (N,), or `targeted` towards it, within `epsilon` in the norm.

    The one loop: the cross-entropy rises or falls, under the projection on the ball and on [0, 1]. `seeds` of the
    random start, one a picture (default: the job's). `told` gets the class probabilities (N, classes) that each step
    was taken from, and may add to the curve.
    """
    steps = steps or attack.steps
    # A single step is the network's own gradient to the bit.
    network = LanesNetwork(job.network) if steps > 1 else job.network
    loss = CrossEntropy(classes, job.card.output == "probabilities")
    term = Term("cross-entropy", loss) if targeted else ascend("cross-entropy", loss)
    start = clean
    if attack.random_start:
        start = random_start(clean, epsilon, attack.norm, seeds or [job.seed] * len(clean))

    def progress(fraction: float, message: str, preview: Any = None, curve: Any = None) -> None:
        more = told(loss.latest) if told is not None and loss.latest is not None else {}
        job.progress(fraction, message, preview, {**(curve or {}), **more})

    return optimise(
        dataclasses.replace(job, network=network),
        PixelCanvas(start),
        [term],
        steps=steps,
        optimiser=_steps_of(attack, step_size or attack.step * epsilon),
        projection=Ball(clean, epsilon, attack.norm),
        callback=Growth(Progress(progress, *portion)),
        settings=LoopSettings(wake=False),
    )


# --- the shortest change ---------------------------------------------------------------------------------------


def nearest_border(differences: Tensor, directions: Tensor) -> Tensor:
    """The shortest steps (N, C, H, W) to the nearest border of networks that were linear.

    `differences` (N, k) of the scores of k other classes and the label's, `directions` (N, k, C, H, W) their
    gradients. Moosavi-Dezfooli et al. 2016, eq. 8 and 9; their code adds 1e-4 to the distance, so that it is crossed.
    """
    lengths = directions.flatten(2).norm(dim=2).clamp_min(1e-12)
    distances = differences.abs() / lengths
    rows = torch.arange(len(distances), device=distances.device)
    nearest = distances.argmin(1)
    size = (distances[rows, nearest] + 1e-4) / lengths[rows, nearest]
    moves: Tensor = size.view(-1, 1, 1, 1) * directions[rows, nearest]
    return moves


def deepfool(
    scores: Scores,
    clean: Tensor,
    labels: Tensor,
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    tried: int = 10,
    told: Told = _silent,
) -> Tensor:
    """The pictures (N, C, H, W) that DeepFool ends at, among the `tried` best classes of each clean one.

    A picture that is no longer its label rests, and costs nothing more. One gradient a border, from one forward.
    """
    pictures, change = clean.clone(), torch.zeros_like(clean)
    others: Tensor | None = None
    active = torch.arange(len(clean), device=clean.device)
    rows_of_all = torch.empty(0)
    for step in range(steps):
        x = pictures[active].requires_grad_(True)
        with torch.enable_grad():
            found = scores(x)
            if others is None:
                others = _best_others(found.detach(), labels, tried)
                rows_of_all = found.detach().clone()
            rows_of_all[active] = found.detach()
            rows = torch.arange(len(active), device=clean.device)
            still = (found.detach().argmax(1) == labels[active]).nonzero()[:, 0]
            told((step + 1) / steps, pictures, rows_of_all)
            if not len(still):
                break
            borders = found[rows[:, None], others[active]] - found[rows, labels[active]][:, None]
            directions = [
                torch.autograd.grad(borders[:, k].sum(), x, retain_graph=k + 1 < borders.shape[1])[0]
                for k in range(borders.shape[1])
            ]
        moves = nearest_border(borders.detach()[still], torch.stack(directions, 1)[still])
        active = active[still]
        change[active] += moves
        pictures[active] = (clean[active] + (1 + overshoot) * change[active]).clamp(0, 1)
    return pictures


def _best_others(scores: Tensor, labels: Tensor, tried: int) -> Tensor:
    """The best classes beside each label, (N, tried − 1)."""
    without = scores.scatter(1, labels[:, None], -math.inf)
    order: Tensor = without.argsort(stable=True, dim=1, descending=True)
    return order[:, : max(1, min(tried, scores.shape[1]) - 1)]


def carlini_wagner(
    scores: Scores,
    clean: Tensor,
    classes: Tensor,
    *,
    targeted: bool = False,
    steps: int = 1000,
    searches: int = 9,
    rate: float = 0.01,
    constant: float = 1e-3,
    confidence: float = 0.0,
    told: Told = _silent,
) -> Tensor:
    """The nearest pictures in L2 that leave their class, or `targeted` reach it; the clean one where none was met.

    Adam on w with picture = (tanh(w) + 1) / 2 lowers ‖change‖² + c · max(0, margin + confidence); a binary search for
    each picture finds the smallest c that works (Carlini and Wagner 2017, section VI.A, with the constants of their
    code). A search ends early where a tenth of its steps brought nothing.
    """
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
                found = scores(pictures)
                margin = _margin(found, classes, targeted) + confidence
                lengths = (pictures - reference).flatten(1).square().sum(1)
                loss = (constants * margin.clamp_min(0) + lengths).sum()
                (moved.grad,) = torch.autograd.grad(loss, moved)
            adam.step()
            fools = margin.detach() < 0 if confidence == 0 else margin.detach() <= 0
            away = (pictures.detach() - clean).flatten(1).norm(dim=1)
            closer = fools & (away < nearest)
            best[closer], nearest[closer] = pictures.detach()[closer], away[closer]
            worked |= fools
            told((search + (step + 1) / steps) / searches, pictures.detach(), found.detach())
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
