"""Photos by reference: `sample:NAME`, `photo:SHA256` (kept in `$FOVEA_HOME/photos`), `item:DATASET/KEY`, or a path."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

from PIL import Image

from fovea.engine.data.catalogue import open_item
from fovea.engine.data.pictures import (
    FORMATS,
    decode,
    find_sample,
    kind_of,
    open_file,
    open_sample,
    read_file,
    reason,
    shown,
    small_copy,
)
from fovea.engine.errors import ImageError
from fovea.models.home import home, write_whole

MAX_UPLOAD = 20 * 1024 * 1024
"""Bytes of a photo that may be kept."""


def open_photo(reference: str | Path) -> Image.Image:
    """The photo as a Pillow picture: RGB, 8 bits, upright.

    EXIF orientation is applied, alpha laid over white, 16-bit and float greys scaled from the picture's own
    darkest to its brightest value, the first picture of an animation taken. JPEGs are decoded by simplejpeg's
    default decoder, whose pixels equal Pillow's, everything else by Pillow.

    Raises ImageError, one line: not there, not an image, broken, more than 50 megapixels.
    """
    text = str(reference)
    if text.startswith("sample:"):
        return open_sample(text.removeprefix("sample:"))
    if text.startswith("item:"):
        return open_item(text)
    return open_file(photo_path(text), photo_name(text))


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
        data = read_file(Path(str(source)).expanduser())
    called = shown(name) if name else "the photo"
    if len(data) > MAX_UPLOAD:
        raise ImageError(
            f"{called} has {len(data) / 2**20:.1f} MB, and at most {MAX_UPLOAD // 2**20} MB are taken: "
            f"make it smaller first"
        )
    picture = decode(data, called)
    sha = hashlib.sha256(data).hexdigest()
    suffix = FORMATS[kind_of(data, called)]
    folder = home() / "photos"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / f"{sha}.{suffix}").exists():
            write_whole(folder / f"{sha}.{suffix}", data)
        if name and not (folder / f"{sha}.name").exists():
            write_whole(folder / f"{sha}.name", shown(Path(name).name, 100).encode("utf-8"))
    except OSError as error:
        raise ImageError(f"{called} cannot be kept in {folder} ({reason(error)})") from None
    return f"photo:{sha}", picture


def photo_sha256(reference: str | Path) -> str:
    """What identifies the photo's content: the sha256 of its file, or of a crop's pixels. Raises ImageError."""
    text = str(reference)
    if text.startswith(("sample:", "item:")):
        return pixels_sha256(open_photo(text))
    return hashlib.sha256(read_file(photo_path(text))).hexdigest()


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
    return small_copy(photo if isinstance(photo, Image.Image) else open_photo(photo), size, square)
