"""Encoded bytes, whatever they hold, as upright 8-bit RGB pictures; and small copies of them."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fovea.engine.data.deep_pixels import TIFF_STARTS, DeepTiff, as_rgb, is_deep_png, read_deep_png
from fovea.engine.data.samples import SAMPLES, Sample
from fovea.engine.errors import FoveaError, ImageError, unknown

MAX_PIXELS = 50_000_000
"""Larger pictures are refused before a pixel is decoded."""

MAX_FILE = 512 * 1024 * 1024

FORMATS = {
    "JPEG": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "PPM": "ppm",
    "AVIF": "avif",
}
"""The formats that are read -> the suffix under which such a photo is kept."""

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif"}
)
"""A file with one of these suffixes counts as an image of a data set."""

READABLE = "JPEG, PNG, WebP, GIF, BMP, TIFF, PPM or AVIF"

FOREIGN = (
    (b"%PDF", "a PDF"),
    (b"8BPS", "a Photoshop file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"SIMPLE  =", "a FITS file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file"),
)

BROKEN = (OSError, SyntaxError, ValueError, IndexError, TypeError, KeyError, EOFError, OverflowError, MemoryError)
"""What Pillow's readers raise on files that are not what they seem."""

# Pillow warns about EXIF blocks that it cannot read in full; here they only lose the photo its orientation.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")

ORIENTATION = 0x0112

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_file(path: Path, name: str = "") -> Image.Image:
    """The picture in a file, as `decode` gives it; `name` is how an error calls it. Raises ImageError."""
    return decode(read_file(path), shown(name or path.name))


def decode(data: bytes, name: str = "the photo") -> Image.Image:
    """Encoded bytes as an upright RGB picture; `name` is how an error calls it. Raises ImageError.

    Where its pixels had more than 8 bits a channel, the picture's `info["note"]` says how they were brought to 8.
    """
    try:
        header = _header(data, name)
    except ImageError:
        picture = _decode_deep_tiff(data, name)  # Pillow does not know every kind of pixel
        if picture is None:
            raise
        return picture
    try:
        orientation = header.getexif().get(ORIENTATION, 1)
    except (*BROKEN, UserWarning):
        orientation = 1
    picture = None
    if header.format in ("JPEG", "MPO") and header.mode in ("RGB", "L"):
        picture = _decode_jpeg(data, header.mode)
    elif is_deep_png(data):
        picture = _deep_picture(lambda: read_deep_png(data), name)
    elif header.format == "TIFF" and not _is_deep_grey(header):
        picture = _decode_deep_tiff(data, name)
    if picture is not None:
        return picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture
    try:
        header.load()
        with contextlib.suppress(
            *BROKEN, UserWarning
        ):  # an EXIF block that cannot be read says nothing about the pixels
            header = ImageOps.exif_transpose(header)
        return _to_rgb(header)
    except BROKEN as error:
        what = "a broken or truncated JPEG" if header.format in ("JPEG", "MPO") else "broken or incomplete"
        raise ImageError(f"{name} is {what} ({reason(error)}): save it again from its source") from None


def _decode_jpeg(data: bytes, mode: str) -> Image.Image | None:
    """The picture, RGB, by the fast decoder; None where it refuses or libjpeg warns: then Pillow decides."""
    import simplejpeg

    try:
        pixels = simplejpeg.decode_jpeg(data, colorspace="RGB" if mode == "RGB" else "GRAY")
    except ValueError:
        return None
    return Image.fromarray(pixels if mode == "RGB" else pixels[..., 0]).convert("RGB")


def _deep_tiff(data: bytes, name: str) -> DeepTiff | None:
    """A TIFF of floats or of more than 8 bits a channel, its header read; None if it is none. Raises ImageError."""
    if data[:4] not in TIFF_STARTS:
        return None
    try:
        tiff = DeepTiff(data)
    except ValueError:
        return None  # what Pillow says of it is as good
    if not tiff.deep:
        return None
    _check_size(tiff.size, name)
    return tiff


def _decode_deep_tiff(data: bytes, name: str) -> Image.Image | None:
    """Its first picture, as it lies; None if it is none."""
    tiff = _deep_tiff(data, name)
    return None if tiff is None else _deep_picture(tiff.values, name)


def _deep_picture(read: Callable[[], NDArray[Any]], name: str) -> Image.Image:
    try:
        picture, note = as_rgb(read())
    except ValueError as error:
        raise ImageError(f"{name} is broken or incomplete ({reason(error)}): save it again from its source") from None
    picture.info["note"] = note
    return picture


def _header(data: bytes, name: str) -> Image.Image:
    """The picture with only its header read, of at most MAX_PIXELS.

    Pillow's own readers are asked one by one, because `Image.open` warns or raises by itself on a large
    picture, with no word of its sides.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes): save it again from its source")
    Image.init()
    for kind in FORMATS:
        if kind not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[kind]
        if accept is not None:
            accepted = accept(data[:16])
            if not accepted or isinstance(accepted, str):
                continue
        try:
            picture: Image.Image = factory(io.BytesIO(data), "")
        except BROKEN as error:
            raise ImageError(
                f"{name} begins like a {kind} but is broken ({reason(error)}): save it again from its source"
            ) from None
        _check_size(picture.size, name)
        return picture
    raise ImageError(f"{name} is {_what_it_is(data)}, not an image that can be read: give a {READABLE}")


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width:,} × {height:,} pixels, and at most {MAX_PIXELS // 1_000_000} megapixels are "
            f"read: make it smaller first"
        )
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels ({width} × {height}): save it again from its source")


def kind_of(data: bytes, name: str) -> str:
    """The format of a picture, by its key in FORMATS. Raises ImageError."""
    try:
        kind = _header(data, name).format or "PNG"
    except ImageError:
        if _deep_tiff(data, name) is None:
            raise
        return "TIFF"
    return "JPEG" if kind == "MPO" else kind


def _what_it_is(data: bytes) -> str:
    head = data[:512]
    for magic, what in FOREIGN:
        if head.lstrip().startswith(magic):
            return what
    if head[4:8] == b"ftyp":
        return "a HEIC photo or a film"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return "of an unknown format"
    return "text"


def _to_rgb(picture: Image.Image) -> Image.Image:
    if _is_deep_grey(picture):
        grey, note = as_rgb(np.asarray(picture))
        grey.info["note"] = note
        return grey
    if picture.has_transparency_data:
        over = picture.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(white, over).convert("RGB")
    return picture.copy() if picture.mode == "RGB" else picture.convert("RGB")


def _is_deep_grey(picture: Image.Image) -> bool:
    """Whether it is grey of more than 8 bits, or of floats, which Pillow reads whole."""
    return picture.mode.startswith("I") or picture.mode == "F"


def read_file(path: Path) -> bytes:
    """The bytes of a picture's file, at most 512 MB. Raises ImageError, one line that says why not."""
    name = shown(path.name or str(path))
    try:
        if path.is_dir():
            raise ImageError(f"{name} is a folder, not a photo: give one file, or open the folder as a data set")
        if not path.exists():
            raise ImageError(f"no photo at {shown(str(path))}: check the path, or try sample:cat")
        if not path.is_file():
            raise ImageError(f"{name} is not an ordinary file: give a {READABLE}")
        size = path.stat().st_size
        if size > MAX_FILE:
            raise ImageError(f"{name} has {size / 2**20:,.0f} MB, and at most {MAX_FILE // 2**20} MB are read")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ImageError(f"{name} cannot be read ({reason(error)})") from None


def open_sample(name: str) -> Image.Image:
    """The sample photo of that name. Raises ImageError with near matches."""
    sample = find_sample(name)
    picture = decode(read_file(sample.path), f"sample:{name}")
    return picture if sample.box is None else picture.crop(sample.box)


def find_sample(name: str) -> Sample:
    """The sample photo of that name. Raises ImageError with near matches."""
    try:
        return SAMPLES[name]
    except KeyError:
        raise ImageError(str(unknown("sample", name, SAMPLES))) from None


def _within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def small_copy(picture: Image.Image, size: int = 160, square: bool = False) -> Image.Image:
    """A small RGB copy, at most `size` pixels on its longer side; `square`: its centre, exactly size × size."""
    if picture.mode != "RGB":
        picture = _to_rgb(picture)
    if square:
        return ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
    if max(picture.size) <= size:
        return picture.copy()
    return picture.resize(_within(picture.size, size), reducing_gap=2)


def decoder() -> str:
    """The decoders whose pixels a result depends on, for its record."""
    return f"simplejpeg {version('simplejpeg')}, Pillow {version('pillow')}"


def shown(text: str, longest: int = 120) -> str:
    """A user's text for one line of ours: printable, without line breaks, cut in the middle when long."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain if len(plain) <= longest else f"{plain[: longest // 2]}…{plain[-longest // 2 :]}"


def reason(error: BaseException) -> str:
    """Why something failed, in a few words for one line of ours."""
    if isinstance(error, FoveaError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return shown(error.strerror.lower())
    return shown((str(error).strip().splitlines() or [type(error).__name__])[0].rstrip("."))
