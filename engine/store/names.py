"""The names in a home: the ids of runs, and the files that a run's folder may hold."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime

from fovea.engine.errors import StoreError

ID = re.compile(r"\d{8}-\d{6}-[a-z0-9]+(?:[-_][a-z0-9]+)*-[0-9a-f]{6}")
NAME = r"[A-Za-z0-9_][A-Za-z0-9_@#+-]*(?:\.[A-Za-z0-9_@#+-]+)*"
ARTIFACT = re.compile(
    rf"run\.json|error\.txt|arrays\.npz|preview\.png|tables/{NAME}\.parquet"
    rf"|images/{NAME}\.(?:png|jpg|jpeg|gif|webp)|inputs/{NAME}\.(?:png|jpg|jpeg|webp)"
)
"""The files that a run's folder may hold; nothing else is served, exported or imported."""

IMAGE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".gif": "GIF", ".webp": "WEBP"}


def new_id(method: str) -> str:
    """A fresh id, which tells the time in UTC and the method: 20261123-014501-occlusion-a1b2c3."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    called = re.sub(r"[^a-z0-9]+", "-", method.lower()).strip("-") or "run"
    return f"{stamp}-{called}-{secrets.token_hex(3)}"


def another_id(run_id: str) -> str:
    """A fresh id for the same time and method."""
    return f"{run_id[:-6]}{secrets.token_hex(3)}"


def check_id(run_id: str) -> None:
    """Raise StoreError unless the text is the id of a run."""
    if not ID.fullmatch(run_id):
        raise StoreError(f"no run {run_id[:80]!r}: an id is like 20261123-014501-occlusion-a1b2c3")


def check_name(kind: str, name: str) -> str:
    """The name of an array, a table or an image, if it can be saved under it. Raises StoreError."""
    if not re.fullmatch(NAME, name):
        raise StoreError(f"{kind} {name!r} cannot be saved: a name has letters, digits, dots, dashes and underscores")
    return name


def no_run(run_id: str) -> StoreError:
    """The error for an id that leads to no run."""
    return StoreError(f"no run {run_id}: it was deleted, or belongs to another home")
