"""Photos as cameras, scanners and scripts write them: what Pillow opens opens, and deep pixels become 8 bits."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from fovea.engine.data.photos import keep_photo, open_photo
from fovea.engine.data.pictures import decode
from fovea.engine.errors import ImageError


@pytest.fixture
def pixels() -> np.ndarray:
    """A smooth picture (24, 32, 3), from 0 to 255."""
    y, x = np.mgrid[:24, :32]
    picture = np.stack([11 * y, 8 * x, 4 * (x + y)], -1)
    picture[0, 0], picture[-1, -1] = 0, 255
    return picture.clip(0, 255).astype(np.uint8)


def tiff(values: np.ndarray, **more: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **more)
    return buffer.getvalue()


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.mark.parametrize("place", [2, -1])
def test_what_libjpeg_only_warns_of_opens(pixels: np.ndarray, place: int) -> None:
    data = jpeg(pixels)
    scan = data.index(b"\xff\xda")
    odd = data[:scan] + b"\x00\x01\x02" + data[scan:] if place > 0 else data + b"behind the end"
    with Image.open(io.BytesIO(odd)) as expected:
        np.testing.assert_array_equal(np.asarray(decode(odd)), np.asarray(expected.convert("RGB")))


def test_a_jpeg_that_ends_too_early_stays_refused(pixels: np.ndarray) -> None:
    data = jpeg(np.tile(pixels, (8, 8, 1)))
    with pytest.raises(ImageError, match="broken or truncated JPEG"):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize("order", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_floats_from_0_to_1_are_the_same_picture(pixels: np.ndarray, dtype: str, order: str) -> None:
    values = (pixels / 255).astype(dtype)[:20] * np.asarray(0.9, dtype)
    laid = np.moveaxis(values, -1, 0) if order == "separate" else values
    data = tiff(laid, photometric="rgb", planarconfig=order)
    picture = decode(data)
    expected = np.rint(values.astype(float) * 255)
    assert np.abs(np.asarray(picture).astype(float) - expected).max() <= (1 if dtype == "float16" else 0)
    assert "from 0 to 1 became black to white" in picture.info["note"]


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32", "float32"])
def test_other_ranges_are_stretched(pixels: np.ndarray, dtype: str) -> None:
    values = (pixels.astype(np.int32) * 12 + 500).astype(dtype)
    for data in (tiff(values, photometric="rgb"), tiff(values[..., 0], photometric="minisblack")):
        picture = np.asarray(decode(data)).astype(int)
        shape = pixels if "rgb" in str(picture.shape) or picture[..., 0].tolist() != picture[..., 1].tolist() else None
        expected = pixels if shape is not None else np.repeat(pixels[..., :1], 3, -1)
        assert np.abs(picture - expected).max() <= 1


def test_png_of_16_bits(pixels: np.ndarray) -> None:
    values = pixels.astype(np.uint16) * 100 + 1000
    _, data = cv2.imencode(".png", values[..., ::-1])
    picture = decode(data.tobytes())
    assert np.abs(np.asarray(picture).astype(int) - pixels).max() <= 1
    assert "uint16" in picture.info["note"]
    alpha = np.full((*pixels.shape[:2], 1), 65535, np.uint16)
    alpha[:4] = 0
    _, data = cv2.imencode(".png", np.concatenate([values[..., ::-1], alpha], -1))
    over_white = np.asarray(decode(data.tobytes()))
    assert (over_white[:4] == 255).all()
    assert np.abs(over_white[4:].astype(int) - pixels[4:]).max() <= 1


def test_ordinary_pictures_carry_no_note(pixels: np.ndarray) -> None:
    for data in (jpeg(pixels), tiff(pixels, photometric="rgb")):
        assert "note" not in decode(data).info


def test_such_photos_are_kept_and_found(pixels: np.ndarray, own_home: Path, tmp_path: Path) -> None:
    path = tmp_path / "float.tif"
    path.write_bytes(tiff((pixels / 255).astype(np.float32), photometric="rgb"))
    kept = keep_photo(path)
    np.testing.assert_array_equal(np.asarray(open_photo(kept)), pixels)


def test_a_broken_one_is_one_line(pixels: np.ndarray) -> None:
    data = tiff((pixels / 255).astype(np.float32), photometric="rgb")
    with pytest.raises(ImageError) as caught:
        decode(data[:-2000])
    assert "\n" not in str(caught.value)


def test_a_header_that_lies_about_its_size_is_refused(pixels: np.ndarray) -> None:
    data = tiff((pixels / 255).astype(np.float32), photometric="rgb")
    width = data.index(b"\x00\x01\x03\x00") if b"\x00\x01\x03\x00" in data else data.index(b"\x00\x01\x04\x00")
    lying = data[: width + 8] + (9_000_000).to_bytes(4, "little") + data[width + 12 :]
    lying = lying.replace(b"\x00\x01\x03\x00", b"\x00\x01\x04\x00", 1)
    with pytest.raises(ImageError, match=r"megapixels are read|broken"):
        decode(lying)


def test_a_run_tells_of_it(pixels: np.ndarray, own_home: Path, tmp_path: Path) -> None:
    import fovea

    path = tmp_path / "float.tif"
    path.write_bytes(tiff((pixels / 255).astype(np.float32), photometric="rgb"))
    run = fovea.open("torchvision:squeezenet1_1@random").classify(path, device="cpu", provider="cpu")
    assert any("float32 pixels were brought to 8 bits" in warning for warning in run.record.warnings)
