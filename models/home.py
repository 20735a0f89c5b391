"""Where Fovea keeps what it writes: runs, exports, engines, `networks.toml`."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import platformdirs


def home() -> Path:
    """`$FOVEA_HOME`, or the platform's user data folder; made if it is not there."""
    root = Path(os.environ.get("FOVEA_HOME") or platformdirs.user_data_dir("fovea", appauthor=False)).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    return root


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or nothing; what it replaces stays if that fails."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(3)}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
