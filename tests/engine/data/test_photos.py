"""Photos of every kind come out upright, RGB and 8-bit; what is none of them gets one line and changes nothing."""

from __future__ import annotations

import io
import pickle
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fovea.engine.data.photos import MAX_UPLOAD, keep_photo, kept_photo, open_photo, photo_name, photo_sha256, thumbnail
from fovea.engine.data.pictures import decode
from fovea.engine.errors import ImageError


@pytest.fixture
def pixels() -> np.ndarray:
    """A smooth picture (30, 40, 3) with a bright top left corner."""
    y, x = np.mgrid[:30, :40]
    picture = np.stack([4 * y, 3 * x, 2 * (x + y)], -1).astype(np.uint8)
    picture[:8, :8] = 255
    return picture


def saved(picture: Image.Image, kind: str, **choices: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **choices)
    return buffer.getvalue()


def header_only_png(width: int, height: int) -> bytes:
    """A PNG of these sides with hardly a byte of pixels in it: what a decompression bomb looks like."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


# -- What can be read


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_decodes_as_pillow_decodes_it(pixels: np.ndarray, mode: str, progressive: bool) -> None:
    data = saved(Image.fromarray(pixels).convert(mode), "JPEG", quality=80, progressive=progressive)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(np.asarray(decode(data)), expected)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP"])
def test_lossless_formats_keep_their_pixels(pixels: np.ndarray, kind: str) -> None:
    picture = Image.fromarray(pixels).quantize(64).convert("RGB")
    choices = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(np.asarray(decode(saved(picture, kind, **choices))), np.asarray(picture))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_every_exif_orientation_comes_out_upright(pixels: np.ndarray, orientation: int, kind: str) -> None:
    """The stored picture is the upright one turned the other way; opening it turns it back."""
    back = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[::-1],
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a.swapaxes(0, 1)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(back(pixels)))
    opened = decode(saved(stored, kind, exif=exif.tobytes()))
    assert opened.size == (40, 30)
    assert np.abs(np.asarray(opened).astype(int) - pixels).mean() < 6


def test_alpha_lies_over_white(pixels: np.ndarray) -> None:
    alpha = np.zeros((30, 40, 1), np.uint8)
    alpha[:, 20:] = 255
    opened = np.asarray(decode(saved(Image.fromarray(np.concatenate([pixels, alpha], -1)), "PNG")))
    assert (opened[:, :20] == 255).all()
    assert np.array_equal(opened[:, 20:], pixels[:, 20:])


@pytest.mark.parametrize("mode", ["LA", "P", "1", "CMYK", "RGBA", "YCbCr"])
def test_other_modes_become_rgb(pixels: np.ndarray, mode: str) -> None:
    kind = {"CMYK": "JPEG", "YCbCr": "TIFF"}.get(mode, "PNG")
    opened = decode(saved(Image.fromarray(pixels).convert(mode), kind))
    assert (opened.mode, opened.size) == ("RGB", (40, 30))
    if mode not in ("1", "LA"):
        assert np.abs(np.asarray(opened).astype(int) - pixels).mean() < 16


def test_a_palette_with_a_transparent_colour_lies_over_white(pixels: np.ndarray) -> None:
    picture = Image.fromarray(pixels).quantize(16)
    inside = picture.getpixel((20, 15))
    opened = decode(saved(picture, "PNG", transparency=inside))
    assert opened.getpixel((20, 15)) == (255, 255, 255)


@pytest.mark.parametrize(("kind", "dtype"), [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.float32)])
def test_deep_greys_are_scaled_by_their_range(kind: str, dtype: type) -> None:
    values = np.linspace(1000, 4000, 1200).reshape(30, 40).astype(dtype)
    opened = np.asarray(decode(saved(Image.fromarray(values), kind)))
    expected = np.rint((values.astype(float) - 1000) / 3000 * 255)
    assert opened.shape == (30, 40, 3)
    assert np.abs(opened[..., 0] - expected).max() <= 1


def test_one_deep_grey_keeps_its_level() -> None:
    opened = decode(saved(Image.fromarray(np.full((4, 4), 32768, np.uint16)), "PNG"))
    assert opened.getpixel((0, 0)) == (128, 128, 128)


def test_the_first_picture_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data).getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_broken_exif_costs_nothing_but_the_orientation(pixels: np.ndarray) -> None:
    data = saved(Image.fromarray(pixels), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(data).size == (40, 30)


# -- What cannot


def _truncated_jpeg(pixels: np.ndarray) -> bytes:
    data = saved(Image.fromarray(pixels).resize((400, 300)), "JPEG")
    return data[: len(data) // 2]


BROKEN: dict[str, tuple[str, Callable[[np.ndarray], bytes], str]] = {
    "nothing": ("empty.png", lambda _: b"", "is empty (0 bytes)"),
    "text": ("text.png", lambda _: b"this is not a picture\n" * 9, "is text, not an image"),
    "truncated jpeg": ("half.jpg", _truncated_jpeg, "truncated JPEG"),
    "truncated png": ("half.png", lambda a: saved(Image.fromarray(a), "PNG")[:-60], "is broken or incomplete"),
    "truncated tiff": ("half.tif", lambda a: saved(Image.fromarray(a), "TIFF")[:900], "broken"),
    "truncated webp": ("half.webp", lambda a: saved(Image.fromarray(a), "WEBP")[:80], "broken"),
    "truncated gif": ("half.gif", lambda a: saved(Image.fromarray(a).quantize(), "GIF")[:500], "broken"),
    "only a header": ("head.jpg", lambda a: saved(Image.fromarray(a), "JPEG")[:20], "broken"),
    "bomb": ("bomb.png", lambda _: header_only_png(40_000, 40_000), "40,000 × 40,000 pixels"),
    "no pixels": ("thin.png", lambda _: header_only_png(0, 10), "begins like a PNG but is broken|no pixels"),
    "pickle": ("weights.jpg", lambda _: pickle.dumps({"a": 1}), "is a pickle"),
    "pdf": ("paper.jpg", lambda _: b"%PDF-1.7\n" + bytes(100), "is a PDF"),
    "zip": ("many.jpg", lambda _: b"PK\x03\x04" + bytes(100), "is a zip archive"),
    "svg": ("line.png", lambda _: b"<svg xmlns='x'></svg>", "is an SVG drawing"),
    "heic": ("phone.jpg", lambda _: b"\0\0\0\x18ftypheic" + bytes(range(200, 256)), "a HEIC photo"),
    "noise": ("noise.png", lambda _: bytes(np.random.default_rng(0).integers(128, 256, 400, np.uint8)), "unknown"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_gets_one_line(case: str, pixels: np.ndarray, tmp_path: Path, own_home: Path) -> None:
    name, make, line = BROKEN[case]
    path = tmp_path / name
    path.write_bytes(make(pixels))
    with pytest.raises(ImageError) as caught:
        open_photo(path)
    text = str(caught.value)
    assert re.search(line if case == "no pixels" else re.escape(line), text)
    assert name in text
    assert "\n" not in text
    with pytest.raises(ImageError):
        keep_photo(path.read_bytes())
    assert not list(own_home.glob("photos/*"))


def test_missing_files_folders_and_devices(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no photo at .*nowhere\.jpg: check the path, or try sample:cat"):
        open_photo(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="is a folder, not a photo"):
        open_photo(tmp_path)
    with pytest.raises(ImageError, match=r"no photo at a\?b\.jpg"):
        open_photo("a\0b.jpg")


def test_an_unknown_sample_offers_near_names() -> None:
    with pytest.raises(ImageError, match="no sample named 'coffe': did you mean coffee"):
        open_photo("sample:coffe")


@pytest.mark.parametrize("name", ["../../etc/passwd", "..%2f..", "ab" * 31 + "/.", "", "AB" * 32, "é" * 64])
def test_a_photo_name_cannot_leave_its_folder(name: str, own_home: Path) -> None:
    with pytest.raises(ImageError, match="64 hexadecimal digits"):
        open_photo(f"photo:{name}")


def test_a_photo_that_is_not_kept(own_home: Path) -> None:
    with pytest.raises(ImageError, match="no photo abababababab… is kept here"):
        open_photo("photo:" + "ab" * 32)


def test_a_line_stays_one_line(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        open_photo(tmp_path / "two\nlines\x1b[31m.png")
    assert str(caught.value).isprintable()


# -- Keeping


def test_a_kept_photo_has_its_own_bytes(pixels: np.ndarray, own_home: Path) -> None:
    data = saved(Image.fromarray(pixels), "JPEG")
    reference = keep_photo(data, "my cat.jpg")
    assert keep_photo(data) == reference
    assert kept_photo(reference).read_bytes() == data
    assert kept_photo(reference).suffix == ".jpg"
    assert reference == f"photo:{photo_sha256(reference)}"
    assert photo_name(reference) == "my cat.jpg"
    assert np.array_equal(np.asarray(open_photo(reference)), np.asarray(decode(data)))
    assert len(list((own_home / "photos").iterdir())) == 2


def test_paths_pictures_and_references_are_kept_too(pixels: np.ndarray, tmp_path: Path, own_home: Path) -> None:
    path = tmp_path / "dog.png"
    Image.fromarray(pixels).save(path)
    assert photo_name(keep_photo(path)) == "dog.png"
    assert keep_photo(keep_photo(path)) == keep_photo(path)
    kept = keep_photo(Image.fromarray(255 - pixels))
    assert np.array_equal(np.asarray(open_photo(kept)), 255 - pixels)
    assert photo_name(kept).startswith("photo ")
    assert open_photo(keep_photo("sample:cat")).size == (300, 300)


def test_too_many_bytes_are_refused(pixels: np.ndarray, own_home: Path) -> None:
    data = saved(Image.fromarray(pixels), "PNG") + bytes(MAX_UPLOAD)
    with pytest.raises(ImageError, match=r"20\.0 MB, and at most 20 MB are taken"):
        keep_photo(data)
    assert not list(own_home.glob("photos/*"))


def test_a_full_disk_leaves_nothing(pixels: np.ndarray, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ImageError, match="no space left on device"):
        keep_photo(saved(Image.fromarray(pixels), "PNG"))
    assert not list(own_home.glob("photos/*"))


def test_thumbnails_are_bounded(pixels: np.ndarray) -> None:
    picture = Image.fromarray(pixels)
    assert thumbnail(picture, 20).size == (20, 15)
    assert thumbnail(picture, 160).size == (40, 30)
    assert thumbnail(picture, 16, square=True).size == (16, 16)
    assert thumbnail("sample:cat", 64).size == (64, 64)
