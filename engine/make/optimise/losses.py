"""What is asked of a picture: each loss maps a View to one number per picture (N,), smaller is better.

A loss names the taps that it reads, so that the network is cut after the deepest of them. `ascend` is the one
place where a quantity to be raised gets its minus sign.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fovea.engine.make.optimise.gram import gram_matrix
from fovea.engine.unit_maps import unit_maps
from fovea.models.card import OUTPUT
from fovea.models.output import MEANINGS, OutputMeaning

if TYPE_CHECKING:
    from fovea.models.card import Layer


@dataclass(frozen=True)
class View:
    """What a loss can look at, all differentiable in the canvas.

    `picture` (N, C, H, W), 0 black and 1 white; `values`, the same normalised for the network but not transformed;
    `features`, tap to output for the transformed picture.
    """

    picture: Tensor
    values: Tensor
    features: Mapping[str, Tensor]

    def only(self, index: int) -> View:
        """The same of one picture of the batch."""
        part = slice(index, index + 1)
        features = {tap: values[part] for tap, values in self.features.items()}
        return View(self.picture[part], self.values[part], features)


class Loss(Protocol):
    """`taps` are the layers it reads (none for a loss on the picture itself)."""

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of layers, or `OUTPUT`."""

    def __call__(self, view: View) -> Tensor:
        """One number per picture, (N,)."""


@dataclass(frozen=True)
class Term:
    """A loss with its name in the curves and its weight in the sum that is minimised."""

    name: str
    loss: Loss
    weight: float = 1.0


def ascend(name: str, loss: Loss, weight: float = 1.0) -> Term:
    """A term whose quantity is raised: its weight is negative, and nothing else changes sign."""
    return Term(name, loss, -weight)


@dataclass(frozen=True)
class UnitActivation:
    """A unit's value at `position` (row, column), at the "centre" of its map, or its "mean" over the map.

    `unit` None takes the mean over all units.
    """

    layer: Layer
    unit: int | None
    position: tuple[int, int] | Literal["centre", "mean", "max"] = "centre"

    @property
    def taps(self) -> tuple[str, ...]:
        """The unit's layer."""
        return (self.layer.name,)

    def __call__(self, view: View) -> Tensor:
        """The activation, (N,)."""
        maps = unit_maps(view.features[self.layer.name], self.layer)
        fired = maps.mean(1) if self.unit is None else maps[:, self.unit]
        if self.position == "mean":
            return fired.mean((1, 2))
        if self.position == "max":
            return fired.amax((1, 2))
        row, column = (fired.shape[1] // 2, fired.shape[2] // 2) if self.position == "centre" else self.position
        return fired[:, row, column]


@dataclass(frozen=True)
class Direction:
    """The mean over positions of the features' product with `vector` (units,): a direction in a layer's space.

    Olah et al. 2017, "Interaction between neurons": units are the axes of that space, and no better than others.
    """

    layer: Layer
    vector: Tensor

    @property
    def taps(self) -> tuple[str, ...]:
        """The layer."""
        return (self.layer.name,)

    def __call__(self, view: View) -> Tensor:
        """The mean product, (N,)."""
        return unit_maps(view.features[self.layer.name], self.layer).mean((2, 3)) @ self.vector


@dataclass(frozen=True)
class Joint:
    """The sum of several losses: what must hold at once in one picture (Olah et al. 2017, joint optimisation)."""

    losses: tuple[Loss, ...]

    @property
    def taps(self) -> tuple[str, ...]:
        """All that the losses read."""
        return tuple(dict.fromkeys(tap for loss in self.losses for tap in loss.taps))

    def __call__(self, view: View) -> Tensor:
        """The sum, (N,)."""
        return torch.stack([loss(view) for loss in self.losses]).sum(0)


@dataclass(frozen=True)
class Apiece:
    """Another loss for each picture of the batch, `losses` in their order: many units in one pass."""

    losses: tuple[Loss, ...]

    @property
    def taps(self) -> tuple[str, ...]:
        """All that the losses read."""
        return Joint(self.losses).taps

    def __call__(self, view: View) -> Tensor:
        """Each picture's own loss, (N,)."""
        return torch.cat([loss(view.only(index)) for index, loss in enumerate(self.losses)])


@dataclass(frozen=True)
class Diversity:
    """The mean cosine similarity of each picture's Gram matrix with those of the others of its batch, (N,).

    Olah et al. 2017, "Diversity" (their footnote on the term): held down, it makes each picture show another side of
    one unit. 0 for a single picture.
    """

    layer: Layer

    @property
    def taps(self) -> tuple[str, ...]:
        """The layer."""
        return (self.layer.name,)

    def __call__(self, view: View) -> Tensor:
        """The mean similarity with the others, from -1 to 1, (N,)."""
        maps = unit_maps(view.features[self.layer.name], self.layer)
        grams = F.normalize(gram_matrix(maps).flatten(1), dim=1, eps=1e-12)
        others = grams.sum(0, keepdim=True) - grams
        return (grams * others).sum(1) / max(1, len(grams) - 1)


@dataclass(frozen=True)
class ClassScore:
    """A class's logit (Simonyan et al. 2013, section 2, prefer it to the probability), log probability, or margin.

    The margin is the logit less the best other class's.
    """

    target: int
    score: Literal["logit", "log_probability", "margin"] = "logit"
    meaning: OutputMeaning = MEANINGS["logits"]

    @property
    def taps(self) -> tuple[str, ...]:
        """The network's output."""
        return (OUTPUT,)

    def __call__(self, view: View) -> Tensor:
        """The score, (N,); where the network returns `probabilities`, their logarithm."""
        output = view.features[OUTPUT]
        if self.score == "log_probability" or not self.meaning.knows_logits:
            return self.meaning.torch_logarithms(output)[:, self.target]
        if self.score == "margin":
            others = torch.arange(output.shape[1], device=output.device) != self.target
            return output[:, self.target] - output[:, others].amax(1)
        return output[:, self.target]


@dataclass(frozen=True)
class LayerEnergy:
    """The mean square of all of a layer's values: what DeepDream raises (Mordvintsev et al. 2015)."""

    layer: Layer

    @property
    def taps(self) -> tuple[str, ...]:
        """The layer."""
        return (self.layer.name,)

    def __call__(self, view: View) -> Tensor:
        """The mean square, (N,)."""
        return view.features[self.layer.name].flatten(1).square().mean(1)


@dataclass(frozen=True)
class GuideSimilarity:
    """The mean product of each position's features with those of the guide that suit it best.

    `guide` (positions, units) are the guide photo's features (Mordvintsev et al. 2015, guided dreams).
    """

    layer: Layer
    guide: Tensor

    @property
    def taps(self) -> tuple[str, ...]:
        """The layer."""
        return (self.layer.name,)

    def __call__(self, view: View) -> Tensor:
        """The mean over the positions, (N,)."""
        positions = unit_maps(view.features[self.layer.name], self.layer).flatten(2).transpose(1, 2)
        best = (positions.detach() @ self.guide.T).argmax(2)
        return (positions * self.guide[best]).mean((1, 2))


@dataclass(frozen=True)
class FeatureDistance:
    """Σ (features − wanted)² / Σ wanted²: the relative error of Mahendran and Vedaldi 2015, eq. 1.

    `wanted` has the tap's shape without the batch, or with a batch of one.
    """

    tap: str
    wanted: Tensor

    @property
    def taps(self) -> tuple[str, ...]:
        """The tap."""
        return (self.tap,)

    def __call__(self, view: View) -> Tensor:
        """The squared relative error, (N,)."""
        difference = view.features[self.tap] - self.wanted
        return difference.square().flatten(1).sum(1) / self.wanted.square().sum().clamp_min(1e-12)


@dataclass(frozen=True)
class GramDistance:
    """Σ (G − wanted)² / (4 C²): Gatys et al. 2015 (texture), eq. 4, with Gram matrices divided by positions.

    `relative` divides by Σ wanted² / (4 C²) instead, so that every layer starts near 1.
    """

    layer: Layer
    wanted: Tensor
    relative: bool = False

    @property
    def taps(self) -> tuple[str, ...]:
        """The layer."""
        return (self.layer.name,)

    def __call__(self, view: View) -> Tensor:
        """The squared distance, (N,)."""
        gram = gram_matrix(unit_maps(view.features[self.layer.name], self.layer))
        distance = (gram - self.wanted).square().flatten(1).sum(1)
        if self.relative:
            return distance / self.wanted.square().sum().clamp_min(1e-12)
        return distance / (4 * gram.shape[1] ** 2)


@dataclass(frozen=True)
class CentredGramDistance:
    """‖G − wanted‖² / ‖wanted‖² + ‖mean − wanted mean‖² / trace(wanted), with Gram matrices about `mean`.

    `wanted` (C, C) and `mean` (C,) are the photo's own, as `centred_gram` gives them. A plain Gram matrix of a
    rectified layer is mostly the product of its means, which hides how features vary together; a shift by the means
    shows that (Novak and Nikulin 2016, section 3.2).
    """

    layer: Layer
    wanted: Tensor
    mean: Tensor

    @property
    def taps(self) -> tuple[str, ...]:
        """The layer."""
        return (self.layer.name,)

    def __call__(self, view: View) -> Tensor:
        """The sum of the two relative squared distances, (N,)."""
        maps = unit_maps(view.features[self.layer.name], self.layer)
        gram = gram_matrix(maps - self.mean.view(1, -1, 1, 1))
        means = maps.mean((2, 3))
        apart = (gram - self.wanted).square().flatten(1).sum(1) / self.wanted.square().sum().clamp_min(1e-12)
        trace = self.wanted.diagonal().sum().clamp_min(1e-12)
        return apart + (means - self.mean).square().sum(1) / trace


def centred_gram(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The Gram matrix (C, C) of maps (1, C, h, w) about their means, divided by h·w, and the means (C,)."""
    mean = maps.mean((0, 2, 3))
    return gram_matrix(maps - mean.view(1, -1, 1, 1))[0], mean


def root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric matrix (C, C) without negative eigenvalues, up to rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    out: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return out


@dataclass(frozen=True)
class GramWasserstein:
    """The squared Wasserstein distance of two normal distributions with the layers' means and covariances.

    ‖mean − wanted mean‖² + trace(G + wanted − 2 (wanted^½ G wanted^½)^½), G the features' Gram matrix about their own
    mean (Olkin and Pukelsheim 1982), divided by trace(wanted). `wanted` and `mean` are what `centred_gram` gives.
    """

    layer: Layer
    wanted: Tensor
    mean: Tensor

    @functools.cached_property
    def half(self) -> Tensor:
        """The root of the wanted covariance."""
        return root(self.wanted)

    @property
    def taps(self) -> tuple[str, ...]:
        """The layer."""
        return (self.layer.name,)

    def __call__(self, view: View) -> Tensor:
        """The relative squared distance, (N,)."""
        maps = unit_maps(view.features[self.layer.name], self.layer)
        means = maps.mean((2, 3))
        gram = gram_matrix(maps - means[:, :, None, None])
        half, trace = self.half, self.wanted.diagonal().sum()
        # A root has no derivative at 0, where a covariance of few positions has many of its eigenvalues.
        least = torch.finfo(maps.dtype).eps ** 0.5 * trace.clamp_min(1e-12) / len(half)
        crossed = torch.linalg.eigvalsh(half @ gram @ half).clamp_min(0)
        overlap = ((crossed + least**2).sqrt() - least).sum(1)
        apart = gram.diagonal(dim1=1, dim2=2).sum(1) + trace - 2 * overlap
        whole: Tensor = apart + (means - self.mean).square().sum(1)
        return whole / trace.clamp_min(1e-12)


@dataclass(frozen=True)
class TotalVariation:
    """The mean over pixels and channels of (Δx² + Δy²)^(beta/2) (Mahendran and Vedaldi 2015, eq. 4).

    Differences are of the picture's values, black 0 to white 1. `epsilon` keeps the root differentiable at 0.
    """

    beta: float = 2.0
    epsilon: float = 1e-8

    @property
    def taps(self) -> tuple[str, ...]:
        """None."""
        return ()

    def __call__(self, view: View) -> Tensor:
        """The variation, (N,)."""
        picture = view.picture
        down = picture[:, :, 1:, :-1] - picture[:, :, :-1, :-1]
        right = picture[:, :, :-1, 1:] - picture[:, :, :-1, :-1]
        squares = down.square() + right.square()
        if self.beta != 2.0:
            squares = (squares + self.epsilon) ** (self.beta / 2)
        return squares.flatten(1).mean(1)


@dataclass(frozen=True)
class Norm:
    """The mean of |value|^exponent of the normalised picture, whose 0 is the network's mean colour.

    Exponent 1 is the L1 term, 2 is Simonyan's L2 term (2013, eq. 1), 6 is Mahendran and Vedaldi's alpha-norm (2015,
    section 3).
    """

    exponent: float = 2.0

    @property
    def taps(self) -> tuple[str, ...]:
        """None."""
        return ()

    def __call__(self, view: View) -> Tensor:
        """The mean power, (N,)."""
        values = view.values.flatten(1)
        if self.exponent == 2.0:
            return values.square().mean(1)
        return values.abs().pow(self.exponent).mean(1)


def total(terms: Sequence[Term], view: View) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum over terms and pictures (a scalar), and each term's unweighted values (N,)."""
    each = {term.name: term.loss(view) for term in terms}
    weighted = [term.weight * each[term.name] for term in terms]
    return torch.stack([value.sum() for value in weighted]).sum(), each
