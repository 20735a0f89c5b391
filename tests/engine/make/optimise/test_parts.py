"""Canvases, transforms and projections, each against what it says it does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fovea.engine.make.optimise import projection
from fovea.engine.make.optimise.canvas import (
    FourierCanvas,
    Normalise,
    PixelCanvas,
    PyramidCanvas,
    _resizing,
    colour_matrix,
    resized,
    to_picture,
    to_pixels,
)
from fovea.engine.make.optimise.circular import pad_around, stretched_around
from fovea.engine.make.optimise.transforms import Jitter, Roll, ScaleAndRotate, _gathered, compose, lucid_transforms
from fovea.models.card import Preprocessing
from tests.oracles.make_formulas import fourier_picture


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_of(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=seeded())


def after_draws(generator: torch.Generator, count: int) -> torch.Generator:
    """The generator after so many draws of one number."""
    for _ in range(count):
        torch.randint(1, (1,), generator=generator)
    return generator


@pytest.mark.parametrize("shape", [(1, 3, 6, 8), (1, 3, 7, 5), (2, 1, 8, 6)])
def test_the_fourier_canvas_is_its_transform(shape: tuple[int, int, int, int]) -> None:
    canvas = FourierCanvas(shape, generator=seeded(), deviation=0.3, decay=1.0)
    colours = colour_matrix().numpy() if shape[1] == 3 else np.eye(shape[1])
    for index in range(shape[0]):
        spectrum = canvas.spectrum[index].detach().double().numpy()
        expected = fourier_picture(spectrum, shape[2], shape[3], 1.0, colours)
        np.testing.assert_allclose(canvas.picture()[index].detach().numpy(), expected, atol=1e-5)


def test_the_pyramid_canvas_is_its_written_sum() -> None:
    shape = (2, 3, 12, 17)
    canvas = PyramidCanvas(shape, generator=seeded(), deviation=0.5)
    assert [tuple(level.shape[-2:]) for level in canvas.parameters] == [(12, 17), (6, 8), (3, 4), (1, 2)]
    logits = sum(resized(level.detach(), 12, 17) for level in canvas.parameters)
    for n, y, x in ((0, 3, 5), (1, 11, 16)):
        colour = colour_matrix() @ logits[n, :, y, x]
        torch.testing.assert_close(canvas.picture()[n, :, y, x], colour.sigmoid())
    photo = torch.rand(shape, generator=seeded(1)).clamp(0.02, 0.98)
    for free in (False, True):
        torch.testing.assert_close(PyramidCanvas(shape, generator=seeded(), start=photo, free=free).picture(), photo)


def test_the_fourier_canvas_starts_at_a_photo() -> None:
    photo = torch.rand(1, 3, 16, 12, generator=seeded()) * 0.9 + 0.05
    canvas = FourierCanvas((1, 3, 16, 12), generator=seeded(), start=photo)
    torch.testing.assert_close(canvas.picture().detach(), photo, atol=1e-4, rtol=0)


def test_the_normaliser_is_the_cards() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    for facts in ({}, {"order": "BGR", "range": (0.0, 255.0), "mean": (103.9, 116.8, 123.7), "std": (1.0, 1.0, 1.0)}):
        preprocessing = Preprocessing(size=(5, 4), **facts)  # type: ignore[arg-type]
        normalise = Normalise(preprocessing)
        expected = torch.from_numpy(preprocessing.normalise(frame)[None])
        torch.testing.assert_close(normalise(to_picture(frame)), expected, atol=1e-4, rtol=1e-5)
        np.testing.assert_array_equal(to_pixels(normalise.inverse(expected))[0], frame)


def test_pixels_survive_the_way_there_and_back() -> None:
    frame = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(to_pixels(to_picture(frame))[0], frame)
    assert to_pixels(torch.tensor([[[[-0.5, 1.5]]]])).ravel().tolist() == [0, 255]


def test_jitter_shifts_and_mirrors_the_edge() -> None:
    picture = torch.arange(20.0).view(1, 1, 4, 5)
    for seed in range(8):
        shifted = Jitter(2)(picture, seeded(seed))
        y, x = (int(v) for v in torch.randint(0, 5, (2,), generator=seeded(seed)))
        rows = [abs(i) if i < 4 else 6 - i for i in range(y - 2, y + 2)]
        columns = [abs(i) if i < 5 else 8 - i for i in range(x - 2, x + 3)]
        torch.testing.assert_close(shifted, picture[:, :, rows][..., columns])
    assert torch.equal(Jitter(0)(picture, seeded()), picture)


def test_roll_loses_nothing() -> None:
    picture = torch.rand(2, 3, 8, 9, generator=seeded())
    rolled = Roll(5)(picture, seeded(3))
    assert not torch.equal(rolled, picture)
    torch.testing.assert_close(rolled.flatten(1).sort().values, picture.flatten(1).sort().values)


def test_a_quarter_turn_and_a_scale_are_what_they_say() -> None:
    picture = torch.rand(1, 2, 9, 9, generator=seeded())
    turned = ScaleAndRotate((1.0,), (90.0,))(picture, seeded())
    candidates = [torch.rot90(picture, k, (2, 3)) for k in (1, 3)]
    assert any(torch.allclose(turned, candidate, atol=1e-5) for candidate in candidates)
    same = ScaleAndRotate()(picture, seeded())
    torch.testing.assert_close(same, picture, atol=1e-5, rtol=0)
    yy, xx = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    disc = (((yy - 9.5) ** 2 + (xx - 14.5) ** 2) < 36).float()[None, None]
    larger = ScaleAndRotate((1.5,), (30.0,))(disc, seeded())
    assert float(larger.sum() / disc.sum()) == pytest.approx(1.5**2, rel=0.08)
    rows, columns = larger[0, 0].amax(1).sum(), larger[0, 0].amax(0).sum()
    assert abs(float(rows - columns)) < 1.5, "a disc stays round on a picture that is not square"


def test_one_resampling_shifts_turns_and_shifts_again() -> None:
    """As three transforms one after the other, away from the edges, where mirrors of mirrors differ."""
    picture = noise_of((1, 3, 40, 40))
    alone = ScaleAndRotate((0.9,), (10.0,), shift_after=4)(picture, seeded(2))
    drawn = torch.randint(-4, 5, (2,), generator=after_draws(seeded(2), 2))
    turned = ScaleAndRotate((0.9,), (10.0,))(picture, seeded(2))
    expected = torch.roll(turned, (-int(drawn[0]), -int(drawn[1])), (2, 3))
    torch.testing.assert_close(alone[..., 8:-8, 8:-8], expected[..., 8:-8, 8:-8], atol=1e-4, rtol=0)
    moved = ScaleAndRotate(shift=3)(picture, seeded(2))
    y, x = (int(v) for v in torch.randint(-3, 4, (2,), generator=seeded(2)))
    expected = torch.roll(picture, (-y, -x), (2, 3))
    torch.testing.assert_close(moved[..., 8:-8, 8:-8], expected[..., 8:-8, 8:-8], atol=1e-4, rtol=0)


def test_halves_make_the_whole_and_its_gradient() -> None:
    pictures = torch.rand(2, 3, 12, 9, generator=seeded()).requires_grad_(True)
    turn = ScaleAndRotate((1.1,), (20.0,))
    both, alone = turn(pictures, seeded()), turn(pictures[:1], seeded())
    torch.testing.assert_close(alone, both[:1])
    (of_both,) = torch.autograd.grad(both[:1].square().sum(), pictures)
    (of_one,) = torch.autograd.grad(alone.square().sum(), pictures)
    torch.testing.assert_close(of_one, of_both)


def test_transforms_keep_the_size_and_follow_the_seed() -> None:
    picture = torch.rand(2, 3, 24, 30, generator=seeded())
    apply = compose(lucid_transforms())
    one, two, other = apply(picture, seeded(1)), apply(picture, seeded(1)), apply(picture, seeded(2))
    assert one.shape == picture.shape
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_projections_stay_inside() -> None:
    centre = torch.rand(2, 3, 6, 6, generator=seeded())
    for norm, radius in ((math.inf, 8 / 255), (2.0, 0.7)):
        canvas = PixelCanvas(centre + torch.randn(2, 3, 6, 6, generator=seeded(1)))
        projection.Ball(centre, radius, norm)(canvas, 0)
        lengths = torch.linalg.vector_norm((canvas.pixels - centre).flatten(1), norm, dim=1)
        assert (lengths <= radius * (1 + 1e-5)).all()
        assert canvas.pixels.min() >= 0
        assert canvas.pixels.max() <= 1
        before = canvas.pixels.detach().clone()
        projection.Ball(centre, radius, norm)(canvas, 1)
        torch.testing.assert_close(canvas.pixels.detach(), before, atol=1e-6, rtol=0)
    canvas = PixelCanvas(torch.tensor([[[[-1.0, 0.4, 2.0]]]]))
    projection.box(canvas, 0)
    assert canvas.pixels.flatten().tolist() == pytest.approx([0, 0.4, 1])


def test_blur_is_a_gaussian_and_comes_when_it_is_time() -> None:
    scipy = pytest.importorskip("scipy.ndimage")
    picture = torch.rand(1, 2, 14, 11, generator=seeded(), dtype=torch.float64)
    expected = np.stack([scipy.gaussian_filter(c, 1.3, mode="nearest", radius=4) for c in picture[0].numpy()])
    np.testing.assert_allclose(projection.gaussian_blur(picture, 1.3)[0].numpy(), expected, atol=1e-9)
    canvas = PixelCanvas(picture.float())
    blur = projection.Blur(1.3, every=4)
    for step in range(3):
        blur(canvas, step)
    torch.testing.assert_close(canvas.pixels.detach(), picture.float())
    blur(canvas, 3)
    np.testing.assert_allclose(canvas.pixels[0].detach().numpy(), expected, atol=1e-5)


def test_decay_and_clipping_go_towards_the_mean() -> None:
    mean, start = torch.full((1, 3, 1, 1), 0.4), torch.rand(2, 3, 5, 6, generator=seeded())
    canvas = PixelCanvas(start)
    projection.Decay(mean, 0.3)(canvas, 0)
    torch.testing.assert_close(canvas.pixels.detach(), mean + 0.7 * (start - mean))

    canvas = PixelCanvas(start)
    projection.Clip(mean, 20)(canvas, 0)
    canvas.pixels.grad = torch.rand(2, 3, 5, 6, generator=seeded(1))
    other = PixelCanvas(start)
    other.pixels.grad = canvas.pixels.grad
    projection.Clip(mean, 90, "contribution")(other, 0)
    for index in range(2):
        difference = (start - mean)[index].numpy()
        norms = np.sqrt((difference**2).sum(0))
        gains = np.abs((difference * canvas.pixels.grad[index].numpy()).sum(0))
        small = {"norm": norms < np.percentile(norms, 20), "gain": gains < np.percentile(gains, 90)}
        for made, which in ((canvas, "norm"), (other, "gain")):
            expected = np.where(small[which], 0.4, start[index].numpy())
            np.testing.assert_allclose(made.pixels[index].detach().numpy(), expected, atol=1e-6)


def test_resized_keeps_a_constant() -> None:
    torch.testing.assert_close(resized(torch.full((1, 3, 8, 8), 0.3), 5, 13), torch.full((1, 3, 5, 13), 0.3))


@pytest.mark.parametrize("sides", [(1, 2, 3, 0), (0, 0, 2, 2), (5, 5, 4, 4), (0, 0, 0, 0)])
def test_padding_around_is_torchs_own_with_its_gradient(sides: tuple[int, int, int, int]) -> None:
    x = torch.rand((2, 3, 4, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    for layout in (torch.contiguous_format, torch.channels_last):
        y = x.contiguous(memory_format=layout)
        assert torch.equal(pad_around(y, sides), F.pad(y, sides, mode="circular"))
        assert torch.autograd.gradcheck(lambda value: pad_around(value, sides), y)


@pytest.mark.parametrize("pixels", [3, 40])
def test_jitter_is_a_window_of_the_padded_picture(pixels: int) -> None:
    """Whatever it draws; a picture that is too small for a mirror repeats its edge."""
    picture = torch.rand((2, 3, 12, 17), generator=seeded())
    mode = "reflect" if pixels < 12 else "replicate"
    padded = F.pad(picture, (pixels,) * 4, mode=mode)
    for seed in range(20):
        y, x = (int(v) for v in torch.randint(0, 2 * pixels + 1, (2,), generator=seeded(seed)))
        assert torch.equal(Jitter(pixels)(picture, seeded(seed)), padded[..., y : y + 12, x : x + 17])


def test_what_a_gpu_does_by_picking_is_torchs_own_sampling() -> None:
    """Also far outside, where the picture is mirrored over and over, and with its gradient."""
    picture = torch.rand((2, 3, 9, 14), generator=seeded(), dtype=torch.float64, requires_grad=True)
    grid = 7 * torch.rand((1, 9, 14, 2), generator=seeded(1), dtype=torch.float64) - 3.5
    made = _gathered(picture, grid)
    settings = {"padding_mode": "reflection", "align_corners": True}
    wanted = F.grid_sample(picture, grid.expand(2, -1, -1, -1), **settings)
    torch.testing.assert_close(made, wanted)
    weights = torch.rand(made.shape, generator=seeded(2), dtype=torch.float64)
    (found,), (expected,) = (torch.autograd.grad((one * weights).sum(), picture) for one in (made, wanted))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [(5, 40), (31, 9), (12, 17)])
def test_what_a_gpu_resizes_by_matrices_is_torchs_own_resizing(size: tuple[int, int]) -> None:
    picture = torch.rand((2, 3, 12, 17), generator=seeded())
    rows, columns = (_resizing(a, b, torch.device("cpu")) for a, b in zip((12, 17), size, strict=True))
    torch.testing.assert_close(rows @ picture @ columns.T, resized(picture, *size))


def test_stretching_around_knows_no_edge() -> None:
    """What is moved around before is moved around after, and inside it is torch's own resizing."""
    picture = torch.rand((2, 3, 7, 10), generator=seeded())
    made = stretched_around(picture, 14, 30)
    torch.testing.assert_close(
        stretched_around(torch.roll(picture, (2, 3), (-2, -1)), 14, 30), torch.roll(made, (4, 9), (-2, -1))
    )
    torch.testing.assert_close(made[..., 1:-1, 2:-2], resized(picture, 14, 30)[..., 1:-1, 2:-2])
    assert stretched_around(picture, 11, 16).shape == (2, 3, 11, 16)
