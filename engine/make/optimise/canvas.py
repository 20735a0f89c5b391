"""What is painted on: tensors that an optimiser moves, and the picture that they stand for.

A picture here is float (N, C, H, W), RGB order, 0 black and 1 white; a free canvas may leave that range.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fovea.engine.panels.sheet import Sheet

if TYPE_CHECKING:
    from fovea.models.card import Preprocessing


class Canvas(Protocol):
    """`parameters` are what the optimiser moves; `picture()` (N, C, H, W) is differentiable in them."""

    parameters: list[Tensor]

    def picture(self) -> Tensor:
        """The picture that the parameters stand for."""


class PixelCanvas:
    """The pixels themselves, starting at `start` (N, C, H, W)."""

    def __init__(self, start: Tensor) -> None:
        self.pixels = start.detach().clone().requires_grad_(True)
        self.parameters = [self.pixels]

    def picture(self) -> Tensor:
        """The pixels, as they are."""
        return self.pixels


# Square root of the covariance of ImageNet's colours, and its largest column norm: Lucid, "Feature Visualization"
# (Olah et al. 2017, appendix on preconditioning).
_COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


def colour_matrix() -> Tensor:
    """Decorrelated colours to RGB, (3, 3), scaled so that its largest column has length 1."""
    matrix = torch.tensor(_COLOURS)
    length: Tensor = torch.linalg.vector_norm(matrix, dim=0).max()
    return matrix / length


def frequency_scale(height: int, width: int, decay: float) -> Tensor:
    """What each coefficient of `rfft2` is multiplied with: 1 / frequency^decay, (H, W // 2 + 1)."""
    rows = torch.fft.fftfreq(height)[:, None]
    columns = torch.fft.rfftfreq(width)[None, :]
    frequency = torch.sqrt(rows**2 + columns**2).clamp_min(1.0 / max(height, width))
    scale: Tensor = torch.pow(frequency, -decay) * float(height * width) ** 0.5
    return scale


class FourierCanvas:
    """Fourier coefficients scaled by 1/frequency, with decorrelated colours and a sigmoid (Olah et al. 2017).

    A step on a coefficient moves the whole picture, so colours and large shapes form as fast as fine detail.
    `shape` is the picture's (N, C, H, W); the start is normal noise of `deviation` (Lucid: 0.01), or `start`, a
    picture of that shape. Colours are decorrelated for three channels only. A `free` canvas has the sigmoid's tangent
    at grey instead of the sigmoid, so that values may leave black to white.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        *,
        generator: torch.Generator,
        deviation: float = 0.01,
        decay: float = 1.0,
        start: Tensor | None = None,
        free: bool = False,
        device: str = "cpu",
    ) -> None:
        self.free = free
        count, channels, self.height, self.width = shape
        # Lucid divides by 4, so that a step of its learning rate 0.05 has the right size.
        scale = (frequency_scale(self.height, self.width, decay) / 4).to(device)
        self.scale = scale[..., None].repeat(1, 1, 2)  # of both parts of a coefficient, as they lie in memory
        self.colours = _colours(channels, device)
        noise = torch.randn((count, channels, *self.scale.shape), generator=generator).to(device) * deviation
        if start is not None:
            noise = self._coefficients(start.to(device))
        self.spectrum = noise.requires_grad_(True)
        self.parameters = [self.spectrum]

    def _coefficients(self, picture: Tensor) -> Tensor:
        """The parameters whose picture this is, up to values nearer to black or white than 1/256."""
        plain = _decoloured(picture, self.colours, self.free)
        return (torch.view_as_real(torch.fft.rfft2(plain)) / self.scale).contiguous()

    def picture(self) -> Tensor:
        """Values in (0, 1), or about 0.5 where the canvas is free."""
        spectrum = torch.view_as_complex(self.spectrum * self.scale)
        plain = torch.fft.irfft2(spectrum, s=(self.height, self.width))
        return _coloured(plain, self.colours, self.free)


class PyramidCanvas:
    """Sums of pictures of sizes that halve from level to level, with decorrelated colours and a sigmoid.

    Lucid's Laplacian pyramid (param/images.py, four levels): a step on a small picture moves whole areas of the large
    one. `shape`, `deviation`, `start`, `free` as for `FourierCanvas`; a start lies on the largest level.
    """

    LEVELS = 4

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        *,
        generator: torch.Generator,
        deviation: float = 0.01,
        start: Tensor | None = None,
        free: bool = False,
        device: str = "cpu",
    ) -> None:
        self.free = free
        count, channels, height, width = shape
        self.colours = _colours(channels, device)
        sizes = [(max(1, height >> level), max(1, width >> level)) for level in range(self.LEVELS)]
        levels = [torch.randn((count, channels, *size), generator=generator) * deviation for size in sizes]
        if start is not None:
            levels = [_decoloured(start, self.colours, free), *(torch.zeros_like(level) for level in levels[1:])]
        self.parameters = [level.to(device).contiguous().requires_grad_(True) for level in levels]

    def picture(self) -> Tensor:
        """Values in (0, 1), or about 0.5 where the canvas is free."""
        largest, *smaller = self.parameters
        height, width = largest.shape[-2:]
        plain = largest + torch.stack([resized(level, height, width) for level in smaller]).sum(0)
        return _coloured(plain, self.colours, self.free)


def _colours(channels: int, device: str) -> Tensor:
    return (colour_matrix() if channels == 3 else torch.eye(channels)).to(device)


def _coloured(plain: Tensor, colours: Tensor, free: bool) -> Tensor:
    """The picture of decorrelated logits (N, C, H, W)."""
    logits = torch.einsum("cd,ndyx->ncyx", colours, plain)
    return 0.5 + logits / 4 if free else torch.sigmoid(logits)


def _decoloured(picture: Tensor, colours: Tensor, free: bool) -> Tensor:
    """The decorrelated logits of a picture, up to values nearer to black or white than 1/256."""
    logits = 4 * (picture.float() - 0.5) if free else torch.logit(picture.float(), eps=1 / 256)
    return torch.einsum("dc,ncyx->ndyx", torch.linalg.inv(colours), logits.to(colours.device))


class Normalise:
    """A picture to the network's input, differentiable: order, range, mean and std of its preprocessing."""

    def __init__(self, preprocessing: Preprocessing, device: str = "cpu") -> None:
        self.flip = preprocessing.order == "BGR"
        self.low, self.high = preprocessing.range
        self.mean = torch.tensor(preprocessing.mean, device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(preprocessing.std, device=device).view(1, -1, 1, 1)
        self.factor, self.shift = (self.high - self.low) / self.std, (self.low - self.mean) / self.std

    def __call__(self, picture: Tensor) -> Tensor:
        """(N, C, H, W) with 0 black and 1 white, to the normalised input of that shape."""
        if self.flip:
            picture = picture.flip(1)
        return torch.addcmul(self.shift, picture, self.factor)

    def inverse(self, x: Tensor) -> Tensor:
        """The picture whose normalised input this is."""
        picture = (x * self.std + self.mean - self.low) / (self.high - self.low)
        return picture.flip(1) if self.flip else picture


def to_picture(frame: NDArray[np.uint8], device: str = "cpu") -> Tensor:
    """uint8 (H, W, C) or (N, H, W, C) to a picture (N, C, H, W) in [0, 1]."""
    frames = frame if frame.ndim == 4 else frame[None]
    return torch.from_numpy(np.moveaxis(frames, -1, 1).astype(np.float32)).to(device) / 255


def to_pixels(picture: Tensor) -> NDArray[np.uint8]:
    """A picture (N, C, H, W) to uint8 (N, H, W, C), rounded and clipped."""
    values = (picture.detach().clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(values.permute(0, 2, 3, 1).cpu().numpy())


def to_image(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (H, W, C) as Pillow takes it: one channel loses its axis."""
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def to_preview(picture: Tensor) -> NDArray[np.uint8]:
    """The first picture as uint8 (H, W, 3), grey repeated."""
    pixels = to_pixels(picture[:1])[0]
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels[..., :3]


def contact_sheet(pictures: Tensor, longest: int = 768) -> NDArray[np.uint8]:
    """All pictures (N, C, H, W) as one, uint8 (H, W, 3), in rows; several are made small enough for `longest`."""
    if len(pictures) == 1:
        return to_preview(pictures)
    columns = math.ceil(math.sqrt(len(pictures)))
    height, width = pictures.shape[-2:]
    scale = min(1.0, longest / (columns * max(height, width)))
    small = resized(pictures, max(1, round(height * scale)), max(1, round(width * scale)))
    tiles = to_pixels(small[:, :3] if small.shape[1] >= 3 else small[:, :1].expand(-1, 3, -1, -1))
    return Sheet(tiles.shape[2], columns, height=tiles.shape[1]).compose(tiles)


def resized(picture: Tensor, height: int, width: int) -> Tensor:
    """The picture at another size: bilinear, smoothed before it shrinks."""
    if picture.is_cuda:
        rows, columns = (
            _resizing(before, after, picture.device)
            for before, after in zip(picture.shape[-2:], (height, width), strict=True)
        )
        return rows @ picture @ columns.T
    out: Any = F.interpolate(picture, (height, width), mode="bilinear", align_corners=False, antialias=True)
    return out  # type: ignore[no-any-return]


@functools.lru_cache(64)
def _resizing(before: int, after: int, device: torch.device) -> Tensor:
    """What takes an axis of a picture from one length to another, (after, before).

    As products of matrices both ways have sums in one order; the gradient of torch's own resizing on a GPU does not.
    """
    every = torch.eye(before)[None, None]
    made: Tensor = F.interpolate(every, (after, before), mode="bilinear", align_corners=False, antialias=True)
    return made[0, 0].to(device)
