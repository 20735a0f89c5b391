"""What a texture is, in numbers that do not say where: feature statistics at one scale or several, as losses.

Gram matrices themselves are in `losses`. Here: neighbouring pixels, other scales, and the terms of a recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.features import unit_maps
from engine.make.canvas import Normalise, resized
from engine.make.losses import CentredGramDistance, GramDistance, GramWasserstein, Term, View, gram_matrix
from engine.make.sizes import features_of
from models.torch_net import forward_taps

if TYPE_CHECKING:
    from engine.make.losses import Loss
    from engine.method import Job
    from models.card import Layer


SQUARES = ((3, False), (7, True))
"""Squares of pixels that are looked at: their side, and whether of the light alone, whose grain the eye sees best."""
PIXEL_SCALES = (1, 2, 4, 8)


@dataclass(frozen=True)
class _Whitening:
    """Squares at one scale: less `mean` (n, 1), times `matrix` (n, n), they vary independently as `wanted` (n,)."""

    scale: int
    side: int
    light: bool
    matrix: Tensor
    mean: Tensor
    wanted: Tensor

    def squares(self, picture: Tensor, circular: bool) -> Tensor:
        """Every square of a picture (N, C, H, W), (N, n, places)."""
        small = reduced(picture, self.scale, circular)
        return _squares(_wrapped(small, self.side // 2) if circular else small, self.side, self.light)


def _squares(picture: Tensor, side: int, light: bool) -> Tensor:
    return F.unfold(picture.mean(1, keepdim=True) if light else picture, side)


def _wrapped(picture: Tensor, reach: int) -> Tensor:
    """The picture with `reach` pixels of its opposite side (at most all of it) beyond each edge."""
    reach = min(reach, *picture.shape[-2:])
    return F.pad(picture, (reach, reach, reach, reach), mode="circular")


@dataclass(frozen=True)
class PixelStatistics:
    """How neighbouring pixels vary together, at several scales: the photo's power spectrum and colours.

    Convolutions with stride are nearly blind to the finest detail and to slow changes of colour, which this holds to
    the photo's. Squares of pixels are brought to the axes along which the photo's vary independently, each divided by
    its own deviation there, so that quiet directions count as much as loud ones; the distance is the mean squared
    difference of covariances and of means. Portilla and Simoncelli (2000) hold textures to such statistics too.
    `targets` is what `pixel_statistics` gives for the photo. `circular`: the picture's edges meet.
    """

    targets: tuple[_Whitening, ...]
    circular: bool = False

    @property
    def taps(self) -> tuple[str, ...]:
        """None."""
        return ()

    def __call__(self, view: View) -> Tensor:
        """The mean over those that a picture of this size has room for, (N,)."""
        apart = [view.picture.new_zeros(len(view.picture))]
        for target in self.targets:
            if min(view.picture.shape[-2:]) // target.scale <= target.side:
                continue
            values = target.matrix.T @ (target.squares(view.picture, self.circular) - target.mean)
            covariance = values @ values.transpose(1, 2) / values.shape[2]
            off = (covariance - torch.diag(target.wanted)).square().mean((1, 2))
            apart.append(off + values.mean(2).square().mean(1))
        return torch.stack(apart).sum(0) / max(1, len(apart) - 1)


NOISE_FLOOR = 1e-4
"""Variance, of pixels in [0, 1], under which a direction counts as still: about two and a half grey levels."""


def pixel_statistics(
    pictures: Sequence[Tensor], shares: Sequence[float] = (1.0,), *, circular: bool = False
) -> PixelStatistics:
    """The statistics of pictures (1, C, H, W) together, by their shares (of 1), at the scales that leave them room."""
    short = min(min(picture.shape[-2:]) for picture in pictures)
    targets = []
    for scale in PIXEL_SCALES:
        for side, light in SQUARES:
            if short // scale <= side:
                continue
            squares = [_squares(reduced(picture, scale), side, light)[0] for picture in pictures]
            parts = list(zip(squares, shares, strict=True))
            mean = torch.stack([share * one.mean(1, keepdim=True) for one, share in parts]).sum(0)
            products = [share * (one - mean) @ (one - mean).T / one.shape[1] for one, share in parts]
            values, vectors = torch.linalg.eigh(torch.stack(products).sum(0))
            values = values.clamp_min(0)
            matrix = vectors / (values + NOISE_FLOOR).sqrt()
            targets.append(_Whitening(scale, side, light, matrix, mean, values / (values + NOISE_FLOOR)))
    return PixelStatistics(tuple(targets), circular)


def reduced(picture: Tensor, scale: int, circular: bool = False) -> Tensor:
    """The picture (N, C, H, W) with its sides divided by `scale`, smoothed before it shrinks.

    `circular`: what is smoothed at an edge comes from the opposite side.
    """
    if scale == 1:
        return picture
    height, width = (max(1, side // scale) for side in picture.shape[-2:])
    if not circular or any(side % scale or side < 2 * scale for side in picture.shape[-2:]):
        return resized(picture, height, width)
    return resized(_wrapped(picture, 2 * scale), height + 4, width + 4)[..., 2:-2, 2:-2]


@dataclass(frozen=True)
class AtScale:
    """Terms on the picture made `scale` times smaller, for which the network is run once more.

    Statistics of a pyramid hold structures together that are larger than what a layer sees (Snelgrove 2017,
    "High-Resolution Multi-Scale Neural Texture Synthesis"). The value is the weighted sum of the terms.
    """

    scale: int
    terms: tuple[Term, ...]
    module: nn.Module
    normalise: Normalise
    circular: bool = False

    @property
    def taps(self) -> tuple[str, ...]:
        """None: it runs the network itself."""
        return ()

    def __call__(self, view: View) -> Tensor:
        """The weighted sum, (N,)."""
        picture = reduced(view.picture, self.scale, self.circular)
        values = self.normalise(picture)
        small = View(picture, values, forward_taps(self.module, values, taps_of(self.terms)))
        return torch.stack([term.weight * term.loss(small) for term in self.terms]).sum(0)


def taps_of(terms: Sequence[Term]) -> list[str]:
    """The layers that the terms read, each once."""
    return list(dict.fromkeys(tap for term in terms for tap in term.loss.taps))


Moments = dict[str, tuple[Tensor, Tensor]]
"""Layer to its plain Gram matrix (C, C), divided by positions, and its means (C,)."""


def moments(job: Job, pictures: Sequence[Tensor], shares: Sequence[float], layers: Sequence[Layer]) -> Moments:
    """Those of the pictures (1, C, H, W) together, as if each filled its share (of 1) of one picture."""
    found: Moments = {}
    for picture, share in zip(pictures, shares, strict=True):
        features = features_of(job, picture, [layer.name for layer in layers])
        for layer in layers:
            maps = unit_maps(features[layer.name], layer)
            gram, mean = share * gram_matrix(maps)[0], share * maps.mean((0, 2, 3))
            before = found.get(layer.name)
            found[layer.name] = (gram, mean) if before is None else (before[0] + gram, before[1] + mean)
    return found


def layer_terms(wanted: Moments, layers: Sequence[Layer], statistics: str, weight: float) -> list[Term]:
    """A relative distance for each layer, together of `weight`.

    `statistics`: "gatys", plain Gram matrices; "centred", Gram matrices about the means; "wasserstein".
    """
    terms = []
    for layer in layers:
        gram, mean = wanted[layer.name]
        about = gram - torch.outer(mean, mean)
        if statistics == "gatys":
            loss: Loss = GramDistance(layer, gram, relative=True)
        elif statistics == "wasserstein":
            loss = GramWasserstein(layer, about, mean)
        else:
            loss = CentredGramDistance(layer, about, mean)
        terms.append(Term(layer.name, loss, weight / len(layers)))
    return terms


LEAST_SIDE = 32
"""Pixels under which a reduced picture has nothing more to say."""


def gram_terms(
    job: Job,
    pictures: Sequence[Tensor],
    layers: Sequence[Layer],
    statistics: str,
    *,
    shares: Sequence[float] = (1.0,),
    scales: int = 1,
    weight: float = 1.0,
    circular: bool = False,
    least: int = 1 << 30,
) -> list[Term]:
    """What holds a picture to the pictures' statistics at `scales` scales, each half the one before; of `weight`.

    A scale that leaves a photo, or the `least` side of what is made, fewer than `LEAST_SIDE` pixels is left out.
    Raises UnsupportedError where the network does not take a picture of such a size.
    """
    short = min(least, *(min(picture.shape[-2:]) for picture in pictures))
    factors = [2**i for i in range(scales) if i == 0 or short // 2**i >= LEAST_SIDE]
    terms: list[Term] = []
    for factor in factors:
        wanted = moments(job, [reduced(picture, factor) for picture in pictures], shares, layers)
        inner = layer_terms(wanted, layers, statistics, weight / len(factors))
        if factor == 1:
            terms += inner
            continue
        module, normalise = job.network.module(job.device), Normalise(job.card.preprocessing, job.device)
        whole = sum(term.weight for term in inner)
        scaled = tuple(Term(term.name, term.loss, term.weight / whole) for term in inner)
        terms.append(Term(f"at 1/{factor}", AtScale(factor, scaled, module, normalise, circular), whole))
    return terms
