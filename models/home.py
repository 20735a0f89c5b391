"""Where Fovea keeps what it writes: runs, exports, engines, `networks.toml`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs


def home() -> Path:
    """`$FOVEA_HOME`, or the platform's user data folder; made if it is not there."""
    root = Path(os.environ.get("FOVEA_HOME") or platformdirs.user_data_dir("fovea", appauthor=False)).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    return root


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file, so that a reader of `path` sees all of it or nothing.

    It takes the place of `path` when the block ends; if the block fails it is gone, and what was there stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(3)}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or nothing; what it replaces stays if that fails."""
    with whole(path) as part:
        part.write_bytes(data)


def stamp(path: Path) -> tuple[int, int] | None:
    """When a file was last written (ns) and how long it is (bytes); None if it cannot be read."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size
