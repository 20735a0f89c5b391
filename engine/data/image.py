"""Reading a photo, whatever it is and wherever it lies, as upright 8-bit RGB; and keeping one by its content.

A reference is `sample:NAME`, `photo:SHA256` (kept in `$FOVEA_HOME/photos`), `item:DATASET/KEY`, or a path.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fovea.engine.data.samples import SAMPLES, Sample
from fovea.engine.errors import FoveaError, ImageError, unknown
from fovea.models.home import home, write_whole

__all__ = [
    "MAX_PIXELS",
    "MAX_UPLOAD",
    "SAMPLES",
    "SUFFIXES",
    "Sample",
    "decode",
    "decoder",
    "is_reference",
    "keep_and_open",
    "keep_photo",
    "kept_photo",
    "open_photo",
    "photo_name",
    "photo_path",
    "photo_sha256",
    "pixels_sha256",
    "shown",
    "thumbnail",
]

MAX_PIXELS = 50_000_000
"""Larger pictures are refused before a pixel is decoded."""

MAX_UPLOAD = 20 * 1024 * 1024
"""Bytes of a photo that may be kept."""

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


def open_photo(reference: str | Path) -> Image.Image:
    """The photo as a Pillow picture: RGB, 8 bits, upright.

    EXIF orientation is applied, alpha laid over white, 16-bit and float greys scaled from the picture's own
    darkest to its brightest value, the first picture of an animation taken. JPEGs are decoded by simplejpeg's
    default decoder, whose pixels equal Pillow's, everything else by Pillow.

    Raises ImageError, one line: not there, not an image, broken, more than 50 megapixels.
    """
    text = str(reference)
    if text.startswith("sample:"):
        return _open_sample(text.removeprefix("sample:"))
    if text.startswith("item:"):
        from fovea.engine.data.dataset import open_item

        return open_item(text)
    path = photo_path(text)
    return decode(_read(path), shown(photo_name(text)))


def decode(data: bytes, name: str = "the photo") -> Image.Image:
    """Encoded bytes as an upright RGB picture; `name` is how an error calls it. Raises ImageError."""
    header = _header(data, name)
    try:
        orientation = header.getexif().get(ORIENTATION, 1)
    except (*BROKEN, UserWarning):
        orientation = 1
    if header.format in ("JPEG", "MPO") and header.mode in ("RGB", "L"):
        picture = _decode_jpeg(data, header.mode, name)
        if orientation in UPRIGHT:
            picture = picture.transpose(UPRIGHT[orientation])
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    try:
        header.load()
        with contextlib.suppress(
            *BROKEN, UserWarning
        ):  # an EXIF block that cannot be read says nothing about the pixels
            header = ImageOps.exif_transpose(header)
        return _to_rgb(header)
    except BROKEN as error:
        raise ImageError(f"{name} is broken or incomplete ({_reason(error)}): save it again from its source") from None


def _decode_jpeg(data: bytes, mode: str, name: str) -> Image.Image:
    import simplejpeg

    try:
        pixels = simplejpeg.decode_jpeg(data, colorspace="RGB" if mode == "RGB" else "GRAY")
    except ValueError as error:
        raise ImageError(
            f"{name} is a broken or truncated JPEG ({_reason(error)}): save it again from its source"
        ) from None
    return Image.fromarray(pixels if mode == "RGB" else pixels[..., 0])


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
                f"{name} begins like a {kind} but is broken ({_reason(error)}): save it again from its source"
            ) from None
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise ImageError(
                f"{name} has {width:,} × {height:,} pixels, and at most {MAX_PIXELS // 1_000_000} megapixels are "
                f"read: make it smaller first"
            )
        if width < 1 or height < 1:
            raise ImageError(f"{name} has no pixels ({width} × {height}): save it again from its source")
        return picture
    raise ImageError(f"{name} is {_what_it_is(data)}, not an image that can be read: give a {READABLE}")


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
    if picture.mode.startswith("I") or picture.mode == "F":
        return _scaled_grey(picture)
    if picture.has_transparency_data:
        over = picture.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(white, over).convert("RGB")
    return picture.copy() if picture.mode == "RGB" else picture.convert("RGB")


def _scaled_grey(picture: Image.Image) -> Image.Image:
    """A grey picture of more than 8 bits, its darkest value black and its brightest white."""
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low == high:  # one value has no range of its own: take the type's
        low, high = 0.0, 1.0 if picture.mode == "F" else 65535.0
    grey = np.clip(np.rint((values - low) / (high - low) * 255), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _open_sample(name: str) -> Image.Image:
    sample = find_sample(name)
    picture = decode(_read(sample.path), f"sample:{name}")
    return picture if sample.box is None else picture.crop(sample.box)


def find_sample(name: str) -> Sample:
    """The sample photo of that name. Raises ImageError with near matches."""
    try:
        return SAMPLES[name]
    except KeyError:
        raise ImageError(str(unknown("sample", name, SAMPLES))) from None


def photo_path(reference: str | Path) -> Path:
    """The file behind `photo:SHA256`, a path, or the picture that a sample is cut from. Raises ImageError."""
    text = str(reference)
    if text.startswith("sample:"):
        return find_sample(text.removeprefix("sample:")).path
    return kept_photo(text) if text.startswith("photo:") else Path(text).expanduser()


def kept_photo(reference: str) -> Path:
    """The file of a kept photo, `photo:SHA256`, with its original bytes. Raises ImageError."""
    sha = reference.removeprefix("photo:")
    if not re.fullmatch(r"[0-9a-f]{64}", sha):
        raise ImageError(f"photo: takes the 64 hexadecimal digits of a kept photo, not {shown(sha)!r}")
    for suffix in FORMATS.values():
        path = home() / "photos" / f"{sha}.{suffix}"
        if path.is_file():
            return path
    raise ImageError(f"no photo {sha[:12]}… is kept here: upload it again")


def is_reference(text: str) -> bool:
    """Whether the text names a photo by one of the schemes, and not by a path."""
    return text.startswith(("sample:", "photo:", "item:"))


def _read(path: Path) -> bytes:
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
        raise ImageError(f"{name} cannot be read ({_reason(error)})") from None


def keep_photo(source: bytes | bytearray | Image.Image | str | Path, name: str = "") -> str:
    """Keep a photo in `$FOVEA_HOME/photos` under the sha256 of its bytes; returns `photo:SHA256`.

    Bytes and files are kept as they are; a Pillow picture and a crop as PNG. `name` is what people call it (a
    file's own name by default). It is checked, at most 20 MB and 50 megapixels, and decoded once, before it is written.
    Raises ImageError.
    """
    if not isinstance(source, Image.Image | bytes | bytearray) and is_reference(str(source)):
        if str(source).startswith("photo:"):
            kept_photo(str(source))
            return str(source)
        name = name or photo_name(str(source))
        source = open_photo(str(source))
    return keep_and_open(source, name)[0]


def keep_and_open(source: bytes | bytearray | Image.Image | str | Path, name: str = "") -> tuple[str, Image.Image]:
    """Keep bytes, a Pillow picture or a file as `keep_photo` does; returns the picture, too, which is decoded once."""
    if isinstance(source, Image.Image):
        buffer = io.BytesIO()
        source.save(buffer, "PNG")
        data = buffer.getvalue()
    elif isinstance(source, bytes | bytearray):
        data = bytes(source)
    else:
        name = name or Path(str(source)).name
        data = _read(Path(str(source)).expanduser())
    called = shown(name) if name else "the photo"
    if len(data) > MAX_UPLOAD:
        raise ImageError(
            f"{called} has {len(data) / 2**20:.1f} MB, and at most {MAX_UPLOAD // 2**20} MB are taken: "
            f"make it smaller first"
        )
    kind = _header(data, called).format or "PNG"
    picture = decode(data, called)
    sha = hashlib.sha256(data).hexdigest()
    suffix = FORMATS["JPEG" if kind == "MPO" else kind]
    folder = home() / "photos"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / f"{sha}.{suffix}").exists():
            write_whole(folder / f"{sha}.{suffix}", data)
        if name and not (folder / f"{sha}.name").exists():
            write_whole(folder / f"{sha}.name", shown(Path(name).name, 100).encode("utf-8"))
    except OSError as error:
        raise ImageError(f"{called} cannot be kept in {folder} ({_reason(error)})") from None
    return f"photo:{sha}", picture


def photo_sha256(reference: str | Path) -> str:
    """What identifies the photo's content: the sha256 of its file, or of a crop's pixels. Raises ImageError."""
    text = str(reference)
    if text.startswith(("sample:", "item:")):
        return pixels_sha256(open_photo(text))
    return hashlib.sha256(_read(photo_path(text))).hexdigest()


def pixels_sha256(picture: Image.Image) -> str:
    """What identifies a photo that is no file of its own, such as a crop: the sha256 of its mode, size and pixels."""
    return hashlib.sha256(f"{picture.mode} {picture.size} ".encode() + picture.tobytes()).hexdigest()


def photo_name(reference: str | Path) -> str:
    """What people call the photo: "cat", "holiday.jpg", "photo 3f2a9c01"."""
    text = str(reference)
    if text.startswith("photo:"):
        sha = text.removeprefix("photo:")
        if re.fullmatch(r"[0-9a-f]{64}", sha):
            try:
                return (home() / "photos" / f"{sha}.name").read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                pass
        return f"photo {shown(sha, 8)}"
    scheme, _, rest = text.partition(":")
    if scheme == "sample":
        return rest
    if scheme == "item":
        return rest.rsplit("/", 1)[-1]
    return Path(text).name or text


def thumbnail(photo: Image.Image | str | Path, size: int = 160, square: bool = False) -> Image.Image:
    """A small RGB copy, at most `size` pixels on its longer side; `square`: its centre, exactly size × size.

    `photo` is a picture or a reference. Raises ImageError.
    """
    picture = photo if isinstance(photo, Image.Image) else open_photo(photo)
    if picture.mode != "RGB":
        picture = _to_rgb(picture)
    if square:
        return ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
    if max(picture.size) <= size:
        return picture.copy()
    return picture.resize(_within(picture.size, size), reducing_gap=2)


def _within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def decoder() -> str:
    """The decoders whose pixels a result depends on, for its record."""
    return f"simplejpeg {version('simplejpeg')}, Pillow {version('pillow')}"


def shown(text: str, longest: int = 120) -> str:
    """A user's text for one line of ours: printable, without line breaks, cut in the middle when long."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain if len(plain) <= longest else f"{plain[: longest // 2]}…{plain[-longest // 2 :]}"


def _reason(error: BaseException) -> str:
    if isinstance(error, FoveaError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return shown(error.strerror.lower())
    return shown((str(error).strip().splitlines() or [type(error).__name__])[0].rstrip("."))
