"""Kept features stay within bounds: what was used longest ago is dropped first, and computed again when asked for."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from pathlib import Path

KEPT_BYTES = 20_000_000_000
"""So much is kept of all data sets, layers and networks together."""
IN_USE_SECONDS = 3600.0
"""What was asked for so recently may still be read by a run, and stays."""
_NOTE = "features.json"


def mark_used(folder: Path) -> None:
    """Make these features the last to be dropped."""
    os.utime(folder / _NOTE)


def drop_unused(root: Path, keep: Path, limit: int | None = None) -> list[str]:
    """Drop the features under `root` that were used longest ago until all take at most `limit` bytes (KEPT_BYTES).

    `keep`, what was used within the last hour and what another run is writing stay, even beyond the limit. Returns
    the names of what was dropped.
    """
    kept = {folder: _bytes(folder) for folder in root.iterdir() if folder.is_dir()}
    over = sum(kept.values()) - (KEPT_BYTES if limit is None else limit)
    dropped = []
    for folder in sorted(kept, key=_used):
        if over <= 0:
            break
        if folder != keep and time.time() - _used(folder) > IN_USE_SECONDS and _drop(folder):
            over -= kept[folder]
            dropped.append(folder.name)
    return dropped


def _drop(folder: Path) -> bool:
    """Remove one folder, under its lock; whether it could be."""
    from fovea.engine.store.lock import Lock

    lock = Lock(folder.with_suffix(".lock"))
    if not lock.acquire():
        return False
    gone = folder.with_name(f".{folder.name}.{secrets.token_hex(3)}.gone")
    try:
        folder.rename(gone)  # so that nobody finds half of it
        shutil.rmtree(gone)
    except OSError:  # a file of it is open where open files cannot be removed, or another has just dropped it
        return False
    finally:
        lock.release()
    return True


def _used(folder: Path) -> float:
    """When it was last asked for, in seconds since 1970; what has no note was never finished."""
    try:
        return (folder / _NOTE).stat().st_mtime
    except OSError:
        return folder.stat().st_mtime if folder.exists() else 0.0


def _bytes(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    except OSError:  # dropped meanwhile
        return 0
