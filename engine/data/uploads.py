"""Weights and class names that come through the dashboard: kept by content in `$FOVEA_HOME/weights`, never run here.

They are written as they come, checked for size, and read later by a worker, which refuses what is unsafe.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import BinaryIO

from fovea.engine.errors import NetworkError, OptionsError, StoreError, WeightsError, unknown
from fovea.models.home import home
from fovea.models.registry import registered, unregister
from fovea.models.weights import TORCHVISION_WEIGHTS

WEIGHTS_BYTES = 1 << 30
CLASSES_BYTES = 1 << 20
CHUNK = 1 << 20
_TORCH_STARTS = (b"PK", b"\x80")
"""How a file begins that torch wrote; everything else is taken for safetensors, whose header is JSON after eight bytes
of its length (which may be 0x80, too)."""


def check_architecture(name: str) -> str:
    """`name` if a page may build it: torchvision's and timm's. Raises NetworkError, UnknownNameError."""
    source, _, base = name.strip().partition(":")
    if source == "torchvision":
        if base not in TORCHVISION_WEIGHTS:
            raise unknown("network", name, [f"torchvision:{known}" for known in TORCHVISION_WEIGHTS])
    elif source != "timm" or not re.fullmatch(r"[\w.]{1,100}", base):
        raise NetworkError(
            f"architecture must be torchvision:NAME or timm:NAME here, not {name[:80]!r}: networks in files of your "
            f"own are registered with python -m engine networks add"
        )
    return f"{source}:{base}"


def check_new_name(name: str) -> str:
    """`name` if a network can be registered under it. Raises OptionsError."""
    if not name.strip():
        raise OptionsError("name must be given: letters, digits, '_', '.' and '-'")
    if name.strip() in registered():
        raise OptionsError(f"a network named {name.strip()!r} is registered already: take another name, or remove it")
    return name.strip()


def keep_weights(stream: BinaryIO, name: str) -> Path:
    """Write uploaded weights to `$FOVEA_HOME/weights/SHA256/NAME`, in pieces; returns the file.

    Raises WeightsError if it is empty or above 1 GB, StoreError if it cannot be written.
    """
    stream.seek(0)
    head = stream.read(9)
    suffix = ".pt" if head.startswith(_TORCH_STARTS) and head[8:] != b"{" else ".safetensors"
    return _keep(stream, _file_name(name, suffix), WEIGHTS_BYTES)


CLASS_LISTS = (".txt", ".csv", ".tsv", ".json")


def keep_classes(stream: BinaryIO, name: str) -> Path:
    """Write an uploaded file of class names beside the weights; returns the file. Raises WeightsError, StoreError."""
    suffix = Path(name).suffix.lower()
    return _keep(stream, _file_name(name, suffix if suffix in CLASS_LISTS else ".txt"), CLASSES_BYTES)


def _file_name(name: str, suffix: str) -> str:
    stem = re.sub(r"[^\w-]+", "_", Path(name.replace("\\", "/")).stem)[:80].strip("_")
    return f"{stem or 'weights'}{suffix}"


def _keep(stream: BinaryIO, name: str, limit: int) -> Path:
    folder = home() / "weights"
    part = folder / f".{os.getpid()}-{id(stream)}.part"
    digest, size = hashlib.sha256(), 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream.seek(0)
        with part.open("wb") as file:
            while chunk := stream.read(CHUNK):
                size += len(chunk)
                if size > limit:
                    raise WeightsError(f"{name} is larger than {limit >> 20:,} MB: register it from the command line")
                digest.update(chunk)
                file.write(chunk)
        if not size:
            raise WeightsError(f"{name} is empty")
        target = folder / digest.hexdigest() / name
        target.parent.mkdir(exist_ok=True)
        os.replace(part, target)
    except OSError as error:
        raise StoreError(f"{name} cannot be kept in {folder}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    return target


def remove_network(name: str) -> None:
    """Take a network out of networks.toml, and the uploaded files that no other one uses; its runs stay.

    Raises UnknownNameError.
    """
    entry = registered().get(name, {})
    unregister(name)
    forget_unused(*(Path(entry[key]) for key in ("weights", "classes") if entry.get(key)))


def forget_unused(*files: Path) -> None:
    """Delete those of the uploaded files that no registered network names; files elsewhere are left alone."""
    used = {str(entry.get(key)) for entry in registered().values() for key in ("weights", "classes")}
    for file in files:
        if file.parent.parent == home() / "weights" and str(file) not in used:
            file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                if not any(file.parent.iterdir()):
                    shutil.rmtree(file.parent)
