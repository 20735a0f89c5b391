"""Preprocessing is bit-equal to torchvision's PIL transforms; lookups on a card."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fovea.models import builders
from fovea.models.card import Card, Layer, Preprocessing, ReceptiveField
from fovea.models.errors import UnknownNameError


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(width * height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


@pytest.mark.parametrize("size", [(300, 200), (201, 333), (256, 256), (90, 47), (640, 481)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_equal_to_torchvisions_transforms(size: tuple[int, int], interpolation: str) -> None:
    builders.torchvision_models()
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms._presets import ImageClassification

    preset = ImageClassification(crop_size=64, resize_size=73, interpolation=InterpolationMode(interpolation))
    ours = Preprocessing(size=(64, 64), resize=73, interpolation=interpolation)
    frame = ours.frame(photo(*size))
    assert np.array_equal(ours.normalise(frame), preset(photo(*size)).numpy())
    assert np.array_equal(ours.pixels(ours.normalise(frame)), frame)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "RGB"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_mode_to_any_number_of_channels(mode: str, channels: int) -> None:
    ours = Preprocessing(size=(32, 48), resize=32, channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)
    frame = ours.frame(photo(50, 40, mode))
    assert frame.shape == (32, 48, channels)
    assert frame.dtype == np.uint8


def test_ranges_and_orders_there_and_back() -> None:
    ours = Preprocessing(size=(8, 8), resize=None, range=(0, 255), order="BGR", mean=(104, 117, 123), std=(1, 1, 1))
    frame = ours.frame(photo(20, 30))
    inputs = ours.normalise(frame)
    assert np.allclose(inputs[0], frame[..., 2].astype(np.float32) - 104)
    assert np.array_equal(ours.pixels(inputs), frame)


CARD = Card(
    name="net",
    title="net",
    architecture="tests",
    preprocessing=Preprocessing(),
    classes=("tabby cat", "Great_Dane"),
    layers=(
        Layer(name="conv1", kind="Conv2d", shape=(4, 8, 8), axes="NCHW", units=4, grid=(8, 8)),
        Layer(name="fc", kind="Linear", shape=(2,), axes="vector", units=2),
    ),
    parameters=1,
    sha256="0",
    weights="random",
)


def test_lookups() -> None:
    assert CARD.class_index("great dane") == CARD.class_index(1) == CARD.class_index("1") == 1
    assert CARD.layer("conv1").units == 4
    assert CARD.unit("conv1", 3) == 3
    assert [x.name for x in CARD.spatial_layers()] == ["conv1"]
    assert Card.model_validate_json(CARD.model_dump_json()) == CARD


def test_what_is_not_there() -> None:
    with pytest.raises(UnknownNameError, match="did you mean conv1"):
        CARD.layer("conv2")
    with pytest.raises(UnknownNameError, match="it has units 0 to 3"):
        CARD.unit("conv1", 4)
    with pytest.raises(UnknownNameError, match="did you mean tabby cat"):
        CARD.class_index("taby cat")
    with pytest.raises(UnknownNameError, match="it has classes 0 to 1"):
        CARD.class_index(2)


def test_a_box_is_clipped_to_the_frame() -> None:
    field = ReceptiveField(size=(11, 11), stride=(4, 4), offset=(-5, -5))
    assert field.box(0, 0, (32, 32)) == (0, 0, 6, 6)
    assert field.box(2, 3, (32, 32)) == (7, 3, 18, 14)
    assert ReceptiveField(size=(1, 1), stride=(1, 1), offset=(0, 0), whole=True).box(3, 3, (20, 30)) == (0, 0, 30, 20)
