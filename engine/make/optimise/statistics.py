"""What a texture is, in numbers that do not say where: feature statistics at one scale or several, as losses.

Gram matrices themselves are in `losses`. Here: neighbouring pixels, other scales, and the terms that hold a picture to
all of them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fovea.engine.errors import UnsupportedError
from fovea.engine.make.optimise.canvas import Normalise, resized
from fovea.engine.make.optimise.circular import pad_around
from fovea.engine.make.optimise.folded_network import FoldedNetwork
from fovea.engine.make.optimise.gram import gram_matrix
from fovea.engine.make.optimise.layers import ENLARGED, fine_layers
from fovea.engine.make.optimise.losses import CentredGramDistance, GramDistance, GramWasserstein, Term, View, total
from fovea.engine.make.optimise.picture_size import features_of
from fovea.engine.unit_maps import unit_maps

if TYPE_CHECKING:
    from fovea.engine.make.optimise.losses import Loss
    from fovea.engine.method import Job
    from fovea.models.card import Layer


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

    def moments(self, small: Tensor, circular: bool) -> tuple[Tensor, Tensor]:
        """Second moments (N, n, n) and means (N, n) along these axes of the squares of a picture (N, C, H, W), brought
        to the scale."""
        if circular:
            return self._around(small.mean(1, keepdim=True) if self.light else small)
        values = self.matrix.T @ (_squares(small, self.side, self.light) - self.mean)
        return values @ values.transpose(1, 2) / values.shape[2], values.mean(2)

    def _around(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the squares that go around the picture's edges: how it correlates with itself, shifted."""
        spectrum = torch.fft.rfft2(picture)
        shape = (picture.shape[-2], picture.shape[-1])
        crossed = spectrum.conj()[:, :, None] * spectrum[:, None]
        shifted = torch.fft.irfft2(crossed, s=shape) / (shape[0] * shape[1])
        pixel = torch.arange(self.side, device=picture.device)
        lag = pixel[None, :] - pixel[:, None]
        # Channels, rows and columns of one square, then of the other.
        lags = shifted[..., lag[:, None, :, None], lag[None, :, None, :]].permute(0, 1, 3, 4, 2, 5, 6)
        plain = lags.reshape(len(picture), len(self.mean), len(self.mean))
        means = picture.mean((2, 3)).repeat_interleave(self.side**2, 1)[:, :, None]
        off, about = self.mean @ means.transpose(1, 2), self.mean @ self.mean.T
        moved = plain - off - off.transpose(1, 2) + about
        return self.matrix.T @ moved @ self.matrix, (self.matrix.T @ (means - self.mean))[..., 0]


def _squares(picture: Tensor, side: int, light: bool) -> Tensor:
    return F.unfold(picture.mean(1, keepdim=True) if light else picture, side)


def _wrapped(picture: Tensor, reach: int) -> Tensor:
    """The picture with `reach` pixels of its opposite side (at most all of it) beyond each edge."""
    reach = min(reach, *picture.shape[-2:])
    return pad_around(picture, (reach, reach, reach, reach))


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
        small: dict[int, Tensor] = {}
        for target in self.targets:
            if min(view.picture.shape[-2:]) // target.scale <= target.side:
                continue
            if target.scale not in small:
                small[target.scale] = reduced(view.picture, target.scale, self.circular)
            moments, means = target.moments(small[target.scale], self.circular)
            off = (moments - torch.diag(target.wanted)).square().mean((1, 2))
            apart.append(off + means.square().mean(1))
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
            mean = torch.stack([share * each.mean(1, keepdim=True) for each, share in parts]).sum(0)
            products = [share * (each - mean) @ (each - mean).T / each.shape[1] for each, share in parts]
            values, vectors = torch.linalg.eigh(torch.stack(products).sum(0))
            values = values.clamp_min(0)
            matrix = vectors / (values + NOISE_FLOOR).sqrt()
            targets.append(_Whitening(scale, side, light, matrix, mean, values / (values + NOISE_FLOOR)))
    return PixelStatistics(tuple(targets), circular)


def reduced(picture: Tensor, factor: int, circular: bool = False) -> Tensor:
    """The picture (N, C, H, W) with its sides divided by `factor`, smoothed before it shrinks.

    `circular`: what is smoothed at an edge comes from the opposite side.
    """
    if factor == 1:
        return picture
    height, width = (max(1, side // factor) for side in picture.shape[-2:])
    if not circular or any(side % factor or side < 2 * factor for side in picture.shape[-2:]):
        return resized(picture, height, width)
    return resized(_wrapped(picture, 2 * factor), height + 4, width + 4)[..., 2:-2, 2:-2]


def enlarged(picture: Tensor, factor: int, circular: bool = False) -> Tensor:
    """The picture (N, C, H, W) with its sides times `factor`; `circular` as for `reduced`."""
    height, width = picture.shape[-2:]
    if not circular:
        return resized(picture, height * factor, width * factor)
    wide = resized(_wrapped(picture, 2), (height + 4) * factor, (width + 4) * factor)
    return wide[..., 2 * factor : -2 * factor, 2 * factor : -2 * factor]


@dataclass(frozen=True)
class AtScale:
    """Terms on the picture at another size, for which the network is run once more: `resize` brings it there.

    Statistics of a pyramid hold structures together that are larger than what a layer sees (Snelgrove 2017,
    "High-Resolution Multi-Scale Neural Texture Synthesis"). The value is the weighted sum of the terms.
    """

    resize: Callable[[Tensor], Tensor]
    terms: tuple[Term, ...]
    network: FoldedNetwork
    normalise: Normalise

    @property
    def taps(self) -> tuple[str, ...]:
        """None: it runs the network itself."""
        return ()

    def __call__(self, view: View) -> Tensor:
        """The weighted sum, (N,)."""
        picture = self.resize(view.picture)
        values = self.normalise(picture)
        other = View(picture, values, self.network(values))
        return torch.stack([term.weight * term.loss(other) for term in self.terms]).sum(0)


def taps_of(terms: Sequence[Term]) -> list[str]:
    """The layers that the terms read, each once."""
    return list(dict.fromkeys(tap for term in terms for tap in term.loss.taps))


Moments = dict[str, tuple[Tensor, Tensor]]
"""Layer to its plain Gram matrix (C, C), divided by positions, and its means (C,)."""


def moments(
    job: Job[Any],
    pictures: Sequence[Tensor],
    shares: Sequence[float],
    layers: Sequence[Layer],
    *,
    mirrored: bool = False,
) -> Moments:
    """Those of the pictures (1, C, H, W) together, as if each filled its share (of 1) of one picture.

    `mirrored`: layers see the pictures go on as in a mirror beyond their edges, for what is to have no edges.
    """
    together: Moments = {}
    for picture, share in zip(pictures, shares, strict=True):
        maps_of = _mirrored_maps(job, picture, layers) if mirrored else _maps(job, picture, layers)
        for layer in layers:
            maps = maps_of[layer.name]
            gram, mean = share * gram_matrix(maps)[0], share * maps.mean((0, 2, 3))
            before = together.get(layer.name)
            together[layer.name] = (gram, mean) if before is None else (before[0] + gram, before[1] + mean)
    return together


def _maps(job: Job[Any], picture: Tensor, layers: Sequence[Layer]) -> dict[str, Tensor]:
    features = features_of(job, picture, [layer.name for layer in layers])
    return {layer.name: unit_maps(features[layer.name], layer) for layer in layers}


def _mirrored_maps(job: Job[Any], picture: Tensor, layers: Sequence[Layer]) -> dict[str, Tensor]:
    """The layers' maps of the picture, without those of its mirror images around it.

    As they are where a layer's stride is not known, or the network takes no larger picture.
    """
    fields = [layer.receptive_field for layer in layers]
    strides = [0 if field is None or field.whole else max(field.stride) for field in fields]
    most = max(strides)
    if not all(strides) or any(most % stride for stride in strides):
        return _maps(job, picture, layers)
    known = [field for field in fields if field is not None]
    before = max(-offset for field in known for offset in field.offset)
    after = max(size + offset for field in known for size, offset in zip(field.size, field.offset, strict=True))
    margin = int(most * min(math.ceil(max(before, after, 1) / most), (min(picture.shape[-2:]) - 1) // most))
    try:
        maps = _maps(job, F.pad(picture, (margin,) * 4, mode="reflect"), layers)
    except UnsupportedError:
        return _maps(job, picture, layers)
    height, width = picture.shape[-2:]
    cut = {}
    for layer, stride in zip(layers, strides, strict=True):
        skip, rows, columns = (round(length / stride) for length in (margin, height, width))
        cut[layer.name] = maps[layer.name][..., skip : skip + max(1, rows), skip : skip + max(1, columns)]
    return cut


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
    job: Job[Any],
    pictures: Sequence[Tensor],
    layers: Sequence[Layer],
    statistics: str,
    *,
    shares: Sequence[float] = (1.0,),
    scales: int = 1,
    fine: bool = False,
    weight: float = 1.0,
    circular: bool = False,
    least: int = 1 << 30,
) -> list[Term]:
    """What holds a picture to the pictures' statistics at `scales` scales, each half the one before; of `weight`.

    A scale that leaves a photo, or the `least` side of what is made, fewer than `LEAST_SIDE` pixels is left out.
    `fine`: the `fine_layers` are matched on the enlarged picture as well. Raises UnsupportedError where the network
    does not take a picture of such a size.
    """
    short = min(least, *(min(picture.shape[-2:]) for picture in pictures))
    factors = [2**i for i in range(scales) if i == 0 or short // 2**i >= LEAST_SIDE]
    first = fine_layers(job.card, layers) if fine else []
    part = weight / (len(factors) + bool(first))

    def at(name: str, chosen: Sequence[Layer], resize: Callable[..., Tensor], factor: int) -> Term:
        wanted = moments(job, [resize(picture, factor) for picture in pictures], shares, chosen, mirrored=circular)
        inner = tuple(layer_terms(wanted, chosen, statistics, 1.0))
        network = FoldedNetwork(job.network.module(job.device), taps_of(inner))
        there = functools.partial(resize, factor=factor, circular=circular)
        return Term(name, AtScale(there, inner, network, Normalise(job.card.preprocessing, job.device)), part)

    terms = layer_terms(moments(job, pictures, shares, layers, mirrored=circular), layers, statistics, part)
    terms += [at(f"at 1/{factor}", layers, reduced, factor) for factor in factors[1:]]
    return [*terms, at(f"at {ENLARGED}/1", first, enlarged, ENLARGED)] if first else terms


def distance(job: Job[Any], terms: Sequence[Term], picture: Tensor) -> float:
    """The weighted sum of the terms on a picture (1, C, H, W), without gradient."""
    values = Normalise(job.card.preprocessing, job.device)(picture)
    with torch.no_grad():
        return float(total(terms, View(picture, values, features_of(job, picture, taps_of(terms))))[0])
